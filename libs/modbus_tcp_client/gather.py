"""From bytes to lanes of 64 bits: one way for one device, one for a fleet.

One device: a single gather of bytes, then shifts; what counts is the number of numpy calls. A fleet: the data is
turned so that a register of all devices lies side by side, and whole rows of devices are moved; what counts is the
bytes moved. Both own buffers and views that are made once for a number of devices.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from modbus_tcp_client.lanes import Kind, Lane

U64 = npt.NDArray[np.uint64]
U16 = npt.NDArray[np.uint16]
Bytes = npt.NDArray[np.uint8]
BIG_ENDIAN = sys.byteorder == "big"


class Gatherer(Protocol):
    """Fills the lanes that it was made for."""

    def __call__(self, data: Bytes) -> None:
        """Take (devices, width) bytes."""


def gatherer(lanes: Sequence[Lane], width: int, raw: U64) -> Gatherer:
    """What fills `raw` (lanes, devices) from data of `width` bytes a device."""
    return Single(lanes, raw) if raw.shape[1] == 1 else Fleet(lanes, width, raw)


class Single:
    """One device: every lane's bytes to the top of its 64 bits in one step, then shifted down."""

    def __init__(self, lanes: Sequence[Lane], raw: U64) -> None:
        index: list[int] = []
        for x in lanes:
            # The bytes below are whatever stands first: the shift drops them.
            top = list(x.taken) + [x.taken[0]] * (8 - len(x.taken))
            index += top if BIG_ENDIAN else reversed(top)
        self._index = np.array(index, dtype=np.intp)
        flat = raw.reshape(-1)
        self._bytes = flat.view(np.uint8)
        edge = sum(x.kind is not Kind.SIGNED for x in lanes)
        down = np.array([64 - x.width + x.shift for x in lanes], dtype=np.uint64)
        self._low, self._down_low = flat[:edge], down[:edge]
        self._high, self._down_high = flat[edge:].view(np.int64), down[edge:].astype(np.int64)
        bits = _bits(lanes)
        self._some = flat[bits]
        self._masks = np.array([x.mask for x in lanes[bits]], dtype=np.uint64)

    def __call__(self, data: Bytes) -> None:
        """Take (1, width) bytes."""
        data[0].take(self._index, out=self._bytes, mode="clip")
        if len(self._low):
            np.right_shift(self._low, self._down_low, self._low)
        if len(self._high):
            np.right_shift(self._high, self._down_high, self._high)
        if len(self._some):
            np.bitwise_and(self._some, self._masks, self._some)


class Fleet:
    """Many devices: planes of registers are put together width by width, then sorted into the lanes."""

    def __init__(self, lanes: Sequence[Lane], width: int, raw: U64) -> None:
        devices = raw.shape[1]
        by_width = sorted(range(len(lanes)), key=lambda i: (_words(lanes[i]), _is_half(lanes[i]), _is_signed(lanes[i])))
        self._raw = raw
        self._mixed = np.empty_like(raw)
        """The lanes in the order of their width."""
        self._back = np.argsort(np.array(by_width, dtype=np.intp))
        words = width // 2
        self._wire = np.empty((words, devices), dtype=np.uint16)
        self._turned = any(_is_turned(x) for x in lanes)
        self._planes = np.empty((words * (2 if self._turned else 1), devices), dtype=np.uint16)
        """Registers of all devices; behind them the same with their bytes swapped, where a lane needs them."""
        self._parts: list[_Part] = []
        start = 0
        for size in (1, 2, 4):
            some = [lanes[i] for i in by_width if _words(lanes[i]) == size]
            if some:
                self._parts.append(_Part(some, words, self._mixed[start : start + len(some)]))
            start += len(some)
        bits = _bits(lanes)
        self._bits = raw[bits]
        self._shifts = np.array([_word_shift(x) for x in lanes[bits]], dtype=np.uint64).reshape(-1, 1)
        self._masks = np.array([x.mask for x in lanes[bits]], dtype=np.uint64).reshape(-1, 1)

    def __call__(self, data: Bytes) -> None:
        """Take (devices, width) bytes."""
        wire, words = self._wire, len(self._wire)
        wire[...] = data.view(np.uint16).T
        plain = self._planes[:words]
        if self._turned:
            self._planes[words if not BIG_ENDIAN else 0 :][:words] = wire
            plain = self._planes[0 if not BIG_ENDIAN else words :][:words]
        np.left_shift(wire, 8, plain)
        np.right_shift(wire, 8, wire)
        np.bitwise_or(wire, plain, plain)
        for part in self._parts:
            part.fill(self._planes)
        self._mixed.take(self._back, axis=0, out=self._raw, mode="clip")
        if len(self._bits):
            np.right_shift(self._bits, self._shifts, self._bits)
            np.bitwise_and(self._bits, self._masks, self._bits)


class _Part:
    """The lanes of one width: unsigned before signed, single bytes of a register last."""

    def __init__(self, lanes: Sequence[Lane], planes: int, out: U64) -> None:
        size, devices = _words(lanes[0]), out.shape[1]
        index = np.array([_registers(x, planes) for x in lanes], dtype=np.intp)
        # In memory the least significant register comes first, except on a big-endian machine.
        self._index = (index if BIG_ENDIAN else index[:, ::-1]).reshape(-1)
        self._taken = np.empty((len(lanes) * size, devices), dtype=np.uint16)
        self._stack = self._taken.reshape(len(lanes), size, devices).transpose(0, 2, 1)
        if size == 4:
            whole: npt.NDArray[np.unsignedinteger] = out
        else:
            whole = np.empty((len(lanes), devices), dtype=np.uint32) if size == 2 else self._taken
        self._whole = whole.view(np.uint16).reshape(len(lanes), devices, size)
        half = next((i for i, x in enumerate(lanes) if _is_half(x)), len(lanes))
        self._halves = self._taken[half:] if size == 1 else self._taken[:0]
        self._up = np.array([[0 if x.taken[0] % 2 == 0 else 8] for x in lanes[half:]], dtype=np.uint16)
        self._copies: list[tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]] = []
        self._down: list[npt.NDArray[np.integer]] = []
        signed = np.dtype(f"i{whole.dtype.itemsize}")
        for begin, end in ((0, half), (half, len(lanes))):
            edge = begin + sum(not _is_signed(x) for x in lanes[begin:end])
            pieces = [(out[begin:edge], whole[begin:edge]),
                      (out[edge:end].view(np.int64), whole[edge:end].view(signed))]
            self._copies += [(to, source) for to, source in pieces if len(to) and size < 4]
            self._down += [source for _, source in pieces if len(source) and begin == half]

    def fill(self, planes: U16) -> None:
        """Put the lanes together."""
        planes.take(self._index, axis=0, out=self._taken, mode="clip")
        if self._whole.shape[2] > 1:
            self._whole[...] = self._stack
        if len(self._halves):
            # The wanted byte to the top of its word, then down again with or without sign.
            np.left_shift(self._halves, self._up, self._halves)
            for some in self._down:
                np.right_shift(some, 8, some)
        for to, source in self._copies:
            to[...] = source


def _bits(lanes: Sequence[Lane]) -> slice:
    """Where the lanes of single bits and bit fields are."""
    places = [i for i, x in enumerate(lanes) if x.kind is Kind.BITS]
    return slice(places[0], places[-1] + 1) if places else slice(0, 0)


def _words(x: Lane) -> int:
    """Registers that it is taken from."""
    return max(1, x.width // 16)


def _is_signed(x: Lane) -> bool:
    return x.kind is Kind.SIGNED


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
