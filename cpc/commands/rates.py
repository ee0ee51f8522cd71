"""How often a rule was used, by point and user: kept over restarts by what the audit log tells."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from command_channel import Mode
from endpoint_config import CommandRule

from cpc.commands.audit import time_of


@dataclass(slots=True)
class Rates:
    """Times of the commands that were accepted, monotonic seconds."""

    _used: dict[tuple[str, str, int], deque[float]] = field(default_factory=dict)
    """By rule, point and user; the name that a program gives itself is not in it, it could be another each time."""

    def fault(self, rule: CommandRule, point: str, uid: int, now: float) -> str:
        """Why one more would be too many; empty where it would not."""
        used = self._used.get((rule.name, point, uid), ())
        for rate in rule.rates:
            recent = [moment for moment in used if moment > now - rate.seconds]
            if len(recent) >= rate.count:
                wait = sorted(recent)[-rate.count] + rate.seconds - now
                return f"over the rate of {rate.count} in {rate.seconds:g} s; again in {wait:.1f} s"
        return ""

    def count(self, rule: CommandRule, point: str, uid: int, moment: float) -> None:
        """One command was accepted by a rule."""
        if not rule.rates:
            return
        used = self._used.setdefault((rule.name, point, uid), deque())
        used.append(moment)
        while len(used) > max(rate.count for rate in rule.rates):
            used.popleft()

    def recall(self, record: Mapping[str, Any], rules: Mapping[str, CommandRule], wall: float, now: float) -> None:
        """Count what a record of the audit log tells, `wall` and `now` being the present on both clocks.

        One of the future (the clock was wrong, then or now) counts as of now: a clock is no way around a rate either.
        """
        rule = rules.get(str(record.get("rule")))
        if record["event"] != "accepted" or rule is None or record.get("mode") == Mode.SELECT:
            return
        uid, moment = record.get("uid"), time_of(record)
        if isinstance(uid, int):
            age = 0.0 if moment is None else max(0.0, wall - moment)
            self.count(rule, str(record.get("point")), uid, now - age)

    def forget(self, rules: Mapping[str, CommandRule], now: float) -> None:
        """Drop what can't matter any more; call it now and then."""
        for key, used in list(self._used.items()):
            rule = rules.get(key[0])
            longest = max((rate.seconds for rate in rule.rates), default=0.0) if rule else 0.0
            if not used or max(used) < now - longest:
                del self._used[key]
