"""Servers of three other libraries, a second client beside ours, and a dissector that looks at what we send."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import peers
import pytest
from endpoint_config.models import Datatype, ModbusPoint, ReadFunction
from modbus_rig import LyingDevice, Partition, black_hole, device, holding
from modbus_servers import Device, libmodbus_device, modbus_serial_device, pymodbus_device
from modbus_tcp_client import (
    ModbusConnectionError,
    ModbusError,
    ModbusExceptionError,
    ModbusMalformedError,
    ModbusTCPClient,
    ModbusTimeout,
)

SERVERS: dict[str, tuple[Callable[[], AbstractContextManager[Device]], Callable[[int], int], Callable[[int], bool]]] = {
    "libmodbus": (libmodbus_device, lambda a: 3 * a + 7, lambda a: a % 3 == 0),
    "pymodbus": (pymodbus_device, lambda a: 5 * a, lambda a: a % 2 == 0),
    "modbus-serial": (modbus_serial_device, lambda a: 2 * a + 1, lambda a: a % 2 == 1),
}


@pytest.mark.parametrize("name", SERVERS)
def test_values_in_the_segment_are_those_that_another_client_reads(name: str, shm_name: str) -> None:
    serve, register, coil = SERVERS[name]
    points = [holding(f"h{a}", a) for a in range(0, 400, 3)]
    points += [ModbusPoint(name=f"c{a}", read_function=ReadFunction.COILS, address=a) for a in range(100)]
    with serve() as plc, Partition(shm_name, [device("plc", plc.port, points, timeout=2.0)]) as running:
        running.until_good("plc/h399", "plc/c99")
        snapshot = running.image.snapshot()
        assert {a: snapshot[f"plc/h{a}"].value for a in range(0, 400, 3)} == {
            a: register(a) for a in range(0, 400, 3)}
        assert [snapshot[f"plc/c{a}"].value for a in range(100)] == [coil(a) for a in range(100)]
        with ModbusTCPClient("127.0.0.1", plc.port, timeout=2.0) as client:
            assert client.fc03_read_holding_registers(0, 10) == [register(a) for a in range(10)]
            assert client.fc01_read_coil_status(0, 20) == [coil(a) for a in range(20)]
            with pytest.raises(ModbusExceptionError) as refused:
                client.fc03_read_holding_registers(60000)
            assert refused.value.code == 2


@pytest.mark.peer("mbpoll")
def test_an_independent_client_reads_the_same(shm_name: str) -> None:
    with libmodbus_device() as plc, Partition(shm_name, [device("plc", plc.port, [holding("a", 17)])]) as running:
        running.until_good("plc/a")
        command = ["mbpoll", "-m", "tcp", "-p", str(plc.port), "-r", "18", "-c", "1", "-t", "4", "-1", "127.0.0.1"]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
        assert f"[18]: \t{running['plc/a'].value}" in output


@pytest.mark.peer("tshark")
def test_a_dissector_finds_no_fault_with_what_is_sent(tmp_path: Path, shm_name: str) -> None:
    """Recorded by a proxy and not by a sniffer, which would need rights that tests do not have."""
    points = [holding(f"h{a}", a) for a in range(0, 300, 2)]
    points += [ModbusPoint(name=f"{f.name}{a}", read_function=f, address=a) for f in ReadFunction for a in (3, 40)]
    frames: list[bytes] = []

    def record(request: bytes, answer: bytes) -> None:
        frames.extend((request, answer))

    with LyingDevice(registers={a: a for a in range(400)}, fault=record) as plc:  # type: ignore[arg-type]
        with Partition(shm_name, [device("plc", plc.port, points, unit_id=17)]) as running:
            running.until_good("plc/h298")
        with ModbusTCPClient("127.0.0.1", plc.port, unit_id=17) as client:
            client.read_04(0, 125)
    text = tmp_path / "frames.txt"
    capture = tmp_path / "frames.pcap"
    # I: from the first port to the second
    text.write_text("".join(f"{'IO'[n % 2]} 000000 {frame.hex(' ')}\n" for n, frame in enumerate(frames)))
    peers.require_program("text2pcap")
    subprocess.run(["text2pcap", "-q", "-D", "-T", "40000,502", str(text), str(capture)], check=True,
                   capture_output=True, timeout=60)
    command = ["tshark", "-r", str(capture), "-T", "json", "-Y", "modbus or mbtcp"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout
    packets = json.loads(output)
    assert len(packets) == len(frames)
    assert "_ws.malformed" not in output
    assert "_ws.expert" not in output
    sent = [p["_source"]["layers"] for p in packets[::2]]
    assert {layers["mbtcp"]["mbtcp.unit_id"] for layers in sent} == {"17"}
    assert {layers["modbus"]["modbus.func_code"] for layers in sent} == {"1", "2", "3", "4"}


# ---------------------------------------------------------------- the synchronous client


def test_writes_reach_the_device_and_are_read_back(shm_name: str) -> None:
    with libmodbus_device() as plc, ModbusTCPClient("127.0.0.1", plc.port) as client:
        client.write_06(100, 0xFFFF)
        client.write_10(101, [1, 2, 0xABCD])
        client.write_05(50, True)
        client.write_0f(51, [True, False, True])
        assert client.read_03(100, 4) == [0xFFFF, 1, 2, 0xABCD]
        assert client.read_01(50, 4) == [True, True, False, True]
        assert client.read_02(0, 11) == [a % 5 == 0 for a in range(11)]
        assert client.read_04(7) == [59993]


def test_endpoints_are_read_by_name_with_their_type() -> None:
    endpoints = [
        holding("plain", 10),
        holding("scaled", 10, scale=0.5, datatype=Datatype.INT16),
        holding("long", 20, registers=2, datatype=Datatype.UINT32, order="CDAB"),
        holding("bit", 1, bit=1),
        holding("none", 10, invalid=(37,)),
        ModbusPoint(name="coil", read_function=ReadFunction.COILS, address=3),
    ]
    with libmodbus_device() as plc:
        client = ModbusTCPClient("127.0.0.1", plc.port, "plc", endpoints)
        assert client.fc03_read_holding_registers("plain") == (37, "uint16")
        assert client.fc03_read_holding_registers("scaled") == (18.5, "int16")
        assert client.fc03_read_holding_registers("long") == ((3 * 21 + 7) << 16 | (3 * 20 + 7), "uint32")
        assert client.fc03_read_holding_registers("bit") == (True, "bool")
        assert client.fc03_read_holding_registers("none") == (None, "uint16")
        assert client.fc01_read_coil_status("coil") == (True, "bool")
        with pytest.raises(ValueError, match="no endpoint 'other'; there are: plain"):
            client.read_03("other")
        with pytest.raises(ValueError, match="is read by read coils"):
            client.read_03("coil")
        client.close()


def test_every_failure_names_device_operation_and_address(free_port: Callable[[], int]) -> None:
    port = free_port()
    client = ModbusTCPClient("127.0.0.1", port, "plc", timeout=0.2)
    with pytest.raises(ModbusConnectionError, match=rf"^plc: connect 127.0.0.1:{port}: connection refused; "):
        client.retry_connection()
    with black_hole() as hole, pytest.raises(ModbusConnectionError, match=r"no connection within 0\.2 s"):
        ModbusTCPClient("127.0.0.1", hole, timeout=0.2).read_03(0)
    with LyingDevice() as plc, ModbusTCPClient("127.0.0.1", plc.port, "plc", timeout=0.2) as client:
        with pytest.raises(ModbusExceptionError, match=r"^plc: read input registers 5000: exception 02") as refused:
            client.read_04(5000)
        assert (refused.value.device, refused.value.operation, refused.value.address, refused.value.code) == (
            "plc", "read input registers", 5000, 2)
        plc.fault = lambda request, answer: []
        with pytest.raises(ModbusTimeout, match=r"^plc: read coils 7: no answer within 0.2 s; "):
            client.read_01(7)
        plc.fault = lambda request, answer: [(0.0, answer[:8] + b"\x02" + answer[9:])]
        with pytest.raises(ModbusMalformedError, match=r"^plc: read holding registers 1: "):
            client.read_03(1, 2)
        plc.fault = lambda request, answer: [(0.0, b"HTTP/1.0 400 no\r\n\r\n")]
        with pytest.raises(ModbusMalformedError, match="no Modbus TCP header"):
            client.read_03(1, 2)
        assert not client.connected
        plc.fault = None
        assert client.read_03(1, 2) == [1001, 1002]
        plc.reset()
        with pytest.raises(ModbusConnectionError):
            for _ in range(50):
                client.read_03(1)
                time.sleep(0.01)
        assert client.read_03(1) == [1001]
    assert issubclass(ModbusTimeout, ModbusError)


def test_a_late_answer_is_never_the_answer_to_the_next_question() -> None:
    with LyingDevice() as plc, ModbusTCPClient("127.0.0.1", plc.port, timeout=0.2) as client:
        plc.fault = lambda request, answer: [(0.3, answer)]
        with pytest.raises(ModbusTimeout):
            client.read_03(1)
        plc.fault = None
        time.sleep(0.2)
        assert client.read_03(2) == [1002]


@pytest.mark.parametrize(("call", "words"), [
    (lambda c: c.read_03(0, 126), "1 to 125"),
    (lambda c: c.read_03(65535, 2), "outside 0 to 65535"),
    (lambda c: c.write_06(0, 65536), "0 to 65535"),
    (lambda c: c.write_10(0, [1, -1]), "0 to 65535"),
    (lambda c: c.write_0f(0, []), "1 to 1968"),
])
def test_what_can_not_be_asked_is_refused_before_anything_is_sent(
    call: Callable[[ModbusTCPClient], object], words: str
) -> None:
    client = ModbusTCPClient("127.0.0.1", 1)
    with pytest.raises(ValueError, match=words):
        call(client)
    assert not client.connected
