"""The loop of the poll engine: one thread, one epoll, one heap of deadlines, no object made for a request.

Answers are copied to the matrix of their fleet as they come; what is complete is decoded and published together,
at most once a millisecond.
"""

from __future__ import annotations

import os
import select
import threading
import time
import weakref
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np
from acquisition import Publisher
from endpoint_config.models import ModbusPoint, ModbusServer
from endpoint_config.transports import Transport
from process_image.quality import BAD_INTERNAL_ERROR

from modbus_tcp_client.commands import Ordered, Writer
from modbus_tcp_client.decode import DecodePlan
from modbus_tcp_client.failure import internal
from modbus_tcp_client.fleet import Fleet
from modbus_tcp_client.link import Link
from modbus_tcp_client.packets import NO_PACKETS, Packets, tap_for
from modbus_tcp_client.points import scan_class
from modbus_tcp_client.poll import Poll
from modbus_tcp_client.resolve import Resolver
from modbus_tcp_client.sweep import FEWEST, Sweep
from modbus_tcp_client.timers import SHORTEST, Owner, Timers
from modbus_tcp_client.transport import way_to
from modbus_tcp_client.unit import Unit

IDLE_SECONDS = 0.2
"""Longest sleep; the heartbeat of the segments is written at least this often (it is due each 0.25 s)."""
COALESCE_NS = 1_000_000
"""Answers that come within this time of a publish are decoded and published together."""
STALL_NS = 20_000_000
"""A turn that takes so much longer than it slept was held up from outside (a stopped process, a busy machine)."""
RECEIVE_BYTES = 16384
"""At most so much is taken from one connection in one turn, so that none can flood the others away."""
GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, spread any number of phases evenly."""
CONNECT_SPACING = 200_000
"""Nanoseconds between the first connection attempts, so that a thousand do not overrun a listener's backlog."""

Key = tuple[Any, ...]


class Watcher(Owner, Protocol):
    """Whoever has a socket."""

    def ready(self) -> None:
        """The socket has something to say."""


