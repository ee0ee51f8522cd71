"""One device: from bytes to lanes of 64 bits and to numbers, in as few numpy calls as can be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from modbus_tcp_client.lanes import Kind, Lane

U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Copy = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""Target and source."""
BIG_ENDIAN = sys.byteorder == "big"


def number_type(kind: Kind) -> str:
    """The type letter under which the bits of a kind are read."""
    if kind in (Kind.FLOAT16, Kind.FLOAT32, Kind.FLOAT64):
        return "f"
    return "i" if kind is Kind.SIGNED else "u"


def runs(lanes: Sequence[Lane], key: Callable[[Lane], Any]) -> Iterator[tuple[Any, slice]]:
    """Slices of neighbouring lanes with the same key."""
    for value, members in groupby(range(len(lanes)), key=lambda i: key(lanes[i])):
        places = list(members)
        yield value, slice(places[0], places[-1] + 1)


def by_kind(lanes: Sequence[Lane]) -> list[Lane]:
    """Lanes in the order in which `Single` takes them.

    By kind, within it unscaled before scaled, but for the last kind the other way round, so that the scaled integers
    of both signs meet in one slice.
    """
    return sorted(lanes, key=lambda x: (x.kind, x.scaled ^ (x.kind is Kind.SIGNED), x.width, x.point))


class Single:
    """Every lane's bytes to the top of its 64 bits by a single gather, then shifted down."""

    def __init__(self, lanes: Sequence[Lane], raw: U64, value: F64) -> None:
        """Fills `raw` and `value` (lanes, 1); the lanes are in the order of `by_kind`."""
        index: list[int] = []
        for x in lanes:
            # The bytes below are whatever stands first: the shift drops them.
            top = list(x.taken) + [x.taken[0]] * (8 - len(x.taken))
            index += top if BIG_ENDIAN else reversed(top)
        self._index = np.array(index, dtype=np.intp)
        flat, numbers = raw.reshape(-1), value.reshape(-1)
        self._bytes = flat.view(np.uint8)
        edge = sum(x.kind is not Kind.SIGNED for x in lanes)
        down = np.array([64 - x.width + x.shift for x in lanes], dtype=np.uint64)
        self._low, self._down_low = flat[:edge], down[:edge]
        self._high, self._down_high = flat[edge:].view(np.int64), down[edge:].astype(np.int64)
        places = [i for i, x in enumerate(lanes) if x.kind is Kind.BITS]
        bits = slice(places[0], places[-1] + 1) if places else slice(0, 0)
        self._some = flat[bits]
        self._masks = np.array([x.mask for x in lanes[bits]], dtype=np.uint64)
        self._copies = [
            (numbers[where], _low_part(flat[where], letter, size))
            for (letter, size), where in runs(lanes, _number)
        ]

    def __call__(self, data: Bytes) -> None:
        """Take (1, width) bytes."""
        data.take(self._index, out=self._bytes, mode="clip")
        if len(self._low):
            np.right_shift(self._low, self._down_low, self._low)
        if len(self._high):
            np.right_shift(self._high, self._down_high, self._high)
        if len(self._some):
            np.bitwise_and(self._some, self._masks, self._some)
        for to, source in self._copies:
            to[...] = source


def _number(x: Lane) -> tuple[str, int]:
    """Type letter and bytes of the number in a lane of 64 bits."""
    letter = number_type(x.kind)
    return letter, x.width // 8 if letter == "f" else 8


def _low_part(lanes: U64, letter: str, size: int) -> npt.NDArray[Any]:
    """The lower `size` bytes of each lane as numbers."""
    parts = 8 // size
    return lanes.view(np.dtype(f"{letter}{size}"))[parts - 1 if BIG_ENDIAN else 0 :: parts]
