"""Points to schema bytes and binary tables, and back.

The schema (JSON) is for people and for languages that have a parser; the tables say the same in a form that C
reads without one. A reader of this package makes the tables again from the schema and refuses where they differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from process_image.errors import LayoutMismatch
from process_image.layout import (
    BLOCK_ENTRY,
    FLAG_SYSTEM,
    FLAG_WRITABLE,
    POINT_ENTRY,
    RECORD,
    TYPE_CODES,
    VERSION,
    align,
    text_width,
)
from process_image.points import Block, Point, arrange

PointLike = Point | str | Mapping[str, Any]
MAX_TEXT = 1 << 20
"""Longest text slot, bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """What follows from the points: the binary tables and the place of each text."""

    blocks: npt.NDArray[Any]
    """BLOCK_ENTRY array."""
    points: npt.NDArray[Any]
    """POINT_ENTRY array."""
    names: bytes
    """Full names, one after the other, UTF-8."""
    text_length: int
    """Bytes of the text area of one slot."""

    def pack(self) -> bytes:
        """The three sections as they stand in the object, padding included."""
        parts = (self.blocks.tobytes(), self.points.tobytes(), self.names)
        return b"".join(part.ljust(align(len(part)), b"\0") for part in parts)


def as_points(points: Iterable[PointLike]) -> list[Point]:
    """Take Points, plain names (float64), or mappings of Point's fields."""
    made = []
    for point in points:
        if isinstance(point, Point):
            made.append(point)
        elif isinstance(point, str):
            made.append(Point(name=point))
        else:
            made.append(Point(**point))
    return made


def make_tables(points: Sequence[Point], blocks: Sequence[Block]) -> Tables:
    """Tables for points in image order."""
    names = [point.full_name.encode("utf-8", "surrogatepass") for point in points]
    lengths = np.array([len(name) for name in names], "u8")
    widths = np.array([text_width(p.size) if p.is_text else 0 for p in points], "u8")
    text_ends = np.cumsum(widths, dtype="u8")
    devices: dict[str, int] = {}
    table = np.zeros(len(points), POINT_ENTRY)
    table["name_offset"] = np.cumsum(lengths, dtype="u8") - lengths
    table["name_length"] = lengths
    table["text_offset"] = np.where(widths > 0, text_ends - widths, 0)
    table["text_size"] = [p.size if p.is_text else 0 for p in points]
    table["type"] = [TYPE_CODES[p.type] for p in points]
    table["flags"] = [FLAG_WRITABLE * p.writable | FLAG_SYSTEM * p.is_system for p in points]
    table["device"] = [devices.setdefault(p.device, len(devices)) for p in points]
    block_table = np.zeros(len(blocks), BLOCK_ENTRY)
    starts = np.array([b.start for b in blocks], "u8")
    counts = np.array([b.count for b in blocks], "u8")
    table["block"] = np.repeat(np.arange(len(blocks), dtype="u4"), counts.astype("i8"))
    block_table["start"], block_table["count"] = starts, counts
    block_table["scan_class"] = [b.scan_class for b in blocks]
    edges = np.concatenate((np.zeros(1, "u8"), text_ends))
    block_table["text_offset"] = edges[starts.astype("i8")]
    block_table["text_length"] = edges[(starts + counts).astype("i8")] - block_table["text_offset"]
    return Tables(blocks=block_table, points=table, names=b"".join(names), text_length=int(edges[-1]))


