"""One attached object: its schema, checked, and coherent copies of its blocks. Image switches between these."""

from __future__ import annotations

import os
import time
from typing import Final

import numpy as np
import numpy.typing as npt

from process_image import fences, objects
from process_image.errors import LayoutMismatch, NotReady
from process_image.layout import RECORD, RECORD_WORDS, SLOTS, STATE_NAMES, State, Word, plan, stamp
from process_image.memory import Memory, Words
from process_image.schema import decode, make_tables
from process_image.snapshot import Snapshot

_LAST: Final = np.uint64(SLOTS - 1)
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
        if header.schema_offset + header.schema_length > header.total_size:
            raise LayoutMismatch(f"{memory.name}: the schema lies outside of the object; damaged")
        schema = memory.section(header.schema_offset, header.schema_length)
        self.points, self.blocks = decode(schema, memory.name)
        if (len(self.points), len(self.blocks)) != (header.points, header.blocks):
            raise LayoutMismatch(f"{memory.name}: schema and header count points differently; damaged")
        tables = make_tables(self.points, self.blocks)
        expected = plan(
            schema=schema, tables=tables.pack(), points=len(self.points), blocks=len(self.blocks),
            names_length=len(tables.names), text_length=tables.text_length, journal_entries=header.journal_entries,
            long_length=header.long_length, stale_after=header.stale_after, grace=header.grace)
        if stamp(expected, epoch=header.epoch, created=header.created) != header:
            raise LayoutMismatch(f"{memory.name}: header and schema contradict each other; the object is damaged")
        if memory.section(header.block_table_offset, len(tables.pack())) != tables.pack():
            raise LayoutMismatch(f"{memory.name}: tables and schema contradict each other; the object is damaged")
        self.index = {point.full_name: row for row, point in enumerate(self.points)}
        self.block_of = tables.points["block"].astype(np.intp)
        is_text = np.array([p.is_text for p in self.points])
        self.text_places = np.where(is_text, tables.points["text_offset"].astype(np.int64), -1)
        starts = np.array([b.start for b in self.blocks] + [header.points], np.intp)
        self._record_edges = starts * RECORD_WORDS
        self._text_edges = np.append(tables.blocks["text_offset"], header.text_length).astype(np.intp) // 8
        self._all = np.arange(header.blocks)

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
        generations, published = self._copy(records.view(np.uint64), texts)
        now = time.monotonic_ns()
        stale = not self.writer_is_fresh(now)
        due = memory.next_due.astype(np.int64)
        overdue = np.ones(header.blocks, np.bool_) if stale else (due > 0) & (now > due + header.grace)
        return Snapshot(
            points=self.points, index=self.index, block_of=self.block_of, text_places=self.text_places,
            records=records, texts=texts.view(np.uint8), published=published, generations=generations, now=now,
            epoch=header.epoch, generation=image_generation, stale=stale, stale_blocks=overdue)

    def _copy(self, records: Words, texts: Words) -> tuple[Words, npt.NDArray[np.int64]]:
        """Copy the latest slot of every block, again where the writer was faster; only torn blocks are copied again.

        Order: generation, sequence; records, texts, publish time; sequence again.
        """
        memory = self.memory
        generations = np.empty(len(self._all), np.uint64)
        published = np.empty(len(self._all), np.int64)
        left = self._all
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
        raise NotReady(f"{memory.name}: {len(left)} blocks never held still; is more than one writer at work?")

    def _copy_blocks(self, index: npt.NDArray[np.intp], slot: npt.NDArray[np.intp], records: Words,
                     texts: Words) -> None:
        memory, edges, text_edges = self.memory, self._record_edges, self._text_edges
        cuts = np.flatnonzero((np.diff(index) != 1) | (np.diff(slot) != 0)) + 1
        starts = [0, *cuts.tolist()]
        for a, b in zip(starts, [*cuts.tolist(), len(index)], strict=True):
            first, last, number = index[a], index[b - 1] + 1, slot[a]
            start, end = edges[first], edges[last]
            records[start:end] = memory.records[number, start:end]
            start, end = text_edges[first], text_edges[last]
            if end > start:
                texts[start:end] = memory.texts[number, start:end]
