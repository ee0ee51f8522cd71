"""Answers of the services that are not asked for at every poll, read piece by piece with strict bounds (Part 6, 5.2).

What is read at every poll goes through `decoding`; here plain Python is fast enough.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from opcua_client.datatypes import Wire
from opcua_client.decoding import check_header
from opcua_client.encoding import NodeId, decode_node_id
from opcua_client.errors import Malformed
from opcua_client.skipping import (
    HAS_DIMENSIONS,
    HAS_SERVER,
    HAS_SERVER_PICO,
    HAS_SOURCE,
    HAS_SOURCE_PICO,
    HAS_STATUS,
    HAS_VALUE,
    IS_ARRAY,
    skip_diagnostic,
    skip_node_id,
    skip_payload,
    skip_string,
)

T = TypeVar("T")
_NUMBERS = {
    Wire.BOOLEAN: "<?", Wire.SBYTE: "<b", Wire.BYTE: "<B", Wire.INT16: "<h", Wire.UINT16: "<H", Wire.INT32: "<i",
    Wire.UINT32: "<I", Wire.INT64: "<q", Wire.UINT64: "<Q", Wire.FLOAT: "<f", Wire.DOUBLE: "<d", Wire.DATETIME: "<q",
    Wire.STATUSCODE: "<I",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Localized:
    """A LocalizedText (Part 6, clause 5.2.2.14); null parts are empty."""

    text: str
    locale: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Qualified:
    """A QualifiedName (Part 6, clause 5.2.2.13)."""

    name: str
    namespace: int = 0

    def __str__(self) -> str:
        """`2:Name`, without the index for namespace 0."""
        return f"{self.namespace}:{self.name}" if self.namespace else self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Extension:
    """An ExtensionObject whose content is left encoded (Part 6, clause 5.2.2.15)."""

    kind: NodeId
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """A Variant: its type, its payload as it came, and what it says in Python's types."""

    wire: Wire
    array: bool = False
    payload: bytes = b""
    """Everything behind the encoding byte."""
    value: Any = None
    """DateTime as ticks, Guid as UUID; a list for arrays of any rank; None for null and what has no Python form."""
    dimensions: tuple[int, ...] = ()
    """Lengths of an array of several dimensions, empty for one (Part 6, clause 5.2.2.16)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A DataValue (Part 6, clause 5.2.2.17)."""

    value: Value | None
    status: int = 0
    ticks: int = 0
    """Source timestamp, else the server's, in 100 ns since 1601; 0 = none."""


