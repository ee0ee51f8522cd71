"""The decode plan: bytes of the answers to records, for one device or a fleet of equal ones, built once.

`lanes` finds the bytes of each value, `gather` brings them into lanes of 64 bits, one lane a value, `program` makes
numbers and records of the lanes, and `checks` says what is not Good.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from endpoint_config.models import Datatype, ModbusPoint

from modbus_tcp_client.lanes import Lane, factor_lane, find, home, lane, text_bytes
from modbus_tcp_client.plan import Request, factor_span, value_span
from modbus_tcp_client.points import effective_datatype, is_text
from modbus_tcp_client.program import Program, Records, Text


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
        self._parts: dict[int, Program] = {}

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

    def _text(self, index: int) -> Text:
        point = self.points[index]
        found = find(value_span(point), self.requests, self.offsets)
        assert found is not None
        order = np.array(text_bytes(point, found[1]), dtype=np.intp)
        return Text(index, order, effective_datatype(point) is Datatype.STRING)

    def _program(self, indices: Sequence[int]) -> Program:
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
        return Program(self.points, lanes, factors, [t for t in self._texts if t.point in wanted], self.width)
