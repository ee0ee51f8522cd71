"""Frames of serial lines, RTU and ASCII, as bytes, without ports and clocks.

MODBUS over Serial Line Specification V1.02: RTU clause 2.5.1, ASCII clause 2.5.2. Neither frame has a transaction id
nor a length. Where one ends is told from its function and proved by its check sum, never by timing: a program sees
bytes when an adapter hands them over, not when they passed on the line. The one thing taken from the clock is
`silence`, which the owner calls when nothing came for a silent interval: then what has begun will not go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from modbus_frames.lengths import MORE, UNKNOWN, Bytes, answer_length, request_length
from modbus_frames.mbap import MAX_PDU

BROADCAST = 0
"""Unit that all listen to and nobody answers for (clause 2.2)."""
HIGHEST_UNIT = 247
"""248 to 255 are reserved (clause 2.2)."""
DIAGNOSTICS_BYTES = 5
"""Bytes of a PDU of function 8 but for longer query data."""
RTU_OVERHEAD = 3
"""Bytes of an RTU frame around the PDU: unit and CRC."""
MAX_RTU = MAX_PDU + RTU_OVERHEAD
MAX_ASCII = 1 + 2 * (MAX_PDU + 2) + 2
"""Characters: colon, two for each byte of unit, PDU and LRC, CR and LF."""


class SerialAdu(NamedTuple):
    """One frame of a serial line."""

    unit: int
    pdu: bytes


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)  # noqa: PLW2901 - eight steps of one byte
        table.append(value)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: Bytes) -> int:
    """The CRC of an RTU frame (clause 6.2.2); it is sent low byte first."""
    crc = 0xFFFF
    table = _CRC
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


def lrc(data: Bytes) -> int:
    """The LRC of an ASCII frame (clause 6.2.1): the two's complement of the sum of its bytes."""
    return -sum(data) & 0xFF


def _checked(unit: int, pdu: Bytes) -> bytes:
    if not 0 < len(pdu) <= MAX_PDU or not 0 <= unit <= 0xFF:
        raise ValueError(f"PDU of {len(pdu)} bytes to unit {unit}; 1 to {MAX_PDU} bytes, units 0 to 255")
    return bytes((unit,)) + bytes(pdu)


def encode_rtu(unit: int, pdu: Bytes) -> bytes:
    """The RTU frame of a PDU; ValueError for one that is empty or too long, or a unit out of range."""
    body = _checked(unit, pdu)
    return body + crc16(body).to_bytes(2, "little")


def encode_ascii(unit: int, pdu: Bytes) -> bytes:
    """The ASCII frame of a PDU, colon to line feed; ValueError as for RTU."""
    body = _checked(unit, pdu)
    return b":" + (body + bytes((lrc(body),))).hex().upper().encode() + b"\r\n"


class SerialSplitter(Protocol):
    """Cuts what a line brings into frames, however it arrives, and never ends: garbage is passed over."""

    noise: int
    """Bytes passed over because they belong to no frame."""

    @property
    def pending(self) -> int:
        """Bytes that wait for more."""

    def expect(self, request: Bytes) -> None:
        """The PDU that is answered next: an echo (function 8) is as long as what was sent."""

    def feed(self, data: Bytes) -> list[SerialAdu]:
        """Take what arrived and return the frames that it completes, in order."""

    def silence(self, *hold: Bytes) -> list[SerialAdu]:
        """Nothing came for a silent interval: what has begun and can't go on is passed over, what is behind it read.

        A frame that begins as one of `hold` is waited for further: adapters hand bytes over in portions.
        """

    def reset(self) -> None:
        """Forget what waits."""


