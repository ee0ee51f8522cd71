"""Whole chunks from a stream of bytes, none larger than was agreed on (OPC UA Part 6, clauses 6.7.2 and 7.1.2)."""

from __future__ import annotations

import logging
from typing import Any

from asyncua.client.ua_client import UASocketProtocol

LARGEST_CHUNK = 1 << 20
"""Bytes of one chunk that we take, and say so in our hello."""
_HEADER = 8


class BoundedProtocol(UASocketProtocol):
    """The library's protocol, fed with whole chunks only.

    The library would join every piece to what came before and try to read it again, which takes quadratic time, and
    would believe any length: one hostile server could keep the loop, and so its neighbours, busy for minutes.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        """See UASocketProtocol."""
        super().__init__(*args, **settings)
        self._stream = bytearray()

    def data_received(self, data: bytes) -> None:
        """Cut the stream into chunks; a length that was not agreed on ends the connection."""
        stream = self._stream
        stream += data
        while len(stream) >= _HEADER:
            size = int.from_bytes(stream[4:_HEADER], "little")
            if not _HEADER <= size <= LARGEST_CHUNK:
                logging.getLogger(__name__).debug("a chunk of %d bytes was announced", size)
                stream.clear()
                self._end()
                return
            if len(stream) < size:
                return
            chunk = bytes(stream[:size])
            del stream[:size]
            self._process_received_data(chunk)
            if self.transport is None or self.transport.is_closing():
                self._end()
                return

    def _end(self) -> None:
        """Drop the connection without waiting for what is still to be sent."""
        if self.transport is not None:
            self.transport.abort()
