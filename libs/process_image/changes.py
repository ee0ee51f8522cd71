"""The journal's reading side: batches of changes as arrays, with an exact count of what was lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from process_image import fences
from process_image.attached import Attached
from process_image.layout import CUT_FLAG, RECORD, Word
from process_image.points import Point
from process_image.quality import is_bad
from process_image.snapshot import Snapshot, Value, as_text, typed

BATCH: Final = 16384
"""Most entries in one batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """A place in a segment's journal; str() of it can be kept, and `parse` takes it back."""

    epoch: int
    position: int
    """Entries before it, since the epoch began."""

    def __str__(self) -> str:
        """`epoch:position`, hexadecimal and decimal."""
        return f"{self.epoch:016x}:{self.position}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor of a str(); ValueError for anything else."""
        epoch, _, position = text.partition(":")
        return cls(epoch=int(epoch, 16), position=int(position))


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """Some changes in the order in which they were published; one array element for each."""

    points: tuple[Point, ...] = field(repr=False)
    """Points of the layout that `rows` counts in."""
    rows: npt.NDArray[np.uint32]
    """Row of the point that changed."""
    records: npt.NDArray[np.void]
    """RECORD array: the record as it was published."""
    published: npt.NDArray[np.int64]
    """Monotonic ns of the publish."""
    texts: Mapping[int, str | bytes | None]
    """Value of each text entry by its number in this batch; None where it was overwritten before it could be read."""
    cut: frozenset[int]
    """Numbers of the entries whose text did not fit its slot."""
    lost: int
    """Entries overwritten before this batch."""
    texts_lost: int
    """How many of `texts` are None."""
    cursor: Cursor
    """Where to go on."""
    epoch: int
    new_epoch: bool = False
    """The first batch of an epoch that the cursor was not of: rows and points may be others, take a snapshot."""
    snapshot: Snapshot | None = field(default=None, repr=False)
    """The image after a loss or a new epoch; where its sequence is ahead of an entry's, the entry is older."""

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.rows)

    def value(self, entry: int) -> Value:
        """Typed value of one entry, as in a Sample: None where nothing had ever been read (or a text is lost)."""
        point = self.points[int(self.rows[entry])]
        record = self.records[entry]
        if record["source_time"] == 0 and is_bad(int(record["quality"])):
            return None
        if point.is_text:
            return self.texts.get(entry)
        return typed(float(record["value"]), int(record["raw"]), point.type)


def read_changes(attached: Attached, cursor: Cursor | None) -> Iterator[Changes]:
    """Batches from `cursor` to what is committed now; nothing where there is nothing new.

    Raises ValueError for a cursor that lies ahead of the journal.
    """
    memory = attached.memory
    committed = memory.read(Word.JOURNAL_COMMITTED)
    new_epoch = cursor is not None and cursor.epoch != attached.epoch
    position = 0 if cursor is None or new_epoch else cursor.position
    if position > committed:
        raise ValueError(f"{memory.name}: the cursor {cursor} lies ahead of the journal's end {committed}")
    first = cursor is None or new_epoch
    if first:  # what was before is no loss to a reader that begins
        position = max(0, min(committed, memory.read(Word.JOURNAL_RESERVED) - memory.header.journal_entries))
    while position < committed or new_epoch:
        batch = _read_batch(attached, position, committed, new_epoch=new_epoch)
        position, new_epoch = batch.cursor.position, False
        yield batch


def _read_batch(attached: Attached, position: int, committed: int, *, new_epoch: bool) -> Changes:
    """One batch: copy, then see by `reserved` what of the copy was being overwritten."""
    memory, entries = attached.memory, attached.memory.header.journal_entries
    fences.acquire()  # entries are read after the count that commits them
    oldest = memory.read(Word.JOURNAL_RESERVED) - entries
    start = min(committed, max(position, oldest))
    places = np.arange(start, min(committed, start + BATCH)) % entries
    rows = memory.journal_row[places]
    records = np.empty(len(places), RECORD)
    np.take(memory.journal_records, places, out=records, mode="clip")
    lengths, long = memory.journal_length[places], memory.journal_long[places]
    published = memory.journal_published[places].astype(np.int64)
    texts, cut = _read_texts(attached, rows, lengths, long)
    fences.acquire()  # every byte is read before the reservation is looked at again
    late = min(max(0, memory.read(Word.JOURNAL_RESERVED) - entries - start), len(places))
    fresh = slice(late, None)
    lost = start - position + late
    kept = {i - late: text for i, text in texts.items() if i >= late}
    return Changes(
        points=attached.points, rows=rows[fresh], records=records[fresh], published=published[fresh], texts=kept,
        cut=frozenset(i - late for i in cut if i >= late), lost=lost,
        texts_lost=sum(text is None for text in kept.values()), epoch=attached.epoch, new_epoch=new_epoch,
        cursor=Cursor(epoch=attached.epoch, position=start + len(places)),
        snapshot=attached.snapshot() if lost or new_epoch else None)


def _read_texts(attached: Attached, rows: npt.NDArray[np.uint32], lengths: npt.NDArray[np.uint32],
                long: npt.NDArray[np.uint64]) -> tuple[dict[int, str | bytes | None], set[int]]:
    """Texts of a batch by entry number, and the entries that were cut.

    Entries may be half overwritten at this point; whoever calls throws those away, so nothing here may trust them.
    """
    memory, size = attached.memory, attached.memory.header.long_length
    if not size:
        return {}, set()
    inside = rows < len(attached.points)
    numbers = np.flatnonzero(inside & (attached.text_places[np.where(inside, rows, 0)] >= 0))
    texts: dict[int, str | bytes | None] = {}
    cut: set[int] = set()
    for i in numbers.tolist():
        point, length, position = attached.points[int(rows[i])], int(lengths[i]), int(long[i])
        stored = min(length & ~CUT_FLAG, point.size)
        if length & CUT_FLAG:
            cut.add(i)
        place = position % size
        data = memory.long[place : place + stored].tobytes()
        data += memory.long[: stored - len(data)].tobytes()
        fences.acquire()  # the bytes are read before the reservation that would overwrite them
        gone = stored > 0 and position + size < memory.read(Word.LONG_RESERVED)
        texts[i] = None if gone else as_text(data, point.type)
    return texts, cut
