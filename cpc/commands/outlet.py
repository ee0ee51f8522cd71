"""The service's end: takes orders from the gate, hands them to the client that owns the point, reports what it did.

A thread of the service's process that sleeps unless there is an order. Only a process of the same user (or root) is
listened to, and only one gate at a time. An order is handed over once: a number that comes again is refused.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acquisition import WriteOutcome, WriteResult, Writing
from command_channel import MessageError

from cpc.commands.orders import MOST_BYTES, decode_order, encode_report
from cpc.commands.sockets import credentials, listen
from cpc.commands.stops import reach
from cpc.logs import event

_log = logging.getLogger("commands")


class Outlet:
    """Listens at a private socket for as long as it is entered."""

    def __init__(self, path: Path, client: Writing) -> None:
        """`client` is the manager that writes; the socket's folder is made with mode 0700."""
        self._client = client
        self._path = path
        self._listener = listen(path, mode=0o600, folder_mode=0o700)
        self._reports: queue.SimpleQueue[tuple[int, int, WriteResult]] = queue.SimpleQueue()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._ended = False
        self._gate: socket.socket | None = None
        self._connection = 0
        """Number of the gate's connection: reports go to the one that ordered, never to its successor."""
        self._taken = -1
        self._thread = threading.Thread(target=self._run, name="commands", daemon=True)

    def __enter__(self) -> Outlet:
        """Start listening."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; what is under way is carried out, and nobody is told."""
        self._ended = True
        os.eventfd_write(self._bell, 1)
        self._thread.join(1.0)
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _run(self) -> None:
        try:
            while not self._ended:
                self._turn()
        except Exception:  # noqa: BLE001 - the way for commands ends here; polling goes on
            _log.exception("the way for commands has ended path=%s", self._path)
        finally:
            for one in (self._listener, self._gate):
                if one is not None:
                    one.close()

    def _turn(self) -> None:
        sources: list[Any] = [self._bell, self._listener, *([self._gate] if self._gate is not None else [])]
        poll = select.poll()  # select() takes no descriptor over 1023, and a service of many devices has them
        for source in sources:
            poll.register(source, select.POLLIN)
        found = {descriptor for descriptor, _ in poll.poll()}
        ready = [source for source in sources if (source if isinstance(source, int) else source.fileno()) in found]
        if self._bell in ready:
            os.eventfd_read(self._bell)
            self._report()
        if self._gate is not None and self._gate in ready:
            self._receive(self._gate)
        if self._listener in ready:
            self._accept()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        uid = credentials(connection)[1]
        if uid not in (0, os.getuid()) or self._gate is not None:
            event(_log, logging.WARNING, "a process other than the gate was turned away", uid=uid, path=self._path)
            connection.close()
            return
        connection.setblocking(False)
        self._gate, self._taken = connection, -1
        self._connection += 1

    def _receive(self, gate: socket.socket) -> None:
        try:
            packet = gate.recv(MOST_BYTES + 1)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            gate.close()
            self._gate = None
            return
        try:
            number, request = decode_order(packet)
        except MessageError as error:
            event(_log, logging.ERROR, "an order was not understood", error=error)
            return
        done = self._done(self._connection, number)
        if number <= self._taken:
            done(WriteResult(outcome=WriteOutcome.REFUSED, message=f"order {number} came twice; once is all"))
            return
        self._taken = number
        if request.deadline <= 0:
            done(WriteResult(outcome=WriteOutcome.FAILED, message=f"{request.point}: the order came too late; nothing "
                             "was sent"))
            return
        reach("outlet.received")
        self._client.submit_write(request, done)
        reach("outlet.submitted")

    def _done(self, connection: int, number: int) -> Callable[[WriteResult], None]:
        def done(result: WriteResult) -> None:
            self._reports.put((connection, number, result))
            with contextlib.suppress(OSError):
                os.eventfd_write(self._bell, 1)
        return done

    def _report(self) -> None:
        while not self._reports.empty():
            connection, number, result = self._reports.get()
            reach("outlet.done")
            if self._gate is not None and connection == self._connection:
                # A gate that does not read its reports loses them: its own deadline answers then.
                with contextlib.suppress(OSError):
                    self._gate.send(encode_report(number, result))
            reach("outlet.reported")
