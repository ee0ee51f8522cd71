"""From points of segments to DNP3 points: by the map, else automatically, with indexes that stay what they were."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dnp3_outstation import Kind, PointConfig
from endpoint_config import POINT_TYPES, Dnp3Map, Dnp3MapPoint
from process_image import Point

TYPE_NAMES = {Kind(group): name for name, group in POINT_TYPES.items()}
OUTPUTS = (Kind.BINARY_OUTPUT, Kind.ANALOG_OUTPUT)
USUAL_CLASS = {Kind.BINARY_INPUT: 1, Kind.DOUBLE_BIT: 1, Kind.ANALOG_INPUT: 2, Kind.COUNTER: 3, Kind.OCTET_STRING: 3}
"""Class of events where the map says nothing; outputs have none."""
_ANALOG_FORMS = {"float32": (5, 7), "float64": (6, 8), "int64": (6, 8), "uint64": (6, 8), "uint32": (6, 8)}
"""Static and event variation that lose nothing of a point's type; integers of up to 32 bits go as such (1, 3)."""
_OUTPUT_STATIC = {1: 1, 5: 3, 6: 4}
"""Variation of g40 for that of g30."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """One DNP3 point and where its values come from."""

    segment: str
    point: str
    """Full name."""
    config: PointConfig
    scale: float = 1.0
    unit: str = ""
    description: str = ""
    writable: bool = False
    range: tuple[float | None, float | None] = (None, None)
    """Lowest and highest value that a command may have, in the point's own units."""


@dataclass(slots=True)
class MappedPoints:
    """The result: what is served, and what to tell a person."""

    served: list[Served] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


Key = tuple[str, str, int]
"""Segment, full name, group."""


@dataclass(slots=True)
class Indexes:
    """Which index each point has within its type; what was given once is never given to another point."""

    known: dict[Key, int] = field(default_factory=dict)
    _taken: dict[int, set[int]] = field(default_factory=dict)
    _next: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Note what is taken."""
        for (_, _, group), index in self.known.items():
            self._taken.setdefault(group, set()).add(index)

    def reserve(self, group: int, index: int) -> None:
        """The map gives this one to somebody."""
        self._taken.setdefault(group, set()).add(index)

    def drop(self, keys: Iterable[Key]) -> None:
        """Forget points whose index the map gives to another."""
        for key in keys:
            self.known.pop(key, None)

    def of(self, key: Key, wanted: int | None) -> int | None:
        """The index of a point: the one wanted, the one it has, or the next free one; None where there is none."""
        group = key[2]
        taken = self._taken.setdefault(group, set())
        if wanted is not None:
            self.known[key] = wanted
            return wanted
        if key in self.known:
            return self.known[key]
        index = self._next.get(group, 0)
        while index in taken:
            index += 1
        self._next[group] = index
        if index > 0xFFFF:
            return None
        taken.add(index)
        self.known[key] = index
        return index


def map_points(points: Mapping[str, Sequence[Point]], mapping: Dnp3Map, indexes: Indexes) -> MappedPoints:
    """The DNP3 points for the points of segments (by segment name, in image order)."""
    result = MappedPoints()
    matcher = _Matcher(mapping)
    wanted = [(segment, point, group, entry) for segment, members in points.items() for point in members
              for group, entry in _types(point, matcher, mapping)]
    fixed = _fixed_indexes(wanted)
    for (_, group), given in fixed.items():
        indexes.reserve(group, given)
    owners = {(group, index): name for (name, group), index in fixed.items()}
    indexes.drop([key for key, index in indexes.known.items() if owners.get((key[2], index), key[1]) != key[1]])
    seen: dict[tuple[int, int], str] = {}
    index: int | None
    for segment, point, group, entry in wanted:
        index = indexes.of((segment, point.full_name, group), fixed.get((point.full_name, group)))
        if index is None or (group, index) in seen:
            why = "no index is free" if index is None else f"index {index} is that of {seen[group, index]}"
            result.warnings.append(f"{point.full_name}: {TYPE_NAMES[Kind(group)]}: {why}; it is not served")
            continue
        seen[group, index] = point.full_name
        result.served.append(_served(segment, point, Kind(group), index, entry))
    result.warnings += matcher.unmatched()
    return result


class _Matcher:
    """Which entries of the map speak of a point."""

    def __init__(self, mapping: Dnp3Map) -> None:
        self._exact: dict[str, list[Dnp3MapPoint]] = {}
        self._patterns = [entry for entry in mapping.points if entry.is_pattern]
        for entry in mapping.points:
            if not entry.is_pattern:
                self._exact.setdefault(entry.name, []).append(entry)
        self._file = mapping.file
        self._unused = {id(entry): entry for entry in mapping.points}

    def of(self, name: str) -> list[Dnp3MapPoint]:
        """Entries with this very name first, then patterns, in the file's order."""
        found = list(self._exact.get(name, ()))
        found += [entry for entry in self._patterns if fnmatch.fnmatchcase(name, entry.name)]
        for entry in found:
            self._unused.pop(id(entry), None)
        return found

    def unmatched(self) -> list[str]:
        """A line for each entry that spoke of no point."""
        return [f"{self._file}:{entry.line}: no point {entry.name!r} in the segments; the full name of a point, or a "
                "pattern" for entry in self._unused.values()]


