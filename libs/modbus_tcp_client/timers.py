"""Deadlines on the monotonic clock in one heap."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Protocol

Callback = Callable[[int], None]
SHORTEST = 0.001
"""Seconds; a shorter sleep would spin a whole core for nothing."""


class Owner(Protocol):
    """On whose behalf a callback runs."""

    def break_down(self, fault: Exception, now: int) -> None:
        """A callback raised what it should not have raised."""


class Timers:
    """Callbacks by due time (monotonic ns). There is no cancelling: a callback looks whether it still applies."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callback, Owner]] = []
        self._count = count()

    def at(self, when: int, callback: Callback, owner: Owner) -> None:
        """Have `callback(now)` called by the first `fire` at or after `when`, on behalf of `owner`."""
        heapq.heappush(self._heap, (when, next(self._count), callback, owner))

    def fire(self, now: int) -> None:
        """Call what is due; callbacks that come in meanwhile wait for the next call, so that this one ends."""
        heap = self._heap
        due: list[tuple[int, int, Callback, Owner]] = []
        while heap and heap[0][0] <= now:
            due.append(heapq.heappop(heap))
        for _, _, callback, owner in due:
            try:
                callback(now)
            except Exception as fault:  # noqa: BLE001 - here a device's task ends; the others go on
                owner.break_down(fault, now)

    def wait(self, now: int, longest: float) -> float:
        """Seconds until the next callback, at most `longest`, 0 where one is due and else at least SHORTEST."""
        if not self._heap:
            return longest
        left = (self._heap[0][0] - now) * 1e-9
        if left <= 0:
            return 0.0
        return min(longest, max(left, SHORTEST))
