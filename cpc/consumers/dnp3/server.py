"""All masters of one outstation: who may connect, whose connection it is, and what is due when."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Final

from dnp3_outstation import FrameReader, Instant, Session
from endpoint_config import Dnp3Consumer, Dnp3Master

from cpc.consumers.contract import Refused
from cpc.consumers.dnp3.links import Channel, Connection, Dialler, SerialChannel, TcpChannel, allowed, tls_context

UNKNOWN: Final = 16
"""Connections whose master is not known yet, at most."""
HEARD: Final = 1024
"""Octets that such a connection may send before it has to show a frame of a known master."""
TURN_SECONDS: Final = 0.02
"""How long the server goes on serving before the consumer looks at its segments again."""
LISTEN_PAUSE: Final = 5.0
SERIAL_PAUSE: Final = 2.0


def now() -> Instant:
    """The host's clocks."""
    return Instant(time.monotonic(), time.time_ns() // 1_000_000)


class Server:
    """Sockets and sessions; for the thread that steps the consumer."""

    def __init__(self, settings: Dnp3Consumer) -> None:
        """Raises Refused for certificates that can't be used."""
        self.settings = settings
        self.sessions: list[tuple[Dnp3Master, Session]] = []
        self.connections: list[Connection] = []
        self.refused = 0
        """Connections closed because nobody may come from there, or too many came."""
        self.message = ""
        self.port = settings.port
        """Port that is listened on."""
        self._diallers: list[Dialler] = []
        self._listener: socket.socket | None = None
        self._next_try = 0.0
        self._spent = 0.0
        """What the connections that are served have had of this thread, in seconds; see `_serve_next`."""
        try:
            self._server_tls = None if settings.tls is None else tls_context(settings.tls, server=True)
            self._client_tls = None if settings.tls is None else tls_context(settings.tls, server=False)
        except (OSError, ssl.SSLError) as error:
            raise Refused(f"{settings.name}: TLS: {error.strerror or error}; readable PEM files that belong together") \
                from error

    def serve(self, sessions: Sequence[tuple[Dnp3Master, Session]]) -> None:
        """Serve these sessions from now on; connections of earlier ones are closed."""
        self._drop_all()
        self.sessions = list(sessions)
        self._diallers = [Dialler(m, s, self._client_tls) for m, s in sessions if m.connect is not None]

    def sockets(self) -> list[tuple[int, int]]:
        """Descriptors and what to wait for."""
        found = [(c.channel.fileno(), c.events()) for c in self.connections]
        if self._listener is not None:
            found.append((self._listener.fileno(), select.POLLIN))
        found += [(d.descriptor, select.POLLOUT) for d in self._diallers if d.descriptor >= 0]
        return found

    def next_timeout(self) -> float | None:
        """Monotonic moment at which a session has something to do."""
        if self._backlog:
            return 0.0
        due = [t for _, session in self.sessions if (t := session.next_timeout()) is not None]
        return min(due, default=None)

    def turn(self) -> None:
        """Do what is due, then serve for a short while as long as masters keep asking."""
        self._open()
        until = time.monotonic() + TURN_SECONDS
        came, waiting = self._serve_all(), select.poll()
        wanted: list[tuple[int, int]] = []
        while came and time.monotonic() < until:
            sockets = self.sockets()
            if sockets != wanted:
                waiting, wanted = select.poll(), sockets
                for descriptor, events in sockets:
                    waiting.register(descriptor, events)
            came = self._serve_next({descriptor for descriptor, _ in waiting.poll(0 if self._backlog else 1)})

    def _serve_all(self) -> bool:
        """One round over all connections; whether anything came."""
        came = self._accept()
        moment = self._dial()
        for connection in self.connections:
            came = self._serve(connection, moment) or came
        self._forget_closed()
        return came

    def _serve_next(self, ready: set[int]) -> bool:
        """Of the connections that want something, serve the one that took the least time so far; whether there was any.

        Each connection gets the same share of this thread, whatever the others send: one that asks without end waits
        while another one asks once. Who was idle begins where the busy ones are: silence saves up nothing.
        """
        came = self._accept() if self._listening in ready else False
        self._forget_closed()
        moment = self._dial()
        waiting = [c for c in self.connections if c.backlog or c.channel.fileno() in ready]
        if not waiting:
            return came
        chosen = min(waiting, key=lambda connection: connection.spent)
        self._spent = max(self._spent, chosen.spent)
        came = self._serve(chosen, moment) or came
        chosen.spent = self._spent + time.monotonic() - moment.monotonic
        self._forget_closed()
        return came

    def _forget_closed(self) -> None:
        if any(connection.closed for connection in self.connections):
            self.connections = [connection for connection in self.connections if not connection.closed]

    def _dial(self) -> Instant:
        moment = now()
        for dialler in self._diallers:
            connection = dialler.step(moment.monotonic)
            if connection is not None:
                self.connections.append(connection)
                connection.bind(dialler.session, moment)
        return moment

    def _serve(self, connection: Connection, moment: Instant) -> bool:
        if connection.closed:  # by another one, that took its session
            return False
        try:
            return self._exchange(connection, moment)
        except OSError as error:  # reset, timed out, or not TLS at all: the session waits for the next connection
            self.refused += isinstance(error, ssl.SSLError)
            connection.close()
            return False

    @property
    def _backlog(self) -> bool:
        """Whether octets were read that no session has got yet."""
        return any(connection.backlog for connection in self.connections)

    @property
    def _listening(self) -> int:
        return -1 if self._listener is None else self._listener.fileno()

    def _exchange(self, connection: Connection, moment: Instant) -> bool:
        data = connection.receive()
        if data is None:
            connection.close()
            return False
        if data:
            self._take(connection, data, moment)
        if connection.session is not None:
            if data:
                connection.push(moment.monotonic)  # first: the master waits for it
            connection.session.tick(moment)
            connection.push(moment.monotonic)
            if data and not connection.output:
                connection.session.prepare()  # the master works on what it just got
        failed = connection.session is not None and connection.session.failed
        if not connection.closed and (failed or connection.stuck(moment.monotonic)):
            connection.close()
        return bool(data)

    def _take(self, connection: Connection, data: bytes, moment: Instant) -> None:
        if connection.session is not None:
            connection.session.receive(data, moment)
            return
        connection.heard += data
        sources = {frame.source for frame in FrameReader().feed(connection.heard) if frame.from_master}
        for master, session in self.sessions:
            if master.address in sources and master.connect is None and allowed(connection.peer, master):
                self._replace(session)
                connection.bind(session, moment)
                return
        if len(connection.heard) > HEARD:
            self.refused += 1
            connection.close()

    def _replace(self, session: Session) -> None:
        """A master that is back before its old connection is known to be dead takes its session along."""
        for other in self.connections:
            if other.session is session:
                other.close()

    # --- opening ----------------------------------------------------------------------------------------------

    def _open(self) -> None:
        moment = time.monotonic()
        listening = any(master.connect is None for master, _ in self.sessions)
        if self._listener is not None or not listening or moment < self._next_try:
            return
        if self.settings.serial is not None:
            self._open_serial(moment)
        else:
            self._listen(moment)

    def _listen(self, moment: float) -> None:
        host = self.settings.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, self.port))
            listener.listen(64)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            self._next_try = moment + LISTEN_PAUSE
            self.message = (f"{self.settings.name}: listen on {host}:{self.port}: {error.strerror or error}; "
                            "another host or port, or end the program that has it")
            return
        self._listener, self.message = listener, ""
        self.port = listener.getsockname()[1]

    def _open_serial(self, moment: float) -> None:
        serial = self.settings.serial
        if serial is None or self.connections:
            return
        try:
            channel: Channel = SerialChannel(serial)
        except OSError as error:
            self._next_try = moment + SERIAL_PAUSE
            self.message = (f"{self.settings.name}: open {serial.device}: {error.strerror or error}; the path of a "
                            "serial device that this user may open")
            return
        self.message = ""
        connection = Connection(channel, serial.device)
        self.connections.append(connection)
        connection.bind(self.sessions[0][1], now())

    def _accept(self) -> bool:
        came = False
        while self._listener is not None:
            try:
                sock, address = self._listener.accept()
            except OSError:  # nobody is waiting, or the one who was is gone
                return came
            came = True
            masters = [(m, s) for m, s in self.sessions if m.connect is None and allowed(address[0], m)]
            if not masters:
                self.refused += 1
                sock.close()
                continue
            try:
                sock.getpeername()  # first: TLS loses the socket of one who is gone before it begins
                channel = TcpChannel(sock, self._server_tls)
            except OSError:
                self.refused += 1
                sock.close()
                continue
            self._make_room()
            connection = Connection(channel, address[0])
            connection.spent = self._spent
            self.connections.append(connection)
            if len(masters) == 1 and not masters[0][1].connected:
                connection.bind(masters[0][1], now())  # so that it hears unsolicited responses before it asks
        return came

    def _make_room(self) -> None:
        """Of too many connections that have not shown whose they are, the oldest gives way: a master speaks at once."""
        unknown = [c for c in self.connections if c.session is None and not c.closed]
        if len(unknown) >= UNKNOWN:
            self.refused += 1
            unknown[0].close()

    def health(self) -> str:
        """What is wrong, empty when nothing is."""
        return self.message or next((d.message for d in self._diallers if d.message), "")

    def _drop_all(self) -> None:
        for connection in self.connections:
            connection.close()
        self.connections = []
        for dialler in self._diallers:
            dialler.close()
        self._diallers = []

    def close(self) -> None:
        """Send what can be sent at once, and close everything."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.push(time.monotonic())
        self._drop_all()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
