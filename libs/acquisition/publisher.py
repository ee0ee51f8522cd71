"""Between the poll loops and the segments: one staging area, any number of audiences, one wake for each turn.

A value's way is one line: a producer fills `records` (and texts), touches the block, and `flush` publishes every
touched block to every writer. Nothing that a consumer does can be seen here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from process_image import RECORD, Block, Point, Writer, arrange
from process_image.quality import BAD_WAITING_FOR_INITIAL_DATA, GOOD

from acquisition.status import DeviceStatus, service_numbers

HEARTBEAT_SECONDS = 0.25
"""Longest time between two calls of `flush`; each segment's heartbeat is written at this rate."""
STATUS_SECONDS = 1.0
"""System points go out at this rate; a change of `$connected` or `$last_error` goes out at once."""
STATUS_TURNS = 20
"""Parts into which the devices are divided for that; each part takes its turn within the second."""
STATUS_TURN_NS = int(STATUS_SECONDS * 1e9) // STATUS_TURNS
NEVER_STALE_NS = 10**18
"""Thirty years."""
RECORD_WORDS = RECORD.itemsize // 8

Rows = slice | npt.NDArray[np.intp] | Sequence[int]


class Publisher:
    """The staging records of one service and the writers that they go to; used by one thread."""

    def __init__(self, points: Sequence[Point], writers: Sequence[Writer], semaphores: Sequence[Any] = ()) -> None:
        """Match `points` with the points of each writer; a writer may hold a part of them (an audience).

        Raises ValueError where a writer holds a point that is not among `points`.
        """
        self.points, self.blocks = arrange(points)
        for writer, semaphore in zip(writers, semaphores, strict=False):
            writer.semaphore = semaphore
        whole = next((w for w in writers if tuple(w.points) == self.points), None)
        self.index: Mapping[str, int] = (
            whole.index if whole is not None else {point.full_name: row for row, point in enumerate(self.points)}
        )
        self.records = whole.records if whole is not None else np.zeros(len(self.points), RECORD)
        self.records["quality"] = BAD_WAITING_FOR_INITIAL_DATA
        self._outlets = [_Outlet(self, writer, shared=writer is whole) for writer in writers]
        self._block_of = {self._block_key(block): block for block in self.blocks}
        self._touched: dict[int, int] = {}
        system = [block for block in self.blocks if self.points[block.start].is_system]
        self._system = [block for block in system if block.device and not block.scan_class]
        self._told = {
            self.points[row].full_name: (row, block.index) for block in system if block.device and block.scan_class
            for row in range(block.start, block.start + block.count)
        }
        self._service = next((block for block in system if not block.device), None)
        self._statuses = {block.device: DeviceStatus(on_urgent=self._mark_urgent(block)) for block in self._system}
        self._urgent: dict[str, Block] = {block.device: block for block in self._system}
        self._next_status = self._next_heartbeat = self._status_turn = 0
        self._staged_errors: dict[int, str] = {}
        self._raw_is_float = np.array([p.type == "float64" for p in self.points])

    def block(self, device: str, scan_class: float) -> Block:
        """The block of a device's own points in one scan class; KeyError where there is none."""
        return self._block_of[(device, scan_class, False)]

    def status(self, alias: str) -> DeviceStatus:
        """Counters and state of a device that has system points; KeyError for others."""
        return self._statuses[alias]

    def set_text(self, row: int, text: str | bytes) -> None:
        """Stage the value of a string or bytes point."""
        for outlet in self._outlets:
            outlet.set_text(row, text)

    def tell(self, alias: str, name: str, text: str) -> None:
        """Publish what is known of a device once it is connected, where it has such a point (`$identity`, `$tls`).

        It never becomes stale.
        """
        row, block = self._told.get(f"{alias}/{name}", (-1, -1))
        if row >= 0:
            record = self.records[row]
            record["quality"] = GOOD
            record["received_time"] = record["source_time"] = time.time_ns()
            self.set_text(row, text)
            self._touched[block] = time.monotonic_ns() + NEVER_STALE_NS

    def fail(self, rows: Rows, quality: int, received_ns: int) -> None:
        """Give rows a bad quality; value, raw and source time keep the last good ones."""
        self.records["quality"][rows] = quality
        self.records["received_time"][rows] = received_ns

    def touch(self, block: int, next_due_ns: int) -> None:
        """Have a block published by the next flush; it counts as stale a grace after `next_due_ns` (monotonic)."""
        self._touched[block] = next_due_ns

    def touch_all(self, blocks: Sequence[int], next_due_ns: Sequence[int]) -> None:
        """As `touch`, for many blocks."""
        self._touched.update(zip(blocks, next_due_ns, strict=True))

    def flush(self) -> int:
        """Publish what was touched, heartbeat when due, wake waiting readers once; returns the number of blocks."""
        now = time.monotonic_ns()
        self._stage_status(now)
        count = len(self._touched)
        if self._touched:
            blocks = np.fromiter(self._touched.keys(), np.intp, count)
            due = np.fromiter(self._touched.values(), np.int64, count)
            self._touched.clear()
            for outlet in self._outlets:
                outlet.publish(blocks, due)
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + int(HEARTBEAT_SECONDS * 0.9e9)
            for outlet in self._outlets:
                outlet.writer.heartbeat()
        elif not count:
            for outlet in self._outlets:
                outlet.catch_up()
        return count

    @property
    def pending_wake(self) -> bool:
        """Whether a wake was held back (at most one a millisecond): flush again in a millisecond, not at leisure."""
        return any(outlet.writer.pending_wake for outlet in self._outlets)

    def _block_key(self, block: Block) -> tuple[str, float, bool]:
        return block.device, block.scan_class, self.points[block.start].is_system

    def _mark_urgent(self, block: Block) -> Any:
        def mark() -> None:
            self._urgent[block.device] = block
        return mark

    def _stage_status(self, now: int) -> None:
        """Write the system points that are due: each device's every STATUS_SECONDS, the urgent ones at once.

        The devices take turns, so that a thousand of them do not hold the poll loop up all at once.
        """
        turns = min(STATUS_TURNS, (now - self._next_status) // STATUS_TURN_NS + 1)
        if turns > 0:
            late = now - self._next_status > STATUS_SECONDS * 1e9
            self._next_status = (now if late else self._next_status + (turns - 1) * STATUS_TURN_NS) + STATUS_TURN_NS
            for _ in range(turns):
                self._stage_some(self._system[self._status_turn :: STATUS_TURNS], now)
                if not self._status_turn:
                    self._stage_service(now)
                self._status_turn = (self._status_turn + 1) % STATUS_TURNS
        if self._urgent:
            self._stage_some(list(self._urgent.values()), now)
            self._urgent.clear()

    def _stage_service(self, now: int) -> None:
        """Have the points of the service published; their numbers are each writer's own."""
        block = self._service
        if block is None:
            return
        rows = self.records[block.start : block.start + block.count]
        rows["quality"] = GOOD
        rows["received_time"] = rows["source_time"] = time.time_ns()
        self._touched[block.index] = now + int(2 * STATUS_SECONDS * 1e9)

    def _stage_some(self, blocks: Sequence[Block], now: int) -> None:
        """Write the system points of some devices; their blocks begin alike, and some have extra points behind."""
        if not blocks:
            return
        statuses = [self._statuses[block.device] for block in blocks]
        numbers = np.array([status.numbers() for status in statuses])
        starts = np.array([block.start for block in blocks])
        rows = starts[:, None] + np.arange(numbers.shape[1])
        floats = self._raw_is_float[rows]
        self.records["value"][rows] = numbers
        self.records["raw"][rows] = np.where(floats, numbers.view(np.uint64), numbers.astype(np.uint64))
        whole = starts[:, None] + np.arange(numbers.shape[1] + 1)
        self.records["quality"][whole] = GOOD
        self.records["received_time"][whole] = self.records["source_time"][whole] = time.time_ns()
        for block, status in zip(blocks, statuses, strict=True):
            if self._staged_errors.get(block.index) != status.last_error:
                self._staged_errors[block.index] = status.last_error
                self.set_text(block.start + numbers.shape[1], status.last_error)
            if block.count > whole.shape[1]:
                self._stage_own(slice(block.start + whole.shape[1], block.start + block.count), status.own)
            self._touched[block.index] = now + 2 * int(STATUS_SECONDS * 1e9)


    def _stage_own(self, rows: slice, values: Sequence[float]) -> None:
        """Write the system points that only this device has; one without a value yet stays as it is."""
        part = self.records[rows][: len(values)]
        numbers = np.array(values, np.float64)
        floats = self._raw_is_float[rows][: len(values)]
        part["value"] = numbers
        part["raw"] = np.where(floats, numbers.view(np.uint64), np.maximum(numbers, 0).astype(np.uint64))
        part["quality"] = GOOD
        part["received_time"] = part["source_time"] = time.time_ns()


class _Outlet:
    """One writer and which rows and blocks of the staging area it takes."""

    def __init__(self, publisher: Publisher, writer: Writer, *, shared: bool) -> None:
        self.writer = writer
        self._shared = shared
        self._source = publisher.records.view(np.uint64).reshape(-1, RECORD_WORDS)
        self._target = writer.records.view(np.uint64).reshape(-1, RECORD_WORDS)
        unknown = [p.full_name for p in writer.points if p.full_name not in publisher.index]
        if unknown:
            raise ValueError(f"{writer.name}: point {unknown[0]!r} is not acquired by this service")
        self._rows = np.array([publisher.index[p.full_name] for p in writer.points], np.intp)
        self._place_of = np.full(len(publisher.points), -1, np.intp)
        self._place_of[self._rows] = np.arange(len(self._rows))
        self._block_of = np.full(len(publisher.blocks), -1, np.intp)
        owner = np.empty(len(publisher.points), np.intp)
        for block in publisher.blocks:
            owner[block.start : block.start + block.count] = block.index
        for block in writer.blocks:
            self._block_of[owner[self._rows[block.start]]] = block.index
        self._spans = [slice(b.start, b.start + b.count) for b in writer.blocks]
        self._service = next(
            (s for s in self._spans if not writer.points[s.start].device and writer.points[s.start].is_system), None
        )

    def set_text(self, row: int, text: str | bytes) -> None:
        place = int(self._place_of[row])
        if place >= 0:
            self.writer.set_text(place, text)

    def catch_up(self) -> None:
        """Make up for a wake that the rate limit held back."""
        if self.writer.pending_wake:
            self.writer.wake(bump=False)

    def publish(self, blocks: npt.NDArray[np.intp], due: npt.NDArray[np.int64]) -> None:
        mine = self._block_of[blocks]
        if not self._shared:
            keep = mine >= 0
            mine, due = mine[keep], due[keep]
            for block in mine:
                span = self._spans[block]
                self._target[span] = self._source[self._rows[span]]
        if self._service is not None:
            part = self.writer.records[self._service]
            part["raw"] = part["value"] = service_numbers(self.writer.counters)
        if len(mine):
            self.writer.publish(mine, next_due=due)
