"""The `mqtt` element of partition.xml: from checked XML to MqttSettings."""

from __future__ import annotations

import re

from lxml import etree

from .consumers import common
from .faults import Report, line_of, shown
from .mqtt_connection import REPEATABLE, node_name, read_connection
from .mqtt_models import MqttAggregate, MqttCommands, MqttForward, MqttRule, MqttSettings, MqttStore
from .overrides import MQTT_VARIABLES, Overrides, given
from .topic_filters import overlap
from .values import Entry

_REPEATABLE = frozenset(["segment", "rule", "aggregate", *REPEATABLE])
_PATTERNS = frozenset(["include", "exclude"])
QOS = {"telemetry": 0, "status": 1, "billing": 2}
"""Default QoS by the kind of a rule."""
PLACES = ("id", "point", "device", "site", "devicetype", "node", "name")
"""What a topic template may hold in braces."""
_BRACES = re.compile(r"\{([^{}]*)\}")


def read_mqtt(element: etree._Element, report: Report) -> MqttSettings:
    """The settings of a publisher; environment variables go before the file where it has one publisher alone."""
    entry = Entry(element, report, _REPEATABLE)
    kind, name, user, segments, line = common(entry)
    overrides = Overrides(entry, _variables(entry))
    for tag in ("node", "topic", "compact_topic", "status_topic", "heartbeat_topic", "heartbeat", "window", "store"):
        overrides.note(tag)
    node = entry.expanded("node") or node_name()
    rules = tuple(_rule(Entry(child, report, _PATTERNS)) for child in entry.repeated.get("rule", ()))
    return MqttSettings(
        kind=kind, name=name, user=user, segments=segments, line=line,
        connection=read_connection(entry, overrides, f"cpc-{node}-{name}"), node=node,
        topic=_template(entry, "topic", MqttSettings.topic),
        compact_topic=_template(entry, "compact_topic", MqttSettings.compact_topic),
        status_topic=_template(entry, "status_topic", MqttSettings.status_topic),
        heartbeat_topic=_template(entry, "heartbeat_topic", MqttSettings.heartbeat_topic, ("node", "name")),
        heartbeat=entry.seconds("heartbeat", MqttSettings.heartbeat),
        window=entry.integer("window", MqttSettings.window),
        rules=rules or (MqttRule(),),
        aggregates=tuple(_aggregate(Entry(child, report, _PATTERNS)) for child in entry.repeated.get("aggregate", ())),
        store=_store(entry), origins=tuple(overrides.origins.items()))


def read_mqtt_commands(element: etree._Element, report: Report) -> MqttCommands:
    """The settings of the way for commands; environment variables as for a publisher."""
    entry = Entry(element, report, frozenset(["segment", "forward", *REPEATABLE]))
    kind, name, user, segments, line = common(entry)
    overrides = Overrides(entry, _variables(entry))
    for tag in ("node", "set_topic"):
        overrides.note(tag)
    node = entry.expanded("node") or node_name()
    parent = element.getparent()
    if parent is not None and parent.find("commands") is None:
        entry.warn("", "there is no <commands> in this partition; every command will fail until a gate runs")
    set_topic = _template(entry, "set_topic", MqttCommands.set_topic)
    if "{point}" not in set_topic:
        entry.fault("set_topic", f"set_topic {shown(set_topic)} names no {{point}}; with {{id}} and {{point}}")
    made = MqttCommands(
        kind=kind, name=name, user=user, segments=segments, line=line, node=node, set_topic=set_topic,
        connection=read_connection(entry, overrides, f"cpc-{node}-{name}"),
        forwards=tuple(MqttForward(topic=child.get("topic", ""), point=child.get("point", ""),
                                   key=child.get("key", "value"), line=line_of(child))
                       for child in entry.repeated.get("forward", ())),
        origins=tuple(overrides.origins.items()))
    for forward in made.forwards:
        if overlap(forward.topic, made.set_filter):
            report.fault(forward.line, f"topic {shown(forward.topic)} of a forward takes commands of set_topic too, so "
                         f"one message would be both; a topic apart from {made.set_filter}")
    return made


