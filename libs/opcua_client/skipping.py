"""Where things end in an encoded message, with strict bounds (OPC UA Part 6, clause 5.2.2).

Every function takes the message and a place in it, and returns the place behind the thing that begins there. What is
not as the standard has it, or would reach beyond the end, is Malformed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from opcua_client.datatypes import Wire
from opcua_client.errors import Malformed

HAS_VALUE, HAS_STATUS, HAS_SOURCE, HAS_SERVER, HAS_SOURCE_PICO, HAS_SERVER_PICO = 1, 2, 4, 8, 16, 32
"""Bits of a DataValue's mask (clause 5.2.2.17)."""
FIELDS = ((HAS_STATUS, 4), (HAS_SOURCE, 8), (HAS_SOURCE_PICO, 2), (HAS_SERVER, 8), (HAS_SERVER_PICO, 2))
"""What follows a DataValue's value, in the order on the wire, with its bytes."""
TAILS = tuple(sum(size for bit, size in FIELDS if mask & bit) for mask in range(64))
"""Bytes that follow a DataValue's value, by its mask."""
IS_ARRAY, HAS_DIMENSIONS = 0x80, 0x40
LONGEST_VALUE = 1 << 26
"""Bytes; a length above it is refused before it is believed."""
DEEPEST = 16
"""Nesting of Variants, DataValues and DiagnosticInfos."""
OPERATION = "read response"

_FIXED = {Wire.NULL: 0, Wire.BOOLEAN: 1, Wire.SBYTE: 1, Wire.BYTE: 1, Wire.INT16: 2, Wire.UINT16: 2, Wire.INT32: 4,
          Wire.UINT32: 4, Wire.INT64: 8, Wire.UINT64: 8, Wire.FLOAT: 4, Wire.DOUBLE: 8, Wire.DATETIME: 8,
          Wire.GUID: 16, Wire.STATUSCODE: 4}
SIZES = tuple(_FIXED.get(Wire(t), -1) if t <= 25 else -1 for t in range(256))
"""Payload bytes of a scalar by the Variant's encoding byte, -1 where they must be looked up."""
LENGTH_PREFIXED = frozenset([Wire.STRING, Wire.BYTESTRING, Wire.XMLELEMENT, *range(26, 32)])
"""Types whose payload is an Int32 length and so many bytes; unknown types are ByteStrings (clause 5.2.2.16)."""


def skip_payload(body: bytes, at: int, code: int, depth: int) -> int:
    """Where the payload of a Variant with encoding byte `code` ends (Part 6, clause 5.2.2.16)."""
    kind = code & 0x3F
    if kind > 31 or (code & HAS_DIMENSIONS and not code & IS_ARRAY):
        raise Malformed(OPERATION, f"Variant type {code:#x} at byte {at - 1}")
    if not code & IS_ARRAY:
        return _skip_scalar(body, at, kind, depth)
    (length,) = struct.unpack_from("<i", body, at)
    at += 4
    size = SIZES[kind]
    if size >= 0:
        bounded(body, at, max(length, 0))  # also of Nulls, which take no bytes, no more than bytes are left
        at = bounded(body, at, max(length, 0) * size)
    else:
        for _ in range(length):
            at = _skip_scalar(body, at, kind, depth + 1)
    if code & HAS_DIMENSIONS:
        (dimensions,) = struct.unpack_from("<i", body, at)
        at = bounded(body, at + 4, max(dimensions, 0) * 4)
    return at


def _skip_scalar(body: bytes, at: int, kind: int, depth: int) -> int:
    if depth > DEEPEST:
        raise Malformed(OPERATION, "nested too deep")
    size = SIZES[kind]
    if size >= 0:
        return bounded(body, at, size)
    if kind in LENGTH_PREFIXED:
        return skip_string(body, at)
    return _SKIP[Wire(kind)](body, at, depth)


def bounded(body: bytes, at: int, size: int) -> int:
    """`size` bytes that need no closer look."""
    if size > LONGEST_VALUE or at + size > len(body):
        raise Malformed(OPERATION, "ends within a value")
    return at + size


def skip_string(body: bytes, at: int) -> int:
    """A String, ByteString or XmlElement."""
    (length,) = struct.unpack_from("<i", body, at)
    if length < -1:
        raise Malformed(OPERATION, f"length {length} at byte {at}")
    return bounded(body, at + 4, max(length, 0))


