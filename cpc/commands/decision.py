"""Whether a command is allowed: decided over rules, the points' present values, and what was asked before."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field

from command_channel import Command, Mode, Value
from command_channel.messages import format_time
from endpoint_config import CommandRule, CommandRules, Issuer

from cpc.commands.conditions import View, unmet
from cpc.commands.rates import Rates
from cpc.commands.values import range_fault, same, shown, value_fault
from cpc.commands.written import LastWritten

_KINDS: dict[str, tuple[type, ...]] = {
    "bool": (bool,), "integer": (int,), "number": (int, float), "text": (str, bytes),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """Who asks, as the kernel says (SO_PEERCRED)."""

    user: str
    """Name of the user, or its number where it has none."""
    uid: int
    pid: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """When, on the two clocks that matter."""

    wall: float
    """Seconds since the Unix epoch: what `expires` is held against."""
    monotonic: float
    """Seconds: what rates are held against."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What the rules say, and which of them."""

    allowed: bool
    rule: CommandRule | None = None
    message: str = ""
    """Why not; empty where allowed."""


@dataclass(slots=True)
class Decider:
    """The rules, how often each was used, and what was last written."""

    rules: CommandRules
    rates: Rates = field(default_factory=Rates)
    written: LastWritten = field(default_factory=LastWritten)

    def decide(self, command: Command, peer: Peer, view: View, now: Moment, *, ahead: Value | None = None) -> Decision:
        """Whether a command may go ahead: the first rule whose issuer and point match decides.

        `ahead` is the value of a command to the same point that goes before this one, if any. Nothing is counted.
        """
        rule = self._find(command, peer)
        if rule is None:
            return Decision(allowed=False, message=f"{command.point}: no rule lets user {peer.user} write it; "
                            "a rule in command-rules.xml")
        fault = "denied by this rule"
        if rule.allow:
            bases = None if ahead is None else (ahead,)
            fault = (self._fault(rule, command, view, now, bases)
                     or self.rates.fault(rule, command.point, peer.uid, now.monotonic))
        return Decision(allowed=not fault, rule=rule, message=f"{command.point}: {fault}" if fault else "")

    def decide_again(self, command: Command, peer: Peer, view: View, now: Moment) -> Decision:
        """Whether a command that was accepted may be sent: by the rules, the values and the time of now."""
        rule = self._find(command, peer)
        if rule is None:
            fault = "no rule lets it be written any more"
        elif not rule.allow:
            fault = "denied by this rule"
        elif rule.select_required and command.mode is Mode.DIRECT:
            fault = "must be selected before it is operated, by this rule"
        else:
            fault = self._fault(rule, command, view, now, None)
        return Decision(allowed=not fault, rule=rule, message=f"{command.point}: {fault}" if fault else "")

    def count(self, rule: CommandRule, command: Command, peer: Peer, now: Moment) -> None:
        """A command was accepted: it uses up the rates of its rule."""
        self.rates.count(rule, command.point, peer.uid, now.monotonic)

    def forget(self, now: Moment) -> None:
        """Drop what can't matter any more; call it now and then."""
        self.rates.forget(by_name(self.rules), now.monotonic)

    def _find(self, command: Command, peer: Peer) -> CommandRule | None:
        for rule in self.rules.rules:
            if any(fnmatch.fnmatchcase(command.point, pattern) for pattern in rule.points) and any(
                    _is_issuer(issuer, command.issuer, peer) for issuer in rule.issuers):
                return rule
        return None

    def _fault(self, rule: CommandRule, command: Command, view: View, now: Moment,
               bases: tuple[Value, ...] | None) -> str:
        point = view.point(command.point)
        if point is None:
            return "no such point in a running service; a full name, alias/name"
        if not point.writable:
            return "its endpoint file does not mark it as writable"
        return (
            _expiry(rule, command, now) or value_fault(command.value, point) or _limits(rule, command.value)
            or self._step(rule, command, view, now, bases) or unmet(rule, view)
        )

    def _step(self, rule: CommandRule, command: Command, view: View, now: Moment,
              bases: tuple[Value, ...] | None) -> str:
        if rule.step is None:
            return ""
        present = view.present(command.point)
        if present is None or present.quality != 0 or isinstance(present.value, (str, bytes, type(None))):
            return "its present value is not Good, so the step can't be judged; a Good value"
        value = command.value
        if isinstance(value, (str, bytes)):
            return f"{shown(value)} is no number, and this rule has a step"
        numbers = [base for base in bases or self.written.bases(command.point, present, now.wall)
                   if isinstance(base, (bool, int, float))]
        change, base = max(((abs(value - base), base) for base in numbers), default=(0.0, present.value))
        return f"a step of {change:g} from {shown(base)}; at most {rule.step:g}" if change > rule.step else ""


def by_name(rules: CommandRules) -> dict[str, CommandRule]:
    """The rules by their names."""
    return {rule.name: rule for rule in rules.rules}


def _is_issuer(issuer: Issuer, name: str, peer: Peer) -> bool:
    return issuer.user in ("*", peer.user, str(peer.uid)) and fnmatch.fnmatchcase(name, issuer.name)


def _expiry(rule: CommandRule, command: Command, now: Moment) -> str:
    if command.expires is None:
        return ""
    clock = f" of this machine's clock, {format_time(now.wall)}"  # the issuer's may be wrong, or this one
    if command.expires <= now.wall:
        return f"expired {now.wall - command.expires:.1f} s ago{clock}; a command with a later time"
    if command.expires > now.wall + rule.expires:
        return f"expires {command.expires - now.wall:.0f} s ahead{clock}; at most {rule.expires:g} s by this rule"
    return ""


def _limits(rule: CommandRule, value: Value) -> str:
    if rule.type and (not isinstance(value, _KINDS[rule.type]) or (rule.type != "bool" and isinstance(value, bool))):
        return f"{shown(value)} is no {rule.type}"
    if rule.allowed and not any(same(value, text) for text in rule.allowed):
        return f"{shown(value)} is not allowed; {', '.join(rule.allowed)}"
    if rule.minimum is None and rule.maximum is None:
        return ""
    if isinstance(value, (str, bytes)):
        return f"{shown(value)} is no number, and this rule has a range"
    return range_fault(value, rule.minimum, rule.maximum, "of this rule")
