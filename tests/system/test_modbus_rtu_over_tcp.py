"""RTU frames through a serial device server: late answers, garbage, half frames, and connections that break."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

import pytest
from endpoint_config.models import ModbusServer
from endpoint_config.transports import SerialLine, Transport
from modbus_frames import RtuSplitter, encode_rtu, read_response
from modbus_rig import Partition, device, holding
from process_image import quality

Mangle = Callable[[int, bytes], list[bytes | float]]


@dataclass
class DeviceServer:
    """A TCP server before one line: register a of unit u holds 100u + a.

    `mangle(number, frame)` as in serial_rig; b"" is an end of the connection. What is to be sent later goes to
    whichever connection is open then, as with a real one.
    """

    mangle: Mangle | None = None
    silent: frozenset[int] = frozenset()
    asked: list[tuple[int, int]] = field(default_factory=list)
    """Unit and function of each request."""
    connections: int = 0

    def __enter__(self) -> DeviceServer:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = int(self._listener.getsockname()[1])
        self._stop = threading.Event()
        self._open: socket.socket | None = None
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(5.0)
        self._listener.close()

    def _listen(self) -> None:
        while not self._stop.is_set():
            with suppress(TimeoutError):
                connection, _ = self._listener.accept()
                self.connections += 1
                with connection:
                    self._open = connection
                    self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        splitter = RtuSplitter(requests=True)
        connection.settimeout(0.05)
        while not self._stop.is_set():
            try:
                data = connection.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            for unit, pdu in splitter.feed(data):
                self.asked.append((unit, pdu[0]))
                if unit not in self.silent:
                    self._answer(unit, pdu)

    def _answer(self, unit: int, pdu: bytes) -> None:
        reply = pdu
        if pdu[0] == 3:
            _, address, count = struct.unpack(">BHH", pdu)
            reply = read_response(3, struct.pack(f">{count}H", *(100 * unit + address + i for i in range(count))))
        frame = encode_rtu(unit, reply)
        at = 0.0
        for part in self.mangle(len(self.asked), frame) if self.mangle else [frame]:
            if isinstance(part, float):
                at += part
            else:
                timer = threading.Timer(at, self._send, [part])
                timer.daemon = True
                timer.start()

    def _send(self, part: bytes) -> None:
        with suppress(OSError):
            assert self._open is not None
            if part:
                self._open.sendall(part)
            else:
                self._open.shutdown(socket.SHUT_RDWR)


def unit(number: int, port: int, **more: object) -> ModbusServer:
    """A unit with six reads of one form."""
    points = [holding(f"r{a}", a) for a in range(0, 60, 10)]
    return device(f"u{number}", port, points, unit_id=number, transport=Transport.RTU_OVER_TCP, interval=0.0,
                  serial=SerialLine(baudrate=0), **more)  # type: ignore[arg-type]


MANGLES: dict[str, Mangle] = {
    "late": lambda number, frame: [0.3, frame] if number % 4 == 0 else [frame],
    "garbage": lambda number, frame: [b"\x55" * 30, frame] if number % 3 == 0 else [frame],
    "half": lambda number, frame: [frame[:4]] if number % 4 == 0 else [frame],
    "in pieces": lambda _, frame: [frame[:2], 0.03, frame[2:4], 0.03, frame[4:]],
    "twice": lambda _, frame: [frame + frame],
}


@pytest.mark.parametrize("name", MANGLES)
def test_no_value_is_that_of_another_register(name: str, shm_name: str) -> None:
    truth = {f"u{u}/r{a}": 100 * u + a for u in (1, 2) for a in range(0, 60, 10)}
    with DeviceServer(MANGLES[name]) as server:
        units = [unit(1, server.port, timeout=0.2), unit(2, server.port, timeout=0.2)]
        with Partition(shm_name, units) as running:
            deadline, good = time.monotonic() + 1.5, 0
            while time.monotonic() < deadline:
                running.image.wait(timeout=0.1)
                snapshot = running.image.snapshot()
                for point, value in truth.items():
                    if snapshot[point].quality == 0:
                        assert snapshot[point].value == value, f"{point}: {snapshot[point]}"
                        good += 1
            assert good
            server.mangle = None
            running.until_good(*truth)


def test_a_late_answer_that_comes_over_the_next_connection_is_no_value(shm_name: str) -> None:
    """The connection breaks while a unit thinks; its answer comes through the one that is made then."""
    def breaking(number: int, frame: bytes) -> list[bytes | float]:
        return [b"", 0.15, frame] if number % 5 == 0 else [0.01, frame]

    server = DeviceServer(breaking)
    with server, Partition(shm_name, [unit(1, server.port, timeout=0.5, retry_interval=0.1)]) as running:
        while server.connections < 10:
            snapshot = running.image.snapshot()
            for address in range(0, 60, 10):
                sample = snapshot[f"u1/r{address}"]
                assert sample.quality != 0 or sample.value == 100 + address
            running.image.wait(timeout=0.1)
        assert (1, 8) in server.asked


def test_a_unit_that_is_always_late_is_bad_and_never_wrong(shm_name: str) -> None:
    server = DeviceServer(lambda _, frame: [0.35, frame])
    with server, Partition(shm_name, [unit(1, server.port, timeout=0.2, retry_interval=0.1)]) as running:
        running.until_quality("u1/r0", quality.BAD_TIMEOUT)
        running.until(lambda _: len(server.asked) > 10)
        assert [running[f"u1/r{a}"].quality != 0 for a in range(0, 60, 10)] == [True] * 6
        assert "set a longer timeout" in running["u1/$last_error"].value


def test_a_silent_unit_behind_a_device_server_is_only_probed(shm_name: str) -> None:
    with DeviceServer(silent=frozenset([2])) as server:
        units = [unit(1, server.port), unit(2, server.port), unit(3, server.port)]
        with Partition(shm_name, units) as running:
            running.until_good("u1/r0", "u3/r0")
            running.until_quality("u2/r0", quality.BAD_NO_COMMUNICATION)
            begin = len(server.asked)
            running.until(lambda _: len(server.asked) > begin + 100)
            assert sum(number == 2 for number, _ in server.asked[begin:]) < 5
            assert server.connections == 1
