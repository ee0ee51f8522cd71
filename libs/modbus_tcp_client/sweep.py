"""The fast path for fleets that are polled back to back: answers of many devices are checked and counted at once.

A device takes part while all goes well: it has a connection to itself, and its answers come as they were asked for.
Its state then stands in a row (a *slot*) of a few arrays, and no Python object is touched for a burst of requests
(see `bursts`; with one request in flight, a burst is one request) but the socket's own two calls. Answers that come
in pieces are waited for until the burst is whole. At the first thing that is not as expected (other bytes, another
order, a timeout, an error) the slot is handed back, as if its requests had been sent by the ordinary path, which then
deals with it.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modbus_tcp_client.bursts import ANSWER_BYTES, FRAME_BYTES, HEAD_BYTES, START, Burst, Bursts

if TYPE_CHECKING:
    from modbus_tcp_client.engine import Engine
    from modbus_tcp_client.link import Link
    from modbus_tcp_client.poll import Poll

FEWEST = 8
"""Devices from which on it pays: the arrays cost the same for one as for many."""
LOOK_NS = 10_000_000
"""How often deadlines are looked at while any slot is in use; a burst that began to come so long ago is handed back."""
SYNC_NS = 250_000_000
"""How often the devices' counters are brought up to date."""
MOST_SKIPPED = 1023
"""Cycles at most that a device whose bursts are handed back again and again does the ordinary way in between."""

Slots = npt.NDArray[np.intp]
NEVER = np.iinfo(np.int64).max
Take = tuple[Callable[[memoryview], int], memoryview, int]
"""A socket's recv_into, where to, and the slot."""
Send = tuple[Callable[[memoryview], int], memoryview, int]
"""A socket's send, what, and its length."""


