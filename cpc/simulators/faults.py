"""Faults to order: what a simulated device does wrong, to which requests, and for how long.

A fault is chosen by its kind and narrowed by device, unit, function, addresses or points. Faults may be ordered and
cleared while clients talk to the device.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

Setting = bool | int | float | str


class OrderError(ValueError):
    """An order that can't be carried out: what is wrong; what is allowed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One kind of fault."""

    text: str
    """What the device then does."""
    settings: Mapping[str, Setting | None] = field(default_factory=dict)
    """Settings of its own with their defaults; None = none given."""
    protocols: Sequence[str] = ("modbus",)


_BOTH = ("modbus", "opcua")
KINDS: Mapping[str, Kind] = {
    "silence": Kind(text="the request is neither carried out nor answered"),
    "lost": Kind(text="the request is carried out and never answered"),
    "delay": Kind(text="the answer comes `by` seconds late, up to `jitter` more", settings={"by": 1.0, "jitter": 0.0},
                  protocols=_BOTH),
    "exception": Kind(text="the request is refused with this exception code", settings={"code": 4}),
    "garbage": Kind(text="`bytes` random bytes come in place of the answer", settings={"bytes": 12}),
    "wrong_unit": Kind(text="the answer carries the unit id plus `by`", settings={"by": 1}),
    "wrong_transaction": Kind(text="the answer carries the transaction id plus `by`", settings={"by": 1}),
    "wrong_function": Kind(text="the answer carries the function code plus `by`", settings={"by": 1}),
    "wrong_count": Kind(text="the answer's byte count is wrong `by` so many bytes", settings={"by": 2}),
    "short": Kind(text="`by` bytes of data are missing, header and byte count fit", settings={"by": 2}),
    "half": Kind(text="only the first `bytes` of the answer come (0 = its half), then nothing", settings={"bytes": 0}),
    "trickle": Kind(text="the answer comes byte by byte, `pause` seconds apart", settings={"pause": 0.05}),
    "twice": Kind(text="the answer comes twice"),
    "echo": Kind(text="the request comes back before the answer, as on a line that echoes"),
    "bad_checksum": Kind(text="the checksum of a serial frame is wrong"),
    "disconnect": Kind(text="the connection ends in place of the answer; `how` is close or reset",
                       settings={"how": "close"}),
    "refuse": Kind(text="the device does not listen, connections are reset: its cable is out"),
    "freeze": Kind(text="its values stand still", protocols=_BOTH),
    "ignore_writes": Kind(text="writes are confirmed and change nothing", protocols=_BOTH),
    "clamp_writes": Kind(text="what is written is kept within `low` and `high`, where not given within the point's "
                              "minimum and maximum", settings={"low": None, "high": None}, protocols=_BOTH),
    "alter_writes": Kind(text="what is written becomes that times `factor` plus `add`; bits are turned over",
                         settings={"factor": 1.0, "add": 1.0}, protocols=_BOTH),
    "refuse_writes": Kind(text="writes are refused with this status", settings={"code": "BadUserAccessDenied"},
                          protocols=("opcua",)),
    "stop": Kind(text="the server is not there", protocols=("opcua",)),
    "hang": Kind(text="the server takes connections and requests, and answers nothing", protocols=("opcua",)),
    "bad_status": Kind(text="nodes have this status", settings={"code": "BadDeviceFailure"}, protocols=("opcua",)),
    "new_certificate": Kind(text="the server comes back with another certificate", protocols=("opcua",)),
    "shuffle_namespaces": Kind(text="the server comes back with another order of its namespaces",
                               protocols=("opcua",)),
    "drop_sessions": Kind(text="the server comes back and knows no session or subscription", protocols=("opcua",)),
    "remove_nodes": Kind(text="nodes are not there", protocols=("opcua",)),
    "change_type": Kind(text="nodes have another data type", settings={"type": "String"}, protocols=("opcua",)),
}
"""Every kind there is."""
TAMPERING = frozenset(["ignore_writes", "clamp_writes", "alter_writes"])
"""What is done to writes."""
STATES = frozenset(["refuse", "freeze", "stop", "hang", "bad_status", "new_certificate", "shuffle_namespaces",
                    "drop_sessions", "remove_nodes", "change_type"])
