"""Every constant of the layout: offsets, widths, states. `docs/process-image.md` is this module in words.

A test holds document and module together. Whatever changes here changes VERSION.
"""

from __future__ import annotations

import hashlib
import struct
import sys
import zlib
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from process_image.errors import ForeignObject, LayoutMismatch

MAGIC: Final = b"CPCIMAGE"
VERSION: Final = 1
"""Layout version; readers and writers of another version refuse."""
BYTE_ORDER_MARK: Final = 0x01020304
"""Written natively: a reader that sees 0x04030201 stands on a machine of the other byte order."""
HEADER_SIZE: Final = 4096
SLOTS: Final = 4
ALIGN: Final = 64
"""Alignment of every section but the first slot, bytes (a cache line)."""
PAGE: Final = 4096

RECORD: Final = np.dtype(
    [("source_time", "i8"), ("received_time", "i8"), ("value", "f8"), ("raw", "u8"), ("quality", "u4"),
     ("sequence", "u4")]
)
"""One point, 40 bytes, native byte order, naturally aligned."""
RECORD_WORDS: Final = RECORD.itemsize // 8
VALUE_WORD: Final = 2
"""The u64 word of a record that holds `value`; `raw` and then quality with sequence follow it."""

BLOCK_ENTRY: Final = np.dtype(
    [("start", "u4"), ("count", "u4"), ("text_offset", "u8"), ("text_length", "u8"), ("scan_class", "f8")]
)
"""One block in the block table, 32 bytes; `text_offset` counts from the beginning of a slot's text area."""
POINT_ENTRY: Final = np.dtype(
    [("name_offset", "u4"), ("name_length", "u4"), ("block", "u4"), ("type", "u2"), ("flags", "u2"),
     ("text_offset", "u8"), ("text_size", "u4"), ("device", "u4")]
)
"""One point in the point table, 32 bytes; the name is the full name in the names area, UTF-8, not terminated."""
FLAG_WRITABLE: Final = 1
FLAG_SYSTEM: Final = 2

TYPE_CODES: Final = {
    "bool": 1, "int8": 2, "uint8": 3, "int16": 4, "uint16": 5, "int32": 6, "uint32": 7, "int64": 8, "uint64": 9,
    "float32": 10, "float64": 11, "string": 12, "bytes": 13,
}
TEXT_HEAD: Final = 8
"""A text slot begins with two u4: bytes stored, bytes that the whole value has (more than stored = cut)."""
CUT_FLAG: Final = 1 << 31
"""In a journal length: the value was cut."""

# The header's constant part: (name, struct code), packed natively without padding, before READY and never after.
CONSTANTS: Final = (
    ("magic", "8s"), ("version", "I"), ("byte_order", "I"), ("header_size", "I"), ("record_size", "I"),
    ("total_size", "Q"), ("epoch", "Q"), ("layout_hash", "Q"), ("schema_hash", "Q"), ("schema_offset", "Q"),
    ("schema_length", "Q"), ("points", "I"), ("blocks", "I"), ("slots", "I"), ("tables_hash", "I"),
    ("block_table_offset", "Q"), ("point_table_offset", "Q"), ("names_offset", "Q"), ("names_length", "Q"),
    ("generation_offset", "Q"), ("next_due_offset", "Q"), ("sequence_offset", "Q"), ("published_offset", "Q"),
    ("slots_offset", "Q"), ("slot_size", "Q"), ("text_offset", "Q"), ("text_length", "Q"), ("journal_offset", "Q"),
    ("journal_entries", "Q"), ("long_offset", "Q"), ("long_length", "Q"), ("stale_after", "Q"), ("grace", "Q"),
    ("created", "Q"),
)
_PACK: Final = struct.Struct("=" + "".join(code for _, code in CONSTANTS))
CHECKSUM_OFFSET: Final = _PACK.size
"""A u4 behind the constants: CRC-32 of every byte before it."""


class Word:
    """Byte offsets of the live words: each an aligned u64 (the futex word a u32), written whole by one store."""

    STATE: Final = 256
    WRITER_PID: Final = 264
    WRITER_PID_NAMESPACE: Final = 272
    WRITER_STARTED: Final = 280
    CONFIG_HASH: Final = 288
    TAKE_OVERS: Final = 296
    SEMAPHORE_HELD: Final = 304
    HEARTBEAT: Final = 320
    GENERATION: Final = 328
    JOURNAL_RESERVED: Final = 384
    JOURNAL_COMMITTED: Final = 392
    LONG_RESERVED: Final = 400
    PUBLISHES: Final = 448
    CHANGES: Final = 456
    SEMAPHORE_BUSY: Final = 464
    SEMAPHORE_WAITS: Final = 472
    SEMAPHORE_OVERRUNS: Final = 480
    SEMAPHORE_REPAIRS: Final = 488
    LONG_VALUES: Final = 496
    WAKES: Final = 504
    FUTEX: Final = 512


