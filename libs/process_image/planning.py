"""Everything about a segment that follows from its points, computed before its lease is taken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from process_image.layout import RECORD_WORDS, Header, plan
from process_image.points import Block, Point
from process_image.schema import PointLike, Tables, check, encode, make_tables

MAX_JOURNAL: int = 1 << 28


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Points in image order with all that is derived from them."""

    points: tuple[Point, ...]
    blocks: tuple[Block, ...]
    tables: Tables
    schema: bytes
    header: Header
    """Lacks only epoch and time of creation."""
    index: dict[str, int]
    """Full name -> row."""
    text_places: npt.NDArray[np.int64]
    """For each row the byte offset of its text slot in a slot's text area, -1 for numbers."""
    block_of: npt.NDArray[np.intp]
    """For each row its block."""
    starts: npt.NDArray[np.intp]
    """First row of each block, and the number of rows."""
    record_edges: npt.NDArray[np.intp]
    """The same in u64 words of the records."""
    text_edges: npt.NDArray[np.intp]
    """First u64 word of each block in the text area, and the length of the area."""


def make_plan(points: Iterable[PointLike], *, journal_entries: int, long_bytes: int, stale_after: float,
              grace: float) -> Plan:
    """Plan a segment; times in seconds. Raises ValueError for points, names or sizes that can't be."""
    ordered, blocks = check(points)
    if not 1 <= journal_entries <= MAX_JOURNAL:
        raise ValueError(f"a journal holds 1 to {MAX_JOURNAL} entries, not {journal_entries}")
    if not (stale_after > 0 and grace >= 0 and long_bytes >= 0):
        raise ValueError("stale_after must be above 0 s, grace and long_bytes not below 0")
    longest = max((p.size for p in ordered if p.is_text), default=0)
    return derive(
        ordered, blocks, encode(ordered, blocks), journal_entries=journal_entries,
        long_length=max(long_bytes, 2 * longest) if longest else 0,
        stale_after=int(stale_after * 1e9), grace=int(grace * 1e9))


def derive(points: tuple[Point, ...], blocks: tuple[Block, ...], schema: bytes, *, journal_entries: int,
           long_length: int, stale_after: int, grace: int) -> Plan:
    """The plan of points that are in image order already; times in ns."""
    tables = make_tables(points, blocks)
    header = plan(
        schema=schema, tables=tables.pack(), points=len(points), blocks=len(blocks), names_length=len(tables.names),
        text_length=tables.text_length, journal_entries=journal_entries, long_length=long_length,
        stale_after=stale_after, grace=grace)
    starts = np.append(tables.blocks["start"], len(points)).astype(np.intp)
    is_text = tables.points["text_size"] > 0
    return Plan(
        points=points, blocks=blocks, tables=tables, schema=schema, header=header,
        index={point.full_name: row for row, point in enumerate(points)},
        text_places=np.where(is_text, tables.points["text_offset"].astype(np.int64), -1),
        block_of=tables.points["block"].astype(np.intp), starts=starts, record_edges=starts * RECORD_WORDS,
        text_edges=np.append(tables.blocks["text_offset"], tables.text_length).astype(np.intp) // 8)
