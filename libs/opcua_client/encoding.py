"""Read requests as bytes, encoded once and sent at every poll (OPC UA Part 4, clause 5.10.2; Part 6, clause 5.2)."""

from __future__ import annotations

import base64
import binascii
import struct
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opcua_client.errors import Misconfigured

EPOCH_TICKS = 116_444_736_000_000_000
"""1970-01-01 in ticks of 100 ns since 1601-01-01 (Part 6, clause 5.2.2.5)."""
VALUE_ATTRIBUTE = 13
TIMESTAMPS_BOTH = 2
"""TimestampsToReturn: the server's timestamp too, for values without a source time."""

_READ_REQUEST = 631
"""Id of ReadRequest_Encoding_DefaultBinary in namespace 0."""
_NO_AUDIT_ID = b"\xff\xff\xff\xff"
_NO_EXTENSION = b"\x00\x00\x00"  # ExtensionObject with a null NodeId and no body
_AFTER_ATTRIBUTE = b"\xff\xff\xff\xff" + b"\x00\x00\xff\xff\xff\xff"  # no index range, no data encoding


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeId:
    """One NodeId in the form that goes on the wire."""

    namespace: int
    """Namespace index, 0 to 65535."""
    identifier: int | str | uuid.UUID | bytes
    """Numeric, String, Guid or Opaque by its Python type."""

    def encode(self) -> bytes:
        """Bytes of Part 6, clause 5.2.2.9, the shortest form for numbers."""
        ident = self.identifier
        if isinstance(ident, int):
            if self.namespace == 0 and ident <= 0xFF:
                return struct.pack("<BB", 0, ident)
            if self.namespace <= 0xFF and ident <= 0xFFFF:
                return struct.pack("<BBH", 1, self.namespace, ident)
            return struct.pack("<BHI", 2, self.namespace, ident)
        if isinstance(ident, str):
            data = ident.encode()
            return struct.pack("<BHi", 3, self.namespace, len(data)) + data
        if isinstance(ident, uuid.UUID):
            return struct.pack("<BH", 4, self.namespace) + ident.bytes_le
        return struct.pack("<BHi", 5, self.namespace, len(ident)) + ident

    def __str__(self) -> str:
        """String notation of Part 6, clause 5.3.1.10."""
        ident = self.identifier
        if isinstance(ident, int):
            text = f"i={ident}"
        elif isinstance(ident, str):
            text = f"s={ident}"
        elif isinstance(ident, uuid.UUID):
            text = f"g={ident}"
        else:
            text = "b=" + base64.b64encode(ident).decode()
        return f"ns={self.namespace};{text}" if self.namespace else text


def parse_node_id(text: str) -> NodeId:
    """Read `ns=2;i=9`, `i=2255`, `ns=1;s=a;b`, `ns=1;g=...`, `ns=1;b=BASE64`; Misconfigured for anything else."""
    namespace, rest = 0, text.lstrip()  # a space at the end may belong to a string identifier
    try:
        if rest.startswith("ns="):
            number, _, rest = rest[3:].partition(";")
            namespace = int(number)
        letter, equals, ident = rest.partition("=")
        if not equals or not 0 <= namespace <= 0xFFFF:
            raise ValueError(text)
        return NodeId(namespace=namespace, identifier=_identifier(letter, ident))
    except (ValueError, binascii.Error) as error:
        raise Misconfigured(f"NodeId {text!r}", "not a NodeId",
                            "write ns=INDEX;i=NUMBER, s=TEXT, g=GUID or b=BASE64") from error


def _identifier(letter: str, text: str) -> int | str | uuid.UUID | bytes:
    if letter == "i":
        number = int(text)
        if not 0 <= number <= 0xFFFF_FFFF:
            raise ValueError(text)
        return number
    if letter == "s":
        return text
    if letter == "g":
        return uuid.UUID(text)
    if letter == "b":
        return base64.b64decode(text, validate=True)
    raise ValueError(letter)


def decode_node_id(data: bytes, at: int) -> tuple[NodeId, int]:
    """The NodeId at a place and where it ends; flags of an ExpandedNodeId are left to the caller.

    Bounds must have been checked (`decoding.skip_payload`).
    """
    form = data[at] & 0x3F
    if form == 0:
        return NodeId(namespace=0, identifier=data[at + 1]), at + 2
    if form == 1:
        return NodeId(namespace=data[at + 1], identifier=int.from_bytes(data[at + 2 : at + 4], "little")), at + 4
    namespace = int.from_bytes(data[at + 1 : at + 3], "little")
    at += 3
    if form == 2:
        return NodeId(namespace=namespace, identifier=int.from_bytes(data[at : at + 4], "little")), at + 4
    if form == 4:
        return NodeId(namespace=namespace, identifier=uuid.UUID(bytes_le=data[at : at + 16])), at + 16
    length = max(int.from_bytes(data[at : at + 4], "little", signed=True), 0)
    content = data[at + 4 : at + 4 + length]
    identifier = content.decode(errors="replace") if form == 3 else content
    return NodeId(namespace=namespace, identifier=identifier), at + 4 + length


def now_ticks() -> int:
    """The wall clock as an OPC UA DateTime."""
    return EPOCH_TICKS + time.time_ns() // 100


def encode_string(text: str | None) -> bytes:
    """A String: Int32 length and UTF-8, -1 for null (Part 6, clause 5.2.2.4)."""
    if text is None:
        return b"\xff\xff\xff\xff"
    data = text.encode()
    return struct.pack("<i", len(data)) + data


def read_value_id(node: NodeId, attribute: int = VALUE_ATTRIBUTE) -> bytes:
    """One ReadValueId: the whole value of one attribute in the default encoding (Part 4, clause 7.29)."""
    return node.encode() + struct.pack("<I", attribute) + _AFTER_ATTRIBUTE


def read_body(nodes: Iterable[bytes]) -> bytes:
    """What follows the request header of a ReadRequest, never changing from poll to poll; maxAge 0 = a fresh value."""
    parts = list(nodes)
    return struct.pack("<dIi", 0.0, TIMESTAMPS_BOTH, len(parts)) + b"".join(parts)


def read_request(token: bytes, handle: int, timeout_ms: int, body: bytes) -> bytes:
    """A whole ReadRequest with the ready body; see `request`."""
    return request(_READ_REQUEST, token, handle, timeout_ms, body)


def request(kind: int, token: bytes, handle: int, timeout_ms: int, body: bytes) -> bytes:
    """A whole request: type (encoding id in namespace 0), RequestHeader (Part 4, clause 7.33) with the token, body."""
    return b"".join((
        struct.pack("<BBH", 1, 0, kind), token, struct.pack("<qII", now_ticks(), handle & 0xFFFF_FFFF, 0),
        _NO_AUDIT_ID, struct.pack("<I", timeout_ms), _NO_EXTENSION, body,
    ))


def split(items: Sequence[bytes], most: int, most_bytes: int) -> list[range]:
    """Cut ready ReadValueIds into runs of at most `most` items and `most_bytes` bytes each (0 = no limit)."""
    runs: list[range] = []
    start = size = 0
    for index, item in enumerate(items):
        full = (most and index - start >= most) or (most_bytes and size + len(item) > most_bytes)
        if full and index > start:
            runs.append(range(start, index))
            start, size = index, 0
        size += len(item)
    if start < len(items):
        runs.append(range(start, len(items)))
    return runs
