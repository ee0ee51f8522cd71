"""A TCP proxy that does to a connection what networks do: hold it up, lose it in silence, make it slow."""

from __future__ import annotations

import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

STEP = 0.02
"""Seconds between two looks at what was ordered."""


class Proxy:
    """Passes connections on to a port on loopback, in threads; ended with `with`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._over, self._held = threading.Event(), threading.Event()
        self._lost_before = 0.0
        self.delay = 0.0
        """Seconds by which what the server says is late."""
        self.rate = 0.0
        """Bytes a second towards the client, 0 = as they come."""
        self.accepted = 0
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def hold(self) -> None:
        """Pass nothing on, on any connection; nothing is lost."""
        self._held.set()

    def release(self) -> None:
        """Pass on what was held."""
        self._held.clear()

    def lose(self) -> None:
        """Swallow everything on the connections that there are, for ever; new ones are passed on."""
        self._lost_before = time.monotonic()

    def _accept(self) -> None:
        self._listener.settimeout(STEP)
        while not self._over.is_set():
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                self.accepted += 1
                thread = threading.Thread(target=self._serve, args=(client,))
                thread.start()
                self._threads.append(thread)

    def _serve(self, client: socket.socket) -> None:
        since = time.monotonic()
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            other = {client: server, server: client}
            while not self._over.is_set():
                if self._held.is_set():
                    time.sleep(STEP)
                    continue
                readable, _, _ = select.select([client, server], [], [], STEP)
                for end in readable:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    if since >= self._lost_before:
                        self._pass(data, other[end], slow=end is server)

    def _pass(self, data: bytes, end: socket.socket, *, slow: bool) -> None:
        if slow and self.delay:
            self._over.wait(self.delay)
        if not (slow and self.rate):
            end.sendall(data)
            return
        for place in range(len(data)):
            rate = self.rate
            if not rate:
                end.sendall(data[place:])
                return
            end.sendall(data[place : place + 1])
            if self._over.wait(1.0 / rate):
                return


def main() -> None:
    """As a process: `opcua_proxy.py PORT` says its own port; SIGUSR1: one byte a second, SIGUSR2: as it comes."""
    with Proxy(int(sys.argv[1])) as proxy:
        signal.signal(signal.SIGUSR1, lambda *_: setattr(proxy, "rate", 1.0))
        signal.signal(signal.SIGUSR2, lambda *_: setattr(proxy, "rate", 0.0))
        print(proxy.port, flush=True)
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