class Sweep:
    """The slots of all polls that may take part: back to back and alone on their connection."""

    def __init__(self, engine: Engine, polls: Sequence[Poll]) -> None:
        """Make room for these polls; all begin on the ordinary path and are admitted after their first good cycle."""
        count = len(polls)
        self._engine = engine
        self._polls = tuple(polls)
        self._slot_of = {poll: slot for slot, poll in enumerate(polls)}
        depth = max(min(poll.unit.link.in_flight, max(1, len(poll.requests))) for poll in polls)
        self._bursts = Bursts(depth)
        self.takes: dict[int, Take] = {}
        """By file descriptor, for the slots in use: how the engine receives for them."""
        width = -(-(START + depth * ANSWER_BYTES + 1) // 32) * 32
        self._inbox = np.zeros((count, width), np.uint8)
        self._outbox = np.zeros((count, depth, FRAME_BYTES), np.uint8)
        self._head = np.zeros((count, depth, HEAD_BYTES), np.uint8)
        self._size, self._row, self._last, self._cursor = (np.zeros(count, np.intp) for _ in range(4))
        self._unit, self._block, self._member = (np.zeros(count, np.intp) for _ in range(3))
        self._transaction, self._sent, self._began, self._took = (np.zeros(count, np.int64) for _ in range(4))
        self._deadline = np.full(count, NEVER)
        self._patience = np.array([poll.unit.timeout for poll in polls], np.int64)
        self._answers, self._response = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self._unsettled = np.zeros(count, np.bool_)
        self._had = np.zeros(count, np.intp)
        """Bytes of the burst that came before."""
        self._partial: dict[int, int] = {}
        """Slots with such bytes, and when the first of them came (monotonic ns)."""
        self._finished: list[Slots] = []
        self._admitted: list[int] = []
        self._proven = np.zeros(count, np.bool_)
        """Whether a burst has been good since it was admitted."""
        self._skip, self._skips = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self._looking = False
        self._synced = 0
        inbox, outbox, length = self._inbox.reshape(-1).data, self._outbox.reshape(-1).data, depth * FRAME_BYTES
        self._views = [inbox[s * width + START : (s + 1) * width] for s in range(count)]
        self._frames = [outbox[s * length : (s + 1) * length] for s in range(count)]
        self._sends: list[Send | None] = [None] * count

    # ------------------------------------------------------------ in and out

    def admit(self, poll: Poll, now: int) -> bool:
        """Take over the cycles of a poll that has just ended one well; False where it has no slot, or not yet."""
        slot = self._slot_of.get(poll)
        link = poll.unit.link
        if slot is None or not link.idle:
            return False
        if self._skip[slot]:
            self._skip[slot] -= 1
            return False
        self._row[slot], count = self._bursts.rows_of(poll.fleet, poll.requests, link.in_flight)
        self._last[slot] = count - 1
        self._member[slot], self._block[slot], self._unit[slot] = poll.member, poll.block, poll.unit.server.unit_id
        self._cursor[slot] = self._answers[slot] = 0
        self._transaction[slot] = link.exchange.next_transaction - 1
        self._unsettled[slot] = True  # the cycle that has just ended waits to be decoded
        self._proven[slot] = False
        self._began[slot] = now
        self._receive_at(slot, 0)
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
                self._hand_back(slot, int(self._had[slot]), None, now)

    def _receive_at(self, slot: int, had: int) -> None:
        """Have the next bytes put behind those of the burst that came before."""
        connection = self._polls[slot].unit.link.socket
        self._had[slot] = had
        self.takes[connection.fileno()] = connection.recv_into, self._views[slot][had:], slot

    def _free(self, slot: int) -> None:
        self._sync(slot)
        link = self._polls[slot].unit.link
        del self.takes[link.socket.fileno()]
        self._sends[slot] = None
        self._deadline[slot] = NEVER
        self._partial.pop(slot, None)
        self._had[slot] = 0
        link.swept = False
        if slot in self._admitted:
            self._admitted.remove(slot)

    def _hand_back(self, slot: int, received: int, fault: OSError | None, now: int) -> None:
        """Let the ordinary path go on: with the requests under way, and with the bytes that have come."""
        poll = self._polls[slot]
        if self._unsettled[slot]:
            self._engine.flush()
        self._free(slot)
        self._skips[slot] = 0 if self._proven[slot] else min(2 * self._skips[slot] + 1, MOST_SKIPPED)
        self._skip[slot] = self._skips[slot]
        burst = self._burst(slot)
        jobs = poll.resume(burst.first, len(burst.answers), int(self._began[slot]))
        for job in jobs:
            job.sent, job.deadline = int(self._sent[slot]), int(self._sent[slot] + self._patience[slot])
            job.attempts = 0
        link = poll.unit.link
        link.resume(jobs, (int(self._transaction[slot]) - len(jobs)) % 0xFFFF + 1, now)
        if received > 0:
            link.absorb(self._views[slot][:received], now)
        if fault is not None and link.up:
            link.broken(fault, now)

    def break_down(self, fault: Exception, now: int) -> None:
        """Something went wrong that should not be able to: end every connection that is on the fast path."""
        self._slot_of.clear()
        for link in [self._polls[take[2]].unit.link for take in self.takes.values()]:
            link.break_down(fault, now)

    # ------------------------------------------------------------ answers

    def take(self, slots: list[int], sizes: list[int]) -> None:
        """So many bytes came for these slots: check and store what is whole, ask the next question.

        No bytes at all are the end of the connection: the ordinary path will find it once more.
        """
        now, wall = time.monotonic_ns(), time.time_ns()
        slot, got = np.array(slots, np.intp), np.array(sizes, np.intp)
        if self._partial:
            got += self._had[slot]
        heads = self._inbox[slot[:, None, None], self._bursts.places[self._row[slot] + self._cursor[slot]]]
        same = heads == self._head[slot]
        good = (got == self._size[slot]) & same.reshape(len(slot), -1).all(axis=1)
        odd: list[tuple[int, int]] = []
        if not good.all():
            odd = [(one, size) for one, size, more in zip(slot[~good].tolist(), got[~good].tolist(),
                   np.array(sizes)[~good].tolist(), strict=True) if not (more and self._is_on_its_way(one, size, now))]
            slot = slot[good]
        if len(slot):
            if self._partial:
                for one in self._partial.keys() & set(slot.tolist()):
                    del self._partial[one]
                    self._receive_at(one, 0)
            self._store(slot, now, wall)
            self._advance(slot, now)
            self._ask(slot, now)
        for one, size in odd:
            self._hand_back(one, size, None, now)

    def fail(self, slot: int, fault: OSError) -> None:
        """Receiving for a slot has failed."""
        self._hand_back(slot, int(self._had[slot]), fault, time.monotonic_ns())

    def _is_on_its_way(self, slot: int, size: int, now: int) -> bool:
        """Whether a burst that is not whole yet is as expected so far; then the rest of it is waited for."""
        places = self._bursts.places[self._row[slot] + self._cursor[slot]]
        wrong = (self._inbox[slot, places] != self._head[slot]) & (places < START + size)
        if size >= self._size[slot] or wrong.any():
            return False
        self._partial.setdefault(slot, now)
        self._receive_at(slot, size)
        return True

    def _burst(self, slot: int) -> Burst:
        return self._bursts.rows[int(self._row[slot] + self._cursor[slot])]

    def _store(self, slot: Slots, now: int, wall: int) -> None:
        if self._unsettled[slot].any():
            self._engine.flush()
        rows = self._row[slot] + self._cursor[slot]
        self._answers[slot] += self._bursts.counts[rows]
        self._response[slot] = now - self._sent[slot]
        self._proven[slot] = True
        for row in _distinct(rows):
            some = slot[rows == row]
            fleet, answers = self._bursts.rows[row]
            members = self._member[some]
            for request, start, stop in answers:
                fleet.put(members, request, self._inbox[some, start:stop], wall)

    def _advance(self, slot: Slots, now: int) -> None:
        """On to the next burst, or to the next cycle."""
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
            for row in _distinct(rows):
                self._engine.complete_many(self._bursts.rows[row].fleet, self._member[done[rows == row]].tolist())
        if self._bursts.several:
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
        unit = self._unit[slot][:, None]
        self._outbox[slot] = self._bursts.frames[rows]
        self._head[slot] = self._bursts.heads[rows]
        self._outbox[slot, :, 6] = self._head[slot, :, 6] = unit
        self._size[slot] = self._bursts.sizes[rows]
        for one, length in zip(slot.tolist(), (FRAME_BYTES * self._bursts.counts[rows]).tolist(), strict=True):
            self._sends[one] = self._polls[one].unit.link.socket.send, self._frames[one][:length], length

    def _ask(self, slot: Slots, now: int) -> None:
        rows = self._row[slot] + self._cursor[slot]
        before = self._transaction[slot]
        ids = (before[:, None] + self._bursts.steps[rows] - 1) % 0xFFFF + 1  # 1 to 0xFFFF, as in Exchange
        self._transaction[slot] = (before + self._bursts.counts[rows] - 1) % 0xFFFF + 1
        high, low = ids >> 8, ids & 0xFF
        self._outbox[slot, :, 0] = self._head[slot, :, 0] = high
        self._outbox[slot, :, 1] = self._head[slot, :, 1] = low
        self._sent[slot] = now
        self._deadline[slot] = now + self._patience[slot]
        sends, waiting = self._sends, iter(slot.tolist())
        one = -1
        while True:
            try:
                for one in waiting:
                    entry = sends[one]
                    if entry is not None and entry[0](entry[1]) != entry[2]:
                        raise BlockingIOError(errno.EAGAIN, "the device takes no more data")
                return
            except OSError as fault:
                self._hand_back(one, 0, fault, now)

    # ------------------------------------------------------------ now and then

    def _look(self, now: int) -> None:
        """Hand back what was not answered in time; keep the counters that others see up to date."""
        stuck = [slot for slot, began in self._partial.items() if began <= now - LOOK_NS]
        for slot in {*np.flatnonzero(self._deadline <= now).tolist(), *stuck}:
            self._hand_back(slot, int(self._had[slot]), None, now)
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


def _distinct(rows: Slots) -> list[int]:
    """The row numbers, each once; mostly there is one."""
    found: list[int] = (rows[:1] if (rows == rows[0]).all() else np.unique(rows)).tolist()
    return found
