"""One small interface between the engine and what carries its frames: where bytes go, and what a frame looks like.

A *carrier* makes channels: non-blocking descriptors with `recv_into` and `send`, as a socket has them. A *framing*
makes exchanges: the matching of requests and answers on one channel. Planner, decoder, fairness and statistics know
neither.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import termios
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from endpoint_config.models import ModbusServer
from endpoint_config.transports import SerialLine, TlsSettings, Transport
from modbus_frames import AsciiSplitter, RtuSplitter, encode_ascii, encode_rtu

from modbus_tcp_client.dial import Dialer
from modbus_tcp_client.exchange import DatagramExchange, Exchange, Job
from modbus_tcp_client.failure import ChannelError, Failure, from_system, no_connection
from modbus_tcp_client.line_exchange import LineExchange, LineMemory

if TYPE_CHECKING:
    from modbus_tcp_client.engine import Engine
    from modbus_tcp_client.timers import Owner

ACKNOWLEDGED = frozenset([Transport.TCP, Transport.TLS, Transport.RTU_OVER_TCP])
"""Transports whose other side acknowledges what it got."""
NETWORK_SILENCE = 0.02
"""Seconds without a byte that part RTU frames which come through a network."""
NETWORK_PAUSE = 0.002
"""Seconds between an answer that came through a network and the next request, for what is glued to it to come too."""
ADAPTER_STALL, NETWORK_STALL = 0.03, 0.3
"""Seconds for which an adapter (FTDI: 16 ms) or a network (a lost packet: 0.2 s) may hold back the rest of a frame."""


class Channel(Protocol):
    """A connection: non-blocking; OSError where it fails, BlockingIOError where there is nothing to do now."""

    def fileno(self) -> int:
        """Descriptor to wait on."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Take what came; 0 = the other side has closed."""

    def send(self, data: Any, /) -> int:
        """Give bytes away; returns how many were taken."""

    def close(self) -> None:
        """Close."""


class Dialing(Protocol):
    """Attempts to make a channel, one after the other; exactly one outcome is told for each."""

    def dial(self, now: int) -> None:
        """Begin an attempt, unless one is under way."""

    def cancel(self) -> None:
        """End the attempt under way without an outcome."""


Reached = Callable[[Channel, int], None]
Failed = Callable[[Failure, int], None]


class Carrier(Protocol):
    """Makes channels to one place."""

    def open(self, timeout: float) -> Channel:
        """Connect, waiting at most `timeout` seconds; ChannelError where that fails."""

    def dialer(self, engine: Engine, owner: Owner, *, timeout: int, reached: Reached, failed: Failed) -> Dialing:
        """The same without waiting; `timeout` in ns."""


class Datagrams:
    """A connected UDP socket; an empty datagram does not close it."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.fileno, self.send, self.close = connection.fileno, connection.send, connection.close

    def recv_into(self, buffer: memoryview, /) -> int:
        """See Channel."""
        count = self._socket.recv_into(buffer)
        if not count:
            raise BlockingIOError(errno.EAGAIN, "an empty datagram")
        return count


class SocketCarrier:
    """TCP, or UDP, to host and port."""

    def __init__(self, host: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
        self._host, self._port, self._kind = host, port, kind

    def open(self, timeout: float) -> Channel:
        """See Carrier."""
        connection = self.connect(timeout)
        connection.setblocking(False)
        return self._channel(connection)

    def _channel(self, connection: socket.socket) -> Channel:
        return connection if self._kind is socket.SOCK_STREAM else Datagrams(connection)

    def connect(self, timeout: float) -> socket.socket:
        """A connected socket; ChannelError where that fails."""
        try:
            if self._kind is socket.SOCK_STREAM:
                connection = socket.create_connection((self._host, self._port), timeout=timeout)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                family, _, _, _, address = socket.getaddrinfo(self._host, self._port, type=self._kind)[0]
                connection = socket.socket(family, self._kind)
                connection.connect(address)
        except TimeoutError:
            raise ChannelError(no_connection(f"no connection within {timeout:g} s")) from None
        except OSError as fault:
            raise ChannelError(from_system(fault)) from fault
        return connection

    def dialer(self, engine: Engine, owner: Owner, *, timeout: int, reached: Reached, failed: Failed) -> Dialing:
        """See Carrier."""
        return Dialer(engine, owner, self._host, self._port, kind=self._kind, timeout=timeout,
                      reached=lambda connection, now: reached(self._channel(connection), now), failed=failed)


class Framing(Protocol):
    """What frames look like, and what the line asks for between them."""

    silence: float
    """Seconds without a byte that part frames; 0 = time means nothing."""
    stall: float
    """Seconds without a byte after which the rest of a frame will not come any more."""
    pause: float
    """Least seconds between an answer and the next request."""

    def exchange(self, first_transaction: int) -> Exchange:
        """The matching for a new channel."""

    def line_time(self, job: Job) -> float:
        """Seconds that request and answer take on the line itself; waiting begins behind them."""


class MbapFraming:
    """Modbus TCP's own frame, also in UDP datagrams and in TLS."""

    silence = stall = pause = 0.0

    def __init__(self, kind: type[Exchange] = Exchange) -> None:
        self._kind = kind

    def exchange(self, first_transaction: int) -> Exchange:
        """See Framing."""
        return self._kind(first_transaction)

    def line_time(self, job: Job) -> float:  # noqa: ARG002 - see Framing
        """Nothing worth counting."""
        return 0.0


