"""Devices named on one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from endpoint_config.transports import Parity, Rs485, Transport
from modbus_tcp_client import server_from_url, way_to


@pytest.mark.parametrize(("url", "transport", "place"), [
    ("192.0.2.7", Transport.TCP, "192.0.2.7:502"),
    ("plc.plant:1502", Transport.TCP, "plc.plant:1502"),
    ("tcp://[2001:db8::7]:503", Transport.TCP, "[2001:db8::7]:503"),
    ("modbus-tcp://plc", Transport.TCP, "plc:502"),
    ("udp://plc", Transport.UDP, "plc:502"),
    ("rtu+tcp://10.0.0.7:4001", Transport.RTU_OVER_TCP, "10.0.0.7:4001"),
    ("tls://plc?ca_certificate=/etc/ca.pem", Transport.TLS, "plc:802"),
    ("rtu:///dev/ttyUSB0", Transport.RTU, "/dev/ttyUSB0"),
    ("ascii:///dev/serial/by-id/usb-A%20B", Transport.ASCII, "/dev/serial/by-id/usb-A B"),
])
def test_a_url_says_transport_and_place(url: str, transport: Transport, place: str) -> None:
    server = server_from_url(url)
    assert (server.transport, server.place) == (transport, place)
    assert way_to(server).name == place


def test_settings_are_called_as_in_endpoint_files() -> None:
    server = server_from_url("rtu:///dev/ttyS1?baudrate=9600&parity=N&stopbits=1&echo=true&interframe_delay=0.01"
                             "&turnaround_delay=0.02&rs485=rts-on-send&unit_id=7&timeout=0.5&retries=2&delay=0.1")
    line = server.serial
    assert line is not None
    assert (line.baudrate, line.parity, line.stopbits, line.databits) == (9600, Parity.NONE, 1, 8)
    assert (line.echo, line.interframe_delay, line.turnaround_delay, line.rs485) == (
        True, 0.01, 0.02, Rs485.RTS_ON_SEND)
    assert (server.unit_id, server.timeout, server.retries, server.delay) == (7, 0.5, 2, 0.1)
    assert server_from_url("ascii:///dev/ttyS1").serial.databits == 7  # type: ignore[union-attr]
    assert server_from_url("rtu:///dev/ttyS1?parity=none").serial.stopbits == 2  # type: ignore[union-attr]
    assert server_from_url("rtu+tcp://plc").serial.baudrate == 0  # type: ignore[union-attr]
    tls = server_from_url("tls://plc?ca_certificate=a&client_certificate=b&client_private_key=c&server_name=d").tls
    assert tls is not None
    assert (tls.ca_certificate, tls.client_certificate, tls.client_private_key, tls.server_name) == (
        Path("a"), Path("b"), Path("c"), "d")


def test_what_is_said_beside_the_url_wins() -> None:
    assert server_from_url("tcp://plc?unit_id=3", unit_id=4, alias="pump").unit_id == 4


@pytest.mark.parametrize(("url", "said"), [
    ("http://plc", "scheme 'http' is not known; one of tcp, modbus-tcp, udp, tls, rtu, ascii, rtu\\+tcp"),
    ("tcp://", "is no address; HOST or HOST:PORT"),
    ("tcp://plc/path", "is no address"),
    ("tcp://user@plc", "is no address"),
    ("tcp://plc:99999", "a port from 1 to 65535"),
    ("tcp://plc?baudrate=9600", "setting 'baudrate' is not known for tcp; one of delay, retries, timeout, unit_id"),
    ("rtu://", "no device; rtu:///dev/ttyUSB0, say"),
    ("rtu:///dev/ttyS0?baudrate=fast", "baudrate 'fast'; a number from 50 to 4000000"),
    ("rtu:///dev/ttyS0?parity=x", "parity 'x'; one of none, even, odd, n, e, o"),
    ("rtu:///dev/ttyS0?timeout=0", "timeout '0'; a number from 0.001"),
    ("tcp://plc?unit_id=256", "unit_id '256'; a number from 0 to 255"),
])
def test_what_names_no_device_is_refused(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        server_from_url(url)