def _variables(entry: Entry) -> tuple[str, ...]:
    """The variables that override: none where there are several publishers, for nobody could tell which is meant."""
    parent = entry.element.getparent()
    if parent is None or len(parent.findall("mqtt")) < 2:
        return MQTT_VARIABLES
    if given(MQTT_VARIABLES):
        entry.warn("", f"environment variables {', '.join(given(MQTT_VARIABLES))} are not applied where there are "
                   "several mqtt elements; ${VARIABLE} in the elements")
    return ()


def _template(entry: Entry, tag: str, default: str, places: tuple[str, ...] = PLACES) -> str:
    text = entry.texts.get(tag) or default
    unknown = [place for place in _BRACES.findall(text) if place not in places]
    if unknown:
        entry.fault(tag, f"{tag} {shown(text)}: {{{unknown[0]}}} is not known; "
                    + ", ".join(f"{{{place}}}" for place in places))
    elif re.search(r"[+#\0{}]", _BRACES.sub("", text)) or text.startswith("$"):
        entry.fault(tag, f"{tag} {shown(text)} is no topic; a topic without + and #, with names in braces, not "
                    "beginning with $")
    return text


def _patterns(entry: Entry, tag: str) -> tuple[str, ...]:
    return tuple((child.text or "").strip() for child in entry.repeated.get(tag, ()))


def _rule(entry: Entry) -> MqttRule:
    kind = entry.element.get("kind", "telemetry")
    rule = MqttRule(
        kind=kind, include=_patterns(entry, "include"), exclude=_patterns(entry, "exclude"),
        topic=_template(entry, "topic", "") if entry.texts.get("topic") else "",
        qos=entry.integer("qos", QOS.get(kind, 0)), retain=entry.flag("retain"),
        deadband=entry.seconds("deadband", 0.0), deadband_percent=entry.seconds("deadband_percent", 0.0),
        maximum_silence=entry.seconds("maximum_silence", 0.0), every=entry.seconds("every", 0.0),
        format=entry.texts.get("format", "json"), store=entry.texts.get("store", "true") in ("true", "1"),
        line=line_of(entry.element))
    if rule.every and (rule.deadband or rule.deadband_percent or rule.maximum_silence):
        entry.fault("every", "every beside a deadband or maximum_silence; every alone sends snapshots, the others "
                    "changes")
    if rule.format == "compact" and "{point}" in rule.topic:
        entry.fault("topic", "a topic with {point} for messages that carry all points of a device; without {point}")
    if rule.retain and rule.kind != "status":
        entry.warn("retain", "the broker keeps each point's last value and gives it to whoever subscribes, however old "
                   "it is; leave retain out for telemetry")
    return rule


def _aggregate(entry: Entry) -> MqttAggregate:
    aggregate = MqttAggregate(
        topic=_template(entry, "topic", ""), name=entry.texts.get("name", ""),
        function=entry.texts.get("function", "sum"), include=_patterns(entry, "include"),
        exclude=_patterns(entry, "exclude"), interval=entry.seconds("interval", 60.0),
        unit=entry.texts.get("unit", ""), qos=entry.integer("qos", 0), line=line_of(entry.element))
    for tag in ("topic", "name"):
        if not entry.texts.get(tag):
            entry.fault("", f"an aggregate without {tag}; topic and name")
    for place in ("{id}", "{point}", "{device}"):
        if place in aggregate.topic:
            entry.fault("topic", f"topic {shown(aggregate.topic)} of an aggregate holds {place}; {{site}}, "
                        "{devicetype}, {node} and {name}")
    return aggregate


def _store(entry: Entry) -> MqttStore:
    element = entry.element.find("store")
    if element is None:
        return MqttStore()
    inner = Entry(element, entry.report)
    return MqttStore(
        megabytes=inner.seconds("megabytes", MqttStore.megabytes), hours=inner.seconds("hours", MqttStore.hours),
        drain_rate=inner.seconds("drain_rate", MqttStore.drain_rate), order=inner.texts.get("order", "strict"))