class Cursor:
    """A place in a message that moves on with everything that is read; errors are those of `answer`."""

    __slots__ = ("at", "body")

    def __init__(self, body: bytes, at: int = 0) -> None:
        self.body, self.at = body, at

    def number(self, form: str) -> Any:
        """One number by its struct format."""
        (found,) = struct.unpack_from(form, self.body, self.at)
        self.at += struct.calcsize(form)
        return found

    def octets(self) -> bytes | None:
        """A String's or ByteString's bytes, None for null."""
        begin, self.at = self.at, skip_string(self.body, self.at)
        null = self.body[begin : begin + 4] == b"\xff\xff\xff\xff"
        return None if null else self.body[begin + 4 : self.at]

    def text(self) -> str:
        """A String; null is empty, what is no UTF-8 is replaced."""
        return (self.octets() or b"").decode(errors="replace")

    def node_id(self) -> NodeId:
        """A NodeId, or the local part of an ExpandedNodeId."""
        begin, self.at = self.at, skip_node_id(self.body, self.at, expanded=True)
        return decode_node_id(self.body, begin)[0]

    def qualified(self) -> Qualified:
        """A QualifiedName."""
        return Qualified(namespace=self.number("<H"), name=self.text())

    def localized(self) -> Localized:
        """A LocalizedText."""
        mask = self.number("<B")
        locale = self.text() if mask & 1 else ""
        return Localized(locale=locale, text=self.text() if mask & 2 else "")

    def extension(self) -> Extension:
        """An ExtensionObject."""
        kind = self.node_id()
        form = self.number("<B")
        return Extension(kind=kind, body=(self.octets() or b"") if form else b"")

    def array(self, element: Callable[[], T]) -> list[T]:
        """An array; null is empty. Elements have at least one byte each."""
        count = self.number("<i")
        if count > len(self.body) - self.at:
            raise Malformed("response", f"array of {count} at byte {self.at - 4}")
        return [element() for _ in range(count)]

    def diagnostics(self) -> None:
        """An array of DiagnosticInfo, which nobody asked for."""
        def skip() -> None:
            self.at = skip_diagnostic(self.body, self.at, 0)

        self.array(skip)

    def variant(self) -> Value:
        """A Variant."""
        code = self.number("<B")
        begin, self.at = self.at, skip_payload(self.body, self.at, code, 0)
        wire = Wire.of(code)
        inside = Cursor(self.body, begin)
        value = inside.array(lambda: inside.scalar(wire)) if code & IS_ARRAY else inside.scalar(wire)
        payload = self.body[begin : inside.at if code & HAS_DIMENSIONS else self.at]
        dimensions = inside.array(lambda: int(inside.number("<i"))) if code & HAS_DIMENSIONS else []
        return Value(wire=wire, array=bool(code & IS_ARRAY), payload=payload, value=value,
                     dimensions=tuple(dimensions) if len(dimensions) > 1 else ())

    def scalar(self, wire: Wire) -> Any:
        """One value of a built-in type."""
        form = _NUMBERS.get(wire)
        if form is not None:
            return self.number(form)
        return _READ[wire](self)

    def data_value(self) -> Sample:
        """A DataValue."""
        mask = self.number("<B")
        if mask > 0x3F:
            raise Malformed("response", f"DataValue mask {mask:#x} at byte {self.at - 1}")
        value = self.variant() if mask & HAS_VALUE else None
        status = self.number("<I") if mask & HAS_STATUS else 0
        source = self.number("<q") if mask & HAS_SOURCE else 0
        self.at += 2 * bool(mask & HAS_SOURCE_PICO)
        server = self.number("<q") if mask & HAS_SERVER else 0
        self.at += 2 * bool(mask & HAS_SERVER_PICO)
        return Sample(value=value if value is not None and value.wire is not Wire.NULL else None, status=status,
                      ticks=source if source > 0 else max(server, 0))

    def _guid(self) -> uuid.UUID:
        self.at += 16
        return uuid.UUID(bytes_le=self.body[self.at - 16 : self.at])

    def _variant_value(self) -> Any:
        return self.variant().value

    def _sample_value(self) -> Any:
        found = self.data_value().value
        return found.value if found is not None else None

    def _diagnostic(self) -> None:
        self.at = skip_diagnostic(self.body, self.at, 0)


def _nothing(_: Cursor) -> None:
    return None


_READ: dict[Wire, Callable[[Cursor], Any]] = {
    Wire.NULL: _nothing, Wire.STRING: Cursor.text, Wire.XMLELEMENT: Cursor.text, Wire.BYTESTRING: Cursor.octets,
    Wire.GUID: Cursor._guid, Wire.NODEID: Cursor.node_id, Wire.EXPANDEDNODEID: Cursor.node_id,
    Wire.QUALIFIEDNAME: Cursor.qualified, Wire.LOCALIZEDTEXT: Cursor.localized, Wire.EXTENSIONOBJECT: Cursor.extension,
    Wire.DATAVALUE: Cursor._sample_value, Wire.VARIANT: Cursor._variant_value,
    Wire.DIAGNOSTICINFO: Cursor._diagnostic,
}


def answer(body: bytes, expected: int, operation: str, parse: Callable[[Cursor], T]) -> T:
    """What `parse` makes of a response behind its header.

    Malformed for what is no response of the type `expected`, or does not fit to the byte; Refused for a bad service
    result.
    """
    cursor = Cursor(body, check_header(body, expected, operation))
    try:
        found = parse(cursor)
    except (IndexError, struct.error, ValueError, RecursionError) as error:
        raise Malformed(f"{operation} response", "ends within a value") from error
    if cursor.at != len(body):
        raise Malformed(f"{operation} response", f"{len(body) - cursor.at} bytes do not fit")
    return found
