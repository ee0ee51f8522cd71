"""The second half of the decode plan: lanes become numbers, numbers become records."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from endpoint_config.models import ModbusPoint

from modbus_tcp_client.checks import Checks, bcd_number, wrong_utf8
from modbus_tcp_client.gather import BIG_ENDIAN, Bytes, gatherer
from modbus_tcp_client.lanes import Kind, Lane

Records = npt.NDArray[Any]
"""Structured arrays with the fields of process_image.RECORD."""
Received = int | npt.NDArray[np.int64] | None
U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]
Step = tuple[np.ufunc, F64, F64]

BAD = np.uint32(0x80000000)
"""The severity bit of a Bad StatusCode (OPC UA Part 4, clause 7.39)."""
CALL_WORTH = 400
"""Numbers that may be scaled by 1 to save a numpy call."""
KEPT_BUFFERS = 4
"""Numbers of devices for which buffers are kept."""


class Text(NamedTuple):
    """A string or bytes."""

    point: int
    order: npt.NDArray[np.intp]
    """Offsets of its bytes in a row."""
    is_string: bool


class Program:
    """Decodes some points of a plan.

    The lanes are sorted so that each step is one numpy call on a slice: by kind, within it unscaled before scaled,
    but for the last kind the other way round, so that the scaled integers of both signs meet. Scale factors, which
    are no points, come last.
    """

    def __init__(
        self,
        points: Sequence[ModbusPoint],
        lanes: Sequence[Lane],
        factors: dict[int, Lane],
        texts: Sequence[Text],
        width: int,
    ) -> None:
        ordered = sorted(lanes, key=lambda x: (x.kind, x.scaled ^ (x.kind is Kind.SIGNED), x.width, x.point))
        unique = sorted({x.taken: x for x in factors.values()}.values(), key=lambda x: x.taken)
        self._lanes = ordered + unique
        self._n = len(ordered)
        self._width = width
        self._texts = texts
        self._checks = Checks(points, ordered, factors, unique)
        self._buffers: dict[int, _Buffers] = {}
        # Where the lanes go: back to the order of the points.
        back = sorted(range(self._n), key=lambda i: ordered[i].point)
        rows = [ordered[i].point for i in back]
        self._back = None if back == list(range(self._n)) else np.array(back, dtype=np.intp)
        solid = bool(rows) and rows == list(range(rows[0], rows[0] + len(rows)))
        self._rows = slice(rows[0], rows[-1] + 1) if solid else np.array(rows, dtype=np.intp)
        self._calm = _calm_context()

    def run(self, data: Bytes, records: Records, received: Received) -> None:
        """Decode (devices, width) into (devices, points)."""
        if self._n and len(data):
            # A device may send signalling NaNs, or what overflows when scaled: values like others, no warnings.
            self._calm(self._run, data, records, received)
        for text in self._texts:
            quality = wrong_utf8(data, text.order) if text.is_string else None
            _stamp(records, np.array([text.point]), quality, None if quality is None else quality >= BAD, received)

    def _run(self, data: Bytes, records: Records, received: Received) -> None:
        buffers = self._buffers.get(len(data))
        if buffers is None:
            buffers = self._make_buffers(len(data))
        buffers.fill(data)
        quality = self._checks(buffers.raw, buffers.value)
        raw, value, back = buffers.raw, buffers.value, self._back
        if back is not None:
            value = value.take(back, axis=0, out=buffers.sorted_value, mode="clip")
            raw = raw.take(back, axis=0, out=buffers.sorted_raw, mode="clip")
            quality = None if quality is None else quality.take(back, axis=0, mode="clip")
        else:
            raw, value = raw[: self._n], value[: self._n]
        values, raws, rows = records["value"], records["raw"], self._rows
        bad = None if quality is None else quality.T >= BAD
        if bad is None or not bad.any():
            values[:, rows], raws[:, rows], bad = value.T, raw.T, None
        else:
            values[:, rows] = np.where(bad, values[:, rows], value.T)
            raws[:, rows] = np.where(bad, raws[:, rows], raw.T)
        _stamp(records, rows, None if quality is None else quality.T, bad, received)

    def _make_buffers(self, devices: int) -> _Buffers:
        if len(self._buffers) >= KEPT_BUFFERS:
            del self._buffers[next(iter(self._buffers))]
        buffers = self._buffers[devices] = _Buffers(self._lanes, self._n, self._width, devices)
        return buffers


class _Buffers:
    """The lanes of a number of devices, and every step on them with its views, made once."""

    def __init__(self, lanes: Sequence[Lane], numbers: int, width: int, devices: int) -> None:
        self.raw = np.empty((len(lanes), devices), dtype=np.uint64)
        self.value = np.empty((len(lanes), devices))
        self.sorted_raw = np.empty((numbers, devices), dtype=np.uint64)
        self.sorted_value = np.empty((numbers, devices))
        self._gather = gatherer(lanes, width, self.raw)
        self._copies: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
        self._steps: list[Step] = []
        self._bcd: tuple[F64, U64] | None = None
        for group, members in groupby(range(len(lanes)), key=lambda i: _as_number(lanes[i].kind)):
            places = list(members)
            value, raw = self.value[places[0] : places[-1] + 1], self.raw[places[0] : places[-1] + 1]
            self._copies.append((value, _views(raw, group)))
        for kind, members in groupby(range(len(lanes)), key=lambda i: lanes[i].kind):
            places = list(members)
            value, raw = self.value[places[0] : places[-1] + 1], self.raw[places[0] : places[-1] + 1]
            if kind is Kind.BCD:
                self._bcd = value, raw
            elif kind is Kind.FLAG:
                self._steps.append((np.not_equal, np.zeros((1, 1)), value))
        for run in _scaled_runs(lanes, devices):
            self._steps += _scaling(lanes[run], self.value[run])

    def fill(self, data: Bytes) -> None:
        """Raw bits and engineering values of all lanes."""
        self._gather(data)
        for to, source in self._copies:
            to[...] = source
        if self._bcd is not None:
            self._bcd[0][...] = bcd_number(self._bcd[1])
        for step, numbers, value in self._steps:
            step(value, numbers, value)


def _as_number(kind: Kind) -> np.dtype[Any]:
    """What the bits of a kind are before they become float64."""
    types = {Kind.FLOAT16: np.float16, Kind.FLOAT32: np.float32, Kind.FLOAT64: np.float64, Kind.SIGNED: np.int64}
    return np.dtype(types.get(kind, np.uint64))


def _views(raw: U64, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Lanes seen as numbers of a type that fills their lower bits."""
    parts = 8 // dtype.itemsize
    return raw.view(dtype)[:, parts - 1 if BIG_ENDIAN else 0 :: parts]


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
    rows: slice | npt.NDArray[np.intp],
    quality: npt.NDArray[np.uint32] | None,
    bad: npt.NDArray[np.bool_] | None,
    received: Received,
) -> None:
    """Quality, and where given the times: what is Bad keeps its source time."""
    records["quality"][:, rows] = 0 if quality is None else quality
    if received is not None:
        times = np.asarray(received, dtype=np.int64).reshape(-1, 1)
        records["received_time"][:, rows] = times
        sources = records["source_time"]
        sources[:, rows] = times if bad is None else np.where(bad, sources[:, rows], times)


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
