"""When to poll: a grid of deadlines on the monotonic clock, apart for each server."""

from __future__ import annotations

import math
from dataclasses import dataclass

GOLDEN = 0.6180339887498949


@dataclass(slots=True)
class Grid:
    """Deadlines at `phase` + n * `interval`; the first poll is at once, the rest falls into step."""

    interval: float
    """Seconds, 0 = back to back."""
    phase: float = 0.0
    due: float = 0.0
    """The next deadline, monotonic seconds; in the past = now."""

    def begin(self, now: float) -> None:
        """Poll at once."""
        self.due = now

    def advance(self, now: float) -> int:
        """Go on to the first deadline after `now`, at least half an interval away; returns the deadlines left out."""
        if self.interval <= 0:
            self.due = now
            return 0
        earliest = max(self.due + self.interval * 0.5, now)
        steps = math.ceil((earliest - self.phase) / self.interval)
        following = self.phase + steps * self.interval
        if following <= now:
            following += self.interval
        missed = round((following - self.due) / self.interval) - 1
        self.due = following
        return max(missed, 0)


def stagger(index: int, interval: float) -> float:
    """A phase that keeps servers apart however many there are (multiples of the golden ratio)."""
    return (index * GOLDEN) % 1.0 * interval
