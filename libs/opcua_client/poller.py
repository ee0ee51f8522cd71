"""One server: its session is kept by one task, each of its scan classes is polled by another.

Nothing here waits for another server. Whatever goes wrong becomes a quality in this server's records, with a reason
in `$last_error`, at the latest one timeout after it began; no failure ends a task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from acquisition import DeviceStatus, Publisher
from endpoint_config import OpcUaNode, OpcUaServer
from process_image.quality import BAD_INTERNAL_ERROR

from opcua_client.errors import OpcUaError
from opcua_client.expiry import CertificateWatch
from opcua_client.group import DOWN_SECONDS, Group
from opcua_client.keeper import QUICK_PAUSE, Keeper
from opcua_client.monitored import Monitoring
from opcua_client.schedule import Grid
from opcua_client.session import Session
from opcua_client.subscriber import Subscriber

_log = logging.getLogger("opcua_client")


class ServerPoller:
    """Everything about one server."""

    def __init__(self, server: OpcUaServer, publisher: Publisher, schedule_flush: Callable[[], None], *,
                 quick_pause: float = QUICK_PAUSE) -> None:
        """`schedule_flush` asks for one publish at the end of this turn of the loop."""
        self.server = server
        self.publisher = publisher
        self.status: DeviceStatus = publisher.status(server.alias)
        self.flush = schedule_flush
        self.keeper = Keeper(server, self.status, self, quick_pause=quick_pause)
        self.certificates = CertificateWatch(server, self.status)
        self.session: Session | None = None
        self.groups: list[Group | Subscriber] = []
        self._learning: asyncio.Task[None] | None = None

    def add_group(self, interval: float, phase: float, nodes: Sequence[OpcUaNode]) -> None:
        """Poll `nodes` every `interval` seconds."""
        self.groups.append(Group(self, Grid(interval, phase), nodes))

    def add_subscriptions(self, wanted: Sequence[tuple[OpcUaNode, Monitoring]]) -> None:
        """Subscribe to nodes."""
        self.groups.append(Subscriber(self, wanted))

    async def run(self) -> None:
        """Poll until cancelled; the session is closed before this returns."""
        tasks = [asyncio.ensure_future(self._lasting(self.keeper.run, self.session_down))]
        tasks += [asyncio.ensure_future(self._lasting(group.run, group.blame)) for group in self.groups]
        try:
            await asyncio.gather(*tasks)
        finally:
            tasks += [self._learning] if self._learning is not None else []
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def learn_types(self, session: Session) -> None:
        """Have the structures learned that were met and are not known, while the polls go on."""
        if self.session is session and (self._learning is None or self._learning.done()):
            self._learning = asyncio.ensure_future(self._learn(session))

    async def _learn(self, session: Session) -> None:
        try:
            problems = await session.learner.learn()
        except OpcUaError:
            return  # the session has ended: the keeper says why
        for problem in problems:
            _log.warning("%s: %s", self.server.alias, problem)
            self.status.note_error(f"{self.server.alias}: {problem}")
        if self.session is session:
            for group in self.groups:
                group.poll_soon()

    async def _lasting(self, work: Callable[[], Coroutine[Any, Any, None]], tell: Callable[[OpcUaError], None]) -> None:
        """A task of a device: whatever ends it, the records say so, and it begins again after a while."""
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - a device task ends here; its quality says so
                told = OpcUaError("poll", f"{type(error).__name__}: {error}", "a fault of the partition, report it",
                                  quality=BAD_INTERNAL_ERROR)
                _log.error("%s: %s", self.server.alias, told, exc_info=error)
                self.status.note_failure(f"{self.server.alias}: {told}")
                tell(told)
                self.flush()
                await asyncio.sleep(DOWN_SECONDS)

    def session_up(self, session: Session) -> None:
        """Every scan class polls at once."""
        self.session = session
        self.certificates.seen(session.certificate)
        self.certificates.look()
        for group in self.groups:
            group.start(session)

    def session_down(self, error: OpcUaError) -> None:
        """Every record gets the reason as its quality."""
        self.session = None
        if self._learning is not None:
            self._learning.cancel()
        for group in self.groups:
            group.stop(error)
        self.flush()

    def longest_wait(self) -> float:
        """When the oldest request of any scan class that is still unanswered was sent, 0 = none."""
        waiting = [sent.since for group in self.groups for sent in group.unanswered]
        return min(waiting, default=0.0)
