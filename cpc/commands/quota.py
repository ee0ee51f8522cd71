"""How many refusals of one user the audit log takes: a flood is answered and counted, and does not fill the disk."""

from __future__ import annotations

from dataclasses import dataclass, field

PERIOD = 10.0
"""Seconds."""
MOST = 1000
"""Refusals of one user in a period that are written one by one."""


@dataclass(slots=True)
class _Count:
    began: float
    seen: int = 0
    written: int = 0


@dataclass(slots=True)
class Quota:
    """Counts by user; times are monotonic seconds."""

    _counts: dict[int, _Count] = field(default_factory=dict)

    def allows(self, uid: int, now: float, *, room: bool = True) -> bool:
        """Count one refusal; whether it is to be written, for which there must be `room`."""
        count = self._counts.setdefault(uid, _Count(now))
        count.seen += 1
        written = room and count.written < MOST
        count.written += written
        return written

    def left_out(self, now: float) -> list[tuple[int, int]]:
        """Users and how many of their refusals were not written, for periods that have ended; each is told once."""
        over = [uid for uid, count in self._counts.items() if now - count.began >= PERIOD]
        ended = [(uid, self._counts.pop(uid)) for uid in over]
        return [(uid, count.seen - count.written) for uid, count in ended if count.seen > count.written]
