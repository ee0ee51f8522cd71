"""Garbage by the hundred thousand: requests from a grammar, mutated by whole matrices, in frames whose CRCs are right.

The CRC here is computed octet by octet over columns, and shares nothing with the library's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Octets = npt.NDArray[np.uint8]
WIDTH = 96
"""Most octets of a mutated fragment."""
GROUPS = [0, 1, 2, 3, 4, 10, 11, 12, 13, 20, 21, 22, 23, 30, 32, 34, 40, 41, 42, 43, 50, 51, 52, 60, 80, 110, 111, 120]
QUALIFIERS = [0, 1, 6, 7, 8, 0x17, 0x28, 0x5B, 9]
FUNCTIONS = [0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 9, 13, 14, 20, 21, 22, 23, 24]
CONTROLS = np.array([0xC4] * 12 + [0xF3, 0xD3, 0xE4, 0xC0, 0xC9, 0xF2], np.uint8)
DESTINATIONS = np.array([10] * 20 + [0xFFFC, 0xFFFD, 0xFFFE, 0xFFFF, 11], np.uint16)


def _table() -> npt.NDArray[np.uint16]:
    table = np.arange(256, dtype=np.uint16)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint16(0xA6BC), table >> 1).astype(np.uint16)
    return table


TABLE = _table()


def crcs(blocks: Octets, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """The CRC of the first `lengths` octets of each row."""
    value = np.zeros(len(blocks), np.uint16)
    for place in range(blocks.shape[1]):
        following = (value >> 8) ^ TABLE[(value ^ blocks[:, place]) & 0xFF]
        value = np.where(place < lengths, following, value)
    return value ^ np.uint16(0xFFFF)


def header(chance: random.Random) -> bytes:
    """An object header that is often right."""
    qualifier = chance.choice(QUALIFIERS)
    head = bytes([chance.choice(GROUPS), chance.randrange(12) if chance.random() < 0.9 else chance.randrange(256)])
    width = 2 if qualifier in (1, 8, 0x28) else 1
    first = chance.randrange(6).to_bytes(width, "little")
    last = chance.choice([0, 1, 3, 5, 255]).to_bytes(width, "little")
    if qualifier in (0, 1):
        return head + bytes([qualifier]) + first + last
    if qualifier in (6, 9):
        return head + bytes([qualifier])
    return head + bytes([qualifier]) + first + chance.randbytes(chance.choice([0, 1, 2, 6, 12, 24]))


def fragment(chance: random.Random) -> bytes:
    """A request, or what is none."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(40))
    function = chance.choice([*FUNCTIONS, chance.randrange(256)])
    control = (0xC0 if chance.random() < 0.95 else 0) | (0x10 if chance.random() < 0.05 else 0)
    return bytes([control, function]) + b"".join(header(chance) for _ in range(chance.randrange(4)))


