"""A base for consumers: segments attached and read from kept cursors, waiting for publishes and sockets at once."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence

from process_image import Changes, Point

from cpc.consumers.contract import Context, Health
from cpc.consumers.cursors import CursorFile
from cpc.consumers.feed import Feed
from cpc.consumers.waker import Waker

KEEP_SECONDS = 1.0
"""Cursors are kept so often while there is something new; a killed consumer sees so much again."""


class Base:
    """Hands every change of every segment to `take`, in order, and keeps the cursors: a change is seen at least once.

    A consumer overrides `take`, mostly `start` and `stop` (calling these here), and `health` where it has more to
    tell. One that paces itself (a window, a store) overrides `step` and uses `feeds` and `wait`.
    """

    metrics: Sequence[Point] = ()

    def __init__(self, context: Context) -> None:
        self.context = context
        self.feeds: tuple[Feed, ...] = tuple(Feed(name) for name in context.segments)
        self.message = ""
        """What `health` tells; a consumer sets it when something is wrong and clears it when it is well again."""
        self._cursors = CursorFile(context.state / "cursors.json")
        self._wakers: list[Waker] = []
        self._poller = select.poll()
        self._keep_at = 0.0

    def start(self) -> None:
        """Take up the kept cursors."""
        kept = self._cursors.load()
        for feed in self.feeds:
            feed.cursor = kept.get(feed.segment)

    def step(self, timeout: float) -> None:
        """Take what is new; with nothing new, wait for it."""
        if not self.take_changes():
            self.wait(timeout)
        now = time.monotonic()
        if now >= self._keep_at:
            self._keep_at = now + KEEP_SECONDS
            self.keep_cursors()

    def take_changes(self) -> int:
        """Hand on one batch of every segment; returns the number of entries and snapshots taken."""
        taken = 0
        for feed in self.feeds:
            for changes in feed.changes():
                self.take(feed.segment, changes)
                taken += len(changes) + (changes.snapshot is not None)
        return taken

    def take(self, segment: str, changes: Changes) -> None:
        """Do with some changes what the consumer is for; `changes.snapshot` stands for what was lost or came before."""
        raise NotImplementedError

    def keep_cursors(self) -> None:
        """Call what was taken done."""
        try:
            self._cursors.keep({feed.segment: feed.cursor for feed in self.feeds})
        except OSError as error:
            self.message = f"{self.context.name}: keep cursors: {error.strerror or error}; make room there"

    def wait(self, timeout: float, *sockets: tuple[int, int]) -> list[tuple[int, int]]:
        """Sleep until something is published, or a socket is ready; at most `timeout` seconds.

        `sockets` are (descriptor, select.POLLIN | select.POLLOUT); those that are ready are returned like that.
        """
        if not self._wakers:
            self._wakers = [Waker(feed.segment) for feed in self.feeds]
            for waker in self._wakers:
                self._poller.register(waker.descriptor, select.POLLIN)
        for waker in self._wakers:
            waker.arm()
        for descriptor, events in sockets:
            self._poller.register(descriptor, events)
        ready = dict(self._poller.poll(max(timeout, 0) * 1000))
        for descriptor, _ in sockets:
            self._poller.unregister(descriptor)
        for waker in self._wakers:
            if ready.pop(waker.descriptor, 0):
                waker.clear()
        return list(ready.items())

    def stop(self) -> None:
        """Keep the cursors and let go of the segments."""
        self.keep_cursors()
        for waker in self._wakers:
            waker.close()
        for feed in self.feeds:
            feed.close()

    def health(self) -> Health:
        """Connected as soon as one segment is attached."""
        problem = self.message or next((feed.message for feed in self.feeds if feed.message), "")
        return Health(connected=any(feed.attached for feed in self.feeds), message=problem)
