"""Writes and commissioning tools on serial lines: the same answers as over TCP, and still never twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from acquisition import Value, WriteOutcome
from endpoint_config.models import Datatype, ModbusPoint, ModbusServer, ReadFunction, WriteFunction
from endpoint_config.transports import Parity, Transport
from modbus_proxy import Order
from modbus_rig import Partition, holding
from modbus_servers import libmodbus_serial, pymodbus_serial
from modbus_tcp_client import ModbusExceptionError, ModbusTCPClient, Packet
from serial_rig import Bus, Heard, on_line, socat_pair

from cpc.cli import main
from cpc.simulators import ProtocolGatewaySimulator

WRITES = frozenset([5, 6, 15, 16, 22, 23])
POINTS = (
    holding("setpoint", 10, write_function=WriteFunction.SINGLE_REGISTER, scale=0.1, datatype=Datatype.INT16),
    holding("flow", 20, registers=2, write_function=WriteFunction.MULTIPLE_REGISTERS, datatype=Datatype.FLOAT32),
    holding("read only", 54),
)
FRAMES = pytest.mark.parametrize("transport", [Transport.RTU, Transport.ASCII], ids=["rtu", "ascii"])


def writes(bus: Bus) -> list[bytes]:
    """Requests to write that passed on the line."""
    return [heard.pdu for heard in bus.heard if heard.pdu[0] in WRITES]


@FRAMES
def test_points_on_a_line_are_written_once_and_read_back(transport: Transport, shm_name: str) -> None:
    with Bus(ascii_frames=transport is Transport.ASCII) as bus:
        servers = [on_line(f"u{unit}", unit, bus.path, POINTS, transport=transport) for unit in (1, 2, 3)]
        with Partition(shm_name, servers) as running:
            running.until_good("u1/setpoint", "u2/setpoint", "u3/setpoint")
            values: dict[str, Value] = {"u1/setpoint": -12.5, "u2/flow": 3.25, "u3/setpoint": 7.7}
            orders = {point: Order(running, point, value) for point, value in values.items()}
            for point, order in orders.items():
                result = order.result()
                assert (result.outcome, result.read, result.message) == (WriteOutcome.VERIFIED, values[point], "")
            assert (bus.read(1, 10), bus.read(2, 20), bus.read(2, 21), bus.read(3, 10)) == (
                0x10000 - 125, 0x4050, 0, 77)
            assert len(writes(bus)) == 3
            assert bus.collisions == 0


@FRAMES
def test_on_a_line_too_a_lost_answer_is_unknown_and_nothing_is_sent_again(transport: Transport, shm_name: str) -> None:
    def lose(heard: Heard, frame: bytes) -> Sequence[bytes | float]:
        return [] if heard.pdu[0] in WRITES else [frame]

    with Bus(ascii_frames=transport is Transport.ASCII, mangle=lose) as bus:
        servers = [on_line(f"u{unit}", unit, bus.path, POINTS, transport=transport) for unit in (1, 2)]
        with Partition(shm_name, servers) as running:
            running.until_good("u1/setpoint", "u2/setpoint")
            for value in (12.5, 13.5):  # the second with the answer to the first still owed
                result = Order(running, "u1/setpoint", value).result()
                assert (result.outcome, result.sent, result.read) == (WriteOutcome.TIMED_OUT, True, value)
            before = running.count("u1")
            running.until(lambda r: r.count("u1") > before + 5)
            assert [int.from_bytes(pdu[3:5], "big") for pdu in writes(bus)] == [125, 135]
            assert running["u2/setpoint"].quality == 0


def test_a_late_confirmation_is_not_that_of_the_next_write(shm_name: str) -> None:
    late: list[bytes] = []

    def delay(heard: Heard, frame: bytes) -> Sequence[bytes | float]:
        if heard.pdu[0] == 6 and not late:
            late.append(frame)
            return [0.5, frame]
        return [frame]

    with Bus(mangle=delay) as bus, Partition(shm_name, [on_line("u1", 1, bus.path, POINTS)]) as running:
        running.until_good("u1/setpoint")
        assert Order(running, "u1/setpoint", 1.0).result().outcome is WriteOutcome.TIMED_OUT
        assert Order(running, "u1/setpoint", 1.0).result().outcome in (WriteOutcome.VERIFIED, WriteOutcome.TIMED_OUT)
        running.until_good("u1/setpoint")
        assert Order(running, "u1/setpoint", 2.0).result().outcome is WriteOutcome.VERIFIED
        assert len(writes(bus)) <= 3


def test_a_write_to_a_unit_that_is_away_harms_the_others_no_more_than_its_probes(shm_name: str) -> None:
    with Bus(units=frozenset([1])) as bus:
        servers = [on_line(f"u{unit}", unit, bus.path, POINTS, timeout=0.2) for unit in (1, 2)]
        with Partition(shm_name, servers) as running:
            running.until_good("u1/setpoint")
            running.until_quality("u2/setpoint", 0x80310000)
            result = Order(running, "u2/setpoint", 1.0, deadline=9.0).result(15.0)
            assert result.outcome in (WriteOutcome.TIMED_OUT, WriteOutcome.FAILED)
            assert len(writes(bus)) == int(result.sent)
            assert running["u1/setpoint"].quality == 0


def test_a_line_that_is_pulled_out_gives_a_definite_answer(shm_name: str) -> None:
    with Bus() as bus, Partition(shm_name, [on_line("u1", 1, bus.path, POINTS)]) as running:
        running.until_good("u1/setpoint")
        bus.unplug()
        running.until(lambda r: r["u1/setpoint"].quality != 0)
        result = Order(running, "u1/setpoint", 1.0, deadline=1.0).result()
        assert result.outcome in (WriteOutcome.FAILED, WriteOutcome.TIMED_OUT)


def test_every_function_goes_through_a_serial_line_to_libmodbus(tmp_path: Path) -> None:
    with socat_pair(tmp_path) as (ours, theirs), libmodbus_serial(theirs, 17):
        url = f"rtu://{ours}?baudrate=19200&parity={Parity.EVEN}"
        with ModbusTCPClient.at(url, unit_id=17, timeout=3.0) as client:
            client.fc05_write_single_coil(1, True)
            client.fc15_write_multiple_coils(2, [False, True, True])
            client.fc06_write_single_register(10, 0x0012)
            client.fc22_mask_write_register(10, 0x00F2, 0x0025)
            client.fc16_write_multiple_registers(11, [7, 8])
            assert client.fc23_read_write_registers(10, 4, 13, [9]) == [0x17, 7, 8, 9]
            assert client.fc01_read_coil_status(1, 4) == [True, False, True, True]
            assert b"LMB" in client.fc17_report_server_id()[0]
            coil = ModbusPoint(name="c", read_function=ReadFunction.COILS, address=1, datatype=Datatype.BOOL,
                               write_function=WriteFunction.SINGLE_COIL)
            client._endpoints = {"c": coil}
            assert client.write_point("c", False).outcome is WriteOutcome.VERIFIED


QUERIES = [b"\x00\x00", b"\xa5\x37", b"\xa5\x37\x00\x08\x00\x00", bytes(range(250)), b"\x08\x00\x00\x08" * 30]


@FRAMES
def test_functions_outside_the_poll_loop_go_over_a_line(transport: Transport, tmp_path: Path) -> None:
    """Our simulator at the other end: longer echoes, queues and identifications, which other servers do not serve."""
    pump = replace(on_line("Pump", 7, str(tmp_path / "none"), POINTS, transport=transport), description="a pump")
    with ProtocolGatewaySimulator(modbus=[pump]) as plant:
        (entry,) = plant.entries
        assert isinstance(entry, ModbusServer)
        with ModbusTCPClient.of(replace(entry, timeout=3.0)) as client:
            for query in QUERIES:
                assert client.fc08_diagnostics(0, query) == query
            before = int.from_bytes(client.fc08_diagnostics(11))
            assert int.from_bytes(client.fc08_diagnostics(11)) == before + 1
            assert client.fc17_report_server_id()[1] is True
            client.fc16_write_multiple_registers(20, [2, 9])
            assert client.fc43_read_device_identification(1)[1]
            assert client.identify().answered
            assert client.fc03_read_holding_registers(20, 2) == [2, 9]
            with pytest.raises(ModbusExceptionError, match="exception"):
                client.fc24_read_fifo_queue(54)


@pytest.mark.parametrize("ascii_frames", [False, True], ids=["rtu", "ascii"])
def test_functions_outside_the_poll_loop_against_pymodbus_on_a_line(ascii_frames: bool, tmp_path: Path) -> None:
    pytest.importorskip("serial")
    with socat_pair(tmp_path) as (ours, theirs), pymodbus_serial(theirs, 17, ascii_frames=ascii_frames):
        scheme, databits = ("ascii", 7) if ascii_frames else ("rtu", 8)
        url = f"{scheme}://{ours}?baudrate=19200&parity=N&databits={databits}"
        with ModbusTCPClient.at(url, unit_id=17, timeout=3.0) as client:
            assert client.fc08_diagnostics(0, b"\xa5\x37") == b"\xa5\x37"
            assert client.fc24_read_fifo_queue(5) == [0, 1, 2, 3]
            assert set(client.fc43_read_device_identification(1)) <= {0, 1, 2}
            assert client.fc17_report_server_id()[1] is True


def test_scan_and_poke_on_a_serial_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Bus(units=frozenset([3, 7])) as bus:
        url = f"rtu://{bus.path}?baudrate=115200"
        assert main(["scan", "modbus", url, "--units", "1-8", "--timeout", "0.1", "--rate", "1000", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [(unit["unit"], unit["answer"]) for unit in found["units"]] == [(3, "value 3000"), (7, "value 7000")]
        assert main(["poke", "modbus", url, "fc03", "5", "2", "--unit", "7", "--packets"]) == 0
        out, err = capsys.readouterr()
        assert "7005" in out
        assert "  <  07 03 04 1b 5d 1b 5e " in err
        assert main(["poke", "modbus", url, "fc03", "5", "--unit", "1", "--timeout", "0.1"]) == 3


def test_packets_of_a_line_are_told_by_unit(shm_name: str) -> None:
    seen: list[Packet] = []
    with Bus() as bus:
        servers = [on_line(f"u{unit}", unit, bus.path) for unit in (1, 2)]
        running = Partition(shm_name, servers)
        running.manager.listen(seen.append)
        with running:
            running.until_good("u1/a", "u2/a")
    told = {(packet.device, packet.direction, packet.meaning) for packet in seen}
    assert ("u1", ">", "read holding registers 0 to 1") in told
    assert ("u2", "<", "read holding registers 0: 2000 2001") in told


def test_a_bit_on_a_line_is_written_alone_or_with_leave(shm_name: str) -> None:
    points = [holding("bit", 50, bit=7, write_function=WriteFunction.SINGLE_REGISTER, datatype=Datatype.BOOL,
                      allow_rmw=True)]
    with Bus() as bus, Partition(shm_name, [on_line("u1", 1, bus.path, points)]) as running:
        running.until_good("u1/bit")
        before = bus.read(1, 50)
        assert Order(running, "u1/bit", True).result().outcome is WriteOutcome.VERIFIED
        assert bus.read(1, 50) == before | 0x80


def test_a_unit_that_stops_for_a_while_is_written_after_it(shm_name: str) -> None:
    with Bus() as bus, Partition(shm_name, [on_line("u1", 1, bus.path, POINTS)]) as running:
        running.until_good("u1/setpoint")
        bus.units = frozenset()
        running.until(lambda r: r["u1/setpoint"].quality != 0)
        bus.units = frozenset([1])
        running.until_good("u1/setpoint")
        assert Order(running, "u1/setpoint", 5.0).result().outcome is WriteOutcome.VERIFIED
