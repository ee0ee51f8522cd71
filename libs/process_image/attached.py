"""One attached object: its schema, checked, and coherent copies of its blocks. Image switches between these."""

from __future__ import annotations

import os
import time
from typing import Final

import numpy as np
import numpy.typing as npt

from process_image import fences, objects
from process_image.errors import LayoutMismatch, NotReady
from process_image.layout import RECORD, SLOTS, STATE_NAMES, State, Word, stamp
from process_image.memory import Memory, Words
from process_image.planning import derive
from process_image.schema import decode
from process_image.shapes import parts, runs, shapes_of
from process_image.snapshot import Snapshot

_LAST: Final = np.uint64(SLOTS - 1)
_ONE: Final = np.uint64(1)
_TWO: Final = np.uint64(2)
_TRIES: Final = 10_000
"""Copies of a torn block that are tried before giving up; a block is torn only by four publishes during one copy."""


class Attached:
    """A segment's object, mapped read-only, with its schema."""

    def __init__(self, name: str) -> None:
        """Open and check it; raises SegmentNotFound, NotPermitted, ForeignObject, LayoutMismatch, NotReady."""
        fd = objects.open_object(name, write=False)
        try:
            self.memory = Memory(fd, name, write=False)
        finally:
            os.close(fd)
        fences.acquire()
        try:
            self._read_schema()
        except BaseException:
            self.memory.close()
            raise

    def _read_schema(self) -> None:
        memory, header = self.memory, self.memory.header
        state = memory.read(Word.STATE)
        if state != State.READY:
            raise NotReady(f"{memory.name}: its state is {STATE_NAMES.get(state, state)}; try again in a moment")
        schema = memory.section(header.schema_offset, header.schema_length)
        points, blocks = decode(schema, memory.name)
        if (len(points), len(blocks)) != (header.points, header.blocks):
            raise LayoutMismatch(f"{memory.name}: schema and header count points differently; damaged")
        plan = derive(points, blocks, schema, journal_entries=header.journal_entries, long_length=header.long_length,
                      stale_after=header.stale_after, grace=header.grace)
        if stamp(plan.header, epoch=header.epoch, created=header.created) != header:
            raise LayoutMismatch(f"{memory.name}: header and schema contradict each other; the object is damaged")
        tables = plan.tables.pack()
        if memory.section(header.block_table_offset, len(tables)) != tables:
            raise LayoutMismatch(f"{memory.name}: tables and schema contradict each other; the object is damaged")
        self.points, self.blocks, self.index = points, blocks, plan.index
        self.block_of, self.text_places = plan.block_of, plan.text_places
        self._plan = plan
        self._all = np.arange(header.blocks)
        self._shapes = shapes_of(memory, plan)
        self._ends = np.array([shape.last for shape in self._shapes], np.intp)

    def close(self) -> None:
        """Unmap the object."""
        self._shapes.clear()
        self.memory.close()

    @property
    def epoch(self) -> int:
        """The object's epoch."""
        return self.memory.header.epoch

    def writer_is_fresh(self, now: int) -> bool:
        """Whether the heartbeat is young enough and the state READY."""
        memory = self.memory
        return (now - memory.read(Word.HEARTBEAT) <= memory.header.stale_after
                and memory.read(Word.STATE) == State.READY)

    def snapshot(self) -> Snapshot:
        """A coherent copy of every block."""
        memory, header = self.memory, self.memory.header
        image_generation = memory.read(Word.GENERATION)
        fences.acquire()  # the count is not newer than what is copied after it
        records = np.empty(header.points, RECORD)
        texts = np.empty(header.text_length // 8, np.uint64)
        if header.blocks == 1:
            generations, published = self._copy_one(records.view(np.uint64), texts)
        else:
            generations, published = self._copy_all(records.view(np.uint64), texts)
        now = time.monotonic_ns()
        stale = not self.writer_is_fresh(now)
        return Snapshot(
            points=self.points, index=self.index, block_of=self.block_of, text_places=self.text_places,
            records=records, texts=texts.view(np.uint8), published=published, generations=generations, now=now,
            epoch=header.epoch, generation=image_generation, stale=stale, stale_blocks=self._overdue(stale, now))

    def _overdue(self, stale: bool, now: int) -> npt.NDArray[np.bool_] | None:
        """Which blocks are stale; None where none is."""
        memory, header = self.memory, self.memory.header
        if stale:
            return np.ones(header.blocks, np.bool_)
        if header.blocks == 1:
            due = memory.words[header.next_due_offset >> 3]
            return np.ones(1, np.bool_) if 0 < due < now - header.grace else None
        overdue = (memory.next_due - _ONE) < np.uint64(max(0, now - header.grace - 1))  # 0 wraps round to never
        return overdue if overdue.any() else None

    def _copy_one(self, records: Words, texts: Words) -> tuple[Words, npt.NDArray[np.int64]]:
        """As `_copy`, for an image of one block."""
        memory, header, acquire = self.memory, self.memory.header, fences.acquire
        words, pitch = memory.words, memory.sequence.shape[1]
        for _ in range(_TRIES):
            generation = words[header.generation_offset >> 3]
            slot = generation & (SLOTS - 1)
            acquire()
            sequence = (header.sequence_offset >> 3) + slot * pitch
            before = words[sequence]
            acquire()
            records[:] = memory.records[slot]
            if len(texts):
                texts[:] = memory.texts[slot]
            published = words[(header.published_offset >> 3) + slot * pitch]
            acquire()
            if before == words[sequence] == 2 * generation:
                return np.array((generation,), np.uint64), np.array((published,), np.int64)
        raise NotReady(self._never_still(1))

    def _copy_all(self, records: Words, texts: Words) -> tuple[Words, npt.NDArray[np.int64]]:
        """As `_copy`; where every block stands at the same slot, in one piece at first."""
        memory, count = self.memory, len(self._all)
        generations = memory.generation.copy()
        slot = int(generations[0]) & (SLOTS - 1)
        if ((generations & _LAST) != slot).any():
            return self._copy(self._all, generations, np.empty(count, np.int64), records, texts)
        fences.acquire()
        before = memory.sequence[slot, :count].copy()
        fences.acquire()
        records[:] = memory.records[slot]
        if len(texts):
            texts[:] = memory.texts[slot]
        published = memory.published[slot, :count].astype(np.int64)
        fences.acquire()
        whole = (before == generations * _TWO) & (memory.sequence[slot, :count] == before)
        if whole.all():
            return generations, published
        return self._copy(np.flatnonzero(~whole), generations, published, records, texts)

    def _copy(self, left: npt.NDArray[np.intp], generations: Words, published: npt.NDArray[np.int64],
              records: Words, texts: Words) -> tuple[Words, npt.NDArray[np.int64]]:
        """Copy the latest slot of the blocks `left`, again where the writer was faster, until all are whole.

        Order: generation, sequence; records, texts, publish time; sequence again. Returns `generations` and
        `published` with the copied blocks' entries set.
        """
        memory = self.memory
        for _ in range(_TRIES):
            generation = memory.generation[left]
            slot = (generation & _LAST).astype(np.intp)
            fences.acquire()  # the generation is read before the slot that it names
            before = memory.sequence[slot, left]
            fences.acquire()  # the sequence is read before the slot's bytes
            self._copy_blocks(left, slot, records, texts)
            published[left] = memory.published[slot, left]
            fences.acquire()  # every byte is read before the sequence is looked at again
            whole = (before == generation * _TWO) & (memory.sequence[slot, left] == before)
            generations[left] = generation
            if whole.all():
                return generations, published
            left = left[~whole]
        raise NotReady(self._never_still(len(left)))

    def _never_still(self, blocks: int) -> str:
        return f"{self.memory.name}: {blocks} blocks never held still; is more than one writer at work?"

    def _copy_blocks(self, index: npt.NDArray[np.intp], slot: npt.NDArray[np.intp], records: Words,
                     texts: Words) -> None:
        """Copy some blocks from their slots: stretches of neighbours one by one, else all blocks of a shape at once."""
        memory, edges, text_edges = self.memory, self._plan.record_edges, self._plan.text_edges
        stretches = runs(index, slot)
        if stretches is None:
            for number, part in parts(self._shapes, self._ends, index):
                shape = self._shapes[number]
                local = index[part] - shape.first
                shape.own(records)[local] = shape.records[slot[part], local]
                if shape.has_text:
                    shape.own_texts(texts)[local] = shape.texts[slot[part], local]
            return
        for a, b in stretches:
            first, last, number = index[a], index[b - 1] + 1, slot[a]
            start, end = edges[first], edges[last]
            records[start:end] = memory.records[number, start:end]
            start, end = text_edges[first], text_edges[last]
            if end > start:
                texts[start:end] = memory.texts[number, start:end]
