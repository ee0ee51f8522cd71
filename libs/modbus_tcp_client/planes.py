"""A fleet of equal devices: registers of all devices side by side, put together row by row.

The data is turned once, so that each register is a plane of all devices. From there on only whole rows are moved, and
numbers are converted from the narrowest type, because what counts here is the bytes moved.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modbus_tcp_client.gather import BIG_ENDIAN, F64, U64, Bytes, Copy, number_type, runs
from modbus_tcp_client.lanes import Kind, Lane

U16 = npt.NDArray[np.uint16]


def by_width(lanes: Sequence[Lane]) -> list[Lane]:
    """Lanes in the order in which `Fleet` takes them: single bytes after whole registers, signed last of each.

    In every other group of one type the scaled lanes come first, so that those of two groups meet in one slice.
    """
    groups: dict[tuple[int, bool, bool, str], list[Lane]] = {}
    for x in lanes:
        key = _words(x), _is_half(x), x.kind is Kind.SIGNED, number_type(x.kind)
        groups.setdefault(key, []).append(x)
    return [
        x
        for number, key in enumerate(sorted(groups))
        for x in sorted(groups[key], key=lambda x: (x.kind, x.scaled ^ (number % 2 == 1), x.point))
    ]


class Fleet:
    """Planes of registers become lanes, width by width."""

    def __init__(self, lanes: Sequence[Lane], width: int, raw: U64, value: F64) -> None:
        """Fills `raw` and `value` (lanes, devices) from `width` bytes a device; lanes in the order of `by_width`."""
        words = width // 2
        turned = any(_is_turned(x) for x in lanes)
        self._planes = np.zeros((words * (2 if turned else 1), raw.shape[1]), dtype=np.uint16)
        self._plain, self._turned = self._planes[:words], self._planes[words:]
        """The turned ones, their bytes swapped, stand behind, where any lane needs them."""
        self._rows = np.zeros((raw.shape[1], words), dtype=np.uint16)
        index: list[int] = []
        starts: list[tuple[int, list[Lane], slice]] = []
        done = 0
        for size in (1, 2, 4):
            some = [x for x in lanes if _words(x) == size]
            registers = [_registers(x, words) for x in some]
            starts.append((len(index), some, slice(done, done + len(some))))
            # All most significant registers first.
            index += [r[k] for k in range(size) for r in registers]
            done += len(some)
        self._index = np.array(index, dtype=np.intp)
        self._taken = np.empty((len(index), raw.shape[1]), dtype=np.uint16)
        self._parts = [
            (_ManyWords if number else _SingleWords)(some, self._taken[start:], raw[where], value[where])
            for number, (start, some, where) in enumerate(starts) if some
        ]

    def __call__(self, data: Bytes) -> None:
        """Take (devices, width) bytes of as many devices as there is room for, or fewer: the others stay."""
        # Bytes are put right before the data is turned: in one step it takes longer, most on a busy machine.
        self._rows[: len(data)] = data.view(">u2")
        self._plain[...] = self._rows.T
        if len(self._turned):
            self._turned[:, : len(data)] = data.view("<u2").T
        self._planes.take(self._index, axis=0, out=self._taken, mode="clip")
        for part in self._parts:
            part.fill()


class _SingleWords:
    """Lanes of one register or less."""

    def __init__(self, lanes: Sequence[Lane], registers: U16, raw: U64, value: F64) -> None:
        """`registers` begins with theirs, of all devices."""
        taken = registers[: len(lanes)]
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

    def fill(self) -> None:
        """Put the lanes together from the registers as they are now."""
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


class _ManyWords:
    """Lanes of two registers each, or of four: each register goes straight to its place in memory."""

    def __init__(self, lanes: Sequence[Lane], registers: U16, raw: U64, value: F64) -> None:
        """`registers` begins with the most significant ones of all lanes, then come the next ones, and so on."""
        size = _words(lanes[0])
        whole = raw if size == 4 else np.empty(raw.shape, dtype=np.uint32)
        words = whole.view(np.uint16).reshape(*raw.shape, size)
        n = len(lanes)
        # In memory the least significant register comes first, except on a big-endian machine.
        self._copies: list[Copy] = [
            (words[:, :, k if BIG_ENDIAN else size - 1 - k], registers[k * n : (k + 1) * n]) for k in range(size)
        ]
        self._copies += _copies(lanes, whole, raw, value)

    def fill(self) -> None:
        """Put the lanes together from the registers as they are now."""
        for to, source in self._copies:
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
