"""The transport function (clause 8): fragments to segments and back, with FIR, FIN and a sequence of six bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIN: Final = 0x80
FIR: Final = 0x40
SEQUENCE: Final = 0x3F
SEGMENT_DATA: Final = 249
"""Most octets of a fragment in one segment: what a frame carries less the transport header."""


@dataclass(slots=True)
class TransportCounters:
    """What was wrong with received segments."""

    fragments: int = 0
    """Fragments put together."""
    out_of_sequence: int = 0
    """Series given up because a segment was missing, or began in the middle."""
    overlong: int = 0
    """Series given up because they exceeded the largest fragment."""
    repeated: int = 0
    """Segments that came twice and were ignored the second time."""
    empty: int = 0
    """Segments without a header or without data."""
    interrupted: int = 0
    """Series given up because another began."""


class Reassembler:
    """Segments to fragments (clause 8.2.4); holds at most `largest` octets."""

    def __init__(self, largest: int = 2048) -> None:
        self.counters = TransportCounters()
        self.largest = largest
        self._fragment: bytearray | None = None
        self._last = b""

    def reset(self) -> None:
        """Forget what was begun."""
        self._fragment, self._last = None, b""

    def add(self, segment: bytes) -> bytes | None:
        """Take one segment, header included; gives the fragment that it completes, else None."""
        if len(segment) < 2:
            self.counters.empty += 1
            return None
        if segment[0] & FIR:
            if self._fragment is not None:
                self.counters.interrupted += 1
            self._fragment = bytearray()
        elif not self._continues(segment):
            return None
        return self._append(segment)

    def _continues(self, segment: bytes) -> bool:
        """Whether a segment without FIR is the next of the series; gives the series up where it is not."""
        if self._fragment is None:
            self.counters.out_of_sequence += 1
            return False
        if segment == self._last:
            self.counters.repeated += 1
            return False
        if segment[0] & SEQUENCE != (self._last[0] + 1) & SEQUENCE:
            self.counters.out_of_sequence += 1
            self.reset()
            return False
        return True

    def _append(self, segment: bytes) -> bytes | None:
        fragment = self._fragment
        if fragment is None:
            return None
        self._last = segment
        if len(fragment) + len(segment) - 1 > self.largest:
            self.counters.overlong += 1
            self.reset()
            return None
        fragment += segment[1:]
        if not segment[0] & FIN:
            return None
        self.reset()
        self.counters.fragments += 1
        return bytes(fragment)


def segment_headers(length: int, sequence: int) -> list[int]:
    """The header octets of the segments that a fragment of so many octets takes.

    A first segment may have any sequence number (clause 8.2.1.4), so a fragment that would count past 63 begins at 0:
    analysers exist that lose a fragment in which the number rolls over.
    """
    count = max(1, -(-length // SEGMENT_DATA))
    if sequence + count > SEQUENCE + 1 >= count:
        sequence = 0
    headers = [(sequence + i) & SEQUENCE for i in range(count)]
    headers[0] |= FIR
    headers[-1] |= FIN
    return headers
