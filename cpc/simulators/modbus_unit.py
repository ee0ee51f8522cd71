"""What a simulated Modbus unit holds: its tables, values that move, and what is done to writes on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import modbus_frames
from endpoint_config.models import Datatype, ModbusPoint, ModbusServer
from modbus_frames import ExceptionCode, ExceptionResponse
from modbus_tcp_client.encode import EncodeError, Slot, Value, bits_function, encode, number_limits, raw_bits
from modbus_tcp_client.plan import Span, factor_span, spans, value_span
from modbus_tcp_client.points import effective_datatype, is_text
from modbus_tcp_client.scaling import linear
from modbus_tcp_client.single import single

from cpc.simulators.faults import Fault, OrderError
from cpc.simulators.modbus_curves import FACTOR, curve_of, ordered_curve, text_of
from cpc.simulators.modbus_table import Table
from cpc.simulators.movements import PERIOD, Movement, parse_movement

READS = {5: 1, 15: 1, 6: 3, 16: 3}
"""The table that a write function writes, by the function that reads it."""


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
    span: Span


@dataclass(frozen=True, kw_only=True, slots=True)
class Write:
    """What became of a write."""

    effect: str
    """As in the request log."""
    data: bytes
    values: tuple[tuple[str, Value | None], ...]
    """The points that it covers, with the values that were asked for."""


class SimulatedUnit:
    """One unit: the tables of all entries that name it, as modbus_frames serves them."""

    def __init__(self, servers: Sequence[ModbusServer], seed: int = 0) -> None:
        """`seed` shifts the curves, so that units do not move in step."""
        self.servers = tuple(servers)
        self._points = [p for s in servers for p in s.points]
        wanted: dict[int, list[Span]] = {}
        for point in self._points:
            for span in spans(point):
                wanted.setdefault(span.function, []).append(span)
        gap = max(s.max_gap for s in servers)
        self._tables = {function: Table(function, places, gap) for function, places in wanted.items()}
        self._movers: dict[int, Mover] = {}
        self._claimed: dict[tuple[int, int], int] = {}
        self._moved_to = -1.0
        self._seed = seed
        self.tampering: Sequence[Fault] = ()
        """Faults that the next write meets."""
        self.written: Write | None = None
        """What became of the last write."""
        for point in self._points:
            if point.scalefactor is not None:
                self._set_factor(point)
        for index, point in enumerate(self._points):
            self._add(index, point, (seed * 0.37 + index * 0.11) * PERIOD)
        self.move(0.0)

    def move(self, seconds: float) -> None:
        """Set everything that moves to its value at this time; nothing to do where it is there already."""
        if seconds == self._moved_to:
            return
        self._moved_to = seconds
        for mover in self._movers.values():
            bits = mover.bits(mover.curve(seconds))
            if bits not in mover.invalid:
                mover.slot.put(bits, mover.content)

    # -- as modbus_frames asks

    def read(self, request: modbus_frames.Request) -> bytes:
        """Serve a read; exception 02 for what is not in the file."""
        table = self._tables.get(request.function)
        if table is None or not table.holds(request.address, request.count):
            raise ExceptionResponse(request.function, ExceptionCode.ILLEGAL_DATA_ADDRESS)
        return table.read(request.address, request.count)

    def write(self, request: modbus_frames.Request) -> None:
        """Take a write; exception 02 for what is not writable by the file. What was written stays."""
        function = READS[request.function]
        table = self._tables.get(function)
        if table is None or not table.holds(request.address, request.count, to_write=True):
            self.written = Write(effect="refused", data=request.data, values=())
            raise ExceptionResponse(request.function, ExceptionCode.ILLEGAL_DATA_ADDRESS)
        data = request.data
        if request.function == modbus_frames.pdu.WRITE_SINGLE_COIL:
            data = b"\1" if data == modbus_frames.pdu.COIL_ON else b"\0"
        before = table.read(request.address, request.count)
        table.write(request.address, request.count, data)
        covered = list(self._covered(Span(function, request.address, request.address + request.count)))
        values = tuple((f"{alias}/{p.name}", self.value(p)) for alias, p in covered)
        effect = "taken"
        for fault in self.tampering:
            if fault.kind == "ignore_writes":
                table.write(request.address, request.count, before)
                effect = "ignored"
                break
            if self._tamper(fault, [p for _, p in covered if fault.means_point(p.name)]):
                effect = {"clamp_writes": "clamped", "alter_writes": "altered"}[fault.kind]
        self._hold(Span(function, request.address, request.address + request.count))
        self.written = Write(effect=effect, data=request.data, values=values)

    # -- as the orders ask

    def points(self, alias: str) -> tuple[ModbusPoint, ...]:
        """The points of one of the entries; () for another's."""
        return next((s.points for s in self.servers if s.alias == alias), ())

    def value(self, point: ModbusPoint) -> Value | None:
        """What a client that knows the file reads now, None where that is Bad."""
        reading = single(point)
        return reading.value([self._tables[r.function].read(r.address, r.count) for r in reading.requests])

    def set_value(self, point: ModbusPoint, value: Value) -> None:
        """Have a point hold a value from now on; EncodeError where it can't."""
        span = value_span(point)
        table = self._tables[span.function]
        begin, end = table.offset(span.start), table.offset(span.stop)
        table.content[begin:end] = encode(point, value, current=bytes(table.content[begin:end]),
                                          factor=self._factor(point))
        self._hold(span)

    def set_movement(self, point: ModbusPoint, movement: Movement | None) -> None:
        """Have a point move so from now on; None = as it did at the start."""
        if is_text(point):
            raise OrderError(f"{point.name}: a text does not move; set it")
        index = self._points.index(point)
        curve = (self._first_curve(index, point, index * 0.11 * PERIOD) if movement is None
                 else ordered_curve(point, movement, self._factor(point), self._seed + index))
        self._hold(value_span(point))
        self._movers[index] = self._mover(point, curve)
        moment, self._moved_to = self._moved_to, -1.0
        self.move(max(moment, 0.0))

    def _factor(self, point: ModbusPoint) -> int:
        span = factor_span(point)
        if span is None:
            return 0
        register = ModbusPoint(name="", read_function=point.read_function, address=span.start,
                               datatype=Datatype.INT16, order=point.order)
        number = self.value(register)
        return int(number) if isinstance(number, int) else 0

    def _covered(self, span: Span) -> Iterator[tuple[str, ModbusPoint]]:
        """Every point that lies whole within a span."""
        for server in self.servers:
            for point in server.points:
                its = value_span(point)
                if its.function == span.function and span.start <= its.start and its.stop <= span.stop:
                    yield server.alias, point

    def _hold(self, span: Span) -> None:
        """Nothing that has a part of this span moves any more."""
        for index, mover in list(self._movers.items()):
            its = mover.span
            if its.function == span.function and its.start < span.stop and span.start < its.stop:
                del self._movers[index]

    def _tamper(self, fault: Fault, points: Sequence[ModbusPoint]) -> bool:
        """Change what was written; whether anything is other than was asked for."""
        changed = False
        for point in points:
            value = self.value(point)
            if value is None or isinstance(value, str | bytes):
                continue
            wanted = _clamped(fault, point, value) if fault.kind == "clamp_writes" else _altered(fault, value)
            limits = number_limits(point)
            if limits is not None and not isinstance(value, bool):
                scale, factor = linear(point.scale, point.valueoffset), self._factor(point)
                ends = sorted(scale.apply(end, factor) for end in limits)
                wanted = min(max(wanted, ends[0]), ends[1])
            if wanted != value:
                try:
                    self.set_value(point, wanted)
                except EncodeError:
                    continue
                changed = True
        return changed

    # -- beginning

    def _set_factor(self, point: ModbusPoint) -> None:
        assert point.scalefactor is not None
        register = ModbusPoint(
            name="scale factor", read_function=point.read_function, address=point.scalefactor,
            datatype=Datatype.INT16, order=point.order,
        )
        if self._claim(register):
            table = self._tables[int(point.read_function)]
            Slot(register, table.offset(register.address)).put(raw_bits(register, FACTOR), table.content)

    def _add(self, index: int, point: ModbusPoint, phase: float) -> None:
        """Give a point its first value, and its curve where it moves.

        Where points share bits the first one decides, and the others read what that makes of them. What may be
        written does not move by itself, unless its file says how.
        """
        table = self._tables[int(point.read_function)]
        if point.writable:
            table.allow_writes(value_span(point))
        if not self._claim(point):
            return
        if is_text(point):
            begin = table.offset(point.address)
            table.content[begin : begin + 2 * point.registers] = text_of(point)
            return
        mover = self._mover(point, self._first_curve(index, point, phase))
        if point.writable and not point.moves:
            mover.slot.put(raw_bits(point, mover.curve(0.0)), table.content)
        else:
            self._movers[index] = mover

    def _first_curve(self, index: int, point: ModbusPoint, phase: float) -> Callable[[float], int | float]:
        """As the file says, else as the point's type and range suggest."""
        if not point.moves:
            return curve_of(point, phase)
        return ordered_curve(point, parse_movement(point.moves), self._factor(point), self._seed + index)

    def _mover(self, point: ModbusPoint, curve: Callable[[float], int | float]) -> Mover:
        table = self._tables[int(point.read_function)]
        return Mover(invalid=frozenset(point.invalid), bits=bits_function(point), content=table.content, curve=curve,
                     slot=Slot(point, table.offset(point.address)), span=value_span(point))

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


def _clamped(fault: Fault, point: ModbusPoint, value: float) -> float:
    """The value within the fault's limits, or the point's where it gives none."""
    low, high = fault.limit("low"), fault.limit("high")
    low = point.minimum if low is None else low
    high = point.maximum if high is None else high
    value = value if low is None else max(value, low)
    return value if high is None else min(value, high)


def _altered(fault: Fault, value: float) -> float:
    return not value if isinstance(value, bool) else value * fault.number("factor") + fault.number("add")
