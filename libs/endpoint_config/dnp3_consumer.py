"""The element dnp3 of partition.xml: from checked XML to the Dnp3Consumer model."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path

from lxml import etree

from .consumers import common
from .dnp3_models import Dnp3Consumer, Dnp3Map, Dnp3Master, Dnp3Serial, Dnp3Tls
from .faults import Report, line_of, shown
from .models import EndpointFile
from .values import Entry

_REPEATABLE = frozenset(["segment", "master", "allow"])
LoadMap = Callable[[Path], EndpointFile]


def read_dnp3(element: etree._Element, report: Report, load_map: LoadMap) -> Dnp3Consumer:
    """The outstation that the element describes, with its map read; the faults of the map are the file's own."""
    entry = Entry(element, report, _REPEATABLE)
    kind, name, user, segments, line = common(entry)
    masters = tuple(_master(Entry(child, report, _REPEATABLE)) for child in entry.repeated.get("master", ()))
    outstation = entry.integer("outstation", 10)
    _check_addresses(entry, outstation, masters)
    host, tls = entry.expanded("host") or "127.0.0.1", _tls(entry)
    serial = _serial(entry)
    if serial is not None and (tls is not None or len(masters) > 1):
        entry.fault("serial", "a serial line with TLS or several masters; one master, and no TLS")
    return Dnp3Consumer(
        kind=kind, name=name, user=user, segments=segments, line=line, outstation=outstation, host=host,
        port=entry.integer("port", 20000), map=_map(entry, load_map), self_address=_on(entry, "self_address"),
        local_control=entry.flag("local_control"), masters=masters or (Dnp3Master(),), tls=tls, serial=serial,
        device_name=entry.texts.get("device_name", ""), location=entry.texts.get("location", ""))


def _on(entry: Entry, tag: str) -> bool:
    return tag not in entry.texts or entry.flag(tag)


def _check_addresses(entry: Entry, outstation: int, masters: tuple[Dnp3Master, ...]) -> None:
    seen = {outstation: entry.line("outstation")}
    for master in masters or (Dnp3Master(line=entry.line()),):
        if master.address in seen:
            entry.report.fault(master.line, f"address {master.address} stands also on line {seen[master.address]}; "
                               "an address of its own for the outstation and for each master")
        seen.setdefault(master.address, master.line)


def _map(entry: Entry, load_map: LoadMap) -> Dnp3Map:
    path = entry.path("map")
    if path is None:
        return Dnp3Map()
    file = load_map(path)
    if file.dnp3_map is None or file.faults:
        first = file.faults[0] if file.faults else f"is a file of kind {file.kind}"
        entry.fault("map", f"the map can't be used ({first}); a file whose root element is dnp3-map")
    return file.dnp3_map or Dnp3Map()


def _tls(entry: Entry) -> Dnp3Tls | None:
    given = [tag for tag in ("certificate", "key", "ca") if entry.texts.get(tag)]
    if not given:
        return None
    certificate, key, authorities = (entry.path(tag) for tag in ("certificate", "key", "ca"))
    if certificate is None or key is None or authorities is None:
        entry.fault(given[0], f"TLS with {' and '.join(given)} alone; certificate, key and ca together")
        return None
    for tag, path in (("certificate", certificate), ("key", key), ("ca", authorities)):
        if not path.is_file():
            entry.warn(tag, f"{tag} {path} is not there; a PEM file")
    return Dnp3Tls(certificate=certificate, key=key, ca=authorities)


def _serial(entry: Entry) -> Dnp3Serial | None:
    device = entry.expanded("serial")
    return Dnp3Serial(device=device, baudrate=entry.integer("baudrate", 9600)) if device else None


def _master(entry: Entry) -> Dnp3Master:
    usual = Dnp3Master()
    buffers = tuple(entry.integer(f"buffer_{cls}", size) for cls, size in enumerate(usual.event_buffers, 1))
    return Dnp3Master(
        address=_address(entry), allow=_networks(entry) or usual.allow, connect=_connect(entry),
        unsolicited=_on(entry, "unsolicited"), hold_time=entry.seconds("hold_time", usual.hold_time),
        hold_count=entry.integer("hold_count", usual.hold_count), retries=entry.integer("retries", usual.retries),
        confirm_timeout=entry.seconds("confirm_timeout", usual.confirm_timeout),
        select_timeout=entry.seconds("select_timeout", usual.select_timeout),
        event_buffers=(buffers[0], buffers[1], buffers[2]), fragment=entry.integer("fragment", usual.fragment),
        link_confirm=entry.texts.get("link_confirm", usual.link_confirm),
        keep_alive=entry.seconds("keep_alive", usual.keep_alive),
        time_source=entry.texts.get("time_source", usual.time_source), line=entry.line())


def _address(entry: Entry) -> int:
    text = entry.element.get("address", "")
    return int(text) if text.isdecimal() else 1


def _networks(entry: Entry) -> tuple[str, ...]:
    networks = []
    for child in entry.repeated.get("allow", ()):
        text = (child.text or "").strip()
        try:
            networks.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            entry.report.fault(line_of(child), f"allow {shown(text)}; an IP address or a network such as 10.1.0.0/16")
    return tuple(networks)


def _connect(entry: Entry) -> tuple[str, int] | None:
    text = entry.expanded("connect")
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        entry.fault("connect", f"connect {shown(text)}; host:port")
        return None
    return host.strip("[]"), int(port)
