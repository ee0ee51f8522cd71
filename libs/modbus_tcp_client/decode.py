"""The decode plan: bytes of the answers to records, for one device or a fleet of equal ones, built once.

Two ways lead to the same lanes of 64 bits, one lane a value. One device: a single gather of bytes, then shifts; what
counts there is the number of numpy calls. A fleet: the data is turned so that a register of all devices lies side by
side, and registers are put together plane by plane; what counts there is the bytes moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from endpoint_config.models import Datatype, ModbusPoint

from modbus_tcp_client.checks import Checks
from modbus_tcp_client.gather import BIG_ENDIAN, Gather, Planes
from modbus_tcp_client.lanes import Kind, Lane, factor_lane, find, home, lane, text_bytes
from modbus_tcp_client.plan import Request, factor_span, value_span
from modbus_tcp_client.points import effective_datatype, is_text

U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]
Records = npt.NDArray[Any]
"""Structured arrays with the fields of process_image.RECORD."""

BAD = np.uint32(0x80000000)
"""The severity bit of a Bad StatusCode (OPC UA Part 4, clause 7.39)."""


class DecodePlan:
    """Decodes all answers of one poll; devices with equal points and requests can share one.

    A device's data is one row of `width` bytes: the data of each request's answer from `offsets[i]` on (each begins
    at an even offset). Points that no request covers are left alone, so that a plan can be built without a
    quarantined register. Not to be shared between threads.

    A point with a scale factor in another request than its value needs both: it is decoded with the later of them,
    and it stands in `Request.points` of both. So failures are to be applied to the records after the poll's
    successes.
    """

    def __init__(self, points: Sequence[ModbusPoint], requests: Sequence[Request]) -> None:
        self.points = tuple(points)
        self.requests = tuple(requests)
        offsets: list[int] = []
        end = 0
        for request in self.requests:
            offsets.append(end)
            end += request.data_bytes + request.data_bytes % 2
        self.offsets = tuple(offsets)
        """Byte at which each request's data begins in a row."""
        self.width = end
        """Bytes of a row."""
        homes = [home(p, self.requests, self.offsets) for p in self.points]
        self._homes = tuple(
            tuple(i for i, h in enumerate(homes) if h == number) for number in range(len(self.requests))
        )
        self.text_points = tuple(i for i, p in enumerate(self.points) if homes[i] is not None and is_text(p))
        """Indices of the points whose value is a string or bytes."""
        self._texts = tuple(self._text(i) for i in self.text_points)
        self._whole = self._program(tuple(i for i, h in enumerate(homes) if h is not None))
        self._parts: dict[int, _Program] = {}

    def decode(
        self, data: npt.NDArray[np.uint8], records: Records, received: int | npt.NDArray[np.int64] | None = None
    ) -> None:
        """Decode rows of data (devices, width) into records (devices, points).

        Sets value, raw and quality (Good, BadSensorFailure, BadDecodingError, UncertainEngineeringUnitsExceeded) of
        every covered point. With `received` (ns since the Unix epoch, one number or one for each device) the
        received time too, and the source time of what is not Bad. What is Bad keeps value, raw and source time.
        """
        self._whole.run(data, records, received)

    def decode_request(
        self, number: int, data_row: npt.NDArray[np.uint8], records_row: Records, received: int | None = None
    ) -> None:
        """The same for the points that are complete with one request's answer: a whole row, the device's records."""
        part = self._parts.get(number)
        if part is None:
            part = self._parts[number] = self._program(self._homes[number])
        part.run(data_row.reshape(1, -1), records_row.reshape(1, -1), received)

    def completed_by(self, number: int) -> tuple[int, ...]:
        """Indices of the points that `decode_request` of this request decodes."""
        return self._homes[number]

    def texts(self, data_row: npt.NDArray[np.uint8], number: int | None = None) -> list[tuple[int, str | bytes]]:
        """Texts of one row, all or those of one request, as (point index, value).

        A string ends at its first NUL; one that is no UTF-8 is left out (its quality is BadDecodingError).
        """
        values: list[tuple[int, str | bytes]] = []
        for index, order, is_string in self._texts:
            if number is not None and index not in self._homes[number]:
                continue
            content = data_row[order].tobytes()
            if not is_string:
                values.append((index, content))
                continue
            try:
                values.append((index, content.partition(b"\0")[0].decode()))
            except UnicodeDecodeError:
                continue
        return values

    def _text(self, index: int) -> tuple[int, npt.NDArray[np.intp], bool]:
        point = self.points[index]
        found = find(value_span(point), self.requests, self.offsets)
        assert found is not None
        order = np.array(text_bytes(point, found[1]), dtype=np.intp)
        return index, order, effective_datatype(point) is Datatype.STRING

    def _program(self, indices: Sequence[int]) -> _Program:
        """Compile the covered points with these indices."""
        lanes: list[Lane] = []
        factors: dict[int, Lane] = {}
        for index in indices:
            point = self.points[index]
            found = find(value_span(point), self.requests, self.offsets)
            if found is None or is_text(point):
                continue
            lanes.append(lane(index, point, found[1], found[2]))
            factor = factor_span(point)
            where = None if factor is None else find(factor, self.requests, self.offsets)
            if where is not None:
                factors[index] = factor_lane(point, where[1])
        wanted = set(indices)
        return _Program(self.points, lanes, factors, [t for t in self._texts if t[0] in wanted])


