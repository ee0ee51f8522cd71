"""Python values as the built-in type that a node or an argument has, encoded (OPC UA Part 6, clause 5.2.2)."""

from __future__ import annotations

import math
import struct
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from opcua_client.cursor import Localized, Qualified, Value
from opcua_client.datatypes import Wire
from opcua_client.encoding import EPOCH_TICKS, NodeId, encode_string, parse_node_id
from opcua_client.errors import Misconfigured
from opcua_client.skipping import IS_ARRAY

TICKS_1601 = datetime(1601, 1, 1, tzinfo=UTC)
LARGEST_FLOAT = 3.4028235677973366e38
"""What rounds to more than the largest Float is beyond it."""

_INTEGERS = {
    Wire.SBYTE: "<b", Wire.BYTE: "<B", Wire.INT16: "<h", Wire.UINT16: "<H", Wire.INT32: "<i", Wire.UINT32: "<I",
    Wire.INT64: "<q", Wire.UINT64: "<Q", Wire.STATUSCODE: "<I",
}


class Unfit(ValueError):
    """A value that the type can't hold; str() says what and what is allowed."""


def range_of(wire: Wire) -> tuple[int, int] | None:
    """Lowest and highest number of an integer type, None for others."""
    form = _INTEGERS.get(wire)
    if form is None:
        return None
    bits = struct.calcsize(form) * 8
    return (0, 2**bits - 1) if form[1].isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def encode_scalar(wire: Wire, value: Any) -> bytes:
    """The payload of a value in a built-in type; Unfit where it would not be the same value there.

    Numbers must be whole for integer types and within the range; a Float takes the nearest single. A DateTime is a
    `datetime` (UTC where it has no zone), RFC 3339 text, or nanoseconds since 1970.
    """
    if wire in _INTEGERS:
        return _integer(wire, value)
    encode = _ENCODE.get(wire)
    if encode is None:
        raise Unfit(f"values of type {wire.spelled} can't be written; a built-in type without structure")
    return encode(value)


def encode_variant(wire: Wire, value: Any, *, array: bool = False) -> bytes:
    """A whole Variant of a scalar, or with `array` of a list; Unfit as in `encode_scalar`."""
    if not array:
        return bytes([wire]) + encode_scalar(wire, value)
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise Unfit(f"{value!r} is no list; a list of {wire.spelled}")
    parts = [encode_scalar(wire, item) for item in value]
    return bytes([wire | IS_ARRAY]) + struct.pack("<i", len(parts)) + b"".join(parts)


def _integer(wire: Wire, value: Any) -> bytes:
    low, high = range_of(wire) or (0, 0)
    allowed = f"a whole number from {low} to {high}"
    number = _number(value, allowed)
    if isinstance(number, float):
        if not math.isfinite(number) or not number.is_integer():
            raise Unfit(f"{value!r} is not whole; {allowed}")
        number = int(number)
    if not low <= number <= high:
        raise Unfit(f"{value!r} does not fit {wire.spelled}; {allowed}")
    return struct.pack(_INTEGERS[wire], number)


def _number(value: Any, allowed: str) -> int | float:
    if hasattr(value, "item"):  # numpy's scalars
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Unfit(f"{value!r} is no number; {allowed}")
    return value


def _boolean(value: Any) -> bytes:
    if hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, (bool, int, float)) or value not in (0, 1):
        raise Unfit(f"{value!r} is no Boolean; true or false")
    return b"\1" if value else b"\0"


def _double(value: Any) -> bytes:
    number = _number(value, "a number")
    try:
        double = float(number)
    except OverflowError as error:
        raise Unfit(f"{str(value)[:20]}... does not fit Double; at most 1.8e308") from error
    if isinstance(number, int) and int(double) != number:
        raise Unfit(f"{value!r} does not fit Double exactly; a whole number of 53 bits")
    return struct.pack("<d", double)


def _float(value: Any) -> bytes:
    number = _number(value, "a number")
    if not math.isinf(number) and abs(number) >= LARGEST_FLOAT:
        raise Unfit(f"{value!r} does not fit Float; at most 3.4e38")
    return struct.pack("<f", float(number))


