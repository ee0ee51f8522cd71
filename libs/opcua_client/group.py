"""The nodes of one scan class of one server: asked for at each deadline, their answers or failures staged."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from acquisition import Publisher
from endpoint_config import OpcUaNode
from process_image.quality import BAD_NODE_ID_UNKNOWN, BAD_TIMEOUT, BAD_WAITING_FOR_INITIAL_DATA, quality_name

from opcua_client.channel import Answer
from opcua_client.errors import Malformed, OpcUaError, Refused, Unanswered, Unreachable
from opcua_client.plan import GroupPlan, ReadPlan, make_plan
from opcua_client.qualities import SESSION_GONE, TOO_MUCH
from opcua_client.schedule import Grid
from opcua_client.session import Session
from opcua_client.values import Batch

if TYPE_CHECKING:
    from opcua_client.poller import ServerPoller

AHEAD = 2
"""Requests of one poll that may be under way at once: the server works while we decode."""
MOST_UNANSWERED = 2
"""Abandoned requests of one scan class; with more of them under way nothing further is asked."""
MOST_NOTES = 10
"""Nodes named in one text of `$last_error`."""
SHORTEST_HOLD = 0.1
"""Seconds between two looks at a server that holds back its answers, where its interval is shorter."""
DOWN_SECONDS = 1.0
"""How often blocks without a session are published, so that they do not count as stale: Bad is what they are."""


class Group:
    """The nodes of one scan class of one server."""

    def __init__(self, poller: ServerPoller, grid: Grid, nodes: Sequence[OpcUaNode]) -> None:
        self._poller = poller
        self._publisher = poller.publisher
        self._grid = grid
        self._nodes = tuple(nodes)
        alias = poller.server.alias
        index = self._publisher.index
        self._rows_of = [[index[f"{alias}/{point.name}"] for point in node.points] for node in self._nodes]
        self._rows = np.array([row for rows in self._rows_of for row in rows], np.intp)
        self._blocks = _blocks_of(self._publisher, self._rows)
        self._plan: GroupPlan | None = None
        self._kick = asyncio.Event()
        self._told: dict[int, int] = {}
        self._odd_times = False
        self.unanswered: deque[tuple[float, Answer]] = deque()
        """When each abandoned request was sent, and its answer if it still comes."""

    def start(self, session: Session) -> None:
        """Plan for a new session and poll at once."""
        server = self._poller.server
        limits = [n for n in (server.chunk, session.max_nodes) if n > 0]
        self._plan = make_plan(
            self._nodes, self._rows_of, namespaces=session.namespaces, most_nodes=min(limits, default=0),
            most_bytes=session.channel.largest_request, types=session.types,
        )
        self._told.clear()
        self.unanswered.clear()
        self._fail_lost(self._plan)
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
        self._fail(self._rows, error.quality)
        self._touch(time.monotonic() + 2 * DOWN_SECONDS)

    async def run(self) -> None:
        """Poll at each deadline until cancelled."""
        self._touch(time.monotonic() + 2 * DOWN_SECONDS)
        while True:
            session, plan = self._poller.session, self._plan
            if session is None or plan is None:
                await self._wait(DOWN_SECONDS)
                if self._plan is None:
                    self._touch(time.monotonic() + 2 * DOWN_SECONDS)
                    self._poller.flush()
                continue
            await self._wait(self._grid.due - time.monotonic())
            if self._poller.session is session and self._plan is plan:
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
        self._drop_answered()
        if len(self.unanswered) < MOST_UNANSWERED:
            await self._poll(session, plan)
        else:
            await self._hold_on(plan)
        now = time.monotonic()
        if self._grid.interval > 0 and now - began > self._grid.interval:
            status.late += 1
        status.missed += self._grid.advance(now)
        if self._plan is plan:
            self._touch(self._grid.due + max(now - began, 0.0))
            self._poller.flush()

    async def _hold_on(self, plan: GroupPlan) -> None:
        """The server holds back too many answers: wait for one of them, a poll's time at most."""
        answers = [answer for _, answer in self.unanswered]
        seconds = max(self._grid.interval, SHORTEST_HOLD)
        await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED, timeout=seconds)
        if self._plan is plan and not any(answer.done() for answer in answers):
            self._fail(self._rows, BAD_TIMEOUT)

    def _drop_answered(self) -> None:
        """Answers that came after all are not used: they are older than what is asked for now."""
        while self.unanswered and self.unanswered[0][1].done():
            self.unanswered.popleft()
        self._poller.keeper.waiting_since = self._poller.longest_wait()

    async def _poll(self, session: Session, plan: GroupPlan) -> None:
        """Send every request, take every answer; the first one that does not come in time ends the poll."""
        sent: deque[tuple[ReadPlan, float, Answer]] = deque()
        waiting = deque(plan.reads)
        try:
            while waiting or sent:
                while waiting and len(sent) < AHEAD:
                    read = waiting.popleft()
                    sent.append((read, time.monotonic(), self._send(session, read)))
                read, since, answer = sent[0]
                if not await self._answered(answer, since):
                    self._abandon(sent, waiting)
                    return
                sent.popleft()
                self._take(read, answer, since, plan, session)
        except Unreachable as error:
            self._give_up(session, error)

    def _send(self, session: Session, read: ReadPlan) -> Answer:
        self._poller.keeper.note_sent()
        return session.channel.read(read.body, self._poller.server.timeout)

    async def _answered(self, answer: Answer, since: float) -> bool:
        left = since + self._poller.server.timeout - time.monotonic()
        if left > 0 and not answer.done():
            await asyncio.wait({answer}, timeout=left)
        return answer.done()

    def _abandon(self, sent: deque[tuple[ReadPlan, float, Answer]], waiting: deque[ReadPlan]) -> None:
        """Give up on this poll and on nothing else: the session stays, the next poll asks again."""
        seconds = self._poller.server.timeout
        error = Unanswered("read", f"no answer within {seconds:g} s", "the server may be overloaded")
        for read, since, answer in sent:
            self._fail(read.span, error.quality)
            if not answer.done():
                self.unanswered.append((since, answer))
        for read in waiting:
            self._fail(read.span, error.quality)
        self._poller.keeper.waiting_since = self._poller.longest_wait()
        self._poller.status.note_failure(self._text(error), connected=False)

    def _give_up(self, session: Session, error: OpcUaError) -> None:
        """This session can't go on; a newer one is not meant."""
        if self._poller.session is session:
            self._poller.keeper.give_up(error)

    def _take(self, read: ReadPlan, answer: Answer, since: float, plan: GroupPlan, session: Session) -> None:
        """Put one answer into the staging records, or its failure."""
        body = answer.result()
        received = time.time_ns()
        try:
            batch = read.converter.batch(body, received)
        except Refused as error:
            self._refused(read, error, plan, session)
        except Malformed as error:
            self._split(read, plan)
            self._fail(read.span, error.quality)
            self._poller.status.note_failure(self._text(error))
        else:
            self.unanswered.clear()
            self._poller.keeper.waiting_since = self._poller.longest_wait()
            self._poller.status.note_request(time.monotonic() - since)
            self._stage(read, batch, received)
            self._tell(read, batch)
            if plan.types.wanted:
                self._poller.learn_types(session)

    def _refused(self, read: ReadPlan, error: Refused, plan: GroupPlan, session: Session) -> None:
        self._fail(read.span, error.quality)
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

    def _stage(self, read: ReadPlan, batch: Batch, received: int) -> None:
        records, span = self._publisher.records, read.span
        records["quality"][span] = batch.quality
        records["received_time"][span] = received
        if batch.fresh.all():
            rows, pick = span, slice(None)
        else:
            rows, pick = read.rows[batch.fresh], batch.fresh  # type: ignore[assignment]
        records["value"][rows] = batch.value[pick]
        records["raw"][rows] = batch.raw[pick]
        records["source_time"][rows] = batch.source_time[pick]
        for place, text in batch.texts:
            self._publisher.set_text(int(read.rows[place]), text)

    def _tell(self, read: ReadPlan, batch: Batch) -> None:
        """Say in `$last_error` which nodes have become bad and why; once for each change."""
        notes = []
        if batch.odd_times >= 0 and not self._odd_times:
            self._odd_times = True
            notes.append(f"{read.points[batch.odd_times].name}: the source time can't be right, the time of receipt "
                         "stands in its place; set the server's clock")
        bad = np.flatnonzero(batch.quality & 0x8000_0000)
        if self._told and len(bad) < len(batch.quality):
            good = np.flatnonzero((batch.quality & 0x8000_0000) == 0)
            for row in read.rows[good].tolist():
                self._told.pop(row, None)
        reasons = dict(batch.mismatches)
        for place in bad.tolist():
            row, quality = int(read.rows[place]), int(batch.quality[place])
            if self._told.get(row) != quality and quality != BAD_WAITING_FOR_INITIAL_DATA:
                self._told[row] = quality
                notes.append(f"{read.points[place].name}: {reasons.get(place) or 'server'}: {quality_name(quality)}")
        if notes:
            count = f"{len(notes)} notes, " if len(notes) > 1 else ""
            self._poller.status.note_error(f"{self._poller.server.alias}: read: {count}{', '.join(notes[:MOST_NOTES])}")

    def _fail_lost(self, plan: GroupPlan) -> None:
        for rows, node in plan.lost:
            self._fail(rows, BAD_NODE_ID_UNKNOWN)
            self._poller.status.note_error(
                f"{self._poller.server.alias}: read {node.name}: the server has no namespace {node.namespace_uri!r}; "
                "check NamespaceUri"
            )

    def _fail(self, rows: object, quality: int) -> None:
        self._publisher.fail(rows, quality, time.time_ns())  # type: ignore[arg-type]

    def _touch(self, due: float) -> None:
        nanoseconds = int(due * 1e9)
        for block in self._blocks:
            self._publisher.touch(block, nanoseconds)

    def _text(self, error: OpcUaError) -> str:
        return f"{self._poller.server.alias}: {error}"


def _blocks_of(publisher: Publisher, rows: object) -> list[int]:
    """Numbers of the blocks that hold these rows."""
    starts = np.array([block.start for block in publisher.blocks], np.intp)
    order = np.argsort(starts)
    found = order[np.searchsorted(starts[order], rows, side="right") - 1]  # type: ignore[call-overload]
    return sorted(set(found.tolist()))


