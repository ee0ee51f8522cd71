"""Getting a connection without ever waiting for it: name, socket, and the many ways in which that fails."""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from modbus_tcp_client.failure import Failure, from_errno, no_connection
from modbus_tcp_client.resolve import Address

if TYPE_CHECKING:
    from modbus_tcp_client.engine import Engine
    from modbus_tcp_client.timers import Owner

IN_PROGRESS = frozenset([0, errno.EINPROGRESS, errno.EWOULDBLOCK])


class Dialer:
    """Attempts to connect to one host and port, one after the other, never two at once."""

    def __init__(self, engine: Engine, owner: Owner, host: str, port: int, *, timeout: int,
                 reached: Callable[[socket.socket, int], None], failed: Callable[[Failure, int], None],
                 kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
        """Exactly one of `reached(socket, now)` and `failed(failure, now)` ends each attempt; `timeout` in ns."""
        self._engine = engine
        self._owner = owner
        self._host, self._port, self._kind = host, port, kind
        self._timeout = timeout
        self._reached, self._failed = reached, failed
        self._socket: socket.socket | None = None
        self._number = 0
        self._busy = False

    def dial(self, _now: int) -> None:
        """Begin an attempt, unless one is under way."""
        if not self._busy:
            self._busy = True
            self._number += 1
            number = self._number
            self._engine.resolver.resolve(
                self._host, self._port, lambda addresses, error: self._resolved(number, addresses, error))

    def cancel(self) -> None:
        """End the attempt that is under way without an outcome."""
        self._busy = False
        self._number += 1
        if self._socket is not None:
            self._engine.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def break_down(self, fault: Exception, now: int) -> None:
        """Something went wrong that should not be able to."""
        self.cancel()
        self._owner.break_down(fault, now)

    def ready(self) -> None:
        """The attempt has an outcome."""
        assert self._socket is not None
        now = time.monotonic_ns()
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(from_errno(code), now)
            return
        try:
            self._socket.getpeername()
        except OSError:  # an event of an earlier socket that had the same descriptor
            return
        connection, self._socket = self._socket, None
        self._engine.unwatch(connection.fileno())
        self._busy = False
        self._reached(connection, now)

    def _resolved(self, number: int, addresses: Sequence[Address], error: str) -> None:
        if number != self._number:
            return
        now = time.monotonic_ns()
        if not addresses:
            self._fail(no_connection(error, "check the name in ipaddr and the name service"), now)
            return
        family, address = addresses[number % len(addresses)]
        try:
            self._socket = socket.socket(family, self._kind | socket.SOCK_NONBLOCK)
            if self._kind is socket.SOCK_STREAM:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            code = self._socket.connect_ex(address)
        except OSError as fault:  # no descriptors left, address family not there, address malformed
            self._fail(from_errno(fault.errno), now)
            return
        if code not in IN_PROGRESS:
            self._fail(from_errno(code), now)
            return
        self._engine.watch(self._socket.fileno(), self, select.EPOLLOUT)
        self._engine.timers.at(now + self._timeout, lambda later: self._timed_out(number, later), self)

    def _timed_out(self, number: int, now: int) -> None:
        if number == self._number and self._socket is not None:
            self._fail(no_connection(f"no connection within {self._timeout * 1e-9:g} s"), now)

    def _fail(self, failure: Failure, now: int) -> None:
        self.cancel()
        self._failed(failure, now)
