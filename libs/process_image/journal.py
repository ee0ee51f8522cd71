"""The journal's writing side: a ring of changes with a byte ring for texts beside it.

`reserved` is raised before entries are written, `committed` after; a reader copies below `committed` and then looks
at `reserved` again: what lies behind it by more than the ring's size may be overwritten, and counts as lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from process_image import fences, stops
from process_image.layout import CUT_FLAG, RECORD, RECORD_WORDS, TEXT_HEAD, Word
from process_image.memory import Memory

Rows = npt.NDArray[np.intp]
_OPAQUE: Final = np.dtype((np.void, RECORD.itemsize))
"""A record as bytes: numpy copies such elements whole, and structured ones field by field."""


class Journal:
    """Writes changes; positions count entries (bytes for texts) since the epoch began and never fall."""

    def __init__(self, memory: Memory, records: npt.NDArray[np.void], texts: npt.NDArray[np.uint8],
                 places: npt.NDArray[np.int64]) -> None:
        """`records` and `texts` are staged, `places` is the offset of each row's text slot there, -1 for numbers."""
        self._memory = memory
        self._source, self._source_words = records.view(_OPAQUE), records.view(np.uint64)
        self._texts = texts
        self._heads = texts.view(np.uint32)
        self._places = places
        self._has_text = bool((places >= 0).any())
        self._entries = memory.header.journal_entries
        self._long = memory.header.long_length
        self._records = memory.journal_records.view(_OPAQUE)
        self._words = memory.journal_records.view(np.uint64)
        self._numbers = np.arange(memory.header.points, dtype=np.uint32)
        self.position = memory.read(Word.JOURNAL_COMMITTED)
        # entries that a killed writer had reserved may be overwritten: the mark never falls, they count as lost
        self._reserved = max(memory.read(Word.JOURNAL_RESERVED), self.position)
        self._long_position = memory.read(Word.LONG_RESERVED)
        self.long_values = 0

    def write(self, found: Sequence[slice | Rows], now: int) -> int:
        """Write the staged records of the rows that `found` names; returns their number."""
        count = sum(part.stop - part.start if isinstance(part, slice) else len(part) for part in found)
        if not count:
            return 0
        words, hook = self._memory.words, stops.hook
        start = self.position
        end = start + count
        self._reserved = max(self._reserved, end)
        words[Word.JOURNAL_RESERVED >> 3] = self._reserved
        fences.release()  # readers must see the reservation before any old entry changes
        if hook is not None:
            hook("publish.reserved")
        position = start
        for part in found:
            position = self._write_part(part, position, end, now)
        if hook is not None:
            hook("publish.entries")
        fences.release()  # entries are whole before they are committed
        words[Word.JOURNAL_COMMITTED >> 3] = end
        self.position = end
        if hook is not None:
            hook("publish.committed")
        return count

    def _write_part(self, part: slice | Rows, position: int, end: int, now: int) -> int:
        """Write one part from `position` on, leaving out what this same call would overwrite again."""
        length = part.stop - part.start if isinstance(part, slice) else len(part)
        skip = min(length, max(0, end - self._entries - position))
        position += skip
        part = slice(part.start + skip, part.stop) if isinstance(part, slice) else part[skip:]
        left = length - skip
        while left:
            place = position % self._entries
            fits = min(left, self._entries - place)
            if isinstance(part, slice):
                head: slice | Rows = slice(part.start, part.start + fits)
                part = slice(part.start + fits, part.stop)
            else:
                head, part = part[:fits], part[fits:]
            self._write_straight(head, slice(place, place + fits), now)
            position += fits
            left -= fits
        return position

    def _write_straight(self, rows: slice | Rows, target: slice, now: int) -> None:
        memory = self._memory
        if isinstance(rows, slice):
            here = slice(target.start * RECORD_WORDS, target.stop * RECORD_WORDS)
            there = slice(rows.start * RECORD_WORDS, rows.stop * RECORD_WORDS)
            self._words[here] = self._source_words[there]
            memory.journal_row[target] = self._numbers[rows]
        else:
            self._source.take(rows, out=self._records[target], mode="clip")
            memory.journal_row[target] = rows
        memory.journal_published[target] = now
        if self._has_text:
            self._write_texts(rows, target)

    def _write_texts(self, rows: slice | Rows, target: slice) -> None:
        """Put the texts among the rows into the byte ring, and their positions into the entries."""
        memory = self._memory
        places = self._places[rows]
        for i in np.flatnonzero(places >= 0).tolist():
            place = int(places[i])
            stored, whole = (int(n) for n in self._heads[place // 4 : place // 4 + 2])
            at = target.start + i
            memory.journal_length[at] = stored | (CUT_FLAG if whole > stored else 0)
            if stored:
                memory.journal_long[at] = self._put(self._texts[place + TEXT_HEAD : place + TEXT_HEAD + stored])
        if stops.hook is not None:
            stops.hook("publish.long")

    def _put(self, data: npt.NDArray[np.uint8]) -> int:
        """Append bytes to the byte ring; returns their position."""
        memory, size = self._memory, len(data)
        position = self._long_position
        self._long_position += size
        memory.words[Word.LONG_RESERVED >> 3] = self._long_position
        fences.release()  # as for entries: the reservation stands before old bytes change
        place = position % self._long
        head = min(size, self._long - place)
        memory.long[place : place + head] = data[:head]
        memory.long[: size - head] = data[head:]
        self.long_values += 1
        return position


def newest(memory: Memory, count: int) -> tuple[Rows, npt.NDArray[np.void], npt.NDArray[np.intp], bool]:
    """Rows, records and places of the last `count` committed entries, oldest first, copied; whether all are there.

    Entries that lie behind `reserved` by more than the ring's size are left out: a writer may have been killed while
    it wrote over them.
    """
    entries = memory.header.journal_entries
    committed = memory.read(Word.JOURNAL_COMMITTED)
    wanted = max(0, committed - count)
    oldest = max(wanted, memory.read(Word.JOURNAL_RESERVED) - entries)
    places = np.arange(oldest, max(oldest, committed)) % entries
    records = np.empty(len(places), RECORD)
    np.take(memory.journal_records, places, out=records, mode="clip")
    return memory.journal_row[places].astype(np.intp), records, places, oldest == wanted
