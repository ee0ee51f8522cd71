"""Whether a command is allowed: a pure decision over rules, the points' present values, and what was asked before."""

from __future__ import annotations

import fnmatch
from collections import deque
from dataclasses import dataclass, field

from command_channel import Command, Value
from endpoint_config import CommandRule, CommandRules, Issuer

from cpc.commands.conditions import View, unmet
from cpc.commands.values import range_fault, same, shown, value_fault

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
    """The rules, and how often each was used."""

    rules: CommandRules
    _used: dict[tuple[str, int, str, int], deque[float]] = field(default_factory=dict)

    def decide(self, command: Command, peer: Peer, view: View, now: Moment, *, count: bool = True) -> Decision:
        """Whether a command may go ahead: the first rule whose issuer and point match decides.

        With `count` a command that is allowed uses up the rule's rate, which is kept by point and user: a name that a
        program gives itself could be another each time.
        """
        rule = self._find(command, peer)
        if rule is None:
            return Decision(allowed=False, message=f"{command.point}: no rule lets user {peer.user} write it; "
                            "a rule in command-rules.xml")
        fault = "denied by this rule"
        if rule.allow:
            fault = _fault(rule, command, view, now) or self._over_rate(rule, command, peer, now)
        if fault:
            return Decision(allowed=False, rule=rule, message=f"{command.point}: {fault}")
        if count:
            for used in self._histories(rule, command, peer):
                used.append(now.monotonic)
        return Decision(allowed=True, rule=rule)

    def _find(self, command: Command, peer: Peer) -> CommandRule | None:
        for rule in self.rules.rules:
            if any(fnmatch.fnmatchcase(command.point, pattern) for pattern in rule.points) and any(
                    _is_issuer(issuer, command.issuer, peer) for issuer in rule.issuers):
                return rule
        return None

    def _over_rate(self, rule: CommandRule, command: Command, peer: Peer, now: Moment) -> str:
        for rate, used in zip(rule.rates, self._histories(rule, command, peer), strict=True):
            while used and used[0] <= now.monotonic - rate.seconds:
                used.popleft()
            if len(used) >= rate.count:
                wait = used[0] + rate.seconds - now.monotonic
                return f"over the rate of {rate.count} in {rate.seconds:g} s; again in {wait:.1f} s"
        return ""

    def _histories(self, rule: CommandRule, command: Command, peer: Peer) -> list[deque[float]]:
        return [self._used.setdefault((rule.name, i, command.point, peer.uid), deque(maxlen=rate.count))
                for i, rate in enumerate(rule.rates)]

    def forget(self, now: Moment) -> None:
        """Drop histories that can't matter any more; call it now and then."""
        longest = max((rate.seconds for rule in self.rules.rules for rate in rule.rates), default=0.0)
        for key in [k for k, used in self._used.items() if not used or used[-1] < now.monotonic - longest]:
            del self._used[key]


def still_allowed(rule: CommandRule, command: Command, view: View, now: Moment) -> str:
    """Why a command that was allowed must not be sent after all; empty where it may."""
    return _expiry(rule, command, now) or _step(rule, command, view) or unmet(rule, view)


def _is_issuer(issuer: Issuer, name: str, peer: Peer) -> bool:
    return issuer.user in ("*", peer.user, str(peer.uid)) and fnmatch.fnmatchcase(name, issuer.name)


def _fault(rule: CommandRule, command: Command, view: View, now: Moment) -> str:
    point = view.point(command.point)
    if point is None:
        return "no such point in a running service; a full name, alias/name"
    if not point.writable:
        return "its endpoint file does not mark it as writable"
    return (
        _expiry(rule, command, now) or value_fault(command.value, point) or _limits(rule, command.value)
        or _step(rule, command, view) or unmet(rule, view)
    )


def _expiry(rule: CommandRule, command: Command, now: Moment) -> str:
    if command.expires is None:
        return ""
    if command.expires <= now.wall:
        return f"expired {now.wall - command.expires:.1f} s ago; a command with a later time"
    if command.expires > now.wall + rule.expires:
        return f"expires {command.expires - now.wall:.0f} s ahead; at most {rule.expires:g} s by this rule"
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


def _step(rule: CommandRule, command: Command, view: View) -> str:
    if rule.step is None:
        return ""
    present = view.present(command.point)
    if present is None or present.quality != 0 or isinstance(present.value, (str, bytes, type(None))):
        return "its present value is not Good, so the step can't be judged; a Good value"
    if isinstance(command.value, (str, bytes)):
        return f"{shown(command.value)} is no number, and this rule has a step"
    change = abs(command.value - present.value)
    return f"a step of {change:g} from {shown(present.value)}; at most {rule.step:g}" if change > rule.step else ""