def _string(value: Any) -> bytes:
    if not isinstance(value, str):
        raise Unfit(f"{value!r} is no text; a text")
    return encode_string(value)


def _octets(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray)):
        raise Unfit(f"{value!r} are no bytes; bytes")
    return struct.pack("<i", len(value)) + bytes(value)


def _guid(value: Any) -> bytes:
    try:
        return (value if isinstance(value, uuid.UUID) else uuid.UUID(value)).bytes_le
    except (ValueError, AttributeError, TypeError) as error:
        raise Unfit(f"{value!r} is no Guid; such as 72962b91-fa75-4ae6-8d28-b404dc7daf63") from error


def _datetime(value: Any) -> bytes:
    try:
        ticks = ticks_of(value)
        return struct.pack("<q", ticks)
    except (ValueError, TypeError, struct.error) as error:
        raise Unfit(f"{value!r} is no DateTime; RFC 3339 text such as 2026-01-31T12:00:00Z, or nanoseconds since "
                    "1970") from error


def ticks_of(value: datetime | str | int) -> int:
    """A time as ticks of 100 ns since 1601; ValueError or TypeError for what is none."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        raise TypeError("no time")
    if isinstance(value, int):
        return EPOCH_TICKS + value // 100
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return (value - TICKS_1601) // timedelta(microseconds=1) * 10


def _localized(value: Any) -> bytes:
    found = value if isinstance(value, Localized) else Localized(text=value)
    if not isinstance(found.text, str):
        raise Unfit(f"{value!r} is no text; a text")
    if found.locale:
        return b"\3" + encode_string(found.locale) + encode_string(found.text)
    return b"\2" + encode_string(found.text)


def _qualified(value: Any) -> bytes:
    if isinstance(value, str):
        index, colon, name = value.partition(":")
        inside = bool(colon) and index.isascii() and index.isdigit() and int(index) <= 0xFFFF
        value = Qualified(namespace=int(index), name=name) if inside else Qualified(name=value)
    if not isinstance(value, Qualified):
        raise Unfit(f"{value!r} is no QualifiedName; a text such as 2:Name")
    return struct.pack("<H", value.namespace) + encode_string(value.name)


def _node_id(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            value = parse_node_id(value)
        except Misconfigured as error:
            raise Unfit(f"{value!r} is no NodeId; such as ns=2;s=Pump or i=2253") from error
    if not isinstance(value, NodeId):
        raise Unfit(f"{value!r} is no NodeId; a text such as ns=2;s=Pump")
    return value.encode()


_ENCODE: dict[Wire, Callable[[Any], bytes]] = {
    Wire.BOOLEAN: _boolean, Wire.FLOAT: _float, Wire.DOUBLE: _double, Wire.STRING: _string, Wire.XMLELEMENT: _string,
    Wire.DATETIME: _datetime, Wire.GUID: _guid, Wire.BYTESTRING: _octets, Wire.NODEID: _node_id,
    Wire.EXPANDEDNODEID: _node_id, Wire.QUALIFIEDNAME: _qualified, Wire.LOCALIZEDTEXT: _localized,
}


def plain(found: Value | None) -> Any:
    """What a value says in the types of `Reading`: DateTimes in UTC, texts for Guids, names and NodeIds."""
    if found is None:
        return None
    if found.array:
        return [_plain(found.wire, item) for item in found.value]
    return _plain(found.wire, found.value)


def _plain(wire: Wire, value: Any) -> Any:
    if wire is Wire.DATETIME:
        try:
            return TICKS_1601 + timedelta(microseconds=value // 10) if value > 0 else None
        except OverflowError:
            return None
    if isinstance(value, Localized):
        return value.text
    if isinstance(value, (uuid.UUID, Qualified, NodeId)):
        return str(value)
    return value


def imaged(found: Value | None) -> bool | int | float | str | bytes | None:
    """What a scalar is in the image: DateTimes as nanoseconds since 1970; None for arrays and structures."""
    if found is None or found.array:
        return None
    if found.wire is Wire.DATETIME:
        return int((found.value - EPOCH_TICKS) * 100)
    value = _plain(found.wire, found.value)
    if found.wire is Wire.BYTESTRING and value is None:
        return b""
    return value if isinstance(value, (bool, int, float, str, bytes)) else None
