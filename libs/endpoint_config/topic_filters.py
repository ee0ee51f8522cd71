"""Filters of MQTT subscriptions that have topics in common (MQTT 5.0, clause 4.7).

A broker may deliver a message once for each subscription that matches it (clause 3.3.4), and in MQTT 5 does. Whoever
acts on messages must not subscribe to the same topic twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest


def overlap(one: str, other: str) -> bool:
    """Whether some topic matches both filters.

    >>> overlap("a/+/c", "a/b/#"), overlap("a/#", "a"), overlap("a/+", "a/b/c"), overlap("#", "$SYS/x")
    (True, True, False, False)
    """
    if one.startswith("$") != other.startswith("$") and "$" in (one[:1], other[:1]) and {
            one[:1], other[:1]} & {"+", "#"}:
        return False
    for mine, yours in zip_longest(one.split("/"), other.split("/")):
        if "#" in (mine, yours):
            return True
        if mine is None or yours is None or (mine != yours and "+" not in (mine, yours)):
            return False
    return True


def apart(filters: Iterable[str]) -> tuple[str, ...]:
    """Filters that match whatever these do, and maybe more, no two of them the same topic.

    >>> apart(["field/level", "field/#", "a/+/c", "a/b/+", "x"])
    ('field/#', 'a/+/+', 'x')
    """
    made: list[str] = []
    for one in filters:
        wide = one
        while (found := next((other for other in made if overlap(wide, other)), None)) is not None:
            made.remove(found)
            wide = _over(wide, found)
        made.append(wide)
    return tuple(made)


def _over(one: str, other: str) -> str:
    """The narrowest filter over two that overlap."""
    levels: list[str] = []
    for mine, yours in zip_longest(one.split("/"), other.split("/")):
        if "#" in (mine, yours):
            return "/".join([*levels, "#"])
        levels.append(mine if mine == yours else "+")
    return "/".join(levels)
