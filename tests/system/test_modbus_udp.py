"""Modbus over UDP: datagrams that are lost, doubled, cut, empty or late; and pymodbus's server."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import peers
import pytest
from endpoint_config.transports import Transport
from modbus_frames import Splitter, encode_adu, read_response
from modbus_rig import Partition, device, holding
from modbus_servers import pymodbus_device
from modbus_tcp_client import ModbusConnectionError, ModbusTCPClient, ModbusTimeout
from process_image import quality


@dataclass
class Station:
    """A server in a thread: register a holds 3a. `mangle(number, frame)` returns the datagrams sent instead."""

    mangle: Callable[[int, bytes], list[bytes]] | None = None
    asked: int = 0
    port: int = 0

    def __enter__(self) -> Station:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", self.port))
        self._socket.settimeout(0.05)
        self.port = int(self._socket.getsockname()[1])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(5.0)
        self._socket.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                data, client = self._socket.recvfrom(512)
            except TimeoutError:
                continue
            (adu,) = Splitter().feed(data)
            self.asked += 1
            _, address, count = struct.unpack(">BHH", adu.pdu)
            values = struct.pack(f">{count}H", *(3 * (address + i) & 0xFFFF for i in range(count)))
            frame = encode_adu(adu.transaction, adu.unit, read_response(adu.pdu[0], values))
            for datagram in self.mangle(self.asked, frame) if self.mangle else [frame]:
                self._socket.sendto(datagram, client)


MANGLES: dict[str, Callable[[int, bytes], list[bytes]]] = {
    "every third lost": lambda number, frame: [] if number % 3 == 0 else [frame],
    "doubled": lambda _, frame: [frame, frame],
    "half of it first": lambda _, frame: [frame[:9], frame],
    "empty before it": lambda _, frame: [b"", frame],
    "garbage before it": lambda _, frame: [b"\xff" * 40, frame],
}


@pytest.mark.parametrize("name", MANGLES)
def test_what_happens_to_datagrams_harms_no_value(name: str, shm_name: str) -> None:
    points = [holding(f"r{a}", a) for a in (0, 5, 100)]
    with Station(MANGLES[name]) as station:
        plc = device("plc", station.port, points, transport=Transport.UDP, retries=1, timeout=0.2)
        with Partition(shm_name, [plc]) as running:
            running.until_good("plc/r0", "plc/r5", "plc/r100")
            begin = station.asked
            running.until(lambda _: station.asked > begin + 12)
            snapshot = running.image.snapshot()
            for address in (0, 5, 100):
                if snapshot[f"plc/r{address}"].quality == 0:
                    assert snapshot[f"plc/r{address}"].value == 3 * address


def test_a_station_that_is_gone_is_bad_with_a_reason_and_comes_back(shm_name: str) -> None:
    port = peers.free_port(kind=socket.SOCK_DGRAM)
    with Partition(shm_name, [device("plc", port, transport=Transport.UDP)]) as running:
        running.until_quality("plc/a", quality.BAD_COMMUNICATION_ERROR)
        assert "connection refused" in running["plc/$last_error"].value
        client = ModbusTCPClient.at(f"udp://127.0.0.1:{port}", timeout=0.2)
        with pytest.raises((ModbusConnectionError, ModbusTimeout)):
            client.fc03_read_holding_registers(0)
        client.close()
        with Station(port=port):
            running.until_good("plc/a")


def test_pymodbus_is_polled_over_udp(shm_name: str) -> None:
    with pymodbus_device(udp=True) as plc:
        with Partition(shm_name, [device("plc", plc.port, [holding(f"r{a}", a) for a in range(100)],
                                         transport=Transport.UDP, timeout=2.0)]) as running:
            running.until_good("plc/r99")
            assert running["plc/r99"].value == 495
        with ModbusTCPClient.at(f"udp://127.0.0.1:{plc.port}", timeout=2.0) as client:
            assert client.fc03_read_holding_registers(10, 3) == [50, 55, 60]
