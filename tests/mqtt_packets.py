"""MQTT packets as tests look at them: what went over a wire, packet by packet, and a broker that does as it is told.

It knows no more than the tests need (MQTT 3.1.1 and 5.0, clauses 2 and 3), and shares no code with the client.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

NAMES = ("reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
         "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH")
CODES = {name: code for code, name in enumerate(NAMES)}


class Packet(NamedTuple):
    """One packet; what it does not have is 0 or empty."""

    kind: str
    mid: int = 0
    topic: str = ""
    payload: bytes = b""
    qos: int = 0
    dup: bool = False
    retain: bool = False
    body: bytes = b""

    def __str__(self) -> str:
        flags = f" q{self.qos}{' dup' * self.dup}" if self.kind == "PUBLISH" else ""
        return f"{self.kind} {self.mid}{flags} {self.topic} {self.payload[:160]!r}".rstrip(" b'")


class Decoder:
    """Bytes of one direction in any pieces, packets out. `five`: MQTT 5, where a PUBLISH has properties."""

    def __init__(self, *, five: bool) -> None:
        self._five, self._rest = five, b""

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are whole now."""
        self._rest += data
        return list(self._whole())

    def _whole(self) -> Iterator[Packet]:
        while len(self._rest) >= 2:
            length, at = varint(self._rest, 1)
            if at == 0 or len(self._rest) < at + length:
                return
            first, body = self._rest[0], self._rest[at:at + length]
            self._rest = self._rest[at + length:]
            yield self._packet(first, body)

    def _packet(self, first: int, body: bytes) -> Packet:
        kind = NAMES[first >> 4]
        if kind == "PUBLISH":
            return self._publish(first, body)
        numbered = CODES["PUBACK"] <= first >> 4 <= CODES["UNSUBACK"]
        return Packet(kind, struct.unpack_from(">H", body)[0] if numbered else 0, body=body)

    def _publish(self, first: int, body: bytes) -> Packet:
        qos, at = first >> 1 & 3, 2 + struct.unpack_from(">H", body)[0]
        topic, mid = body[2:at].decode(), 0
        if qos:
            mid, at = struct.unpack_from(">H", body, at)[0], at + 2
        if self._five:
            length, at = varint(body, at)
            at += length
        return Packet("PUBLISH", mid, topic, body[at:], qos, bool(first & 8), bool(first & 1), body)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer and where what follows it begins; 0 for where if it is not whole."""
    value = shift = 0
    for index in range(at, min(at + 4, len(data))):
        value |= (data[index] & 127) << shift
        shift += 7
        if data[index] < 128:
            return value, index + 1
    return 0, 0


def answer(kind: str, mid: int, reason: int = 0) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP; a reason code (MQTT 5 alone) only where it is not 0."""
    body = struct.pack(">H", mid) + (bytes([reason]) if reason else b"")
    return bytes([CODES[kind] << 4 | (2 if kind == "PUBREL" else 0), len(body)]) + body


class ScriptedBroker:
    """A broker of one client that does nothing by itself: the test accepts, reads, answers and cuts."""

    def __init__(self, *, five: bool, step: Callable[[], object]) -> None:
        """`step` lets the client go on; it is called while this waits for something of it."""
        self._five, self._step = five, step
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.0)
        self.port: int = self._listener.getsockname()[1]
        self._socket: socket.socket | None = None
        self._decoder = Decoder(five=five)
        self._read: list[Packet] = []

    def wait(self, condition: Callable[[], object], what: Callable[[], str]) -> None:
        """Step the client until the condition holds; AssertionError after ten seconds."""
        until = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < until, f"the client did not {what()}"
            self._step()
            time.sleep(0.001)

    def _receive(self) -> None:
        waiting = [self._listener] if self._socket is None else [self._socket]
        ready, _, _ = select.select(waiting, [], [], 0.0)
        if self._listener in ready:
            self._socket = self._listener.accept()[0]
            self._decoder, self._read = Decoder(five=self._five), []
        elif ready and self._socket is not None:
            self._read += self._decoder.feed(self._socket.recv(65536))

    def _has(self, count: int) -> bool:
        self._receive()
        return len(self._read) >= count

    def take(self, count: int = 1) -> list[Packet]:
        """The next packets of the client; the first of a connection is its CONNECT."""
        self.wait(lambda: self._has(count), lambda: f"send {count} packets, only {[str(p) for p in self._read]}")
        taken, self._read = self._read[:count], self._read[count:]
        return taken

    def say(self, *packets: bytes) -> None:
        """Send."""
        assert self._socket is not None
        self._socket.sendall(b"".join(packets))

    def accept(self, *, session: bool, reason: int = 0, properties: bytes = b"") -> None:
        """Take the CONNECT and answer it; `properties` are for MQTT 5."""
        (packet,) = self.take()
        assert packet.kind == "CONNECT"
        body = bytes([session, reason]) + (bytes([len(properties)]) + properties) * self._five
        self.say(bytes([CODES["CONNACK"] << 4, len(body)]) + body)

    def cut(self) -> None:
        """Break the connection without a word."""
        assert self._socket is not None
        self._socket.close()
        self._socket = None

    def close(self) -> None:
        """End."""
        with contextlib.suppress(AssertionError):
            self.cut()
        self._listener.close()
