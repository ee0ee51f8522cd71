"""`cpc simulate` as a process, polled by programs of others: they read what the simulator says that it holds."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import peers
import pytest
from endpoint_config import load_modbus, to_xml
from endpoint_config.models import Datatype, ModbusPoint, ModbusServer, ReadFunction, WriteFunction
from endpoint_config.transports import Parity, SerialLine, TlsSettings, Transport
from modbus_tcp_client import ModbusTCPClient
from serial_rig import socat_pair

from cpc.simulators.control import send_orders

H, IR = ReadFunction.HOLDING_REGISTERS, ReadFunction.INPUT_REGISTERS
POINTS = (
    *(ModbusPoint(name=f"h{a}", read_function=H, address=a, write_function=WriteFunction.MULTIPLE_REGISTERS)
      for a in range(10)),
    ModbusPoint(name="f", read_function=IR, address=20, registers=2, datatype=Datatype.FLOAT32),
    *(ModbusPoint(name=f"c{a}", read_function=ReadFunction.COILS, address=a) for a in range(5)),
)
LINE = SerialLine(device=Path("/dev/ttyS99"), parity=Parity.NONE, stopbits=1)


def cpc(*arguments: object) -> str:
    """What a command prints; it must end with 0."""
    done = subprocess.run([sys.executable, "-m", "cpc", *map(str, arguments)], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Simulated:
    """`cpc simulate` on one unit."""

    def __init__(self, folder: Path, server: ModbusServer, *options: object) -> None:
        self.folder, self.server, self.options = folder, server, options
        self.control = folder / "control"

    def __enter__(self) -> Simulated:
        file = self.folder / "plant.xml"
        file.write_bytes(to_xml([self.server]))
        command = [sys.executable, "-m", "cpc", "simulate", file, "--control", self.control, "--write-endpoints",
                   self.folder / "use", "--log", self.folder / "log", *map(str, self.options)]
        self.peer = peers.Peer(command, ready=r"LISTENS AT[\s\S]*unit \d+")
        self.peer.__enter__()
        (self.entry,) = load_modbus([self.folder / "use" / "modbus.xml"])
        self.order("move", "Unit/h*", "walk", 0, 60000, 900, 0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.process.send_signal(signal.SIGINT)
        assert self.peer.process.wait(10) == 0, self.peer.output
        self.peer.__exit__(None, None, None)
        assert not self.control.exists()

    def order(self, *words: object) -> dict[str, object]:
        (answer,) = send_orders(self.control, [shlex.join(map(str, words))])
        assert answer.pop("ok"), answer
        return answer

    def values(self) -> dict[str, object]:
        """What the simulator says; frozen, so that others can be compared with it."""
        self.order("fault", "freeze")
        found = self.order("values")["values"]
        assert isinstance(found, dict)
        return found


def registers(values: dict[str, object]) -> list[object]:
    return [values[f"Unit/h{a}"] for a in range(10)]


def mbpoll(*options: object) -> list[str]:
    """The values that mbpoll prints."""
    program = peers.require_program("mbpoll")
    done = subprocess.run([program, "-0", "-1", *map(str, options)], capture_output=True, text=True, timeout=30,
                          check=False)
    found = re.findall(r"^\[\d+\]:\s+(\S+)", done.stdout, re.MULTILINE)
    assert done.returncode == 0 and found, done.stdout + done.stderr
    return found


def modbus_serial(mode: str, target: object, function: int, address: int, count: int) -> list[object]:
    """The values that node's modbus-serial reads."""
    node = peers.require_node("modbus-serial")
    done = subprocess.run([node, peers.NODE / "modbus_poll.js", mode, str(target), "7", str(function), str(address),
                           str(count)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[object] = json.loads(done.stdout)
    return found


def test_mbpoll_and_modbus_serial_read_over_tcp_what_the_simulator_says(tmp_path: Path) -> None:
    server = ModbusServer(alias="Unit", ipaddr="192.0.2.1", unit_id=7, points=POINTS)
    with Simulated(tmp_path, server) as plant:
        port = plant.entry.port
        values = plant.values()
        assert len(set(registers(values))) > 1
        assert [int(v) for v in mbpoll("-m", "tcp", "-p", port, "-a", 7, "-r", 0, "-c", 10, "127.0.0.1")] == (
            registers(values))
        (shown,) = mbpoll("-m", "tcp", "-p", port, "-a", 7, "-r", 20, "-t", "3:float", "-B", "127.0.0.1")
        assert float(shown) == pytest.approx(values["Unit/f"], rel=1e-4)
        assert modbus_serial("tcp", port, 3, 0, 10) == registers(values)
        assert modbus_serial("tcp", port, 1, 0, 5) == [values[f"Unit/c{a}"] for a in range(5)]
        words = modbus_serial("tcp", port, 4, 20, 2)
        assert struct.unpack(">f", struct.pack(">HH", *words)) == (values["Unit/f"],)


@pytest.mark.parametrize("peer", ["mbpoll", "modbus-serial"])
@pytest.mark.parametrize("lines", ["pty", "device"])
def test_rtu_is_read_from_its_own_pty_and_through_socat(tmp_path: Path, lines: str, peer: str) -> None:
    with socat_pair(tmp_path) as (here, there):
        line = SerialLine(device=here, parity=Parity.NONE, stopbits=1)
        server = ModbusServer(alias="Unit", ipaddr="", port=0, unit_id=7, transport=Transport.RTU, serial=line,
                              points=POINTS)
        with Simulated(tmp_path, server, "--lines", lines) as plant:
            assert plant.entry.serial is not None and plant.entry.serial.device is not None
            device = there if lines == "device" else plant.entry.serial.device
            values = plant.values()
            for _ in range(2):  # a client that comes again finds the line open
                found = ([int(v) for v in mbpoll("-m", "rtu", "-b", 19200, "-P", "none", "-a", 7, "-r", 0, "-c", 10,
                                                 device)]
                         if peer == "mbpoll" else modbus_serial("rtu", device, 3, 0, 10))
                assert found == registers(values)


def test_ascii_is_read_by_modbus_serial(tmp_path: Path) -> None:
    server = ModbusServer(alias="Unit", ipaddr="", port=0, unit_id=7, transport=Transport.ASCII, serial=LINE,
                          points=POINTS)
    with Simulated(tmp_path, server) as plant:
        assert plant.entry.serial is not None
        values = plant.values()
        assert modbus_serial("ascii", plant.entry.serial.device, 3, 0, 10) == registers(values)


def entries() -> Iterator[ModbusServer]:
    common = {"alias": "Unit", "unit_id": 7, "points": POINTS, "timeout": 3.0}
    yield ModbusServer(ipaddr="192.0.2.1", transport=Transport.UDP, **common)  # type: ignore[arg-type]
    yield ModbusServer(ipaddr="192.0.2.1", transport=Transport.RTU_OVER_TCP, serial=LINE_BEHIND, **common)  # type: ignore[arg-type]
    yield ModbusServer(ipaddr="192.0.2.1", port=802, transport=Transport.TLS,  # type: ignore[arg-type]
                       tls=TlsSettings(ca_certificate=Path("ca.pem")), **common)
    yield ModbusServer(ipaddr="", port=0, transport=Transport.ASCII, serial=LINE, **common)  # type: ignore[arg-type]


LINE_BEHIND = SerialLine(baudrate=0)


@pytest.mark.parametrize("server", list(entries()), ids=lambda server: server.transport)
def test_every_other_transport_is_read_written_and_broken_by_our_client(tmp_path: Path, server: ModbusServer) -> None:
    with Simulated(tmp_path, server) as plant:
        values = plant.values()
        client = ModbusTCPClient.of(plant.entry)
        assert client.fc03_read_holding_registers(0, 10) == registers(values)
        client.write_10(2, [4711])
        assert plant.values()["Unit/h2"] == 4711
        plant.order("fault", "exception", "code=6", "count=1")
        with pytest.raises(Exception, match="busy"):
            client.fc03_read_holding_registers(0, 1)
        assert client.fc03_read_holding_registers(2, 1) == [4711]
        plant.order("fault", "refuse")
        with pytest.raises(Exception, match=r"no answer|refused|closed|reset|broke"):
            client.fc03_read_holding_registers(0, 1)
        plant.order("clear")
        client.close()
        assert client.fc03_read_holding_registers(2, 1) == [4711]
        client.close()
    log = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [entry["effect"] for entry in log if "effect" in entry] == ["taken"]
    assert len(log) >= 5
    if server.transport is Transport.TLS:
        assert {entry["user"] for entry in log} == {"modbus-client (Operator)"}


def test_a_broadcast_on_a_line_is_carried_out_and_not_answered_and_a_bad_checksum_ignored(tmp_path: Path) -> None:
    server = ModbusServer(alias="Unit", ipaddr="", port=0, unit_id=7, transport=Transport.RTU, serial=LINE,
                          points=POINTS)
    from modbus_frames import RtuSplitter, encode_rtu, read_request, write_single_register

    with Simulated(tmp_path, server, "--paced") as plant:
        assert plant.entry.serial is not None and plant.entry.serial.device is not None
        descriptor = os.open(plant.entry.serial.device, os.O_RDWR | os.O_NOCTTY)
        try:
            spoiled = encode_rtu(7, write_single_register(4, 1))
            os.write(descriptor, spoiled[:-1] + bytes((spoiled[-1] ^ 1,)))
            os.write(descriptor, encode_rtu(0, write_single_register(3, 99)))
            os.write(descriptor, encode_rtu(8, read_request(3, 3, 1)))
            os.write(descriptor, encode_rtu(7, read_request(3, 3, 1)))
            splitter = RtuSplitter()
            while not (frames := splitter.feed(os.read(descriptor, 256))):
                pass
        finally:
            os.close(descriptor)
        assert frames == [(7, bytes.fromhex("03020063"))]
        assert plant.values()["Unit/h3"] == 99
        assert plant.values()["Unit/h4"] != 1


def test_a_plant_that_is_not_there_and_wrong_orders_are_told(tmp_path: Path) -> None:
    def fails(*arguments: object, stdin: str = "") -> tuple[int, str]:
        done = subprocess.run([sys.executable, "-m", "cpc", *map(str, arguments)], capture_output=True, text=True,
                              timeout=60, check=False, input=stdin)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    status, told = fails("order", tmp_path / "nobody", "faults")
    assert status == 3 and "cpc simulate --control" in told
    server = ModbusServer(alias="Unit", ipaddr="192.0.2.1", unit_id=7, points=POINTS)
    with Simulated(tmp_path, server) as plant:
        status, told = fails("order", plant.control, "fault", "nonsense")
        assert status == 1 and "silence" in told
        assert fails("order", plant.control, stdin="# comment\nfaults\nfault delay by=2\nclear\n") == (0, "")
        status, told = fails("simulate", tmp_path / "plant.xml", "--control", plant.control)
        assert status == 1 and "is there already" in told
        assert json.loads(cpc("order", plant.control, "values", "Unit/h?", "--json"))["values"].keys() == {
            f"Unit/h{a}" for a in range(10)}
        assert "modbus-tcp://127.0.0.1" in cpc("order", plant.control, "devices")
        assert plant.control.stat().st_mode & 0o777 == 0o600
    status, told = fails("simulate", tmp_path / "plant.xml", "--order", "fault nonsense")
    assert status == 1 and "silence" in told
    (tmp_path / "orders").write_text("faults\nfault nonsense\n")
    status, told = fails("simulate", tmp_path / "plant.xml", "--orders", tmp_path / "orders")
    assert status == 1 and told.startswith(f"{tmp_path / 'orders'}:2: no fault")
    status, told = fails("simulate", tmp_path / "plant.xml", "--orders", tmp_path / "absent")
    assert status == 1 and "absent" in told


def test_a_register_map_and_a_point_table_are_plants_too(tmp_path: Path) -> None:
    from cpc.simulators import ProtocolGatewaySimulator

    table = tmp_path / "Valve.csv"
    table.write_text("table;address;value;count;access;moves\nholding;100;1 2 0xFFFF;;rw;\nholding;200;;;;ramp 0 10 5\n"
                     "coils;3;1;2;;\ninput;7;-2;;;\n", encoding="utf-8")
    points = tmp_path / "points.csv"
    points.write_text("serveralias,ipaddr,name,function,address\nPump,192.0.2.7,Speed,Read Holding Registers,4\n")
    with ProtocolGatewaySimulator.of(table, points) as plant:
        values = plant.values()
        assert [values[f"Valve/holding {a}"] for a in (100, 101, 102)] == [1, 2, 65535]
        assert (values["Valve/coils 3"], values["Valve/coils 4"], values["Valve/input 7"]) == (True, True, 65534)
        assert 0 <= values["Valve/holding 200"] <= 10
        assert "Pump/Speed" in values
    table.write_text("table,address,value\nholding,70000,1\nnowhere,1,1\nholding,5,70000\nholding,6,1\nholding,6,2\n")
    with pytest.raises(Exception, match=r"Valve.csv:2: column address: '70000'; 0 to 65535") as refused:
        ProtocolGatewaySimulator.of(table)
    assert [line.split(":")[1] for line in str(refused.value).splitlines()] == ["2", "3", "4", "6"]
