"""From bytes to lanes of 64 bits, for one device and for a fleet."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from modbus_tcp_client.lanes import Kind, Lane

U64 = npt.NDArray[np.uint64]
BIG_ENDIAN = sys.byteorder == "big"


class Gather:
    """One device: every lane's bytes to the top of its 64 bits in one step, then shifted down."""

    def __init__(self, lanes: list[Lane], signed: int, bits: slice) -> None:
        index: list[int] = []
        for x in lanes:
            # The bytes below are whatever stands first: the shift drops them.
            top = list(x.taken) + [x.taken[0]] * (8 - len(x.taken))
            index += top if BIG_ENDIAN else reversed(top)
        self._index = np.array(index, dtype=np.intp)
        shifts = np.array([64 - x.width + x.shift for x in lanes], dtype=np.uint64)
        self._unsigned, self._signed = shifts[:signed], shifts[signed:].astype(np.int64)
        self._bits = bits
        self._masks = np.array([x.mask for x in lanes[bits]], dtype=np.uint64)

    def __call__(self, data: npt.NDArray[np.uint8]) -> U64:
        """(1, width) bytes to (lanes, 1)."""
        raw: U64 = data[0].take(self._index, mode="clip").view(np.uint64)
        edge = len(self._unsigned)
        if edge:
            low = raw[:edge]
            np.right_shift(low, self._unsigned, out=low)
        if len(self._signed):
            high = raw[edge:].view(np.int64)
            np.right_shift(high, self._signed, out=high)
        if len(self._masks):
            some = raw[self._bits]
            np.bitwise_and(some, self._masks, out=some)
        return raw[:, np.newaxis]


class Planes:
    """A fleet: one plane of all devices for each register, planes put together to lanes."""

    def __init__(self, lanes: list[Lane], bits: slice) -> None:
        self._groups: list[tuple[slice, int, bool, bool, npt.NDArray[np.intp], npt.NDArray[np.uint16] | None]] = []
        start = 0
        while start < len(lanes):
            first = lanes[start]
            stop = start
            while stop < len(lanes) and _like(lanes[stop], first):
                stop += 1
            self._groups.append(_group(lanes[start:stop], slice(start, stop)))
            start = stop
        self._n = len(lanes)
        self._bits = bits
        self._shifts = np.array([_word_shift(x) for x in lanes[bits]], dtype=np.uint64).reshape(-1, 1)
        self._masks = np.array([x.mask for x in lanes[bits]], dtype=np.uint64).reshape(-1, 1)

    def __call__(self, data: npt.NDArray[np.uint8]) -> U64:
        """(devices, width) bytes to (lanes, devices)."""
        wire = np.ascontiguousarray(data.view(np.uint16).T)
        swapped = (wire << 8) | (wire >> 8)
        raw = np.empty((self._n, len(data)), dtype=np.uint64)
        for where, width, is_signed, turned, index, down in self._groups:
            words = (wire if turned != BIG_ENDIAN else swapped).take(index, axis=0, mode="clip")
            out = raw[where].view(np.int64) if is_signed else raw[where]
            if down is not None:
                # A byte of the word: to its top, then down again with or without sign.
                np.left_shift(words, down, out=words)
                out[...] = (words.view(np.int16) if is_signed else words) >> 8
            elif width <= 16:
                out[...] = words.view(np.int16) if is_signed else words
            elif width == 32:
                halves = words.astype(np.uint32).reshape(2, -1, len(data))
                whole = (halves[0] << 16) | halves[1]
                out[...] = whole.view(np.int32) if is_signed else whole
            else:
                parts = words.astype(np.uint64).reshape(4, -1, len(data))
                out[...] = ((parts[0] << 48) | (parts[1] << 32) | (parts[2] << 16) | parts[3]).view(out.dtype)
        if len(self._masks):
            some = raw[self._bits]
            np.right_shift(some, self._shifts, out=some)
            np.bitwise_and(some, self._masks, out=some)
        return raw


def _turned(x: Lane) -> bool:
    """Whether the lower byte of each of its registers comes first on the wire."""
    return len(x.taken) > 1 and x.taken[0] > x.taken[1]


def _word_shift(x: Lane) -> int:
    """Shift of a bit lane within the 16-bit word that its byte belongs to."""
    return x.shift + (8 if x.width == 8 and x.taken[0] % 2 == 0 else 0)


def _like(x: Lane, first: Lane) -> bool:
    """Whether two neighbouring lanes are put together in the same step."""
    return (x.width, x.kind is Kind.SIGNED, x.kind is Kind.BITS, _turned(x)) == (
        first.width, first.kind is Kind.SIGNED, first.kind is Kind.BITS, _turned(first)
    )


def _group(
    lanes: list[Lane], where: slice
) -> tuple[slice, int, bool, bool, npt.NDArray[np.intp], npt.NDArray[np.uint16] | None]:
    """Which planes make these lanes: index, most significant planes first, and shifts for single bytes."""
    first = lanes[0]
    words = max(1, first.width // 16)
    index = [x.taken[2 * w] // 2 if x.width > 8 else x.taken[0] // 2 for w in range(words) for x in lanes]
    down = None
    if first.width == 8 and first.kind is not Kind.BITS:
        down = np.array([[0 if x.taken[0] % 2 == 0 else 8] for x in lanes], dtype=np.uint16)
    return where, first.width, first.kind is Kind.SIGNED, _turned(first), np.array(index, dtype=np.intp), down
