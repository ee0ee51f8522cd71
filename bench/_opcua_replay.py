"""A server's own answers to read requests, served again faster than it can: so that the clients are measured.

    python bench/_opcua_replay.py PORT     says its own port, then serves until it is ended

Everything goes to the server at PORT and back, on an open channel (SecurityPolicy None), but read requests that were
seen KEPT times before: those get the answers that the server gave then, octet by octet but for request id, handle and
sequence number, one after the other, so that values, statuses and times change from read to read.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
from dataclasses import dataclass, field

KEPT = 8
"""Answers that are kept for each request."""
_READ = b"\x01\x00\x77\x02"
_READ_RESPONSE = b"\x01\x00\x7a\x02"
_HEAD = 24
"""Bytes before a message's body: header, channel, token, sequence number, request id (Part 6, clause 6.7.2)."""
_HANDLE = _HEAD + 4 + 8
"""Where a response's request handle stands."""


@dataclass
class Kept:
    """What the server said to one request: chunks of each answer."""

    answers: list[list[bytes]] = field(default_factory=list)
    turn: int = 0


STORE: dict[bytes, Kept] = {}
"""By the body of the request behind its header; of all connections, so that every side gets the same."""


async def chunks(reader: asyncio.StreamReader) -> bytes:
    """One chunk."""
    head = await reader.readexactly(8)
    return head + await reader.readexactly(struct.unpack_from("<I", head, 4)[0] - 8)


class Connection:
    """One client, and its connection to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._client, self._server = client, server
        self._sequence = 0
        self._asked: dict[int, bytes] = {}
        self._parts: dict[int, list[bytes]] = {}

    def from_client(self, chunk: bytes) -> None:
        """Answer, or pass on."""
        if chunk[:4] == b"MSGF" and chunk[_HEAD : _HEAD + 4] == _READ:
            (number,) = struct.unpack_from("<I", chunk, 20)
            at = _request_end(chunk)
            body = chunk[at:]
            kept = STORE.setdefault(body, Kept())
            if len(kept.answers) >= KEPT:
                (handle,) = struct.unpack_from("<I", chunk, _handle_of(chunk))
                self._replay(kept, number, handle, chunk[8:16])
                return
            self._asked[number] = body
        self._server.write(chunk)

    def _replay(self, kept: Kept, number: int, handle: int, channel: bytes) -> None:
        kept.turn = (kept.turn + 1) % len(kept.answers)
        for place, part in enumerate(kept.answers[kept.turn]):
            made = bytearray(part)
            made[8:16] = channel
            struct.pack_into("<I", made, 20, number)
            if not place:
                struct.pack_into("<I", made, _HANDLE, handle)
            self._send(made)

    def from_server(self, chunk: bytes) -> None:
        """Keep, and pass on with a sequence number of our own."""
        if chunk[:3] == b"ACK" or chunk[:3] == b"ERR":
            self._client.write(chunk)
            return
        if chunk[:3] == b"MSG":
            (number,) = struct.unpack_from("<I", chunk, 20)
            if number in self._asked:
                parts = self._parts.setdefault(number, [])
                parts.append(chunk)
                if chunk[3:4] == b"F":
                    body, whole = self._asked.pop(number), self._parts.pop(number)
                    if whole[0][_HEAD : _HEAD + 4] == _READ_RESPONSE:
                        STORE[body].answers.append(whole)
        self._send(bytearray(chunk), opening=chunk[:3] == b"OPN")

    def _send(self, chunk: bytearray, *, opening: bool = False) -> None:
        self._sequence += 1
        at = 16
        if opening:  # an asymmetric header: channel, then three byte strings
            at = 12
            for _ in range(3):
                (length,) = struct.unpack_from("<i", chunk, at)
                at += 4 + max(length, 0)
        struct.pack_into("<I", chunk, at, self._sequence)
        self._client.write(chunk)


def _handle_of(chunk: bytes) -> int:
    """Where the request handle stands: behind the type, the token (a NodeId) and the time."""
    at = _HEAD + 4
    form = chunk[at] & 0x3F
    size = (2, 4, 7)[form] if form < 3 else 19 if form == 4 else 7 + struct.unpack_from("<i", chunk, at + 3)[0]
    return at + size + 8


def _request_end(chunk: bytes) -> int:
    """Where the request's header ends: handle, diagnostics, audit id, time-out, additional header."""
    at = _handle_of(chunk) + 8
    (length,) = struct.unpack_from("<i", chunk, at)
    return at + 4 + max(length, 0) + 4 + 3


async def serve(port: int) -> None:
    """Until ended."""
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            theirs, server = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
            connection = Connection(writer, server)

            async def back() -> None:
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    while True:
                        connection.from_server(await chunks(theirs))
                writer.close()

            task = asyncio.ensure_future(back())
            try:
                while True:
                    connection.from_client(await chunks(reader))
            finally:
                task.cancel()
                server.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 22)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
