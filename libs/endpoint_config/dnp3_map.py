"""dnp3-map.xml: from checked XML to the Dnp3Map model, and back."""

from __future__ import annotations

from decimal import Decimal

from lxml import etree

from .dnp3_models import EVENT_VARIATIONS, POINT_TYPES, STATIC_VARIATIONS, Dnp3Map, Dnp3MapPoint
from .faults import Report, line_of, shown
from .values import Entry

_REPEATABLE = frozenset(["point"])


def read_map(root: etree._Element, report: Report, faulty: set[etree._Element]) -> Dnp3Map:
    """The map of a file. `faulty` holds elements that the schema refused: they are passed over."""
    entry = Entry(root, report, _REPEATABLE)
    points = []
    indexes: dict[tuple[str, int], int] = {}
    for element in entry.repeated.get("point", ()):
        if element in faulty:
            continue
        point = _point(Entry(element, report))
        key = (point.type, point.index if point.index is not None else -1)
        if point.index is not None and key in indexes:
            report.fault(point.line, f"{point.type} {point.index} stands also on line {indexes[key]}; an index of its "
                         "own for each point of a type")
        indexes.setdefault(key, point.line)
        points.append(point)
    automatic = "automatic" not in entry.texts or entry.flag("automatic")
    return Dnp3Map(points=tuple(points), automatic=automatic, system_points=entry.flag("system_points"),
                   file=report.file)


def _point(entry: Entry) -> Dnp3MapPoint:
    kind = entry.texts.get("type", "")
    if kind not in POINT_TYPES and kind != "none":
        kind = ""
    index = entry.integer("index", -1)
    if index >= 0 and kind not in POINT_TYPES:
        entry.fault("index", "an index without a type; say which type it counts in")
    _check_variation(entry, "static_variation", STATIC_VARIATIONS, kind)
    _check_variation(entry, "event_variation", EVENT_VARIATIONS, kind)
    if "frozen_class" in entry.texts and kind != "counter":
        entry.fault("frozen_class", f"frozen_class of {shown(kind)}; only counters are frozen")
    if "command_class" in entry.texts and kind not in ("binary output", "analog output"):
        entry.fault("command_class", f"command_class of {shown(kind)}; only outputs are commanded")
    scale = entry.number("scale")
    if scale == 0:
        entry.fault("scale", "scale 0 makes every value 0; another number")
    cls = entry.integer("class", -1)
    return Dnp3MapPoint(
        name=entry.element.get("name", "").strip(), type=kind, index=index if index >= 0 else None,
        event_class=cls if cls >= 0 else None, static_variation=entry.integer("static_variation", 0) or None,
        event_variation=entry.integer("event_variation", 0) or None, deadband=entry.number("deadband") or 0.0,
        scale=1.0 if scale is None else scale, frozen_class=entry.integer("frozen_class", 0),
        command_class=entry.integer("command_class", 0), line=line_of(entry.element))


def _check_variation(entry: Entry, tag: str, known: dict[int, tuple[int, ...]], kind: str) -> None:
    if tag not in entry.texts:
        return
    variations = known.get(POINT_TYPES.get(kind, 0), ())
    if not variations:
        entry.fault(tag, f"{tag} without a type that has any; say which type it belongs to")
    elif entry.integer(tag, variations[0]) not in variations:
        entry.fault(tag, f"{tag} {entry.texts[tag]} of {kind}; {', '.join(map(str, variations))}")


def map_to_xml(mapping: Dnp3Map) -> bytes:
    """A map file that `load` reads as the same model."""
    root = etree.Element("dnp3-map")
    _add(root, "automatic", "true" if mapping.automatic else "false")
    if mapping.system_points:
        _add(root, "system_points", "true")
    for point in mapping.points:
        element = etree.SubElement(root, "point", name=point.name)
        for tag, value, default in (
                ("type", point.type, ""), ("index", point.index, None), ("class", point.event_class, None),
                ("static_variation", point.static_variation, None), ("event_variation", point.event_variation, None),
                ("deadband", point.deadband, 0.0), ("scale", point.scale, 1.0),
                ("frozen_class", point.frozen_class, 0), ("command_class", point.command_class, 0)):
            if value != default:
                _add(element, tag, format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value))
    etree.indent(root)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n"


def _add(parent: etree._Element, tag: str, text: str) -> None:
    etree.SubElement(parent, tag).text = text
