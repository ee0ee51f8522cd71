"""The reading side: `attach` and the Image that it gives."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final

from process_image import fences, futex, objects
from process_image.attached import Attached
from process_image.changes import Changes, Cursor, read_changes
from process_image.errors import ImageError, LayoutMismatch, NotReady, SegmentNotFound
from process_image.layout import COUNTERS, State, Word
from process_image.points import Block, Point
from process_image.snapshot import Snapshot

WAIT_SLICE: Final = 0.25
"""Longest single wait, seconds: after it the reader looks again, for a wake may pass a crowd of waiters by."""
RETIRED_SLICE: Final = 0.01
"""The same while the object is retired and the next one has to appear by its name."""
REOPEN_PAUSE: Final = 100_000_000
"""Least time between two looks for a new object by the name, ns."""
_NOT_READY_PAUSE: Final = 0.005


class Image:
    """An attached segment, read-only; follows its writer over restarts and new layouts. For one thread at a time.

    After the writer came back with another layout, `points`, `blocks` and `epoch` are the new ones, and
    `attachments` has grown by one; a snapshot keeps the points that it was taken with.
    """

    def __init__(self, name: str, attached: Attached) -> None:
        """For `attach` alone."""
        self.name = name
        self.attachments = 1
        """How many objects of this name were attached so far; grows when a new layout came."""
        self._now = attached
        self._before: Attached | None = None
        self._uses_journal = False
        self._seen = attached.memory.read(Word.GENERATION)
        self._look_after = 0
        self._closed = False

    @property
    def points(self) -> tuple[Point, ...]:
        """Every point in image order."""
        return self._now.points

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks in which points are published together."""
        return self._now.blocks

    @property
    def epoch(self) -> int:
        """Epoch of the attached object."""
        return self._now.epoch

    @property
    def generation(self) -> int:
        """Number of publishes in this epoch."""
        return self._now.memory.read(Word.GENERATION)

    @property
    def stale(self) -> bool:
        """Whether the writer is gone, stopped or not ready, by its heartbeat."""
        return not self._now.writer_is_fresh(time.monotonic_ns())

    @property
    def semaphore_name(self) -> str:
        """Name of the semaphore for locking readers, empty for none."""
        return self._now.memory.semaphore_name

    @property
    def config_hash(self) -> int:
        """Hash of the writer's configuration, as it gave it."""
        return self._now.memory.read(Word.CONFIG_HASH)

    @property
    def counters(self) -> dict[str, int]:
        """The writer's own counters since it started."""
        return {label: self._now.memory.read(word) for label, word in COUNTERS}

    def snapshot(self) -> Snapshot:
        """A coherent copy of the image as it is now; its cost is that of copying the records."""
        self._follow()
        self._seen = self._now.memory.read(Word.GENERATION)
        return self._now.snapshot()

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until something is published that the last `wait` or `snapshot` did not see.

        True when there is something new, False after `timeout` seconds (None = without end).
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            self._follow()
            memory = self._now.memory
            word = memory.futex[0]  # read before the generation: a publish in between makes the wait return at once
            generation = memory.read(Word.GENERATION)
            if generation != self._seen:
                self._seen = generation
                return True
            longest = RETIRED_SLICE if memory.read(Word.STATE) == State.RETIRED else WAIT_SLICE
            left = longest if until is None else min(longest, until - time.monotonic())
            if left <= 0:
                return False
            futex.wait(memory.futex_address, word, left)

    def cursor(self) -> Cursor:
        """The end of the journal as it is now; take a snapshot after it and miss nothing."""
        self._follow()
        self._uses_journal = True
        return Cursor(epoch=self.epoch, position=self._now.memory.read(Word.JOURNAL_COMMITTED))

    def changes(self, cursor: Cursor | None = None) -> Iterator[Changes]:
        """Every change since `cursor` (None = the oldest that is still there) up to now, in batches of arrays.

        Go on with the last batch's `cursor`; it may be kept and used again, also by another process. When the writer
        came back with another layout, the old journal is finished first; the next batch has `new_epoch`. Entries that
        were overwritten before they could be read are counted in `lost`, and that batch carries a `snapshot`.
        """
        self._uses_journal = True
        self._follow()
        before = self._before
        if before is not None:
            if cursor is not None and cursor.epoch == before.epoch:
                for batch in read_changes(before, cursor):
                    cursor = batch.cursor
                    yield batch
            self._drop_before()
        yield from read_changes(self._now, cursor)

    def _follow(self) -> None:
        """Where the object is retired or its writer silent, look for a new object by the name and change to it."""
        if self._closed:
            raise ImageError(f"{self.name}: this image is closed")
        now = time.monotonic_ns()
        if self._now.writer_is_fresh(now) or now < self._look_after:
            return
        self._look_after = now + REOPEN_PAUSE
        if self._now.memory.read(Word.STATE) == State.RETIRED:
            self._look_after = now + REOPEN_PAUSE // 20
        if objects.identity(self.name) in (None, self._now.memory.identity):
            return  # not there: try again later
        try:
            attached = Attached(self.name)
        except (SegmentNotFound, NotReady):
            return
        except LayoutMismatch:
            return  # not (or no longer) for this reader: what it has stays, and is stale
        if attached.memory.identity == self._now.memory.identity or attached.epoch == self._now.epoch:
            attached.close()
            return
        self._switch(attached)

    def _switch(self, attached: Attached) -> None:
        self._drop_before()
        if self._uses_journal:
            self._before = self._now  # its journal is finished first
        else:
            self._now.close()
        self._now = attached
        self.attachments += 1
        self._seen = 0  # whatever the new object holds is new

    def _drop_before(self) -> None:
        if self._before is not None:
            self._before.close()
            self._before = None

    def close(self) -> None:
        """Let go of the segment; harmless when done twice."""
        if not self._closed:
            self._closed = True
            self._drop_before()
            self._now.close()

    def __enter__(self) -> Image:
        """The image itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Name, points, epoch."""
        return f"<Image {self.name} of {len(self.points)} points, epoch {self.epoch:016x}>"


def attach(name: str, *, timeout: float = 0.05) -> Image:
    """Attach read-only to the segment `name`.

    Raises SegmentNotFound, LayoutMismatch (ForeignObject where it is no process image), NotPermitted, or NotReady
    when its writer is still starting, or leaving, after `timeout` seconds.
    """
    fences.require()
    futex.require()
    bare = objects.check_name(name)
    until = time.monotonic() + timeout
    while True:
        try:
            return Image(bare, Attached(bare))
        except NotReady:
            if time.monotonic() >= until:
                raise
            time.sleep(_NOT_READY_PAUSE)
