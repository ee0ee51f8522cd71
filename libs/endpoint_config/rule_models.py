"""What a file of command rules says, as frozen, typed models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Issuer:
    """Who may ask."""

    user: str
    """Name or number of the asking process's user as the kernel says, `*` = every user."""
    name: str = "*"
    """Pattern (fnmatch, letters as they are) on the name that the program gives."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What another point must say while a command is decided, and again when it is sent."""

    kind: str = "interlock"
    """`interlock`, `personnel`, `operation_mode` or `availability`: the same check, named for the answer."""
    point: str
    """Full name, `alias/name`."""
    operator: str = "eq"
    """`eq`, `ne`, `lt`, `le`, `gt`, `ge` or `in`."""
    value: str
    """As in the file; compared as the point's type has it."""
    uncertain: bool = False
    """Whether an Uncertain quality is enough; Bad never is."""
    max_age: float | None = None
    """Seconds; None = as long as the reader does not call it stale."""
    line: int = 0

    def __str__(self) -> str:
        """`Mode eq 2`, for answers."""
        return f"{self.point} {self.operator} {self.value}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """At most `count` commands for a point and a user in `seconds`."""

    count: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandRule:
    """One rule; it decides about the commands whose issuer and point it matches."""

    name: str
    """Unique in the file."""
    allow: bool = True
    """False: deny whatever matches."""
    issuers: tuple[Issuer, ...] = ()
    points: tuple[str, ...] = ()
    """Patterns (fnmatch, letters as they are) on full names."""
    type: str = ""
    """`bool`, `integer`, `number`, `text`; empty = what the point takes."""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    """Largest change from the present value."""
    allowed: tuple[str, ...] = ()
    """The only values allowed, as texts; empty = all."""
    rates: tuple[Rate, ...] = ()
    conditions: tuple[Condition, ...] = ()
    select_required: bool = False
    verify: str = "optional"
    """`required`, `optional` (as the command asks) or `none`."""
    tolerance: float = 0.0
    deadline: float = 5.0
    """Seconds for writing and reading back."""
    expires: float = 30.0
    """Seconds for which a command may wait, and the furthest ahead that one may expire."""
    description: str = ""
    line: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandRules:
    """All rules in file order; the first that matches decides, and what none allows is refused."""

    rules: tuple[CommandRule, ...] = ()
    file: Path = Path()


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandSettings:
    """`<commands>` of partition.xml: how the command gate runs."""

    rules: Path
    """The file of command rules."""
    audit: Path | None = None
    """Folder of the audit log; None = `audit` in the state folder."""
    directory: Path | None = None
    """Folder of the sockets; None = by the environment."""
    group: str | None = None
    """Group that may connect; None = the primary group of the gate's user."""
    line: int = 0
