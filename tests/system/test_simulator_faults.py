"""Faults to order: what a client on a raw socket sees of each, while it is connected, and what the log tells."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from endpoint_config import to_xml
from endpoint_config.models import Datatype, ModbusPoint, ModbusServer, ReadFunction, WriteFunction
from modbus_frames import Splitter, encode_adu, read_request, write_multiple_registers, write_single_register

from cpc.point_tables import from_csv
from cpc.simulators import OrderError, ProtocolGatewaySimulator

HOLDING = ReadFunction.HOLDING_REGISTERS


def register(name: str, address: int, **more: object) -> ModbusPoint:
    return ModbusPoint(name=name, read_function=HOLDING, address=address,
                       write_function=WriteFunction.MULTIPLE_REGISTERS, **more)  # type: ignore[arg-type]


PUMP = ModbusServer(alias="Pump", ipaddr="192.0.2.1", points=(
    register("a", 0, minimum=0, maximum=100), register("b", 1),
    register("flow", 2, datatype=Datatype.FLOAT32, registers=2, minimum=0, maximum=10),
    ModbusPoint(name="on", read_function=ReadFunction.COILS, address=7, write_function=WriteFunction.SINGLE_COIL),
))
METER = ModbusServer(alias="Meter", ipaddr="192.0.2.1", unit_id=2, points=(register("a", 0),))


class Client:
    """A raw socket."""

    def __init__(self, plant: ProtocolGatewaySimulator) -> None:
        entry = plant.entries[0]
        assert isinstance(entry, ModbusServer)
        self.socket = socket.create_connection((entry.ipaddr, entry.port), timeout=5)

    def send(self, pdu: bytes, unit: int = 1, transaction: int = 7) -> None:
        self.socket.sendall(encode_adu(transaction, unit, pdu))

    def ask(self, pdu: bytes, unit: int = 1, transaction: int = 7) -> bytes:
        """The PDU of the answer."""
        self.send(pdu, unit, transaction)
        splitter = Splitter()
        while True:
            data = self.socket.recv(4096)
            assert data, "the connection ended"
            for adu in splitter.feed(data):
                assert (adu.transaction, adu.unit) == (transaction, unit)
                return adu.pdu

    def raw(self, pdu: bytes, seconds: float = 0.2) -> bytes:
        """All bytes that come until nothing comes for so long."""
        self.send(pdu)
        self.socket.settimeout(seconds)
        found = b""
        try:
            while data := self.socket.recv(4096):
                found += data
        except (TimeoutError, ConnectionResetError):
            pass
        finally:
            self.socket.settimeout(5)
        return found


READ = read_request(3, 0, 2)
GOOD = bytes.fromhex("030400050006")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProtocolGatewaySimulator]:
    log = tmp_path_factory.mktemp("log") / "requests.jsonl"
    with ProtocolGatewaySimulator(modbus=[PUMP, METER], log_file=log) as plant:
        yield plant


@pytest.fixture
def plant(whole: ProtocolGatewaySimulator) -> ProtocolGatewaySimulator:
    whole.order("clear")
    whole.order("set Pump/a 5")
    whole.order("set Pump/b 6")
    whole.order("set Pump/flow 1.5")
    whole.order("set Pump/on 0")
    whole.log.clear()
    return whole


@pytest.fixture
def client(plant: ProtocolGatewaySimulator) -> Iterator[Client]:
    made = Client(plant)
    with closing(made.socket):
        assert made.ask(READ) == GOOD
        plant.log.clear()
        yield made


@pytest.mark.parametrize(("order", "answer"), [
    ("fault silence", b""),
    ("fault exception code=6", encode_adu(7, 1, b"\x83\x06")),
    ("fault exception code=server_device_busy", encode_adu(7, 1, b"\x83\x06")),
    ("fault wrong_unit", encode_adu(7, 2, GOOD)),
    ("fault wrong_transaction by=2", encode_adu(9, 1, GOOD)),
    ("fault wrong_function", encode_adu(7, 1, b"\x04" + GOOD[1:])),
    ("fault wrong_count by=2", encode_adu(7, 1, b"\x03\x06" + GOOD[2:])),
    ("fault short by=2", encode_adu(7, 1, b"\x03\x02\x00\x05")),
    ("fault half", encode_adu(7, 1, GOOD)[:6]),
    ("fault half bytes=9", encode_adu(7, 1, GOOD)[:9]),
    ("fault twice", 2 * encode_adu(7, 1, GOOD)),
    ("fault echo", encode_adu(7, 1, READ) + encode_adu(7, 1, GOOD)),
    ("fault trickle pause=0.01", encode_adu(7, 1, GOOD)),
    ("fault delay by=0.1", encode_adu(7, 1, GOOD)),
    ("fault lost", b""),
    ("fault disconnect", b""),
    ("fault disconnect how=reset", b""),
    ('{"order": "fault", "kind": "exception", "code": 2, "functions": [3], "addresses": ["1-1"]}',
     encode_adu(7, 1, b"\x83\x02")),
])
def test_a_fault_is_what_its_name_says_and_stands_in_the_log(
    plant: ProtocolGatewaySimulator, client: Client, order: str, answer: bytes
) -> None:
    plant.order(order)
    assert client.raw(READ) == answer
    (seen,) = plant.log.requests("Pump")
    assert seen.fault == (json.loads(order)["kind"] if order.startswith("{") else order.split()[1])
    assert (seen.unit, seen.function, seen.address, seen.quantity) == (1, 3, 0, 2)
    assert seen.client == "{}:{}".format(*client.socket.getsockname())


def test_garbage_is_as_long_as_ordered_and_no_answer(plant: ProtocolGatewaySimulator, client: Client) -> None:
    plant.order("fault garbage bytes=20")
    answer = client.raw(READ)
    assert len(answer) == 20
    assert answer != encode_adu(7, 1, GOOD)


def test_faults_are_narrowed_by_device_unit_function_and_addresses(
    plant: ProtocolGatewaySimulator, client: Client
) -> None:
    for narrow in ("device=Meter", "unit=2", "functions=4,16", "addresses=2-9,100", "points=x device=M*"):
        plant.order(f"fault exception code=4 {narrow}")
        assert client.ask(READ) == GOOD
        plant.order("clear")
    plant.order("fault exception code=4 addresses=1-9")
    assert client.ask(read_request(3, 0, 1)) == b"\x03\x02\x00\x05"
    assert client.ask(READ) == b"\x83\x04"
    plant.order("fault exception code=6 unit=2")
    assert client.ask(read_request(3, 0, 1), unit=2) == b"\x83\x06"


def test_faults_end_by_number_count_and_time(plant: ProtocolGatewaySimulator, client: Client) -> None:
    number = plant.order("fault exception code=4 count=2")["number"]
    assert [client.ask(READ)[0] for _ in range(3)] == [0x83, 0x83, 3]
    plant.order("fault exception code=4 skip=1")
    assert [client.ask(READ)[0] for _ in range(3)] == [3, 0x83, 0x83]
    (shown,) = plant.order("faults")["faults"]
    assert shown["number"] == number + 1
    assert plant.order(f"clear {shown['number']}") == {"cleared": 1}
    plant.order("fault exception code=4 seconds=1")
    assert client.ask(READ)[0] == 0x83
    deadline = time.monotonic() + 5
    while client.ask(READ)[0] != 3:
        assert time.monotonic() < deadline
    plant.order("fault exception code=4 share=0.5")
    hits = sum(client.ask(READ)[0] == 0x83 for _ in range(200))
    assert 50 < hits < 150


def test_a_refusing_device_resets_its_clients_and_comes_back_on_the_same_port(
    plant: ProtocolGatewaySimulator, client: Client
) -> None:
    plant.order("fault refuse device=Meter seconds=1")
    with pytest.raises(ConnectionResetError):
        client.send(READ)
    with pytest.raises(ConnectionRefusedError):
        Client(plant)
    deadline = time.monotonic() + 5
    while True:
        try:
            again = Client(plant)
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with closing(again.socket):
        assert again.ask(READ) == GOOD


def float_write(value: float) -> bytes:
    return write_multiple_registers(2, struct.pack(">f", value))


def test_writes_are_taken_ignored_clamped_and_altered_and_the_log_tells_which(
    plant: ProtocolGatewaySimulator, client: Client
) -> None:
    values = plant.values
    confirmed = bytes.fromhex("1000020002")
    assert client.ask(float_write(2.5)) == confirmed
    assert values()["Pump/flow"] == 2.5
    plant.order("fault ignore_writes count=1")
    assert client.ask(float_write(3.5)) == confirmed
    assert values()["Pump/flow"] == 2.5
    plant.order("fault clamp_writes count=1")
    assert client.ask(float_write(99.0)) == confirmed
    assert values()["Pump/flow"] == 10.0
    plant.order("fault clamp_writes low=3 high=4 count=1")
    assert client.ask(float_write(9.0)) == confirmed
    assert values()["Pump/flow"] == 4.0
    plant.order("fault alter_writes factor=2 add=1 count=1")
    assert client.ask(float_write(2.0)) == confirmed
    assert values()["Pump/flow"] == 5.0
    plant.order("fault alter_writes functions=5")
    assert client.ask(bytes.fromhex("050007ff00")) == bytes.fromhex("050007ff00")
    assert values()["Pump/on"] is False
    plant.order("clear")
    plant.order("fault lost functions=6 count=1")
    client.raw(write_single_register(0, 77), 0.2)
    assert values()["Pump/a"] == 77
    plant.order("fault silence functions=6 count=1")
    client.raw(write_single_register(0, 78), 0.2)
    assert values()["Pump/a"] == 77
    assert client.ask(write_single_register(500, 1)) == b"\x86\x02"
    writes = plant.log.writes("Pump")
    assert [w.effect for w in writes] == ["taken", "ignored", "clamped", "clamped", "altered", "altered", "taken",
                                          "unseen", "refused"]
    assert writes[2].values == (("Pump/flow", 99.0),)
    assert writes[2].data == struct.pack(">f", 99.0)


def test_functions_outside_the_poll_loop_take_effect(plant: ProtocolGatewaySimulator, client: Client) -> None:
    mask = struct.pack(">BHHH", 22, 0, 0xFFF0, 0x0003)
    assert client.ask(mask) == mask
    assert plant.values()["Pump/a"] == 3
    both = struct.pack(">BHHHHBHH", 23, 0, 2, 0, 2, 4, 40, 41)
    assert client.ask(both) == bytes.fromhex("170400280029")
    assert client.ask(struct.pack(">BHH", 8, 0, 0xA537)) == struct.pack(">BHH", 8, 0, 0xA537)
    assert client.ask(bytes.fromhex("080001" "ff00")) == bytes.fromhex("080001ff00")
    assert client.ask(READ) == bytes.fromhex("030400280029")
    assert client.ask(bytes.fromhex("08000b0000")) == bytes.fromhex("08000b0002")
    client.ask(write_single_register(0, 2))
    assert client.ask(struct.pack(">BH", 24, 0))[:2] == bytes.fromhex("1800")
    identity = client.ask(bytes.fromhex("2b0e0100"))
    assert identity[:7] == bytes.fromhex("2b0e0183000003")
    assert b"CPC partition" in identity
    assert client.ask(bytes.fromhex("2b0e0406"))[-4:] == b"Pump"
    assert client.ask(bytes.fromhex("2b0e0455")) == b"\xab\x02"
    assert client.ask(b"\x11")[2:6] == b"Pump"
    assert [w.operation for w in plant.log.requests("Pump")][:2] == ["write", "write"]


def test_listen_only_ends_with_a_restart_that_is_not_answered(plant: ProtocolGatewaySimulator, client: Client) -> None:
    assert client.raw(bytes.fromhex("0800040000"), 0.1) == b""
    assert client.raw(READ, 0.1) == b""
    assert client.raw(bytes.fromhex("0800010000"), 0.1) == b""
    assert client.ask(READ) == GOOD


def test_values_move_as_ordered_stand_still_when_frozen_and_stay_when_written(client: Client) -> None:
    points = (ModbusPoint(name="level", read_function=HOLDING, address=0, scale=0.1),
              ModbusPoint(name="free", read_function=HOLDING, address=1, write_function=WriteFunction.SINGLE_REGISTER))
    tank = ModbusServer(alias="Tank", ipaddr="x", points=points)
    with ProtocolGatewaySimulator(modbus=[tank], update_interval=0.001,
                                  orders=["move Tank/* counter 1000"]) as plant:
        first = plant.values()
        time.sleep(0.02)
        assert all(plant.values()[name] > first[name] for name in first)
        plant.order("fault freeze")
        still = plant.values()
        time.sleep(0.02)
        assert plant.values() == still
        plant.order("clear")
        own = Client(plant)
        with closing(own.socket):
            own.ask(write_single_register(1, 9))
            time.sleep(0.02)
            assert plant.values()["Tank/free"] == 9
        plant.order("move Tank/free states 1,2 0.001")
        assert plant.values()["Tank/free"] in (1, 2)
        plant.order("set Tank/level 12.3")
        assert plant.values()["Tank/level"] == 12.3


def test_values_move_as_the_file_says_until_they_are_written_or_ordered_otherwise(tmp_path: Path) -> None:
    table = "serveralias,ipaddr,name,function,address,scale,moves\r\n" + "\r\n".join([
        "Tank,192.0.2.1,level,Read Holding Registers,0,0.1,states 12.3",
        'Tank,192.0.2.1,state,Read Input Registers,0,,"states 7,8 0.001"',
        "Tank,192.0.2.1,setpoint,Write Single Register,1,,counter 1000 5",
        "Tank,192.0.2.1,valve,Read Coils,0,,square 1 1",
    ])
    (tmp_path / "tank.csv").write_text(table)
    servers = from_csv(tmp_path / "tank.csv").servers
    (tmp_path / "tank.xml").write_bytes(to_xml(servers))
    with ProtocolGatewaySimulator.of(tmp_path / "tank.xml", update_interval=0.001) as plant:
        first = plant.values()
        assert (first["Tank/level"], first["Tank/valve"]) == (12.3, True)
        seen = {plant.values()["Tank/state"] for _ in range(200) if not time.sleep(0.001)}
        assert seen == {7, 8}
        assert plant.values()["Tank/setpoint"] > first["Tank/setpoint"] >= 5
        own = Client(plant)
        with closing(own.socket):
            own.ask(write_single_register(1, 9))
        time.sleep(0.02)
        assert plant.values()["Tank/setpoint"] == 9
        plant.order("set Tank/level 1")
        plant.order("move Tank/level auto")
        assert plant.values()["Tank/level"] == 12.3


@pytest.mark.parametrize(("order", "told"), [
    ("frobnicate", "no order"), ("fault", "no fault"), ("fault nonsense", "silence, lost"),
    ("fault exception code=often", "ILLEGAL_FUNCTION"),
    ("fault delay colour=red", "no setting 'colour'"), ("fault delay by=soon", "a number"),
    ("fault silence functions=x", "whole number"), ("fault silence share=2", "0 to 1"), ("clear 99999", "no fault has"),
    ("set Pump/none 3", "no point"), ("set Pump/a 70000", "0 to 65535"), ("set Pump/a", "without value"),
    ("move Pump/a wobble", "no movement"), ("move Pump/a sine 3", "sine LOW HIGH"), ("{not json", "no JSON"),
    ("set 'Pump/a 3", "quotes"), ("faults now", "too much"),
])
def test_an_order_that_can_not_be_carried_out_says_what_is_allowed(
    plant: ProtocolGatewaySimulator, order: str, told: str
) -> None:
    with pytest.raises(OrderError) as refused:
        plant.order(order)
    assert told in str(refused.value)


def test_the_log_file_holds_every_request_as_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    with ProtocolGatewaySimulator(modbus=[PUMP], log_file=file) as plant:
        own = Client(plant)
        with closing(own.socket):
            own.ask(READ)
            own.ask(float_write(4.0))
            own.ask(read_request(3, 900, 1))
        assert [r["address"] for r in plant.order("log")["requests"]] == [0, 2, 900]
        assert plant.order("log since=2")["next"] == 3
        assert plant.order("log operation=write")["requests"][0]["values"] == {"Pump/flow": 4.0}
    read, write, refused = [json.loads(line) for line in file.read_text().splitlines()]
    assert read["operation"] == "read" and read["client"].startswith("127.0.0.1:")
    assert (write["effect"], write["data"], write["values"]) == ("taken", "40800000", {"Pump/flow": 4.0})
    assert refused["exception"] == 2
    assert file.stat().st_mode & 0o777 == 0o600