def _types(point: Point, matcher: _Matcher, mapping: Dnp3Map) -> Iterator[tuple[int, Dnp3MapPoint | None]]:
    """Types as which a point is served, each with the entry that says how."""
    entries = matcher.of(point.full_name)
    named: dict[int, Dnp3MapPoint] = {}
    for entry in entries:
        if entry.type == "none":
            if not named:
                return
            break
        group = POINT_TYPES[entry.type] if entry.type else _usual(point)
        if _fits(point, group):
            named.setdefault(group, entry)
    yield from named.items()
    automatic = mapping.automatic and (mapping.system_points or not point.is_system)
    if not automatic:
        return
    if not set(named) - set(OUTPUTS):
        yield _usual(point), None
    if point.writable and not point.is_text and not set(named) & set(OUTPUTS):
        yield (Kind.BINARY_OUTPUT if point.type == "bool" else Kind.ANALOG_OUTPUT), None


def _usual(point: Point) -> int:
    if point.is_text:
        return Kind.OCTET_STRING
    return Kind.BINARY_INPUT if point.type == "bool" else Kind.ANALOG_INPUT


def _fits(point: Point, group: int) -> bool:
    """Texts are octet strings and nothing else is."""
    return point.is_text == (group == Kind.OCTET_STRING)


def _fixed_indexes(wanted: Sequence[tuple[str, Point, int, Dnp3MapPoint | None]]) -> dict[tuple[str, int], int]:
    """Indexes that the map gives; the points of a pattern count up from its own."""
    counts: dict[int, int] = {}
    fixed: dict[tuple[str, int], int] = {}
    for _, point, group, entry in wanted:
        if entry is not None and entry.index is not None:
            place = counts.get(id(entry), 0)
            counts[id(entry)] = place + 1
            fixed.setdefault((point.full_name, group), entry.index + place)
    return {key: index for key, index in fixed.items() if index <= 0xFFFF}


def _served(segment: str, point: Point, kind: Kind, index: int, entry: Dnp3MapPoint | None) -> Served:
    said = entry if entry is not None else Dnp3MapPoint(name=point.full_name)
    static, event = _variations(point, kind, said)
    cls = said.event_class if said.event_class is not None else USUAL_CLASS.get(kind, 0)
    config = PointConfig(kind=kind, index=index, event_class=cls, static_variation=static, event_variation=event,
                         deadband=said.deadband, frozen_class=said.frozen_class, command_class=said.command_class)
    return Served(segment=segment, point=point.full_name, config=config, scale=said.scale, unit=point.unit,
                  description=point.description, writable=point.writable and kind in OUTPUTS, range=point.range)


def _variations(point: Point, kind: Kind, said: Dnp3MapPoint) -> tuple[int, int]:
    """As the map says, else so that nothing of the point's type is lost."""
    static, event = said.static_variation or 0, said.event_variation or 0
    if kind in (Kind.ANALOG_INPUT, Kind.ANALOG_OUTPUT):
        usual_static, usual_event = _ANALOG_FORMS.get(point.type, (1, 3)) if said.scale == 1.0 else (6, 8)
        if kind == Kind.ANALOG_OUTPUT:
            usual_static = _OUTPUT_STATIC[usual_static]
        static, event = static or usual_static, event or usual_event
    return static, event
