"""The writing side of a segment."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from process_image import fences, futex, objects, semaphore, stops
from process_image.errors import WriterClosed
from process_image.filling import Stage
from process_image.guarding import Counters, SemaphoreRule
from process_image.journal import Journal
from process_image.layout import SEMAPHORE_NAME_OFFSET, SEMAPHORE_NAME_SIZE, SLOTS, TEXT_HEAD, State, Word, text_width
from process_image.lease import Lease
from process_image.memory import Memory
from process_image.planning import Plan
from process_image.quality import BAD_WAITING_FOR_INITIAL_DATA, GOOD
from process_image.takeover import take_over

WAKE_PAUSE: Final = 1_000_000
"""Least time between two wake calls, ns."""
WAKE_WAITERS: Final = 64
"""Most waiters that one wake call wakes; the others look again at the end of their own time-out."""
_open: weakref.WeakSet[Writer] = weakref.WeakSet()


class Writer:
    """One segment being written: made by `create`, used by one thread, closed by `close` or `with`.

    Producers fill columns of `records` (and texts by `set_text`), then `publish` the blocks that were filled.
    """

    def __init__(self, memory: Memory, lease: Lease, stage: Stage, plan: Plan, *, repair_after: float, bound: float,
                 gid: int | None) -> None:
        """For `create` alone."""
        self.name = memory.name
        self.epoch = memory.header.epoch
        self.points, self.blocks, self.index = plan.points, plan.blocks, plan.index
        self.counters = Counters()
        self._memory, self._lease, self._stage = memory, lease, stage
        self.records: npt.NDArray[np.void] = stage.records
        self._places, self._block_of, self._tables = plan.text_places, plan.block_of, plan.tables
        self._text_bytes = stage.texts.view(np.uint8)
        self._journal = Journal(memory, self.records, self._text_bytes, self._places)
        self._all = np.arange(len(plan.blocks))
        self._changed_texts: set[int] = set()
        self._rule = SemaphoreRule(None, self.counters, repair_after=repair_after, bound=bound)
        self._owns_semaphore = self._interrupted = False
        self._gid = gid
        self._wake_after = 0
        self._pending = False
        self._futex_value = memory.futex[0]
        self._image_generation = memory.read(Word.GENERATION)
        _open.add(self)

    def start(self, *, taken_over: bool) -> None:
        """Publish every block Bad and set READY; for `create` alone.

        A take-over journals what its dead predecessor left Good; a new segment has no changes yet.
        """
        memory, stage, now = self._memory, self._stage, time.monotonic_ns()
        changed = 0
        if taken_over:
            rows = np.flatnonzero(self.records["quality"] != BAD_WAITING_FOR_INITIAL_DATA)
            self.records["quality"] = BAD_WAITING_FOR_INITIAL_DATA
            self.records["sequence"][rows] += np.uint32(1)
            changed = self._journal.write([rows], now)
        memory.next_due[:] = 0
        stage.fill(stage.pieces(self._all), self._all, now)
        self._count(changed, now)
        if taken_over and stops.hook is not None:
            stops.hook("takeover.published")
        fences.release()  # everything stands before READY
        memory.words[Word.STATE >> 3] = State.READY
        if taken_over:
            self.wake()

    def free_semaphore(self, left_by: str) -> None:
        """Post the semaphore once where a killed writer noted that it held it; for `create` alone."""
        guard = self._rule.guard
        if guard is not None and guard.name == left_by and guard.value() == 0:
            guard.release()
            self.counters.semaphore_repairs += 1
        self._live().words[Word.SEMAPHORE_HELD >> 3] = 0

    @property
    def semaphore(self) -> Any:
        """The semaphore that guards the segment (None, or an object with a `name`); set it to another, or a name."""
        return self._rule.guard

    @semaphore.setter
    def semaphore(self, value: Any) -> None:
        if value is self._rule.guard and value is not None:  # None also clears the name that a dead writer left
            return
        before = self._rule.guard
        self._rule.guard, self._owns_semaphore = semaphore.open_guard(value, gid=self._gid)
        if isinstance(before, semaphore.NamedSemaphore):
            before.close()
        raw = (self._rule.guard.name if self._rule.guard is not None else "").encode()[: SEMAPHORE_NAME_SIZE - 1]
        part = self._live().bytes[SEMAPHORE_NAME_OFFSET : SEMAPHORE_NAME_OFFSET + SEMAPHORE_NAME_SIZE]
        part[:] = np.frombuffer(raw.ljust(SEMAPHORE_NAME_SIZE, b"\0"), np.uint8)

    @property
    def generation(self) -> int:
        """Number of publishes in this epoch."""
        return self._image_generation

    @property
    def pending_wake(self) -> bool:
        """Whether a wake was held back by the rate limit; the next publish, heartbeat or `wake` makes up for it."""
        return self._pending

    def set_text(self, row: int, text: str | bytes) -> None:
        """Stage the value of a string or bytes point; too long a value is cut, at a character, and marked as cut."""
        point = self.points[row]
        place = int(self._places[row])
        if place < 0:
            raise ValueError(f"{point.full_name}: is no text but {point.type}")
        data = text.encode("utf-8", "replace") if isinstance(text, str) else bytes(text)
        kept = cut(data, point.size, characters=point.type == "string")
        content = np.array([len(kept), len(data)], np.uint32).tobytes() + kept
        slot = self._text_bytes[place : place + TEXT_HEAD + point.size]
        if slot[: len(content)].tobytes() != content:
            slot[: len(content)] = np.frombuffer(content, np.uint8)
            slot[len(content) :] = 0
            self._changed_texts.add(int(row))

    def set_value(self, point: int | str, value: Any, *, quality: int = GOOD, source_time: int | None = None,
                  received_time: int | None = None) -> None:
        """Stage one point whole: value by the point's type, raw bits, quality, times (ns, now if not given).

        For a few points at a time; producers of many fill columns of `records`.
        """
        row = self.index[point] if isinstance(point, str) else point
        kind = self.points[row].type
        now = time.time_ns()
        record = self.records[row]
        if kind in ("string", "bytes"):
            self.set_text(row, value)
        else:
            record["value"] = value
            record["raw"] = raw_bits(value, kind)
        record["quality"] = quality
        record["received_time"] = now if received_time is None else received_time
        record["source_time"] = record["received_time"] if source_time is None else source_time

    def publish(self, blocks: int | Iterable[int] | None = None, *,
                next_due: int | Sequence[int] | npt.NDArray[np.int64] | None = None, wake: bool = True) -> int:
        """Publish staged blocks (indices; None = all); returns how many points changed.

        `next_due` (monotonic ns; one for all or one for each block) is when the next publish of the block is due; a
        grace after it the block counts as stale, 0 = never. None leaves it. With `wake`, waiting readers are woken.
        """
        memory = self._live()
        index, next_due = self._resolve(blocks, next_due)
        now = time.monotonic_ns()
        if not len(index):
            return 0
        held = self._rule.enter(index, self._stage.generation)
        try:
            if held:
                memory.words[Word.SEMAPHORE_HELD >> 3] = 1
            if stops.hook is not None:
                stops.hook("publish.semaphore")
            if self._interrupted:
                self._mend()
            self._interrupted = True
            changed = self._publish(index, next_due, now)
            self._interrupted = False
        finally:
            if held:
                self._rule.leave()
                memory.words[Word.SEMAPHORE_HELD >> 3] = 0
        if wake:
            self.wake()
        return changed

    def _publish(self, index: npt.NDArray[np.intp], next_due: Any, now: int) -> int:
        stage = self._stage
        pieces = stage.pieces(index)
        found: list[Any] = list(stage.detect(pieces))
        if self._changed_texts:
            found = self._add_texts(index, found)
        changed = self._journal.write(found, now)
        stage.fill(pieces, index, now)
        if next_due is not None:
            self._memory.next_due[index] = next_due
        self._count(changed, now)
        return changed

    def _mend(self) -> None:
        """After an exception inside a publish (a signal handler's): bring segment and journal to one state again.

        It is a take-over from oneself: what is whole is kept, and generations go on behind all that were used. The
        staged values stay as they are, to be published next.
        """
        stage, memory = self._stage, self._memory
        records, texts = stage.words.copy(), stage.texts.copy()
        take_over(memory, stage, self._tables)
        self._journal = Journal(memory, self.records, self._text_bytes, self._places)
        stage.fill(stage.pieces(self._all), self._all, time.monotonic_ns())
        stage.words[:], stage.texts[:] = records, texts
        self._changed_texts.update(np.flatnonzero(self._places >= 0).tolist())

    def _add_texts(self, index: npt.NDArray[np.intp], found: list[Any]) -> list[Any]:
        """Rows whose text changed and nothing else: their sequence goes up as well."""
        rows = np.fromiter(self._changed_texts, np.intp, len(self._changed_texts))
        rows.sort()
        rows = rows[np.isin(self._block_of[rows], index)]
        self._changed_texts.difference_update(rows.tolist())
        counted = np.zeros(len(self.points), np.bool_)
        for part in found:
            counted[part] = True
        rows = np.array([row for row in rows.tolist() if not counted[row] and self._text_differs(row)], np.intp)
        self.records["sequence"][rows] += np.uint32(1)
        return [*found, rows] if len(rows) else found

    def _text_differs(self, row: int) -> bool:
        """Whether a staged text is another than the published one: it may have been set to and fro in between."""
        place = int(self._places[row])
        part = slice(place // 8, (place + text_width(self.points[row].size)) // 8)
        latest = int(self._stage.generation[self._block_of[row]]) % SLOTS
        return self._memory.texts[latest, part].tobytes() != self._stage.texts[part].tobytes()

    def _count(self, changed: int, now: int) -> None:
        counters, words = self.counters, self._memory.words
        counters.publishes += 1
        counters.changes += changed
        counters.long = self._journal.long_values
        self._image_generation += 1
        words[Word.PUBLISHES >> 3] = counters.publishes
        words[Word.CHANGES >> 3] = counters.changes
        words[Word.LONG_VALUES >> 3] = counters.long
        words[Word.SEMAPHORE_BUSY >> 3] = counters.semaphore_busy
        words[Word.SEMAPHORE_WAITS >> 3] = counters.semaphore_waits
        words[Word.SEMAPHORE_OVERRUNS >> 3] = counters.semaphore_overruns
        words[Word.SEMAPHORE_REPAIRS >> 3] = counters.semaphore_repairs
        words[Word.GENERATION >> 3] = self._image_generation
        words[Word.HEARTBEAT >> 3] = now
        if stops.hook is not None:
            stops.hook("publish.counted")

    def _resolve(self, blocks: int | Iterable[int] | None, next_due: Any) -> tuple[npt.NDArray[np.intp], Any]:
        """Strictly rising block numbers, and `next_due` in the same order; IndexError for numbers out of range."""
        if blocks is None:
            return self._all, next_due
        if isinstance(blocks, (int, np.integer)):
            blocks = (int(blocks),)
        index = np.asarray(blocks if isinstance(blocks, (np.ndarray, Sequence)) else list(blocks), np.intp).reshape(-1)
        if len(index) > 1 and (index[1:] <= index[:-1]).any():
            index, order = np.unique(index, return_index=True)
            if next_due is not None and np.ndim(next_due):
                next_due = np.asarray(next_due)[order]
        if len(index) and (index[0] < 0 or index[-1] >= len(self.blocks)):
            raise IndexError(f"{self.name}: blocks are numbered 0 to {len(self.blocks) - 1}")
        return index, next_due

    def heartbeat(self) -> None:
        """Say that the publishing loop is alive; call it from that loop at least every 250 ms, from nowhere else."""
        self._live().words[Word.HEARTBEAT >> 3] = time.monotonic_ns()
        if self._pending:
            self.wake(bump=False)

    def wake(self, *, bump: bool = True) -> None:
        """Wake waiting readers, at most once a millisecond; a call that comes sooner is left to the next one."""
        memory = self._live()
        if bump:
            # a reader that is about to wait sees the new value and does not; only sleepers need the call
            self._futex_value = (self._futex_value + 1) & 0xFFFFFFFF
            memory.futex[0] = self._futex_value
        now = time.monotonic_ns()
        if now < self._wake_after:
            self._pending = True
            return
        self._pending = False
        self._wake_after = now + WAKE_PAUSE
        futex.wake(memory.futex_address, WAKE_WAITERS)
        self.counters.wakes += 1
        memory.words[Word.WAKES >> 3] = self.counters.wakes
        if stops.hook is not None:
            stops.hook("publish.woken")

    def close(self, *, unlink: bool = False) -> None:
        """Give up the lease; readers see the segment go stale at once. With `unlink`, also remove it.

        With `unlink` the semaphore goes too if it was given by name.
        """
        memory, lease = self.__dict__.pop("_memory", None), self._lease
        _open.discard(self)
        if memory is None:
            return
        if unlink:
            memory.words[Word.STATE >> 3] = State.RETIRED
            if stops.hook is not None:
                stops.hook("close.retired")
        memory.words[Word.HEARTBEAT >> 3] = 0
        memory.futex[0] = (self._futex_value + 1) & 0xFFFFFFFF
        futex.wake(memory.futex_address, WAKE_WAITERS)
        if unlink:
            objects.path_of(self.name).unlink(missing_ok=True)
            if stops.hook is not None:
                stops.hook("close.unlinked")
            if self._owns_semaphore and self._rule.guard is not None:
                semaphore.remove(self._rule.guard.name)
        lease.release()
        if stops.hook is not None:
            stops.hook("close.released")
        self._let_go(memory)

    def _let_go(self, memory: Memory) -> None:
        """Drop every view, so that the memory is unmapped now and not when the last reference goes."""
        del self._stage, self._journal
        guard = self._rule.guard
        self._rule.guard = None
        if isinstance(guard, semaphore.NamedSemaphore):
            guard.close()
        memory.close()

    def _live(self) -> Memory:
        memory: Memory | None = self.__dict__.get("_memory")
        if memory is None:
            raise WriterClosed(f"{self.name}: this writer is closed (or belongs to the parent process)")
        return memory

    def __enter__(self) -> Writer:
        """The writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Close it; the segment stays for readers to see that it is stale."""
        self.close()

    def __repr__(self) -> str:
        """Name, points, epoch."""
        return f"<Writer {self.name} of {len(self.points)} points, epoch {self.epoch:016x}>"


def cut(data: bytes, size: int, *, characters: bool) -> bytes:
    """At most `size` bytes of `data`, with `characters` never in the middle of one (UTF-8)."""
    if len(data) <= size:
        return data
    end = size
    if characters:
        while end and data[end] & 0xC0 == 0x80:
            end -= 1
    return data[:end]


def raw_bits(value: Any, kind: str) -> int:
    """The bits of a value of a numeric type: signed sign-extended, others zero-extended, floats as IEEE 754."""
    if kind == "float64":
        return int(np.float64(value).view(np.uint64))
    if kind == "float32":
        return int(np.float32(value).view(np.uint32))
    return int(value) & 0xFFFF_FFFF_FFFF_FFFF


def _after_fork() -> None:
    """The child has neither the mapping (MADV_DONTFORK) nor the lease: make its writers say so, not crash."""
    for writer in list(_open):
        memory = writer.__dict__.pop("_memory", None)
        if memory is not None:
            memory.abandon()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
