"""When to try a dead device again: at once, then ever later, never in step with others."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

FIRST_PAUSE = 0.1
"""Seconds after the second failure; the first retry is at once."""

_JITTER = random.Random()  # noqa: S311 - spreads attempts, guards nothing
"""One for all: a generator of its own would take 2.5 kB for each device."""


@dataclass(slots=True)
class Backoff:
    """Pauses between attempts: 0, then doubling from FIRST_PAUSE up to `longest`, each jittered by half."""

    longest: float
    """Longest pause in seconds (`retry_interval`)."""
    attempts: int = 0
    """Failures since the last success."""
    _random: random.Random = field(default=_JITTER, repr=False)

    def pause(self) -> float:
        """Count a failure and return the seconds to wait before the next attempt.

        The jitter (the pause is drawn from its upper half) keeps a hundred devices behind one failed switch from
        coming back in the same instant.
        """
        self.attempts += 1
        if self.attempts == 1:
            return 0.0
        full = min(self.longest, FIRST_PAUSE * 2.0 ** min(self.attempts - 2, 40))
        return full * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """A success: the next failure is tried again at once."""
        self.attempts = 0
