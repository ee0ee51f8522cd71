"""Ingest files: from checked XML to MqttSource models."""

from __future__ import annotations

from lxml import etree

from .faults import Report, line_of, shown
from .mqtt_connection import REPEATABLE, node_name, read_connection
from .mqtt_models import MqttPoint, MqttSource, MqttUnit
from .overrides import MQTT_VARIABLES, Overrides
from .values import Entry

_REPEATABLE = frozenset(["topic", "unit", *REPEATABLE])


def read_sources(root: etree._Element, report: Report, faulty: set[etree._Element]) -> tuple[MqttSource, ...]:
    """The sources of a file; environment variables go before it where it has one source alone."""
    elements = [element for element in root.iterchildren("source") if element not in faulty]
    variables = MQTT_VARIABLES if len(elements) == 1 else ()
    sources = [_source(element, report, faulty, variables) for element in elements]
    _distinct([(s.alias, s.line) for s in sources], "source", report)
    _distinct([(u.alias, u.line) for s in sources for u in s.units] + [(s.alias, s.line) for s in sources], "alias",
              report)
    for source in sources:
        _distinct([(u.id, u.line) for u in source.units], "unit", report)
    return tuple(sources)


def _distinct(named: list[tuple[str, int]], what: str, report: Report) -> None:
    first: dict[str, int] = {}
    for name, line in named:
        if first.setdefault(name, line) != line:
            report.fault(line, f"{what} {shown(name)} stands also on line {first[name]}; a name of its own for each")


def _source(element: etree._Element, report: Report, faulty: set[etree._Element],
            variables: tuple[str, ...]) -> MqttSource:
    entry = Entry(element, report, _REPEATABLE)
    alias = element.get("name") or "mqtt"
    overrides = Overrides(entry, variables)
    given = overrides.text("topic", "MQTT_SCADA_TOPICS")
    topics = [(text.strip(), 1, entry.line()) for text in (given or "").split(",") if text.strip()]
    if not given:
        topics = [((child.text or "").strip(), int(child.get("qos") or 1), line_of(child))
                  for child in entry.repeated.get("topic", ())]
    for text, _, line in topics:
        if not is_filter(text):
            report.fault(line, f"topic {shown(text)} is no filter; + stands for a whole level, # for all at the end")
    if not topics:
        entry.fault("", "a source without topic; at least one topic, which may hold + and #")
    return MqttSource(
        alias=alias, connection=read_connection(entry, overrides, f"cpc-{node_name()}-ingest-{alias}"),
        topics=tuple((text, qos) for text, qos, _ in topics),
        units=tuple(_unit(child, report) for child in entry.repeated.get("unit", ()) if child not in faulty),
        max_age=entry.seconds("max_age", 3600.0), max_bytes=entry.integer("max_bytes", 65536), file=report.file,
        line=entry.line())


def is_filter(text: str) -> bool:
    """Whether a text is a topic filter (MQTT 5.0, clause 4.7.1).

    >>> is_filter("a/+/#"), is_filter("a#"), is_filter("#/a")
    (True, False, False)
    """
    levels = text.split("/")
    return bool(text) and "\0" not in text and all(
        level == "+" or (level == "#" and at == len(levels) - 1) or not set(level) & set("+#")
        for at, level in enumerate(levels))


def _unit(element: etree._Element, report: Report) -> MqttUnit:
    name = element.get("id", "")
    points = tuple(_point(child, report) for child in element.iterchildren("point"))
    _distinct([(p.name, p.line) for p in points], "point", report)
    return MqttUnit(id=name, alias=element.get("alias") or name, points=points, line=line_of(element))


def _point(element: etree._Element, report: Report) -> MqttPoint:
    entry = Entry(element, report)
    low, high = entry.limits()
    name = element.get("name", "")
    if name.startswith("$"):
        entry.fault("", f"point {shown(name)} begins with $, as only points of the partition do; another name")
    return MqttPoint(
        name=name, datatype=entry.texts.get("datatype", "float64"), size=entry.integer("size", 64),
        unit=entry.texts.get("unit", ""), minimum=low, maximum=high, description=entry.texts.get("description", ""),
        line=line_of(element))
