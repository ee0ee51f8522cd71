"""Consumers and devices of partition.xml: from checked XML to models."""

from __future__ import annotations

import pwd
from collections.abc import Callable, Iterable

from lxml import etree

from .consumer_models import ConsumerSettings, DeviceAttributes, OwnConsumer
from .faults import Report, line_of, shown
from .values import Entry, expand

_REPEATABLE = frozenset(["segment", "setting"])
Reader = Callable[[etree._Element, Report], ConsumerSettings]


def common(entry: Entry) -> tuple[str, str, str, tuple[str, ...], int]:
    """Kind, name, user, segments and line of any consumer: the first fields of ConsumerSettings, in order."""
    element = entry.element
    segments = tuple((child.text or "").strip() for child in entry.repeated.get("segment", ()))
    for child in entry.repeated.get("segment", ()):
        if segments.count((child.text or "").strip()) > 1:
            entry.report.fault(line_of(child), f"segment {shown(child.text)} stands twice; each once")
    user = element.get("user", "")
    if user:
        _check_user(user, entry)
    return str(element.tag), element.get("name") or str(element.tag), user, segments, entry.line()


def _check_user(user: str, entry: Entry) -> None:
    try:
        pwd.getpwnam(user)
    except KeyError:
        entry.warn("", f"user {user} is not known on this machine; the name of a user")


def read_own(element: etree._Element, report: Report) -> OwnConsumer:
    """A consumer of a module that the partition does not bring."""
    entry = Entry(element, report, _REPEATABLE)
    kind, name, user, segments, line = common(entry)
    settings: dict[str, str] = {}
    for child in entry.repeated.get("setting", ()):
        key = child.get("name", "")
        if key in settings:
            report.fault(line_of(child), f"setting {shown(key)} stands twice; each name once")
        settings[key] = expand((child.text or "").strip(), report, line_of(child))
    return OwnConsumer(kind=kind, name=name, user=user, segments=segments, line=line,
                       module=element.get("module", ""), settings=tuple(settings.items()))


def _read_dnp3(element: etree._Element, report: Report) -> ConsumerSettings:
    from .dnp3_consumer import read_dnp3
    from .loading import load  # the element names a file of another kind

    return read_dnp3(element, report, load)


def _read_mqtt(element: etree._Element, report: Report) -> ConsumerSettings:
    from .mqtt import read_mqtt  # it builds on this module

    return read_mqtt(element, report)


def _read_mqtt_commands(element: etree._Element, report: Report) -> ConsumerSettings:
    from .mqtt import read_mqtt_commands  # it builds on this module

    return read_mqtt_commands(element, report)


READERS: dict[str, Reader] = {"consumer": read_own, "dnp3": _read_dnp3, "mqtt": _read_mqtt,
                              "mqtt_commands": _read_mqtt_commands}
"""How each kind of consumer is read, by the name of its element."""


def read_consumers(
    elements: Iterable[etree._Element], report: Report, faulty: set[etree._Element], wanted: tuple[str, str] | None,
) -> tuple[ConsumerSettings, ...]:
    """The consumers of a file; with `wanted` (name, kind; either may be empty) only those that it names: the others'
    secrets are no business of that process."""
    found: list[ConsumerSettings] = []
    first: dict[str, int] = {}
    for element in elements:
        kind, line = str(element.tag), line_of(element)
        name = element.get("name") or kind
        if name in first:
            report.fault(line, f"consumer {shown(name)} stands also on line {first[name]}; a name of its own for each")
        first.setdefault(name, line)
        if element in faulty or (wanted is not None and not _is_wanted(name, kind, wanted)):
            continue
        found.append(READERS[kind](element, report))
    return tuple(found)


def _is_wanted(name: str, kind: str, wanted: tuple[str, str]) -> bool:
    return (not wanted[0] or name == wanted[0]) and (not wanted[1] or kind == wanted[1])


def read_devices(
    elements: Iterable[etree._Element], report: Report, faulty: set[etree._Element],
) -> tuple[DeviceAttributes, ...]:
    """What the file says of devices: each alias once, each id once."""
    found: list[DeviceAttributes] = []
    aliases: dict[str, int] = {}
    ids: dict[str, int] = {}
    for element in elements:
        if element in faulty:
            continue
        line = line_of(element)
        device = DeviceAttributes(
            alias=element.get("alias", ""), site=element.get("site", ""), devicetype=element.get("devicetype", ""),
            id=element.get("id", ""), line=line)
        if device.alias in aliases:
            report.fault(line, f"device {shown(device.alias)} stands also on line {aliases[device.alias]}; each alias "
                         "once, with all its attributes")
        if device.id and device.id in ids:
            report.fault(line, f"id {shown(device.id)} stands also on line {ids[device.id]}; each device has its own")
        if device.id and set(device.alias) & set("*?["):
            report.fault(line, f"id {shown(device.id)} for a pattern of aliases; an id belongs to one device")
        aliases.setdefault(device.alias, line)
        ids.setdefault(device.id, line)
        found.append(device)
    return tuple(found)
