"""Devices that are read and decoded alike, decoded together: answers lie in one matrix, a row for each device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from acquisition import Publisher
from process_image import RECORD

from modbus_tcp_client.decode import DecodePlan
from modbus_tcp_client.plan import Request

RECORD_WORDS = RECORD.itemsize // 8
BAD = np.uint32(0x80000000)
"""Qualities from here on are Bad (OPC UA Part 4, clause 7.39)."""
Records = npt.NDArray[Any]
Places = npt.NDArray[np.intp]


class Fleet:
    """`members` polls with the same decode plan; `rows[m, p]` is the row in the image of point p of member m."""

    def __init__(self, decode: DecodePlan, requests: Sequence[Request], rows: Places, publisher: Publisher) -> None:
        """Make room for the answers of all members; `requests` are those that `decode` was made for."""
        members, points = rows.shape
        self._decode = decode
        self._publisher = publisher
        self._rows = rows
        self._data = np.zeros((members, decode.width), np.uint8)
        self._received = np.zeros((members, max(1, len(requests))), np.int64)
        self._flat = self._data.reshape(-1).data
        self._times = self._received.reshape(-1).data
        self._stride = self._received.shape[1]
        self._spans = [(offset, request.data_bytes) for offset, request in zip(decode.offsets, requests, strict=True)]
        self._covered, self._request_of = _coverage(requests, points)
        self._words = publisher.records.view(np.uint64).reshape(-1, RECORD_WORDS)
        self._table = _table(publisher.records, rows)
        self._completed: list[int] = []

    def target(self, member: int, request: int) -> memoryview:
        """Where the data of a request's answer go."""
        offset, size = self._spans[request]
        start = member * self._data.shape[1] + offset
        return self._flat[start : start + size]

    def note_time(self, member: int, request: int, received: int) -> None:
        """When the answer came (ns since the Unix epoch)."""
        self._times[member * self._stride + request] = received

    def put(self, members: Places, request: int, data: npt.NDArray[np.uint8], received: int) -> None:
        """The answers of several members to the same request, a row of `data` for each."""
        offset, size = self._spans[request]
        self._data[members, offset : offset + size] = data
        self._received[members, request] = received

    def complete_many(self, members: list[int]) -> bool:
        """As `complete`, for several members."""
        self._completed += members
        return len(self._completed) == len(members)

    def complete(self, member: int) -> bool:
        """All answers of a member are there; True where it is the first that waits for `settle`."""
        self._completed.append(member)
        return len(self._completed) == 1

    def settle(self) -> None:
        """Decode what is complete into the publisher's records."""
        members, self._completed = self._completed, []
        chosen = _choice(members)
        if self._table is None:
            rows = self._rows[chosen]
            words = self._words[rows]
            self._fill(chosen, words.view(RECORD)[..., 0])
            self._words[rows] = words
        elif isinstance(chosen, slice):
            self._fill(chosen, self._table.view(RECORD)[chosen])
        else:
            words = self._table.view(np.uint64)[chosen]
            self._fill(chosen, words.view(RECORD))
            self._table.view(np.uint64)[chosen] = words
        if self._decode.text_points:
            for member in members:
                for point, text in self._decode.texts(self._data[member]):
                    self._publisher.set_text(int(self._rows[member, point]), text)

    def settle_request(self, member: int, request: int, without: frozenset[int]) -> None:
        """Decode one answer alone, where others of the same poll failed; points in `without` stay as they are."""
        points = [point for point in self._decode.completed_by(request) if point not in without]
        if not points:
            return
        rows = self._rows[member]
        words = self._words[rows]
        received = int(self._received[member, request])
        self._decode.decode_request(request, self._data[member], words.view(RECORD)[:, 0], received)
        self._words[rows[points]] = words[points]
        for point, text in self._decode.texts(self._data[member], request):
            if point not in without:
                self._publisher.set_text(int(rows[point]), text)

    def _fill(self, chosen: slice | Places, records: Records) -> None:
        data, received = self._data[chosen], self._received[chosen]
        if self._stride == 1:
            self._decode.decode(data, records, received[:, 0])
            return
        self._decode.decode(data, records)
        times = received[:, self._request_of]
        records["received_time"][:, self._covered] = times
        source = records["source_time"]
        bad = records["quality"][:, self._covered] >= BAD
        source[:, self._covered] = np.where(bad, source[:, self._covered], times) if bad.any() else times


def _coverage(requests: Sequence[Request], points: int) -> tuple[slice | Places, Places]:
    """Which points are requested at all, and with which request each of them is complete."""
    last = np.full(points, -1, np.intp)
    for number, request in enumerate(requests):
        last[list(request.points)] = number
    covered = np.flatnonzero(last >= 0)
    return (slice(0, points) if len(covered) == points else covered), last[covered]


def _choice(members: list[int]) -> slice | Places:
    """The members as a slice where they lie side by side, else as an index array."""
    first, last = min(members), max(members)
    if last - first + 1 == len(members):
        return slice(first, last + 1)
    return np.array(members, np.intp)


def _table(records: Records, rows: Places) -> Records | None:
    """A view (members, points) of the staging records where the rows lie side by side in order, else None."""
    members, points = rows.shape
    first = int(rows[0, 0]) if rows.size else 0
    if rows.size and np.array_equal(rows.reshape(-1), np.arange(first, first + rows.size)):
        return records[first : first + rows.size].reshape(members, points)
    return None
