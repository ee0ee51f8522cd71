"""Orders to simulated devices, as people write them and as JSON: one grammar for files, sockets and tests.

    fault KIND [device=Pump* functions=3,4 addresses=0-99 seconds=10 ...]    have something go wrong
    clear [NUMBER]                                                          end it, or end all
    faults                                                                  what goes wrong now
    set POINT VALUE                                                         have a point hold a value
    move POINT MOVEMENT                                                     have it move: sine 10 20 60, auto, ...
    values [POINT]                                                          what a client reads now
    devices                                                                 who listens where
    log [since=N] [device=NAME] [operation=write]                           what was asked
    help                                                                    kinds and movements

POINT is a pattern of full names (`Pump/*`). As JSON an order is an object: {"order": "fault", "kind": "delay",
"device": "Pump*", "by": 2}.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cpc.simulators.faults import OrderError, fault_from, scalar
from cpc.simulators.movements import parse_movement

VERBS = ("fault", "clear", "faults", "set", "move", "values", "devices", "log", "help")
_POSITIONS: Mapping[str, tuple[str, ...]] = {
    "fault": ("kind",), "clear": ("number",), "set": ("point", "value"), "move": ("point", "as"),
    "values": ("point",), "log": ("since",),
}
"""What the words without `=` mean, in order; further ones belong to the last."""


@dataclass(frozen=True, slots=True)
class Order:
    """One order."""

    verb: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """A setting that is a word; OrderError where it is missing and there is no default."""
        value = self.settings.get(name, default)
        if value == "" and not default:
            raise OrderError(f"{self.verb} without {name}; {usage(self.verb)}")
        return str(value)


def parse_order(given: str | Mapping[str, Any]) -> Order:
    """An order as text, as JSON text or as an object; OrderError says what is allowed."""
    if isinstance(given, str):
        if given.lstrip().startswith("{"):
            try:
                given = json.loads(given)
            except ValueError as error:
                raise OrderError(f"no JSON: {error}; one object a line") from error
        else:
            return _from_words(given)
    assert isinstance(given, Mapping)
    settings = dict(given)
    verb = str(settings.pop("order", ""))
    return _known(Order(verb, settings))


def usage(verb: str) -> str:
    """The line of the grammar above."""
    return next(line.strip().partition("  ")[0] for line in (__doc__ or "").splitlines()
                if line.strip().startswith(verb))


def _from_words(text: str) -> Order:
    try:
        verb, *words = shlex.split(text) or [""]
    except ValueError as error:
        raise OrderError(f"{text!r}: {error}; quotes stand in pairs") from error
    settings: dict[str, Any] = {}
    names = list(_POSITIONS.get(verb, ()))
    last = ""
    for word in words:
        key, equals, value = word.partition("=")
        if verb not in ("set", "move") and equals and key.isidentifier():
            settings[key] = scalar(value) if "," not in value and "-" not in value else value
        elif names:
            last = names.pop(0)
            settings[last] = word
        elif last in ("value", "as"):
            settings[last] += f" {word}"
        else:
            raise OrderError(f"{verb}: {word!r} is too much; {usage(verb) if verb in VERBS else ', '.join(VERBS)}")
    return _known(Order(verb, settings))


def _known(order: Order) -> Order:
    if order.verb not in VERBS:
        raise OrderError(f"no order {order.verb!r}; {', '.join(VERBS)}")
    return order


def read_orders(text: str, where: Callable[[int], str]) -> list[Order]:
    """The orders of a file, one a line; blank lines and `#` are left out. `where(line)` names the place of a fault."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found.append(order := parse_order(line))
                if order.verb == "fault":
                    fault_from(order.settings)
                elif order.verb == "move" and order.text("as") != "auto":
                    parse_movement(order.text("as"))
            except OrderError as error:
                raise OrderError(f"{where(number)}: {error}") from error
    return found
