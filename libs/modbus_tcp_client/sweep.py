"""The fast path for fleets that are polled back to back: answers of many devices are checked and counted at once.

A device takes part while all goes well: it has a connection to itself, one request under way, and its answers come
whole. Its state then stands in a row (a *slot*) of a few arrays, and no Python object is touched for a request but the
socket's own two calls. At the first thing that is not as expected (other bytes, a timeout, an error) the slot is
handed back, as if its request had been sent by the ordinary path, which then deals with it.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from modbus_frames import read_request

from modbus_tcp_client.exchange import Job
from modbus_tcp_client.plan import Request

if TYPE_CHECKING:
    from modbus_tcp_client.engine import Engine
    from modbus_tcp_client.fleet import Fleet
    from modbus_tcp_client.link import Link
    from modbus_tcp_client.poll import Poll

FEWEST = 8
"""Devices from which on it pays: the arrays cost the same for one as for many."""
FRAME_BYTES = 12
HEAD_BYTES = 9
"""Bytes that an answer must begin with: MBAP header, function, byte count."""
DATA_AT = 16
"""Where the data of an answer stand in its slot, so that registers are aligned; the head stands right before."""
SLOT_BYTES = 288
LOOK_NS = 10_000_000
"""How often deadlines are looked at while any slot is in use."""
SYNC_NS = 250_000_000
"""How often the devices' counters are brought up to date."""

Slots = npt.NDArray[np.intp]
NEVER = np.iinfo(np.int64).max
Take = tuple[Callable[[memoryview], int], memoryview, int]
"""A socket's recv_into, where to, and the slot."""