class Engine:
    """Polls all servers and publishes, until stopped; everything but `stop` belongs to the thread of `run`."""

    def __init__(self, servers: Sequence[ModbusServer], publisher: Publisher, *, interval: float,
                 label: float, packets: Packets = NO_PACKETS) -> None:
        """`interval` (s) is for points whose file names none; their blocks are labelled as `label` in the image.

        `packets` says who wants to see the frames.
        """
        self._packets = packets
        self.publisher = publisher
        self.timers = Timers()
        self.buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._bell)  # not earlier: a late `stop` must not write to a foreign file
        self._epoll.register(self._bell, select.EPOLLIN)
        self.resolver = Resolver(self._ring)
        self._sockets: dict[int, Watcher] = {}
        self._stop = threading.Event()
        self._completed: list[Poll] = []
        self._fleets: list[Fleet] = []
        self._pressing = False
        self._flushed = 0
        self.units = tuple(Unit(self, server, publisher.status(server.alias)) for server in servers)
        for unit in self.units:
            unit.polls = self._polls(unit, interval, label)
        self.links = self._make_links()
        self._make_fleets()
        self._sweep = self._make_sweep()
        self._writer = Writer(self)

    # ------------------------------------------------------------ building

    def _polls(self, unit: Unit, interval: float, label: float) -> list[Poll]:
        server = unit.server
        classes: dict[tuple[float, float], list[ModbusPoint]] = {}
        for point in server.points:
            key = scan_class(point, server, interval), scan_class(point, server, label)
            classes.setdefault(key, []).append(point)
        polls = []
        for (seconds, name), points in classes.items():
            rows = np.array([self.publisher.index[f"{server.alias}/{p.name}"] for p in points], np.intp)
            block = self.publisher.block(server.alias, name).index
            polls.append(Poll(self, unit, points=points, rows=rows, block=block, interval=seconds))
        return polls

    def _make_links(self) -> tuple[Link, ...]:
        groups: dict[Hashable, list[Unit]] = {}
        for unit in self.units:
            groups.setdefault(unit.server.connection, []).append(unit)
        links = []
        for units in groups.values():
            way = way_to(units[0].server)
            tap = tap_for([unit.server for unit in units], way.name, self._packets)
            link = Link(self, way, units, tap)
            for unit in units:
                unit.link = link
            links.append(link)
        return tuple(links)

    def _make_sweep(self) -> Sweep | None:
        """The fast path, if there are enough polls that it is made for."""
        polls = [link.units[0].polls[0] for link in self.links if _sweepable(link)]
        return Sweep(self, polls) if len(polls) >= FEWEST else None

    def _make_fleets(self) -> None:
        """Polls that are decoded alike, in the order of their rows, so that side by side stays side by side."""
        groups: dict[Key, list[Poll]] = {}
        for unit in self.units:
            for poll in unit.polls:
                groups.setdefault(_decode_key(poll), []).append(poll)
        for polls in groups.values():
            polls.sort(key=lambda poll: int(poll.rows[0]))
            self._join(polls)

    def _join(self, polls: Sequence[Poll]) -> None:
        first = polls[0]
        rows = np.array([poll.rows for poll in polls])
        fleet = Fleet(DecodePlan(first.points, first.requests), first.requests, rows, self.publisher)
        for member, poll in enumerate(polls):
            poll.join(fleet, member)

    def assign(self, poll: Poll) -> None:
        """A poll's requests have changed: it becomes a fleet of its own."""
        if poll.unsettled:
            self.flush()
        self._join([poll])

    # ------------------------------------------------------------ running

    def run(self) -> None:
        """Poll until `stop`; closes every connection at the end."""
        try:
            self._start(time.monotonic_ns())
            while not self._stop.is_set():
                self._turn()
        finally:
            self._writer.close(time.monotonic_ns())
            for link in self.links:
                link.close()
            self._epoll.close()

    def stop(self) -> None:
        """End `run` soon; from any thread or signal handler."""
        self._stop.set()
        self._ring()

    def order(self, ordered: Ordered) -> bool:
        """Have a write carried out between polls; from any thread. False where polling is over."""
        taken = self._writer.put(ordered)
        self._ring()
        return taken

    def _ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def _start(self, now: int) -> None:
        number = 0
        for place, link in enumerate(self.links):
            self.timers.at(now + place * CONNECT_SPACING, link.connect, link)
            for unit in link.units:
                for poll in unit.polls:
                    number += 1
                    poll.start(now + round(poll.interval * (number * GOLDEN % 1.0)))

    def _turn(self) -> None:
        """Receive, then look at deadlines, then publish: an answer that is there never counts as too late."""
        began = time.monotonic_ns()
        hasty = bool(self._completed or self._pressing)
        wait = self.timers.wait(began, SHORTEST if hasty else IDLE_SECONDS)
        self._handle(self._epoll.poll(wait))
        now = time.monotonic_ns()
        if now - began > wait * 1e9 + STALL_NS:
            # This process did not run for a while: what came meanwhile is looked at before deadlines are.
            self._begin_bursts(now)  # first: what comes to a slot must meet the heads of its own burst
            self._handle(self._epoll.poll(0))
        self.timers.fire(now)
        self._begin_bursts(now)
        idle = now - self._flushed
        if idle >= IDLE_SECONDS * 1e9 or (idle >= COALESCE_NS and (self._completed or self._pressing)):
            self.flush()

    def _begin_bursts(self, now: int) -> None:
        if self._sweep is not None:
            self._sweep.begin(now)

    def _handle(self, events: list[tuple[int, int]]) -> None:
        if self._sweep is not None and self._sweep.takes:
            events = self._receive(self._sweep, events)
        for descriptor, _ in events:
            watcher = self._sockets.get(descriptor)
            if watcher is not None:
                try:
                    watcher.ready()
                except Exception as fault:  # noqa: BLE001 - here a device's task ends; the others go on
                    watcher.break_down(fault, time.monotonic_ns())
            elif descriptor == self._bell:
                os.eventfd_read(self._bell)
                self.resolver.deliver()
                self._writer.deliver(time.monotonic_ns())

    def _receive(self, sweep: Sweep, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Receive for the slots of the fast path; returns the other events."""
        others: list[tuple[int, int]] = []
        slots: list[int] = []
        sizes: list[int] = []
        takes = sweep.takes
        for event in events:
            take = takes.get(event[0])
            if take is None:
                others.append(event)
                continue
            receive, view, slot = take
            try:
                sizes.append(receive(view))
                slots.append(slot)
            except BlockingIOError:
                continue
            except OSError as fault:
                sweep.fail(slot, fault)
        if slots:
            try:
                sweep.take(slots, sizes)
            except Exception as fault:  # noqa: BLE001 - the fast path ends; the ordinary one takes over
                sweep.break_down(fault, time.monotonic_ns())
        return others

    # ------------------------------------------------------------ for links and polls

    def watch(self, descriptor: int, watcher: Watcher, events: int) -> None:
        """Have `watcher.ready` called when one of the events comes."""
        self._epoll.register(descriptor, events)
        self._sockets[descriptor] = watcher

    def await_events(self, descriptor: int, events: int) -> None:
        """Wait for other events of a descriptor that is watched."""
        self._epoll.modify(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        """Forget a socket before it is closed."""
        if self._sockets.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def touch(self, block: int, next_due: int) -> None:
        """Have a block published soon."""
        self.publisher.touch(block, next_due)
        self._pressing = True

    def press(self) -> None:
        """Have a changed status published soon."""
        self._pressing = True

    def admit(self, poll: Poll, now: int) -> bool:
        """Put a poll on the fast path, if it may be there."""
        return self._sweep is not None and self._sweep.admit(poll, now)

    def step_aside(self, link: Link, now: int) -> None:
        """Take a connection off the fast path, because something else is to be sent on it."""
        if self._sweep is not None:
            self._sweep.step_aside(link, now)

    def release(self, link: Link) -> None:
        """A connection is being closed: take it off the fast path."""
        if self._sweep is not None:
            self._sweep.release(link)

    def complete_many(self, fleet: Fleet, members: list[int]) -> None:
        """As `complete`, for members of a fleet on the fast path."""
        self._pressing = True
        if fleet.complete_many(members):
            self._fleets.append(fleet)

    def complete(self, poll: Poll) -> None:
        """All answers of a poll are there."""
        self._completed.append(poll)
        if poll.fleet.complete(poll.member):
            self._fleets.append(poll.fleet)

    def _fail_fleet(self, fleet: Fleet, fault: Exception) -> None:
        for poll in self._completed:
            if poll.fleet is fleet:
                text = internal(fault).text(poll.unit.server.alias, "decode", poll.requests[0].address)
                poll.unit.status.note_failure(text)
                self.publisher.fail(poll.rows, BAD_INTERNAL_ERROR, time.time_ns())

    def flush(self) -> None:
        """Decode what is complete, and publish everything that changed."""
        fleets, self._fleets = self._fleets, []
        for fleet in fleets:
            try:
                fleet.settle()
            except Exception as fault:  # noqa: BLE001 - here the task of some devices ends; the others go on
                self._fail_fleet(fleet, fault)
        now = time.monotonic_ns()
        touch = self.publisher.touch
        for poll in self._completed:
            poll.unsettled = False
            touch(poll.block, poll.promise(now))
        self._completed.clear()
        if self._sweep is not None:
            self.publisher.touch_all(*self._sweep.settled(now))
        self.publisher.flush()
        self._pressing = self.publisher.pending_wake  # made up for by the next flush, a millisecond from now
        self._flushed = now


def _sweepable(link: Link) -> bool:
    """Whether the fast path is made for a connection: one unit with one poll, back to back, without quirks."""
    unit = link.units[0]
    server = unit.server
    if server.transport is not Transport.TCP or link.tap is not None:
        return False
    quirks = server.accept_any_unit_id or server.accept_transaction_zero or server.delay
    return not link.shared and len(unit.polls) == 1 and not unit.polls[0].interval and not quirks


def _decode_key(poll: Poll) -> Key:
    """What two polls must share to be decoded in one step."""
    return poll.requests, tuple(
        (p.read_function, p.address, p.registers, p.bit, p.bits, p.datatype, p.order, p.scale, p.valueoffset,
         p.scalefactor, p.minimum, p.maximum, p.invalid, p.invalid_nan)
        for p in poll.points
    )
