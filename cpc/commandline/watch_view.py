"""What `cpc watch` shows: which points in which order, and each as cells. No terminal here, so it can be tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
from process_image import Point
from process_image.quality import quality_name

from cpc.commandline.output import plural, printable, text_age, text_value

COLUMNS = ("POINT", "VALUE", "UNIT", "QUALITY", "AGE")
"""Heads of the columns; sorting goes by their index."""
POINT, VALUE, UNIT, QUALITY, AGE = range(5)
_SEVERITY = 30
"""The two top bits of a StatusCode: 0 Good, 1 Uncertain, 2 Bad (OPC UA Part 4, clause 7.39)."""


class Feed(Protocol):
    """Where points and their records come from; rows count over all segments shown."""

    version: int
    """Changes when `points` did: other rows stand there now."""
    points: Sequence[Point]
    quality: npt.NDArray[np.uint32]
    """StatusCode of each row."""
    number: npt.NDArray[np.float64]
    """Numeric value of each row; for sorting alone."""
    age: npt.NDArray[np.float64]
    """Seconds since each row was published."""
    stale: npt.NDArray[np.bool_]
    """Whether the row's writer is overdue."""

    def refresh(self) -> None:
        """Take a new snapshot, attaching (again) where needed."""

    def value(self, row: int) -> object:
        """The typed value; None where nothing was ever read."""

    def states(self) -> list[str]:
        """A line for each segment that is missing, stale or not readable."""


@dataclass(slots=True)
class View:
    """The choice of rows and their order."""

    feed: Feed
    filter: str = ""
    """Words that must all stand in `device/name`, unit or description, in any case."""
    only_bad: bool = False
    """Show only what is not Good, or stale."""
    sort: int | None = None
    """Column, None = as the segment has them."""
    descending: bool = False
    order: npt.NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    """Rows to show, in this order."""
    _version: int = -1
    _haystacks: list[str] = field(default_factory=list)
    _names: npt.NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    """Rank of each row's name, units likewise: sorted once for each layout."""
    _units: npt.NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    _matching: npt.NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    _matched_filter: str | None = None

    def update(self) -> None:
        """Choose and order the rows anew from what the feed holds."""
        if self._version != self.feed.version:
            self._version = self.feed.version
            self._learn()
        if self._matched_filter != self.filter:
            self._match()
        rows = self._matching
        if self.only_bad:
            rows = rows[self.bad(rows)]
        if self.sort is not None:
            keys = self._keys(self.sort)[rows]
            rows = rows[np.argsort(keys, kind="stable")]
            if self.descending:
                rows = rows[::-1]
        self.order = rows

    def bad(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Which of the rows are not Good, or stale."""
        chosen: npt.NDArray[np.bool_] = (self.feed.quality[rows] >> _SEVERITY > 0) | self.feed.stale[rows]
        return chosen

    def sort_by(self, column: int) -> None:
        """A column first ascending, then descending, then not at all."""
        if self.sort != column:
            self.sort, self.descending = column, False
        elif not self.descending:
            self.descending = True
        else:
            self.sort, self.descending = None, False
        self.update()

    def cells(self, row: int) -> tuple[str, str, str, str, str]:
        """One row for people, in the order of COLUMNS."""
        point = self.feed.points[row]
        quality = quality_name(int(self.feed.quality[row]))
        if self.feed.stale[row]:
            quality = f"stale, was {quality}"
        return (printable(point.full_name), text_value(self.feed.value(row)), printable(point.unit), quality,
                text_age(float(self.feed.age[row])))

    def tone(self, row: int) -> str:
        """`stale`, `good`, `uncertain` or `bad`."""
        if self.feed.stale[row]:
            return "stale"
        return ("good", "uncertain", "bad", "bad")[int(self.feed.quality[row]) >> _SEVERITY]

    def summary(self) -> str:
        """`12 of 340 points, 3 not good`."""
        total = len(self.feed.points)
        trouble = int(np.count_nonzero(self.bad(np.arange(total))))
        shown = plural(total, "point")
        if len(self.order) != total:
            shown = f"{len(self.order)} of {shown}"
        return f"{shown}, {trouble} not good"

    def _learn(self) -> None:
        points = self.feed.points
        self._haystacks = [f"{p.full_name} {p.unit} {p.description}".casefold() for p in points]
        self._names = _ranks([p.full_name.casefold() for p in points])
        self._units = _ranks([p.unit.casefold() for p in points])
        self._matched_filter = None

    def _match(self) -> None:
        words = self.filter.casefold().split()
        self._matching = np.array(
            [row for row, text in enumerate(self._haystacks) if all(word in text for word in words)], np.intp
        )
        self._matched_filter = self.filter

    def _keys(self, column: int) -> npt.NDArray[np.generic]:
        keys: Sequence[npt.NDArray[np.generic]] = (
            self._names, self.feed.number, self._units, self.feed.quality, self.feed.age
        )
        return keys[column]


def _ranks(texts: Sequence[str]) -> npt.NDArray[np.intp]:
    """The place of each text among the sorted ones."""
    places = {text: place for place, text in enumerate(sorted(set(texts)))}
    return np.array([places[text] for text in texts], np.intp)
