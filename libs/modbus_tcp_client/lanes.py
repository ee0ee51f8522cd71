"""Where in the bytes of the answers the bits of each value stand: the first half of the decode plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from endpoint_config.models import Datatype, ModbusPoint

from modbus_tcp_client.plan import Request, Span, factor_span, value_span
from modbus_tcp_client.points import effective_datatype
from modbus_tcp_client.scaling import IDENTITY, Linear, linear, plain


class Kind(IntEnum):
    """How raw bits become a number, in the order in which lanes are laid side by side.

    Everything before SIGNED is zero-extended; FLAGS to UNSIGNED become numbers by one conversion.
    """

    FLOAT16 = 0
    FLOAT32 = 1
    FLOAT64 = 2
    BITS = 3
    """Some bits of a register or of a byte of coils."""
    FLAG = 4
    """A whole register taken as a bool: false where it is 0."""
    BCD = 5
    UNSIGNED = 6
    SIGNED = 7


_KINDS = {
    Datatype.FLOAT16: Kind.FLOAT16,
    Datatype.FLOAT32: Kind.FLOAT32,
    Datatype.FLOAT64: Kind.FLOAT64,
    Datatype.BITFIELD: Kind.BITS,
    Datatype.BCD16: Kind.BCD,
    Datatype.BCD32: Kind.BCD,
    Datatype.INT8_HIGH: Kind.SIGNED,
    Datatype.INT8_LOW: Kind.SIGNED,
    Datatype.INT16: Kind.SIGNED,
    Datatype.INT32: Kind.SIGNED,
    Datatype.INT64: Kind.SIGNED,
}
_HIGH = (Datatype.INT8_HIGH, Datatype.UINT8_HIGH)
_LOW = (Datatype.INT8_LOW, Datatype.UINT8_LOW)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """One number to be taken out of a device's bytes."""

    point: int
    """Index of the point, -1 for a scale factor, which is no point by itself."""
    kind: Kind
    taken: tuple[int, ...]
    """Offsets of its bytes in the device's data, most significant first, word order folded in; 1, 2, 4 or 8."""
    shift: int = 0
    """Bits to the right of the wanted ones within `taken`; only for BITS."""
    mask: int = 0
    """The wanted bits after the shift; only for BITS."""
    scale: Linear = IDENTITY
    scaled: bool = False
    """Whether `scale` does anything; false with a scale factor, which is applied on its own."""

    @property
    def width(self) -> int:
        """Bits of `taken`."""
        return 8 * len(self.taken)


def in_order(offset: int, registers: int, order: str) -> tuple[int, ...]:
    """Offsets of the bytes of `registers` registers at `offset`, most significant first.

    ABCD is Modbus's own order; CDAB has the least significant register first; in BADC the bytes of each register
    are swapped; DCBA is both.
    """
    words = range(registers)
    low_first = (1, 0) if order in ("BADC", "DCBA") else (0, 1)
    return tuple(
        offset + 2 * w + b for w in (reversed(words) if order in ("CDAB", "DCBA") else words) for b in low_first
    )


def text_bytes(point: ModbusPoint, offset: int) -> tuple[int, ...]:
    """Offsets of the bytes of a text, in reading order; registers are never turned round, bytes where `order` says."""
    return in_order(offset, point.registers, "BADC" if point.order in ("BADC", "DCBA") else "ABCD")


def find(span: Span, requests: Sequence[Request], offsets: Sequence[int]) -> tuple[int, int, int] | None:
    """Which request carries a span, at which byte offset, and from which bit on; None where no request does.

    The bit is 0 for registers.
    """
    for i, request in enumerate(requests):
        if request.holds(span):
            place = span.start - request.address
            if span.function <= 2:
                return i, offsets[i] + place // 8, place % 8
            return i, offsets[i] + 2 * place, 0
    return None


def lane(index: int, point: ModbusPoint, offset: int, bit: int) -> Lane:
    """The lane of a point whose value stands at a byte offset (and bit, for coils and inputs)."""
    datatype = effective_datatype(point)
    scale = (plain if datatype is Datatype.FLOAT64 else linear)(point.scale, point.valueoffset)
    scaled = point.scaled and point.scalefactor is None
    if point.read_function.is_bits:
        return Lane(point=index, kind=Kind.BITS, taken=(offset,), shift=bit, mask=1, scale=scale, scaled=scaled)
    taken = in_order(offset, point.registers, point.order)
    if datatype in _HIGH or datatype in _LOW:
        taken = taken[:1] if datatype in _HIGH else taken[1:2]
    kind = _KINDS.get(datatype, Kind.UNSIGNED)
    shift = mask = 0
    if datatype is Datatype.BITFIELD or (datatype is Datatype.BOOL and point.bit is not None):
        kind, shift = Kind.BITS, point.bit or 0
        mask = (1 << point.bits) - 1 if datatype is Datatype.BITFIELD else 1
    elif datatype is Datatype.BOOL:
        kind = Kind.FLAG
    return Lane(point=index, kind=kind, taken=taken, shift=shift, mask=mask, scale=scale, scaled=scaled)


def factor_lane(point: ModbusPoint, offset: int) -> Lane:
    """The lane of a point's scale factor: an int16 with the point's own byte order."""
    return Lane(point=-1, kind=Kind.SIGNED, taken=in_order(offset, 1, point.order))


def home(point: ModbusPoint, requests: Sequence[Request], offsets: Sequence[int]) -> int | None:
    """The last of the requests that a point needs, in their order; None where one of them is missing."""
    found = find(value_span(point), requests, offsets)
    factor = factor_span(point)
    if found is None or factor is None:
        return None if found is None else found[0]
    other = find(factor, requests, offsets)
    return None if other is None else max(found[0], other[0])