COUNTERS: Final = (
    ("publishes", Word.PUBLISHES), ("changes", Word.CHANGES), ("semaphore_busy", Word.SEMAPHORE_BUSY),
    ("semaphore_waits", Word.SEMAPHORE_WAITS), ("semaphore_overruns", Word.SEMAPHORE_OVERRUNS),
    ("semaphore_repairs", Word.SEMAPHORE_REPAIRS), ("long", Word.LONG_VALUES), ("wakes", Word.WAKES),
    ("take_overs", Word.TAKE_OVERS),
)
"""The writer's counters by name; all but the last count from the start of the writer."""
SEMAPHORE_NAME_OFFSET: Final = 640
SEMAPHORE_NAME_SIZE: Final = 256
"""Name of the semaphore that guards the segment, UTF-8, padded with zero bytes; empty = none."""


class State:
    """Values of the state word."""

    STARTING: Final = 1
    READY: Final = 2
    RETIRED: Final = 3


STATE_NAMES: Final = {0: "EMPTY", State.STARTING: "STARTING", State.READY: "READY", State.RETIRED: "RETIRED"}

JOURNAL_BYTES: Final = RECORD.itemsize + 24
"""Bytes of one journal entry over its five arrays: record, published u8, long u8, row u4, length u4."""


def align(value: int, step: int = ALIGN) -> int:
    """The next multiple of `step`."""
    return -(-value // step) * step


def text_width(size: int) -> int:
    """Bytes of a text slot that holds `size` bytes of text."""
    return TEXT_HEAD + align(size, 8)


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The constant part of the header; field by field as in CONSTANTS."""

    magic: bytes = MAGIC
    version: int = VERSION
    byte_order: int = BYTE_ORDER_MARK
    header_size: int = HEADER_SIZE
    record_size: int = RECORD.itemsize
    total_size: int
    epoch: int = 0
    layout_hash: int = 0
    schema_hash: int
    schema_offset: int
    schema_length: int
    points: int
    blocks: int
    slots: int = SLOTS
    tables_hash: int
    block_table_offset: int
    point_table_offset: int
    names_offset: int
    names_length: int
    generation_offset: int
    next_due_offset: int
    sequence_offset: int
    published_offset: int
    slots_offset: int
    slot_size: int
    text_offset: int
    text_length: int
    journal_offset: int
    journal_entries: int
    long_offset: int
    long_length: int
    stale_after: int
    grace: int
    created: int = 0

    def pack(self) -> bytes:
        """The constant bytes with their checksum."""
        body = _PACK.pack(*(getattr(self, name) for name, _ in CONSTANTS))
        return body + struct.pack("=I", zlib.crc32(body))

    @property
    def journal_parts(self) -> tuple[int, int, int, int, int]:
        """Offsets of the journal's arrays: records, published, long, row, length."""
        start, entries = self.journal_offset, self.journal_entries
        records = align(entries * RECORD.itemsize)
        wide, narrow = align(entries * 8), align(entries * 4)
        return (start, start + records, start + records + wide, start + records + 2 * wide,
                start + records + 2 * wide + narrow)


def _place(*, schema_length: int, points: int, blocks: int, names_length: int, text_length: int, journal_entries: int,
           long_length: int) -> dict[str, int]:
    """Where every section stands: nothing but the counts decides."""
    block_table = align(HEADER_SIZE + schema_length)
    point_table = block_table + align(blocks * BLOCK_ENTRY.itemsize)
    names = point_table + align(points * POINT_ENTRY.itemsize)
    generation = names + align(names_length)
    words = align(blocks * 8)
    next_due, sequence = generation + words, generation + 2 * words
    published = sequence + SLOTS * words
    slots = align(published + SLOTS * words, PAGE)
    text_offset = align(points * RECORD.itemsize)
    slot_size = text_offset + align(text_length)
    journal = slots + SLOTS * slot_size
    long_offset = journal + (align(journal_entries * RECORD.itemsize) + 2 * align(journal_entries * 8)
                             + 2 * align(journal_entries * 4))
    return {
        "schema_offset": HEADER_SIZE, "schema_length": schema_length, "points": points, "blocks": blocks,
        "block_table_offset": block_table, "point_table_offset": point_table, "names_offset": names,
        "names_length": names_length, "generation_offset": generation, "next_due_offset": next_due,
        "sequence_offset": sequence, "published_offset": published, "slots_offset": slots, "slot_size": slot_size,
        "text_offset": text_offset, "text_length": text_length, "journal_offset": journal,
        "journal_entries": journal_entries, "long_offset": long_offset, "long_length": long_length,
        "total_size": align(long_offset + long_length, PAGE),
    }


def plan(*, schema: bytes, tables: bytes, points: int, blocks: int, names_length: int, text_length: int,
         journal_entries: int, long_length: int, stale_after: int, grace: int) -> Header:
    """Place every section; the header that comes back lacks only epoch and time of creation."""
    header = Header(
        magic=MAGIC,
        schema_hash=zlib.crc32(schema), tables_hash=zlib.crc32(tables), stale_after=stale_after, grace=grace,
        **_place(schema_length=len(schema), points=points, blocks=blocks, names_length=names_length,
                 text_length=text_length, journal_entries=journal_entries, long_length=long_length))
    digest = hashlib.sha256(header.pack() + schema).digest()
    return _with(header, layout_hash=int.from_bytes(digest[:8], "little"))


def stamp(header: Header, *, epoch: int, created: int) -> Header:
    """The header of a new object: `epoch` random, `created` in ns since the Unix epoch."""
    return _with(header, epoch=epoch, created=created)


def _with(header: Header, **changes: int) -> Header:
    values = {f.name: getattr(header, f.name) for f in fields(Header)}
    return Header(**{**values, **changes})


def parse(data: bytes | memoryview, size: int, name: str) -> Header:
    """Read the constant part of the first HEADER_SIZE bytes of an object of `size` bytes.

    Raises ForeignObject (no process image at all) or LayoutMismatch (another version or byte order, damaged).
    """
    if size < HEADER_SIZE or len(data) < HEADER_SIZE:
        raise ForeignObject(f"{name}: {size} bytes are too short for a process image; another program's object?")
    values = _PACK.unpack(bytes(data[: _PACK.size]))
    found = dict(zip((n for n, _ in CONSTANTS), values, strict=True))
    if found["magic"] != MAGIC:
        raise ForeignObject(f"{name}: no process image (begins with {found['magic']!r}); another program's object?")
    if found["byte_order"] != BYTE_ORDER_MARK:
        raise LayoutMismatch(f"{name}: written in another byte order than this machine's {sys.byteorder}-endian")
    if found["version"] != VERSION:
        raise LayoutMismatch(f"{name}: layout version {found['version']}, this reader knows version {VERSION}; "
                             "use matching versions of cpc-partition on both sides")
    checksum = struct.unpack("=I", bytes(data[CHECKSUM_OFFSET : CHECKSUM_OFFSET + 4]))[0]
    if checksum != zlib.crc32(bytes(data[:CHECKSUM_OFFSET])):
        raise LayoutMismatch(f"{name}: the header's checksum is wrong; the object is damaged, restart its writer")
    header = Header(**found)
    if header.total_size != size:
        raise LayoutMismatch(f"{name}: {size} bytes where the header says {header.total_size}; the object is cut off")
    _check_bounds(header, name)
    return header


def _check_bounds(header: Header, name: str) -> None:
    """Refuse counts and offsets that do not belong together, before anything is allocated or mapped by them."""
    fixed = (header.header_size, header.record_size, header.slots)
    if fixed != (HEADER_SIZE, RECORD.itemsize, SLOTS):
        raise LayoutMismatch(f"{name}: header, record and slots are {fixed}; this reader knows "
                             f"{(HEADER_SIZE, RECORD.itemsize, SLOTS)}")
    placed = _place(
        schema_length=header.schema_length, points=header.points, blocks=header.blocks,
        names_length=header.names_length, text_length=header.text_length, journal_entries=header.journal_entries,
        long_length=header.long_length)
    wrong = [field for field, value in placed.items() if getattr(header, field) != value]
    if wrong or not header.points or not header.blocks or not header.journal_entries or header.text_length % 8:
        raise LayoutMismatch(f"{name}: the header contradicts itself ({wrong[0] if wrong else 'counts'}); damaged")
