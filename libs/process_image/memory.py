"""One mapping of a segment with views of all its parts; the writer's and the reader's common ground."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from process_image.layout import (
    HEADER_SIZE,
    RECORD,
    RECORD_WORDS,
    SEMAPHORE_NAME_OFFSET,
    SEMAPHORE_NAME_SIZE,
    SLOTS,
    Header,
    Word,
    align,
    parse,
)

Words = npt.NDArray[np.uint64]


class Memory:
    """Views into one mapped object; read-only unless it was opened for writing.

    `words` is the whole object as u64 by number (offset / 8), for live words one at a time; the arrays are as the
    layout names them.
    """

    def __init__(self, fd: int, name: str, *, write: bool, header: Header | None = None) -> None:
        """Map the open object; raises ForeignObject or LayoutMismatch for what is no segment of this version.

        A writer that has just made the object hands over the header that it is about to write.
        """
        found = os.fstat(fd)
        self.name = name
        self.size = found.st_size
        self.identity = (found.st_dev, found.st_ino)
        self.header = header if header is not None else parse(os.pread(fd, HEADER_SIZE, 0), self.size, name)
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)
        self._map = mmap.mmap(fd, self.header.total_size, flags=mmap.MAP_SHARED, prot=protection)
        if write:
            self._map.madvise(mmap.MADV_DONTFORK)  # a forked child must not be able to write
        self.bytes: npt.NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        self.words = memoryview(self._map).cast("Q")
        self.futex = memoryview(self._map)[Word.FUTEX : Word.FUTEX + 4].cast("I")
        self.futex_address = int(self.bytes.ctypes.data) + Word.FUTEX
        self._make_views(self.header)

    def _make_views(self, h: Header) -> None:
        pitch = align(h.blocks * 8) // 8
        self.generation = self._array(h.generation_offset, "u8", h.blocks)
        self.next_due = self._array(h.next_due_offset, "u8", h.blocks)
        self.sequence = self._array(h.sequence_offset, "u8", SLOTS * pitch).reshape(SLOTS, pitch)
        self.published = self._array(h.published_offset, "u8", SLOTS * pitch).reshape(SLOTS, pitch)
        slots = self._array(h.slots_offset, "u8", SLOTS * h.slot_size // 8).reshape(SLOTS, h.slot_size // 8)
        self.slots = slots
        self.records = slots[:, : h.points * RECORD_WORDS]
        text = h.text_offset // 8
        self.texts = slots[:, text : text + h.text_length // 8]
        records, published, long, row, length = h.journal_parts
        self.journal_records = self._array(records, RECORD, h.journal_entries)
        self.journal_published = self._array(published, "u8", h.journal_entries)
        self.journal_long = self._array(long, "u8", h.journal_entries)
        self.journal_row = self._array(row, "u4", h.journal_entries)
        self.journal_length = self._array(length, "u4", h.journal_entries)
        self.long = self._array(h.long_offset, "u1", h.long_length)

    def _array(self, offset: int, kind: Any, count: int) -> npt.NDArray[Any]:
        dtype = np.dtype(kind)
        return self.bytes[offset : offset + count * dtype.itemsize].view(dtype)

    def read(self, offset: int) -> int:
        """A live word of the header by its byte offset."""
        return self.words[offset >> 3]

    def section(self, start: int, length: int) -> bytes:
        """A copy of some bytes."""
        return self.bytes[start : start + length].tobytes()

    @property
    def semaphore_name(self) -> str:
        """Name of the semaphore that guards the segment, empty for none."""
        raw = self.section(SEMAPHORE_NAME_OFFSET, SEMAPHORE_NAME_SIZE)
        return raw.split(b"\0", 1)[0].decode("utf-8", "replace")

    def abandon(self) -> None:
        """Forget the mapping without unmapping: in a forked child it is not mapped, and its place may be another's."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))  # never collected, so never unmapped

    def close(self) -> None:
        """Unmap; views that someone still holds keep the mapping until they are gone."""
        for name in ("bytes", "generation", "next_due", "sequence", "published", "slots", "records", "texts",
                     "journal_records", "journal_published", "journal_long", "journal_row", "journal_length", "long"):
            self.__dict__.pop(name, None)
        for name in ("words", "futex"):
            view = self.__dict__.pop(name, None)
            if view is not None:
                view.release()
        try:
            self._map.close()
        except BufferError:
            return  # a view is still in use: the mapping goes with the last one
