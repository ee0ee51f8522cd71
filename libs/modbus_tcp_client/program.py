"""The second half of the decode plan: lanes become numbers, numbers become records."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from endpoint_config.models import ModbusPoint

from modbus_tcp_client.checks import Checks, bcd_number, wrong_utf8
from modbus_tcp_client.gather import F64, Bytes, Single, by_kind, runs
from modbus_tcp_client.lanes import Kind, Lane
from modbus_tcp_client.planes import Fleet, by_width

Records = npt.NDArray[Any]
"""Structured arrays with the fields of process_image.RECORD."""
Received = int | npt.NDArray[np.int64] | None
Rows = Any
"""Index of some points of all devices in (devices, points)."""
Step = tuple[np.ufunc, F64, F64]

BAD = np.uint32(0x80000000)
"""The severity bit of a Bad StatusCode (OPC UA Part 4, clause 7.39)."""
CALL_WORTH = 600
"""Numbers that may be scaled by 1 to save a numpy call."""
EXACT_AFTER = 8
"""Times that a number of devices is asked for before it gets buffers of its very size."""
MOST_EXACT = 4
"""Numbers of devices that do."""
MOST_COUNTED = 64
"""Numbers of devices whose times are counted."""


class Text(NamedTuple):
    """A string or bytes."""

    point: int
    order: npt.NDArray[np.intp]
    """Offsets of its bytes in a row."""
    is_string: bool


class Program:
    """Decodes some points of a plan."""

    def __init__(
        self,
        points: Sequence[ModbusPoint],
        lanes: Sequence[Lane],
        factors: dict[int, Lane],
        texts: Sequence[Text],
        width: int,
    ) -> None:
        """`factors` are the lanes of scale factors by the index of the point that needs them."""
        self._points = points
        self._lanes = lanes
        self._factors = factors
        self._texts = texts
        self._width = width
        self._ways: dict[bool, _Way] = {}
        """How for a fleet, how for one device."""
        self._buffers: dict[int, _Buffers] = {}
        self._exact: set[int] = set()
        self._asked: dict[int, int] = {}
        rows = sorted(x.point for x in lanes)
        some = slice(rows[0], rows[-1] + 1) if rows and len(rows) == rows[-1] + 1 - rows[0] else np.array(rows, np.intp)
        self._rows: Rows = ... if rows == list(range(len(points))) else (slice(None), some)
        self._calm = _calm_context()

    def run(self, data: Bytes, records: Records, received: Received) -> None:
        """Decode (devices, width) into (devices, points)."""
        if self._lanes and len(data):
            # A device may send signalling NaNs, or what overflows when scaled: values like others, no warnings.
            self._calm(self._run, data, records, received)
        for text in self._texts:
            quality = wrong_utf8(data, text.order) if text.is_string else None
            _stamp(records, (slice(None), [text.point]), quality, None if quality is None else quality >= BAD, received)

    def _run(self, data: Bytes, records: Records, received: Received) -> None:
        n = len(data)
        buffers = self._buffers.get(n) or self._buffers_for(n)
        way = buffers.way
        buffers.fill(data)
        quality = way.checks(buffers.raw, buffers.value)
        if way.back is not None:
            buffers.both.take(way.back, axis=1, out=buffers.final, mode="clip")
            quality = None if quality is None else quality.take(way.back, axis=0, mode="clip")
        new_values, new_raws = buffers.values, buffers.raws
        if n < buffers.devices:
            new_values, new_raws = new_values[:n], new_raws[:n]
        values, raws, rows = records["value"], records["raw"], self._rows
        quality = None if quality is None else quality.T[:n]
        bad = None if quality is None else quality >= BAD
        if bad is None or not bad.any():
            values[rows], raws[rows], bad = new_values, new_raws, None
        else:
            values[rows] = np.where(bad, values[rows], new_values)
            raws[rows] = np.where(bad, raws[rows], new_raws)
        _stamp(records, rows, quality, bad, received)

    def _buffers_for(self, devices: int) -> _Buffers:
        """Buffers of the next power of two, for making them takes many times longer than using them.

        A number that comes again and again, as a whole fleet's does, gets some of its own.
        """
        size = devices
        if devices > 1 and len(self._exact) < MOST_EXACT:
            times = self._asked[devices] = self._asked.get(devices, 0) + 1
            if times > EXACT_AFTER:
                self._exact.add(devices)
            elif len(self._asked) > MOST_COUNTED:
                self._asked.clear()
        if devices not in self._exact:
            size = 1 << (devices - 1).bit_length()
        found = self._buffers.get(size)
        if found is None:
            is_fleet = size > 1
            if is_fleet not in self._ways:
                self._ways[is_fleet] = _Way(self._points, self._lanes, self._factors, is_fleet=is_fleet)
            found = self._buffers[size] = _Buffers(self._ways[is_fleet], self._width, size)
        return found


class _Way:
    """The lanes in the order of one of the two ways, with their checks."""

    def __init__(
        self, points: Sequence[ModbusPoint], lanes: Sequence[Lane], factors: dict[int, Lane], *, is_fleet: bool
    ) -> None:
        every = [*lanes, *{x.taken: x for x in factors.values()}.values()]
        self.is_fleet = is_fleet
        self.lanes = by_width(every) if is_fleet else by_kind(every)
        self.checks = Checks(points, self.lanes, factors)
        back = sorted((i for i, x in enumerate(self.lanes) if x.point >= 0), key=lambda i: self.lanes[i].point)
        self.back = None if back == list(range(len(every))) else np.array(back, dtype=np.intp)
        """Places of the points' lanes in the order of the points; None where that is how they lie."""


