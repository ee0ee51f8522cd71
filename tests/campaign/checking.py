"""What must hold of an image that `life.publish_number` fills, whatever happened to its writers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from process_image import RECORD, Changes, Cursor, Image, Snapshot

FIELDS = ("source_time", "received_time", "raw")


@dataclass
class Checker:
    """Follows one image; `faults` says what did not hold."""

    image: Image
    faults: list[str] = field(default_factory=list)
    snapshots: int = 0
    changes: int = 0
    lost: int = 0
    epochs: int = 0
    highest: float = 0.0
    """Highest number seen in a Good record."""
    cursor: Cursor | None = None
    _epoch: int = 0
    _lowest: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    _known: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    _ever: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    _last: npt.NDArray[np.void] = field(default_factory=lambda: np.zeros(0, RECORD))

    def snapshot(self) -> Snapshot:
        """Take one, and check that no block of it is torn and no number falls."""
        taken = self.image.snapshot()
        self.snapshots += 1
        starts = np.array([block.start for block in self.image.blocks])
        records = taken.records
        value = records["value"]
        low, high = np.minimum.reduceat(value, starts), np.maximum.reduceat(value, starts)
        quality = taken.raw_quality
        torn = (low != high) | (np.minimum.reduceat(quality, starts) != np.maximum.reduceat(quality, starts))
        for column in FIELDS:
            torn |= np.logical_or.reduceat(records[column] != value, starts)
        if torn.any():
            self.faults.append(f"torn: {taken!r} blocks {np.flatnonzero(torn).tolist()}")
        for row, point in enumerate(taken.points):
            if point.is_text and value[row] and taken[row].value != str(int(value[row])):
                self.faults.append(f"text {taken[row].value!r} where the number is {value[row]}")
        self._check_order(taken, low, quality[starts] >> 31 == 0)
        return taken

    def _check_order(self, taken: Snapshot, low: npt.NDArray[np.float64], good: npt.NDArray[np.bool_]) -> None:
        if taken.epoch != self._epoch:
            self._begin(taken)
        fell = good & (low < self._lowest)
        if fell.any():
            self.faults.append(f"numbers fell: {taken!r} {low[fell]} below {self._lowest[fell]}")
        self._lowest[good] = low[good]
        self.highest = max(self.highest, float(low[good].max(initial=0.0)))

    def _begin(self, taken: Snapshot) -> None:
        self._epoch = taken.epoch
        self.epochs += 1
        self._lowest = np.zeros(len(taken.generations))
        self._known, self._ever = np.zeros((2, len(taken.points)), np.bool_)
        self._last = np.zeros(len(taken.points), RECORD)

    def journal(self) -> None:
        """Read all changes; the sequences of each point must go up by one, but for what is counted as lost."""
        for batch in self.image.changes(self.cursor):
            self.cursor = batch.cursor
            if batch.epoch != self._epoch and batch.epoch == self.image.epoch:
                self._begin(self.image.snapshot())  # which may find that this one is replaced as well
            if batch.epoch == self._epoch:  # else the end of an object that was replaced before it was looked at
                self._check_batch(batch)

    def _check_batch(self, batch: Changes) -> None:
        if batch.lost:
            self.lost += batch.lost
            self._known[:] = False
        if not len(batch):
            return
        self.changes += len(batch)
        records, order = batch.records, np.argsort(batch.rows, kind="stable")
        rows, sequence = batch.rows[order].astype(np.intp), records["sequence"][order]
        for column in FIELDS:
            if (records[column] != records["value"]).any():
                self.faults.append(f"a torn entry of the journal below {batch.cursor}")
        for entry, text in batch.texts.items():
            number = int(records["value"][entry])
            if text is not None and number and text != str(number):
                self.faults.append(f"text {text!r} of the journal where the number is {number}")
        first = np.flatnonzero(np.diff(rows, prepend=-1))
        step = np.diff(sequence, prepend=np.uint32(0))
        ahead = sequence[first] - self._last["sequence"][rows[first]]
        after_loss = np.where(self._ever[rows[first]] & (ahead.astype(np.int32) <= 0), 0, 1)  # lost ones are no excuse
        step[first] = np.where(self._known[rows[first]], ahead, after_loss)
        if (step != 1).any():
            bad = np.flatnonzero(step != 1)[:5]
            self.faults.append(f"sequences of rows {rows[bad]} step by {step[bad]} below {batch.cursor}")
        last = np.append(first[1:], len(rows)) - 1
        self._last[rows[last]] = records[order[last]]
        self._known[rows[last]] = self._ever[rows[last]] = True

    def at_rest(self, number: int) -> None:
        """While the writer waits after publishing `number` in every block: everybody agrees."""
        until = time.monotonic() + 5
        while self.image.snapshot().stale and time.monotonic() < until:
            time.sleep(0.005)  # a reader looks for a new object by the name once in a while, not at each call
        self.journal()
        taken = self.snapshot()
        if not (taken.records["value"] == number).all() or (taken.raw_quality != 0).any():
            self.faults.append(f"{taken!r} is not what the new writer published ({number})")
        if len(self._known) == len(taken.records):
            taken.records["quality"] = taken.raw_quality
            differs = self._known & (taken.records != self._last)
            if differs.any():
                row = int(np.flatnonzero(differs)[0])
                self.faults.append(f"row {row}: {taken.records[row]} but {self._last[row]} last in the journal")
