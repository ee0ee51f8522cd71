"""Modbus servers that are not ours, each with what stands in its own memory: libmodbus, pymodbus, modbus-serial."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers


@dataclass(frozen=True)
class Memory:
    """What stands in a device, read by its own means."""

    writes: int
    """Requests that wrote, since it was started; -1 where it does not count."""
    registers: list[int]
    coils: list[bool]


@dataclass(frozen=True)
class Device:
    """A server to read from and to write to."""

    port: int
    memory: Callable[[], Memory]


# ---------------------------------------------------------------- processes that say what they hold at a signal


@contextmanager
def libmodbus_device() -> Iterator[Device]:
    """A server on libmodbus; see peers_src/modbus_server.c for what it holds."""
    flag = peers.require_library("modbus", "modbus/modbus.h")
    program = peers.compile_c(peers.SOURCES / "modbus_server.c", link=[flag])
    with _process([program]) as device:
        yield device


@contextmanager
def modbus_serial_device() -> Iterator[Device]:
    """node modbus-serial's server; see peers_src/node/modbus_server.js for what it holds."""
    node = peers.require_node("modbus-serial")
    command = [node, str(peers.NODE / "modbus_server.js"), str(peers.free_port())]
    with _process(command, peers.NODE, question=signal.SIGUSR2) as device:  # node keeps SIGUSR1 to itself
        yield device


@contextmanager
def libmodbus_serial(path: Path, unit: int) -> Iterator[None]:
    """A server on libmodbus at a serial line; see peers_src/modbus_rtu_server.c."""
    flag = peers.require_library("modbus", "modbus/modbus.h")
    program = peers.compile_c(peers.SOURCES / "modbus_rtu_server.c", link=[flag])
    with peers.Peer([program, str(path), "19200", "E", str(unit)], ready="serving"):
        yield


@contextmanager
def _process(command: Sequence[str | os.PathLike[str]], cwd: Path | None = None, *,
             question: signal.Signals = signal.SIGUSR1) -> Iterator[Device]:
    with peers.Peer(command, ready=r"listening on (\d+)", cwd=cwd) as peer:
        assert peer.match is not None

        def told() -> list[tuple[str, ...]]:
            return re.findall(r"^memory (\d+) ([0-9a-f]+) ([01]+)\n", peer.output, re.MULTILINE)

        def again(before: int) -> bool:
            os.kill(peer.pid, question)  # again, where the one before came between two calls of select
            return len(told()) > before + 1

        def memory() -> Memory:
            before = len(told())
            peers.wait_until(lambda: again(before), what="the memory of the server")
            writes, registers, coils = told()[-1]
            words = struct.unpack(f">{len(registers) // 4}H", bytes.fromhex(registers))
            return Memory(int(writes), list(words), [bit == "1" for bit in coils])

        yield Device(int(peer.match[1]), memory)


# ---------------------------------------------------------------- pymodbus, in a thread

Make = Callable[[Any], Any]
"""A server of pymodbus for what it holds."""


@contextmanager
def pymodbus_served(make: Make, unit: int = 1) -> Iterator[Callable[[], Memory]]:
    """pymodbus's own server in a thread, for clients of one unit: 500 of each table.

    Holding register a holds 5a, input register a 7a; coils are set where a is even, discrete inputs where a is a
    multiple of 3.
    """
    from pymodbus.simulator import DataType, SimData, SimDevice

    started, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    servers: list[Any] = []

    async def serve() -> None:
        server = make(SimDevice(unit, simdata=(
            [SimData(0, values=[a % 2 == 0 for a in range(500)], datatype=DataType.BITS)],
            [SimData(0, values=[a % 3 == 0 for a in range(500)], datatype=DataType.BITS)],
            [SimData(0, values=[5 * a for a in range(500)], datatype=DataType.REGISTERS)],
            [SimData(0, values=[7 * a for a in range(500)], datatype=DataType.REGISTERS)],
        )))
        servers.append(server)
        await server.serve_forever(background=True)
        started.set()
        await stop.wait()
        await server.shutdown()
        await asyncio.sleep(0.05)  # connections that end now make their last tasks
        while rest := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in rest:  # the library leaves the handlers of its connections behind
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

    async def look() -> Memory:
        context = servers[0].context
        registers = [await context.async_getValues(unit, 3, at, 100) for at in range(0, 500, 100)]
        coils = [await context.async_getValues(unit, 1, at, 100) for at in range(0, 500, 100)]
        return Memory(-1, [int(w) for part in registers for w in part], [bool(b) for part in coils for b in part[:100]])

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert started.wait(10)
        yield lambda: asyncio.run_coroutine_threadsafe(look(), loop).result(5.0)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@contextmanager
def pymodbus_device(*, udp: bool = False, secured: Any = None) -> Iterator[Device]:
    """pymodbus's server over TCP, UDP, or TLS with an SSL context."""
    from pymodbus.server import ModbusTcpServer, ModbusTlsServer, ModbusUdpServer

    port = peers.free_port(kind=socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    where = ("127.0.0.1", port)

    def make(data: Any) -> Any:
        if secured is not None:
            return ModbusTlsServer(data, address=where, sslctx=secured)
        return (ModbusUdpServer if udp else ModbusTcpServer)(data, address=where)

    with pymodbus_served(make) as memory:
        yield Device(port, memory)


@contextmanager
def pymodbus_serial(path: Path, unit: int, *, ascii_frames: bool = False) -> Iterator[None]:
    """pymodbus's server at a serial line."""
    from pymodbus import FramerType
    from pymodbus.server import ModbusSerialServer

    framer = FramerType.ASCII if ascii_frames else FramerType.RTU
    # pyserial can't set another parity on a pty
    with pymodbus_served(lambda data: ModbusSerialServer(data, framer=framer, port=str(path), baudrate=19200,
                                                         parity="N"), unit):
        yield
