"""From an engineering value back to the bytes on the wire: the inverse of the decode plan, one value at a time.

Commands and simulators use it. Nothing is clamped: what the type can't carry is an error that names the limits.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction

from endpoint_config.models import Datatype, ModbusPoint

from modbus_tcp_client.lanes import in_order, text_bytes
from modbus_tcp_client.points import effective_datatype
from modbus_tcp_client.scaling import linear

Value = bool | int | float | str | bytes

_FLOATS = {Datatype.FLOAT16: ">e", Datatype.FLOAT32: ">f", Datatype.FLOAT64: ">d"}
_SIGNED = {
    Datatype.INT8_HIGH: 8, Datatype.INT8_LOW: 8, Datatype.INT16: 16, Datatype.INT32: 32, Datatype.INT64: 64,
}
_UNSIGNED = {
    Datatype.UINT8_HIGH: 8, Datatype.UINT8_LOW: 8, Datatype.UINT16: 16, Datatype.UINT32: 32, Datatype.UINT64: 64,
}
_BCD_DIGITS = {Datatype.BCD16: 4, Datatype.BCD32: 8}
_HIGH = (Datatype.INT8_HIGH, Datatype.UINT8_HIGH)
_LOW = (Datatype.INT8_LOW, Datatype.UINT8_LOW)


class EncodeError(ValueError):
    """A value that a point can't take."""


def number_limits(point: ModbusPoint) -> tuple[int, int] | None:
    """Lowest and highest number before scaling; None for floating types, strings and bytes."""
    datatype = effective_datatype(point)
    if datatype in _SIGNED:
        return -(1 << _SIGNED[datatype] - 1), (1 << _SIGNED[datatype] - 1) - 1
    if datatype in _UNSIGNED:
        return 0, (1 << _UNSIGNED[datatype]) - 1
    if datatype in _BCD_DIGITS:
        return 0, 10 ** _BCD_DIGITS[datatype] - 1
    if datatype is Datatype.BITFIELD:
        return 0, (1 << point.bits) - 1
    return (0, 1) if datatype is Datatype.BOOL else None


def width(point: ModbusPoint) -> int:
    """Bits of the raw pattern of a number."""
    datatype = effective_datatype(point)
    if datatype is Datatype.BOOL:
        return 16 if point.bit is None and not point.read_function.is_bits else 1
    if datatype is Datatype.BITFIELD:
        return point.bits
    if datatype in _HIGH or datatype in _LOW:
        return 8
    return 16 * point.registers


def is_part(point: ModbusPoint) -> bool:
    """Whether the point is a part of a register, of which writing must not change the rest."""
    return not point.read_function.is_bits and width(point) < 16 * point.registers


def raw_number(point: ModbusPoint, value: bool | int | float, factor: int = 0) -> int | float:
    """The number before scaling whose engineering value comes nearest; `factor` is the scale factor register's.

    EncodeError where the type can't carry it.
    """
    limits = number_limits(point)
    scale = linear(point.scale, point.valueoffset)
    if not math.isfinite(value):
        if limits is not None:
            raise EncodeError(f"{point.name}: {value} is no number that {point.datatype} can carry")
        return (float(value) - scale.add) / scale.multiply
    exact: Fraction | int = scale.invert(value, factor) if point.scaled else Fraction(value)
    if limits is None:
        return float(exact)
    number = round(exact)
    if not limits[0] <= number <= limits[1]:
        ends = sorted(scale.apply(x, factor) for x in limits)
        raise EncodeError(f"{point.name}: {value} does not fit {point.datatype}; {ends[0]:g} to {ends[1]:g} is allowed")
    return number


def raw_bits(point: ModbusPoint, number: int | float) -> int:
    """The bits of a number before scaling, zero-extended from the width of the type; EncodeError for too large."""
    return bits_function(point)(number)


