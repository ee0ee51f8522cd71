"""Select before operate: a point reserved for one issuer and one value, for a short time."""

from __future__ import annotations

from dataclasses import dataclass, field

from command_channel import Command, Mode, Value
from endpoint_config import CommandRule

from cpc.commands.decision import Peer


@dataclass(frozen=True, kw_only=True, slots=True)
class _Selection:
    uid: int
    issuer: str
    value: Value
    until: float


@dataclass(slots=True)
class Selections:
    """What is selected now; times are monotonic seconds."""

    _points: dict[str, _Selection] = field(default_factory=dict)

    def refusal(self, command: Command, peer: Peer, rule: CommandRule, now: float) -> str:
        """Why the mode of a command does not fit to what is selected; empty where it does."""
        found = self._points.get(command.point)
        if found is not None and found.until <= now:
            found = None
            del self._points[command.point]
        if found is not None and (found.uid, found.issuer) != (peer.uid, command.issuer):
            return f"selected by another issuer for {found.until - now:.1f} s more"
        if command.mode is Mode.OPERATE:
            if found is None:
                return "not selected, or the selection has run out; select first"
            if type(found.value) is not type(command.value) or found.value != command.value:
                return "selected with another value; operate with the value that was selected"
        elif command.mode is Mode.DIRECT and rule.select_required:
            return "must be selected before it is operated, by this rule; mode select, then mode operate"
        return ""

    def select(self, command: Command, peer: Peer, rule: CommandRule, now: float) -> None:
        """Reserve the point; a selection of the same issuer is replaced."""
        self._points[command.point] = _Selection(uid=peer.uid, issuer=command.issuer, value=command.value,
                                                 until=now + rule.expires)

    def release(self, point: str) -> None:
        """The selection has been used."""
        self._points.pop(point, None)
