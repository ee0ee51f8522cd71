"""Neighbouring blocks of one shape, seen as a matrix, so that many scattered blocks are one indexed copy."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
import numpy.typing as npt

from process_image.layout import RECORD_WORDS, SLOTS
from process_image.memory import Memory, Words
from process_image.planning import Plan

Index = npt.NDArray[np.intp]
MAX_RUNS: Final = 6
"""Up to so many stretches of blocks are copied one by one; an indexed copy has a higher fixed cost."""


class Shape:
    """The blocks `first` to `last` (exclusive), all with the same number of records and the same text slots.

    `records` and `texts` are the segment's (slot, block, words), `own` and `own_texts` the private (block, words).
    """

    def __init__(self, memory: Memory, plan: Plan, first: int, last: int) -> None:
        """Views into the segment."""
        self.first, self.last = first, last
        starts, texts = plan.record_edges, plan.text_edges
        self._blocks = last - first
        self.count = int(plan.starts[first + 1] - plan.starts[first])
        self._records = slice(int(starts[first]), int(starts[last]))
        self._texts = slice(int(texts[first]), int(texts[last]))
        self.records: Words = memory.records[:, self._records].reshape(SLOTS, self._blocks, self.count * RECORD_WORDS)
        self.has_text = bool(texts[last] > texts[first])
        self.texts: Words = memory.texts[:, self._texts].reshape(SLOTS, self._blocks, -1) if self.has_text else \
            np.zeros((SLOTS, self._blocks, 0), np.uint64)
        assert np.may_share_memory(self.records, memory.bytes), "a copy would never reach the segment"

    def own(self, words: Words) -> Words:
        """The same blocks in a private copy of all records."""
        return words[self._records].reshape(self._blocks, -1)

    def own_texts(self, words: Words) -> Words:
        """The same blocks in a private copy of the text area."""
        return words[self._texts].reshape(self._blocks, -1)


def shapes_of(memory: Memory, plan: Plan) -> list[Shape]:
    """All blocks, shape after shape."""
    widths = np.column_stack((np.diff(plan.record_edges), np.diff(plan.text_edges)))
    cuts = np.flatnonzero((np.diff(widths, axis=0) != 0).any(axis=1)) + 1
    return [Shape(memory, plan, a, b) for a, b in itertools.pairwise([0, *cuts.tolist(), len(widths)])]


def runs(index: Index, slot: npt.NDArray[np.integer]) -> list[tuple[int, int]] | None:
    """Stretches (from, to) of positions in `index` whose blocks are neighbours at one slot; None where too many."""
    cuts = np.flatnonzero((index[1:] - index[:-1] != 1) | (slot[1:] != slot[:-1])) + 1
    if len(cuts) >= MAX_RUNS:
        return None
    return list(itertools.pairwise([0, *cuts.tolist(), len(index)]))


def parts(shapes: list[Shape], ends: Index, index: Index) -> list[tuple[int, slice]]:
    """For each shape that a rising `index` touches, its number and the part of `index` that belongs to it."""
    borders = np.searchsorted(index, ends)
    found, start = [], 0
    for number, end in enumerate(borders.tolist()):
        if end > start:
            found.append((number, slice(start, end)))
            start = end
    assert len(shapes) == len(borders)
    return found
