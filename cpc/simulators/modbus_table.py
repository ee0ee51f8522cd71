"""The bits or registers of one read function of a simulated Modbus unit."""

from __future__ import annotations

from collections.abc import Sequence

import modbus_frames
import numpy as np
from endpoint_config.models import ReadFunction
from modbus_tcp_client.plan import Span


class Table:
    """The bits (one a byte) or registers (two bytes each, big-endian) of one read function."""

    def __init__(self, function: int, wanted: Sequence[Span], max_gap: int) -> None:
        """`wanted` spans are there, and gaps of up to `max_gap` between them read as 0; all else is not there."""
        self.is_bits = ReadFunction(function).is_bits
        self.size = 1 if self.is_bits else 2
        self.first = min(s.start for s in wanted)
        count = max(s.stop for s in wanted) - self.first
        self.content = bytearray(count * self.size)
        self._there = bytearray(count)
        self._writable = bytearray(count)
        edge = self.first
        for span in sorted(wanted):
            begin = edge if 0 < span.start - edge <= max_gap else span.start
            self._there[begin - self.first : span.stop - self.first] = b"\1" * (span.stop - begin)
            edge = max(edge, span.stop)

    def offset(self, address: int) -> int:
        """Byte in `content` at which an address stands."""
        return (address - self.first) * self.size

    def allow_writes(self, span: Span) -> None:
        """Let commands write here."""
        self._writable[span.start - self.first : span.stop - self.first] = b"\1" * (span.stop - span.start)

    def holds(self, address: int, count: int, *, to_write: bool = False) -> bool:
        """Whether all these addresses are there (and may be written)."""
        begin = address - self.first
        marks = self._writable if to_write else self._there
        return begin >= 0 and begin + count <= len(marks) and 0 not in marks[begin : begin + count]

    def read(self, address: int, count: int) -> bytes:
        """As on the wire."""
        content = self.content[self.offset(address) : self.offset(address + count)]
        if self.is_bits:
            return np.packbits(np.frombuffer(content, np.uint8), bitorder="little").tobytes()
        return bytes(content)

    def write(self, address: int, count: int, data: bytes) -> None:
        """From the wire."""
        if self.is_bits:
            data = bytes(modbus_frames.unpack_bits(data, count))
        self.content[self.offset(address) : self.offset(address + count)] = data