class Sweep:
    """The slots of all polls that may take part: back to back, alone on their connection, one request in flight."""

    def __init__(self, engine: Engine, polls: Sequence[Poll]) -> None:
        """Make room for these polls; all begin on the ordinary path and are admitted after their first good cycle."""
        count = len(polls)
        self._engine = engine
        self._polls = tuple(polls)
        self._slot_of = {poll: slot for slot, poll in enumerate(polls)}
        self._tables = Tables()
        self.takes: dict[int, Take] = {}
        """By file descriptor, for the slots in use: how the engine receives for them."""
        self._inbox = np.zeros((count, SLOT_BYTES), np.uint8)
        self._outbox = np.zeros((count, FRAME_BYTES), np.uint8)
        self._head = np.zeros((count, HEAD_BYTES), np.uint8)
        self._size, self._row, self._last, self._cursor = (np.zeros(count, np.intp) for _ in range(4))
        self._unit, self._block, self._member = (np.zeros(count, np.intp) for _ in range(3))
        self._transaction, self._sent, self._began, self._took = (np.zeros(count, np.int64) for _ in range(4))
        self._deadline = np.full(count, NEVER)
        self._patience = np.array([poll.unit.timeout for poll in polls], np.int64)
        self._answers, self._response = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self._unsettled = np.zeros(count, np.bool_)
        self._finished: list[Slots] = []
        self._admitted: list[int] = []
        self._looking = False
        self._synced = 0
        inbox, outbox, start = self._inbox.reshape(-1).data, self._outbox.reshape(-1).data, DATA_AT - HEAD_BYTES
        self._views = [inbox[s * SLOT_BYTES + start : (s + 1) * SLOT_BYTES] for s in range(count)]
        self._frames = [outbox[s * FRAME_BYTES : (s + 1) * FRAME_BYTES] for s in range(count)]
        self._sends: list[tuple[Callable[[memoryview], int], memoryview] | None] = [None] * count

    # ------------------------------------------------------------ in and out

    def admit(self, poll: Poll, now: int) -> bool:
        """Take over the cycles of a poll that has just ended one well; False where it has no slot."""
        slot = self._slot_of.get(poll)
        link = poll.unit.link
        if slot is None or not link.idle:
            return False
        self._row[slot] = self._tables.row_of(poll.fleet, poll.requests)
        self._last[slot] = len(poll.requests) - 1
        self._member[slot], self._block[slot], self._unit[slot] = poll.member, poll.block, poll.unit.server.unit_id
        self._cursor[slot] = self._answers[slot] = 0
        self._transaction[slot] = link.exchange.next_transaction - 1
        self._unsettled[slot] = True  # the cycle that has just ended waits to be decoded
        self._began[slot] = now
        connection = link.socket
        self.takes[connection.fileno()] = connection.recv_into, self._views[slot], slot
        self._sends[slot] = connection.send, self._frames[slot]
        self._admitted.append(slot)
        link.swept = True
        poll.active = True
        if not self._looking:
            self._looking = True
            self._engine.timers.at(now + LOOK_NS, self._look, self)
        return True

    def begin(self, now: int) -> None:
        """Send the first requests of what was admitted."""
        if self._admitted:
            slots, self._admitted = np.array(self._admitted, np.intp), []
            self._load(slots)
            self._ask(slots, now)

    def release(self, link: Link) -> None:
        """A connection is being closed: its slot is free."""
        for slot in [take[2] for take in self.takes.values() if self._polls[take[2]].unit.link is link]:
            self._free(slot)

    def step_aside(self, link: Link, now: int) -> None:
        """Give a connection back to the ordinary path, because something else is to be sent on it."""
        for slot in [take[2] for take in self.takes.values() if self._polls[take[2]].unit.link is link]:
            if slot in self._admitted:  # its cycle has not begun
                self._free(slot)
                self._polls[slot].begin(now, now)
            else:
                self._hand_back(slot, -1, None, now)

    def _free(self, slot: int) -> None:
        self._sync(slot)
        link = self._polls[slot].unit.link
        del self.takes[link.socket.fileno()]
        self._sends[slot] = None
        self._deadline[slot] = NEVER
        link.swept = False
        if slot in self._admitted:
            self._admitted.remove(slot)

    def _hand_back(self, slot: int, received: int, fault: OSError | None, now: int) -> None:
        """Let the ordinary path go on: with the request under way, and with what has come."""
        poll = self._polls[slot]
        if self._unsettled[slot]:
            self._engine.flush()
        self._free(slot)
        cursor = int(self._cursor[slot])
        job = poll.resume(cursor, int(self._began[slot]))
        job.sent, job.deadline = int(self._sent[slot]), int(self._sent[slot] + self._patience[slot])
        link = poll.unit.link
        link.resume(job, int(self._transaction[slot]), now)
        if fault is not None:
            link.broken(fault, now)
        elif received >= 0:
            link.absorb(self._views[slot][:received], now)

    def break_down(self, fault: Exception, now: int) -> None:
        """Something went wrong that should not be able to: end every connection that is on the fast path."""
        self._slot_of.clear()
        for link in [self._polls[take[2]].unit.link for take in self.takes.values()]:
            link.break_down(fault, now)

    # ------------------------------------------------------------ answers

    def take(self, slots: list[int], sizes: list[int]) -> None:
        """Answers of these sizes lie in these slots: check them, store them, ask the next question."""
        now, wall = time.monotonic_ns(), time.time_ns()
        slot, got = np.array(slots, np.intp), np.array(sizes, np.intp)
        heads = self._inbox[slot, DATA_AT - HEAD_BYTES : DATA_AT]
        good = (got == self._size[slot]) & (heads == self._head[slot]).all(axis=1)
        odd: list[tuple[int, int]] = []
        if not good.all():
            odd = list(zip(slot[~good].tolist(), got[~good].tolist(), strict=True))
            slot = slot[good]
        if len(slot):
            self._store(slot, now, wall)
            self._advance(slot, now)
            self._ask(slot, now)
        for one, size in odd:
            self._hand_back(one, size, None, now)

    def fail(self, slot: int, fault: OSError) -> None:
        """Receiving for a slot has failed."""
        self._hand_back(slot, -1, fault, time.monotonic_ns())

    def _store(self, slot: Slots, now: int, wall: int) -> None:
        if self._unsettled[slot].any():
            self._engine.flush()
        self._answers[slot] += 1
        self._response[slot] = now - self._sent[slot]
        rows = self._row[slot] + self._cursor[slot]
        for row in (rows[:1] if (rows == rows[0]).all() else np.unique(rows)).tolist():
            some = slot[rows == row]
            entry = self._tables.entries[row]
            data = self._inbox[some, DATA_AT : DATA_AT + entry.length]
            entry.fleet.put(self._member[some], entry.request, data, wall)

    def _advance(self, slot: Slots, now: int) -> None:
        """On to the next request, or to the next cycle."""
        ended = self._cursor[slot] == self._last[slot]
        if ended.all():
            done = slot
            self._cursor[slot] = 0
        else:
            done = slot[ended]
            self._cursor[slot] = np.where(ended, 0, self._cursor[slot] + 1)
        if len(done):
            self._took[done] = now - self._began[done]
            self._began[done] = now
            self._unsettled[done] = True
            self._finished.append(done)
            rows = self._row[done]
            for row in (rows[:1] if (rows == rows[0]).all() else np.unique(rows)).tolist():
                self._engine.complete_many(self._tables.entries[row].fleet, self._member[done[rows == row]].tolist())
        if self._tables.several:
            self._load(slot)

    def settled(self, now: int) -> tuple[list[int], list[int]]:
        """What has ended since the last call was decoded: the blocks, and when each is promised again."""
        self._unsettled[:] = False
        if not self._finished:
            return [], []
        done = self._finished[0] if len(self._finished) == 1 else np.concatenate(self._finished)
        self._finished = []
        return self._block[done].tolist(), (now + self._patience[done] + self._took[done]).tolist()

    # ------------------------------------------------------------ questions

    def _load(self, slot: Slots) -> None:
        """Put the requests that the slots stand at into their frames."""
        rows = self._row[slot] + self._cursor[slot]
        self._outbox[slot] = self._tables.frames[rows]
        self._head[slot] = self._tables.heads[rows]
        self._outbox[slot, 6] = self._head[slot, 6] = self._unit[slot]
        self._size[slot] = self._tables.sizes[rows]

    def _ask(self, slot: Slots, now: int) -> None:
        transaction = self._transaction[slot] % 0xFFFF + 1
        self._transaction[slot] = transaction
        high, low = transaction >> 8, transaction & 0xFF
        self._outbox[slot, 0] = self._head[slot, 0] = high
        self._outbox[slot, 1] = self._head[slot, 1] = low
        self._sent[slot] = now
        self._deadline[slot] = now + self._patience[slot]
        sends, waiting = self._sends, iter(slot.tolist())
        one = -1
        while True:
            try:
                for one in waiting:
                    pair = sends[one]
                    if pair is not None and pair[0](pair[1]) != FRAME_BYTES:
                        raise BlockingIOError(errno.EAGAIN, "the device takes no more data")
                return
            except OSError as fault:
                self._hand_back(one, -1, fault, now)

    # ------------------------------------------------------------ now and then

    def _look(self, now: int) -> None:
        """Hand back what was not answered in time; keep the counters that others see up to date."""
        for slot in np.flatnonzero(self._deadline <= now).tolist():
            self._hand_back(slot, -1, None, now)
        if now - self._synced >= SYNC_NS:
            self._synced = now
            for slot in np.flatnonzero(self._answers).tolist():
                self._sync(slot)
        self._looking = bool(self.takes)
        if self._looking:
            self._engine.timers.at(now + LOOK_NS, self._look, self)

    def _sync(self, slot: int) -> None:
        status = self._polls[slot].unit.status
        status.requests += int(self._answers[slot])
        self._answers[slot] = 0
        status.response_ms = float(self._response[slot]) * 1e-6


