"""What lying devices and proxies share: a listener on a loop in a thread, whose cable can be pulled."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import peers

LINGER_RESET = struct.pack("ii", 1, 0)


class Listener(ABC):
    """Accepts connections on loopback while it is entered; subclasses say what happens on each."""

    port: int = 0
    """Chosen when it is entered, and kept."""
    connections: int = 0
    """Accepted so far."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.refuse()
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        self._loop.close()

    @abstractmethod
    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            await self._talk(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    def listen(self) -> None:
        """Accept connections, on the same port as before."""
        async def begin() -> asyncio.Server:
            return await asyncio.start_server(self._serve, "127.0.0.1", self.port)

        self.port = self.port or peers.free_port()  # of our own, so that it is still free when we come back to it
        self._server: asyncio.Server = self._call(begin())

    def refuse(self) -> None:
        """Close the listener and reset every connection: the cable is out."""
        async def end() -> None:
            self._server.close()
            self.reset_all()

        self._call(end())

    def reset(self) -> None:
        """Reset every connection; the listener stays. From any thread."""
        self._loop.call_soon_threadsafe(self.reset_all)

    def reset_all(self) -> None:
        """The same, at once; from within the loop."""
        for writer in list(self._writers):
            raw = writer.get_extra_info("socket")
            if raw is not None:
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            writer.transport.abort()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(5.0)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
