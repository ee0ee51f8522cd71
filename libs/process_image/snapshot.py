"""What a reader gets: a private, coherent copy of the image, and typed values made from it on demand."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from process_image.layout import TEXT_HEAD
from process_image.points import Point
from process_image.quality import SEVERITY_MASK, UNCERTAIN_LAST_USABLE_VALUE, is_bad, quality_name

Value = bool | int | float | str | bytes | None
_SIGNED: Final = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
_UNSIGNED: Final = {"uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One point of a snapshot."""

    point: Point
    value: Value
    """By the point's type: bool, int, float, str or bytes; None where nothing was ever read."""
    quality: int
    """OPC UA StatusCode; a Good record that has gone stale reads UncertainLastUsableValue."""
    raw_quality: int
    """The code as the writer published it."""
    source_time: int
    """When the value came to be, ns since the Unix epoch, UTC; 0 = none."""
    received_time: int
    """When the answer that carried it came, ns since the Unix epoch, UTC; 0 = none."""
    sequence: int
    """Counts changes of value or quality, modulo 2**32."""
    age: float
    """Seconds on the monotonic clock from the publish of its block to the snapshot."""
    stale: bool
    """Whether its block is overdue, or its writer gone."""
    raw: int
    """The bits before scaling; signed integers sign-extended."""
    cut: bool = False
    """A text that did not fit its slot whole."""

    @property
    def quality_name(self) -> str:
        """Symbolic name of `quality`."""
        return quality_name(self.quality)


class Snapshot(Mapping[str, Sample]):
    """A coherent copy: every block whole, of its latest generation when it was copied. Mapping by full name.

    Look points up by full name, row number or Point; iteration gives full names in image order.
    """

    def __init__(self, *, points: tuple[Point, ...], index: Mapping[str, int], block_of: npt.NDArray[np.intp],
                 text_places: npt.NDArray[np.int64], records: npt.NDArray[np.void], texts: npt.NDArray[np.uint8],
                 published: npt.NDArray[np.int64], generations: npt.NDArray[np.uint64], now: int, epoch: int,
                 generation: int, stale: bool, stale_blocks: npt.NDArray[np.bool_] | None) -> None:
        """For Image.snapshot alone."""
        self.points = points
        """Points in image order, of the layout that this snapshot was taken from."""
        self.records = records
        """RECORD array in the order of `points`; `quality` is as the reader should see it (see `raw_quality`)."""
        self.epoch = epoch
        self.generation = generation
        """Number of publishes in the epoch when copying began."""
        self.generations = generations
        """Generation of each block."""
        self.stale = stale
        """Whether the writer is gone, stopped or not ready: everything here is of the past."""
        self.time = now
        """Monotonic ns when it was taken."""
        self._index, self._block_of, self._text_places = index, block_of, text_places
        self._texts, self._published, self._stale_blocks = texts, published, stale_blocks
        self.raw_quality = self._mark_stale()
        """The quality column as the writer published it."""

    def _mark_stale(self) -> npt.NDArray[np.uint32]:
        quality: npt.NDArray[np.uint32] = self.records["quality"]
        if self._stale_blocks is None:
            return quality
        published = quality.copy()
        good = published & np.uint32(SEVERITY_MASK) == 0
        quality[self._stale_blocks[self._block_of] & good] = UNCERTAIN_LAST_USABLE_VALUE
        return published

    @property
    def stale_blocks(self) -> npt.NDArray[np.bool_]:
        """For each block, whether it is overdue (or the whole image stale)."""
        if self._stale_blocks is None:
            return np.zeros(len(self._published), np.bool_)
        return self._stale_blocks

    @property
    def ages(self) -> npt.NDArray[np.float64]:
        """Age of each point in seconds, monotonic."""
        return ((self.time - self._published) / 1e9)[self._block_of]

    @property
    def stale_rows(self) -> npt.NDArray[np.bool_]:
        """For each point, whether its block is overdue (or the whole image stale)."""
        return self.stale_blocks[self._block_of]

    def row(self, key: str | int | Point) -> int:
        """Row of a point; KeyError (with near matches) where there is none."""
        if isinstance(key, (int, np.integer)):
            if not -len(self.points) <= key < len(self.points):
                raise KeyError(f"row {key}: there are {len(self.points)} points")
            return int(key) % len(self.points)
        name = key.full_name if isinstance(key, Point) else key
        row = self._index.get(name)
        if row is None:
            raise KeyError(unknown_point(name, self._index))
        return row

    def __getitem__(self, key: str | int | Point) -> Sample:
        """The point as a Sample with a typed value."""
        row = self.row(key)
        point, record = self.points[row], self.records[row]
        block = int(self._block_of[row])
        raw_quality = int(self.raw_quality[row])
        value, cut = self._value(row, point, record, raw_quality)
        return Sample(
            point=point, value=value, cut=cut, quality=int(record["quality"]), raw_quality=raw_quality,
            source_time=int(record["source_time"]), received_time=int(record["received_time"]),
            sequence=int(record["sequence"]), raw=_as_int(int(record["raw"]), point.type),
            age=(self.time - int(self._published[block])) / 1e9,
            stale=self._stale_blocks is not None and bool(self._stale_blocks[block]),
        )

    def _value(self, row: int, point: Point, record: Any, quality: int) -> tuple[Value, bool]:
        if record["source_time"] == 0 and is_bad(quality):
            return None, False
        if not point.is_text:
            return typed(float(record["value"]), int(record["raw"]), point.type), False
        place = int(self._text_places[row])
        stored, whole = self._texts[place : place + TEXT_HEAD].view(np.uint32).tolist()
        data = self._texts[place + TEXT_HEAD : place + TEXT_HEAD + min(stored, point.size)].tobytes()
        return as_text(data, point.type), whole > stored

    def __iter__(self) -> Iterator[str]:
        """Full names in image order."""
        return iter(self._index)

    def __len__(self) -> int:
        """Number of points."""
        return len(self.points)

    def __contains__(self, key: object) -> bool:
        """Whether there is such a point."""
        return (key.full_name if isinstance(key, Point) else key) in self._index

    def __repr__(self) -> str:
        """Size, generation, epoch, state."""
        state = "stale" if self.stale else "fresh"
        return (f"<Snapshot of {len(self.points)} points, generation {self.generation}, "
                f"epoch {self.epoch:016x}, {state}>")


def typed(value: float, raw: int, kind: str) -> Value:
    """The value of a numeric record by its point's type.

    Integers come from `raw`, which loses nothing, unless `value` says otherwise (a producer that fills `value` alone).
    """
    if kind == "bool":
        return value != 0
    if kind in ("float64", "float32"):
        return value
    number = _as_int(raw, kind)
    if float(number) == value or not math.isfinite(value):
        return number
    return int(value)


def _as_int(raw: int, kind: str) -> int:
    """`raw` as the integer that it is; other types as they stand."""
    if kind in _SIGNED:
        return raw - (1 << 64) if raw >> 63 else raw
    return raw


def as_text(data: bytes, kind: str) -> str | bytes:
    """The bytes of a text slot by the point's type; damaged UTF-8 is shown with replacement characters."""
    return data.decode("utf-8", "replace") if kind == "string" else data


def unknown_point(name: str, known: Mapping[str, int] | Sequence[str]) -> str:
    """A message with near matches for a name that is none."""
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.6) if len(known) <= 50_000 else []
    hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
    return f"no point {name!r} among {len(known)}{hint}"
