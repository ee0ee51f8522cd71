"""The gate's process: its public socket, its connections to the services, one loop over all of them."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from command_channel import MOST_BYTES, Answer, MessageError, encode_answer

from cpc.commands import orders, sockets
from cpc.commands.audit import AuditError
from cpc.commands.gate import Gate, Order
from cpc.commands.jobs import Asker
from cpc.commands.stops import reach
from cpc.logs import event

LONGEST_SLEEP = 0.25
CONNECT_AGAIN = 0.1
"""Seconds between attempts to reach a service."""
MOST_CLIENTS = 128
"""Connections at a time; further ones are closed at once."""
MOST_OF_USER = 32
"""Connections of one user, so that none can keep the others out."""
HELD_UP = 1.0
"""Seconds of not looking at a socket from which on its packets count as having waited there."""
PACKETS_A_TURN = 16
"""Packets taken from one client before the others have their turn."""
MOST_UNREAD = 1000
"""Answers kept for a client that does not read; then it is disconnected."""
TIDY_SECONDS: Final = 60.0

_log = logging.getLogger("commands")


@dataclass(slots=True, eq=False)
class _Client:
    connection: socket.socket
    asker: Asker
    unread: deque[bytes]
    """Answers that it has not taken."""
    empty_at: float
    """When nothing lay in its socket for sure, monotonic."""


class Server:
    """Serves a gate until told to stop; used by one thread."""

    def __init__(self, gate: Gate, listener: socket.socket, outlets: Mapping[str, Path],
                 reload: Callable[[], None] = lambda: None) -> None:
        """`listener` is the public socket, `outlets` the private one of each service.

        `reload` is called by the loop after `ask_reload`, to give the gate its rules anew; it must not raise.
        """
        self._gate = gate
        self._reload, self._reload_asked = reload, False
        self._listener = listener
        self._paths = dict(outlets)
        self._services: dict[str, socket.socket] = {}
        self._clients: set[_Client] = set()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ, self._rung)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._connect_after = 0.0
        self._nobody_at = time.monotonic()
        """When nobody waited to be let in for sure."""
        self._tidy_after = time.monotonic() + TIDY_SECONDS
        self._stopping = False

    def stop(self) -> None:
        """End `run` soon; from any thread or signal handler."""
        self._stopping = True
        os.eventfd_write(self._bell, 1)

    def ask_reload(self) -> None:
        """Have the rules read again soon; from any thread or signal handler."""
        self._reload_asked = True
        os.eventfd_write(self._bell, 1)

    def run(self) -> None:
        """Serve until `stop`."""
        try:
            while not self._stopping:
                self._turn()
        finally:
            for client in list(self._clients):
                self._drop(client)
            for service in list(self._services):
                self._lose(service)
            self._settle([])
            self._listener.close()
            self._selector.close()
            os.close(self._bell)

    def _turn(self) -> None:
        due = self._gate.next_due()
        sleep = LONGEST_SLEEP if due is None else max(0.0, min(LONGEST_SLEEP, due - time.monotonic()))
        began = time.monotonic()
        ready = self._selector.select(min(sleep, CONNECT_AGAIN) if self._missing() else sleep)
        self._gate.view.refresh()
        self._note_empty({key.fd for key, _ in ready}, began)
        if self._reload_asked:  # before anything that came is decided
            self._reload_asked = False
            self._reload()
        for key, _ in ready:
            key.data()
        self._connect()
        self._gate.expire()
        self._settle(self._gate.dispatch(frozenset(self._services)))
        if time.monotonic() > self._tidy_after:
            self._tidy_after = time.monotonic() + TIDY_SECONDS
            self._gate.tidy()

    def _note_empty(self, ready: set[int], began: float) -> None:
        """What is not ready held nothing when the look began: what comes in it later is not older than that.

        Not when the look ended: of one that a SIGSTOP interrupts nothing is told, whatever came meanwhile.
        """
        if self._listener.fileno() not in ready:
            self._nobody_at = began
        for client in self._clients:
            if client.connection.fileno() not in ready:
                client.empty_at = began

    def _settle(self, ready: list[Order]) -> None:
        """The log first, then the orders, then the answers."""
        gate = self._gate
        try:
            gate.audit.sync()
            if gate.broken:
                event(_log, logging.WARNING, "the audit log can be written again")
            gate.broken = ""
        except AuditError as error:
            if not gate.broken:
                event(_log, logging.ERROR, "nothing is sent any more", error=error)
            gate.broken = str(error)
            gate.unsent(ready, gate.broken)
            ready = []
        for order in ready:
            self._send(order)
        if ready and not gate.broken:  # what could not be sent has an outcome, which stands in the log first, too
            with contextlib.suppress(AuditError):
                gate.audit.sync()
        for client in list(self._clients):
            self._flush(client)

    # ------------------------------------------------------------ services

    def _missing(self) -> bool:
        return len(self._services) < len(self._paths)

    def _connect(self) -> None:
        now = time.monotonic()
        if not self._missing() or now < self._connect_after:
            return
        self._connect_after = now + CONNECT_AGAIN
        for service, path in self._paths.items():
            if service not in self._services:
                connection = sockets.connect(path)
                if connection is not None:
                    self._services[service] = connection
                    self._selector.register(connection, selectors.EVENT_READ,
                                            lambda service=service: self._hear(service))

    def _hear(self, service: str) -> None:
        connection = self._services.get(service)
        while connection is not None:
            try:
                packet = connection.recv(orders.MOST_BYTES + 1)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._lose(service)
                return
            try:
                reach("gate.told")
                self._gate.report(*orders.decode_report(packet))
                reach("gate.finished")
            except MessageError as error:
                event(_log, logging.ERROR, "a report was not understood", service=service, error=error)

    def _send(self, order: Order) -> None:
        connection = self._services.get(order.service)
        try:
            if connection is None:
                raise ConnectionError
            connection.send(orders.encode_order(order.number, order.request))
            reach("gate.ordered")
        except OSError:
            # a packet is taken whole or not at all, so this one has not left
            self._gate.unsent([order], f"service {order.service} could not be reached; nothing was sent")
            self._lose(order.service)

    def _lose(self, service: str) -> None:
        connection = self._services.pop(service, None)
        if connection is not None:
            self._selector.unregister(connection)
            connection.close()
            self._gate.lost(service)

    # ------------------------------------------------------------ clients

    def _rung(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        peer = sockets.peer_of(connection)
        same = sum(client.asker.peer.uid == peer.uid for client in self._clients)
        if len(self._clients) >= MOST_CLIENTS or same >= MOST_OF_USER:
            event(_log, logging.WARNING, "too many connections", user=peer.user, pid=peer.pid)
            connection.close()
            return
        connection.setblocking(False)
        unread: deque[bytes] = deque()

        def reply(answer: Answer) -> None:
            unread.append(encode_answer(answer))

        client = _Client(connection, Asker(peer, reply), unread, self._nobody_at)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._listen_to(client))

    def _listen_to(self, client: _Client) -> None:
        for _ in range(PACKETS_A_TURN):
            if client not in self._clients or len(client.unread) >= MOST_UNREAD:
                return
            looked = time.monotonic()
            try:
                packet = client.connection.recv(MOST_BYTES + 1)
            except BlockingIOError:
                client.empty_at = looked
                return
            except OSError:
                packet = b""
            if not packet:
                self._drop(client)
                return
            reach("gate.received")
            waited = time.monotonic() - client.empty_at
            self._gate.receive(packet, client.asker, waited if waited > HELD_UP else 0.0)
            reach("gate.decided")

    def _flush(self, client: _Client) -> None:
        try:
            while client.unread:
                client.connection.send(client.unread[0])
                reach("gate.answered")
                client.unread.popleft()
        except BlockingIOError:
            if len(client.unread) >= MOST_UNREAD:
                event(_log, logging.WARNING, "a client does not read its answers", user=client.asker.peer.user)
                self._drop(client)
        except OSError:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        """Let a client go; what was accepted from it is carried out all the same."""
        if client in self._clients:
            self._clients.discard(client)
            self._selector.unregister(client.connection)
            client.connection.close()
