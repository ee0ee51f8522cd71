"""What goes on between a simulated Modbus device and one client, whatever carries the bytes. No sockets here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from endpoint_config.models import ModbusServer
from endpoint_config.transports import Transport
from modbus_frames import (
    Adu,
    AsciiSplitter,
    FrameError,
    RtuSplitter,
    SerialSplitter,
    Splitter,
    encode_adu,
    encode_ascii,
    encode_rtu,
)

from cpc.simulators.modbus_bus import Bus
from cpc.simulators.modbus_reply import Reply

WAITING = 64
"""Answers that wait for one client before nothing more is read from it."""
TURN = 128
"""Requests of one client that are answered before the others have their turn."""
SILENCE = 0.05
"""Seconds after which a frame that has begun on a line will not go on."""


class Framing(Protocol):
    """Bytes to requests, answers to bytes."""

    @property
    def serial(self) -> bool:
        """Whether requests come on a line, where nobody answers for units that are not there."""

    @property
    def error(self) -> FrameError | None:
        """What ended the stream."""

    def feed(self, data: bytes) -> list[tuple[Adu, bytes]]:
        """Requests that are complete, each with its frame."""

    def silence(self) -> list[tuple[Adu, bytes]]:
        """The same once nothing came for a while."""

    @property
    def pending(self) -> int:
        """Bytes that wait for more."""

    def encode(self, reply: Reply) -> bytes:
        """The frame of an answer."""


class Mbap:
    """Modbus TCP, UDP and TLS."""

    serial = False

    def __init__(self) -> None:
        self._splitter = Splitter()

    @property
    def error(self) -> FrameError | None:
        """See Framing."""
        return self._splitter.error

    @property
    def pending(self) -> int:
        """See Framing."""
        return self._splitter.pending

    def feed(self, data: bytes) -> list[tuple[Adu, bytes]]:
        """See Framing."""
        return [(adu, encode_adu(*adu)) for adu in self._splitter.feed(data)]

    def silence(self) -> list[tuple[Adu, bytes]]:
        """A stream has no silence."""
        return []

    def encode(self, reply: Reply) -> bytes:
        """See Framing."""
        return encode_adu(reply.transaction, reply.unit, reply.pdu)


class Line:
    """RTU and ASCII."""

    serial = True
    error: FrameError | None = None

    def __init__(self, *, ascii_frames: bool) -> None:
        self._encode = encode_ascii if ascii_frames else encode_rtu
        self._splitter: SerialSplitter = AsciiSplitter() if ascii_frames else RtuSplitter(requests=True)
        self._check_at = -4 if ascii_frames else -2

    @property
    def pending(self) -> int:
        """See Framing."""
        return self._splitter.pending

    def feed(self, data: bytes) -> list[tuple[Adu, bytes]]:
        """See Framing."""
        return [(Adu(0, unit, pdu), self._encode(unit, pdu)) for unit, pdu in self._splitter.feed(data)]

    def silence(self) -> list[tuple[Adu, bytes]]:
        """See Framing."""
        return [(Adu(0, unit, pdu), self._encode(unit, pdu)) for unit, pdu in self._splitter.silence()]

    def encode(self, reply: Reply) -> bytes:
        """See Framing."""
        frame = bytearray(self._encode(reply.unit, reply.pdu))
        if reply.bad_checksum:
            frame[self._check_at] ^= 0x01
        return bytes(frame)


def framing_of(server: ModbusServer) -> Framing:
    """The framing of an entry's transport."""
    return Line(ascii_frames=server.transport is Transport.ASCII) if server.transport.is_line else Mbap()


class Talk:
    """One client; whatever it sends or does not read harms itself alone."""

    def __init__(self, bus: Bus, framing: Framing, client: str, *, write: Callable[[bytes], None],
                 end: Callable[[bool], None], hold: Callable[[bool], None] = lambda _hold: None,
                 character_time: float = 0.0, user: str = "") -> None:
        """`end(reset)` ends the connection, `hold(yes)` stops and goes on reading.

        With a `character_time` (s) answers come as late as the bytes of both frames take on the line.
        """
        self._bus, self._framing, self._client, self._user = bus, framing, client, user
        self._write, self._end, self._hold = write, end, hold
        self._character_time = character_time
        self._requests: deque[tuple[Adu, bytes]] = deque()
        self._waiting: deque[Reply] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._silent: asyncio.TimerHandle | None = None
        self._later: asyncio.Handle | None = None
        self._holding: set[str] = set()

    def hear(self, data: bytes) -> None:
        """Answer what is complete, in order; hang up on what is no Modbus."""
        self._take(self._framing.feed(data))
        self._hang_up()
        if self._silent is not None:
            self._silent.cancel()
            self._silent = None
        if self._framing.serial and self._framing.pending:
            self._silent = asyncio.get_running_loop().call_later(SILENCE, self._pause)

    def hold(self, why: str, yes: bool) -> None:
        """Stop reading from this client, and answering what is read already, as long as any reason holds."""
        before = bool(self._holding)
        (self._holding.add if yes else self._holding.discard)(why)
        if before != bool(self._holding):
            self._hold(not before)
        if not self._holding - {"turns"}:
            self._go_on()

    def close(self) -> None:
        """Nothing more goes out."""
        if self._sender is not None:
            self._sender.cancel()
        if self._silent is not None:
            self._silent.cancel()
        self._requests.clear()
        if self._later is not None:
            self._later.cancel()

    def _pause(self) -> None:
        self._silent = None
        self._take(self._framing.silence())

    def _take(self, requests: list[tuple[Adu, bytes]]) -> None:
        self._requests.extend(requests)
        if self._later is None and not self._holding:
            self._turn()

    def _turn(self) -> None:
        """Answer some of what was heard: a quarter of a megabyte may come at once and would keep the others waiting."""
        self._later = None
        self._answer([self._requests.popleft() for _ in range(min(TURN, len(self._requests)))])
        self.hold("turns", bool(self._requests))
        self._hang_up()

    def _hang_up(self) -> None:
        if self._framing.error is not None and not self._requests:
            self._end(False)

    def _go_on(self) -> None:
        if self._requests and self._later is None:
            self._later = asyncio.get_running_loop().call_soon(self._turn)

    def _answer(self, requests: list[tuple[Adu, bytes]]) -> None:
        ready: list[bytes] = []
        for adu, frame in requests:
            reply = self._bus.answer(adu, self._client, frame, serial=self._framing.serial, user=self._user)
            if reply.plain and not self._waiting and not self._character_time:
                ready.append(reply.frame(self._framing.encode))
            else:
                self._waiting.append(reply)
        if ready:
            self._write(b"".join(ready))
        if self._waiting and (self._sender is None or self._sender.done()):
            self._sender = asyncio.get_running_loop().create_task(self._send())
        if len(self._waiting) > WAITING:
            self.hold("answers", True)

    async def _send(self) -> None:
        """Send what waits, one after the other, as a device that works on one request at a time."""
        while self._waiting:
            reply = self._waiting[0]
            frame = reply.frame(self._framing.encode)
            wait = reply.wait + self._character_time * (len(reply.request) + len(frame))
            if wait:
                await asyncio.sleep(wait)
            for piece in [bytes((byte,)) for byte in frame] if reply.pause else [frame]:
                if piece:
                    self._write(piece)
                if reply.pause:
                    await asyncio.sleep(reply.pause)
            self._waiting.popleft()
            if reply.close:
                self._end(reply.close == "reset")
            if len(self._waiting) <= WAITING // 2:
                self.hold("answers", False)
