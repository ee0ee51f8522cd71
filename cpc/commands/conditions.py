"""Conditions of rules: what other points must say while a command is decided, and again when it is sent."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from command_channel import Value
from endpoint_config import CommandRule, Condition
from process_image import Point
from process_image.quality import is_bad, is_uncertain, quality_name

from cpc.commands.values import like, same, shown

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Present:
    """What a point says now."""

    value: Value | None
    quality: int
    """As a reader should see it: stale is Uncertain."""
    age: float
    """Seconds since it was published."""
    received: float = 0.0
    """When the answer that carried it came, seconds since the Unix epoch."""


class View(Protocol):
    """The points of the partition, read-only."""

    def point(self, name: str) -> Point | None:
        """A point's description, None where nobody acquires it."""

    def present(self, name: str) -> Present | None:
        """What it says now, None where nothing can be read."""


def unmet(rule: CommandRule, view: View) -> str:
    """The first condition of a rule that does not hold, and why; empty where all do."""
    for condition in rule.conditions:
        fault = _fault(condition, view.present(condition.point))
        if fault:
            return f"{condition.kind} {condition}: {fault}"
    return ""


def _fault(condition: Condition, present: Present | None) -> str:
    """Why a condition does not hold; what is not known does not hold."""
    if present is None:
        return "the point can't be read"
    if is_bad(present.quality) or (is_uncertain(present.quality) and not condition.uncertain):
        return f"its quality is {quality_name(present.quality)}"
    if condition.max_age is not None and present.age > condition.max_age:
        return f"its value is {present.age:.1f} s old"
    if present.value is None:
        return "it has no value"
    return "" if _holds(condition, present.value) else f"it is {shown(present.value)}"


def _holds(condition: Condition, value: Value) -> bool:
    if condition.operator == "in":
        return any(same(value, word) for word in condition.value.split())
    wanted = like(value, condition.value)
    return wanted is not None and _COMPARE[condition.operator](value, wanted)
