"""Whether values of OPC UA nodes are asked for or sent by the server, and how: model, reading, checks, writing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .values import Entry

DEFAULT_QUEUE = 10
"""Values that a server keeps for a node between two notifications; with one alone it would drop the others silently."""
_NO_NUMBER = frozenset(["boolean", "bool", "string", "bytestring", "datetime", "guid", "localizedtext", "nodeid",
                        "qualifiedname", "xmlelement", "expandednodeid", "utctime", "date"])


class Mode(StrEnum):
    """How values come from a server."""

    POLL = "poll"
    """They are read at each interval."""
    SUBSCRIBE = "subscribe"
    """The server samples them and sends what changed (OPC UA Part 4, clauses 5.12 and 5.13)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadband:
    """Least change that is sent (OPC UA Part 4, clause 7.22.2)."""

    value: float
    percent: bool = False
    """Of the node's EURange, else in its own unit."""

    def __str__(self) -> str:
        """As a file has it."""
        text = f"{self.value:.17g}" if float(f"{self.value:g}") != self.value else f"{self.value:g}"
        return f"{text}%" if self.percent else text


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscribing:
    """What an element says; None = what the element around it says, or the default."""

    mode: Mode | None = None
    """Default poll."""
    sampling_interval: float | None = None
    """Seconds from sample to sample; 0 = as fast as the server can. Default: the publishing interval."""
    publishing_interval: float | None = None
    """Seconds from notification to notification; default: `interval`."""
    queue_size: int | None = None
    """Values of a node that the server keeps between two notifications; default 10."""
    deadband: Deadband | None = None
    """Default: every change."""

    def within(self, outer: Subscribing) -> Subscribing:
        """What holds here, where `outer` is said further out."""
        return replace(outer, **dict(self._given()))

    def _given(self) -> Iterator[tuple[str, Any]]:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                yield field.name, value

    def elements(self) -> Iterator[tuple[str, str]]:
        """Names and texts of the elements that say this."""
        for name, value in self._given():
            yield name, _decimal(value) if isinstance(value, float) else str(value)


NOTHING_SAID = Subscribing()


def _decimal(value: float) -> str:
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def read_subscribing(entry: Entry) -> Subscribing:
    """What the children of an element say."""
    texts = entry.texts
    mode = texts.get("mode")
    return Subscribing(
        mode=Mode(mode) if mode in list(Mode) else None,
        sampling_interval=entry.interval("sampling_interval"),
        publishing_interval=entry.interval("publishing_interval"),
        queue_size=entry.integer("queue_size", 0) or None,
        deadband=_deadband(entry),
    )


def _deadband(entry: Entry) -> Deadband | None:
    text = entry.texts.get("deadband")
    if text is None:
        return None
    try:
        value = float(text.rstrip("% "))
    except ValueError:
        return None
    percent = text.endswith("%")
    if percent and value > 100:
        entry.fault("deadband", f"deadband {text} is over the whole range; 0% to 100%")
        return None
    if not math.isfinite(value):
        entry.fault("deadband", f"deadband {text} is too large; numbers to 1.79e308")
        return None
    return Deadband(value=value, percent=percent)


def check_subscribing(entry: Entry, own: Subscribing, outer: Subscribing, datatype: str) -> None:
    """What a node says of its subscription and can't mean."""
    whole = own.within(outer)
    if whole.mode is not Mode.SUBSCRIBE:
        for name, _ in own.elements():
            if name != "mode":
                entry.warn(name, f"{name} means nothing for a node that is polled; mode subscribe, or leave it out")
    if own.deadband is not None and datatype.strip().rpartition(":")[2].lower() in _NO_NUMBER:
        entry.fault("deadband", f"deadband does not fit datatype {datatype}; a number, or leave it out")
