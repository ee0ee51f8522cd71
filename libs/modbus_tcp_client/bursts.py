"""What is constant about the requests of a fleet on the fast path: frames to send, and how good answers begin.

As many requests as a device takes at a time make a *burst*: they are sent together, and their answers, in the same
order, are looked at together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from modbus_frames import read_request

from modbus_tcp_client.exchange import Job
from modbus_tcp_client.plan import Request

if TYPE_CHECKING:
    from modbus_tcp_client.fleet import Fleet

Bytes = npt.NDArray[np.uint8]
FRAME_BYTES = 12
"""Bytes of a read request with its MBAP header."""
HEAD_BYTES = 9
"""Bytes that an answer must begin with: MBAP header, function, byte count."""
START = 7
"""Where answers begin in an inbox, so that the registers of the first are aligned."""
ANSWER_BYTES = 260
"""At least the bytes of the longest answer (MBAP header, and the PDU of 253; Messaging Guide V1.0b, 3.1.2)."""


class Answer(NamedTuple):
    """Where the data of one answer of a burst stand in the inbox."""

    request: int
    start: int
    stop: int


class Burst(NamedTuple):
    """Requests of a fleet that are under way together."""

    fleet: Fleet
    answers: tuple[Answer, ...]

    @property
    def first(self) -> int:
        """Index of its first request."""
        return self.answers[0].request


class Bursts:
    """The bursts of all fleets side by side, a row each; those of one fleet follow each other.

    Rows have room for `depth` requests. Where a burst has fewer, its first request stands in the other places once
    more, so that nothing needs to be told apart when heads are compared.
    """

    def __init__(self, depth: int) -> None:
        """`depth` is the most requests that any device takes at a time."""
        self.depth = depth
        self.rows: list[Burst] = []
        self.frames: Bytes = np.zeros((0, depth, FRAME_BYTES), np.uint8)
        """Requests with transaction and unit 0."""
        self.heads: Bytes = np.zeros((0, depth, HEAD_BYTES), np.uint8)
        """Beginnings of good answers, likewise."""
        self.places: npt.NDArray[np.intp] = np.zeros((0, depth, HEAD_BYTES), np.intp)
        """Where these stand in an inbox."""
        self.steps: npt.NDArray[np.int64] = np.zeros((0, depth), np.int64)
        """How many transaction ids each request lies behind the last one of the burst before: 1, 2, ..."""
        self.counts = np.zeros(0, np.int64)
        """Requests."""
        self.sizes = np.zeros(0, np.intp)
        """Bytes of the good answers together."""
        self.several = False
        """Whether any fleet has more than one burst."""
        self._row_of: dict[tuple[Fleet, int], tuple[int, int]] = {}

    def rows_of(self, fleet: Fleet, requests: Sequence[Request], at_a_time: int) -> tuple[int, int]:
        """First row and number of rows of a fleet that takes so many requests; entered where it is new."""
        length = min(at_a_time, self.depth)
        key = fleet, length
        if key not in self._row_of:
            numbers = range(len(requests))
            parts = [numbers[start : start + length] for start in range(0, len(numbers), length)]
            self._row_of[key] = len(self.rows), len(parts)
            self.several = self.several or len(parts) > 1
            for part in parts:
                self._enter(fleet, requests, part)
        return self._row_of[key]

    def _enter(self, fleet: Fleet, requests: Sequence[Request], part: range) -> None:
        chosen = [requests[number] for number in part]
        jobs = [Job(unit=0, pdu=read_request(r.function, r.address, r.count)) for r in chosen]
        ends = np.cumsum([START, *(job.size for job in jobs)])
        begins = [int(begin) + HEAD_BYTES for begin in ends[:-1]]
        self.rows.append(Burst(fleet, tuple(
            Answer(number, begin, begin + request.data_bytes)
            for number, begin, request in zip(part, begins, chosen, strict=True)
        )))
        order = [*range(len(jobs)), *[0] * (self.depth - len(jobs))]
        self.frames = np.concatenate([self.frames, _bytes([bytes(jobs[k].frame) for k in order])])
        self.heads = np.concatenate([self.heads, _bytes([b"\0\0" + jobs[k].tail for k in order])])
        places = np.array([ends[k] + np.arange(HEAD_BYTES) for k in order], np.intp)
        self.places = np.concatenate([self.places, places[None]])
        self.steps = np.concatenate([self.steps, np.array([[k + 1 for k in order]], np.int64)])
        self.counts = np.append(self.counts, len(jobs))
        self.sizes = np.append(self.sizes, ends[-1] - START)


def _bytes(rows: Sequence[bytes]) -> Bytes:
    """A table (1, rows, bytes)."""
    return np.frombuffer(b"".join(rows), np.uint8).reshape(1, len(rows), -1)
