"""The records of one scan class: what an answer says, or why there is none, and what people are told about it."""

from __future__ import annotations

import time

import numpy as np
from acquisition import DeviceStatus, Publisher
from process_image.quality import BAD_NODE_ID_UNKNOWN, BAD_WAITING_FOR_INITIAL_DATA, quality_name

from opcua_client.plan import GroupPlan, ReadPlan
from opcua_client.values import Batch

MOST_NOTES = 10
"""Nodes named in one text of `$last_error`."""


class Stage:
    """Writes the rows of one scan class, and has their blocks published."""

    def __init__(self, publisher: Publisher, status: DeviceStatus, alias: str, rows: object) -> None:
        """`rows` are those of the scan class in the staging records."""
        self._publisher = publisher
        self._status = status
        self._alias = alias
        self._blocks = blocks_of(publisher, rows)
        self._told = np.zeros(len(publisher.points), np.uint32)
        """By row: the bad quality that was told, 0 = none."""
        self._any_told = False
        self._odd_times = False
        self.news = False
        """Whether the records say something that was not yet published."""

    def forget(self) -> None:
        """A new session: what is wrong in it is told anew."""
        self._told[:] = 0

    def take(self, read: ReadPlan, batch: Batch, received: int) -> None:
        """Put one answer into the records, and what is wrong in it into `$last_error`."""
        self.news = True
        records, span = self._publisher.records, read.span
        records["quality"][span] = batch.quality
        records["received_time"][span] = received
        if batch.fresh.all():
            rows, pick = span, slice(None)
        else:
            rows, pick = read.rows[batch.fresh], batch.fresh  # type: ignore[assignment]
        records["value"][rows] = batch.value[pick]
        records["raw"][rows] = batch.raw[pick]
        records["source_time"][rows] = batch.source_time[pick]
        for place, text in batch.texts:
            self._publisher.set_text(int(read.rows[place]), text)
        self._tell(read, batch)

    def _tell(self, read: ReadPlan, batch: Batch) -> None:
        """Say in `$last_error` which nodes have become bad and why; once for each change."""
        notes = []
        if batch.odd_times >= 0 and not self._odd_times:
            self._odd_times = True
            notes.append(f"{read.points[batch.odd_times].name}: the source time can't be right, the time of receipt "
                         "stands in its place; set the server's clock")
        if self._any_told or batch.quality.max(initial=0) & 0x8000_0000:
            notes += self._changes(read, batch)
        if notes:
            count = f"{len(notes)} notes, " if len(notes) > 1 else ""
            self._status.note_error(f"{self._alias}: read: {count}{', '.join(notes[:MOST_NOTES])}")

    def _changes(self, read: ReadPlan, batch: Batch) -> list[str]:
        """The nodes whose quality has become another bad one; those beyond the ones that are shown are empty."""
        bad = np.where(batch.quality & 0x8000_0000, batch.quality, 0)
        changed = np.flatnonzero((bad != self._told[read.rows]) & (bad != 0) & (bad != BAD_WAITING_FOR_INITIAL_DATA))
        self._told[read.rows] = bad
        self._any_told = bool(self._told.any())
        reasons = dict(batch.mismatches) if len(changed) else {}
        shown = [f"{read.points[place].name}: {reasons.get(place) or 'server'}: "
                 f"{quality_name(int(batch.quality[place]))}" for place in changed[:MOST_NOTES].tolist()]
        return [*shown, *[""] * (len(changed) - len(shown))]

    def lose(self, plan: GroupPlan) -> None:
        """Nodes that can't be asked for."""
        for rows, node in plan.lost:
            self.fail(rows, BAD_NODE_ID_UNKNOWN)
            self._status.note_error(
                f"{self._alias}: read {node.name}: the server has no namespace {node.namespace_uri!r}; "
                "check NamespaceUri"
            )

    def fail(self, rows: object, quality: int) -> None:
        """Give rows a bad quality."""
        self.news = True
        self._publisher.fail(rows, quality, time.time_ns())  # type: ignore[arg-type]

    def touch(self, due: float) -> None:
        """Have the blocks published by the next flush; they are stale a grace after `due` (monotonic seconds)."""
        self.news = False
        nanoseconds = int(due * 1e9)
        for block in self._blocks:
            self._publisher.touch(block, nanoseconds)


def blocks_of(publisher: Publisher, rows: object) -> list[int]:
    """Numbers of the blocks that hold these rows."""
    starts = np.array([block.start for block in publisher.blocks], np.intp)
    order = np.argsort(starts)
    found = order[np.searchsorted(starts[order], rows, side="right") - 1]  # type: ignore[call-overload]
    return sorted(set(found.tolist()))


