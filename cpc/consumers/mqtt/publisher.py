"""The publisher: sources, outbox, link and announcements, turned by one loop."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator

import numpy as np
from endpoint_config import MqttSettings
from mqtt_link import Link
from process_image import Cursor, Point, describe

from cpc.consumers.base import Base
from cpc.consumers.contract import Context, Health, Refused
from cpc.consumers.mqtt.aggregates import Aggregate
from cpc.consumers.mqtt.announce import Announcer
from cpc.consumers.mqtt.metrics import METRICS, Alarm
from cpc.consumers.mqtt.outbox import Outbox
from cpc.consumers.mqtt.rules import Names, Plan
from cpc.consumers.mqtt.source import Outgoing, Source
from cpc.consumers.mqtt.store import Store
from cpc.logs import event

TURN = 2000
"""Most messages taken in one turn, so that the heartbeat and the socket get theirs."""
DANGER = 0.5
"""Part of the journal's ring that may be unread before kept messages give way to new ones."""
MOST_MADE = 100_000
"""Most messages made at intervals that wait to be taken; beyond, they are given up and counted."""
STOP_SECONDS = 0.4
"""Longest wait for acknowledgements at the end."""

_log = logging.getLogger("mqtt")


class MqttPublisher(Base):
    """See the package."""

    metrics = METRICS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if not isinstance(context.settings, MqttSettings):
            raise Refused(f"{context.name}: needs the settings of an <mqtt> element")
        self.settings = settings = context.settings
        self._names = Names(settings, context.partition)
        self._announcer = Announcer(settings, self._names)
        self.link = Link(settings.connection, context.name, will=self._announcer.will(), fresh=True)
        self.sources = [Source(feed, self._make_plan, self._announcer.note) for feed in self.feeds]
        self.outbox = Outbox(self.link, self.sources, window=settings.window, drain_rate=settings.store.drain_rate,
                             strict=settings.store.order == "strict")
        self._tell_when_up()
        self._aggregates = [Aggregate(aggregate, self._names) for aggregate in settings.aggregates]
        self._made: deque[Outgoing] = deque()
        self._next_look = 0.0
        self._every_due = {number: 0.0 for number, rule in enumerate(settings.rules) if rule.every}
        self._alarm = Alarm()
        self._store_retry = 0.0
        self._store_message = ""
        self._order: list[Source] = list(self.sources)

    def _tell_when_up(self) -> None:
        """The broker is told everything at each connection; the outbox hears of it first."""
        before = self.link.on_up

        def up(kept: bool) -> None:
            before(kept)
            self._announcer.tell_all()
            event(_log, logging.INFO, "connected", consumer=self.context.name, broker=self.link.broker)

        self.link.on_up = up

    # -- the contract

    def start(self) -> None:
        """Open the store and take up its cursors; a disk that is full is no reason not to publish."""
        self._open_store(first=True)

    def step(self, timeout: float) -> None:
        """One turn: the connection, what is new, what waits; then sleep until a publish, the socket, or what is due."""
        self.link.step()
        if self.outbox.store is None and time.monotonic() >= self._store_retry:
            self._open_store(first=False)
        busy = self._turn()
        self._alarm.look(self.outbox)
        busy = busy or self.link.has_pending
        self._sleep(0.0 if busy else timeout)

    def stop(self) -> None:
        """Take what is left in the journal, wait a little for the broker, keep the rest, say farewell."""
        until = time.monotonic() + STOP_SECONDS
        while (self._turn() or self.outbox.in_flight) and time.monotonic() < until:
            self.link.step()
            self._serve(min(0.02, max(0.0, until - time.monotonic())))
        self.outbox.close()
        self.link.close(self._announcer.farewell())
        for waker in self._wakers:
            waker.close()
        for feed in self.feeds:
            feed.close()

    def health(self) -> Health:
        """As of the latest turn."""
        feeds = next((feed.message for feed in self.feeds if feed.message), "")
        message = self._alarm.message or self._store_message or self.link.message or self.outbox.message or feeds
        return Health(connected=self.link.up, message=message, counts=self._alarm.counts(self.outbox, self.link))

    # -- one turn

    def _turn(self) -> bool:
        """Whether there may be more to do at once."""
        self._look_around()
        self._announce()
        self.link.gather(True)
        taken, more = 0, True
        while more and taken < TURN and (credit := self.outbox.credit()):
            for _ in range(min(credit, TURN - taken)):
                outgoing = self._next()
                if outgoing is None:
                    more = False
                    break
                self.outbox.take(outgoing)
                taken += 1
        self.outbox.step(danger=self._in_danger())
        self.link.gather(False)
        return more and taken > 0

    def _next(self) -> Outgoing | None:
        """What was made at intervals goes first, then the segments in turn."""
        if self._made:
            return self._made.popleft()
        for _ in self._order:
            found = self._order[0].take()
            if found is not None:
                return found
            self._order.append(self._order.pop(0))
        return None

    def _announce(self) -> None:
        if not self.link.up or not self.outbox.room:
            return
        for message in self._announcer.due():
            if not self.outbox.announce(message):
                self._announcer.untell()
                return

    def _in_danger(self) -> bool:
        if not self.outbox.disk_fault:
            return False
        found = [(feed.lag, describe(feed.segment)) for feed in self.feeds]
        return any(info is not None and lag > DANGER * info.journal_entries for lag, info in found)

    # -- waiting

    def _sleep(self, timeout: float) -> None:
        """Wait, but not past what is due; serve the socket."""
        now = time.monotonic()
        if not timeout:
            self._serve(0.0)
            return
        until = min([timeout, 0.05 if self.outbox.waiting or self.outbox.in_flight else timeout,
                     max(0.0, self._next_look - now)])
        self._serve(until)

    def _serve(self, timeout: float) -> None:
        descriptor = self.link.descriptor
        if descriptor < 0:
            self.wait(min(timeout, 0.02) if self.link.connecting else timeout)
            return
        ready = dict(self.wait(0.0 if self.link.has_pending else timeout, (descriptor, self.link.events)))
        if ready.get(descriptor) or self.link.has_pending:
            self.link.serve(ready.get(descriptor, 0))

    # -- what is made at intervals

    def _look_around(self) -> None:
        """Snapshots, silences and aggregates that are due; looked for ten times a second."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + 0.1
        for source in self.sources:
            if source.plan is not None:
                self._look_at(source, source.plan, now)
        for number, due in self._every_due.items():
            if now >= due:
                self._every_due[number] = now + self.settings.rules[number].every
        for aggregate in self._aggregates:
            if time.time() >= aggregate.due:
                snapshots = [s for feed in self.feeds if (s := feed.snapshot()) is not None]
                self._make(Outgoing(message) for message in aggregate.messages(snapshots))

    def _look_at(self, source: Source, plan: Plan, now: float) -> None:
        due = [number for number, at in self._every_due.items() if now >= at]
        rows = np.union1d(np.flatnonzero(np.isin(plan.rule_of, due)), plan.silent(now))
        if len(rows) and (snapshot := source.feed.snapshot()) is not None:
            self._make(source.of_rows(snapshot, rows))

    def _make(self, outgoing: Iterator[Outgoing]) -> None:
        self._made.extend(outgoing)
        while len(self._made) > MOST_MADE:
            self._made.popleft()
            self.outbox.counts.discarded += 1

    # -- beginnings

    def _make_plan(self, points: tuple[Point, ...]) -> Plan:
        plan = Plan(points, self.settings, self._names)
        for fault in plan.faults[:10]:
            event(_log, logging.WARNING, "a point is not published", consumer=self.context.name, reason=fault)
        return plan

    def _open_store(self, *, first: bool) -> None:
        s = self.settings.store
        try:
            store = Store(self.context.state / "store", megabytes=s.megabytes, hours=s.hours)
        except OSError as error:
            self._store_retry = time.monotonic() + 1.0
            self._store_message = f"store: {error.strerror or error}; make room in {self.context.state}"
            return
        self._store_message = ""
        if first:
            for source in self.sources:
                text = store.cursors.get(source.feed.segment)
                source.resume(_parse(text))
        self.outbox.store = store
        if store.waiting:
            event(_log, logging.INFO, "messages wait in the store", consumer=self.context.name, count=store.waiting)


def _parse(text: str | None) -> Cursor | None:
    try:
        return None if text is None else Cursor.parse(text)
    except ValueError:
        return None
