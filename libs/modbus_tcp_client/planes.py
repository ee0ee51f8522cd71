"""A fleet of equal devices: registers of all devices side by side, put together row by row.

The data is turned once, so that each register is a plane of all devices. From there on only whole rows are moved, and
numbers are converted from the narrowest type, because what counts here is the bytes moved.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modbus_tcp_client.gather import F64, U64, Bytes, Copy, number_type, runs
from modbus_tcp_client.lanes import Kind, Lane

U16 = npt.NDArray[np.uint16]


def by_width(lanes: Sequence[Lane]) -> list[Lane]:
    """Lanes in the order in which `Fleet` takes them: single bytes after whole registers, signed last of each."""
    return sorted(
        lanes,
        key=lambda x: (_words(x), _is_half(x), x.kind is Kind.SIGNED, number_type(x.kind), x.kind, x.scaled, x.point),
    )


class Fleet:
    """Planes of registers become lanes, width by width."""

    def __init__(self, lanes: Sequence[Lane], width: int, raw: U64, value: F64) -> None:
        """Fills `raw` and `value` (lanes, devices) from `width` bytes a device; lanes in the order of `by_width`."""
        words = width // 2
        turned = any(_is_turned(x) for x in lanes)
        self._planes = np.empty((words * (2 if turned else 1), raw.shape[1]), dtype=np.uint16)
        self._plain, self._turned = self._planes[:words], self._planes[words:]
        """The turned ones, their bytes swapped, stand behind, where any lane needs them."""
        edge = sum(_words(x) == 1 for x in lanes)
        self._single = _SingleWords(lanes[:edge], words, raw[:edge], value[:edge])
        self._double = _DoubleWords(lanes[edge:], words, raw[edge:], value[edge:])

    def __call__(self, data: Bytes) -> None:
        """Take (devices, width) bytes."""
        self._plain[...] = data.view(">u2").T
        if len(self._turned):
            self._turned[...] = data.view("<u2").T
        self._single.fill(self._planes)
        self._double.fill(self._planes)


class _SingleWords:
    """Lanes of one register or less."""

    def __init__(self, lanes: Sequence[Lane], planes: int, raw: U64, value: F64) -> None:
        self._index = np.array([_registers(x, planes)[0] for x in lanes], dtype=np.intp)
        taken = self._taken = np.empty(raw.shape, dtype=np.uint16)
        half = sum(not _is_half(x) for x in lanes)
        self._halves = taken[half:]
        self._up = np.array([[0 if x.taken[0] % 2 == 0 else 8] for x in lanes[half:]], dtype=np.uint16)
        self._down = [
            taken[half:][where].view(np.int16 if signed else np.uint16)
            for signed, where in runs(lanes[half:], lambda x: x.kind is Kind.SIGNED)
        ]
        bits = [i for i, x in enumerate(lanes) if x.kind is Kind.BITS]
        self._bits = taken[bits[0] : bits[-1] + 1] if bits else taken[:0]
        self._shifts = np.array([[_word_shift(lanes[i])] for i in bits], dtype=np.uint16)
        self._masks = np.array([[lanes[i].mask] for i in bits], dtype=np.uint16)
        self._copies = _copies(lanes, taken, raw, value)

    def fill(self, planes: U16) -> None:
        """Put the lanes together."""
        if not len(self._taken):
            return
        planes.take(self._index, axis=0, out=self._taken, mode="clip")
        if len(self._halves):
            # The wanted byte to the top of its word, then down again with or without sign.
            np.left_shift(self._halves, self._up, self._halves)
            for some in self._down:
                np.right_shift(some, 8, some)
        if len(self._bits):
            np.right_shift(self._bits, self._shifts, self._bits)
            np.bitwise_and(self._bits, self._masks, self._bits)
        for to, source in self._copies:
            to[...] = source


class _DoubleWords:
    """Lanes of two registers, then those of four, which are put together from pairs: all upper, then all lower."""

    def __init__(self, lanes: Sequence[Lane], planes: int, raw: U64, value: F64) -> None:
        two = [_registers(x, planes) for x in lanes if _words(x) == 2]
        four = [_registers(x, planes) for x in lanes if _words(x) == 4]
        pairs = two + [r[:2] for r in four] + [r[2:] for r in four]
        self._upper = np.array([r[0] for r in pairs], dtype=np.intp)
        self._lower = np.array([r[1] for r in pairs], dtype=np.intp)
        shape = len(pairs), raw.shape[1]
        self._words = np.empty(shape, dtype=np.uint16)
        whole = self._whole = np.empty(shape, dtype=np.uint32)
        self._rest = np.empty(shape, dtype=np.uint32)
        n = len(two)
        self._copies = _copies(lanes[:n], whole[:n], raw[:n], value[:n])
        self._quads = raw[n:]
        self._quad_upper, self._quad_lower = whole[n : n + len(four)], whole[n + len(four) :]
        self._quad_copies = _copies(lanes[n:], self._quads, self._quads, value[n:])

    def fill(self, planes: U16) -> None:
        """Put the lanes together."""
        words, whole, rest = self._words, self._whole, self._rest
        if not len(words):
            return
        planes.take(self._upper, axis=0, out=words, mode="clip")
        whole[...] = words
        np.left_shift(whole, 16, whole)
        planes.take(self._lower, axis=0, out=words, mode="clip")
        rest[...] = words
        np.bitwise_or(whole, rest, whole)
        if len(self._quads):
            self._quads[...] = self._quad_upper
            np.left_shift(self._quads, 32, self._quads)
            np.bitwise_or(self._quads, self._quad_lower, self._quads)
        for to, source in self._copies:
            to[...] = source
        for to, source in self._quad_copies:
            to[...] = source


def _copies(lanes: Sequence[Lane], source: npt.NDArray[np.unsignedinteger], raw: U64, value: F64) -> list[Copy]:
    """From bits in their own width to raw bits of 64, extended by zeros or sign, and to numbers."""
    size = source.dtype.itemsize
    copies: list[Copy] = []
    if size < 8:
        copies += [
            (raw[where].view(f"{letter}8"), source[where].view(f"{letter}{size}"))
            for letter, where in runs(lanes, lambda x: "i" if x.kind is Kind.SIGNED else "u")
        ]
    copies += [
        (value[where], source[where].view(f"{letter}{size}"))
        for letter, where in runs(lanes, lambda x: number_type(x.kind))
    ]
    return copies


def _words(x: Lane) -> int:
    """Registers that it is taken from."""
    return max(1, x.width // 16)


def _is_half(x: Lane) -> bool:
    """Whether it is one byte of a register, as a number."""
    return x.width == 8 and x.kind is not Kind.BITS


def _is_turned(x: Lane) -> bool:
    """Whether the lower byte of each of its registers comes first on the wire."""
    return len(x.taken) > 1 and x.taken[0] > x.taken[1]


def _word_shift(x: Lane) -> int:
    """Shift of a bit lane within the register that its byte belongs to."""
    return x.shift + (8 if x.width == 8 and x.taken[0] % 2 == 0 else 0)


def _registers(x: Lane, planes: int) -> list[int]:
    """The planes of a lane's registers, most significant first; turned ones stand behind the plain ones."""
    base = planes if _is_turned(x) else 0
    return [base + x.taken[2 * w if x.width > 8 else 0] // 2 for w in range(_words(x))]
