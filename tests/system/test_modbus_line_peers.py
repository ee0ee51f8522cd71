"""Serial servers of two other libraries behind pairs of ptys, in RTU and in ASCII, and RTU through TCP."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import peers
import pytest
from endpoint_config.models import ModbusPoint, ReadFunction
from endpoint_config.transports import Parity, Transport
from modbus_rig import Partition, device, holding
from modbus_servers import libmodbus_serial, pymodbus_serial
from modbus_tcp_client import ModbusExceptionError, ModbusTCPClient
from serial_rig import on_line, socat_pair

UNIT = 17


Serve = Callable[[Path, int], object]
SERVERS: dict[str, tuple[Serve, str, Callable[[int], int], Callable[[int], bool]]] = {
    "libmodbus-rtu": (libmodbus_serial, "rtu", lambda a: 3 * a + 7, lambda a: a % 3 == 0),
    "pymodbus-rtu": (pymodbus_serial, "rtu", lambda a: 5 * a, lambda a: a % 2 == 0),
    "pymodbus-ascii": (partial(pymodbus_serial, ascii_frames=True), "ascii", lambda a: 5 * a, lambda a: a % 2 == 0),
}


@pytest.mark.parametrize("name", SERVERS)
def test_values_of_a_serial_server_are_in_the_segment(name: str, tmp_path: Path, shm_name: str) -> None:
    serve, scheme, register, coil = SERVERS[name]
    points = [holding(f"h{a}", a) for a in range(0, 400, 3)]
    points += [ModbusPoint(name=f"c{a}", read_function=ReadFunction.COILS, address=a) for a in range(100)]
    with socat_pair(tmp_path) as (ours, theirs), serve(theirs, UNIT):  # type: ignore[attr-defined]
        line = {"baudrate": 19200, "parity": Parity.EVEN, "databits": 7 if scheme == "ascii" else 8}
        plc = on_line("plc", UNIT, ours, points, transport=Transport(scheme), line=line, timeout=2.0)
        with Partition(shm_name, [plc]) as running:
            running.until_good("plc/h399", "plc/c99")
            snapshot = running.image.snapshot()
            assert {a: snapshot[f"plc/h{a}"].value for a in range(0, 400, 3)} == {
                a: register(a) for a in range(0, 400, 3)}
            assert [snapshot[f"plc/c{a}"].value for a in range(100)] == [coil(a) for a in range(100)]
        with ModbusTCPClient.at(f"{scheme}://{ours}", unit_id=UNIT, timeout=2.0) as client:
            assert client.fc03_read_holding_registers(0, 125) == [register(a) for a in range(125)]
            assert client.fc01_read_coil_status(0, 20) == [coil(a) for a in range(20)]
            client.write_10(5, [1, 2, 3])
            assert client.fc03_read_holding_registers(5, 3) == [1, 2, 3]
            with pytest.raises(ModbusExceptionError) as refused:
                client.fc03_read_holding_registers(60000)
            assert refused.value.code == 2


def test_rtu_frames_go_through_a_serial_device_server(tmp_path: Path, shm_name: str) -> None:
    socat, port = peers.require_program("socat"), peers.free_port()
    with socat_pair(tmp_path) as (ours, theirs), libmodbus_serial(theirs, UNIT):
        command = [socat, "-d", "-d", f"tcp-listen:{port},bind=127.0.0.1,reuseaddr,fork", f"file:{ours},raw,echo=0"]
        with peers.Peer(command, ready="listening on"):
            plc = device("plc", port, [holding(f"h{a}", a) for a in range(50)], unit_id=UNIT, timeout=1.0,
                         transport=Transport.RTU_OVER_TCP)
            with Partition(shm_name, [plc]) as running:
                running.until_good("plc/h49")
                assert running["plc/h49"].value == 3 * 49 + 7
