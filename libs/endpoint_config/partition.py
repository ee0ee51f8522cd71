"""partition.xml: from checked XML to the Partition model."""

from __future__ import annotations

import os
from pathlib import Path

from lxml import etree

from .command_rules import read_settings
from .consumers import READERS, read_consumers, read_devices
from .faults import Report, line_of
from .groups import group_of
from .models import Audience, Partition, Service
from .values import Entry, expand, resolve

_REPEATABLE = frozenset(["service", "file", "audience", "include", "exclude", "device", *READERS])


def read_partition(root: etree._Element, report: Report, faulty: set[etree._Element],
                   wanted: tuple[str, str] | None = None) -> Partition:
    """The partition of a file. `faulty` holds elements that the schema refused: they are passed over.

    With `wanted` (name and kind of a consumer) it is read for that consumer alone: the endpoint files may be elsewhere.
    """
    entry = Entry(root, report, _REPEATABLE)
    services: list[Service] = []
    first: dict[str, int] = {}
    for element in entry.repeated.get("service", ()):
        if element in faulty:
            continue
        service = _service(Entry(element, report, _REPEATABLE), faulty, need_files=wanted is None)
        line = line_of(element)
        if service.kind in first:
            report.fault(line, f"service {service.kind} stands also on line {first[service.kind]}; each kind "
                         "once, with all its files")
        first.setdefault(service.kind, line)
        services.append(service)
    listed = [child for child in root if child.tag in READERS]
    gate = root.find("commands")
    if not services and not listed and not report.faults:
        report.fault(line_of(root), "no service in the partition; at least one service of kind modbus or opcua")
    return Partition(
        namespace=entry.texts.get("namespace", ""), interval=entry.seconds("interval", 1.0), services=tuple(services),
        commands=None if gate is None or gate in faulty else read_settings(gate, report, need_file=wanted is None),
        pki=entry.path("pki"), state=entry.path("state"), consumers=read_consumers(listed, report, faulty, wanted),
        devices=read_devices(entry.repeated.get("device", ()), report, faulty), file=report.file)


def _service(entry: Entry, faulty: set[etree._Element], *, need_files: bool) -> Service:
    own = Audience(name="", group=group_of(entry), mode=_mode(entry))
    audiences = [own]
    first: dict[str, int] = {}
    for element in entry.repeated.get("audience", ()):
        if element in faulty:
            continue
        audience = _audience(Entry(element, entry.report, _REPEATABLE))
        line = line_of(element)
        if audience.name in first:
            entry.report.fault(line, f"audience {audience.name} stands also on line {first[audience.name]}; each name "
                               "once in a service")
        first.setdefault(audience.name, line)
        audiences.append(audience)
    files = _files(entry, need_files=need_files)
    return Service(kind=entry.element.get("kind", ""), files=files, audiences=tuple(audiences),
                   journal_entries=entry.integer("journal_entries", 65536),
                   repair_after=entry.seconds("repair_after", 10.0), line=entry.line())


def _files(entry: Entry, *, need_files: bool) -> tuple[Path, ...]:
    found: dict[Path, int] = {}
    for element in entry.repeated.get("file", ()):
        line = line_of(element)
        text = expand((element.text or "").strip(), entry.report, line)
        if not text:
            continue
        path = resolve(entry.report.file, text)
        if path in found:
            entry.report.fault(line, f"file {path} stands also on line {found[path]}; each file once")
        elif need_files and not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name that is too long
            entry.report.fault(line, f"file {path} is not there; the path of an endpoint file, relative to this file")
        found.setdefault(path, line)
    if not entry.repeated.get("file"):
        entry.fault("", "no file in this service; at least one endpoint file")
    return tuple(found)


def _audience(entry: Entry) -> Audience:
    return Audience(name=entry.element.get("name", ""), group=group_of(entry), mode=_mode(entry),
                    include=_patterns(entry, "include"), exclude=_patterns(entry, "exclude"))


def _patterns(entry: Entry, tag: str) -> tuple[str, ...]:
    return tuple((element.text or "").strip() for element in entry.repeated.get(tag, ()))


def _mode(entry: Entry) -> int:
    text = entry.texts.get("mode", "")
    try:
        mode = int(text, 8) if text else 0o640
    except ValueError:
        return 0o640  # refused by the schema
    if mode & 0o004:
        entry.warn("mode", f"mode {text} lets every user of the machine read; 0640 and a group")
    return mode