class Mutations:
    """Matrices of mutated fragments, and frames of them."""

    def __init__(self, seed: int, kinds: int = 3000) -> None:
        chance = random.Random(seed)
        self.chance = np.random.default_rng(seed)
        seeds = [fragment(chance)[:WIDTH] for _ in range(kinds)]
        self._lengths = np.array([len(octets) for octets in seeds])
        self._octets = np.zeros((kinds, WIDTH), np.uint8)
        for row, octets in enumerate(seeds):
            self._octets[row, : len(octets)] = np.frombuffer(octets, np.uint8)

    def fragments(self, count: int) -> tuple[Octets, npt.NDArray[np.int64]]:
        """`count` fragments as rows, and their lengths: half of them are the grammar's, but for the sequence number."""
        chance = self.chance
        rows = chance.integers(len(self._octets), size=count)
        octets, lengths = self._octets[rows], self._lengths[rows]
        octets[:, 0] = (octets[:, 0] & 0xF0) | chance.integers(16, size=count)
        for share in (0.4, 0.2, 0.1):
            hit = np.flatnonzero(chance.random(count) < share)
            places = 2 + chance.integers(WIDTH, size=len(hit)) % np.maximum(lengths[hit] - 2, 1)
            octets[hit, places] = chance.integers(256, size=len(hit))
        hit = np.flatnonzero(chance.random(count) < 0.05)
        octets[hit, chance.integers(2, size=len(hit))] = chance.integers(256, size=len(hit))
        cut = chance.random(count) < 0.1
        lengths = np.where(cut, chance.integers(WIDTH, size=count), lengths)
        return octets, lengths

    def plain(self, count: int) -> Iterator[bytes]:
        """Fragments as octets."""
        octets, lengths = self.fragments(count)
        joined, size = octets.tobytes(), lengths.tolist()
        return (joined[row * WIDTH : row * WIDTH + size[row]] for row in range(count))

    def frames(self, count: int) -> list[bytes]:
        """Link frames of fragments: most of them sound, some with wrong octets, cut, or with garbage before them."""
        chance = self.chance
        body, lengths = self.fragments(count)
        data = np.zeros((count, 112), np.uint8)
        data[:, 0] = 0xC0 | chance.integers(64, size=count)
        odd = chance.random(count) < 0.06
        data[odd, 0] = chance.integers(256, size=int(odd.sum()))
        data[:, 1 : 1 + WIDTH] = body
        sizes = np.where(chance.random(count) < 0.97, lengths + 1, 0)
        frames = framed(data, sizes, CONTROLS[chance.integers(len(CONTROLS), size=count)],
                        DESTINATIONS[chance.integers(len(DESTINATIONS), size=count)])
        return [self._spoiled(octets, whim) for octets, whim in zip(frames, chance.random(count), strict=True)]

    def _spoiled(self, octets: bytes, whim: float) -> bytes:
        place = int(whim * 1e9) % len(octets)
        if whim < 0.04:
            return octets[:place] + bytes([int(whim * 1e6) & 0xFF]) + octets[place + 1 :]
        if whim < 0.06:
            return octets[:place]
        if whim < 0.08:
            return self.chance.bytes(place) + (b"", b"\x05", b"\x05\x64", b"\x05\x64\xff")[place % 4]
        return octets


