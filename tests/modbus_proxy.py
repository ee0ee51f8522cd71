"""Between a client and a real device: a proxy that loses, delays or cuts off answers, and a device's own memory."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import peers
from acquisition import Value, WriteRequest, WriteResult
from modbus_frames import Splitter, encode_adu
from modbus_rig import Partition

WRITES = frozenset([5, 6, 15, 16, 22, 23])
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Memory:
    """What stands in a device, read by its own means."""

    writes: int
    """Requests that wrote, since it was started; -1 where it does not count."""
    registers: list[int]
    coils: list[bool]


@dataclass(frozen=True)
class Device:
    """A server to write to."""

    port: int
    memory: Callable[[], Memory]


@contextmanager
def libmodbus_device() -> Iterator[Device]:
    """A server on libmodbus (peers_src/modbus_server.c), which says on demand what it holds."""
    flag = peers.require_library("modbus", "modbus/modbus.h")
    program = peers.compile_c(peers.SOURCES / "modbus_server.c", link=[flag])
    with peers.Peer([program], ready=r"listening on (\d+)") as peer:
        assert peer.match is not None
        asked = 0

        def memory() -> Memory:
            nonlocal asked
            asked += 1

            def told() -> list[tuple[str, ...]]:
                os.kill(peer.pid, signal.SIGUSR1)  # again, where the one before came between two calls of select
                return re.findall(r"^memory (\d+) ([0-9a-f]+) ([01]+)\n", peer.output, re.MULTILINE)

            before = len(told())
            peers.wait_until(lambda: len(told()) > before + 1, what="the memory of the server")
            writes, registers, coils = told()[-1]
            words = struct.unpack(f">{len(registers) // 4}H", bytes.fromhex(registers))
            return Memory(int(writes), list(words), [bit == "1" for bit in coils])

        yield Device(int(peer.match[1]), memory)


@contextmanager
def pymodbus_device(*, udp: bool = False) -> Iterator[Device]:
    """pymodbus's own server in a thread, with 500 registers (5a) and 500 coils (set where a is even)."""
    from pymodbus.server import ModbusTcpServer, ModbusUdpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    port = peers.free_port(kind=socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    started, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    servers: list[Any] = []

    async def serve() -> None:
        data = SimDevice(1, simdata=(
            [SimData(0, values=[a % 2 == 0 for a in range(500)], datatype=DataType.BITS)],
            [SimData(0, values=[a % 3 == 0 for a in range(500)], datatype=DataType.BITS)],
            [SimData(0, values=[5 * a for a in range(500)], datatype=DataType.REGISTERS)],
            [SimData(0, values=[7 * a for a in range(500)], datatype=DataType.REGISTERS)],
        ))
        server = (ModbusUdpServer if udp else ModbusTcpServer)(data, address=("127.0.0.1", port))
        servers.append(server)
        await server.serve_forever(background=True)
        started.set()
        await stop.wait()
        await server.shutdown()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:  # the library leaves the handlers of its connections behind
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def look() -> Memory:
        context = servers[0].context
        registers = [await context.async_getValues(1, 3, at, 100) for at in range(0, 500, 100)]
        coils = [await context.async_getValues(1, 1, at, 100) for at in range(0, 500, 100)]
        return Memory(-1, [int(w) for part in registers for w in part], [bool(b) for part in coils for b in part[:100]])

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert started.wait(10)
        yield Device(port, lambda: asyncio.run_coroutine_threadsafe(look(), loop).result(5.0))
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


Answered = Callable[["Proxy", bytes, bytes], "bytes | None"]


@dataclass
class Proxy:
    """A TCP proxy to `target`; `answered(proxy, request, answer)` says what the client gets instead (None: nothing)."""

    target: int
    answered: Answered = lambda _proxy, _request, answer: answer
    requests: list[bytes] = field(default_factory=list)
    """PDUs of all requests that went through to the device."""
    port: int = 0

    def __enter__(self) -> Proxy:
        self._loop = asyncio.new_event_loop()
        self._clients: set[asyncio.StreamWriter] = set()
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

    @property
    def writes(self) -> list[bytes]:
        """PDUs of the requests that write."""
        return [pdu for pdu in self.requests if pdu[0] in WRITES]

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
            self.reset()

        self._call(end())

    def reset(self) -> None:
        """Reset every connection; for `answered`, or from within the loop."""
        for writer in list(self._clients):
            raw = writer.get_extra_info("socket")
            if raw is not None:
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(5.0)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._clients.add(writer)
        device_reader, device = await asyncio.open_connection("127.0.0.1", self.target)
        splitter, answers = Splitter(), Splitter()
        try:
            while data := await reader.read(4096):
                for adu in splitter.feed(data):
                    request = encode_adu(*adu)
                    self.requests.append(adu.pdu)
                    device.write(request)
                    found: list[Any] = []
                    while not found:
                        found = answers.feed(await device_reader.read(4096))
                    answer = self.answered(self, request, encode_adu(*found[0]))
                    if answer is not None:
                        writer.write(answer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._clients.discard(writer)
            device.close()
            writer.transport.abort()


class Order:
    """A submitted write; `result()` waits for its answer and sees that it comes only once."""

    def __init__(self, running: Partition, point: str, value: Value, **more: object) -> None:
        self._results: list[WriteResult] = []
        self._came = threading.Event()
        running.manager.submit_write(WriteRequest(point=point, value=value, **more), self._done)  # type: ignore[arg-type]

    def _done(self, result: WriteResult) -> None:
        self._results.append(result)
        self._came.set()

    def result(self, timeout: float = peers.PATIENCE) -> WriteResult:
        assert self._came.wait(timeout)
        assert len(self._results) == 1
        return self._results[0]
