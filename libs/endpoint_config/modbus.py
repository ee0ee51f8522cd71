"""Modbus endpoint files: from checked XML to ModbusServer models."""

from __future__ import annotations

from dataclasses import replace

from lxml import etree

from .endpoint import EndpointReader, Unit
from .faults import Report, line_of, shown
from .modbus_checks import check_points, same_units
from .modbus_transport import check_unit, line_conflicts, read_place
from .models import ModbusPoint, ModbusServer
from .names import clean_name, field_name, unique_names
from .values import Entry

MOST_POINTS = 1_000_000
"""Points of one file: a quantity multiplies them, and memory is not endless."""


def read_servers(root: etree._Element, report: Report, faulty: set[etree._Element]) -> tuple[ModbusServer, ...]:
    """The servers of a file. `faulty` holds elements that the schema refused: they are passed over."""
    elements = list(root.iterchildren("server"))
    aliases = [clean_name(element.findtext("serveralias")) for element in elements]
    servers: list[ModbusServer] = []
    room = MOST_POINTS
    for element, alias in zip(elements, unique_names(aliases), strict=True):
        server = _server(element, alias, report, faulty, room)
        room -= len(server.points)
        servers.append(server)
        if room <= 0:
            report.fault(server.line, f"over {MOST_POINTS} points in one file; split it into several files")
            break
    for warning in same_units(servers):
        report.warn(warning.line, warning.message)
    for fault in line_conflicts(servers):
        report.fault(fault.line, fault.message)
    _repeated(elements, aliases, servers, report)
    return tuple(servers)


def _repeated(elements: list[etree._Element], aliases: list[str], servers: list[ModbusServer], report: Report) -> None:
    first: dict[str, int] = {}
    for element, alias, server in zip(elements, aliases, servers, strict=False):
        found = element.find("serveralias")
        line = line_of(element if found is None else found)
        if alias in first:
            report.warn(line, f"serveralias {shown(alias)} stands also on line {first[alias]}; this device is called "
                        f"{shown(server.alias)}; a different alias for each")
        first.setdefault(alias, line)


def _server(element: etree._Element, alias: str, report: Report, faulty: set[etree._Element],
            room: int) -> ModbusServer:
    entry = Entry(element, report)
    place = read_place(entry)
    server = ModbusServer(
        alias=alias,
        ipaddr=place.ipaddr,
        port=place.port,
        transport=place.transport,
        serial=place.serial,
        tls=place.tls,
        unit_id=entry.integer("unit_id", 1),
        interval=entry.interval(),
        timeout=entry.seconds("timeout", 1.0),
        retries=entry.integer("retries", 0),
        retry_interval=entry.seconds("retry_interval", 30.0),
        delay=entry.seconds("delay", 0.0),
        max_registers=entry.integer("max_registers", 125),
        max_gap=entry.integer("max_gap", 0),
        in_flight=entry.integer("in_flight", 1),
        accept_any_unit_id=entry.texts.get("accept_unit_id") == "any",
        accept_transaction_zero=entry.flag("accept_transaction_zero"),
        identify=entry.flag("identify"),
        description=entry.texts.get("description", ""),
        file=report.file,
        line=entry.line(),
    )
    _quirks(entry, server)
    check_unit(entry, server)
    readers = _endpoints(element, entry, server, report, faulty)
    return replace(server, points=_points(readers, report, room))


def _quirks(entry: Entry, server: ModbusServer) -> None:
    if server.accept_transaction_zero and server.in_flight > 1:
        entry.fault("accept_transaction_zero", f"accept_transaction_zero with in_flight {server.in_flight}: answers "
                    "can't be told apart; in_flight 1")
    elif server.accept_transaction_zero:
        entry.warn("accept_transaction_zero", "accept_transaction_zero takes any answer with transaction id 0 as the "
                   "awaited one; leave it out where the device answers correctly")
    if server.accept_any_unit_id:
        entry.warn("accept_unit_id", "accept_unit_id any takes answers of other units as this one's; own where the "
                   "device answers correctly")


def _endpoints(element: etree._Element, entry: Entry, server: ModbusServer, report: Report,
               faulty: set[etree._Element]) -> list[EndpointReader]:
    unit = Unit(modicon=entry.texts.get("addressing") == "modicon", max_registers=server.max_registers)
    readers = [EndpointReader(endpoint, report, unit)
               for endpoint in element.iterfind("endpoints/endpoint") if endpoint not in faulty]
    if readers and not unit.modicon and all(30001 <= r.entry.integer("address", 0) <= 49999 for r in readers):
        report.warn(server.line, "all addresses are from 30001 to 49999, which looks like the 40001 notation of "
                    "manuals; zero-based protocol addresses, or <addressing>modicon</addressing>")
    return readers


def _points(readers: list[EndpointReader], report: Report, room: int) -> tuple[ModbusPoint, ...]:
    given = [field_name(reader.entry.texts.get("name")) for reader in readers]
    names = unique_names(given)
    if names != given:
        _same_names(readers, given, names, report)
    points: list[ModbusPoint] = []
    for reader, name in zip(readers, names, strict=True):
        points.extend(reader.points(name))
        if len(points) > room:
            break
    expanded = unique_names([point.name for point in points])
    for index, name in enumerate(expanded):
        if name != points[index].name:
            report.warn(points[index].line, f"name {shown(points[index].name)} stands also as an endpoint's name; this "
                        f"point is called {shown(name)}; a different name for each")
            points[index] = replace(points[index], name=name)
    check_points(points, report)
    return tuple(points)


def _same_names(readers: list[EndpointReader], given: list[str], names: list[str], report: Report) -> None:
    first: dict[str, int] = {}
    for reader, name, unique in zip(readers, given, names, strict=True):
        line = reader.entry.line("name")
        if name in first:
            report.warn(line, f"name {shown(name)} stands also on line {first[name]}; this point is called "
                        f"{shown(unique)}; a different name for each")
        first.setdefault(name, line)
