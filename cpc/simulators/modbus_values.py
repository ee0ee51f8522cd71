"""What a simulated Modbus unit holds: its tables, and values that move as those of a plant do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import modbus_frames
import numpy as np
from endpoint_config.models import Datatype, ModbusPoint, ModbusServer, ReadFunction
from modbus_frames import ExceptionCode, ExceptionResponse
from modbus_tcp_client.encode import Slot, bits_function, encode, number_limits, raw_bits
from modbus_tcp_client.plan import Span, spans, value_span
from modbus_tcp_client.points import effective_datatype, is_text
from modbus_tcp_client.scaling import linear

PERIOD = 60.0
"""Seconds of one round of a sine or a ramp."""
FACTOR = -1
"""What every scale factor register holds."""
DEFAULT_RANGE = (0.0, 100.0)
"""Engineering range of a point whose file gives none, as far as its type carries it."""

_READS = {5: 1, 15: 1, 6: 3, 16: 3}
"""The table that a write function writes, by the function that reads it."""


class Table:
    """The bits (one a byte) or registers (two bytes each, big-endian) of one read function."""

    def __init__(self, function: int, wanted: Sequence[Span], max_gap: int) -> None:
        """`wanted` spans are there, and gaps of up to `max_gap` between them read as 0; all else is not there."""
        self.is_bits = ReadFunction(function).is_bits
        self.size = 1 if self.is_bits else 2
        self.first = min(s.start for s in wanted)
        count = max(s.stop for s in wanted) - self.first
        self.content = bytearray(count * self.size)
        self._there = bytearray(count)
        self._writable = bytearray(count)
        edge = self.first
        for span in sorted(wanted):
            begin = edge if 0 < span.start - edge <= max_gap else span.start
            self._there[begin - self.first : span.stop - self.first] = b"\1" * (span.stop - begin)
            edge = max(edge, span.stop)

    def offset(self, address: int) -> int:
        """Byte in `content` at which an address stands."""
        return (address - self.first) * self.size

    def allow_writes(self, span: Span) -> None:
        """Let commands write here."""
        self._writable[span.start - self.first : span.stop - self.first] = b"\1" * (span.stop - span.start)

    def holds(self, address: int, count: int, *, to_write: bool = False) -> bool:
        """Whether all these addresses are there (and may be written)."""
        begin = address - self.first
        marks = self._writable if to_write else self._there
        return begin >= 0 and begin + count <= len(marks) and 0 not in marks[begin : begin + count]

    def read(self, address: int, count: int) -> bytes:
        """As on the wire."""
        content = self.content[self.offset(address) : self.offset(address + count)]
        if self.is_bits:
            return np.packbits(np.frombuffer(content, np.uint8), bitorder="little").tobytes()
        return bytes(content)

    def write(self, address: int, count: int, data: bytes) -> None:
        """From the wire."""
        if self.is_bits:
            data = bytes(modbus_frames.unpack_bits(data, count))
        self.content[self.offset(address) : self.offset(address + count)] = data


@dataclass(frozen=True, kw_only=True, slots=True)
class Mover:
    """A point whose value changes with time."""

    invalid: frozenset[int]
    """Raw bits that it never takes."""
    bits: Callable[[int | float], int]
    """From the number before scaling to raw bits."""
    slot: Slot
    content: bytearray
    """Of its table."""
    curve: Callable[[float], int | float]
    """Number before scaling at a time in seconds."""


class SimulatedUnit:
    """One unit: the tables of all entries that name it, as modbus_frames serves them."""

    def __init__(self, servers: Sequence[ModbusServer], seed: int = 0) -> None:
        """`seed` shifts the curves, so that units do not move in step."""
        points = [p for s in servers for p in s.points]
        wanted: dict[int, list[Span]] = {}
        for point in points:
            for span in spans(point):
                wanted.setdefault(span.function, []).append(span)
        gap = max(s.max_gap for s in servers)
        self._tables = {function: Table(function, places, gap) for function, places in wanted.items()}
        self._movers: list[Mover] = []
        self._claimed: dict[tuple[int, int], int] = {}
        self._moved_to = -1.0
        for point in points:
            if point.scalefactor is not None:
                self._set_factor(point)
        for index, point in enumerate(points):
            self._add(point, (seed * 0.37 + index * 0.11) * PERIOD)
        self.move(0.0)

    def move(self, seconds: float) -> None:
        """Set everything that moves to its value at this time; nothing to do where it is there already."""
        if seconds == self._moved_to:
            return
        self._moved_to = seconds
        for mover in self._movers:
            bits = mover.bits(mover.curve(seconds))
            if bits not in mover.invalid:
                mover.slot.put(bits, mover.content)

    def read(self, request: modbus_frames.Request) -> bytes:
        """Serve a read; exception 02 for what is not in the file."""
        table = self._tables.get(request.function)
        if table is None or not table.holds(request.address, request.count):
            raise ExceptionResponse(request.function, ExceptionCode.ILLEGAL_DATA_ADDRESS)
        return table.read(request.address, request.count)

    def write(self, request: modbus_frames.Request) -> None:
        """Take a write; exception 02 for what is not writable by the file. What was written stays."""
        table = self._tables.get(_READS[request.function])
        if table is None or not table.holds(request.address, request.count, to_write=True):
            raise ExceptionResponse(request.function, ExceptionCode.ILLEGAL_DATA_ADDRESS)
        data = request.data
        if request.function == modbus_frames.pdu.WRITE_SINGLE_COIL:
            data = b"\1" if data == modbus_frames.pdu.COIL_ON else b"\0"
        table.write(request.address, request.count, data)

    def _set_factor(self, point: ModbusPoint) -> None:
        assert point.scalefactor is not None
        register = ModbusPoint(
            name="scale factor", read_function=point.read_function, address=point.scalefactor,
            datatype=Datatype.INT16, order=point.order,
        )
        if self._claim(register):
            table = self._tables[int(point.read_function)]
            Slot(register, table.offset(register.address)).put(raw_bits(register, FACTOR), table.content)

    def _add(self, point: ModbusPoint, phase: float) -> None:
        """Give a point its first value, and its curve where it moves.

        Where points share bits the first one decides, and the others read what that makes of them. What may be
        written does not move by itself.
        """
        table = self._tables[int(point.read_function)]
        if point.writable:
            table.allow_writes(value_span(point))
        if not self._claim(point):
            return
        if is_text(point):
            begin = table.offset(point.address)
            table.content[begin : begin + 2 * point.registers] = _text(point)
            return
        curve, slot = curve_of(point, phase), Slot(point, table.offset(point.address))
        if point.writable:
            slot.put(raw_bits(point, curve(0.0)), table.content)
        else:
            self._movers.append(Mover(
                invalid=frozenset(point.invalid), bits=bits_function(point), slot=slot, content=table.content,
                curve=curve,
            ))

    def _claim(self, point: ModbusPoint) -> bool:
        """Take the bits of a point; False where another has some of them."""
        datatype = effective_datatype(point)
        masks = {Datatype.INT8_HIGH: 0xFF00, Datatype.UINT8_HIGH: 0xFF00,
                 Datatype.INT8_LOW: 0x00FF, Datatype.UINT8_LOW: 0x00FF}
        mask = masks.get(datatype, 0xFFFF)
        if point.bit is not None:
            mask = ((1 << (point.bits if datatype is Datatype.BITFIELD else 1)) - 1) << point.bit
        span = value_span(point)
        places = [(span.function, address) for address in range(span.start, span.stop)]
        if any(self._claimed.get(p, 0) & mask for p in places):
            return False
        for p in places:
            self._claimed[p] = self._claimed.get(p, 0) | mask
        return True


def curve_of(point: ModbusPoint, phase: float) -> Callable[[float], int | float]:
    """How a point moves: texts of an enumeration in turn, bits on and off, counters up, else sines and ramps."""
    if point.enum:
        states = [raw for raw, _ in point.enum if raw not in point.invalid] or [point.enum[0][0]]
        return lambda t: states[int((t + phase) // 5.0) % len(states)]
    limits = number_limits(point)
    if limits == (0, 1):
        return lambda t: int((t + phase) // 4.0) % 2
    low, high = _range(point)
    if limits is None:
        # The outermost hundredth is left out: in fewer bits than float64 the end itself may lie beyond it.
        margin = (high - low) / 100.0
        return lambda t: _wave(t + phase, low + margin, high - margin)
    bottom, top = int(low), int(high)
    if limits[0] == 0 and point.registers > 1 and point.minimum is None and point.maximum is None:
        start = int(phase * 1000.0)
        return lambda t: start + int(t * 10.0)
    if round(phase) % 2:
        return lambda t: bottom + int(((t + phase) % PERIOD) / PERIOD * (top - bottom + 1))
    return lambda t: min(max(round(_wave(t + phase, bottom, top)), bottom), top)


def _wave(t: float, low: float, high: float) -> float:
    """A sine that stays within its ends whatever the rounding."""
    return min(max(low + (high - low) * (0.5 + 0.5 * math.sin(t * math.tau / PERIOD)), low), high)


def _range(point: ModbusPoint) -> tuple[float, float]:
    """Lowest and highest number before scaling that keep the engineering value within minimum and maximum.

    Where the type can't carry any such number, twice the nearest that it can.
    """
    scale = linear(point.scale, point.valueoffset)
    factor = FACTOR if point.scalefactor is not None else 0
    low, high = sorted(scale.invert(end, factor) for end in _engineering_range(point))
    limits = number_limits(point)
    if limits is None:
        return float(low), float(high)
    bottom, top = max(limits[0], math.ceil(low)), min(limits[1], math.floor(high))
    if top - bottom < 1 and point.minimum is None and point.maximum is None:
        return limits[0], min(limits[1], limits[0] + 1000)
    if bottom > top:
        bottom = top = min(max(round((low + high) / 2), limits[0]), limits[1])
    return bottom, top


def _engineering_range(point: ModbusPoint) -> tuple[float, float]:
    """Minimum and maximum; an open end is put a hundred steps of the raw number beside the given one, or 100."""
    low, high = point.minimum, point.maximum
    wide = 100.0 * max(1.0, abs(point.scale))
    if low is None:
        return DEFAULT_RANGE if high is None else (high - wide, high)
    return low, low + wide if high is None else high


def _text(point: ModbusPoint) -> bytes:
    """A constant text: the name, as far as it fits; for bytes, counting."""
    size = 2 * point.registers
    if effective_datatype(point) is Datatype.BYTES:
        return encode(point, bytes(i % 256 for i in range(size)))
    name = point.name
    while len(name.encode()) > size:
        name = name[:-1]
    return encode(point, name)
