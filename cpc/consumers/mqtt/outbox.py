"""What is on its way, what waits, and which of the two a message does: the promises of the publisher live here.

A message is in one of these places: in the journal, behind its source's floor (another life reads it again); on its
way, counted at its source until the broker has acknowledged it; or in the store, from which only an acknowledgement
removes it. Between what is written down as done and what was sent last lie at most `window` messages: so many can
arrive twice after a kill.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Sequence

from mqtt_link import Link, Message
from mqtt_link.session import FAILED_REASON, UNKNOWN_PACKET

from cpc.consumers.mqtt.flight import Counts, Flight
from cpc.consumers.mqtt.source import Outgoing, Source
from cpc.consumers.mqtt.store import Store

PERMANENT = frozenset([0x87, 0x90, 0x95, 0x99])
"""Refusals that another attempt does not change: not authorized, topic name invalid, packet too large, payload format
invalid (MQTT 5.0, clause 2.4)."""
BATCH = 1000
"""Most messages that are kept at once."""
KEEP_SECONDS = 0.5
GATHER_SECONDS = 0.05
"""Messages are gathered so long before the disk is asked to keep them: it takes as long for one as for many."""
STALLED = 1.0
"""Seconds for which nothing could be sent though the broker is there, after which new messages are kept instead."""
RETRY_DISK = 1.0
"""Seconds between attempts to write to a disk that is full."""


class Outbox:
    """See the module. `store` is None while its folder can't be used."""

    def __init__(self, link: Link, sources: Sequence[Source], *, window: int, drain_rate: float, strict: bool) -> None:
        """`strict`: while messages wait in the store, new ones go behind them."""
        self.store: Store | None = None
        self.counts = Counts()
        self.message = ""
        """What the broker refused last."""
        self.disk_fault = ""
        """Why nothing can be kept, empty where it can."""
        self._link, self._sources, self._window, self._strict = link, sources, window, strict
        self._drain_rate = drain_rate
        self._flights: OrderedDict[int, Flight] = OrderedDict()
        self._again: deque[Flight] = deque()
        self._batch: list[Flight] = []
        self._keeping = True
        self._announced: set[int] = set()
        self._posted: list[Flight] = []
        """What has QoS 0 and was posted, and the socket has not taken yet."""
        self._stored_in_flight: set[int] = set()
        self._number = self._sent = 0
        self._since_keep = 0
        self._keep_at = self._tokens = self._disk_retry = self._batch_at = 0.0
        self._progress_at = self._tokens_at = time.monotonic()
        link.on_acknowledged = self._acknowledged
        link.on_up = self._came_up
        link.on_down = self._went_down

    @property
    def in_flight(self) -> int:
        """Messages handed to the broker and not acknowledged; of QoS 0, not taken by the socket."""
        return len(self._flights) + len(self._posted)

    @property
    def waiting(self) -> int:
        """Messages in the store."""
        return 0 if self.store is None else self.store.waiting

    @property
    def keeps(self) -> bool:
        """Whether new messages go to the store and not to the broker."""
        if not self._link.up or (self._strict and self._backlog):
            return True
        return not self.room and time.monotonic() - self._progress_at > STALLED

    def credit(self) -> int:
        """How many messages may be taken now; decides whether they are sent or kept."""
        self._flush()
        self._keeping = self.keeps
        if self._keeping:
            return max(0, BATCH - len(self._batch))
        return 0 if self._again or self._batch else self.room  # those came earlier

    @property
    def _backlog(self) -> int:
        """Stored messages that were not handed to the broker yet."""
        return self.waiting - len(self._stored_in_flight)

    @property
    def room(self) -> int:
        """Messages that may be sent now."""
        if not self._link.up or self._link.congested:
            return 0
        most = min(max(1, self._window * 3 // 4), self._link.receive_maximum)
        oldest = next(iter(self._flights.values())).sent if self._flights else self._sent + 1
        under_way = max(self._sent + 1 - oldest, len(self._flights)) + len(self._posted)
        return max(0, most - under_way - len(self._announced))

    def announce(self, message: Message) -> bool:
        """Send something that is said again at each connection, and therefore never kept; whether it was taken."""
        mid = self._link.publish(message) if self.room else None
        if mid is not None and message.qos:
            self._announced.add(mid)
        return mid is not None

    def take(self, outgoing: Outgoing) -> None:
        """Send a message, or put it to those that are kept next; at most as many as `credit` said."""
        self._number += 1
        flight = Flight(outgoing, self._number)
        if outgoing.source is not None and outgoing.place is not None:
            outgoing.source.begin(self._number, outgoing.place)
        if self._keeping or self._again:
            self._batch.append(flight)
        else:
            self._send(flight)

    def step(self, *, danger: bool) -> None:
        """Send again what must be, keep what can't be sent, send what was kept, write down what is done.

        `danger`: what was not read yet is about to be lost; where the disk is full, the oldest that is kept gives way.
        """
        if self._batch and not self.keeps:
            self._again.extend(self._batch)  # the broker is back before the disk took them
            self._batch.clear()
        while self._again and self.room:
            self._send(self._again.popleft())
        self._flush()
        if self.keeps:
            self._keep_batch(danger=danger)
        if self.disk_fault and not self._batch:
            self._look_for_room()
        self._drain()
        self.write_down()

    def write_down(self, *, now: bool = False) -> None:
        """Have the store know what is done: often enough that a kill repeats no more than the window."""
        moment = time.monotonic()
        if self.store is None or not (now or self._since_keep >= max(1, self._window // 4)
                                      or (self._since_keep and moment >= self._keep_at)):
            return
        self._since_keep, self._keep_at = 0, moment + KEEP_SECONDS
        try:
            self.store.expire()
            self.store.keep({s.feed.segment: str(s.floor) for s in self._sources if s.floor is not None})
        except OSError as error:
            self.disk_fault = str(error.strerror or error)

    def close(self) -> None:
        """Keep what was taken and is not done, as far as the disk takes it."""
        if self.store is not None:
            self._disk_retry = 0.0
            self._keep_batch(danger=False, closing=True)
            self.write_down(now=True)
            self.store.close()
            self.store = None

    # -- sending

    def _send(self, flight: Flight) -> None:
        message = flight.outgoing.message
        limit = self._link.maximum_packet
        if limit and len(message.topic) * 4 + len(message.payload) + 64 > limit:
            self._refuse(flight, f"{message.topic}: larger than the {limit} bytes that the broker takes")
            return
        if flight.stored and message.qos == 0:  # only an acknowledgement removes it from the store
            message = message._replace(qos=1)
        flight.qos = message.qos
        if not message.qos:
            self._post(flight, message)
            return
        mid = self._link.publish(message)
        if mid is None:
            self._return([flight])
            return
        if not self._flights:
            self._progress_at = time.monotonic()
        self._sent += 1
        flight.sent = self._sent
        self._flights[mid] = flight
        if flight.stored:
            self._stored_in_flight.add(flight.stored)
        self._count(message)

    def _post(self, flight: Flight, message: Message) -> None:
        if self._link.post(message):
            if not self._posted:
                self._progress_at = time.monotonic()
            self._posted.append(flight)
            self._count(message)
        else:
            self._return([flight])

    def _count(self, message: Message) -> None:
        self.counts.published += 1
        self.counts.bytes += len(message.payload) + len(message.topic)

    def _flush(self) -> None:
        """Have the socket take what was posted: with QoS 0 that is all that anybody hears of it."""
        if self._posted and not self._link.flush():
            self._went_down()
        elif self._posted and not self._link.congested:
            for flight in self._posted:
                self._finish(flight)
            self._posted.clear()

    def _drain(self) -> None:
        """Send what was kept, at the rate that is left to it."""
        now = time.monotonic()
        most = self._drain_rate * 0.25 + BATCH * self._strict
        self._tokens = min(self._tokens + (now - self._tokens_at) * self._drain_rate, most)
        self._tokens_at = now
        store = self.store
        while store is not None and store.unread and not self._again:
            room = min(self.room, int(self._tokens))
            if room <= 0:
                break
            for number, message in store.read(room):
                if number not in self._stored_in_flight:
                    self._number += 1
                    self._tokens -= 1
                    self.counts.drained += 1
                    self._send(Flight(Outgoing(message), self._number, number))

    # -- what the link tells

    def _acknowledged(self, mid: int, reason: int) -> None:
        self._progress_at = time.monotonic()
        flight = self._flights.pop(mid, None)
        if flight is None:
            self._announced.discard(mid)
        elif reason < FAILED_REASON:
            self._finish(flight)
        elif reason in PERMANENT:
            self._refuse(flight, f"{flight.outgoing.message.topic}: the broker refuses it (reason 0x{reason:02X}); "
                         "check the rights of this user there")
        else:
            self._return([flight])
            if reason != UNKNOWN_PACKET:
                self._link.drop(f"the broker can't take a message (reason 0x{reason:02X})")

    def _finish(self, flight: Flight) -> None:
        self.counts.acknowledged += 1
        self._done(flight)

    def _refuse(self, flight: Flight, why: str) -> None:
        self.counts.refused += 1
        self.message = why
        self._done(flight)

    def _done(self, flight: Flight) -> None:
        self._since_keep += 1
        if flight.outgoing.source is not None:
            flight.outgoing.source.finish(flight.number)
        if flight.stored:
            self._stored_in_flight.discard(flight.stored)
            if self.store is not None:
                self.store.acknowledge(flight.stored)

    def _came_up(self, kept: bool) -> None:
        """What was on its way goes on by itself, or is sent again."""
        self._progress_at = time.monotonic()
        if not kept:
            self._announced.clear()
            flights = list(self._flights.values())
            self._flights.clear()
            self._return(flights)

    def _went_down(self) -> None:
        """What has QoS 0 was lost with the connection; the rest stays with its session."""
        lost, self._posted = self._posted, []
        self._return(lost)

    def _return(self, flights: Sequence[Flight]) -> None:
        """Have these sent again: read from the store where they are there, else in the order in which they came."""
        for flight in flights:
            self._stored_in_flight.discard(flight.stored)
        if self.store is not None and any(flight.stored for flight in flights):
            self.store.rewind()
        unstored = [flight for flight in flights if not flight.stored]
        self._again = deque(sorted([*unstored, *self._again], key=lambda f: f.number))

    # -- keeping

    def _keep_batch(self, *, danger: bool, closing: bool = False) -> None:
        """Have the store keep the batch, and before it all that is on its way or to be sent again: the cursors that go
        with it lie behind all of that."""
        now = time.monotonic()
        if not closing and (not self._batch or (len(self._batch) < BATCH and now < self._batch_at)):
            return
        if now < self._disk_retry:
            self._limit_batch()
            return
        self._batch_at = now + GATHER_SECONDS
        candidates = [f for f in (*self._flights.values(), *self._posted, *self._again) if not f.stored]
        flights = sorted([*candidates, *self._batch], key=lambda f: f.number)
        kept = [f for f in flights if f.outgoing.store]
        if not flights:
            return
        if self._append(kept, danger=danger):
            self._note_kept(flights, kept)
        else:
            self._limit_batch()

    def _append(self, flights: Sequence[Flight], *, danger: bool) -> bool:
        cursors = {s.feed.segment: str(s.read_to) for s in self._sources if s.read_to is not None}
        messages = [f.outgoing.message for f in flights]
        while self.store is not None:
            try:
                first = self.store.append(messages, cursors)
            except OSError as error:
                self.disk_fault = str(error.strerror or error)
                if danger and self.store.drop_oldest():
                    continue
                break
            for number, flight in enumerate(flights, first):
                flight.stored = number
            self.disk_fault = ""
            return True
        self._disk_retry = time.monotonic() + RETRY_DISK
        return False

    def _look_for_room(self) -> None:
        """End the fault with its cause, also where the broker is back and nothing has to be kept that would show it."""
        if self.store is None or time.monotonic() < self._disk_retry:
            return
        try:
            self.store.try_room()
        except OSError as error:
            self.disk_fault = str(error.strerror or error)
            self._disk_retry = time.monotonic() + RETRY_DISK
        else:
            self.disk_fault = ""

    def _note_kept(self, flights: Sequence[Flight], kept: Sequence[Flight]) -> None:
        """The journal may forget them all: they are in the store, or not meant to be kept."""
        self.counts.kept += len(kept)
        if self._link.up:
            self._tokens += len(self._batch)  # what comes behind the backlog does not slow its draining
        for flight in flights:
            if flight.outgoing.source is not None:
                flight.outgoing.source.finish(flight.number)
        self.counts.discarded += sum(not f.outgoing.store for f in (*self._batch, *self._again))
        self._batch.clear()
        self._again.clear()
        self._stored_in_flight.update(f.stored for f in (*self._flights.values(), *self._posted) if f.stored)

    def _limit_batch(self) -> None:
        """The disk takes nothing: what comes from the journal waits there, what is made at intervals is given up."""
        if len(self._batch) >= BATCH:
            before = len(self._batch)
            self._batch = [f for f in self._batch if _of_journal(f)]
            self.counts.discarded += before - len(self._batch)


def _of_journal(flight: Flight) -> bool:
    return flight.outgoing.source is not None