class Entry(NamedTuple):
    """One request of a fleet."""

    fleet: Fleet
    request: int
    length: int
    """Bytes of data in its answer."""


class Tables:
    """What is constant about each request of each fleet, side by side; a fleet's requests follow each other."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.frames = np.zeros((0, FRAME_BYTES), np.uint8)
        """Requests with transaction and unit 0."""
        self.heads = np.zeros((0, HEAD_BYTES), np.uint8)
        """Beginnings of good answers, likewise."""
        self.sizes = np.zeros(0, np.intp)
        """Bytes of good answers."""
        self.several = False
        """Whether any fleet has more than one request."""
        self._row_of: dict[Fleet, int] = {}

    def row_of(self, fleet: Fleet, requests: Sequence[Request]) -> int:
        """Row of a fleet's first request; the fleet is entered where it is new."""
        row = self._row_of.get(fleet)
        if row is None:
            row = self._row_of[fleet] = len(self.entries)
            jobs = [Job(unit=0, pdu=read_request(r.function, r.address, r.count)) for r in requests]
            self.entries += [Entry(fleet, i, request.data_bytes) for i, request in enumerate(requests)]
            self.frames = np.vstack([self.frames, *(np.frombuffer(bytes(job.frame), np.uint8) for job in jobs)])
            self.heads = np.vstack([self.heads, *(np.frombuffer(b"\0\0" + job.tail, np.uint8) for job in jobs)])
            self.sizes = np.append(self.sizes, [job.size for job in jobs])
            self.several = self.several or len(requests) > 1
        return row
