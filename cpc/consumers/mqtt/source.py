"""One segment as a stream of messages, and how far of it is done.

A message has a place: the cursor of its first entry. What may be kept as done ends at the oldest place that is still
on its way, or where reading stands.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from mqtt_link import Message
from process_image import Changes, Cursor, Point, Snapshot, is_bad

from cpc.consumers.feed import Feed
from cpc.consumers.mqtt.payload import Clock
from cpc.consumers.mqtt.report import Report, Reporter, entries_of, entries_of_snapshot
from cpc.consumers.mqtt.rules import Plan, Rows

Place = tuple[int, int]
"""Epoch and position; a Cursor is made of it when it is kept, for one for each message would cost more than it."""


class Outgoing(NamedTuple):
    """A message and what is known of it."""

    message: Message
    source: Source | None = None
    """The segment whose journal it came from; None for what is made at an interval."""
    place: Place | None = None
    behind: Place | None = None
    """Where reading stands once it was taken."""
    store: bool = True
    """Whether it is kept when it can't be sent."""


class Source:
    """See the module."""

    def __init__(self, feed: Feed, make_plan: Callable[[tuple[Point, ...]], Plan],
                 on_connected: Callable[[str, bool, int], None]) -> None:
        """`on_connected` is told alias, state and time (ns) of each device that comes or goes."""
        self.feed = feed
        self.plan: Plan | None = None
        self._make_plan, self._on_connected = make_plan, on_connected
        self._clock = Clock()
        self._batches: Iterator[Changes] | None = None
        self._life = (0, 0)
        self._stream: Iterator[Outgoing] = iter(())
        self._read_to: Place | None = None
        self.resume(feed.cursor)
        self._under_way: OrderedDict[int, Place] = OrderedDict()
        self._snapshot: Snapshot | None = None
        self._snapshot_until: Cursor | None = None

    @property
    def floor(self) -> Cursor | None:
        """All before it is done."""
        return _cursor(next(iter(self._under_way.values())) if self._under_way else self._read_to)

    @property
    def read_to(self) -> Cursor | None:
        """All before it was taken."""
        return _cursor(self._read_to)

    def resume(self, cursor: Cursor | None) -> None:
        """Go on at a cursor that was kept; None = with what stands there now."""
        self.feed.cursor = cursor
        self._read_to = None if cursor is None else (cursor.epoch, cursor.position)

    def begin(self, number: int, place: Place) -> None:
        """A message of this segment is on its way; numbers count up."""
        self._under_way[number] = place

    def finish(self, number: int) -> None:
        """It is done: acknowledged, kept, or given up."""
        self._under_way.pop(number, None)

    def take(self) -> Outgoing | None:
        """The next message, None when there is nothing new. Whoever takes it sends it, keeps it, or begins it."""
        while True:
            outgoing = next(self._stream, None)
            if outgoing is not None:
                self._read_to = outgoing.behind or self._read_to
                return outgoing
            if not self._next_batch():
                return None

    def _next_batch(self) -> bool:
        """Go on to the next batch of the journal, and behind it to a snapshot that is due."""
        image = self.feed.image
        life = (id(image), image.attachments if image is not None else 0)
        if self._batches is None or life != self._life:  # never go on in an object that was let go meanwhile
            self._batches, self._life = self.feed.changes(), life
        changes = next(self._batches, None)
        if changes is None:
            self._batches = None
            return self._due_snapshot()
        if self.plan is None or self.plan.points is not changes.points:
            self.plan = self._make_plan(changes.points)
        self._stream = self._of_changes(self.plan, changes)
        if changes.snapshot is not None and self.feed.image is not None:
            self._snapshot, self._snapshot_until = changes.snapshot, self.feed.image.cursor()
        return True

    def _of_changes(self, plan: Plan, changes: Changes) -> Iterator[Outgoing]:
        rows = changes.rows.astype(np.intp)
        self._tell_connected(plan, changes, rows)
        chosen = plan.select(rows, changes.records["value"], changes.records["quality"])
        plan.note_seen(rows, changes.records["sequence"])
        epoch = changes.epoch
        reports = Reporter(plan, self._clock).messages(entries_of(plan, changes, chosen), changes.cursor.position)
        for report in reports:
            yield Outgoing(report.message, self, (epoch, report.position), (epoch, report.behind), report.store)
        self._read_to = (epoch, changes.cursor.position)

    def _tell_connected(self, plan: Plan, changes: Changes, rows: Rows) -> None:
        if not plan.connected:
            return
        for entry in np.flatnonzero(plan.is_connected[rows]).tolist():
            record = changes.records[entry]
            self._on_connected(plan.connected[int(rows[entry])], bool(record["value"]), int(record["received_time"]))

    def _due_snapshot(self) -> bool:
        """Once every entry up to a snapshot was read: tell what it holds and no entry has told."""
        snapshot, until, cursor, plan = self._snapshot, self._snapshot_until, self.feed.cursor, self.plan
        if snapshot is None or until is None or cursor is None or plan is None:
            return False
        if cursor.epoch == until.epoch and cursor.position < until.position:
            return False
        self._snapshot = None
        if snapshot.points is not plan.points:
            return False
        for row, alias in plan.connected.items():
            record = snapshot.records[row]
            if not is_bad(int(snapshot.raw_quality[row])):  # else nobody has tried the device yet
                self._on_connected(alias, bool(record["value"]), int(record["received_time"]))
        self._stream = self.of_rows(snapshot, plan.missed(snapshot.records["sequence"]))
        return True

    def of_rows(self, snapshot: Snapshot, rows: Rows) -> Iterator[Outgoing]:
        """Messages that tell these rows as they stand in a snapshot; they count as reported."""
        plan = self.plan
        if plan is None or snapshot.points is not plan.points:
            return
        records = snapshot.records[rows]
        plan.note(rows, records["value"], records["quality"])
        reports: Iterator[Report] = Reporter(plan, self._clock).messages(entries_of_snapshot(plan, snapshot, rows), 0)
        for report in reports:
            yield Outgoing(report.message, store=report.store)


def _cursor(place: Place | None) -> Cursor | None:
    return None if place is None else Cursor(epoch=place[0], position=place[1])
