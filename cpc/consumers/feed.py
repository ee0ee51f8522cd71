"""One segment as a consumer sees it: attached when it is there, attached again when it is back, read from a cursor."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from acquisition import Backoff
from process_image import Changes, Cursor, Image, ImageError, Snapshot, attach

LONGEST_PAUSE = 2.0
"""Seconds between attempts to attach: a look into /dev/shm costs little, and what is polled is wanted soon."""


class Feed:
    """The journal of one segment. For one thread; never raises for a segment that is absent, foreign or damaged."""

    def __init__(self, segment: str, cursor: Cursor | None = None) -> None:
        self.segment = segment
        self.cursor = cursor
        """Where reading goes on; None until first attached. Kept by the consumer, when what lies before is done."""
        self.image: Image | None = None
        self.lost = 0
        """Entries that were overwritten before they could be read, since the start."""
        self.read = 0
        """Entries read since the start."""
        self.message = ""
        """Why it is not attached, empty when it is."""
        self._backoff = Backoff(longest=LONGEST_PAUSE)
        self._next_try = 0.0

    @property
    def attached(self) -> bool:
        """Whether the segment is mapped; it may be stale all the same."""
        return self.image is not None

    @property
    def lag(self) -> int:
        """Entries of the journal that have not been read."""
        if self.image is None or self.cursor is None:
            return 0
        end = self.image.cursor()
        return max(0, end.position - self.cursor.position) if end.epoch == self.cursor.epoch else 0

    def open(self, *, at_once: bool = False) -> bool:
        """Attach where that has not been done, in ever longer pauses unless `at_once`; whether it is attached."""
        if self.image is not None:
            return True
        now = time.monotonic()
        if now < self._next_try and not at_once:
            return False
        try:
            self.image = attach(self.segment)
        except ImageError as error:
            self.message = str(error)
            self._next_try = now + max(self._backoff.pause(), 0.05)
            return False
        self._backoff.reset()
        self.message = ""
        return True

    def follow(self) -> None:
        """As `open`, and change to a new object where the writer has made one; reads nothing."""
        if not self.open() or self.image is None:
            return
        try:
            self.image.cursor()
        except ImageError as error:
            self.message = str(error)
            self.close()

    def changes(self) -> Iterator[Changes]:
        """What was published since the cursor, in batches; `cursor` lies behind the batch that is given.

        The first batch of all (no cursor was kept) is an empty one with a snapshot: what stands there now is the
        beginning. A batch after a loss or a new epoch has a snapshot, too.
        """
        if not self.open() or self.image is None:
            return
        try:
            if self.cursor is None:
                yield self._begin(self.image)
            for batch in self._batches(self.image):
                self.read += len(batch)
                self.lost += batch.lost
                self.cursor = batch.cursor
                yield batch
        except ImageError as error:
            self.message = str(error)
            self.close()

    def snapshot(self) -> Snapshot | None:
        """The image as it is now; None where it is not attached or can't be read."""
        if not self.open() or self.image is None:
            return None
        try:
            return self.image.snapshot()
        except ImageError as error:
            self.message = str(error)
            self.close()
            return None

    def close(self) -> None:
        """Let go of the segment; the next `open` attaches again."""
        if self.image is not None:
            self.image.close()
            self.image = None

    def _begin(self, image: Image) -> Changes:
        """An empty batch with the image as it is now; the journal goes on right behind its cursor."""
        self.cursor = image.cursor()
        return _empty(image.snapshot(), self.cursor)

    def _batches(self, image: Image) -> Iterator[Changes]:
        try:
            yield from image.changes(self.cursor)
        except ValueError:  # the kept cursor lies ahead: a machine that came back with an older segment
            yield self._begin(image)


def _empty(snapshot: Snapshot, cursor: Cursor) -> Changes:
    """A batch without entries that carries a snapshot."""
    return Changes(
        points=snapshot.points, rows=np.empty(0, np.uint32), records=snapshot.records[:0],
        published=np.empty(0, np.int64), texts={}, cut=frozenset(), lost=0, texts_lost=0, cursor=cursor,
        epoch=snapshot.epoch, new_epoch=True, snapshot=snapshot)
