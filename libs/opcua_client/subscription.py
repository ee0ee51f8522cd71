"""One subscription at a server: made or taken over, its notifications staged in order, its life watched."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from endpoint_config import OpcUaNode
from process_image.quality import BAD_NODE_ID_UNKNOWN, is_bad, quality_name

from opcua_client.changes import OVERFLOW, ChangeReader, Changes, Places
from opcua_client.datatypes import kind_of
from opcua_client.encoding import read_value_id
from opcua_client.errors import Malformed, OpcUaError, Refused
from opcua_client.monitored import (
    Message,
    Monitoring,
    create_items,
    create_subscription,
    delete_subscription,
    republish,
    transfer,
)
from opcua_client.plan import ReadPlan, Target, make_read, namespace_index, node_id_at
from opcua_client.session import Session
from opcua_client.staging import MOST_NOTES, Stage, blocks_of

if TYPE_CHECKING:
    from opcua_client.subscriber import Subscriber

ALIVE_SECONDS = 2.0
"""A subscription without news says this often that it lives, or at each publishing interval if that is longer."""
LIFETIME_SECONDS = 60.0
"""How long a server keeps a subscription that nobody asks for: for a new session to take it over, and no longer."""
MOST_LOST = 1_000
"""Missing notifications that are asked for again at once; of more than that the rest is counted as lost."""
FILTER_REFUSED = frozenset([
    0x80430000,  # BadMonitoredItemFilterInvalid
    0x80440000,  # BadMonitoredItemFilterUnsupported
    0x80450000,  # BadFilterNotAllowed
    0x808E0000,  # BadDeadbandFilterInvalid
])
LAST_SEQUENCE = 0xFFFF_FFFF
_log = logging.getLogger("opcua_client")


class Subscription:
    """The nodes of one server that share a publishing interval."""

    def __init__(self, subscriber: Subscriber, publishing: float,
                 wanted: Sequence[tuple[OpcUaNode, Monitoring]]) -> None:
        """`publishing` in seconds."""
        self._of = subscriber
        self._publisher = subscriber.publisher
        self._wanted = tuple(wanted)
        self._publishing = publishing
        index, alias = self._publisher.index, subscriber.server.alias
        self._rows_of = [tuple(index[f"{alias}/{point.name}"] for point in node.points) for node, _ in self._wanted]
        self.rows = np.array([row for rows in self._rows_of for row in rows], np.intp)
        self.blocks = blocks_of(self._publisher, self.rows)
        self._composites = Stage(self._publisher, subscriber.status, alias, self.rows)
        self.number: int | None = None
        """The server's id for it, None where there is none."""
        self.live = False
        """Whether it is there in the present session; before that its number is only good for taking it over."""
        self.heard = 0.0
        """Monotonic time of the latest sign of life."""
        self.alive_every = ALIVE_SECONDS
        """Seconds between two signs of life at most."""
        self.failed: list[int] = []
        """Handles of the items that the server refused."""
        self._last = 0
        self._namespaces: tuple[str, ...] = ()
        self._saved: npt.NDArray[np.uint32] | None = None
        self._told: dict[int, int] = {}
        self._odd_times = False

    # -- its life at the server

    async def establish(self, session: Session, most: int) -> None:
        """Take the subscription of an earlier session over, else make a new one; OpcUaError where neither goes."""
        self.live = False
        if self.number is not None and self._namespaces == session.namespaces and await self._transferred(session):
            self.live = True
            return
        self.number = None
        lifetime = max(LIFETIME_SECONDS, 3 * ALIVE_SECONDS)
        period = max(self._publishing, 0.01)
        alive = max(1, math.ceil(ALIVE_SECONDS / period))
        life = max(3 * alive, math.ceil(lifetime / period))
        made = await create_subscription(session.channel, self._publishing, life, alive, self._of.server.timeout)
        self.number, self._last, self._saved, self.live = made.number, 0, None, True
        self.alive_every = max(made.publishing, 0.001) * max(made.keep_alive, 1)
        self.heard = time.monotonic()
        self._namespaces = session.namespaces
        self._of.counts.made += 1
        self._told.clear()
        self._plan(session)
        try:
            await self.add_items(session, [t for t in range(len(self._wanted)) if self._targets[t] is not None], most)
        except OpcUaError:
            await self.drop(session)
            raise

    async def drop(self, session: Session) -> None:
        """Have the server forget it, if it can hear."""
        number, self.number, self.live = self.number, None, False
        if number is not None:
            try:
                await delete_subscription(session.channel, number, self._of.server.timeout)
            except OpcUaError as error:
                _log.debug("%s: %s", self._of.server.alias, error)

    async def _transferred(self, session: Session) -> bool:
        """Whether a server that still has it gives it to this session, with what was not received meanwhile."""
        number, timeout = self.number or 0, self._of.server.timeout
        try:
            status, available = await transfer(session.channel, number, timeout)
        except (Refused, Malformed):
            return False
        if is_bad(status):
            return False
        self.heard = time.monotonic()
        self._plan(session)
        self._resume()
        for sequence in sorted(available, key=self._distance):
            if 0 < self._distance(sequence) < LAST_SEQUENCE // 2:
                await self._fetch(session, sequence)
            self._of.acknowledge(number, sequence)
        self.publish()
        _log.info("%s: subscription %d taken over", self._of.server.alias, number)
        return True

    def _distance(self, sequence: int) -> int:
        """How far a sequence number lies ahead of the latest; 0 is no number (Part 4, clause 7.36)."""
        return (sequence - self._last) % LAST_SEQUENCE

    def _plan(self, session: Session) -> None:
        """What each node is at this server."""
        self._targets: list[Target | None] = []
        for (node, _), rows in zip(self._wanted, self._rows_of, strict=True):
            index = namespace_index(node, session.namespaces)
            if index is None:
                self._fail(rows, BAD_NODE_ID_UNKNOWN)
                self._of.note(f"subscribe {node.name}: the server has no namespace {node.namespace_uri!r}; check "
                              "NamespaceUri")
                self._targets.append(None)
                continue
            node_id = node_id_at(node, index)
            self._targets.append(Target(node, node.points, rows, node_id, read_value_id(node_id)))
        simple = [target is not None and not target.is_variable for target in self._targets]
        points = [node.points[0] for node, _ in self._wanted]
        self._row = np.array([rows[0] for rows in self._rows_of], np.intp)
        self._reader = ChangeReader(
            [kind_of(point.datatype) if plain else None for point, plain in zip(points, simple, strict=True)],
            [(point.minimum, point.maximum) for point in points],
        )
        self._slow: dict[int, ReadPlan] = {
            handle: make_read([target], session.types) for handle, target in enumerate(self._targets)
            if target is not None and not simple[handle]
        }
        self._latest: dict[int, bytes] = {}
        self._staged = np.zeros(len(self._wanted), np.bool_)

    async def add_items(self, session: Session, handles: Sequence[int], most: int) -> None:
        """Have items monitored, at most `most` in a request (0 = no limit); one that is refused harms only itself."""
        self.failed = []
        step = min(n for n in (most, self._of.server.chunk, len(handles) or 1) if n > 0)
        for begin in range(0, len(handles), step):
            await self._add_some(session, handles[begin : begin + step], filtered=True)

    async def _add_some(self, session: Session, handles: Sequence[int], *, filtered: bool) -> None:
        items = []
        for handle in handles:
            target = self._targets[handle]
            assert target is not None
            items.append(target.item + self._wanted[handle][1].parameters(handle, filtered=filtered))
        made = await create_items(session.channel, self.number or 0, items, self._of.server.timeout)
        unfiltered, notes = [], []
        for handle, item in zip(handles, made, strict=True):
            node, wanted = self._wanted[handle]
            if filtered and item.status in FILTER_REFUSED and wanted.deadband is not None:
                unfiltered.append(handle)
                notes.append(f"{node.name}: deadband: {quality_name(item.status)}, every change is sent")
            elif is_bad(item.status):
                self.failed.append(handle)
                self._fail(self._rows_of[handle], item.status)
                if self._told.get(handle) != item.status:
                    notes.append(f"{node.name}: {quality_name(item.status)}")
                self._told[handle] = item.status
            elif item.queue < wanted.queue:
                _log.info("%s: subscribe %s: a queue of %d is what the server gives", self._of.server.alias, node.name,
                          item.queue)
        self._tell(notes)
        if unfiltered:
            await self._add_some(session, unfiltered, filtered=False)

    # -- what it sends

    async def take(self, session: Session, message: Message, available: Sequence[int]) -> None:
        """Stage a notification, after those that are missing before it; duplicates are passed over."""
        self.heard = time.monotonic()
        self._resume()
        ahead = self._distance(message.sequence)
        if not 0 < ahead < LAST_SEQUENCE // 2:
            return
        missing = ahead - 1
        if missing:
            await self._recover(session, missing, available)
        if not message.is_keep_alive:
            self._stage(message)
            self._last = message.sequence
            self._of.acknowledge(self.number or 0, message.sequence)
        self.publish()

    async def _recover(self, session: Session, missing: int, available: Sequence[int]) -> None:
        """Ask again for what did not arrive; what can't be had is counted, and told."""
        lost = max(0, missing - MOST_LOST)
        self._last = (self._last + lost - 1) % LAST_SEQUENCE + 1 if lost else self._last
        for _ in range(missing - lost):
            following = self._last % LAST_SEQUENCE + 1
            if available and following not in available:
                self._last = following
                lost += 1
                continue
            lost += not await self._fetch(session, following)
        if lost:
            self._of.counts.lost += lost
            self._of.note(f"subscribe: {lost} notifications were lost; the server is slower than its publishing "
                          "interval, or keeps too few")

    async def _fetch(self, session: Session, sequence: int) -> bool:
        """Get one notification again and stage it; whether it could be had."""
        self._last = sequence
        try:
            message = await republish(session.channel, self.number or 0, sequence, self._of.server.timeout)
            self._stage(message)
        except (Refused, Malformed):
            return False
        self._of.counts.republished += 1
        self._of.acknowledge(self.number or 0, sequence)
        return True

    def _stage(self, message: Message) -> None:
        """Put a notification into the records, each value of an item that stands in it more than once published."""
        received = time.time_ns()
        counts = self._of.counts
        counts.notifications += 1
        for begin, end in message.changes:
            changes = self._reader.read(message.body, begin, end, received)
            counts.values += len(changes.handles)
            counts.overflows += changes.overflows
            for places in changes.rounds():
                self._make_room(changes.handles[places])
                self._stage_round(changes, places, received)
            self._tell_changes(changes)

    def _make_room(self, handles: npt.NDArray[np.uint32]) -> None:
        """Publish what is staged before a newer value of the same item takes its place: the journal gets both."""
        if self._staged[handles].any():
            self.publish()
            self._publisher.flush()
            self._staged[:] = False
        self._staged[handles] = True

    def _stage_round(self, changes: Changes, places: Places, received: int) -> None:
        records = self._publisher.records
        plain = places if changes.simple.all() else places[changes.simple[places]]
        rows = self._row[changes.handles[plain]]
        records["quality"][rows] = changes.quality[plain]
        records["received_time"][rows] = received
        fresh = changes.fresh[plain]
        if not fresh.all():
            plain, rows = plain[fresh], rows[fresh]
        records["value"][rows] = changes.value[plain]
        records["raw"][rows] = changes.raw[plain]
        records["source_time"][rows] = changes.source_time[plain]
        if len(plain) != len(places):
            for place in places.tolist():
                if place in changes.answers:
                    self._take_slow(int(changes.handles[place]), changes.answers[place], received)

    def _take_slow(self, handle: int, body: bytes, received: int) -> None:
        """A text, an array or a structure, by the reader that polls use."""
        read = self._slow.get(handle)
        if read is None:
            return
        self._latest[handle] = body
        batch = read.converter.batch(body, received)
        dropped = (batch.quality & OVERFLOW) == OVERFLOW
        if dropped.any():
            batch.quality = np.where(dropped, batch.quality & ~np.uint32(OVERFLOW), batch.quality)
        self._composites.take(read, batch, received)
        if (session := self._of.session) and session.types.wanted:
            self._of.learn_types(session)

    def take_again(self) -> None:
        """Read the latest arrays and structures once more, because more of their types are known now."""
        received = time.time_ns()
        for handle, body in list(self._latest.items()):
            if self._slow[handle].converter.is_composite:
                self._take_slow(handle, body, received)
        self.publish()

    # -- when it is silent

    def silence(self, quality: int) -> None:
        """Nothing is heard of it: its records say so, and what they said is kept for when it goes on."""
        if self._saved is None and self.number is not None:
            self._saved = self._publisher.records["quality"][self.rows].copy()
        self._publisher.fail(self.rows, quality, time.time_ns())
        self.publish()

    def _resume(self) -> None:
        """It goes on without a gap: what was Good before is so again."""
        if self._saved is not None:
            self._publisher.records["quality"][self.rows] = self._saved
            self._saved = None

    @property
    def is_silent(self) -> bool:
        """Whether its records say that nothing is heard of it."""
        return self._saved is not None

    def publish(self) -> None:
        """Have its blocks published; they are due again with the next sign of life."""
        due = int((time.monotonic() + self.alive_every + self._of.server.timeout) * 1e9)
        for block in self.blocks:
            self._publisher.touch(block, due)
        self._of.flush()

    def _fail(self, rows: Sequence[int], quality: int) -> None:
        self._publisher.fail(rows, quality, time.time_ns())

    def _tell_changes(self, changes: Changes) -> None:
        """Say which nodes have become bad and why, once for each change."""
        notes = []
        if changes.odd_times >= 0 and not self._odd_times:
            self._odd_times = True
            name = self._wanted[int(changes.handles[changes.odd_times])][0].name
            notes.append(f"{name}: the source time can't be right, the time of receipt stands in its place")
        bad = np.flatnonzero(changes.simple & ((changes.quality & 0x8000_0000) != 0))
        if self._told:
            for handle in changes.handles[(changes.quality & 0x8000_0000) == 0].tolist():
                self._told.pop(handle, None)
        reasons = dict(changes.mismatches)
        for place in bad.tolist():
            handle, quality = int(changes.handles[place]), int(changes.quality[place])
            if self._told.get(handle) != quality:
                self._told[handle] = quality
                name = self._wanted[handle][0].name
                notes.append(f"{name}: {reasons.get(place) or 'server'}: {quality_name(quality)}")
        self._tell(notes)

    def _tell(self, notes: Sequence[str]) -> None:
        if notes:
            count = f"{len(notes)} notes, " if len(notes) > 1 else ""
            self._of.note(f"subscribe: {count}{', '.join(notes[:MOST_NOTES])}")
