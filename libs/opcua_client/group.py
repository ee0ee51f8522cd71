"""The nodes of one scan class of one server: asked for at each deadline, their answers or failures staged."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from endpoint_config import OpcUaNode
from process_image.quality import BAD_TIMEOUT

from opcua_client.channel import Answer
from opcua_client.errors import Malformed, OpcUaError, Refused, Unanswered, Unreachable
from opcua_client.plan import GroupPlan, ReadPlan, make_plan
from opcua_client.qualities import SESSION_GONE, TOO_MUCH
from opcua_client.schedule import Grid
from opcua_client.session import Session
from opcua_client.staging import Stage

if TYPE_CHECKING:
    from opcua_client.poller import ServerPoller

AHEAD = 2
"""Requests of one poll that may be under way at once: the server works while we decode."""
MOST_UNANSWERED = 4
"""Requests of one scan class that have outlived their interval; with so many under way nothing further is asked."""
SLOW_FACTOR = 1.5
"""A request that has waited this many times as long as the last answered one is likely lost and not just slow."""
SHORTEST_HOLD = 0.1
"""Seconds between two looks at a server that holds back its answers, where its interval is shorter."""
DOWN_SECONDS = 1.0
"""How often blocks without a session are published, so that they do not count as stale: Bad is what they are."""


@dataclass(slots=True, eq=False)
class Sent:
    """One request under way."""

    read: ReadPlan
    since: float
    """Monotonic time at which it was sent."""
    answer: Answer
    expired: bool = False
    """Whether its points were told to be BadTimeout."""


class Group:
    """The nodes of one scan class of one server."""

    def __init__(self, poller: ServerPoller, grid: Grid, nodes: Sequence[OpcUaNode]) -> None:
        self._poller = poller
        self._grid = grid
        self._nodes = tuple(nodes)
        alias = poller.server.alias
        index = poller.publisher.index
        self._rows_of = [[index[f"{alias}/{point.name}"] for point in node.points] for node in self._nodes]
        self._rows = np.array([row for rows in self._rows_of for row in rows], np.intp)
        self._stage = Stage(poller.publisher, poller.status, alias, self._rows)
        self._plan: GroupPlan | None = None
        self._kick = asyncio.Event()
        self._newest: dict[ReadPlan, float] = {}
        """When the request was sent whose answer each read has taken last."""
        self._first = 0
        """Number of the read with which the next poll begins: after one that was cut short, the next in turn."""
        self._pace = 0.0
        """Seconds that the last answer took."""
        self.unanswered: deque[Sent] = deque()
        """Requests that have outlived their interval; an answer within the timeout is still taken."""

    def start(self, session: Session) -> None:
        """Plan for a new session and poll at once."""
        server = self._poller.server
        limits = [n for n in (server.chunk, session.max_nodes) if n > 0]
        self._plan = make_plan(
            self._nodes, self._rows_of, namespaces=session.namespaces, most_nodes=min(limits, default=0),
            most_bytes=session.channel.largest_request, types=session.types,
        )
        self._stage.forget()
        self._newest.clear()
        self.unanswered.clear()
        self._first = 0
        self._stage.lose(self._plan)
        self._grid.begin(time.monotonic())
        self._kick.set()

    def poll_soon(self) -> None:
        """Poll out of turn, because more of the answers can be understood now."""
        if self._plan is not None and any(read.converter.is_composite for read in self._plan.reads):
            self._grid.begin(time.monotonic())
            self._kick.set()

    def stop(self, error: OpcUaError) -> None:
        """Nothing is polled before the next session; the records say why."""
        self._plan = None
        self.unanswered.clear()
        self.blame(error)

    def blame(self, error: OpcUaError) -> None:
        """The records say what went wrong; polling goes on."""
        self._stage.fail(self._rows, error.quality)
        self._stage.touch(time.monotonic() + 2 * DOWN_SECONDS)

    async def run(self) -> None:
        """Poll at each deadline until cancelled."""
        self._stage.touch(time.monotonic() + 2 * DOWN_SECONDS)
        while True:
            session, plan = self._poller.session, self._plan
            if session is None or plan is None:
                await self._wait(DOWN_SECONDS)
                if self._plan is None:
                    self._stage.touch(time.monotonic() + 2 * DOWN_SECONDS)
                    self._poller.flush()
                continue
            await self._wait(self._grid.due - time.monotonic())
            if self._poller.session is not session or self._plan is not plan:
                continue
            if time.monotonic() < self._grid.due:
                self._catch_up(session, plan)  # an answer came late, between two polls
                self._publish_news()
            else:
                await self._tick(session, plan)

    async def _wait(self, seconds: float) -> None:
        """Wait for a time, or for the news that a session is up; at least one turn of the loop."""
        if self._kick.is_set() or seconds <= 0:
            await asyncio.sleep(0)
        else:
            try:
                async with asyncio.timeout(seconds):
                    await self._kick.wait()
            except TimeoutError:
                return
        self._kick.clear()

    async def _tick(self, session: Session, plan: GroupPlan) -> None:
        status = self._poller.status
        began = time.monotonic()
        status.lateness_ms = max(began - self._grid.due, 0.0) * 1e3
        self._catch_up(session, plan)
        if self._holds_on:
            await self._hold_on(session, plan)
        else:
            await self._poll(session, plan)
        now = time.monotonic()
        if self._grid.interval > 0 and now - began > self._grid.interval:
            status.late += 1
        status.missed += self._grid.advance(now)
        if self._plan is plan:
            self._publish_news(max(now - began, 0.0))

    def _publish_news(self, grace: float = 0.0) -> None:
        """Have the blocks published; not while answers are only waited for, so that old values grow stale."""
        if self._stage.news or (self.unanswered and self.unanswered[0].expired):
            self._stage.touch(self._grid.due + grace)
            self._poller.flush()

    @property
    def _patience(self) -> float:
        """Seconds after which a poll does not wait for an answer any longer: one interval at most."""
        timeout, interval = self._poller.server.timeout, self._grid.interval
        return min(timeout, max(interval, SHORTEST_HOLD)) if interval > 0 else timeout

    @property
    def _holds_on(self) -> bool:
        """Whether nothing further is asked for now: too much is unanswered, or the server is just slower than we ask.

        A slow server that got the next request while it works on the last one would only fall behind further.
        """
        if not self.unanswered:
            return False
        waited = time.monotonic() - self.unanswered[0].since
        return len(self.unanswered) >= MOST_UNANSWERED or waited < self._pace * SLOW_FACTOR

    async def _hold_on(self, session: Session, plan: GroupPlan) -> None:
        """The server holds back too many answers: ask for nothing more, wait for one of them, a poll's time at most."""
        await asyncio.wait([sent.answer for sent in self.unanswered], return_when=asyncio.FIRST_COMPLETED,
                           timeout=self._patience)
        if self._plan is plan:
            self._poller.status.missed += 1
            self._catch_up(session, plan)

    def _catch_up(self, session: Session, plan: GroupPlan) -> None:
        """Take answers that came later than their interval, unless something newer is known; tell what timed out."""
        late = [sent for sent in self.unanswered if sent.answer.done()]
        for sent in late:
            self.unanswered.remove(sent)
            if sent.expired or sent.read not in plan.reads:
                self._grid.begin(time.monotonic())  # it answers again: ask at once
            elif sent.since >= self._newest.get(sent.read, 0.0):
                try:
                    self._take(sent, plan, session)
                except Unreachable as error:
                    self._give_up(session, error)
                    return
        self._expire(plan)
        self._poller.keeper.waiting_since = self._poller.longest_wait()

    def _expire(self, plan: GroupPlan) -> None:
        """Requests unanswered for longer than the timeout: what they and the reads behind them hold is too old."""
        seconds, now = self._poller.server.timeout, time.monotonic()
        expired = [sent for sent in self.unanswered if not sent.expired and now - sent.since >= seconds]
        if not expired:
            return
        for sent in expired:
            sent.expired = True
        for read in plan.reads:
            if self._newest.get(read, 0.0) <= now - seconds:
                self._stage.fail(read.span, BAD_TIMEOUT)
        error = Unanswered("read", f"no answer within {seconds:g} s", "the server may be overloaded")
        self._poller.status.note_failure(self._text(error), connected=False)

    async def _poll(self, session: Session, plan: GroupPlan) -> None:
        """Send every request, take every answer; one that outlives its interval ends the poll, and nothing else."""
        sent: deque[Sent] = deque()
        reads = len(plan.reads)
        self._first %= max(reads, 1)
        waiting = deque((*plan.reads[self._first :], *plan.reads[: self._first]))
        try:
            while waiting or sent:
                while waiting and len(sent) < AHEAD:
                    sent.append(self._send(session, waiting.popleft()))
                if not await self._answered(sent[0], session, plan):
                    if self._plan is plan:
                        self._set_aside(sent)
                        self._first += reads - len(waiting)
                        self._expire(plan)
                    return
                self._take(sent.popleft(), plan, session)
        except Unreachable as error:
            self._give_up(session, error)

    def _send(self, session: Session, read: ReadPlan) -> Sent:
        self._poller.keeper.note_sent()
        return Sent(read, time.monotonic(), session.channel.read(read.body, self._poller.server.timeout))

    async def _answered(self, sent: Sent, session: Session, plan: GroupPlan) -> bool:
        """Whether an answer comes within its interval; earlier requests' late answers are taken meanwhile."""
        while not sent.answer.done():
            left = sent.since + self._patience - time.monotonic()
            if left <= 0:
                return False
            others = [other.answer for other in self.unanswered]
            await asyncio.wait([sent.answer, *others], timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if self._plan is not plan:
                return False
            if others:
                self._catch_up(session, plan)
                self._publish_news()
        return True

    def _set_aside(self, sent: deque[Sent]) -> None:
        """Give up on this poll and on nothing else: the session stays, the next poll asks again."""
        for one in sent:
            one.answer.add_done_callback(lambda _: self._kick.set())
        self.unanswered += sent
        self._poller.keeper.waiting_since = self._poller.longest_wait()

    def _give_up(self, session: Session, error: OpcUaError) -> None:
        """This session can't go on; a newer one is not meant."""
        if self._poller.session is session:
            self._poller.keeper.give_up(error)

    def _take(self, sent: Sent, plan: GroupPlan, session: Session) -> None:
        """Put one answer into the staging records, or its failure."""
        read, body = sent.read, sent.answer.result()
        self._poller.keeper.note_answered()
        received = time.time_ns()
        try:
            batch = read.converter.batch(body, received)
        except Refused as error:
            self._refused(read, error, plan, session)
        except Malformed as error:
            self._split(read, plan)
            self._stage.fail(read.span, error.quality)
            self._poller.status.note_failure(self._text(error))
        else:
            self._newest[read] = sent.since
            if self.unanswered:  # an expired one that is older than what was answered will not be answered any more
                self.unanswered = deque(s for s in self.unanswered if not s.expired or s.since > sent.since)
            self._poller.keeper.waiting_since = self._poller.longest_wait()
            self._pace = time.monotonic() - sent.since
            self._poller.status.note_request(self._pace)
            self._stage.take(read, batch, received)
            if plan.types.wanted:
                self._poller.learn_types(session)

    def _refused(self, read: ReadPlan, error: Refused, plan: GroupPlan, session: Session) -> None:
        self._stage.fail(read.span, error.quality)
        if error.quality in SESSION_GONE:
            self._give_up(session, error)
            return
        self._poller.status.note_failure(self._text(error), connected=True)
        if error.quality in TOO_MUCH:
            self._split(read, plan)

    @staticmethod
    def _split(read: ReadPlan, plan: GroupPlan) -> None:
        """Ask for half as much next time, down to the single node that can't be had; the others go on."""
        if read in plan.reads:
            place = plan.reads.index(read)
            plan.reads[place : place + 1] = read.halves()

    def _text(self, error: OpcUaError) -> str:
        return f"{self._poller.server.alias}: {error}"
