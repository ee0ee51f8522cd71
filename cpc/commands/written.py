"""What was last written to a point: between two polls the newest that is known of it, so that steps add up.

A poll that was answered after the write ended says more, and then counts alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from command_channel import MessageError, Status
from command_channel.messages import from_json

from cpc.commands.audit import time_of
from cpc.commands.conditions import Present

_SURE = (Status.VERIFIED, Status.WRITTEN)
_NOTHING_DONE = (Status.REFUSED, Status.FAILED)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Written:
    values: tuple[float, ...]
    """What the point may hold."""
    maybe: bool
    """Whether it may also hold what it held before."""
    wall: float
    """When this was learned, seconds since the Unix epoch."""
    before: _Written | None = None
    """What was known before the write that is under way."""


@dataclass(slots=True)
class LastWritten:
    """By point; numbers alone, since nothing else has a step."""

    _points: dict[str, _Written] = field(default_factory=dict)

    def bases(self, point: str, present: Present, wall: float) -> tuple[float, ...]:
        """What a step is to be judged against, each of them; `present` must hold a number.

        `wall` is the present time: where the clock went back, what was learned counts as learned now.
        """
        polled = present.value
        assert isinstance(polled, (bool, int, float))
        known = self._points.get(point)
        if known is None or present.received > known.wall:
            self._points.pop(point, None)
            return (polled,)
        if known.wall > wall:
            self._points[point] = _Written(values=known.values, maybe=known.maybe, wall=wall, before=known.before)
        return (*known.values, polled) if known.maybe else known.values

    def sent(self, point: str, value: object, wall: float) -> None:
        """A write is on its way."""
        if isinstance(value, (bool, int, float)):
            before = self._points.get(point)
            values = (value, *(before.values if before is not None else ()))
            self._points[point] = _Written(values=values, maybe=True, wall=wall, before=before)

    def ended(self, point: str, value: object, status: Status, read: object, wall: float) -> None:
        """What became of it."""
        known = self._points.get(point)
        if known is None:
            return
        if status in _NOTHING_DONE:
            del self._points[point]
            if known.before is not None:
                self._points[point] = known.before
            return
        sure = status in _SURE
        values = known.values
        if isinstance(read, (bool, int, float)):
            values = (read,)
        elif sure and isinstance(value, (bool, int, float)):
            values = (value,)
        self._points[point] = _Written(values=values, maybe=not sure, wall=wall)

    def recall(self, record: Mapping[str, Any]) -> None:
        """Take what a record of the audit log tells, in the order of the log."""
        moment, point = time_of(record), str(record.get("point"))
        if moment is None or record["event"] not in ("sent", "outcome"):
            return
        try:
            value, read = (None if record.get(k) is None else from_json(record[k]) for k in ("value", "read"))
            if record["event"] == "sent":
                self.sent(point, value, moment)
            else:
                self.ended(point, value, Status(str(record.get("status"))), read, moment)
        except (MessageError, ValueError):
            return
