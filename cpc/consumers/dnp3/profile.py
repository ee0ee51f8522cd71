"""The points list and the device profile (clause 15) of an outstation, for whoever sets the master up."""

from __future__ import annotations

import csv
import io
from typing import Any

from dnp3_outstation import Kind, PointConfig
from dnp3_outstation.objects import DEFAULT_EVENT, DEFAULT_STATIC
from endpoint_config import Dnp3Consumer, Dnp3Master

from cpc import __version__
from cpc.consumers.dnp3.mapping import TYPE_NAMES, Served

COLUMNS = ("type", "group", "index", "point", "class", "static", "event", "deadband", "scale", "unit", "minimum",
           "maximum", "writable", "segment", "description")
_EVENT_GROUP = {1: 2, 3: 4, 10: 11, 20: 22, 30: 32, 40: 42, 110: 111}


def points_list(served: list[Served]) -> list[dict[str, Any]]:
    """One row for each DNP3 point, by type and index."""
    return [_row(item) for item in sorted(served, key=lambda s: (s.config.kind, s.config.index))]


def _row(item: Served) -> dict[str, Any]:
    config, kind = item.config, int(item.config.kind)
    low, high = item.range
    return {
        "type": TYPE_NAMES[config.kind], "group": kind, "index": config.index, "point": item.point,
        "class": config.event_class, "static": _static(config), "event": _event(config),
        "deadband": config.deadband, "scale": item.scale, "unit": item.unit, "minimum": low, "maximum": high,
        "writable": item.writable, "segment": item.segment, "description": item.description}


def _static(config: PointConfig) -> str:
    if config.kind == Kind.OCTET_STRING:
        return "g110"
    return f"g{int(config.kind)}v{config.static_variation or DEFAULT_STATIC[config.kind]}"


def _event(config: PointConfig) -> str:
    group = _EVENT_GROUP[int(config.kind)]
    if not config.event_class:
        return ""
    return f"g{group}" if group == 111 else f"g{group}v{config.event_variation or DEFAULT_EVENT[group]}"


def as_csv(served: list[Served]) -> str:
    """The points list as CSV with a header line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in points_list(served):
        writer.writerow({key: "" if value is None else value for key, value in row.items()})
    return text.getvalue()


def device_profile(settings: Dnp3Consumer, served: list[Served]) -> list[tuple[str, str]]:
    """Items of the device profile and their values."""
    counts = {kind: sum(s.config.kind == kind for s in served) for kind in TYPE_NAMES}
    where = settings.serial.device if settings.serial is not None else f"{settings.host}:{settings.port}"
    secured = "TLS 1.2 or newer, certificates on both sides" if settings.tls is not None else "none"
    items = [
        ("Device function", "outstation"), ("Vendor", "CPC partition"), ("Device", "cpc dnp3"),
        ("Software version", __version__), ("Standard", "IEEE 1815-2012"),
        ("Level", "level 2; of levels 3 and 4 what the object table of the documentation lists"),
        ("Connection", "serial 8N1" if settings.serial is not None else "TCP"), ("Place", where),
        ("Secured by", secured), ("Secure Authentication", "not supported"),
        ("Outstation address", str(settings.outstation)),
        ("Self address 65532", "answered" if settings.self_address else "ignored"),
        ("Broadcast addresses 65533 to 65535", "accepted"),
        ("Largest fragment received", "2048 octets"),
        ("Controls", "refused: local" if settings.local_control else "to writable points, through the command gate"),
        ("Controls in one request", "32"),
        ("Event buffers", "for each master and class; the oldest event gives way, and IIN2.3 is set"),
        ("Analog deadband", "fixed, or written by g34"), ("Clock", "UTC; the host's clock is never set by a master"),
    ]
    items += [(f"Points: {name}", str(counts[kind])) for kind, name in TYPE_NAMES.items() if counts[kind]]
    for master in settings.masters:
        items += _master(master)
    return items


def _master(master: Dnp3Master) -> list[tuple[str, str]]:
    name = f"Master {master.address}"
    came = f"connected to at {master.connect[0]}:{master.connect[1]}" if master.connect else \
        f"may connect from {', '.join(master.allow)}"
    sizes = ", ".join(map(str, master.event_buffers))
    return [
        (name, came), (f"{name}: event buffers of class 1, 2, 3", sizes),
        (f"{name}: largest fragment sent", f"{master.fragment} octets"),
        (f"{name}: unsolicited", "allowed" if master.unsolicited else "never"),
        (f"{name}: unsolicited hold time and count", f"{master.hold_time:g} s, {master.hold_count}"),
        (f"{name}: unsolicited repetitions", str(master.retries)),
        (f"{name}: confirmation time-out", f"{master.confirm_timeout:g} s"),
        (f"{name}: select time-out", f"{master.select_timeout:g} s"),
        (f"{name}: link confirmation", master.link_confirm),
        (f"{name}: keep-alive", f"{master.keep_alive:g} s" if master.keep_alive else "none"),
        (f"{name}: time from", "this host" if master.time_source == "host" else "the master"),
    ]


def as_text(items: list[tuple[str, str]]) -> str:
    """The device profile as lines for people."""
    return "".join(f"{name}: {value}\n" for name, value in items)
