"""Transports in endpoint files: what is read, refused, and written back, also through a table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from endpoint_config import (
    ConfigError,
    ModbusPoint,
    ModbusServer,
    Parity,
    ReadFunction,
    Rs485,
    SerialLine,
    TlsSettings,
    Transport,
    line_conflicts,
    load,
    load_modbus,
    to_xml,
)
from endpoint_files import endpoint, loaded, modbus, server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpc.point_tables import from_csv, to_csv

LINE = ("transport", "rtu"), ("device", "/dev/ttyUSB0")


def line(*, alias: str = "A", **newer: object) -> str:
    """A server on a serial line of this machine."""
    rest = "".join(f"<{tag}>{text}</{tag}>" for tag, text in (dict(LINE) | newer).items())
    return f"<server><serveralias>{alias}</serveralias><endpoints>{endpoint()}</endpoints>{rest}</server>\n"


def faults(tmp_path: Path, text: str) -> list[str]:
    return [fault.message for fault in loaded(tmp_path, text).faults]


def test_a_serial_line_needs_no_address_and_has_the_standards_defaults(tmp_path: Path) -> None:
    file = loaded(tmp_path, modbus(line()))
    (found,) = file.modbus
    assert not file.faults
    assert (found.transport, found.ipaddr, found.port, found.place) == (Transport.RTU, "", 0, "/dev/ttyUSB0")
    assert found.serial == SerialLine(device=Path("/dev/ttyUSB0"), baudrate=19200, parity=Parity.EVEN, stopbits=1)
    assert found.serial.bits_per_character == 11
    assert found.serial.silent_interval == pytest.approx(3.5 * 11 / 19200)


@pytest.mark.parametrize(("settings", "silence"), [
    ({"baudrate": 38400}, 0.00175), ({"baudrate": 115200}, 0.00175), ({"baudrate": 1200}, 3.5 * 11 / 1200),
    ({"baudrate": 9600, "parity": "none"}, 3.5 * 11 / 9600),
    ({"baudrate": 9600, "parity": "none", "stopbits": 1}, 3.5 * 10 / 9600),
    ({"interframe_delay": 0.005}, 0.005),
    ({"transport": "ascii"}, 3.5 * 10 / 19200),
])
def test_the_silence_between_frames_follows_rate_and_character(
    tmp_path: Path, settings: dict[str, Any], silence: float
) -> None:
    (found,) = loaded(tmp_path, modbus(line(**settings))).modbus
    assert found.serial is not None
    assert found.serial.silent_interval == pytest.approx(silence)


@pytest.mark.parametrize(("text", "said"), [
    (line(unit_id=0), "unit_id 0 is the broadcast of a line, which nobody answers; 1 to 247"),
    (line(unit_id=248), "unit_id 248 is reserved on a line; 1 to 247"),
    (server(transport="rtu-over-tcp", unit_id=0), "unit_id 0 is the broadcast"),
    (line(in_flight=2), "in_flight 2 on a line"),
    (line(accept_unit_id="any"), "accept_unit_id any on a line"),
    (line(accept_transaction_zero="true"), "accept_transaction_zero on a line"),
    (line(databits=7), "databits 7 with transport rtu"),
    (line(baudrate=0), "baudrate '0' is not valid; a whole number from 50 to 4000000"),
    (line(parity="mark"), "parity 'mark' is not valid; one of none, even, odd"),
    (line(transport="serial"), "transport 'serial' is not valid; one of tcp, rtu, ascii, rtu-over-tcp, udp, tls"),
    (line(transport="tcp"), "device stands with transport tcp; transport rtu or ascii"),
    (line(transport="tcp"), "ipaddr is missing in server with transport tcp"),
    (server(transport="rtu"), "ipaddr stands with transport rtu"),
    (server(transport="rtu"), "device is missing with transport rtu"),
    (server(baudrate=9600), "baudrate stands with transport tcp; transport rtu, ascii or rtu-over-tcp"),
    (server(transport="rtu-over-tcp", rs485="rts-on-send"), "rs485 stands with transport rtu-over-tcp"),
    (server(ca_certificate="ca.pem"), "ca_certificate stands with transport tcp; transport tls"),
    (server(transport="tls"), "ca_certificate is missing with transport tls"),
    (server(transport="tls", ca_certificate="c", client_certificate="c"), "client_certificate without client_private"),
    (server(transport="tls", ca_certificate="c", server_name="a b"), "server_name 'a b' is no name"),
    (line() + line(alias="B", unit_id=2, baudrate=9600), "baudrate 9600 and 19200"),
    (line() + line(alias="B", unit_id=2, transport="ascii"), "transport ascii and rtu"),
    (server(transport="rtu-over-tcp", baudrate=9600) + server(transport="rtu-over-tcp", alias="B", unit_id=2),
     "baudrate 0 and 9600"),
    ("<server><ipaddr>192.0.2.1</ipaddr><serveralias>A</serveralias><endpoints>" + endpoint()
     + "</endpoints></server>", "port is missing in server with transport tcp; usually 502"),
])
def test_what_does_not_fit_together_is_a_fault(tmp_path: Path, text: str, said: str) -> None:
    assert any(said in message for message in faults(tmp_path, modbus(text))), faults(tmp_path, modbus(text))


def test_a_fault_names_the_line_of_its_element(tmp_path: Path) -> None:
    text = "<modbus-servers>\n" + line().replace("<device>", "\n<unit_id>0</unit_id>\n<device>") + "</modbus-servers>"
    (fault,) = loaded(tmp_path, text).faults
    assert fault.line == text.partition("<unit_id>")[0].count("\n") + 1


def test_lines_of_two_files_must_agree_too(tmp_path: Path) -> None:
    first, second = tmp_path / "a.xml", tmp_path / "b.xml"
    first.write_text(modbus(line()))
    second.write_text(modbus(line(alias="B", unit_id=2, parity="odd")))
    with pytest.raises(ConfigError, match="parity odd and even"):
        load_modbus([first, second])
    servers = [server for file in (first, second) for server in load(file).modbus]
    assert [fault.file for fault in line_conflicts(servers, across_files=True)] == [second]


def test_tls_has_a_port_of_its_own_and_warns_of_what_is_not_there(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("key")
    key.chmod(0o644)
    text = modbus(server(transport="tls", ca_certificate="ca.pem", client_certificate="me.pem",
                         client_private_key="key.pem", server_name="plc.plant").replace("<port>502</port>", ""))
    file = loaded(tmp_path, text)
    assert not file.faults
    (found,) = file.modbus
    assert found.port == 802
    assert found.tls == TlsSettings(ca_certificate=tmp_path / "ca.pem", client_certificate=tmp_path / "me.pem",
                                    client_private_key=key, server_name="plc.plant")
    said = " ".join(warning.message for warning in file.warnings)
    assert "ca.pem: no such file" in said
    assert "is open to other users and will not be used; mode 0600" in said


serial_lines = st.builds(
    SerialLine, baudrate=st.integers(50, 4_000_000), parity=st.sampled_from(list(Parity)), stopbits=st.integers(1, 2),
    interframe_delay=st.none() | st.integers(0, 10000).map(lambda n: n / 1000),
    turnaround_delay=st.integers(0, 10000).map(lambda n: n / 1000), echo=st.booleans(),
)


@st.composite
def transported(draw: st.DrawFn) -> ModbusServer:
    transport = draw(st.sampled_from(list(Transport)))
    point = ModbusPoint(name="p", read_function=ReadFunction.HOLDING_REGISTERS, address=3)
    plain = ModbusServer(alias="A", ipaddr="192.0.2.1", port=draw(st.integers(1, 65535)), transport=transport,
                         unit_id=draw(st.integers(1, 247)), points=(point,))
    if transport.is_line:
        serial = draw(serial_lines)
        if transport.is_local:
            device = Path("/dev") / draw(st.sampled_from(["ttyUSB0", "serial/by-id/a b ä", "${x}"]))
            serial = dataclasses.replace(serial, device=device, rs485=draw(st.sampled_from(list(Rs485))))
            plain = dataclasses.replace(plain, ipaddr="", port=0)
        if transport is Transport.ASCII:
            serial = dataclasses.replace(serial, databits=draw(st.integers(7, 8)))
        return dataclasses.replace(plain, serial=serial)
    if transport is Transport.TLS:
        pair = draw(st.booleans())
        return dataclasses.replace(plain, tls=TlsSettings(
            ca_certificate=Path("/etc/ca ä.pem"), client_certificate=Path("/etc/c.pem") if pair else None,
            client_private_key=Path("/etc/k.pem") if pair else None,
            server_name=draw(st.sampled_from(["", "plc.plant", "192.0.2.9"]))))
    return plain


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(transported())
def test_every_transport_goes_out_and_comes_back(tmp_path: Path, given_server: ModbusServer) -> None:
    xml, table = tmp_path / "a.xml", tmp_path / "a.csv"
    xml.write_bytes(to_xml([given_server]))
    table.write_text(to_csv([given_server]), encoding="utf-8", newline="")
    for back in (load(xml), from_csv(table)):
        assert back.faults == ()
        servers = back.servers if hasattr(back, "servers") else back.modbus
        bare = [dataclasses.replace(s, file=Path(), line=0, points=()) for s in servers]
        assert bare == [dataclasses.replace(given_server, points=())]