def encode(points: Sequence[Point], blocks: Sequence[Block]) -> bytes:
    """The schema as JSON, UTF-8, without spaces; fields at their defaults are left out.

    The points are written one by one: as one document of 100,000 they would for a moment take ten times the memory
    of the text, and the process would keep it.
    """
    devices: dict[str, int] = {}
    for point in points:
        devices.setdefault(point.device, len(devices))
    document = {
        "format": "cpc process image", "version": VERSION, "record": RECORD.descr,
        "devices": list(devices),
        "blocks": [[devices[b.device], b.scan_class, b.start, b.count] for b in blocks],
    }
    entries = b",".join(_json(_entry(p, devices[p.device])) for p in points)
    return _json(document)[:-1] + b',"points":[' + entries + b"]}"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _entry(point: Point, device: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": point.name, "device": device, "type": point.type}
    if point.is_text:
        entry["size"] = point.size
    if point.unit:
        entry["unit"] = point.unit
    if point.range != (None, None):
        entry["range"] = [_finite(edge) for edge in point.range]
    if point.description:
        entry["description"] = point.description
    if point.scan_class:
        entry["scan_class"] = point.scan_class
    if point.writable:
        entry["writable"] = True
    if point.extra:
        entry["extra"] = [list(pair) for pair in point.extra]
    return entry


def _finite(edge: float | None) -> float | None:
    return edge if edge is not None and math.isfinite(edge) else None


def decode(data: bytes, name: str) -> tuple[tuple[Point, ...], tuple[Block, ...]]:
    """Points and blocks of a schema; raises LayoutMismatch for anything that is not one."""
    try:
        document = json.loads(data)
        if document["format"] != "cpc process image" or document["version"] != VERSION:
            raise ValueError(f"format {document['format']!r}, version {document['version']!r}")
        if [tuple(entry) for entry in document["record"]] != RECORD.descr:
            raise ValueError("another record")
        devices = document["devices"]
        points = tuple(_point(entry, devices) for entry in document["points"])
        blocks = tuple(
            Block(index=i, device=_text(devices[d]), scan_class=float(s), start=int(a), count=int(n))
            for i, (d, s, a, n) in enumerate(document["blocks"])
        )
        _check_blocks(points, blocks)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as fault:
        raise LayoutMismatch(f"{name}: the schema can't be read ({fault}); the object is damaged") from fault
    return points, blocks


def _point(entry: dict[str, Any], devices: list[str]) -> Point:
    low, high = entry.get("range", (None, None))
    size = entry.get("size", 64)
    if not isinstance(size, int) or not 0 < size <= MAX_TEXT:
        raise ValueError(f"text size {size!r}")
    return Point(
        name=_text(entry["name"]), device=_text(devices[entry["device"]]), type=_text(entry["type"]), size=size,
        unit=_text(entry.get("unit", "")), range=(None if low is None else float(low),
                                                  None if high is None else float(high)),
        description=_text(entry.get("description", "")), scan_class=float(entry.get("scan_class", 0.0)),
        writable=bool(entry.get("writable", False)),
        extra=tuple((_text(key), _text(value)) for key, value in entry.get("extra", ())),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} where a text must stand")
    return value


def _check_blocks(points: Sequence[Point], blocks: Sequence[Block]) -> None:
    """Blocks must cover the points one after the other, each of one device."""
    expected = 0
    for block in blocks:
        if block.start != expected or block.count < 1 or block.start + block.count > len(points):
            raise ValueError(f"block {block.index} at {block.start} with {block.count} records")
        if any(p.device != block.device for p in points[block.start : block.start + block.count]):
            raise ValueError(f"block {block.index} holds points of another device")
        expected += block.count
    if expected != len(points):
        raise ValueError(f"blocks hold {expected} of {len(points)} points")
    if len({point.full_name for point in points}) != len(points):
        raise ValueError("a name stands twice")


def check(points: Iterable[PointLike]) -> tuple[tuple[Point, ...], tuple[Block, ...]]:
    """Points in image order with their blocks; raises ValueError for none, too long texts, or a name twice."""
    ordered, blocks = arrange(as_points(points))
    if not ordered:
        raise ValueError("a segment needs at least one point")
    for point in ordered:
        if point.is_text and not 0 < point.size <= MAX_TEXT:
            raise ValueError(f"{point.full_name}: a text slot holds 1 to {MAX_TEXT} bytes, not {point.size}")
        if not math.isfinite(point.scan_class):
            raise ValueError(f"{point.full_name}: scan class {point.scan_class}")
    return ordered, blocks
