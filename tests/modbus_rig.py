"""What tests of the Modbus client stand on: devices that lie, real servers, and a manager that polls them."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import peers
from endpoint_config.models import ModbusPoint, ModbusServer, ReadFunction
from modbus_frames import Splitter, encode_adu, exception_response
from modbus_listener import Listener
from modbus_tcp_client import ModbusClientManager
from process_image import Image, Sample, Writer, attach, create


def holding(name: str, address: int, **more: Any) -> ModbusPoint:
    """A holding register."""
    return ModbusPoint(name=name, read_function=ReadFunction.HOLDING_REGISTERS, address=address, **more)


def device(alias: str, port: int, points: Sequence[ModbusPoint] = (), **more: Any) -> ModbusServer:
    """A device on loopback, polled ten times a second, that is given up quickly."""
    settings = {"interval": 0.1, "timeout": 0.3, "retry_interval": 0.5, **more}
    return ModbusServer(alias=alias, ipaddr="127.0.0.1", port=port,
                        points=tuple(points) or (holding("a", 0), holding("b", 1)), **settings)


class Partition:
    """A manager that polls in a thread, and the image of its segment.

    `with Partition(name, servers) as running:` then `running["alias/point"]` is a Sample, and `running.until(...)`
    waits for something to be seen in the image.
    """

    def __init__(self, name: str, servers: Sequence[ModbusServer], interval: float = 0.1) -> None:
        self.manager = ModbusClientManager.from_servers(servers, interval=interval)
        self._name = name
        self._interval = interval
        self._fault: BaseException | None = None

    def __enter__(self) -> Partition:
        self.manager.create_clients()
        self.manager.start_clients()
        self.writer: Writer = create(self._name, self.manager.points)
        self.image: Image = attach(self._name, timeout=5.0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self.manager.periodic_read(self._interval, [self.writer], [])
        except BaseException as fault:  # noqa: BLE001 - told to the test by __exit__
            self._fault = fault

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.manager.stop_clients()
        self._thread.join(5.0)
        stopped = not self._thread.is_alive()
        self.image.close()
        self.writer.close(unlink=True)
        assert stopped, "periodic_read did not end"
        if self._fault is not None:
            raise self._fault

    def __getitem__(self, point: str) -> Sample:
        return self.image.snapshot()[point]

    def until(self, condition: Callable[[Partition], object], timeout: float = peers.PATIENCE, what: str = "") -> None:
        """Wait until `condition(self)` is true."""
        peers.wait_until(lambda: condition(self), timeout, what=what)

    def until_good(self, *points: str, timeout: float = peers.PATIENCE) -> None:
        """Wait until points are Good."""
        for point in points:
            peers.wait_until(lambda p=point: self[p].quality == 0, timeout, what=f"{point} is {self[point]}")

    def until_quality(self, point: str, quality: int, timeout: float = peers.PATIENCE) -> None:
        """Wait until a point has a quality."""
        peers.wait_until(lambda: self[point].quality == quality, timeout, what=f"{point} with {quality:08X}")

    def count(self, alias: str, name: str = "$requests") -> int:
        """A counter of a device, as the engine has it now."""
        engine = self.manager._engine
        if engine is None:
            return 0
        status = next(unit.status for unit in engine.units if unit.server.alias == alias)
        return int(getattr(status, name.lstrip("$")))


Registers = dict[int, int]
Fault = Callable[[bytes, bytes], "list[tuple[float, bytes]] | None"]


@dataclass
class LyingDevice(Listener):
    """A Modbus TCP server in a thread that answers as it is told, and can be told otherwise at any time.

    `fault(request, answer)` gets both frames whole and returns the frames to be sent instead, each with a pause
    before it; it may call `reset`. None = behave.
    """

    registers: Registers = field(default_factory=lambda: {a: 1000 + a for a in range(200)})
    """What exists, in every table and every unit alike; the rest gives exception 2."""
    fault: Fault | None = None
    silent_units: set[int] = field(default_factory=set)
    """Units that never answer."""
    log: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Requests seen: unit, function, address, count."""

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        splitter = Splitter()
        while data := await reader.read(4096):
            fault = self.fault  # one and the same for what came together, whenever a test sets another
            for adu in splitter.feed(data):
                frame = encode_adu(*adu)
                answer = self._answer(frame)
                if answer is not None:
                    task = self._loop.create_task(self._send(writer, frame, answer, fault))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    def _answer(self, frame: bytes) -> bytes | None:
        transaction, unit = int.from_bytes(frame[:2], "big"), frame[6]
        function, address, count = struct.unpack(">BHH", frame[7:12])
        self.log.append((unit, function, address, count))
        if unit in self.silent_units:
            return None
        values = [self.registers.get(a) for a in range(address, address + count)]
        if None in values:
            return encode_adu(transaction, unit, exception_response(function, 2))
        if function < 3:
            bits = sum((int(v or 0) & 1) << i for i, v in enumerate(values))
            data = bits.to_bytes((count + 7) // 8, "little")
        else:
            data = struct.pack(f">{count}H", *values)
        return encode_adu(transaction, unit, bytes((function, len(data))) + data)

    async def _send(self, writer: asyncio.StreamWriter, request: bytes, answer: bytes, fault: Fault | None) -> None:
        parts = fault(request, answer) if fault is not None else None
        try:
            for pause, part in [(0.0, answer)] if parts is None else parts:
                if pause:
                    await asyncio.sleep(pause)
                writer.write(part)
                await writer.drain()
        except OSError:
            pass


@contextmanager
def black_hole() -> Iterator[int]:
    """A port on which connecting neither succeeds nor fails; yields it.

    A listener with a full backlog: the kernel drops further SYNs, as a dead device or a firewall does.
    """
    listener = socket.socket()
    fillers: list[socket.socket] = []
    try:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        yield listener.getsockname()[1]
    finally:
        for filler in fillers:
            filler.close()
        listener.close()
