"""The packet log of `cpc run --log-packets`: one line for each frame, written beside the polling.

The polling thread only hands packets over; a thread of its own makes lines of them. What comes faster than it can be
written is counted and left out, so that a slow terminal holds no device up.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import Any, TextIO

STYLES = ("raw", "interpreted", "both")
"""Hexadecimal bytes, words, or both."""
MOST_WAITING = 10_000
"""Packets that may wait to be written."""
PAUSE = 0.05
"""Seconds between looks for packets."""


class PacketLog:
    """A listener that writes lines: `2026-01-31T12:00:00.123456Z  Pump  >  00 01 ...  read coils 3`."""

    def __init__(self, style: str, stream: TextIO | None = None) -> None:
        """`style` is one of STYLES; `stream` is stderr unless given."""
        self._style = style
        self._stream = sys.stderr if stream is None else stream
        self._waiting: deque[Any] = deque()
        self._lost = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="packets", daemon=True)
        self._thread.start()

    def __call__(self, packet: Any) -> None:
        """Take a packet (modbus_tcp_client.Packet)."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(packet)
        else:
            self._lost += 1

    def close(self) -> None:
        """Write what waits, for half a second at most."""
        self._end.set()
        self._thread.join(0.5)

    def _run(self) -> None:
        while not self._end.wait(PAUSE):
            self._write()
        self._write()

    def _write(self) -> None:
        lines = []
        while self._waiting:
            packet = self._waiting.popleft()
            lines.append(f"{_stamp(packet.time)}  {packet.line(self._style)}")
        lost, self._lost = self._lost, 0
        if lost:
            lines.append(f"{_stamp(time.time_ns())}  {lost} packets not shown: they came faster than they are written")
        if lines:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()


def _stamp(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06d}Z"