def framed(data: Octets, sizes: npt.NDArray[np.int64], controls: Octets, destinations: npt.NDArray[np.uint16],
           source: int = 1) -> list[bytes]:
    """Frames of the first `sizes` octets of each row; rows hold a multiple of 16 octets."""
    count, blocks = len(data), data.shape[1] // 16
    head = np.zeros((count, 8), np.uint8)
    head[:, 0], head[:, 1], head[:, 2], head[:, 3] = 5, 0x64, sizes + 5, controls
    head[:, 4], head[:, 5], head[:, 6] = destinations & 0xFF, destinations >> 8, source
    sums = crcs(head, np.full(count, 8)).astype("<u2").view(np.uint8).reshape(count, 2)
    part = np.clip(sizes[:, None] - np.arange(blocks) * 16, 0, 16)
    of_blocks = crcs(data.reshape(-1, 16), part.reshape(-1)).astype("<u2").view(np.uint8).reshape(count, blocks, 2)
    out = np.zeros((count, 10 + 18 * blocks), np.uint8)
    out[:, :8], out[:, 8:10] = head, sums
    body = out[:, 10:].reshape(count, blocks, 18)
    body[:, :, :16] = data.reshape(count, blocks, 16)
    rows, places = np.nonzero(part)
    ends = part[rows, places]
    body[rows, places, ends], body[rows, places, ends + 1] = of_blocks[rows, places, 0], of_blocks[rows, places, 1]
    total = (10 + sizes + 2 * -(-sizes // 16)).tolist()
    joined, width = out.tobytes(), out.shape[1]
    return [joined[row * width : row * width + total[row]] for row in range(count)]


SIZES = {
    1: (0, 0, 1), 2: (0, 1, 7, 3), 3: (0, 0, 1), 4: (0, 1, 7, 3), 10: (0, 0, 1), 11: (0, 1, 7), 12: (0, 11),
    13: (0, 1, 7), 20: (0, 5, 3, 0, 0, 4, 2), 21: (0, 5, 3, 0, 0, 11, 9, 0, 0, 4, 2), 22: (0, 5, 3, 0, 0, 11, 9),
    23: (0, 5, 3, 0, 0, 11, 9), 30: (0, 5, 3, 4, 2, 5, 9), 32: (0, 5, 3, 11, 9, 5, 9, 11, 15), 34: (0, 2, 4, 4),
    40: (0, 5, 3, 5, 9), 41: (0, 5, 3, 5, 9), 42: (0, 5, 3, 11, 9, 5, 9, 11, 15),
    43: (0, 5, 3, 11, 9, 5, 9, 11, 15), 50: (0, 6), 51: (0, 6, 6), 52: (0, 2, 2),
}
"""Octets of the objects that an answer may hold, by group and variation."""
PACKED = {(1, 1): 1, (3, 1): 2, (10, 1): 1, (80, 1): 1}
"""Bits of those that are packed."""


def check_answer(octets: bytes) -> None:
    """One fragment of an outstation, walked through to its end: known objects, sound ranges, nothing left over."""
    assert len(octets) >= 4 and octets[1] in (129, 130), octets.hex()
    assert bool(octets[0] & 0x10) == (octets[1] == 130), octets.hex()
    place = 4
    while place < len(octets):
        group, variation, qualifier = octets[place : place + 3]
        wide = qualifier in (1, 8, 0x28)
        place += 3
        first, place = octets[place] | (octets[place + 1] << 8 if wide else 0), place + 1 + wide
        count, prefix = first, 0
        if qualifier in (0, 1):
            last, place = octets[place] | (octets[place + 1] << 8 if wide else 0), place + 1 + wide
            assert last >= first, octets.hex()
            count = last - first + 1
        elif qualifier in (0x17, 0x28):
            prefix = 1 + wide
        else:
            assert qualifier == 7, octets.hex()
        assert count, octets.hex()
        if group == 0:
            place += 2 + octets[place + 1]
        elif (group, variation) in PACKED and not prefix:
            place += -(-count * PACKED[group, variation] // 8)
        else:
            size = variation if group in (110, 111) else dict(enumerate(SIZES.get(group, ()))).get(variation, 0)
            assert size, octets.hex()
            place += count * (prefix + size)
    assert place == len(octets), octets.hex()


class Answers:
    """Puts the fragments of a connection together and checks them; CRCs by the thousand, in `finish`."""

    def __init__(self) -> None:
        self.count = 0
        """Fragments."""
        self.kinds: dict[bytes, bytes] = {}
        """The frames of one of each kind of fragment: those that differ in nothing but sequence numbers are one."""
        self._partial = self._frames = b""
        self._heads, self._blocks, self._sizes = bytearray(), bytearray(), bytearray()

    def take(self, octets: bytes) -> int:
        """Check what was sent; the application control octet of the last fragment that wants a confirmation, or -1."""
        wants, place = -1, 0
        while place < len(octets):
            frame, data = self._frame(octets, place)
            place += len(frame)
            control = frame[3]
            if control & 0x4F not in (0x43, 0x44):
                assert not data and control & 0x4F in (0x00, 0x01, 0x0B, 0x0F, 0x40, 0x49), control
                self.kinds.setdefault(frame, frame)
                continue
            begins = data[0] & 0x40
            self._partial = data[1:] if begins else self._partial + data[1:]
            self._frames = frame if begins else self._frames + frame
            if data[0] & 0x80:
                key = bytes([self._partial[0] & 0xF0]) + self._partial[1:]
                if key not in self.kinds:
                    check_answer(self._partial)
                    self.kinds[key] = self._frames
                self.count += 1
                wants = self._partial[0] if self._partial[0] & 0x20 else wants
        return wants

    def _frame(self, octets: bytes, begin: int) -> tuple[bytes, bytes]:
        assert octets[begin : begin + 2] == b"\x05\x64" and octets[begin + 4 : begin + 8] == b"\x01\x00\x0a\x00"
        assert not octets[begin + 3] & 0x80, "the outstation sends as an outstation"
        length, place, data = octets[begin + 2] - 5, begin + 10, b""
        self._heads += octets[begin:place]
        while length:
            size = min(16, length)
            block = octets[place : place + size]
            self._blocks += block + bytes(16 - size) + octets[place + size : place + size + 2]
            self._sizes.append(size)
            data += block
            place, length = place + size + 2, length - size
        return octets[begin:place], data

    def finish(self) -> None:
        """Check the CRCs of everything that was taken."""
        count = len(self._heads) // 10
        for joined, width, lengths in ((self._heads, 8, bytes([8]) * count), (self._blocks, 16, self._sizes)):
            rows = np.frombuffer(bytes(joined), np.uint8).reshape(-1, width + 2)
            sums = rows[:, width] | rows[:, width + 1].astype(np.uint16) << 8
            assert (crcs(rows[:, :width], np.frombuffer(bytes(lengths), np.uint8).astype(np.int64)) == sums).all()
            joined.clear()
        self._sizes.clear()