def skip_array(body: bytes, at: int, skip: Callable[[bytes, int], int], smallest: int) -> int:
    """An array whose elements end where `skip` says and have at least `smallest` bytes."""
    (length,) = struct.unpack_from("<i", body, at)
    at += 4
    if length * smallest > len(body) - at:
        raise Malformed(OPERATION, f"array of {length} at byte {at - 4}")
    for _ in range(length):
        at = skip(body, at)
    return at


def skip_node_id(body: bytes, at: int, depth: int = 0, *, expanded: bool = False) -> int:  # noqa: ARG001
    """A NodeId, or an ExpandedNodeId (Part 6, clauses 5.2.2.9 and 5.2.2.10)."""
    first = body[at]
    form = first & 0x3F
    if form > 5 or (first & 0xC0 and not expanded):
        raise Malformed(OPERATION, f"NodeId form {first:#x} at byte {at}")
    at = skip_string(body, at + 3) if form in (3, 5) else bounded(body, at, (2, 4, 7, 0, 19)[form])
    if first & 0x80:
        at = skip_string(body, at)
    return bounded(body, at, 4) if first & 0x40 else at


def _skip_expanded_node_id(body: bytes, at: int, depth: int) -> int:
    return skip_node_id(body, at, depth, expanded=True)


def _skip_qualified_name(body: bytes, at: int, depth: int) -> int:  # noqa: ARG001
    return skip_string(body, at + 2)


def _skip_localized_text(body: bytes, at: int, depth: int) -> int:  # noqa: ARG001
    mask = body[at]
    if mask > 3:
        raise Malformed(OPERATION, f"LocalizedText mask {mask:#x} at byte {at}")
    at += 1
    if mask & 1:
        at = skip_string(body, at)
    return skip_string(body, at) if mask & 2 else at


def localized_guards(body: bytes, at: int) -> list[int]:
    """The bytes on which the places in a sound LocalizedText depend: its mask and lengths."""
    guards, mask, at = [at], body[at], at + 1
    for bit in (1, 2):
        if mask & bit:
            guards.extend(range(at, at + 4))
            at = skip_string(body, at)
    return guards


def skip_extension(body: bytes, at: int, depth: int) -> int:  # noqa: ARG001
    """An ExtensionObject, of which only the length is looked at (clause 5.2.2.15)."""
    at = skip_node_id(body, at)
    form = body[at]
    if form > 2:
        raise Malformed(OPERATION, f"ExtensionObject form {form:#x} at byte {at}")
    return skip_string(body, at + 1) if form else at + 1


def _skip_variant(body: bytes, at: int, depth: int) -> int:
    return skip_payload(body, at + 1, body[at], depth + 1)


def _skip_data_value(body: bytes, at: int, depth: int) -> int:
    mask = body[at]
    if mask > 0x3F:
        raise Malformed(OPERATION, f"DataValue mask {mask:#x} at byte {at}")
    at += 1
    if mask & HAS_VALUE:
        at = _skip_variant(body, at, depth)
    return bounded(body, at, TAILS[mask])


def skip_diagnostic(body: bytes, at: int, depth: int) -> int:
    """Part 6, clause 5.2.2.12."""
    mask = body[at]
    if mask > 0x7F or depth > DEEPEST:
        raise Malformed(OPERATION, f"DiagnosticInfo mask {mask:#x} at byte {at}")
    at = bounded(body, at + 1, 4 * (mask & 0x0F).bit_count())
    if mask & 0x10:
        at = skip_string(body, at)
    if mask & 0x20:
        at = bounded(body, at, 4)
    return skip_diagnostic(body, at, depth + 1) if mask & 0x40 else at


def skip_diagnostic_item(body: bytes, at: int) -> int:
    """A DiagnosticInfo as an array's element."""
    return skip_diagnostic(body, at, 0)


_SKIP = {
    Wire.NODEID: skip_node_id,
    Wire.EXPANDEDNODEID: _skip_expanded_node_id,
    Wire.QUALIFIEDNAME: _skip_qualified_name,
    Wire.LOCALIZEDTEXT: _skip_localized_text,
    Wire.EXTENSIONOBJECT: skip_extension,
    Wire.DATAVALUE: _skip_data_value,
    Wire.VARIANT: _skip_variant,
    Wire.DIAGNOSTICINFO: skip_diagnostic,
}
