"""The points of an outstation as columns: one table for each type, shared by all masters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dnp3_outstation.codes import EVENT_OF, Flag, Kind
from dnp3_outstation.errors import ConfigurationError
from dnp3_outstation.objects import DEFAULT_EVENT, DEFAULT_STATIC, knows_event, knows_static

LONGEST_STRING: Final = 255
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class PointConfig:
    """One point as the masters see it."""

    kind: Kind
    index: int
    """0..65535, unique within the type."""
    event_class: int = 0
    """1, 2, 3; 0 = no events."""
    static_variation: int = 0
    """Variation for reads of variation 0 and of class 0; 0 = the type's default."""
    event_variation: int = 0
    """Variation for events asked for by class or by variation 0; 0 = the type's default."""
    deadband: float = 0.0
    """An analog or counter event needs a change by more than this; 0 = any change."""
    frozen_class: int = 0
    """Class of the events of its frozen counter; only for counters."""
    command_class: int = 0
    """Class of the events that commands to it make; only for outputs."""


class PointTable:
    """All points of one type, in the order of their indexes."""

    def __init__(self, kind: Kind, points: Sequence[PointConfig]) -> None:
        ordered = sorted(points, key=lambda p: p.index)
        self.kind = kind
        self.index = np.array([p.index for p in ordered], np.int64)
        _check(kind, ordered, self.index)
        count = len(ordered)
        self.value = np.zeros(count)
        self.flags = np.full(count, int(Flag.RESTART), np.uint8)
        self.time = np.zeros(count, np.int64)
        self.text = [b""] * count if kind == Kind.OCTET_STRING else []
        self.event_class = np.array([p.event_class for p in ordered], np.uint8)
        self.command_class = np.array([p.command_class for p in ordered], np.uint8)
        self.deadband = np.array([p.deadband for p in ordered], np.float64)
        default, event = DEFAULT_STATIC[kind], DEFAULT_EVENT[EVENT_OF[kind]]
        self.static_variation = np.array([p.static_variation or default for p in ordered], np.uint8)
        self.event_variation = np.array([p.event_variation or event for p in ordered], np.uint8)
        self.range_end: Rows
        """For each row the row behind the stretch of consecutive indexes that it is in."""
        self.run_end: Rows
        """The same for stretches that have one default variation, too."""
        self.dense = bool(count and self.index[0] == 0 and self.index[-1] == count - 1)
        gaps = np.diff(self.index) != 1
        self.range_end = _ends(gaps)
        self.run_end = _ends(gaps | (np.diff(self.static_variation.astype(np.int64)) != 0))

    def __len__(self) -> int:
        """Number of points."""
        return len(self.index)

    def rows_of(self, indexes: npt.ArrayLike) -> Rows:
        """Rows of points by index; -1 where there is none."""
        wanted = np.asarray(indexes, np.int64)
        if self.dense:
            return np.where((wanted >= 0) & (wanted < len(self)), wanted, -1).astype(np.intp)
        if not len(self):
            return np.full(len(wanted), -1, np.intp)
        places = np.minimum(np.searchsorted(self.index, wanted), len(self) - 1)
        return np.where(self.index[places] == wanted, places, -1).astype(np.intp)

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Rows whose index lies in start..stop, as first and behind."""
        return int(np.searchsorted(self.index, start)), int(np.searchsorted(self.index, stop, side="right"))


class Database:
    """All tables of an outstation."""

    def __init__(self, points: Iterable[PointConfig]) -> None:
        """Raises ConfigurationError for an index that stands twice and for a variation that does not exist."""
        by_kind: dict[Kind, list[PointConfig]] = {kind: [] for kind in Kind}
        for point in points:
            by_kind[point.kind].append(point)
        by_kind[Kind.FROZEN_COUNTER] += [
            PointConfig(kind=Kind.FROZEN_COUNTER, index=p.index, event_class=p.frozen_class)
            for p in by_kind[Kind.COUNTER]]
        self.tables = {kind: PointTable(kind, members) for kind, members in by_kind.items()}
        self.cleared = np.zeros(len(self.tables[Kind.COUNTER]))
        """What each counter showed when it was last cleared; a running counter counts from there."""

    def __getitem__(self, kind: Kind) -> PointTable:
        """The table of a type."""
        return self.tables[kind]

    def __len__(self) -> int:
        """Number of points, frozen counters included."""
        return sum(len(table) for table in self.tables.values())


def _ends(breaks: npt.NDArray[np.bool_]) -> Rows:
    """For each row the row behind its stretch, where a stretch ends after each row that `breaks` marks."""
    edges = np.append(np.flatnonzero(breaks) + 1, len(breaks) + 1).astype(np.intp)
    return edges[np.searchsorted(edges, np.arange(len(breaks) + 1), side="right")]


def _check(kind: Kind, points: Sequence[PointConfig], index: npt.NDArray[np.int64]) -> None:
    for point in points:
        name = f"{kind.name} {point.index}"
        if not 0 <= point.index <= 0xFFFF:
            raise ConfigurationError(f"{name}: allowed indexes are 0 to 65535")
        if not knows_static(kind, point.static_variation):
            raise ConfigurationError(f"{name}: there is no g{int(kind)}v{point.static_variation}")
        if not knows_event(EVENT_OF[kind], point.event_variation):
            raise ConfigurationError(f"{name}: there is no g{int(EVENT_OF[kind])}v{point.event_variation}")
        if not all(0 <= c <= 3 for c in (point.event_class, point.frozen_class, point.command_class)):
            raise ConfigurationError(f"{name}: classes are 1, 2, 3, or 0 for none")
        if not point.deadband >= 0:
            raise ConfigurationError(f"{name}: deadband {point.deadband}; it is 0 or more")
    twice = np.flatnonzero(np.diff(index) == 0)
    if len(twice):
        raise ConfigurationError(f"{kind.name} {int(index[twice[0]])}: the index stands twice")