"""What a device is, and not what it does to one request."""
WRITE_FUNCTIONS = frozenset([5, 6, 15, 16, 22, 23])


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One order: everything that is not narrowed is meant."""

    kind: str
    devices: tuple[str, ...] = ()
    """Patterns (fnmatch) of aliases."""
    units: frozenset[int] = frozenset()
    functions: frozenset[int] = frozenset()
    """Modbus function codes."""
    addresses: tuple[tuple[int, int], ...] = ()
    """First and last, both meant; a request is hit that touches one of them."""
    points: tuple[str, ...] = ()
    """Patterns of the names of points or nodes within the device."""
    share: float = 1.0
    """Part of the requests that are hit, by chance, 0 to 1."""
    skip: int = 0
    """Requests that go well before the first is hit."""
    count: int | None = None
    """Requests that are hit before it ends by itself."""
    seconds: float | None = None
    """Time after which it ends by itself."""
    settings: Mapping[str, Setting | None] = field(default_factory=dict)

    def number(self, name: str) -> float:
        """A setting that is a number; OrderError for something else."""
        value = self.settings.get(name, KINDS[self.kind].settings[name])
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise OrderError(f"{self.kind}: {name}={value}; a number")
        return value

    def limit(self, name: str) -> float | None:
        """A number that need not be given."""
        return None if self.settings.get(name) is None else self.number(name)

    def text(self, name: str) -> str:
        """A setting that is a word."""
        return str(self.settings.get(name, KINDS[self.kind].settings[name]))

    def means(self, alias: str) -> bool:
        """Whether a device is meant."""
        return not self.devices or any(fnmatchcase(alias, pattern) for pattern in self.devices)

    def means_point(self, name: str) -> bool:
        """Whether a point of a device is meant."""
        return not self.points or any(fnmatchcase(name, pattern) for pattern in self.points)

    def touches(self, unit: int, function: int, address: int, count: int) -> bool:
        """Whether a Modbus request is meant; one without an address only where no addresses are named."""
        if (self.units and unit not in self.units) or (self.functions and function not in self.functions):
            return False
        if not self.addresses:
            return True
        last = address + max(count, 1) - 1
        return address >= 0 and any(first <= last and address <= end for first, end in self.addresses)

    def describe(self) -> dict[str, Setting | list[str] | None]:
        """What `faults` shows: everything that was given."""
        shown: dict[str, Setting | list[str] | None] = {"kind": self.kind}
        shown |= {name: list(given) for name in ("devices", "points") if (given := getattr(self, name))}
        shown |= {name: [str(x) for x in sorted(given)] for name in ("units", "functions")
                  if (given := getattr(self, name))}
        if self.addresses:
            shown["addresses"] = [f"{first}-{last}" for first, last in self.addresses]
        shown |= {name: value for name in ("share", "skip", "count", "seconds")
                  if (value := getattr(self, name)) not in (None, 1.0, 0)}
        return shown | dict(self.settings)


@dataclass(slots=True)
class _Standing:
    """A fault that holds."""

    number: int
    fault: Fault
    until: float
    skip: int
    left: float
    hits: int = 0


class FaultList:
    """The faults that hold now; cheap to ask while there are none. Used from one event loop alone."""

    def __init__(self, seed: int = 0) -> None:
        """`seed` decides what `share` hits."""
        self._standing: list[_Standing] = []
        self._next = 1
        self.random = random.Random(seed)  # noqa: S311 - chance, not secrets

    def __bool__(self) -> bool:
        return bool(self._standing)

    def add(self, fault: Fault) -> int:
        """Have it hold from now on; returns the number by which it is cleared."""
        if fault.kind not in KINDS:
            raise OrderError(f"no fault {fault.kind!r}; {', '.join(KINDS)}")
        number = self._next
        self._next += 1
        until = float("inf") if fault.seconds is None else time.monotonic() + fault.seconds
        left = float("inf") if fault.count is None else fault.count
        self._standing.append(_Standing(number, fault, until, fault.skip, left))
        return number

    def clear(self, number: int | None = None) -> list[Fault]:
        """End one, or all; returns those that ended. OrderError for a number that is not there."""
        gone = [s.fault for s in self._standing if number in (None, s.number)]
        if number is not None and not gone:
            raise OrderError(f"no fault has number {number}; `faults` shows those that hold")
        self._standing = [s for s in self._standing if number not in (None, s.number)]
        return gone

    def hits(self, aliases: Sequence[str], unit: int, function: int, address: int, count: int) -> list[Fault]:
        """Those that a Modbus request to a unit meets, in the order of the orders; each is used up by one.

        Faults of writes are met by writes alone, and those that are states of a device by no request.
        """
        passed = STATES if function in WRITE_FUNCTIONS else STATES | TAMPERING
        return [s.fault for s in self._live() if s.fault.kind not in passed
                and any(s.fault.means(alias) for alias in aliases)
                and s.fault.touches(unit, function, address, count) and self._use(s)]

    def used(self, kind: str, alias: str, point: str | None = None) -> Fault | None:
        """The first fault of a kind that means a device and point, used up by one."""
        for s in self._live():
            if s.fault.kind == kind and s.fault.means(alias) and (point is None or s.fault.means_point(point)):
                return s.fault if self._use(s) else None
        return None

    def standing(self, kind: str, alias: str) -> list[Fault]:
        """Those of a kind that mean a device, without using them up."""
        return [s.fault for s in self._live() if s.fault.kind == kind and s.fault.means(alias)]

    def used_by_any(self, kind: str, alias: str, points: Sequence[str]) -> Fault | None:
        """As `used`, for a request to several points of which one at least must be meant."""
        meant = next((p for p in points if any(f.means_point(p) for f in self.standing(kind, alias))), None)
        return None if meant is None else self.used(kind, alias, meant)

    def numbers(self, kind: str, alias: str) -> list[int]:
        """Numbers of those of a kind that mean a device."""
        return [s.number for s in self._live() if s.fault.kind == kind and s.fault.means(alias)]

    def shown(self) -> list[dict[str, object]]:
        """Those that hold, for people."""
        return [{"number": s.number, **s.fault.describe(), "hits": s.hits} for s in self._live()]

    def next_end(self) -> float | None:
        """Monotonic time at which the next one ends by itself; None where none does."""
        ends = [s.until for s in self._standing if s.until != float("inf")]
        return min(ends, default=None)

    def _live(self) -> Iterator[_Standing]:
        now = time.monotonic()
        if any(s.until <= now or s.left <= 0 for s in self._standing):
            self._standing = [s for s in self._standing if s.until > now and s.left > 0]
        yield from list(self._standing)

    def _use(self, standing: _Standing) -> bool:
        if standing.skip > 0:
            standing.skip -= 1
            return False
        if standing.fault.share < 1.0 and self.random.random() >= standing.fault.share:
            return False
        standing.left -= 1
        standing.hits += 1
        return True


def fault_from(settings: Mapping[str, object]) -> Fault:
    """A fault from the words of an order, such as {"kind": "delay", "devices": "Pump*", "by": "2"}; OrderError."""
    words = {str(key): value for key, value in settings.items()}
    kind = str(words.pop("kind", ""))
    if kind not in KINDS:
        raise OrderError(f"no fault {kind!r}; {', '.join(KINDS)}")
    narrowed: dict[str, Any] = {}
    own: dict[str, Setting | None] = {}
    for key, value in words.items():
        name = {"device": "devices", "unit": "units", "function": "functions", "address": "addresses",
                "point": "points"}.get(key, key)
        if name in _NARROWING:
            narrowed[name] = _NARROWING[name](value)
        elif key in KINDS[kind].settings:
            own[key] = scalar(value)
        else:
            allowed = [*KINDS[kind].settings, *_NARROWING]
            raise OrderError(f"{kind}: no setting {key!r}; {', '.join(allowed)}")
    made = Fault(kind=kind, settings=own, **narrowed)
    for key in own:
        if key != "code" and isinstance(KINDS[kind].settings[key], int | float):
            made.number(key)
    return made


def scalar(value: object) -> Setting | None:
    """A value as written: numbers and truth values become such, everything else stays text."""
    if not isinstance(value, str):
        return value if isinstance(value, bool | int | float) or value is None else str(value)
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    try:
        return int(value, 16) if value.lower().startswith("0x") else value
    except ValueError:
        return value


def _items(value: object) -> list[str]:
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    return [str(part).strip() for part in parts if str(part).strip()]


def _patterns(value: object) -> tuple[str, ...]:
    return tuple(str(v) for v in value) if isinstance(value, list | tuple) else (str(value),)


def _whole(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError as error:
        raise OrderError(f"{text!r} is no whole number; such as 3 or 0x10") from error


def _numbers(value: object) -> frozenset[int]:
    return frozenset(_whole(text) for text in _items(value))


def _ranges(value: object) -> tuple[tuple[int, int], ...]:
    made = []
    for text in _items(value):
        first, _, last = text.partition("-")
        made.append((_whole(first), _whole(last or first)))
    return tuple(made)


def _part(value: object) -> float:
    number = _float(value)
    if not 0.0 <= number <= 1.0:
        raise OrderError(f"share={value}; 0 to 1")
    return number


def _float(value: object) -> float:
    number = scalar(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or number < 0:
        raise OrderError(f"{value!r} is no number; 0 or more")
    return float(number)


_NARROWING: Mapping[str, Callable[[object], Any]] = {
    "devices": _patterns, "units": _numbers, "functions": _numbers, "addresses": _ranges, "points": _patterns,
    "share": _part, "skip": lambda value: int(_float(value)), "count": lambda value: int(_float(value)),
    "seconds": _float,
}
