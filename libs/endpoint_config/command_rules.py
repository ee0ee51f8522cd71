"""command-rules.xml: from checked XML to the models, and held against the points that it speaks of."""

from __future__ import annotations

import fnmatch
import pwd
from collections.abc import Iterable, Mapping, Sequence

from lxml import etree

from .faults import Report, line_of
from .groups import group_of
from .models import Fault, ModbusPoint, ModbusServer, OpcUaServer
from .opcua_points import OpcUaPoint
from .rule_models import CommandRule, CommandRules, CommandSettings, Condition, Issuer, Rate
from .values import Entry

CONDITIONS = ("interlock", "personnel", "operation_mode", "availability")
_REPEATABLE = frozenset(["rule", "issuer", "point", "allowed", "rate", *CONDITIONS])


def read_rules(root: etree._Element, report: Report, faulty: set[etree._Element]) -> CommandRules:
    """The rules of a file; elements that the schema refused are passed over."""
    rules: list[CommandRule] = []
    first: dict[str, int] = {}
    for element in Entry(root, report, _REPEATABLE).repeated.get("rule", ()):
        if element in faulty:
            continue
        rule = _rule(Entry(element, report, _REPEATABLE), faulty)
        if rule.name in first:
            report.fault(rule.line, f"rule {rule.name} stands also on line {first[rule.name]}; each name once")
        first.setdefault(rule.name, rule.line)
        rules.append(rule)
    return CommandRules(rules=tuple(rules), file=report.file)


def read_settings(element: etree._Element, report: Report, *, need_file: bool) -> CommandSettings | None:
    """`<commands>` of a partition file; None where it names no rules, which is a fault."""
    entry = Entry(element, report)
    rules = entry.path("rules")
    if rules is None:
        entry.fault("", "no rules in commands; the file of command rules")
        return None
    if need_file and not rules.is_file():
        entry.fault("rules", f"file {rules} is not there; the path of a file of command rules, relative to this file")
    return CommandSettings(rules=rules, audit=entry.path("audit"), directory=entry.path("directory"),
                           group=group_of(entry), line=entry.line())


def _rule(entry: Entry, faulty: set[etree._Element]) -> CommandRule:
    for tag, what in (("issuer", "who may ask"), ("point", "what may be changed")):
        if not entry.repeated.get(tag):
            entry.fault("", f"no {tag} in this rule; at least one {tag}: {what}")
    low, high = entry.limits()
    conditions = [_condition(e) for kind in CONDITIONS for e in entry.repeated.get(kind, ()) if e not in faulty]
    return CommandRule(
        name=entry.element.get("name", ""), allow=entry.texts.get("effect", "allow") == "allow",
        issuers=tuple(_issuer(e, entry.report) for e in entry.repeated.get("issuer", ()) if e not in faulty),
        points=tuple((e.text or "").strip() for e in entry.repeated.get("point", ())),
        type=entry.texts.get("type", ""), minimum=low, maximum=high, step=entry.number("step"),
        allowed=tuple((e.text or "").strip() for e in entry.repeated.get("allowed", ())),
        rates=tuple(_rate(e) for e in entry.repeated.get("rate", ()) if e not in faulty),
        conditions=tuple(sorted(conditions, key=lambda c: c.line)),
        select_required=entry.texts.get("select") == "required", verify=entry.texts.get("verify", "optional"),
        tolerance=entry.number("tolerance") or 0.0, deadline=entry.seconds("deadline", 5.0),
        expires=entry.seconds("expires", 30.0), description=entry.texts.get("description", ""), line=entry.line(),
    )


def _issuer(element: etree._Element, report: Report) -> Issuer:
    user = element.get("user", "")
    if user != "*" and not user.isdecimal():
        try:
            pwd.getpwnam(user)
        except KeyError:
            report.warn(line_of(element), f"user {user} is not known on this machine; the name or number of a user, "
                        "or *")
    return Issuer(user=user, name=element.get("name", "*"))


def _rate(element: etree._Element) -> Rate:
    return Rate(count=int(element.get("count", "1")), seconds=float(element.get("seconds", "1")))


def _condition(element: etree._Element) -> Condition:
    age = element.get("max_age")
    return Condition(
        kind=str(element.tag), point=(element.get("point") or "").strip(), operator=element.get("operator", "eq"),
        value=(element.get("value") or "").strip(), uncertain=element.get("quality") == "uncertain",
        max_age=None if age is None else float(age), line=line_of(element),
    )


def check_rules(
    rules: CommandRules, modbus: Sequence[ModbusServer] = (), opcua: Sequence[OpcUaServer] = ()
) -> tuple[tuple[Fault, ...], tuple[Fault, ...]]:
    """Faults and warnings of rules beside the endpoint files of the same partition.

    A condition on a point that nobody acquires can never hold, so it is a fault; a pattern that matches no writable
    point, or a range beyond the point's own, is a warning.
    """
    report = Report(rules.file)
    writable: dict[str, tuple[float | None, float | None]] = {}
    known: set[str] = set()
    every: list[tuple[str, ModbusPoint | OpcUaPoint, bool]] = [
        (s.alias, p, p.writable) for s in modbus for p in s.points
    ]
    every += [(s.alias, p, n.writable) for s in opcua for n in s.nodes for p in n.points]
    for alias, point, takes_values in every:
        known.add(f"{alias}/{point.name}")
        if takes_values:
            writable[f"{alias}/{point.name}"] = point.minimum, point.maximum
    aliases = {s.alias for s in modbus} | {s.alias for s in opcua}
    for rule in rules.rules:
        _check_conditions(rule, known, aliases, report)
        if rule.allow:
            _check_points(rule, known, writable, report)
    return report.faults, report.warnings


def _check_conditions(rule: CommandRule, known: set[str], aliases: set[str], report: Report) -> None:
    for condition in rule.conditions:
        device, _, name = condition.point.rpartition("/")
        if condition.point not in known and not (name.startswith("$") and device in aliases):
            report.fault(condition.line, f"{condition.kind} {condition.point}: no such point in the endpoint files, so "
                         "the rule could never allow anything; a full name, alias/name")


def _check_points(
    rule: CommandRule, known: set[str], writable: Mapping[str, tuple[float | None, float | None]], report: Report
) -> None:
    for pattern in rule.points:
        chosen = [name for name in writable if fnmatch.fnmatchcase(name, pattern)]
        if not chosen:
            text = "points, none of them writable" if _any(known, pattern) else "no point"
            report.warn(rule.line, f"rule {rule.name}: {pattern} matches {text}; the full name of a writable point")
        for name in chosen:
            low, high = writable[name]
            if (rule.minimum is not None and low is not None and rule.minimum < low) or (
                    rule.maximum is not None and high is not None and rule.maximum > high):
                report.warn(rule.line, f"rule {rule.name}: its range goes beyond that of {name}, which its client "
                            "refuses; a range within the point's own")


def _any(names: Iterable[str], pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)
