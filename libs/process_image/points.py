"""What a segment holds: points, and the blocks in which they are published together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

NUMERIC_TYPES = frozenset(
    ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
TEXT_TYPES = frozenset(["string", "bytes"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One value of a device, or one that the partition makes itself (a system point)."""

    name: str
    """Name within the device, unique there; system points begin with one `$`."""
    device: str = ""
    """Alias of the device; a point without a device is looked up by its name alone."""
    type: str = "float64"
    """One of NUMERIC_TYPES or TEXT_TYPES; decides how `value` and `raw` are read back."""
    unit: str = ""
    """Engineering unit, free text, UCUM preferred."""
    range: tuple[float | None, float | None] = (None, None)
    """Lowest and highest engineering value that is plausible, None where open."""
    description: str = ""
    """For people."""
    scan_class: float = 0.0
    """Interval in seconds at which the point is acquired, 0 = back to back or by event."""
    writable: bool = False
    """Whether a command may be addressed to it."""
    size: int = 64
    """Bytes of its text slot; only for TEXT_TYPES."""
    extra: tuple[tuple[str, str], ...] = field(default=())
    """Further properties of the schema entry (such as texts of an enumeration), as pairs."""

    def __post_init__(self) -> None:
        """Refuse what could not be read back."""
        if self.type not in NUMERIC_TYPES and self.type not in TEXT_TYPES:
            raise ValueError(f"{self.full_name}: unknown type {self.type!r}")
        if not self.name:
            raise ValueError("a point needs a name")

    @property
    def full_name(self) -> str:
        """`device/name`, the string by which a consumer looks the point up."""
        return f"{self.device}/{self.name}" if self.device else self.name

    @property
    def is_text(self) -> bool:
        """Whether the value stands in a text slot and not in the record."""
        return self.type in TEXT_TYPES

    @property
    def is_system(self) -> bool:
        """Whether the partition makes this point itself."""
        return self.name.startswith("$") and not self.name.startswith("$$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """The points of one device in one scan class, published together."""

    index: int
    """Number of the block within the segment."""
    device: str
    """Alias of the device."""
    scan_class: float
    """Interval in seconds."""
    start: int
    """Row of its first record in the image."""
    count: int
    """Number of its records."""


def arrange(points: Iterable[Point]) -> tuple[tuple[Point, ...], tuple[Block, ...]]:
    """Put points into image order: block by block, blocks of equal shape side by side.

    A block is one device in one scan class; the system points of a device are a block of their own, because they
    change with every poll of any scan class. Raises ValueError for a full name that stands twice.
    """
    members: dict[tuple[str, float, bool], list[Point]] = {}
    seen: set[str] = set()
    for point in points:
        if point.full_name in seen:
            raise ValueError(f"{point.full_name}: stands twice")
        seen.add(point.full_name)
        members.setdefault((point.device, point.scan_class, point.is_system), []).append(point)
    shapes: dict[tuple[int, tuple[int, ...]], list[list[Point]]] = {}
    for group in members.values():
        shapes.setdefault(_shape(group), []).append(group)
    ordered: list[Point] = []
    blocks: list[Block] = []
    for groups in shapes.values():
        for group in groups:
            first = group[0]
            blocks.append(
                Block(index=len(blocks), device=first.device, scan_class=first.scan_class,
                      start=len(ordered), count=len(group))
            )
            ordered.extend(group)
    return tuple(ordered), tuple(blocks)


def _shape(points: Sequence[Point]) -> tuple[int, tuple[int, ...]]:
    """What two blocks must share to lie at one stride: record count and the places and sizes of text slots."""
    if not any(p.is_text for p in points):
        return len(points), ()
    return len(points), tuple(p.size if p.is_text else 0 for p in points)