class _Program:
    """The lanes of some points, sorted so that each step is one numpy call on a slice.

    Order: by kind, and within it unscaled before scaled, but the last kind the other way round: so the scaled
    integers of both signs meet in one slice. Scale factors come last.
    """

    def __init__(
        self,
        points: Sequence[ModbusPoint],
        lanes: list[Lane],
        factors: dict[int, Lane],
        texts: list[tuple[int, npt.NDArray[np.intp], bool]],
    ) -> None:
        lanes = sorted(lanes, key=lambda x: (x.kind, x.scaled ^ (x.kind is Kind.SIGNED), x.width, x.point))
        unique = sorted({x.taken: x for x in factors.values()}.values(), key=lambda x: x.taken)
        every = lanes + unique
        self._n = len(lanes)
        self._texts = texts
        ends = [sum(x.kind <= kind for x in every) for kind in Kind]
        self._kinds = [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]
        self._bounds = (self._kinds[Kind.BITS].start, self._kinds[Kind.SIGNED].start, len(every))
        self._gather = Gather(every, self._bounds[1], self._kinds[Kind.BITS])
        self._planes = Planes(every, self._kinds[Kind.BITS])
        self._set_scale(lanes)
        self._checks = Checks(points, lanes, factors, unique)
        # Where the lanes go: back to the order of the points.
        order = sorted(range(self._n), key=lambda i: lanes[i].point)
        rows = [lanes[i].point for i in order]
        self._back = None if order == list(range(self._n)) else np.array(order, dtype=np.intp)
        solid = rows == list(range(rows[0], rows[0] + len(rows))) if rows else True
        self._rows: slice | npt.NDArray[np.intp] = (
            slice(rows[0], rows[0] + len(rows)) if rows and solid else np.array(rows, dtype=np.intp)
        )

    def _set_scale(self, lanes: list[Lane]) -> None:
        """One slice over everything that is scaled; what lies between gets a scale that changes nothing."""
        places = [i for i, x in enumerate(lanes) if x.scaled]
        self._scaled = slice(min(places), max(places) + 1) if places else slice(0, 0)
        # -0.0 and not 0.0: adding it keeps even the sign of a zero.
        columns = [
            (x.scale.multiply, x.scale.add or -0.0, x.scale.divide) if x.scaled else (1.0, -0.0, 1.0)
            for x in lanes[self._scaled]
        ]
        steps = zip((np.multiply, np.add, np.divide), (1.0, 0.0, 1.0), range(3), strict=True)
        self._steps = [
            (step, np.array([c[i] for c in columns]).reshape(-1, 1))
            for step, neutral, i in steps
            if any(c[i] != neutral for c in columns)
        ]

    def run(
        self, data: npt.NDArray[np.uint8], records: Records, received: int | npt.NDArray[np.int64] | None
    ) -> None:
        """Decode (devices, width) into (devices, points)."""
        if self._n:
            raw = self._gather(data) if len(data) == 1 else self._planes(data)
            # A device may send signalling NaNs, or what overflows when scaled: values like others, no warnings.
            with np.errstate(all="ignore"):
                value = self._numbers(raw)
                quality = self._checks(raw, value)
            self._store(records, self._rows, (raw[: self._n], value[: self._n], quality), received)
        for index, order, is_string in self._texts:
            text_quality = self._checks.text(data, order) if is_string else None
            self._store(records, np.array([index], dtype=np.intp), (None, None, text_quality), received, back=False)

    def _numbers(self, raw: U64) -> F64:
        """Raw bits to engineering values, all lanes."""
        value = np.empty(raw.shape)
        integers, signed, end = self._bounds
        if signed > integers:
            value[integers:signed] = raw[integers:signed]
        if end > signed:
            value[signed:] = raw[signed:].view(np.int64)
        for kind, dtype, parts in ((Kind.FLOAT16, np.float16, 4), (Kind.FLOAT32, np.float32, 2)):
            where = self._kinds[kind]
            if where.stop > where.start:
                value[where] = raw[where].view(dtype)[:, parts - 1 if BIG_ENDIAN else 0 :: parts]
        where = self._kinds[Kind.FLOAT64]
        if where.stop > where.start:
            value[where] = raw[where].view(np.float64)
        where = self._kinds[Kind.FLAG]
        if where.stop > where.start:
            value[where] = raw[where] != 0
        where = self._kinds[Kind.BCD]
        if where.stop > where.start:
            value[where] = self._checks.bcd(raw[where])
        if self._steps:
            scaled = value[self._scaled]
            for step, numbers in self._steps:
                step(scaled, numbers, out=scaled)
        return value

    def _store(
        self,
        records: Records,
        rows: slice | npt.NDArray[np.intp],
        columns: tuple[U64 | None, F64 | None, npt.NDArray[np.uint32] | None],
        received: int | npt.NDArray[np.int64] | None,
        back: bool = True,
    ) -> None:
        """Write lanes (points, devices) into the fields of the records (devices, points)."""
        raw, value, quality = columns
        if quality is not None and back and self._back is not None:
            quality = quality.take(self._back, axis=0, mode="clip")
        bad = None if quality is None else (quality.T >= BAD)
        if bad is not None and not bad.any():
            bad = None
        for name, column in (("value", value), ("raw", raw)):
            if column is not None:
                new = column.T if self._back is None else column.take(self._back, axis=0, mode="clip").T
                field = records[name]
                field[:, rows] = new if bad is None else np.where(bad, field[:, rows], new)
        records["quality"][:, rows] = 0 if quality is None else quality.T
        if received is not None:
            times = np.asarray(received, dtype=np.int64).reshape(-1, 1)
            records["received_time"][:, rows] = times
            field = records["source_time"]
            field[:, rows] = times if bad is None else np.where(bad, field[:, rows], times)