class LineFraming:
    """RTU or ASCII."""

    def __init__(self, line: SerialLine, *, ascii_frames: bool = False) -> None:
        self._line = line
        self._ascii = ascii_frames
        self._memory = LineMemory(echo=line.echo)
        known = line.device is not None or line.interframe_delay is not None
        self.silence = line.silent_interval if known else max(line.silent_interval, NETWORK_SILENCE)
        self.stall = max(self.silence, ADAPTER_STALL if line.device is not None else NETWORK_STALL)
        self.pause = max(line.silent_interval if known else max(line.silent_interval, NETWORK_PAUSE),
                         line.turnaround_delay)

    def exchange(self, first_transaction: int) -> Exchange:  # noqa: ARG002 - see Framing
        """See Framing; what units owe is remembered over connections."""
        if self._ascii:
            return LineExchange(encode_ascii, AsciiSplitter(), self._memory)
        return LineExchange(encode_rtu, RtuSplitter(), self._memory)

    def line_time(self, job: Job) -> float:
        """See Framing; with an echo nothing is added, for it comes while the request goes out."""
        return self.characters(len(job.pdu)) * self._line.character_time + (
            self.characters(job.answer_bytes) * self._line.character_time)

    def characters(self, pdu_bytes: int) -> int:
        """Characters on the line of a frame with a PDU of so many bytes."""
        return 1 + 2 * (pdu_bytes + 2) + 2 if self._ascii else pdu_bytes + 3


@dataclass(frozen=True, slots=True)
class Way:
    """How to talk to the units of one connection."""

    name: str
    """For people: `host:port`, or the line's device file."""
    transport: Transport
    carrier: Carrier
    framing: Framing

    @property
    def is_local(self) -> bool:
        """Whether it is a line of this machine, which is up whether anybody answers or not."""
        return self.transport.is_local

    def secured(self, channel: Channel) -> str:
        """How a connection is secured, in words; empty where it is not."""
        if self.transport is not Transport.TLS:
            return ""
        from modbus_tcp_client.tls import TlsChannel

        return channel.describe() if isinstance(channel, TlsChannel) else ""

    def unacknowledged(self, channel: Channel | None) -> bool:
        """Whether the other side of a connection has not even acknowledged what was sent.

        A silent unit behind a living gateway is acknowledged, a gateway without power or cable is not (tcp(7),
        SIOCOUTQ). One lost packet is no sign: it is sent again after some 200 ms.
        """
        if channel is None or self.transport not in ACKNOWLEDGED:
            return False
        return any(fcntl.ioctl(channel.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))


def way_to(server: ModbusServer) -> Way:
    """The way to a unit; units that share a connection have equal ways."""
    transport = server.transport
    line = server.serial or SerialLine(baudrate=0)
    framing: Framing = MbapFraming(DatagramExchange if transport is Transport.UDP else Exchange)
    if transport.is_line:
        framing = LineFraming(line, ascii_frames=transport is Transport.ASCII)
    carrier: Carrier
    if transport.is_local:
        from modbus_tcp_client.serial_port import SerialCarrier

        carrier = SerialCarrier(line)
    elif transport is Transport.TLS:
        from modbus_tcp_client.tls import TlsCarrier

        carrier = TlsCarrier(server.ipaddr, server.port, server.tls or TlsSettings())
    else:
        kind = socket.SOCK_DGRAM if transport is Transport.UDP else socket.SOCK_STREAM
        carrier = SocketCarrier(server.ipaddr, server.port, kind)
    return Way(server.place, transport, carrier, framing)
