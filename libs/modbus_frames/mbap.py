"""The frame of Modbus TCP: the MBAP header and what follows it, as bytes, without sockets.

MODBUS Messaging on TCP/IP Implementation Guide V1.0b, clause 3.1.3: transaction (2 bytes), protocol (2, always 0),
length (2, counting unit and PDU), unit (1), PDU (1 to 253).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from modbus_frames.errors import FrameError

HEADER_BYTES = 7
"""Bytes before the PDU."""
MAX_PDU = 253
"""Longest PDU; the limit comes from the 256 bytes of a serial frame (V1.1b3, clause 4.1)."""
MAX_ADU = HEADER_BYTES + MAX_PDU
"""Longest frame, 260 bytes."""

_HEADER = struct.Struct(">HHHB")


class Adu(NamedTuple):
    """One frame."""

    transaction: int
    """Copied by the server from request to answer, 0 to 65535."""
    unit: int
    """Unit id, 0 to 255."""
    pdu: bytes
    """Function code and data, 1 to 253 bytes."""


def encode_adu(transaction: int, unit: int, pdu: bytes) -> bytes:
    """Put the header before a PDU; ValueError for an id out of range or a PDU that is empty or too long."""
    if not 0 < len(pdu) <= MAX_PDU:
        raise ValueError(f"PDU of {len(pdu)} bytes; 1 to {MAX_PDU} are allowed")
    if not 0 <= transaction <= 0xFFFF or not 0 <= unit <= 0xFF:
        raise ValueError(f"transaction {transaction} or unit {unit} out of range; 0 to 65535 and 0 to 255")
    return _HEADER.pack(transaction, 0, len(pdu) + 1, unit) + pdu


class Splitter:
    """Cuts a byte stream into frames, however it arrives.

    A header that can't be one (protocol not 0, length not 2 to 254) ends the stream: a stream has no mark from which
    to find the next frame, and guessing one would take data for a header. The frames before it are still delivered,
    `error` says what was wrong, whatever is fed afterwards is dropped, and the connection should be closed.
    At most one incomplete frame (under 260 bytes) is kept between calls.
    """

    __slots__ = ("_buffer", "error")

    def __init__(self) -> None:
        self._buffer = b""
        self.error: FrameError | None = None
        """What ended the stream; None while all is well."""

    @property
    def pending(self) -> int:
        """Bytes of an incomplete frame that wait for more."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> list[Adu]:
        """Take what arrived and return the frames that it completes, in order; look at `error` afterwards."""
        if self.error is not None:
            return []
        buffer = self._buffer + bytes(data)
        frames: list[Adu] = []
        start, end = 0, len(buffer)
        while end - start >= HEADER_BYTES:
            transaction, protocol, length, unit = _HEADER.unpack_from(buffer, start)
            if protocol != 0 or not 2 <= length <= MAX_PDU + 1:
                self.error = FrameError(
                    f"no Modbus TCP header: protocol {protocol}, length {length}; 0 and 2 to 254 expected"
                )
                self._buffer = b""
                return frames
            stop = start + 6 + length
            if stop > end:
                break
            frames.append(Adu(transaction, unit, buffer[start + HEADER_BYTES : stop]))
            start = stop
        self._buffer = buffer[start:]
        return frames

    def reset(self) -> None:
        """Forget everything, for a new connection."""
        self._buffer = b""
        self.error = None
