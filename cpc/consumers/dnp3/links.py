"""Connections of masters: listening, connecting, TLS, serial lines; each with bounded buffers and its own session."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import select
import socket
import ssl
import termios
import time
from collections.abc import Callable
from typing import Final, Protocol

from acquisition import Backoff
from dnp3_outstation import Instant, Session
from endpoint_config import Dnp3Master, Dnp3Serial, Dnp3Tls

READ: Final = 16384
"""Octets taken from a connection at once; as many as a TLS record has, so that none stay where poll can't see them."""
SLICE: Final = 64
"""Octets of them that the session gets in one turn, some requests at most, so that a flood holds up nobody else."""
MOST_OUTPUT: Final = 256 * 1024
"""Octets that may wait for a slow master; above it, nothing more is taken from it."""
STUCK_SECONDS: Final = 30.0
"""A connection that takes nothing for so long, or proves no right to be there, is closed."""
_SPEEDS: Final = {rate: getattr(termios, f"B{rate}") for rate in (
    300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600) if hasattr(
        termios, f"B{rate}")}


class Channel(Protocol):
    """Octets to and from one peer, never blocking."""

    def fileno(self) -> int:
        """Descriptor to wait on."""

    def read(self) -> bytes | None:
        """What is there; empty where nothing is, None at the end. Raises OSError."""

    def write(self, data: bytes) -> int:
        """Octets that were taken, 0 where none can be. Raises OSError."""

    def events(self, *, output: bool) -> int:
        """What to wait for."""

    def close(self) -> None:
        """Let go."""


class TcpChannel:
    """A TCP connection, in the clear or with TLS."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None = None, *, server: bool = True,
                 name: str = "") -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._plain = sock
        self._tls: ssl.SSLSocket | None = None
        self._shaken = context is None
        self._wants_write = False
        if context is not None:
            self._tls = context.wrap_socket(sock, server_side=server, do_handshake_on_connect=False,
                                            server_hostname=name if context.check_hostname else None)

    def fileno(self) -> int:
        """Descriptor to wait on."""
        return (self._tls or self._plain).fileno()

    def _try(self, action: Callable[[], bytes | int]) -> bytes | int | None:
        self._wants_write = False
        try:
            if self._tls is not None and not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
            return action()
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except ssl.SSLWantWriteError:
            self._wants_write = True
            return None

    def read(self) -> bytes | None:
        """What is there; empty where nothing is, None at the end."""
        try:
            data = self._try(lambda: (self._tls or self._plain).recv(READ))
        except ssl.SSLZeroReturnError:
            return None
        if data is None:
            return b""
        return data if isinstance(data, bytes) and data else None

    def write(self, data: bytes) -> int:
        """Octets that were taken."""
        taken = self._try(lambda: (self._tls or self._plain).send(data))
        return taken if isinstance(taken, int) else 0

    def events(self, *, output: bool) -> int:
        """What to wait for."""
        writing = self._wants_write or (output and self._shaken)
        return select.POLLIN | (select.POLLOUT if writing else 0)

    def close(self) -> None:
        """Let go."""
        with contextlib.suppress(OSError):
            (self._tls or self._plain).close()


class SerialChannel:
    """A serial line, 8N1, raw."""

    def __init__(self, settings: Dnp3Serial) -> None:
        self._fd = os.open(settings.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            attributes = termios.tcgetattr(self._fd)
            attributes[0] = attributes[1] = attributes[3] = 0
            attributes[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
            attributes[4] = attributes[5] = _SPEEDS.get(settings.baudrate, termios.B9600)
            termios.tcsetattr(self._fd, termios.TCSANOW, attributes)
        except termios.error as error:
            os.close(self._fd)
            raise OSError(errno.ENOTTY, f"is no serial device ({error.args[-1]})") from error

    def fileno(self) -> int:
        """Descriptor to wait on."""
        return self._fd

    def read(self) -> bytes | None:
        """What is there; None where the line is gone."""
        try:
            return os.read(self._fd, READ) or None
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> int:
        """Octets that were taken."""
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0

    def events(self, *, output: bool) -> int:
        """What to wait for."""
        return select.POLLIN | (select.POLLOUT if output else 0)

    def close(self) -> None:
        """Let go."""
        with contextlib.suppress(OSError):
            os.close(self._fd)


class Connection:
    """One channel with what waits to be sent; bound to a session once it is known whose it is."""

    def __init__(self, channel: Channel, peer: str, session: Session | None = None) -> None:
        self.channel = channel
        self.peer = peer
        self.session = session
        self.output = bytearray()
        self.inbox = b""
        """Octets that were read and that the session has not got yet."""
        self.spent = 0.0
        """Seconds that it was served for, for a fair share of the thread."""
        self.heard = b""
        """Octets that came before the session was known."""
        self.moved = time.monotonic()
        """When octets last went out, or nothing waited."""
        self.closed = False

    def events(self) -> int:
        """What to wait for; nothing is read while too much waits to be sent."""
        events = self.channel.events(output=bool(self.output))
        return events & ~select.POLLIN if self.full else events

    @property
    def full(self) -> bool:
        """Whether so much waits to be sent that nothing more is taken from the peer."""
        return len(self.output) >= MOST_OUTPUT

    @property
    def backlog(self) -> bool:
        """Whether octets were read that the session has not got, and may get."""
        return bool(self.inbox) and not self.full

    def receive(self) -> bytes | None:
        """The next octets for the session, at most SLICE of them; empty where none are there, None at the end."""
        if self.full:
            return b""
        if not self.inbox:
            data = self.channel.read()
            if data is None:
                return None
            self.inbox = data
        part, self.inbox = self.inbox[:SLICE], self.inbox[SLICE:]
        return part

    def push(self, now: float) -> None:
        """Send what the session has to say, as far as the peer takes it."""
        if self.session is not None:
            self.output += self.session.take_output()
        if not self.output:
            self.moved = now
            return
        taken = self.channel.write(bytes(self.output[:65536]))
        if taken:
            del self.output[:taken]
            self.moved = now

    def stuck(self, now: float) -> bool:
        """Whether it takes nothing, or has not said in time who it is."""
        return now - self.moved > STUCK_SECONDS

    def bind(self, session: Session, now: Instant) -> None:
        """It is this master's connection from now on."""
        self.session = session
        session.connect(now)
        heard, self.heard = self.heard, b""
        if heard:
            session.receive(heard, now)

    def close(self) -> None:
        """Let the peer go; its session waits for the next connection."""
        self.closed = True
        self.channel.close()
        if self.session is not None:
            self.session.disconnect()
            self.session = None


