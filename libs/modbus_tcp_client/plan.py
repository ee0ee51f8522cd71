"""The read plan: from points to the fewest legal requests. Pure: no device, no clock, no state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import modbus_frames
from endpoint_config.models import ModbusPoint, ReadFunction

MAX_BITS = modbus_frames.pdu.MAX_READ_BITS
MAX_REGISTERS = modbus_frames.pdu.MAX_READ_REGISTERS
BITS_PER_REGISTER = 16
"""A device's limit in registers is taken for bits too: they fill the same bytes."""


class PlanError(ValueError):
    """A point that no legal request can read whole."""


class Span(NamedTuple):
    """What must be read in one piece: a value, or a scale factor."""

    function: int
    """Function code, 1 to 4."""
    start: int
    """First bit or register."""
    stop: int
    """One past the last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One read."""

    function: int
    """Function code, 1 to 4."""
    address: int
    """First bit or register, 0 to 65535."""
    count: int
    """Bits or registers."""
    points: tuple[int, ...]
    """Indices of the points that need it, for their value or for their scale factor: all are Bad when it fails."""

    @property
    def stop(self) -> int:
        """One past the last bit or register."""
        return self.address + self.count

    @property
    def data_bytes(self) -> int:
        """Bytes of data in the answer."""
        return modbus_frames.data_bytes(self.function, self.count)

    def holds(self, span: Span) -> bool:
        """Whether the answer carries the whole span."""
        return self.function == span.function and self.address <= span.start and span.stop <= self.stop


def value_span(point: ModbusPoint) -> Span:
    """Where a point's value stands."""
    return Span(int(point.read_function), point.address, point.address + point.registers)


def factor_span(point: ModbusPoint) -> Span | None:
    """Where a point's scale factor stands, None without one."""
    if point.scalefactor is None:
        return None
    return Span(int(point.read_function), point.scalefactor, point.scalefactor + 1)


def spans(point: ModbusPoint) -> tuple[Span, ...]:
    """All that must be read for a point."""
    factor = factor_span(point)
    return (value_span(point),) if factor is None else (value_span(point), factor)


def request_limit(function: int, max_registers: int) -> int:
    """Most bits or registers in one request of `function` to a device that takes `max_registers`."""
    if ReadFunction(function).is_bits:
        return min(MAX_BITS, max_registers * BITS_PER_REGISTER)
    return min(MAX_REGISTERS, max_registers)


def plan(points: Sequence[ModbusPoint], *, max_registers: int = MAX_REGISTERS, max_gap: int = 0) -> tuple[Request, ...]:
    """The fewest requests that read every point, by function and address.

    No value is cut in two, no request is longer than 125 registers or 2000 bits or the device's `max_registers`,
    and between wanted registers (or bits) at most `max_gap` unwanted ones are read. PlanError names a point that
    is longer than a request may be.

    Why taking the longest request from the lowest span not yet read gives the fewest: whichever request reads that
    span can be moved to begin with it, and then losing length can only lose spans.
    """
    if max_registers < 1 or max_gap < 0:
        raise ValueError(f"max_registers {max_registers}, max_gap {max_gap}; at least 1 and 0 are allowed")
    wanted: dict[Span, list[int]] = {}
    for index, point in enumerate(points):
        for span in spans(point):
            limit = request_limit(span.function, max_registers)
            if span.stop - span.start > limit:
                raise PlanError(
                    f"{point.name}: spans {span.stop - span.start} registers, more than one request of {limit} can read"
                )
            wanted.setdefault(span, []).append(index)
    requests: list[Request] = []
    for run in _runs(sorted(wanted), max_gap):
        left = run
        while left:
            edge = left[0].start + request_limit(left[0].function, max_registers)
            requests.append(_request([s for s in left if s.stop <= edge], wanted))
            left = [s for s in left if s.stop > edge]
    return tuple(requests)


def split(request: Request, points: Sequence[ModbusPoint]) -> tuple[Request, ...]:
    """Smaller requests for the same points, for a request that a device refused (exception 2).

    Where it reads unwanted registers it is cut at every one of these gaps, for they are the likely culprits; else in
    the middle. () where it reads one value alone and can't be cut.
    """
    wanted: dict[Span, list[int]] = {}
    for index in request.points:
        for span in spans(points[index]):
            if request.holds(span):
                wanted.setdefault(span, []).append(index)
    ordered = sorted(wanted)
    runs = list(_runs(ordered, 0))
    if len(runs) > 1:
        return tuple(_request(run, wanted) for run in runs)
    if len(ordered) < 2:
        return ()
    middle = len(ordered) // 2
    parts = _request(ordered[:middle], wanted), _request(ordered[middle:], wanted)
    # A point whose scale factor is a part of its value would be cut for ever.
    return () if request in parts else parts


def _runs(ordered: Sequence[Span], max_gap: int) -> Iterable[list[Span]]:
    """Cut sorted spans where the function changes or more than `max_gap` unwanted places lie between."""
    run: list[Span] = []
    edge = 0
    for span in ordered:
        if run and (span.function != run[0].function or span.start - edge > max_gap):
            yield run
            run = []
        edge = max(edge, span.stop) if run else span.stop
        run.append(span)
    if run:
        yield run


def _request(run: Sequence[Span], wanted: dict[Span, list[int]]) -> Request:
    """The request that reads exactly from the first to the last place of the spans."""
    start = min(s.start for s in run)
    members = sorted({index for span in run for index in wanted[span]})
    return Request(
        function=run[0].function, address=start, count=max(s.stop for s in run) - start, points=tuple(members)
    )
