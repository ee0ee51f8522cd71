"""Writes that reach devices: verified in the devices' own memory, answered whatever happens, never done twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import peers
import pytest
from acquisition import Value, WriteOutcome, WriteResult, Writing
from endpoint_config.models import Datatype, ModbusPoint, ReadFunction, WriteFunction
from endpoint_config.transports import TlsSettings, Transport
from modbus_frames import exception_response
from modbus_proxy import Order, Proxy
from modbus_rig import Partition, black_hole, device, holding
from modbus_servers import Device, libmodbus_device, modbus_serial_device, pymodbus_device
from modbus_tcp_client import ModbusExceptionError, ModbusTCPClient
from tls_rig import Authority

W = WriteFunction
Start = Callable[[], AbstractContextManager[Device]]
DEVICES = pytest.mark.parametrize("start", [libmodbus_device, pymodbus_device, modbus_serial_device],
                                  ids=["libmodbus", "pymodbus", "modbus-serial"])


def coil(name: str, address: int, write: WriteFunction = W.SINGLE_COIL, **more: object) -> ModbusPoint:
    return ModbusPoint(name=name, read_function=ReadFunction.COILS, write_function=write, address=address,
                       datatype=Datatype.BOOL, **more)  # type: ignore[arg-type]


POINTS = (
    holding("setpoint", 10, write_function=W.SINGLE_REGISTER, scale=0.1, minimum=-20.0, maximum=80.0,
            datatype=Datatype.INT16, unit="Cel"),
    holding("flow", 20, registers=2, write_function=W.MULTIPLE_REGISTERS, datatype=Datatype.FLOAT32, order="CDAB"),
    holding("total", 30, registers=4, write_function=W.MULTIPLE_REGISTERS, datatype=Datatype.UINT64, order="DCBA"),
    holding("label", 40, registers=4, write_function=W.MULTIPLE_REGISTERS, datatype=Datatype.STRING),
    holding("bit", 50, bit=7, write_function=W.SINGLE_REGISTER, datatype=Datatype.BOOL),
    holding("mode", 51, bit=4, bits=3, write_function=W.SINGLE_REGISTER, datatype=Datatype.BITFIELD),
    holding("high", 52, write_function=W.SINGLE_REGISTER, datatype=Datatype.INT8_HIGH),
    holding("careful", 53, write_function=W.SINGLE_REGISTER, step=5.0, max_step=100.0),
    holding("read only", 54),
    coil("valve", 60),
    coil("pump", 61, W.MULTIPLE_COILS),
)


def write(running: Partition, point: str, value: Value, **more: object) -> WriteResult:
    return Order(running, f"plc/{point}", value, **more).result()


# ---------------------------------------------------------------- every function, in the device's own memory


@DEVICES
def test_every_write_function_changes_what_it_says_and_nothing_else(start: Start) -> None:
    with start() as plc, ModbusTCPClient("127.0.0.1", plc.port, timeout=3.0) as client:
        registers, coils = plc.memory().registers, plc.memory().coils
        client.fc05_write_single_coil(1, True)
        client.fc06_write_single_register(2, 0xBEEF)
        client.fc15_write_multiple_coils(10, [True, False, True, True, False, False, True, False, True])
        client.fc16_write_multiple_registers(20, [1, 0xFFFF, 3])
        client.fc06_write_single_register(30, 0x0012)
        if start is modbus_serial_device:  # that library serves neither 22 nor 23
            for refused in (lambda: client.fc22_mask_write_register(30, 0x00F2, 0x0025),
                            lambda: client.fc23_read_write_registers(39, 4, 40, [7, 8])):
                with pytest.raises(ModbusExceptionError, match="exception 01"):
                    refused()
            registers[30] = 0x0012
        else:
            client.fc22_mask_write_register(30, 0x00F2, 0x0025)
            assert client.fc23_read_write_registers(39, 4, 40, [7, 8]) == [registers[39], 7, 8, registers[42]]
            registers[30], registers[40:42] = 0x0017, [7, 8]
        registers[2], registers[20:23] = 0xBEEF, [1, 0xFFFF, 3]
        coils[1], coils[10:19] = True, [True, False, True, True, False, False, True, False, True]
        assert plc.memory().registers == registers
        assert plc.memory().coils == coils
        assert plc.memory().writes in (-1, 5 if start is modbus_serial_device else 7)


@DEVICES
def test_points_are_written_by_the_manager_in_engineering_units(start: Start, shm_name: str) -> None:
    # modbus-serial does not know function 22: parts of registers are read, changed and written there.
    rmw = start is modbus_serial_device
    points = tuple(replace(p, allow_rmw=rmw and p.writable) for p in POINTS)
    with start() as plc, Partition(shm_name, [device("plc", plc.port, points, timeout=2.0)]) as running:
        running.until_good("plc/setpoint", "plc/valve")
        registers, coils = plc.memory().registers, plc.memory().coils
        values: dict[str, Value] = {
            "setpoint": -12.5, "flow": 3.25, "total": 2**63 + 12345, "label": "Öl 7", "bit": True, "mode": 5,
            "high": -3, "valve": True, "pump": True,
        }
        for name, value in values.items():
            result = write(running, name, value)
            assert (result.outcome, result.read, result.message, result.sent) == (
                WriteOutcome.VERIFIED, value, "", True), (name, result)
            assert name == "label" or result.previous is not None
        registers[10] = 0x10000 - 125
        registers[20:22] = [0x0000, 0x4050]
        registers[30:34] = [0x3930, 0x0000, 0x0000, 0x0080]
        registers[40:44] = [0xC396, 0x6C20, 0x3700, 0x0000]
        registers[50] |= 1 << 7
        registers[51] = registers[51] & ~0x70 | 5 << 4
        registers[52] = registers[52] & 0xFF | 0xFD00
        coils[60] = coils[61] = True
        assert plc.memory().registers == registers
        assert plc.memory().coils == coils
        assert plc.memory().writes in (-1, len(values))
        running.until(lambda r: r["plc/setpoint"].value == -12.5, what="the next poll brings it")


def test_the_client_writes_by_point_as_the_manager_does() -> None:
    with libmodbus_device() as plc, ModbusTCPClient("127.0.0.1", plc.port, "plc", POINTS) as client:
        assert client.write_point("setpoint", 79.96).outcome is WriteOutcome.VERIFIED
        assert client.write_point("bit", True).outcome is WriteOutcome.VERIFIED
        assert client.write_point("setpoint", 81).message == (
            "plc: write single register 10: setpoint: 81 is above the maximum; -20 to 80 is allowed")
        assert client.write_point("nothing", 1).outcome is WriteOutcome.REFUSED
        here = plc.memory().registers[53]
        assert client.write_point("careful", here + 101).outcome is WriteOutcome.REFUSED
        assert client.write_point("careful", here // 5 * 5 + 5).previous == here
        assert plc.memory().registers[10] == 800
        assert plc.memory().writes == 3


# ---------------------------------------------------------------- what is not sent


@pytest.mark.parametrize(("point", "value", "words"), [
    ("setpoint", 80.1, "80.1 is above the maximum; -20 to 80 is allowed"),
    ("setpoint", -20.1, "-20.1 is below the minimum; -20 to 80 is allowed"),
    ("setpoint", float("nan"), "nan is no number"),
    ("setpoint", "12", "'12' is a text; a float64 is taken"),
    ("total", 1.5, "1.5 is no whole number"),
    ("total", -1, "-1 does not fit uint64; 0 to"),
    ("total", True, "True is no number"),
    ("label", "too long for it", "15 bytes are too long; 8 are allowed"),
    ("label", b"12", "a string is taken"),
    ("mode", 8, "8 does not fit bitfield; 0 to 7 is allowed"),
    ("valve", 2, "2 is neither true nor false"),
    ("careful", 161, "161 is between two steps of 5; 160 or 165 is allowed"),
    ("careful", 1000, "is more than the 100 that one write may change"),
    ("read only", 1, "is only read; name a write function"),
    ("nowhere", 1, "there is no such point"),
])
def test_what_a_point_can_not_take_is_refused_before_anything_is_sent(
    point: str, value: Value, words: str, shm_name: str
) -> None:
    with libmodbus_device() as plc, Partition(shm_name, [device("plc", plc.port, POINTS)]) as running:
        running.until_good("plc/setpoint")
        result = write(running, point, value)
        assert result.outcome is WriteOutcome.REFUSED
        assert not result.sent
        assert result.quality & 0x80000000
        assert words in result.message
        assert result.message.startswith("plc")
        assert plc.memory().writes == 0


def test_writable_points_say_what_they_take(shm_name: str) -> None:
    with Partition(shm_name, [device("plc", 1, POINTS)]) as running:
        assert isinstance(running.manager, Writing)
        found = {point.point: point for point in running.manager.writable_points()}
        assert len(found) == len(POINTS) - 1
        setpoint = found["plc/setpoint"]
        assert (setpoint.type, setpoint.unit, setpoint.minimum, setpoint.maximum) == ("float64", "Cel", -20.0, 80.0)
        assert (found["plc/mode"].minimum, found["plc/mode"].maximum) == (0, 7)
        assert found["plc/valve"].type == "bool"


def test_without_polling_a_write_fails_at_once() -> None:
    with libmodbus_device() as plc:
        running = Partition("never", [device("plc", plc.port, POINTS)])
        result = write(running, "valve", True)
        assert (result.outcome, result.sent) == (WriteOutcome.FAILED, False)


# ---------------------------------------------------------------- what devices and networks do to a write


def swallow(_proxy: Proxy, request: bytes, answer: bytes) -> bytes | None:
    """The device does as it is told, and its answer is lost."""
    return None if request[7] in (5, 6, 15, 16, 22) else answer


def reset(proxy: Proxy, request: bytes, answer: bytes) -> bytes | None:
    """The connection breaks between a write and its answer, once."""
    if request[7] in (5, 6, 15, 16, 22):
        proxy.answered = lambda _proxy, _request, answer: answer
        proxy.reset_all()
    return answer


@pytest.mark.parametrize(("fault", "status"), [(swallow, 0x800A0000), (reset, 0x80050000)])
@pytest.mark.parametrize(("point", "value"), [("setpoint", 12.5), ("flow", 2.5), ("bit", True), ("valve", True)])
def test_a_write_whose_answer_is_lost_is_answered_as_unknown_and_never_sent_again(
    fault: Callable[[Proxy, bytes, bytes], bytes | None], status: int, point: str, value: Value, shm_name: str
) -> None:
    with libmodbus_device() as plc, Proxy(plc.port, fault) as way, \
            Partition(shm_name, [device("plc", way.port, POINTS, timeout=0.4)]) as running:
        running.until_good("plc/setpoint", "plc/valve")
        result = write(running, point, value)
        assert (result.outcome, result.sent, result.quality) == (WriteOutcome.TIMED_OUT, True, status)
        assert "whether it acted is unknown" in result.message
        assert result.read == value  # a look afterwards shows what the device did
        before = running.count("plc")
        running.until(lambda r: r.count("plc") > before + 5, what="polls go on")
        assert plc.memory().writes == len(way.writes) == 1


def test_the_client_never_sends_a_write_again_either() -> None:
    with libmodbus_device() as plc, Proxy(plc.port, swallow) as way, \
            ModbusTCPClient("127.0.0.1", way.port, "plc", POINTS, timeout=0.2) as client:
        result = client.write_point("valve", True)
        assert (result.outcome, result.read) == (WriteOutcome.TIMED_OUT, True)
        way.answered = reset
        result = client.write_point("pump", True)
        assert (result.outcome, result.read) == (WriteOutcome.TIMED_OUT, True)
        assert plc.memory().writes == 2


@pytest.mark.parametrize(("code", "outcome", "status"), [
    (1, WriteOutcome.FAILED, 0x803D0000), (2, WriteOutcome.FAILED, 0x80340000), (3, WriteOutcome.FAILED, 0x80AB0000),
    (4, WriteOutcome.FAILED, 0x808B0000), (6, WriteOutcome.FAILED, 0x80040000), (10, WriteOutcome.FAILED, 0x808A0000),
    (11, WriteOutcome.TIMED_OUT, 0x80310000), (5, WriteOutcome.VERIFIED, 0),
])
def test_an_exception_is_a_definite_answer(code: int, outcome: WriteOutcome, status: int, shm_name: str) -> None:
    def refuse(_proxy: Proxy, request: bytes, answer: bytes) -> bytes:
        return answer if request[7] != 6 else (
            request[:4] + b"\0\3" + request[6:7] + exception_response(6, code))

    with libmodbus_device() as plc, Proxy(plc.port, refuse) as way, \
            Partition(shm_name, [device("plc", way.port, POINTS)]) as running:
        running.until_good("plc/setpoint")
        result = write(running, "setpoint", 12.5)
        assert (result.outcome, result.quality, result.sent) == (outcome, status, True)
        assert (f"exception {code:02X}" in result.message) == (code != 5)
        assert len(way.writes) == 1


def test_a_garbled_confirmation_is_no_confirmation(shm_name: str) -> None:
    def garble(_proxy: Proxy, request: bytes, answer: bytes) -> bytes:
        return answer if request[7] != 6 else answer[:-1] + bytes((answer[-1] ^ 1,))

    with libmodbus_device() as plc, Proxy(plc.port, garble) as way, \
            Partition(shm_name, [device("plc", way.port, POINTS)]) as running:
        running.until_good("plc/setpoint")
        result = write(running, "setpoint", 12.5)
        assert (result.outcome, result.quality, result.read) == (WriteOutcome.TIMED_OUT, 0x80070000, 12.5)
        assert len(way.writes) == 1


def test_another_value_read_back_is_not_verified_and_said(shm_name: str) -> None:
    def limit(_proxy: Proxy, request: bytes, answer: bytes) -> bytes:
        asked = request[7] == 3 and len(answer) == 11  # the reading back of one register
        return answer[:9] + (300).to_bytes(2, "big") if asked else answer

    with libmodbus_device() as plc, Proxy(plc.port, limit) as way, \
            Partition(shm_name, [device("plc", way.port, POINTS)]) as running:
        running.until_good("plc/setpoint")
        result = write(running, "setpoint", 12.5)
        assert (result.outcome, result.read, result.quality) == (WriteOutcome.NOT_VERIFIED, 30.0, 0)
        assert "12.5 was written and 30.0 is read back" in result.message
        assert write(running, "setpoint", 12.5, tolerance=17.5).outcome is WriteOutcome.VERIFIED
        assert write(running, "setpoint", 12.5, verify=False).outcome is WriteOutcome.WRITTEN
        assert len(way.writes) == 3


def test_a_device_without_function_22_is_written_by_read_modify_write_only_where_allowed(shm_name: str) -> None:
    def unknown(_proxy: Proxy, request: bytes, answer: bytes) -> bytes:
        return answer if request[7] != 22 else request[:4] + b"\0\3" + request[6:7] + exception_response(22, 1)

    points = [*POINTS, holding("free bit", 70, bit=2, datatype=Datatype.BOOL, write_function=W.MULTIPLE_REGISTERS,
                               allow_rmw=True)]
    with libmodbus_device() as plc, Proxy(plc.port, unknown) as way, \
            Partition(shm_name, [device("plc", way.port, points)]) as running:
        running.until_good("plc/bit")
        result = write(running, "bit", True)
        assert result.outcome is WriteOutcome.FAILED
        assert "set allow_rmw to true" in result.message
        before = plc.memory().registers[70]
        for value in (True, False, True):
            assert write(running, "free bit", value).outcome is WriteOutcome.VERIFIED
        assert plc.memory().registers[70] == before | 4
        # function 22 is asked once; afterwards it is known not to be there
        assert [pdu[0] for pdu in way.writes] == [22, 16, 16, 16]


def test_a_pulse_is_not_read_back_and_a_point_that_can_not_be_read_stops_no_other(shm_name: str) -> None:
    points = [holding("good", 10), coil("pulse", 62, verify=False),
              holding("write only", 5000, write_function=W.SINGLE_REGISTER, verify=False)]
    with libmodbus_device() as plc, Proxy(plc.port) as way, \
            Partition(shm_name, [device("plc", way.port, points)]) as running:
        running.until_good("plc/good", "plc/pulse")
        running.until_quality("plc/write only", 0x80340000)
        assert write(running, "pulse", True).outcome is WriteOutcome.WRITTEN
        result = write(running, "write only", 1)
        assert (result.outcome, result.quality) == (WriteOutcome.FAILED, 0x80340000)  # here it is not there at all
        before = running.count("plc")
        running.until(lambda r: r.count("plc") > before + 5)
        assert running["plc/good"].quality == 0


# ---------------------------------------------------------------- devices that are away


def test_a_device_that_is_away_gets_a_definite_answer(shm_name: str, free_port: Callable[[], int]) -> None:
    port = free_port()
    with Partition(shm_name, [device("plc", port, POINTS)]) as running:
        running.until(lambda r: r.manager._engine)
        began = time.monotonic()
        result = write(running, "setpoint", 1.0)
        assert (result.outcome, result.sent) == (WriteOutcome.FAILED, False)
        assert "connection refused" in result.message
        assert time.monotonic() - began < 5.0


def test_the_deadline_holds_also_where_connecting_takes_longer(shm_name: str) -> None:
    with black_hole() as port, Partition(shm_name, [device("plc", port, POINTS, timeout=30.0)]) as running:
        running.until(lambda r: r.manager._engine)
        result = write(running, "setpoint", 1.0, deadline=0.3)
        assert (result.outcome, result.sent) == (WriteOutcome.FAILED, False)
        assert "its deadline passed before it could be sent" in result.message


def test_a_write_that_waits_for_the_connection_is_sent_when_it_is_back(shm_name: str) -> None:
    with libmodbus_device() as plc, Proxy(plc.port) as way, \
            Partition(shm_name, [device("plc", way.port, POINTS)]) as running:
        running.until_good("plc/setpoint")
        for value in (1.0, 2.0, 3.0):
            way._call(_reset(way))
            assert write(running, "setpoint", value).outcome in (WriteOutcome.VERIFIED, WriteOutcome.TIMED_OUT)
        assert plc.memory().writes == len(way.writes)
        assert len(way.writes) <= 3


async def _reset(way: Proxy) -> None:
    way.reset_all()


def test_a_demoted_unit_is_written_within_the_time_of_its_probes(shm_name: str) -> None:
    deaf = {2}

    def hear(_proxy: Proxy, request: bytes, answer: bytes) -> bytes | None:
        return None if request[6] in deaf else answer

    servers = [device("plc", 0, POINTS), device("deaf", 0, POINTS, unit_id=2)]
    with libmodbus_device() as plc, Proxy(plc.port, hear) as way:
        servers = [replace(server, port=way.port, timeout=0.2) for server in servers]
        with Partition(shm_name, servers) as running:
            running.until_good("plc/setpoint")
            running.until_quality("deaf/setpoint", 0x80310000)
            result = Order(running, "deaf/setpoint", 1.0, deadline=8.0).result()
            assert result.outcome in (WriteOutcome.TIMED_OUT, WriteOutcome.FAILED)
            writes = [pdu for pdu in way.writes if pdu[0] == 6]
            assert len(writes) == (1 if result.sent else 0)
            assert running["plc/setpoint"].quality == 0
            deaf.clear()
            running.until_good("deaf/setpoint", timeout=20.0)
            assert Order(running, "deaf/setpoint", 2.0).result().outcome is WriteOutcome.VERIFIED


def test_stopping_answers_what_is_open(shm_name: str) -> None:
    orders = []
    with black_hole() as port, Partition(shm_name, [device("plc", port, POINTS, timeout=30.0)]) as running:
        running.until(lambda r: r.manager._engine)
        orders = [Order(running, "plc/setpoint", float(i), deadline=60.0) for i in range(20)]
        running.manager.stop_clients()
        for order in orders:
            assert order.result().outcome is WriteOutcome.FAILED


# ---------------------------------------------------------------- with the polls


def test_writes_and_polls_take_turns(shm_name: str) -> None:
    points = (*POINTS, *(holding(f"h{a}", a) for a in range(100, 400, 3)))  # a cycle of a hundred requests
    with libmodbus_device() as plc, Proxy(plc.port) as way, \
            Partition(shm_name, [device("plc", way.port, points, interval=0.0)], interval=0.0) as running:
        running.until_good("plc/h397")
        mark = len(way.requests)
        orders = [Order(running, "plc/setpoint", float(i % 50)) for i in range(50)]
        assert {order.result().outcome for order in orders} == {WriteOutcome.VERIFIED}
        seen = [pdu[0] == 6 or pdu == b"\x03\x00\x0a\x00\x01" for pdu in way.requests[mark:]]
        last = len(seen) - seen[::-1].index(True)
        during = seen[seen.index(True) : last]
        assert during.count(False) >= during.count(True) - 8  # polls are not starved
        assert len(during) <= 2 * during.count(True) + 8  # and writes do not wait behind them
        assert plc.memory().writes == 50


def test_writes_leave_and_rejoin_the_fast_path(shm_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modbus_tcp_client.engine.FEWEST", 1)
    with libmodbus_device() as plc:
        fast = device("plc", plc.port, POINTS[:1], interval=0.0, timeout=2.0)
        with Partition(shm_name, [fast], interval=0.0) as running:
            running.until_good("plc/setpoint")
            for value in range(60):
                running.until(_is_swept, what="on the fast path")
                assert write(running, "setpoint", float(value)).outcome is WriteOutcome.VERIFIED
                running.until(lambda r, v=value: r["plc/setpoint"].value == v)
            assert plc.memory().writes == 60
            assert running.count("plc", "$failures") == 0
            running.until(_is_swept, what="on the fast path again")


def _is_swept(running: Partition) -> bool:
    engine = running.manager._engine
    return engine is not None and engine.links[0].swept


# ---------------------------------------------------------------- through UDP and TLS


def test_points_are_written_through_udp(shm_name: str) -> None:
    with pymodbus_device(udp=True) as plc, \
            Partition(shm_name, [device("plc", plc.port, POINTS, transport=Transport.UDP, timeout=2.0)]) as running:
        running.until_good("plc/setpoint", "plc/valve")
        for name, value in (("setpoint", -12.5), ("flow", 3.25), ("bit", True), ("valve", False)):
            assert write(running, name, value).outcome is WriteOutcome.VERIFIED
        memory = plc.memory()
        assert (memory.registers[10], memory.registers[20:22], memory.coils[60]) == (0x10000 - 125, [0, 0x4050], False)


@pytest.mark.peer("socat")
def test_points_are_written_through_tls(tmp_path: Path, shm_name: str) -> None:
    authority, port = Authority(tmp_path), peers.free_port()
    party = authority.issue("plc", hosts=["127.0.0.1"])
    with libmodbus_device() as plc:
        command = [peers.require_program("socat"), "-d", "-d",
                   f"openssl-listen:{port},bind=127.0.0.1,reuseaddr,fork,verify=0,cert={party.certificate},key={party.key}",
                   f"tcp:127.0.0.1:{plc.port}"]
        secured = device("plc", port, POINTS, transport=Transport.TLS, timeout=2.0,
                         tls=TlsSettings(ca_certificate=authority.certificate))
        with peers.Peer(command, ready="listening on"), Partition(shm_name, [secured]) as running:
            running.until_good("plc/setpoint", "plc/valve")
            for name, value in (("setpoint", -12.5), ("flow", 3.25), ("bit", True), ("valve", False)):
                assert write(running, name, value).outcome is WriteOutcome.VERIFIED
            memory = plc.memory()
            assert (memory.registers[10], memory.registers[20:22], memory.writes) == (0x10000 - 125, [0, 0x4050], 4)