class RtuSplitter:
    """Frames of RTU, in one direction.

    At each place the function tells the length, and the CRC decides: a frame, or one byte of noise and on with the
    next byte. So a frame behind noise, behind half a frame or glued to another is found, and bytes inside a whole
    frame are never taken for one. Fewer than 256 bytes wait between calls.

    Function 8 is the exception: its query data (sub-function 0) have any length, which an asker knows (`expect`) and a
    server can't, so that there the first length whose CRC is right is taken.
    """

    __slots__ = ("_buffer", "_echo", "_length", "_requests", "noise")

    def __init__(self, *, requests: bool = False) -> None:
        """For answers, or for requests (what a server hears)."""
        self._length: Callable[[Bytes], int] = request_length if requests else answer_length
        self._requests = requests
        self._echo = DIAGNOSTICS_BYTES
        self._buffer = b""
        self.noise = 0

    @property
    def pending(self) -> int:
        """Bytes that wait for more."""
        return len(self._buffer)

    def expect(self, request: Bytes) -> None:
        """See SerialSplitter."""
        self._echo = len(request) if _is_query(request) else DIAGNOSTICS_BYTES

    def feed(self, data: Bytes) -> list[SerialAdu]:
        """Take what arrived and return the frames that it completes, in order."""
        return self._scan(self._buffer + bytes(data))

    def silence(self, *hold: Bytes) -> list[SerialAdu]:
        """See SerialSplitter. What is behind a held beginning is not looked at: it may be its data."""
        frames: list[SerialAdu] = []
        while self._buffer and not any(_begins_alike(self._buffer, start) for start in hold):
            self.noise += 1
            frames += self._scan(self._buffer[1:])
        return frames

    def reset(self) -> None:
        """Forget what waits."""
        self._buffer = b""

    def _scan(self, buffer: bytes) -> list[SerialAdu]:
        frames: list[SerialAdu] = []
        view = memoryview(buffer)
        start, end = 0, len(buffer)
        while start < end:
            length = self._length_at(view[start : start + MAX_PDU + RTU_OVERHEAD])
            if length == MORE:
                break
            stop = start + length + RTU_OVERHEAD
            if length != UNKNOWN and stop > end:
                break
            if length != UNKNOWN and crc16(view[start : stop - 2]) == view[stop - 2] | view[stop - 1] << 8:
                frames.append(SerialAdu(buffer[start], buffer[start + 1 : stop - 2]))
                start = stop
            else:
                start += 1
                self.noise += 1
        self._buffer = buffer[start:]
        return frames

    def _length_at(self, frame: memoryview) -> int:
        """Bytes of the PDU of the frame that begins here, as far as can be told."""
        pdu = frame[1 : 1 + MAX_PDU]
        if not _is_query(pdu):
            return self._length(pdu)
        if not self._requests:
            return self._echo
        for length in range(DIAGNOSTICS_BYTES, len(frame) - RTU_OVERHEAD + 1, 2):
            stop = length + RTU_OVERHEAD
            if crc16(frame[: stop - 2]) == frame[stop - 2] | frame[stop - 1] << 8:
                return length
        return MORE if len(pdu) < MAX_PDU else UNKNOWN


def _is_query(pdu: Bytes) -> bool:
    """Whether it is, or begins as, function 8 with sub-function 0 (clause 6.8.1)."""
    return len(pdu) > 2 and bytes(pdu[:3]) == b"\x08\0\0"


def _begins_alike(buffer: bytes, start: Bytes) -> bool:
    """Whether what both are long enough to tell is the same."""
    return bytes(start[: len(buffer)]) == buffer[: len(start)]


class AsciiSplitter:
    """Frames of ASCII: a colon always begins one, whatever came before it; at most one is kept between calls."""

    __slots__ = ("_buffer", "noise")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.noise = 0

    def expect(self, request: Bytes) -> None:
        """See SerialSplitter: a frame has its end marked here."""

    @property
    def pending(self) -> int:
        """Characters of a frame that has begun."""
        return len(self._buffer)

    def feed(self, data: Bytes) -> list[SerialAdu]:
        """Take what arrived and return the frames that it completes, in order."""
        frames: list[SerialAdu] = []
        buffer = self._buffer
        for byte in bytes(data):
            if byte == 0x3A:  # colon
                self.noise += len(buffer)
                buffer[:] = b":"
            elif not buffer:
                self.noise += 1
            else:
                buffer.append(byte)
                if byte == 0x0A:  # line feed
                    self._close(frames)
                elif len(buffer) >= MAX_ASCII:
                    self._drop()
        return frames

    def silence(self, *hold: Bytes) -> list[SerialAdu]:  # noqa: ARG002 - see SerialSplitter
        """Nothing: characters of a frame may come a second apart (clause 2.5.2.1)."""
        return []

    def reset(self) -> None:
        """Forget what waits."""
        self._buffer.clear()

    def _drop(self) -> None:
        self.noise += len(self._buffer)
        self._buffer.clear()

    def _close(self, frames: list[SerialAdu]) -> None:
        """The frame has ended: deliver it, if it is one."""
        body = decode_ascii(bytes(self._buffer))
        if body is None:
            self._drop()
        else:
            frames.append(body)
            self._buffer.clear()


_HEX = frozenset(b"0123456789ABCDEFabcdef")


def decode_ascii(frame: bytes) -> SerialAdu | None:
    """What an ASCII frame from colon to line feed holds; None where it is none."""
    digits = frame[1:-2]
    if not frame.startswith(b":") or not frame.endswith(b"\r\n") or len(digits) % 2 or not _HEX.issuperset(digits):
        return None
    body = bytes.fromhex(digits.decode())
    if len(body) < RTU_OVERHEAD or sum(body) & 0xFF:  # unit, function, LRC; the sum with the LRC is 0
        return None
    return SerialAdu(body[0], body[1:-1])
