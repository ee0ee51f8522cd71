"""Transport, line and certificates of a Modbus server: read from its elements, and held against each other."""

from __future__ import annotations

import ipaddress
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .faults import shown
from .models import Fault, ModbusServer
from .transports import Parity, Rs485, SerialLine, TlsSettings, Transport
from .values import Entry, has_variable

HIGHEST_UNIT = 247
"""Unit ids over it are reserved on a line (MODBUS over Serial Line V1.02, clause 2.2)."""
LINE_TAGS = ("baudrate", "parity", "stopbits", "databits", "interframe_delay", "turnaround_delay", "echo")
LOCAL_TAGS = ("device", "rs485")
TLS_TAGS = ("ca_certificate", "client_certificate", "client_private_key", "server_name")

_LABEL = re.compile(r"[\w]([\w-]{0,61}[\w])?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a server is, and how to get there."""

    transport: Transport
    ipaddr: str
    port: int
    serial: SerialLine | None
    tls: TlsSettings | None


def read_place(entry: Entry) -> Place:
    """Read and check what a server says of its transport."""
    text = entry.texts.get("transport", "tcp")
    transport = Transport(text) if text in list(Transport) else Transport.TCP
    _check_idle(entry, transport)
    serial = _line(entry, transport) if transport.is_line else None
    tls = _tls(entry) if transport is Transport.TLS else None
    if transport.is_local:
        for tag in ("ipaddr", "port"):
            if tag in entry.texts:
                entry.fault(tag, f"{tag} stands with transport {transport}, a line of this machine; device alone")
        if "device" not in entry.texts:
            entry.fault("transport", f"device is missing with transport {transport}; the path of a device file, such "
                        "as /dev/ttyUSB0")
        return Place(transport=transport, ipaddr="", port=0, serial=serial, tls=None)
    return Place(transport=transport, ipaddr=_host(entry, transport), port=_port(entry, transport), serial=serial,
                 tls=tls)


def _check_idle(entry: Entry, transport: Transport) -> None:
    """Settings that mean nothing with this transport are faults: most likely transport was forgotten."""
    for tags, fits, where in (
        (LOCAL_TAGS, transport.is_local, "rtu or ascii"),
        (LINE_TAGS, transport.is_line, "rtu, ascii or rtu-over-tcp"),
        (TLS_TAGS, transport is Transport.TLS, "tls"),
    ):
        if fits:
            continue
        for tag in tags:
            if tag in entry.texts:
                entry.fault(tag, f"{tag} stands with transport {transport}; transport {where}, or leave it out")


def _host(entry: Entry, transport: Transport) -> str:
    if "ipaddr" not in entry.texts:
        entry.fault("", f"ipaddr is missing in server with transport {transport}; an address, or transport rtu or "
                    "ascii with device")
        return ""
    raw, host = entry.texts["ipaddr"], entry.expanded("ipaddr")
    if host and not is_host(host):
        entry.fault("ipaddr", f"ipaddr {shown(raw)} is no address; an IPv4 address, an IPv6 address or a host name, "
                    "without port")
    elif not host and has_variable(raw):
        return raw  # the variable that is not set is reported already
    return host


def _port(entry: Entry, transport: Transport) -> int:
    if "port" not in entry.texts and transport is not Transport.TLS:
        entry.fault("ipaddr", f"port is missing in server with transport {transport}; usually {transport.default_port}")
    return entry.integer("port", transport.default_port)


def is_host(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address, or can be a host name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        labels = text.removesuffix(".").split(".")
        numeric = all(label.isdecimal() for label in labels)
        return not numeric and len(text) <= 253 and all(_LABEL.fullmatch(label) for label in labels)
    return True


def _line(entry: Entry, transport: Transport) -> SerialLine:
    texts = entry.texts
    parity = Parity(texts["parity"]) if texts.get("parity") in list(Parity) else Parity.EVEN
    databits = entry.integer("databits", 7 if transport is Transport.ASCII else 8)
    if databits == 7 and transport is not Transport.ASCII:
        entry.fault("databits", f"databits 7 with transport {transport}, whose bytes have 8; 8, or transport ascii")
    return SerialLine(
        device=entry.path("device") if transport.is_local else None,
        baudrate=entry.integer("baudrate", 19_200 if transport.is_local else 0),
        parity=parity,
        stopbits=entry.integer("stopbits", 2 if parity is Parity.NONE else 1),
        databits=databits,
        interframe_delay=entry.interval("interframe_delay"),
        turnaround_delay=entry.seconds("turnaround_delay", 0.0),
        rs485=Rs485(texts["rs485"]) if texts.get("rs485") in list(Rs485) else Rs485.OFF,
        echo=entry.flag("echo"),
    )


def _tls(entry: Entry) -> TlsSettings:
    tls = TlsSettings(
        ca_certificate=entry.path("ca_certificate"), client_certificate=entry.path("client_certificate"),
        client_private_key=entry.path("client_private_key"), server_name=entry.expanded("server_name"),
    )
    if "ca_certificate" not in entry.texts:
        entry.fault("transport", "ca_certificate is missing with transport tls; the PEM file of the authority that "
                    "signed the server's certificate")
    for tag, other in (("client_certificate", "client_private_key"), ("client_private_key", "client_certificate")):
        if tag in entry.texts and other not in entry.texts:
            entry.fault(tag, f"{tag} without {other}; both")
    if "client_certificate" not in entry.texts:
        entry.warn("transport", "transport tls without client_certificate: servers that keep to Modbus/TCP Security "
                   "refuse that; client_certificate and client_private_key")
    if tls.server_name and not is_host(tls.server_name):
        entry.fault("server_name", f"server_name {shown(tls.server_name)} is no name; a host name or an address")
    for tag in TLS_TAGS[:3]:
        _check_file(entry, tag, getattr(tls, tag))
    return tls


def _check_file(entry: Entry, tag: str, path: Path | None) -> None:
    """A missing file is a warning: it may come later, and until then the device is Bad with a reason."""
    if path is None:
        return
    try:
        mode = path.stat().st_mode
    except OSError as error:
        entry.warn(tag, f"{tag} {path}: {(error.strerror or str(error)).lower()}; a readable PEM file")
        return
    if tag == "client_private_key" and mode & (stat.S_IRWXO | stat.S_IWGRP):
        entry.warn(tag, f"{tag} {path} is open to other users and will not be used; mode 0600, or 0640")


def check_unit(entry: Entry, server: ModbusServer) -> None:
    """Rules that lines have: who can be asked, and how many at once."""
    if not server.transport.is_line:
        return
    if server.unit_id == 0:
        entry.fault("unit_id", f"unit_id 0 is the broadcast of a line, which nobody answers; 1 to {HIGHEST_UNIT}")
    elif server.unit_id > HIGHEST_UNIT:
        entry.fault("unit_id", f"unit_id {server.unit_id} is reserved on a line; 1 to {HIGHEST_UNIT}")
    if server.in_flight > 1:
        entry.fault("in_flight", f"in_flight {server.in_flight} on a line, which carries one request at a time; 1")
    if server.accept_any_unit_id:
        entry.fault("accept_unit_id", "accept_unit_id any on a line, where nothing else tells units apart; own")
    if server.accept_transaction_zero:
        entry.fault("accept_transaction_zero", "accept_transaction_zero on a line, whose frames have no transaction "
                    "id; leave it out")


def line_conflicts(servers: Iterable[ModbusServer], *, across_files: bool = False) -> list[Fault]:
    """Units of one line that do not agree on how it is driven; of two files only where asked so."""
    first: dict[str, ModbusServer] = {}
    found: list[Fault] = []
    for server in servers:
        if not server.transport.is_line:
            continue
        other = first.setdefault(server.place, server)
        if (other.transport, other.serial) == (server.transport, server.serial):
            continue
        if across_files and other.file == server.file:
            continue
        place = f"on line {other.line}" if other.file == server.file else f"in {other.file}:{other.line}"
        found.append(Fault(file=server.file, line=server.line, message=(
            f"device {shown(server.alias)} drives {server.place} with other settings than {shown(other.alias)} "
            f"{place}: {_differing(server, other)}; the same for all units of a line")))
    return found


def _differing(one: ModbusServer, other: ModbusServer) -> str:
    """What differs, as `baudrate 9600 and 19200`."""
    if one.transport is not other.transport:
        return f"transport {one.transport} and {other.transport}"
    assert one.serial is not None and other.serial is not None
    pairs = {name: (getattr(one.serial, name), getattr(other.serial, name)) for name in (*LINE_TAGS, "rs485")}
    return ", ".join(f"{name} {a} and {b}" for name, (a, b) in pairs.items() if a != b)
