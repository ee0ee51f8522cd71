"""Frames of the data link layer (clause 9.2.4): octets to frames, whole or in pieces, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from dnp3_outstation.crc import BLOCK, crc, crc_blocks

START: Final = b"\x05\x64"
HEADER: Final = 10
MAX_USER_DATA: Final = 250
MAX_FRAME: Final = 292
SELF_ADDRESS: Final = 0xFFFC
BROADCASTS: Final = range(0xFFFD, 0x10000)
"""0xFFFD asks for no application confirmation, 0xFFFE requires it, 0xFFFF leaves it open (clause 9.2.5.2)."""
Octets = npt.NDArray[np.uint8]
LAST_ADDRESS: Final = 0xFFEF
"""Highest address of a device; what lies between it and the self address is reserved."""


class Primary(IntEnum):
    """Functions of frames from a primary station (clause 9.2.4.1.3.5, table 9-2)."""

    RESET_LINK_STATES = 0
    TEST_LINK_STATES = 2
    CONFIRMED_USER_DATA = 3
    UNCONFIRMED_USER_DATA = 4
    REQUEST_LINK_STATUS = 9


class Secondary(IntEnum):
    """Functions of frames from a secondary station (table 9-3)."""

    ACK = 0
    NACK = 1
    LINK_STATUS = 11
    NOT_SUPPORTED = 15


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame whose CRCs were right."""

    control: int
    """DIR 0x80, PRM 0x40, FCB 0x20, FCV or DFC 0x10, function in the lower four bits."""
    destination: int
    source: int
    data: bytes = b""
    """User data without CRCs, at most 250 octets."""

    @property
    def from_master(self) -> bool:
        """The DIR bit."""
        return bool(self.control & 0x80)

    @property
    def primary(self) -> bool:
        """The PRM bit: the sender began this exchange."""
        return bool(self.control & 0x40)

    @property
    def count_bit(self) -> bool:
        """The frame count bit, FCB."""
        return bool(self.control & 0x20)

    @property
    def count_valid(self) -> bool:
        """FCV of a primary frame, DFC of a secondary one."""
        return bool(self.control & 0x10)

    @property
    def function(self) -> int:
        """Link function code, to be read with `primary`."""
        return self.control & 0x0F


@dataclass(slots=True)
class LinkCounters:
    """What was wrong with received octets."""

    skipped: int = 0
    """Octets that began no frame."""
    header_errors: int = 0
    """Headers with a wrong CRC or length."""
    data_errors: int = 0
    """Frames with a wrong CRC in their user data."""
    frames: int = 0
    """Sound frames, for whomever."""


class FrameReader:
    """Takes octets as they come and gives sound frames; never holds more than one frame's worth of octets."""

    def __init__(self) -> None:
        self.counters = LinkCounters()
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes, in order; wrong octets are skipped and counted."""
        view = memoryview(data)
        for start in range(0, len(view), 4096):
            self._buffer += view[start : start + 4096]
            while (frame := self._next()) is not None:
                yield frame

    def reset(self) -> None:
        """Forget a frame that was begun: the connection is another."""
        self._buffer.clear()

    def _next(self) -> Frame | None:
        """Take one frame off the buffer; None where more octets are needed."""
        buffer = self._buffer
        while True:
            self._seek()
            if len(buffer) < HEADER:
                return None
            if buffer[2] < 5 or crc(buffer[:8]) != buffer[8] | buffer[9] << 8:
                self.counters.header_errors += 1
                del buffer[:1]
                continue
            size = frame_size(buffer[2] - 5)
            if len(buffer) < size:
                return None
            data = _strip(buffer, buffer[2] - 5)
            if data is None:
                self.counters.data_errors += 1
                del buffer[:2]  # another frame may begin in what looked like user data
                continue
            frame = Frame(buffer[3], buffer[4] | buffer[5] << 8, buffer[6] | buffer[7] << 8, data)
            del buffer[:size]
            self.counters.frames += 1
            return frame

    def _seek(self) -> None:
        """Drop what can't begin a frame."""
        buffer = self._buffer
        if buffer.startswith(START) or not buffer or buffer == START[:1]:
            return
        place = buffer.find(START)
        if place < 0:
            place = len(buffer) - (buffer[-1] == START[0])
        self.counters.skipped += place
        del buffer[:place]


