"""The points of one or more segments as `cpc watch` needs them; follows segments that come, go and change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from process_image import Image, ImageError, LayoutMismatch, NotPermitted, Point, Snapshot, attach

from cpc.commandline.segment_access import reading_order


@dataclass(slots=True)
class _Source:
    """One segment: attached or not, and its latest snapshot."""

    name: str
    image: Image | None = None
    snapshot: Snapshot | None = None
    order: npt.NDArray[np.intp] | None = None
    trouble: str = ""


class SegmentFeed:
    """A watch_view.Feed over segments; `names` is asked again at each refresh, so new segments appear."""

    def __init__(self, names: Callable[[], Sequence[str]]) -> None:
        self._names = names
        self._sources: dict[str, _Source] = {}
        self.version = 0
        self.points: Sequence[Point] = ()
        self.quality = np.empty(0, np.uint32)
        self.number = np.empty(0, np.float64)
        self.age = np.empty(0, np.float64)
        self.stale = np.empty(0, np.bool_)
        self._places: list[tuple[_Source, int]] = []

    def refresh(self) -> None:
        """A new snapshot of every segment; one that is not there is tried again next time."""
        changed = False
        for name in self._names():
            if name not in self._sources:
                self._sources[name] = _Source(name)
        for source in self._sources.values():
            changed |= _take(source)
        if changed:
            self._lay_out()
        self._fill()

    def value(self, row: int) -> object:
        """The typed value of a row."""
        source, place = self._places[row]
        return None if source.snapshot is None else source.snapshot[place].value

    def states(self) -> list[str]:
        """A line for each segment that is missing, stale or not readable."""
        if not self._sources:
            return ["no segment is there yet; `cpc run` makes some"]
        return [f"{source.name}: {source.trouble}" for source in self._sources.values() if source.trouble]

    def close(self) -> None:
        """Let go of every segment."""
        for source in self._sources.values():
            if source.image is not None:
                source.image.close()

    def _lay_out(self) -> None:
        self.version += 1
        points: list[Point] = []
        self._places = []
        for source in self._sources.values():
            if source.snapshot is None or source.order is None:
                continue
            for place in source.order.tolist():
                points.append(source.snapshot.points[place])
                self._places.append((source, place))
        self.points = points

    def _fill(self) -> None:
        shown = [(s.snapshot, s.order) for s in self._sources.values()
                 if s.snapshot is not None and s.order is not None]
        if not shown:
            return
        self.quality = np.concatenate([s.raw_quality[order] for s, order in shown])
        self.number = np.concatenate([s.records["value"][order] for s, order in shown])
        self.age = np.concatenate([s.ages[order] for s, order in shown])
        self.stale = np.concatenate([s.stale_rows[order] for s, order in shown])


def _take(source: _Source) -> bool:
    """A new snapshot of one segment; whether its points changed."""
    before = source.snapshot
    try:
        if source.image is None:
            source.image = attach(source.name)
        source.snapshot = source.image.snapshot()
    except (LayoutMismatch, NotPermitted) as error:
        source.trouble = str(error).removeprefix(f"{source.name}: ")
        return False
    except ImageError as error:
        source.trouble = "stale: its writer is gone, past values are shown" if before else str(error).removeprefix(
            f"{source.name}: ")
        return False
    source.trouble = "stale: its writer is gone or stopped, past values are shown" if source.snapshot.stale else ""
    if before is not None and before.points is source.snapshot.points:
        return False
    source.order = np.array(reading_order(source.snapshot.points), np.intp)
    return True
