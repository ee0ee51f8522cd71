"""Modbus/TCP Security: who is let in, who is not, and what is said of it; against three servers."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import peers
import pytest
from endpoint_config.models import ModbusServer
from endpoint_config.transports import TlsSettings, Transport
from modbus_rig import LyingDevice, Partition, device, holding
from modbus_servers import pymodbus_device
from modbus_tcp_client import ModbusConnectionError, ModbusTCPClient
from process_image import quality
from tls_rig import Authority, Party, TlsDevice

LOCAL = ("127.0.0.1", "localhost")
DEMANDS = "the server demands a client certificate"
REFUSES = "the server refuses the handshake without a client certificate"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("plant"))


@pytest.fixture(scope="module")
def engineer(authority: Authority) -> Party:
    return authority.issue("engineer", role="Operator")


@pytest.fixture(scope="module")
def plc(authority: Authority) -> Party:
    return authority.issue("plc", hosts=LOCAL)


def secured(port: int, authority: Authority, client: Party | None, **more: Any) -> ModbusServer:
    """A device over TLS on loopback."""
    tls = TlsSettings(ca_certificate=authority.certificate, client_certificate=client.certificate if client else None,
                      client_private_key=client.key if client else None)
    return replace(device("plc", port, [holding("a", 3), holding("b", 100)], timeout=2.0),
                   transport=Transport.TLS, tls=replace(tls, **more))


def refusal(server: ModbusServer) -> str:
    """Why the synchronous client is refused, at the latest with its first question."""
    client = ModbusTCPClient.of(server)
    try:
        with pytest.raises(ModbusConnectionError) as refused:
            client.fc03_read_holding_registers(3)
    finally:
        client.close()
    return str(refused.value)


def reason(server: ModbusServer, name: str) -> str:
    """Why the engine is refused: the points are Bad, and $last_error says it."""
    with Partition(name, [server]) as running:
        running.until_quality("plc/a", quality.BAD_COMMUNICATION_ERROR)
        running.until(lambda r: r["plc/$last_error"].value)
        return str(running["plc/$last_error"].value)


def test_a_valid_pair_is_polled_and_the_role_is_told(
    authority: Authority, plc: Party, engineer: Party, shm_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "modbus_tcp_client")
    with TlsDevice(plc, trusts=authority.certificate) as server:
        entry = secured(server.port, authority, engineer)
        with Partition(shm_name, [entry]) as running:
            running.until_good("plc/a", "plc/b")
            assert [running["plc/a"].value, running["plc/b"].value] == [21, 700]
            running.until(lambda r: r["plc/$tls"].quality == 0)
            told = str(running["plc/$tls"].value)
            assert told.startswith("TLSv1.3, TLS_")
            assert ", role Operator, device CN=plc, until 20" in told
            point = next(p for p in running.image.points if p.full_name == "plc/$tls")
            assert dict(point.extra) == {"role": "Operator"}, "readers of the schema see it without a connection"
        with ModbusTCPClient.of(entry) as client:
            assert client.fc03_read_holding_registers(0, 125) == [7 * a for a in range(125)]
        assert set(server.clients) == {"engineer"}
    assert any("TLSv1.3" in text and "role Operator" in text for text in caplog.messages), caplog.messages


@contextmanager
def old_server(party: Party) -> Iterator[int]:
    """OpenSSL's server, speaking TLS 1.1 alone."""
    port = peers.free_port()
    command = [peers.require_program("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_1", "-cipher",
               "ALL:@SECLEVEL=0", "-cert", str(party.certificate), "-key", str(party.key), "-quiet"]
    with peers.Peer(command):
        peers.wait_for_port(port)
        yield port


@contextmanager
def plain_server() -> Iterator[int]:
    with LyingDevice() as plain:
        yield plain.port


CASES = {
    "unknown authority": "the server's certificate comes from an unknown authority; put the authority's certificate",
    "expired": "the server's certificate has expired; renew the certificate of the device",
    "wrong host": "the server's certificate is for another address; ipaddr or server_name as the certificate has it",
    "wrong name": "the server's certificate is for another host; ipaddr or server_name as the certificate has it",
    "no client certificate": DEMANDS,
    "no client certificate, TLS 1.2": REFUSES,
    "client of another authority": "the server does not know the authority of our certificate",
    "TLS 1.1": "the server speaks no TLS 1.2 or newer; update the device",
    "no TLS": "TLS",
    "key open to others": "is open to other users (mode 0644); mode 0600",
    "no certificate file": "no such file or directory; a readable PEM file",
    "no authority file": "no such file or directory; a readable PEM file",
    "key of another": "can't be used: ",
}


def case(name: str, authority: Authority, plc: Party, engineer: Party,
         folder: Path) -> tuple[AbstractContextManager[Any], Party | None, dict[str, Any]]:
    """The server of a case, our certificate, and how our settings differ."""
    ca = authority.certificate
    good = TlsDevice(plc, trusts=ca)
    other = Authority(folder, "Other CA")
    open_key = folder / "open.key"
    open_key.write_bytes(engineer.key.read_bytes())
    open_key.chmod(0o644)
    cases: dict[str, tuple[AbstractContextManager[Any], Party | None, dict[str, Any]]] = {
        "unknown authority": (TlsDevice(other.issue("stranger", hosts=LOCAL), trusts=ca), engineer, {}),
        "expired": (TlsDevice(authority.issue("old", hosts=LOCAL, days=-1), trusts=ca), engineer, {}),
        "wrong host": (TlsDevice(authority.issue("there", hosts=("192.0.2.7",)), trusts=ca), engineer, {}),
        "wrong name": (good, engineer, {"server_name": "other.plant"}),
        "no client certificate": (good, None, {}),
        "no client certificate, TLS 1.2": (TlsDevice(plc, ca, ssl.TLSVersion.TLSv1_2), None, {}),
        "client of another authority": (good, other.issue("guest"), {}),
        "TLS 1.1": (old_server(plc), engineer, {}),
        "no TLS": (plain_server(), engineer, {}),
        "key open to others": (good, replace(engineer, key=open_key), {}),
        "no certificate file": (good, replace(engineer, certificate=folder / "none.pem"), {}),
        "no authority file": (good, engineer, {"ca_certificate": folder / "none.pem"}),
        "key of another": (good, replace(engineer, key=plc.key), {}),
    }
    return cases[name]


@pytest.mark.parametrize("name", CASES)
def test_whoever_is_not_as_must_be_is_refused_with_a_reason(
    name: str, authority: Authority, plc: Party, engineer: Party, shm_name: str, tmp_path: Path
) -> None:
    peer, client, settings = case(name, authority, plc, engineer, tmp_path)
    with peer as found:
        port = found if isinstance(found, int) else found.port
        entry = replace(secured(port, authority, client, **settings), timeout=0.5 if name == "no TLS" else 2.0)
        assert CASES[name] in refusal(entry)
        assert CASES[name] in reason(entry, shm_name)
        if isinstance(found, TlsDevice):
            assert not found.clients


def test_a_device_whose_certificate_is_renewed_comes_back_by_itself(
    authority: Authority, plc: Party, engineer: Party, shm_name: str
) -> None:
    old = authority.issue("late", hosts=LOCAL, days=-1)
    server = TlsDevice(old, trusts=authority.certificate)
    with server, Partition(shm_name, [secured(server.port, authority, engineer)]) as running:
        running.until(lambda r: "expired" in (r["plc/$last_error"].value or ""))
        server._context.load_cert_chain(plc.certificate, plc.key)
        running.until_good("plc/a")


def test_a_server_that_never_answers_the_handshake_harms_no_neighbour(
    authority: Authority, plc: Party, engineer: Party, shm_name: str
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as mute, TlsDevice(plc, trusts=authority.certificate) as server:
        stuck = replace(secured(mute.getsockname()[1], authority, engineer), alias="stuck", timeout=0.3)
        with Partition(shm_name, [secured(server.port, authority, engineer), stuck]) as running:
            running.until_good("plc/a")
            running.until(lambda r: "no TLS handshake in time" in (r["stuck/$last_error"].value or ""))
            before = running.count("plc")
            running.until(lambda r: r.count("plc") > before + 5)
            assert running["plc/a"].quality == 0


@contextmanager
def pymodbus_tls(party: Party, trusts: Path) -> Iterator[int]:
    """pymodbus's own TLS server, which demands a client certificate: register a holds 5a."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(party.certificate, party.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(trusts)
    with pymodbus_device(secured=context) as device:
        yield device.port


def test_nobody_travels_on_the_certificate_of_another(
    authority: Authority, plc: Party, engineer: Party, shm_name: str
) -> None:
    """Two entries for one server: the one without a certificate does not get in by the other's connection."""
    with TlsDevice(plc, trusts=authority.certificate) as server:
        guest = replace(secured(server.port, authority, None), alias="guest", unit_id=2)
        with Partition(shm_name, [secured(server.port, authority, engineer), guest]) as running:
            running.until_good("plc/a")
            running.until_quality("guest/a", quality.BAD_COMMUNICATION_ERROR)
            assert running["plc/a"].quality == 0


def test_pymodbus_tls_server_is_polled(authority: Authority, plc: Party, engineer: Party, shm_name: str) -> None:
    with pymodbus_tls(plc, authority.certificate) as port:
        with Partition(shm_name, [secured(port, authority, engineer)]) as running:
            running.until_good("plc/a", "plc/b")
            assert [running["plc/a"].value, running["plc/b"].value] == [15, 500]
        assert "check the client certificate, which the server may demand" in refusal(secured(port, authority, None))


def test_a_device_named_on_one_line_is_read(authority: Authority, plc: Party, engineer: Party) -> None:
    with TlsDevice(plc, trusts=authority.certificate) as server:
        url = (f"tls://localhost:{server.port}?ca_certificate={authority.certificate}"
               f"&client_certificate={engineer.certificate}&client_private_key={engineer.key}")
        with ModbusTCPClient.at(url, timeout=2.0) as client:
            assert client.fc03_read_holding_registers(5, 2) == [35, 42]