def frame_size(user_data: int) -> int:
    """Octets of a frame that carries so many octets of user data."""
    return HEADER + user_data + 2 * -(-user_data // BLOCK)


def _strip(buffer: bytearray, length: int) -> bytes | None:
    """User data of the frame at the buffer's beginning; None where a CRC is wrong."""
    data = bytearray()
    place = HEADER
    while length:
        size = min(BLOCK, length)
        block = buffer[place : place + size]
        if crc(block) != buffer[place + size] | buffer[place + size + 1] << 8:
            return None
        data += block
        place += size + 2
        length -= size
    return bytes(data)


@lru_cache(maxsize=256)
def _header(control: int, destination: int, source: int, length: int) -> bytes:
    head = START + bytes([length + 5, control]) + destination.to_bytes(2, "little") + source.to_bytes(2, "little")
    return head + crc(head).to_bytes(2, "little")


def encode_frame(control: int, destination: int, source: int, data: bytes = b"") -> bytes:
    """One frame with its CRCs; `data` holds at most 250 octets."""
    if len(data) > MAX_USER_DATA:
        raise ValueError(f"a frame carries at most {MAX_USER_DATA} octets, not {len(data)}")
    frame = bytearray(_header(control, destination, source, len(data)))
    if len(data) > 6 * BLOCK:  # from here on one gather costs less than a loop over the octets
        _append_blocks(frame, data)
        return bytes(frame)
    for place in range(0, len(data), BLOCK):
        block = data[place : place + BLOCK]
        frame += block
        frame += crc(block).to_bytes(2, "little")
    return bytes(frame)


def _append_blocks(frame: bytearray, data: bytes) -> None:
    whole = len(data) // BLOCK
    blocks = np.frombuffer(data, np.uint8, whole * BLOCK).reshape(whole, BLOCK)
    out = np.empty((whole, BLOCK + 2), np.uint8)
    out[:, :BLOCK] = blocks
    out[:, BLOCK:] = crc_blocks(blocks).astype("<u2").view(np.uint8).reshape(whole, 2)
    frame += out.tobytes()
    if rest := data[whole * BLOCK :]:
        frame += rest
        frame += crc(rest).to_bytes(2, "little")


def encode_rows(control: int, destination: int, source: int, data: Octets) -> Octets:
    """Frames of equally much user data, one for each row of `data`, uint8 of shape (frames, n) with n from 1 to 250."""
    count, length = data.shape
    out = np.empty((count, frame_size(length)), np.uint8)
    out[:, :HEADER] = np.frombuffer(_header(control, destination, source, length), np.uint8)
    whole, rest = divmod(length, BLOCK)
    place = HEADER + whole * (BLOCK + 2)
    if whole:
        blocks = data[:, : whole * BLOCK].reshape(count, whole, BLOCK)
        body = out[:, HEADER:place].reshape(count, whole, BLOCK + 2)  # a view: the last axis is only taken apart
        body[:, :, :BLOCK] = blocks
        body[:, :, BLOCK:] = crc_blocks(blocks).astype("<u2").view(np.uint8).reshape(count, whole, 2)
    if rest:
        tail = data[:, whole * BLOCK :]
        out[:, place : place + rest] = tail
        out[:, place + rest :] = crc_blocks(tail).astype("<u2").view(np.uint8).reshape(count, 2)
    return out


def with_head(frames: bytes, head: bytes) -> bytes:
    """The frames of a fragment with other octets at its beginning; at most as many as stand in the first block."""
    size = min(BLOCK, frames[2] - 5)
    block = frames[HEADER : HEADER + 1] + head + frames[HEADER + 1 + len(head) : HEADER + size]
    return frames[:HEADER] + block + crc(block).to_bytes(2, "little") + frames[HEADER + size + 2 :]