def bits_function(point: ModbusPoint) -> Callable[[int | float], int]:
    """`raw_bits` of one point, made once for a point that is written often."""
    datatype = effective_datatype(point)
    if datatype in _BCD_DIGITS:
        return lambda number: int(str(int(number)), 16)
    if datatype not in _FLOATS:
        mask = (1 << width(point)) - 1
        return lambda number: int(number) & mask
    pack = struct.Struct(_FLOATS[datatype]).pack

    def float_bits(number: int | float) -> int:
        try:
            return int.from_bytes(pack(number), "big")
        except OverflowError as error:
            raise EncodeError(f"{point.name}: {number:g} is too large for {datatype}") from error

    return float_bits


class Slot:
    """Where the raw bits of a point go: made once for a point that is written often."""

    __slots__ = ("_is_bits", "_keep", "_offset", "_order", "_shift", "_solid", "size")

    def __init__(self, point: ModbusPoint, offset: int = 0) -> None:
        """The point's registers (or its coil's byte) begin at `offset` of the bytes that `put` is given."""
        datatype = effective_datatype(point)
        self.size = width(point)
        """Bits of the raw pattern."""
        self._is_bits = point.read_function.is_bits
        self._offset = offset
        self._order = in_order(offset, point.registers, point.order)
        self._shift = 8 if datatype in _HIGH else (point.bit or 0)
        whole = self.size == 8 * len(self._order)
        self._keep = None if whole else ~(((1 << self.size) - 1) << self._shift)
        self._solid = whole and self._order == tuple(range(offset, offset + len(self._order)))

    def put(self, bits: int, into: bytearray) -> None:
        """Put raw bits in the point's order; of a bit, a bit field or one byte of a register nothing else changes.

        For a coil the byte becomes 0 or 1.
        """
        order = self._order
        if self._is_bits:
            into[self._offset] = bits & 1
            return
        if self._solid:
            into[self._offset : self._offset + len(order)] = bits.to_bytes(len(order), "big")
            return
        if self._keep is not None:
            present = int.from_bytes(bytes([into[i] for i in order]), "big")
            bits = present & self._keep | bits << self._shift
        for i, byte in zip(order, bits.to_bytes(len(order), "big"), strict=True):
            into[i] = byte


def encode(point: ModbusPoint, value: Value, *, current: bytes = b"", factor: int = 0) -> bytes:
    """The bytes of the point's registers (or one byte 0 or 1 for a coil) that make it read as `value`.

    `current` are the registers' bytes as they are, needed where the point is only a part of a register (zeros
    otherwise); `factor` is the value of its scale factor register. EncodeError for what the point can't take, the
    patterns that mean "not available" included.
    """
    size = 1 if point.read_function.is_bits else 2 * point.registers
    content = bytearray(current or bytes(size))
    if len(content) != size:
        raise EncodeError(f"{point.name}: {len(content)} bytes given as its present registers; {size} expected")
    if effective_datatype(point) in (Datatype.STRING, Datatype.BYTES):
        return _encode_text(point, value)
    if isinstance(value, str | bytes):
        raise EncodeError(f"{point.name}: a text can't be written; {point.datatype} takes a number")
    bits = raw_bits(point, raw_number(point, value, factor))
    if bits in point.invalid:
        raise EncodeError(f"{point.name}: {value} would be written as {bits:#x}, which means that there is no value")
    Slot(point).put(bits, content)
    return bytes(content)


def _encode_text(point: ModbusPoint, value: Value) -> bytes:
    """A text, filled with NUL."""
    is_string = effective_datatype(point) is Datatype.STRING
    if not isinstance(value, str if is_string else bytes):
        raise EncodeError(f"{point.name}: {value!r} can't be written; a {point.datatype} is taken")
    content = value.encode() if isinstance(value, str) else bytes(value)
    size = 2 * point.registers
    if len(content) > size:
        raise EncodeError(f"{point.name}: {len(content)} bytes are too long; {size} are allowed")
    registers = bytearray(size)
    for i, byte in zip(text_bytes(point, 0), content.ljust(size, b"\0"), strict=True):
        registers[i] = byte
    return bytes(registers)
