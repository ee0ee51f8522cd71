"""Serial lines for tests: a bus at its own speed with units that behave or not, and pairs of ptys by socat."""

from __future__ import annotations

import os
import select
import struct
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import peers
from endpoint_config.models import ModbusPoint, ModbusServer
from endpoint_config.transports import SerialLine, Transport
from modbus_frames import (
    AsciiSplitter,
    ExceptionCode,
    ExceptionResponse,
    Request,
    RtuSplitter,
    SerialAdu,
    answer,
    encode_ascii,
    encode_rtu,
    pack_bits,
)
from modbus_rig import holding


def on_line(alias: str, unit: int, path: Path | str, points: Sequence[ModbusPoint] = (), *,
            transport: Transport = Transport.RTU, line: dict[str, Any] | None = None, **more: Any) -> ModbusServer:
    """A unit on a line, polled ten times a second, that is given up quickly."""
    settings = {"interval": 0.1, "timeout": 0.3, "retry_interval": 0.5, **more}
    serial = SerialLine(device=Path(path), **{"baudrate": 115_200, **(line or {})})
    return ModbusServer(alias=alias, ipaddr="", port=0, unit_id=unit, transport=transport, serial=serial,
                        points=tuple(points) or (holding("a", 0), holding("b", 1)), **settings)


@contextmanager
def socat_pair(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Two device files; what is written to one is read from the other."""
    socat = peers.require_program("socat")
    one, other = folder / "tty-one", folder / "tty-other"
    command = [socat, "-d", "-d", f"pty,raw,echo=0,link={one}", f"pty,raw,echo=0,link={other}"]
    with peers.Peer(command, ready="starting data transfer loop"):
        yield one, other


@dataclass
class Heard:
    """A request as the bus saw it."""

    when: float
    """Monotonic s when its last byte had passed."""
    unit: int
    pdu: bytes
    quiet: float
    """Seconds of silence before its first byte."""


@dataclass
class Bus:
    """A serial line with units on it, as a pty; its device file is `path`.

    A byte takes the time that it takes at `baudrate` (0 = none), and nothing else passes meanwhile. Register a of unit
    u holds 1000u + a, coil a is set where a is even. `mangle(request, frame)` returns what passes in the place of an
    answer: bytes, and pauses in seconds.
    """

    baudrate: int = 0
    ascii_frames: bool = False
    units: frozenset[int] = frozenset(range(1, 248))
    """Units that answer."""
    think: float = 0.0
    """Seconds that a unit takes before it answers, over the silence."""
    echo: bool = False
    mangle: Callable[[Heard, bytes], Sequence[bytes | float]] | None = None
    registers: dict[tuple[int, int], int] = field(default_factory=dict)
    """Registers by unit and address that were written, or that a test sets."""
    heard: list[Heard] = field(default_factory=list)
    collisions: int = 0
    """Requests that began before the line was free."""

    def __enter__(self) -> Bus:
        self._master, slave = os.openpty()
        tty.setraw(self._master)
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        self._slave = slave  # kept open, so that the pty outlives its users
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.unplug()

    def unplug(self) -> None:
        """Take the line away, as a USB adapter that is pulled out."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join(5.0)
            os.close(self._master)
            os.close(self._slave)

    @property
    def character(self) -> float:
        """Seconds a byte takes."""
        return (10 if self.ascii_frames else 11) / self.baudrate if self.baudrate else 0.0

    def inject(self, data: bytes) -> None:
        """Have bytes pass as if somebody else sent them."""
        os.write(self._master, data)

    def read(self, unit: int, address: int) -> int:
        """What a register holds."""
        return self.registers.get((unit, address), (1000 * unit + address) & 0xFFFF)

    def _serve(self) -> None:
        splitter = AsciiSplitter() if self.ascii_frames else RtuSplitter(requests=True)
        self._last = free_at = time.monotonic()
        while not self._stop.is_set():
            if not select.select([self._master], [], [], 0.02)[0]:
                for adu in splitter.silence():
                    self._answer(adu, time.monotonic(), 0.0)
                continue
            data = os.read(self._master, 4096)
            now = time.monotonic()
            self.collisions += now < free_at
            quiet = now - self._last
            if self.echo:
                self._pass(data, now)
            done = now + len(data) * self.character
            for adu in splitter.feed(data):
                self._answer(adu, done, quiet)
            free_at = max(done, self._last)
            self._last = max(self._last, now)

    def _answer(self, adu: SerialAdu, done: float, quiet: float) -> None:
        heard = Heard(done, adu.unit, adu.pdu, quiet)
        self.heard.append(heard)
        if adu.unit not in self.units:
            return
        reply = answer(adu.pdu, _Unit(self, adu.unit))
        if adu.pdu[0] == 8:
            reply = adu.pdu  # Return Query Data
        frame = (encode_ascii if self.ascii_frames else encode_rtu)(adu.unit, reply)
        at = done + 3.5 * self.character + self.think
        for part in self.mangle(heard, frame) if self.mangle else [frame]:
            if isinstance(part, float):
                at += part
            else:
                at = self._pass(part, at)

    def _pass(self, data: bytes, at: float) -> float:
        """Have bytes pass from `at` on, a few at a time; returns when the last one has."""
        step = 8 if self.baudrate else 4096
        for start in range(0, len(data), step):
            part = data[start : start + step]
            at += len(part) * self.character
            if self._stop.wait(max(0.0, at - time.monotonic())):
                return at
            self._last = time.monotonic()
            os.write(self._master, part)
        return at


class _Unit:
    """One unit of a bus, for `answer`."""

    def __init__(self, bus: Bus, unit: int) -> None:
        self._bus, self._unit = bus, unit

    def read(self, request: Request) -> bytes:
        """See modbus_frames.Unit; there are 1000 of each."""
        span = range(request.address, request.address + request.count)
        if span.stop > 1000:
            raise ExceptionResponse(request.function, ExceptionCode.ILLEGAL_DATA_ADDRESS)
        if request.function <= 2:
            return pack_bits([a % 2 == 0 for a in span])
        return struct.pack(f">{len(span)}H", *(self._bus.read(self._unit, a) for a in span))

    def write(self, request: Request) -> None:
        """See modbus_frames.Unit."""
        values = struct.unpack(f">{len(request.data) // 2}H", request.data)
        self._bus.registers.update({(self._unit, request.address + i): v for i, v in enumerate(values)})
