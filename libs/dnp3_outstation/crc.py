"""The CRC of the data link layer (clause 9.2.4.3 and Annex E): x^16+x^13+x^12+x^11+x^10+x^8+x^6+x^5+x^2+1, inverted.

The code is linear, so the CRC of a block is the exclusive or of one table entry for each octet by its place in the
block; that makes many blocks one gather in numpy.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

POLYNOMIAL: Final = 0xA6BC
"""0x3D65 with its bits reversed, because the least significant bit is sent first."""
BLOCK: Final = 16
"""Most octets of user data that one CRC covers."""


def _table() -> tuple[int, ...]:
    entries = []
    for octet in range(256):
        value = octet
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
        entries.append(value)
    return tuple(entries)


_TABLE: Final = _table()


def crc(data: bytes | bytearray | memoryview) -> int:
    """The CRC of one block, 0..65535; it is sent low octet first."""
    value, table = 0, _TABLE
    for octet in data:
        value = (value >> 8) ^ table[(value ^ octet) & 0xFF]
    return value ^ 0xFFFF


def _places() -> npt.NDArray[np.uint16]:
    """Entry [p, octet]: what an octet adds to the CRC when p octets of its block follow it."""
    table = np.array(_TABLE, np.uint16)
    places = [table]
    for _ in range(BLOCK - 1):
        last = places[-1]
        places.append((last >> 8) ^ table[last & 0xFF])
    return np.array(places)


_PLACES: Final = _places().reshape(-1)
_OFFSETS: Final = (np.arange(BLOCK) * 256).astype(np.intp)


def crc_blocks(blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """The CRCs of equally long blocks, shape (..., n) with n up to 16, to shape (...)."""
    length = blocks.shape[-1]
    entries = _PLACES[blocks + _OFFSETS[length - 1 :: -1] if length < BLOCK else blocks + _OFFSETS[::-1]]
    folded: npt.NDArray[np.uint16] = np.bitwise_xor.reduce(entries, axis=-1)
    return folded ^ np.uint16(0xFFFF)
