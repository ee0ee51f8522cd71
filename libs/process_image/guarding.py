"""The rule by which `publish` touches the public semaphore: try, wait once at most, repair, drain.

Exclusion is advisory. A locking reader reads the slot that was the latest when it took the semaphore, and that slot
survives three more publishes of its block; only before the fourth may the writer wait, once, for a bounded time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from process_image.layout import SLOTS
from process_image.memory import Words
from process_image.semaphore import Guard

WAIT_BOUND: Final = 0.002
"""Seconds that a publish may lose to a held semaphore, once until it was seen free again."""
_WAIT_PART: Final = 0.25
"""Share of the bound that is asked of the kernel: waking up and being scheduled take the rest."""
_MOST_DRAINED: Final = 1024
_SCHEDULED: Final = Path("/proc/thread-self/schedstat")
"""Of the calling thread: ns on a processor, ns waiting for one, turns."""
_LAST: Final = np.uint64(SLOTS - 1)


@dataclass(slots=True)
class Counters:
    """What the writer has counted since it started; the header shows the same."""

    publishes: int = 0
    """Calls of publish."""
    changes: int = 0
    """Changes written to the journal."""
    semaphore_busy: int = 0
    """Publishes that found the semaphore taken."""
    semaphore_waits: int = 0
    """Publishes that waited for it."""
    semaphore_overruns: int = 0
    """Waits that the semaphore, and not a machine without a free processor, made longer than the bound."""
    semaphore_repairs: int = 0
    """Times it was posted for a holder that seems dead."""
    long: int = 0
    """Texts written to the journal's byte ring."""
    wakes: int = 0
    """Wake calls to the kernel."""


def queued_ns() -> int:
    """Nanoseconds that this thread has been ready to run and had no processor; 0 where the kernel does not say.

    On a busy machine whoever sleeps for half a millisecond gets the processor back many milliseconds later. No
    semaphore did that, and a counter that is to show a semaphore's doing must not count it.
    """
    try:
        return int(_SCHEDULED.read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return 0


class SemaphoreRule:
    """The rule for one writer; `guard` None means that nothing guards the segment."""

    def __init__(self, guard: Guard | None, counters: Counters, *, repair_after: float, bound: float) -> None:
        """`repair_after` and `bound` in seconds."""
        self.guard = guard
        self._counters = counters
        self._repair_after = int(repair_after * 1e9)
        self._bound = bound
        self._taken_since = 0
        self._taken_at: Words | None = None
        self._waited = False

    def enter(self, index: npt.NDArray[np.intp], generation: Words) -> bool:
        """Before the blocks of `index` are filled, at their `generation`; True where the semaphore is now ours."""
        guard = self.guard
        if guard is None:
            return False
        if guard.try_acquire():
            self._seen_free(guard)
            return True
        return self._taken(guard, index, generation)

    def leave(self) -> None:
        """After the publish, when `enter` gave True."""
        if self.guard is not None:
            self.guard.release()

    def _taken(self, guard: Guard, index: npt.NDArray[np.intp], generation: Words) -> bool:
        now = time.monotonic_ns()
        self._counters.semaphore_busy += 1
        if self._taken_at is None:
            self._taken_since, self._taken_at = now, generation.copy()
            return False
        if now - self._taken_since >= self._repair_after:
            return self._repair(guard, now, generation)
        # the slot to be filled next is the one that was the latest when the semaphore was first seen taken
        if not self._waited and (((generation[index] + np.uint64(1) - self._taken_at[index]) & _LAST) == 0).any():
            return self._wait(guard)
        return False

    def _wait(self, guard: Guard) -> bool:
        self._waited = True
        self._counters.semaphore_waits += 1
        queued, before = queued_ns(), time.monotonic_ns()
        got = guard.acquire(self._bound * _WAIT_PART)
        took = time.monotonic_ns() - before
        if took - (queued_ns() - queued) > self._bound * 1e9:
            self._counters.semaphore_overruns += 1
        if got:
            self._seen_free(guard)
        return got

    def _repair(self, guard: Guard, now: int, generation: Words) -> bool:
        """Post once for a holder that is dead, or slow beyond what was agreed."""
        guard.release()
        self._counters.semaphore_repairs += 1
        if guard.try_acquire():
            self._seen_free(guard)
            return True
        self._taken_since, self._taken_at = now, generation.copy()  # a waiting reader was faster: it has its own time
        return False

    def _seen_free(self, guard: Guard) -> None:
        """Forget the holder; a value that is still above 0 while we hold it was posted once too often."""
        self._taken_at, self._waited = None, False
        for _ in range(_MOST_DRAINED):
            if guard.value() <= 0 or not guard.try_acquire():
                return
