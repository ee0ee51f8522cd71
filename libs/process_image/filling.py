"""From the private staging records into the slots: what changed, and the copy, for many blocks in one call.

Blocks that follow each other and stand at the same slot are handled as one run of plain copies. Where a call names
many scattered blocks, blocks of equal shape are handled by one indexed copy for each shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from process_image import fences, stops
from process_image.layout import RECORD, RECORD_WORDS, SLOTS, VALUE_WORD
from process_image.memory import Memory, Words
from process_image.planning import Plan
from process_image.shapes import Shape, parts, runs, shapes_of

Rows = npt.NDArray[np.intp]
_LAST: Final = np.uint64(SLOTS - 1)
_TWO: Final = np.uint64(2)
_ONE: Final = np.uint64(1)


@dataclass(slots=True)
class _Piece:
    """Blocks copied together: a stretch of neighbours at one slot (`shape` None), or scattered blocks of one shape."""

    rows: slice | Rows
    part: Any
    """Which words of a plane, or which blocks of the shape."""
    texts: Any
    """The same for texts; None where there are none."""
    latest: Any
    """Slot number(s) of the latest generation."""
    shape: Shape | None = None
    staged: tuple[Words, Words] | None = None
    """Private records and texts of the shape's blocks."""


class Stage:
    """The writer's private records and texts, and their way into the slots."""

    def __init__(self, memory: Memory, plan: Plan) -> None:
        """Staging for `memory`, empty; `generation` holds what was published last for each block."""
        header = memory.header
        self.memory = memory
        self.records = np.zeros(header.points, RECORD)
        self._sequences: npt.NDArray[np.uint32] = self.records["sequence"]
        self.words: Words = self.records.view(np.uint64)
        self.texts: Words = np.zeros(header.text_length // 8, np.uint64)
        self.generation: Words = memory.generation.copy()
        self.starts, self.record_edges, self.text_edges = plan.starts, plan.record_edges, plan.text_edges
        self._pitch = memory.sequence.shape[1]
        self._sequence = memory.sequence.reshape(-1)
        self._published = memory.published.reshape(-1)
        self._generation_word = header.generation_offset >> 3
        self._sequence_word, self._published_word = header.sequence_offset >> 3, header.published_offset >> 3
        # the last u32 of each record, slot by slot
        self._old_sequences = memory.records.view(np.uint32)[:, RECORD_WORDS * 2 - 1 :: RECORD_WORDS * 2]
        self._flags: Words = np.zeros(len(self.words) // 8 + 1, np.uint64)
        self._differs = self._flags.view(np.bool_)
        self._weighty = _pattern(len(self._flags))
        self._masked: Words = np.empty(len(self._flags), np.uint64)
        self._spread = np.empty(len(self.words), np.bool_)
        self._singles: dict[int, _Piece] = {}
        self._shapes = shapes_of(memory, plan)
        self._staged = [(shape.own(self.words), shape.own_texts(self.texts)) for shape in self._shapes]
        self._ends = np.array([shape.last for shape in self._shapes], np.intp)

    def pieces(self, index: Rows) -> list[_Piece]:
        """How the blocks of a strictly rising `index` are to be copied."""
        if len(index) == 1:
            return [self._single(int(index[0]))]
        latest = self.generation[index] & _LAST
        stretches = runs(index, latest)
        if stretches is not None:
            return [self._run(int(index[a]), int(index[b - 1]) + 1, int(latest[a])) for a, b in stretches]
        return [self._indexed(number, index[part], latest[part])
                for number, part in parts(self._shapes, self._ends, index)]

    def _single(self, block: int) -> _Piece:
        """The piece of one block, kept: publishing one block is what happens most."""
        piece = self._singles.get(block)
        if piece is None:
            piece = self._singles[block] = self._run(block, block + 1, 0)
        piece.latest = self.generation.item(block) & (SLOTS - 1)
        return piece

    def _run(self, first: int, last: int, latest: int) -> _Piece:
        texts = self.text_edges[first], self.text_edges[last]
        return _Piece(
            rows=slice(int(self.starts[first]), int(self.starts[last])),
            part=slice(int(self.record_edges[first]), int(self.record_edges[last])),
            texts=slice(int(texts[0]), int(texts[1])) if texts[1] > texts[0] else None, latest=latest,
        )

    def _indexed(self, number: int, index: Rows, latest: Words) -> _Piece:
        shape = self._shapes[number]
        local = index - shape.first
        rows = (self.starts[index][:, None] + np.arange(shape.count)).reshape(-1)
        return _Piece(rows=rows, part=local, texts=local if shape.has_text else None, latest=latest.astype(np.intp),
                      shape=shape, staged=self._staged[number])

    def detect(self, pieces: Sequence[_Piece]) -> list[slice | Rows]:
        """Rows whose value, raw bits or quality differ from what was published last; their sequences go up by one.

        A sequence that the producer overwrote is put right; sequences are the writer's alone.
        """
        found = []
        for piece in pieces:
            rows = self._detect_one(piece)
            if rows is not None:
                found.append(rows)
        return found

    def _detect_one(self, piece: _Piece) -> slice | Rows | None:
        if piece.shape is None or piece.staged is None:
            current = self.words[piece.part]
            previous = self.memory.records[piece.latest, piece.part]
        else:
            current = piece.staged[0][piece.part].reshape(-1)
            previous = piece.shape.records[piece.latest, piece.part].reshape(-1)
        size = len(current)
        differs = np.not_equal(current, previous, out=self._differs[:size])
        if not np.logical_or.reduce(differs):  # ends at the first difference
            return None
        if np.logical_and.reduce(differs[VALUE_WORD::RECORD_WORDS]):  # as where every number moves: the rest is no news
            return self._count_up_all(piece, previous.view(RECORD)["sequence"])
        if self._only_times(size):
            return None
        # word by word or-ed with its two followers: at the value of a record this says value, raw, quality or sequence
        spread = np.logical_or(differs[:-2], differs[1:-1], out=self._spread[: size - 2])
        np.logical_or(spread, differs[2:], out=spread)
        suspects = spread[VALUE_WORD::RECORD_WORDS].copy()
        return self._count_up(piece, suspects.nonzero()[0], current, previous)

    def _only_times(self, size: int) -> bool:
        """Whether all differences among the first `size` words lie in the times, as after most polls."""
        self._differs[size : size + 8] = False
        part = slice(0, (size + 7) >> 3)  # eight flags in one word
        masked = np.bitwise_and(self._flags[part], self._weighty[part], out=self._masked[part])
        return not np.bitwise_or.reduce(masked)

    def _count_up(self, piece: _Piece, local: Rows, current: Words, previous: Words) -> Rows | None:
        """Raise the sequences of the rows that really changed; put those right that were merely overwritten."""
        rows = _global(piece.rows, local)
        slot = piece.latest if piece.shape is None else piece.latest[local // piece.shape.count]
        before = self._old_sequences[slot, rows]
        if np.logical_or.reduce(self._sequences[rows] != before):
            new, old = current.view(RECORD)[local], previous.view(RECORD)[local]
            words, old_words = (r.view(np.uint64).reshape(-1, RECORD_WORDS) for r in (new, old))
            real = (words[:, VALUE_WORD] != old_words[:, VALUE_WORD]) | (new["quality"] != old["quality"])
            real |= new["raw"] != old["raw"]
            self._sequences[rows] = before
            rows, before = rows[real], before[real]
        self._sequences[rows] = before + np.uint32(1)
        return rows if len(rows) else None

    def _count_up_all(self, piece: _Piece, before: npt.NDArray[np.uint32]) -> slice | Rows:
        if isinstance(piece.rows, slice):
            np.add(before, np.uint32(1), out=self._sequences[piece.rows])
        else:
            self._sequences[piece.rows] = before + np.uint32(1)
        return piece.rows

    def fill(self, pieces: Sequence[_Piece], index: Rows, now: int) -> None:
        """Copy the staged records into each block's oldest slot and make it the latest.

        Order, each step visible before the next: sequence odd; records, texts, publish time; sequence even;
        generation. A reader that sees an even sequence twice around its copy has a whole slot, and the generation
        never names a slot that is not whole.
        """
        if len(index) == 1:
            self._fill_one(pieces[0], int(index[0]), now)
            return
        release, hook = fences.release, stops.hook
        generation = self.generation[index] + _ONE
        flat = (generation & _LAST).astype(np.intp) * self._pitch + index
        even = generation * _TWO
        self._sequence[flat] = even - _ONE
        release()  # the odd sequence stands before any byte of the slot changes
        if hook is not None:
            hook("publish.odd")
        self._copy(pieces, hook)
        self._published[flat] = now
        if hook is not None:
            hook("publish.copied")
        release()  # the slot is whole before its sequence says so
        self._sequence[flat] = even
        release()  # the sequence is even before the generation names the slot
        if hook is not None:
            hook("publish.even")
        self.memory.generation[index] = generation
        self.generation[index] = generation
        if hook is not None:
            hook("publish.generation")

    def _fill_one(self, piece: _Piece, block: int, now: int) -> None:
        """The same for one block, without arrays of one element."""
        words, release, hook = self.memory.words, fences.release, stops.hook
        generation = self.generation.item(block) + 1
        place = (generation & (SLOTS - 1)) * self._pitch + block
        sequence = self._sequence_word + place
        words[sequence] = 2 * generation - 1
        release()
        if hook is not None:
            hook("publish.odd")
        self._copy((piece,), hook)
        words[self._published_word + place] = now
        if hook is not None:
            hook("publish.copied")
        release()
        words[sequence] = 2 * generation
        release()
        if hook is not None:
            hook("publish.even")
        words[self._generation_word + block] = generation
        self.generation[block] = generation
        if hook is not None:
            hook("publish.generation")

    def _copy(self, pieces: Sequence[_Piece], hook: Callable[[str], None] | None) -> None:
        memory = self.memory
        for piece in pieces:
            slot, shape, staged = (piece.latest + 1) % SLOTS, piece.shape, piece.staged
            if shape is None or staged is None:
                memory.records[slot, piece.part] = self.words[piece.part]
            else:
                shape.records[slot, piece.part] = staged[0][piece.part]
            if hook is not None:
                hook("publish.half")
            if piece.texts is None:
                continue
            if shape is None or staged is None:
                memory.texts[slot, piece.texts] = self.texts[piece.texts]
            else:
                shape.texts[slot, piece.texts] = staged[1][piece.texts]


def _pattern(words: int) -> Words:
    """Flags, eight in a word, that are set for the words of a record that make a change."""
    flags = np.zeros(8 * words, np.bool_)
    for word in range(VALUE_WORD, RECORD_WORDS):
        flags[word::RECORD_WORDS] = True
    return flags.view(np.uint64)


def _global(rows: slice | Rows, local: Rows) -> Rows:
    """Row numbers of the image for row numbers of a piece."""
    if isinstance(rows, slice):
        return local + np.intp(rows.start)
    return rows[local]