class Dialler:
    """Connects to a master, and again after pauses that grow."""

    def __init__(self, master: Dnp3Master, session: Session, context: ssl.SSLContext | None) -> None:
        self.session = session
        self._target = master.connect or ("", 0)
        self._context = context
        self._backoff = Backoff(longest=30.0)
        self._next = 0.0
        self._connecting: socket.socket | None = None
        self.message = ""

    @property
    def descriptor(self) -> int:
        """Of the attempt under way, -1 without one."""
        return -1 if self._connecting is None else self._connecting.fileno()

    def step(self, now: float) -> Connection | None:
        """Go on; a connection when it stands."""
        if self.session.connected:
            return None
        if self._connecting is None:
            if now < self._next:
                return None
            return self._begin(now)
        return self._finish(now)

    def _begin(self, now: float) -> Connection | None:
        try:
            # A host's name is looked up here: masters are named by address, or resolved by /etc/hosts.
            family, kind, protocol, _, address = socket.getaddrinfo(*self._target, type=socket.SOCK_STREAM)[0]
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            code = sock.connect_ex(address)
        except OSError as error:
            self._failed(now, error.strerror or str(error))
            return None
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            self._failed(now, os.strerror(code))
            return None
        self._connecting, self._next = sock, now + 10.0
        return None

    def _finish(self, now: float) -> Connection | None:
        sock = self._connecting
        if sock is None:
            return None
        waiting = select.poll()
        waiting.register(sock, select.POLLOUT)
        if not waiting.poll(0):
            if now < self._next:
                return None
            sock.close()
            self._failed(now, "no answer in 10 s")
            return None
        self._connecting = None
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            sock.close()
            self._failed(now, os.strerror(code))
            return None
        self._backoff.reset()
        self.message = ""
        channel = TcpChannel(sock, self._context, server=False, name=self._target[0])
        return Connection(channel, f"{self._target[0]}:{self._target[1]}")

    def _failed(self, now: float, why: str) -> None:
        self._connecting = None
        self._next = now + self._backoff.pause()
        self.message = f"{self._target[0]}:{self._target[1]}: connect: {why}; is tried again"

    def close(self) -> None:
        """Give an attempt up."""
        if self._connecting is not None:
            self._connecting.close()
            self._connecting = None


def allowed(peer: str, master: Dnp3Master) -> bool:
    """Whether a master may connect from this address."""
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    networks = [ipaddress.ip_network(text) for text in master.allow]
    return any(network.version == address.version and address in network for network in networks)


def tls_context(settings: Dnp3Tls, *, server: bool) -> ssl.SSLContext:
    """Both sides show a certificate (IEC 62351-3); TLS 1.2 and up. Raises OSError for files that can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.certificate, settings.key)
    context.load_verify_locations(settings.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
