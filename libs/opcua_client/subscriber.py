"""The subscriptions of one server: kept while there is a session, fed by publish requests under way (Part 4, 5.13).

One task asks for notifications for all of them, one each keeps a subscription. A notification is acknowledged once it
stands in the records. Losses are counted in system points: what the server dropped from its queues, and notifications
that did not arrive and could not be had again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from acquisition import Backoff, Extra, system_points
from endpoint_config import OpcUaNode, OpcUaServer
from process_image import Point
from process_image.quality import BAD_TIMEOUT, is_bad

from opcua_client.channel import Answer
from opcua_client.datatypes import is_subscribed
from opcua_client.encoding import NodeId
from opcua_client.errors import Malformed, OpcUaError, Refused, Unanswered, Unreachable
from opcua_client.expiry import certificate_points
from opcua_client.group import DOWN_SECONDS, Sent
from opcua_client.monitored import PUBLISH, Monitoring, publish_body, read_published
from opcua_client.qualities import SESSION_GONE
from opcua_client.services import read_attributes
from opcua_client.session import Session
from opcua_client.subscription import Subscription

if TYPE_CHECKING:
    from opcua_client.poller import ServerPoller

AHEAD = 2
"""Publish requests under way for each subscription, so that the server need not wait for one; more of them once it
has had to send one interval's values in several notifications."""
MOST_AHEAD = 20
LOOK = 0.25
"""Seconds between two looks at what is silent."""
RETRY_PAUSE = 0.5
"""Seconds before the next publish request after one that was refused."""
MOST_ITEMS_PER_CALL = NodeId(namespace=0, identifier=11714)
"""MaxMonitoredItemsPerCall of the server's operation limits."""
BAD_NO_SUBSCRIPTION, BAD_TOO_MANY_PUBLISH_REQUESTS = 0x80790000, 0x80780000
GOOD_TRANSFERRED = 0x002D0000

EXTRAS = (
    Extra(name="$notifications", type="uint64", description="notifications received since the writer started"),
    Extra(name="$values", type="uint64", description="values received in them"),
    Extra(name="$overflows", type="uint64",
          description="values that the server marked because it had dropped older ones from a full queue"),
    Extra(name="$lost", type="uint64", description="notifications that did not arrive and could not be had again"),
    Extra(name="$republished", type="uint64", description="notifications that were had again"),
    Extra(name="$subscribed", type="uint64", description="subscriptions made, above their number: made again"),
)
"""System points of a server with subscriptions."""


def server_points(server: OpcUaServer) -> list[Point]:
    """The system points of a server: those that all devices have, and EXTRAS where any node is subscribed to."""
    own = EXTRAS if any(is_subscribed(n, server) for n in server.nodes) else ()
    return system_points(server.alias, certificate_points(server.alias), own)


@dataclass(slots=True)
class Counts:
    """The values of EXTRAS, in their order."""

    notifications: int = 0
    values: int = 0
    overflows: int = 0
    lost: int = 0
    republished: int = 0
    made: int = 0


