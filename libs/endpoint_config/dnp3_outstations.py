"""dnp3-endpoints.xml: from checked XML to models, and back."""

from __future__ import annotations

from collections.abc import Sequence

from lxml import etree

from .dnp3_models import Dnp3Outstation, Dnp3Point
from .faults import Report, line_of, shown
from .values import Entry

_REPEATABLE = frozenset(["outstation", "point"])


def read_outstations(root: etree._Element, report: Report, faulty: set[etree._Element]) -> tuple[Dnp3Outstation, ...]:
    """The outstations of a file. `faulty` holds elements that the schema refused: they are passed over."""
    found = []
    aliases: dict[str, int] = {}
    for element in root:
        if element in faulty:
            continue
        entry = Entry(element, report, _REPEATABLE)
        alias, line = element.get("alias", ""), line_of(element)
        if alias in aliases:
            report.fault(line, f"outstation {shown(alias)} stands also on line {aliases[alias]}; each alias once")
        aliases.setdefault(alias, line)
        found.append(Dnp3Outstation(
            alias=alias, host=entry.expanded("host") or "127.0.0.1", port=entry.integer("port", 20000),
            address=entry.integer("address", 10), master=entry.integer("master", 1),
            timeout=entry.seconds("timeout", 5.0), interval=entry.interval(),
            integrity_interval=entry.seconds("integrity_interval", 3600.0),
            unsolicited="unsolicited" not in entry.texts or entry.flag("unsolicited"),
            points=_points(entry, faulty), file=report.file, line=line))
    return tuple(found)


def _points(entry: Entry, faulty: set[etree._Element]) -> tuple[Dnp3Point, ...]:
    points: list[Dnp3Point] = []
    names: dict[str, int] = {}
    for element in entry.repeated.get("point", ()):
        if element in faulty:
            continue
        name, line = element.get("name", ""), line_of(element)
        if name.startswith("$"):
            name = f"${name}"
        if name in names:
            entry.report.fault(line, f"point {shown(name)} stands also on line {names[name]}; each name once")
        names.setdefault(name, line)
        points.append(Dnp3Point(
            name=name, type=element.get("type", ""), index=int(element.get("index", "0")),
            unit=element.get("unit", ""), description=element.get("description", ""), line=line))
    if not points:
        entry.fault("", f"no point in outstation {shown(entry.element.get('alias'))}; at least one")
    return tuple(points)


def outstations_to_xml(outstations: Sequence[Dnp3Outstation]) -> bytes:
    """A file that `load` reads as the same models."""
    root = etree.Element("dnp3-outstations")
    for one in outstations:
        element = etree.SubElement(root, "outstation", alias=one.alias)
        usual = Dnp3Outstation(alias=one.alias)
        for tag in ("host", "port", "address", "master", "timeout", "interval", "integrity_interval"):
            if getattr(one, tag) != getattr(usual, tag):
                etree.SubElement(element, tag).text = str(getattr(one, tag))
        if not one.unsolicited:
            etree.SubElement(element, "unsolicited").text = "false"
        for point in one.points:
            name = point.name[1:] if point.name.startswith("$$") else point.name
            made = etree.SubElement(element, "point", name=name,
                             type=point.type, index=str(point.index))
            for key, value in (("unit", point.unit), ("description", point.description)):
                if value:
                    made.set(key, value)
    etree.indent(root)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n"