class _Buffers:
    """The lanes of a number of devices, and every step on them with its views, made once."""

    def __init__(self, way: _Way, width: int, devices: int) -> None:
        self.way = way
        self.devices = devices
        lanes = way.lanes
        # Zeros and not whatever was there: where fewer devices are decoded, the rest is computed along.
        self.both = np.zeros((2, len(lanes), devices), dtype=np.uint64)
        self.raw, self.value = self.both[0], self.both[1].view(np.float64)
        self.final = self.both if way.back is None else np.empty((2, len(way.back), devices), dtype=np.uint64)
        """Raw bits and values in the order of the points."""
        self.raws, self.values = self.final[0].T, self.final[1].view(np.float64).T
        self._gather: Callable[[Bytes], None] = (
            Fleet(lanes, width, self.raw, self.value) if way.is_fleet else Single(lanes, self.raw, self.value)
        )
        self._steps: list[Step] = []
        for kind, where in runs(lanes, lambda x: x.kind):
            if kind is Kind.FLAG:
                self._steps.append((np.not_equal, np.zeros((1, 1)), self.value[where]))
        self._bcds = [
            (self.value[where], self.raw[where]) for kind, where in runs(lanes, lambda x: x.kind) if kind is Kind.BCD
        ]
        for where in _scaled_runs(lanes, devices):
            self._steps += _scaling(lanes[where], self.value[where])

    def fill(self, data: Bytes) -> None:
        """Raw bits and engineering values of all lanes."""
        self._gather(data)
        for value, raw in self._bcds:
            value[...] = bcd_number(raw)
        for step, numbers, value in self._steps:
            step(value, numbers, value)


def _scaled_runs(lanes: Sequence[Lane], devices: int) -> list[slice]:
    """Slices of lanes to be scaled; near ones are joined where that saves more than it costs."""
    runs: list[slice] = []
    for i, x in enumerate(lanes):
        if not x.scaled:
            continue
        if runs and (i - runs[-1].stop) * devices <= CALL_WORTH:
            runs[-1] = slice(runs[-1].start, i + 1)
        else:
            runs.append(slice(i, i + 1))
    return runs


def _scaling(lanes: Sequence[Lane], value: F64) -> list[Step]:
    """Multiply, add and divide a slice, as far as they do anything."""
    # -0.0 and not 0.0: adding it keeps even the sign of a zero.
    rows = [
        (x.scale.multiply, x.scale.add or -0.0, x.scale.divide) if x.scaled else (1.0, -0.0, 1.0) for x in lanes
    ]
    steps = zip((np.multiply, np.add, np.divide), (1.0, 0.0, 1.0), zip(*rows, strict=True), strict=True)
    return [
        (step, np.array(numbers).reshape(-1, 1), value)
        for step, neutral, numbers in steps
        if any(number != neutral for number in numbers)
    ]


def _stamp(
    records: Records,
    rows: Rows,
    quality: npt.NDArray[np.uint32] | None,
    bad: npt.NDArray[np.bool_] | None,
    received: Received,
) -> None:
    """Quality, and where given the times: what is Bad keeps its source time."""
    records["quality"][rows] = 0 if quality is None else quality
    if received is not None:
        times = np.asarray(received, dtype=np.int64).reshape(-1, 1)
        records["received_time"][rows] = times
        sources = records["source_time"]
        sources[rows] = times if bad is None else np.where(bad, sources[rows], times)


def _calm_context() -> Callable[..., None]:
    """What calls a function with numpy's floating-point warnings off.

    Entering a prepared context takes a tenth of the time of np.errstate, which for one device would be a sixth of
    the whole; numpy keeps the setting in a context variable from version 2 on.
    """
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        context = contextvars.copy_context()
        context.run(np.seterr, all="ignore")
        return context.run

    def calm(function: Callable[..., None], *arguments: object) -> None:
        with np.errstate(all="ignore"):
            function(*arguments)

    return calm