class Subscriber:
    """Everything that one server is subscribed to; a part of its poller, beside the scan classes."""

    def __init__(self, poller: ServerPoller, wanted: Sequence[tuple[OpcUaNode, Monitoring]]) -> None:
        self._poller = poller
        self.publisher, self.server, self.flush = poller.publisher, poller.server, poller.flush
        self.status = poller.status
        self.counts = Counts()
        groups: dict[float, list[tuple[OpcUaNode, Monitoring]]] = {}
        for node, how in wanted:
            groups.setdefault(how.publishing, []).append((node, how))
        self._all = [Subscription(self, publishing, nodes) for publishing, nodes in groups.items()]
        self.session: Session | None = None
        self._news = asyncio.Event()
        self._acknowledged: list[tuple[int, int]] = []
        self._under_way = 0
        self._most, self._ahead = MOST_AHEAD, AHEAD
        self._arrived: deque[tuple[Answer, frozenset[int]]] = deque()
        self._wake = asyncio.Event()
        self._lost: set[int] = set()
        self.unanswered: deque[Sent] = deque()
        """Nothing: publish requests are answered when there is something to say."""
        self._show()

    # -- what the poller calls

    def start(self, session: Session) -> None:
        """Subscribe in a new session."""
        self.session = session
        self._news.set()

    def stop(self, error: OpcUaError) -> None:
        """There is no session; the records say why."""
        self.session = None
        self._news.set()
        self.blame(error)

    def blame(self, error: OpcUaError) -> None:
        """The records say what went wrong."""
        for subscription in self._all:
            subscription.silence(error.quality)

    def poll_soon(self) -> None:
        """More types are known."""
        for subscription in self._all:
            if subscription.number is not None and not subscription.is_silent:
                subscription.take_again()

    async def run(self) -> None:
        """Serve one session after the other until cancelled."""
        while True:
            session = self.session
            self._news.clear()
            if session is None:
                for subscription in self._all:
                    subscription.publish()
                await self._wait(self._news, DOWN_SECONDS)
                continue
            self._under_way, self._most, self._ahead = 0, MOST_AHEAD, AHEAD
            self._acknowledged.clear()
            self._arrived.clear()
            self._lost.clear()
            for subscription in self._all:
                subscription.live = False
            await self._serve(session)

    async def _serve(self, session: Session) -> None:
        most = await self._limit(session)
        tasks = [asyncio.ensure_future(self._pump(session))]
        tasks += [asyncio.ensure_future(self._keep(session, each, most)) for each in self._all]
        ended = asyncio.ensure_future(self._ended(session))
        try:
            done, _ = await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in [ended, *tasks]:
                task.cancel()
            await asyncio.gather(ended, *tasks, return_exceptions=True)

    async def _ended(self, session: Session) -> None:
        while self.session is session:
            await self._wait(self._news, DOWN_SECONDS)
            self._news.clear()

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return

    async def _limit(self, session: Session) -> int:
        """Items that one request may have, 0 = any number."""
        try:
            (found,) = await read_attributes(session.channel, [(MOST_ITEMS_PER_CALL, 13)], self.server.timeout)
        except OpcUaError:
            return 0
        value = found.value.value if found.value is not None and not is_bad(found.status) else 0
        return value if isinstance(value, int) else 0

    # -- keeping a subscription

    async def _keep(self, session: Session, subscription: Subscription, most: int) -> None:
        """Make a subscription, watch it, make it again where the server lost it."""
        backoff = Backoff(self.server.retry_interval)
        while self.session is session:
            try:
                await subscription.establish(session, most)
            except OpcUaError as error:
                if self._is_end(session, error):
                    return
                subscription.silence(error.quality)
                self.status.note_failure(f"{self.server.alias}: {error}")
                await asyncio.sleep(backoff.pause())
                continue
            backoff.reset()
            self._wake.set()
            await self._watch(session, subscription, most)
            if subscription.number in self._lost:
                await subscription.drop(session)

    async def _watch(self, session: Session, subscription: Subscription, most: int) -> None:
        """Until the subscription is lost: its silence shows in its records, refused items are tried again."""
        again = time.monotonic() + self.server.retry_interval
        while self.session is session and subscription.number not in self._lost:
            await asyncio.sleep(LOOK)
            now = time.monotonic()
            silent = now - subscription.heard - subscription.alive_every
            if silent > self.server.timeout:
                self._silent(session, subscription, silent)
            if now >= again and subscription.failed:
                again = now + self.server.retry_interval
                try:
                    await subscription.add_items(session, subscription.failed, most)
                except OpcUaError as error:
                    if self._is_end(session, error):
                        return
                    self.status.note_failure(f"{self.server.alias}: {error}")

    def _silent(self, session: Session, subscription: Subscription, seconds: float) -> None:
        error = Unanswered("subscribe", f"nothing heard for {subscription.alive_every + seconds:.3g} s",
                           "the server may hang")
        if not subscription.is_silent:
            self.status.note_failure(f"{self.server.alias}: {error}", connected=False)
            subscription.silence(BAD_TIMEOUT)
        elif seconds > max(self.server.timeout, self.server.retry_interval) and self._poller.session is session:
            self._poller.keeper.give_up(error)

    def _is_end(self, session: Session, error: OpcUaError) -> bool:
        """Whether the session is over with this; its keeper is told."""
        if isinstance(error, Unreachable) or error.quality in SESSION_GONE:
            if self._poller.session is session:
                self._poller.keeper.give_up(error)
            return True
        return False

    # -- notifications

    async def _pump(self, session: Session) -> None:
        """Keep publish requests under way, take what they bring in the order of its arrival."""
        while True:
            self._ask(session)
            if not self._arrived:
                await self._wait(self._wake, DOWN_SECONDS)
                self._wake.clear()
                continue
            answer, live = self._arrived.popleft()
            self._ask(session)
            try:
                await self._take(session, answer, live)
            except Unreachable:
                return await self._forever()
            self._show()

    @staticmethod
    async def _forever() -> None:
        """The session is ending, and somebody else says so."""
        await asyncio.get_running_loop().create_future()

    def _ask(self, session: Session) -> None:
        live = frozenset(s.number for s in self._all if s.live and s.number is not None)
        while self._under_way < min(self._ahead * len(live), self._most):
            body = publish_body(self._acknowledged)
            self._poller.keeper.note_sent()
            try:
                sent = session.channel.request(PUBLISH, body, 0.0)
            except Unreachable:
                return
            self._acknowledged.clear()
            self._under_way += 1
            sent.add_done_callback(self._on_answer(session, live))

    def _on_answer(self, session: Session, live: frozenset[int]) -> Callable[[Answer], None]:
        def arrived(answer: Answer) -> None:
            if self.session is session:
                self._under_way -= 1
                self._arrived.append((answer, live))
                self._wake.set()
        return arrived

    async def _take(self, session: Session, answer: Answer, live: frozenset[int]) -> None:
        try:
            published = read_published(answer.result())
        except Refused as error:
            await self._refused(session, error, live)
            return
        except Malformed as error:
            self.status.note_failure(f"{self.server.alias}: {error}")
            return
        self.status.requests += 1
        self.status.note_connected(True)
        if published.more:
            self._ahead = min(self._ahead + 1, MOST_AHEAD)
        subscription = next((s for s in self._all if s.live and s.number == published.subscription), None)
        if subscription is None:
            return
        message = published.message
        try:
            await subscription.take(session, message, published.available)
        except Malformed as error:
            self.status.note_failure(f"{self.server.alias}: {error}")
            self._lost.add(published.subscription)
        if message.status is not None and message.status != GOOD_TRANSFERRED:
            self._lost.add(published.subscription)

    async def _refused(self, session: Session, error: Refused, live: frozenset[int]) -> None:
        """`live` are the subscriptions that there were when the request was sent."""
        if error.quality == BAD_TOO_MANY_PUBLISH_REQUESTS:
            self._most = max(1, self._under_way)
        elif error.quality == BAD_NO_SUBSCRIPTION:
            self._lost.update(live)
        elif error.quality != BAD_TIMEOUT and not self._is_end(session, error):
            self.status.note_failure(f"{self.server.alias}: {error}")
            await asyncio.sleep(RETRY_PAUSE)

    def acknowledge(self, subscription: int, sequence: int) -> None:
        """Tell the server with the next request that a notification need not be kept any more."""
        self._acknowledged.append((subscription, sequence))

    def learn_types(self, session: Session) -> None:
        """Have the structures learned that were met and are not known."""
        self._poller.learn_types(session)

    def note(self, text: str) -> None:
        """Tell something in `$last_error`."""
        self.status.note_error(f"{self.server.alias}: {text}")

    def _show(self) -> None:
        self.status.own = [float(number) for number in astuple(self.counts)]
