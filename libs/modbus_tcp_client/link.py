"""One connection or serial line, shared by the units behind it."""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from acquisition import Backoff

from modbus_tcp_client.commands import Command
from modbus_tcp_client.exchange import Exchange, Job
from modbus_tcp_client.failure import (
    Failure,
    from_system,
    internal,
    malformed,
    no_connection,
    one_at_a_time,
    timed_out,
)
from modbus_tcp_client.packets import Tap
from modbus_tcp_client.settling import Settling
from modbus_tcp_client.transport import Channel, Way
from modbus_tcp_client.unit import SILENCES, Unit

if TYPE_CHECKING:
    from modbus_tcp_client.engine import Engine
    from modbus_tcp_client.poll import Poll

STRAY_LIMIT = 200
"""Answers to nothing since the latest good one after which a connection is given up."""
SHORT_NS = 100_000_000
"""Nanoseconds that a silent unit is waited for at least."""
SURE_NS = 500_000_000
"""Nanoseconds after which a packet that was not acknowledged was not merely lost once."""
PARTLY_LIMIT = 2
"""Times that a device may leave some of several requests in flight unanswered before it is asked one at a time."""
REOPEN_NS = 60_000_000_000
"""Nanoseconds after which a line on which nobody answers is opened anew, for the sake of adapters that hang."""


class Link:
    """Sends, receives, times out and connects again; never blocks."""

    __slots__ = (
        "_answered", "_armed", "_buffer", "_channel", "_closed", "_command_next", "_delay", "_dialer", "_engine",
        "_generation", "_heard", "_opened", "_paced", "_partly", "_resume_at", "_resuming", "_silence", "_slowest",
        "_stall", "_strays_allowed", "_timeout", "_timeouts", "_zero_id", "backoff", "commands", "demotes",
        "exchange", "in_flight", "name", "probe_after", "proven", "queue", "shared", "strays", "swept", "tap",
        "units", "up", "urgent", "way",
    )

    def __init__(self, engine: Engine, way: Way, units: Sequence[Unit], tap: Tap | None = None) -> None:
        """`tap` sees every frame; None where nobody wants to."""
        self.tap = tap
        self._engine = engine
        self.way = way
        self.name = way.name
        """For people."""
        self.units = tuple(units)
        self.shared = len(units) > 1
        """Whether several units depend on it."""
        self.demotes = self.shared or way.is_local
        """Whether a silent unit is only probed; else the connection is made anew."""
        self.in_flight = 1 if way.transport.is_line else min(unit.server.in_flight for unit in units)
        self.proven = False
        """Whether a cycle was answered whole with several requests in flight."""
        self._answered = False  # on this connection
        self._partly = 0
        self.backoff = Backoff(min(unit.server.retry_interval for unit in units))
        self.queue: list[Poll] = []
        """Polls whose cycle has jobs to send; they take turns, a job each."""
        self.urgent: list[Job] = []
        """Jobs that go first: repetitions and probes."""
        self.commands: list[Job] = []
        """Steps of commands; they take turns with the polls, and outlive the connection."""
        self._command_next = True
        self.up = False
        self.swept = False
        """Whether its poll is on the fast path."""
        self.probe_after = 0
        """Monotonic ns; no probe before."""
        self._slowest = 0  # longest response of late (ns), slowly forgotten
        self.strays = 0
        """Answers dropped on earlier connections because they matched nothing."""
        self.exchange = way.framing.exchange(1)
        self._delay = round(max(way.framing.pause, *(unit.server.delay for unit in units)) * 1e9)
        self._silence, self._stall = round(way.framing.silence * 1e9), round(way.framing.stall * 1e9)
        self._paced = bool(self._delay or self._silence)
        self._heard = self._opened = 0
        self._timeout = round(max(unit.server.timeout for unit in units) * 1e9)
        self._zero_id = any(unit.server.accept_transaction_zero for unit in units)
        self._resume_at = 0
        self._resuming = False
        self._armed = 0
        self._timeouts = 0
        self._strays_allowed = 0
        self._channel: Channel | None = None
        self._generation = 0
        self._closed = False
        self._buffer = engine.buffer
        self._dialer = way.carrier.dialer(engine, self, timeout=self._timeout, reached=self._connected,
                                          failed=self.drop)

    # ------------------------------------------------------------ connecting

    def connect(self, now: int) -> None:
        """Begin to connect."""
        if self._channel is None and not self._closed:
            self._dialer.dial(now)

    def _connected(self, channel: Channel, now: int) -> None:
        self._channel = channel
        self.up = True
        self._generation += 1
        first = random.randrange(1, 0x10000)  # noqa: S311 - to differ from the connection before
        self.exchange = self.way.framing.exchange(first)
        self._timeouts = self._armed = 0
        self._heard = self._opened = now
        self._resume_at = now + self._silence
        self._strays_allowed = STRAY_LIMIT
        self._answered = False
        self._engine.watch(channel.fileno(), self, select.EPOLLIN)
        if self.tap is not None:
            self.tap.opened()
        secured = self.way.secured(channel)
        for unit in self.units:
            if secured:
                self._engine.publisher.tell(unit.server.alias, "$tls", secured)
            unit.connected(now)
        self.pump(now)

    def drop(self, failure: Failure, now: int) -> None:
        """Close, tell every unit why, and connect again: at once, then ever later."""
        was_up = self.up
        self._shut()
        text_of = self.name
        for unit in self.units:
            unit.abort()
            if failure.silent:
                unit.demoted = False
            unit.fail_all(failure, now, failure.text(unit.server.alias, "connect", text_of))
        if not self._closed:
            generation = self._generation
            self._engine.timers.at(now + round(self.backoff.pause() * 1e9),
                                   lambda later: self._connect_again(generation, later), self)
        for unit in self.units:
            unit.commands.interrupted(failure, now, was_up=was_up)

    def _connect_again(self, generation: int, now: int) -> None:
        """The pause is over, unless something else has led to an attempt since."""
        if generation == self._generation:
            self.connect(now)

    def break_down(self, fault: Exception, now: int) -> None:
        """Something went wrong that should not be able to: these units are Bad with the reason, the others go on."""
        self.drop(internal(fault), now)

    def close(self) -> None:
        """Close for good."""
        self._closed = True
        self._shut()

    def _shut(self) -> None:
        if self.swept:
            self._engine.release(self)
        self.up = False
        self._generation += 1
        self.strays += self.exchange.strays + self.exchange.late
        self.exchange.abandon()
        self.exchange = self.way.framing.exchange(1)
        self.queue.clear()
        self.urgent.clear()
        self._dialer.cancel()
        if self._channel is not None:
            self._engine.unwatch(self._channel.fileno())
            self._channel.close()
            self._channel = None

    # ------------------------------------------------------------ the fast path

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, waiting or half received."""
        waiting = self.queue or self.urgent or self.commands
        return self.up and not (self.exchange.pending or self.exchange.partial or waiting)

    @property
    def socket(self) -> socket.socket:
        """The connection's socket; only while it is up, and only where it is one: see sweep."""
        assert isinstance(self._channel, socket.socket)
        return self._channel

    def resume(self, jobs: Sequence[Job], transaction: int, now: int) -> None:
        """Go on with requests that the fast path has sent, the first with this transaction id, the others behind."""
        for job in jobs:
            self.exchange.resume(job, transaction)
            transaction = transaction % 0xFFFF + 1
        self._arm(max(jobs[0].deadline, now))

    # ------------------------------------------------------------ receiving

    def ready(self) -> None:
        """The channel has something to say."""
        now = time.monotonic_ns()
        assert self._channel is not None
        try:
            count = self._channel.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError as fault:
            self.broken(fault, now)
            return
        self.absorb(self._buffer[:count], now)

    def broken(self, fault: OSError, now: int) -> None:
        """The channel has failed."""
        self.drop(from_system(fault), now)

    def absorb(self, data: memoryview, now: int) -> None:
        """Bytes have come; none of them means that the device closed the connection."""
        if not data:
            self.drop(no_connection("the device closed the connection", "check its limit of connections"), now)
            return
        if self.tap is not None:
            self.tap.received(data)
        self._timeouts = 0
        exchange = self.exchange
        clean = self._take(exchange, exchange.receive(data), now)
        if self._silence and exchange is self.exchange and self.up:
            self._heard = now
            if exchange.partial or not clean:  # what is this? It must have ended before the next request
                self._resume_at = max(self._resume_at, now + self._silence)
                self._engine.timers.at(now + self._silence, self._quiet, self)
        self.pump(now)

    def _quiet(self, now: int) -> None:
        """A silent interval may have passed: half frames end with it; later also what was not even half of one."""
        quiet = now - self._heard
        if not self.up or quiet < self._silence:
            return
        exchange = self.exchange
        self._take(exchange, exchange.silence() if quiet < self._stall else exchange.damaged(), now)
        if quiet < self._stall and exchange is self.exchange and exchange.pending:
            self._engine.timers.at(self._heard + self._stall, self._quiet, self)
        self.pump(now)

    def _take(self, exchange: Exchange, done: Sequence[Job], now: int) -> bool:
        """Requests are answered; returns whether any is."""
        if done:
            wall = time.time_ns()
            self._resume_at = now + self._delay
            for job in done:
                if job.failure is not None and job.failure.damaged and self._again(job):
                    continue
                took = now - job.sent
                self._slowest = took if took > self._slowest else self._slowest - (self._slowest >> 8)
                job.owner.ended(job, now, wall)
        if exchange.late_jobs:
            self._hear_late(exchange, now)
        if exchange is self.exchange and self.up:
            self._check_stream(exchange, bool(done), now)
        return bool(done)

    def _check_stream(self, exchange: Exchange, answered: bool, now: int) -> None:
        """A stream that can't be read, or that holds little but rubbish, is ended."""
        if answered:
            self._strays_allowed = exchange.strays + STRAY_LIMIT
            self._answered = True
        if exchange.broken is not None:
            self.drop(malformed(str(exchange.broken)), now)
        elif exchange.strays > self._strays_allowed and not self.way.is_local:
            self.drop(malformed(f"{STRAY_LIMIT} answers to nothing, the latest {exchange.stray_note}"), now)

    def _hear_late(self, exchange: Exchange, now: int) -> None:
        """Answers that came too late are no values, but their units live."""
        late, exchange.late_jobs = exchange.late_jobs, []
        for job in late:
            if job.deadline - job.sent - self._line_time(job) < job.owner.unit.timeout:
                job.owner.unit.restore(now)

    # ------------------------------------------------------------ sending

    def pump(self, now: int) -> None:
        """Send what may be sent now."""
        room = self.in_flight - len(self.exchange.pending)
        if room <= 0 or not self.up or not (self.queue or self.urgent or self.commands):
            return
        if self._paced and now < self._resume_at:
            self._resume_later()
            return
        now = time.monotonic_ns()  # the process may not have run since `now`; a deadline counts from the sending
        if room > 1 and not self._delay:
            frames = []
            while room and (self.queue or self.urgent or self.commands):
                frames.append(self._open(now))
                room -= 1
            self._send(b"".join(frames), now)
        else:
            self._send(self._open(now), now)

    def _open(self, now: int) -> bytearray:
        queue = self.queue
        if self.urgent:
            job = self.urgent.pop(0)
        elif self.commands and (self._command_next or not queue):
            job = self.commands.pop(0)
            self._command_next = False
        else:
            self._command_next = True
            poll = queue[0]
            job = poll.next_job(now)
            if poll.cursor == len(poll.cycle):
                queue.pop(0)
            elif len(queue) > 1:
                queue.append(queue.pop(0))
        if self.exchange.owes(job, now):
            job = Settling(self, job).job
        elif isinstance(job.owner, Command):
            job.owner.leaving(job, now)
        job.sent = now
        short = self.shared and job.owner.unit.silent and not isinstance(job.owner, Command)
        job.deadline = now + (self.short_patience(job) if short else job.patience)
        if self._silence:
            job.deadline += self._line_time(job)
        if not self._armed or job.deadline < self._armed:
            self._arm(job.deadline)
        frame = self.exchange.open(job)
        if self.tap is not None:
            self.tap.sent(frame, job.unit, job.pdu)
        return frame

    def _line_time(self, job: Job) -> int:
        """Nanoseconds that request and answer take on a line; the unit's own time begins behind them."""
        return round(self.way.framing.line_time(job) * 1e9)

    def _send(self, data: bytes | bytearray, now: int) -> None:
        """Frames are small and few are under way: a socket that can't take one whole is as good as dead."""
        assert self._channel is not None
        try:
            sent = self._channel.send(data)
        except OSError as fault:
            self.broken(fault, now)
            return
        if sent != len(data):
            self.drop(no_connection("the device takes no more data"), now)

    def _resume_later(self) -> None:
        if not self._resuming:
            self._resuming = True
            self._engine.timers.at(self._resume_at, self._resume, self)

    def _resume(self, now: int) -> None:
        self._resuming = False
        self.pump(now)

    def short_patience(self, job: Job) -> int:
        """How long (ns) a unit is waited for that others have to wait for, and that was silent before.

        Well over what this connection's answers take. An answer that comes later is dropped, but tells that the unit
        lives.
        """
        return min(job.patience, max(4 * self._slowest, SHORT_NS))

    def forget(self, poll: Poll) -> None:
        """A poll's cycle was ended: nothing more of it is sent, and its answers are not waited for."""
        if poll in self.queue:
            self.queue.remove(poll)
        self.exchange.cancel(poll)
        for job in [job for job in self.urgent if job.owner is poll]:
            self.urgent.remove(job)

    # ------------------------------------------------------------ timeouts

    @property
    def mute_for_all(self) -> bool:
        """Whether no unit of this connection answers any more, so that the connection itself is in doubt."""
        if self.way.is_local:
            return False  # a line is there whether anybody answers or not
        needed = SILENCES if not self.backoff.attempts else 1
        return self._timeouts >= needed and all(unit.silent or unit.demoted for unit in self.units)

    def _arm(self, when: int) -> None:
        """One timer for the earliest deadline; it looks for the next one when it fires."""
        self._armed = when
        generation = self._generation
        self._engine.timers.at(when, lambda now: self._expire(generation, when, now), self)

    def _expire(self, generation: int, when: int, now: int) -> None:
        if generation != self._generation or when != self._armed:
            return
        self._armed = 0
        expired = self.exchange.expire(now)
        if expired:
            self._timed_out(expired, now)
        if generation == self._generation:
            self.pump(now)
            following = self.exchange.next_deadline()
            if following and not self._armed:
                self._arm(following)

    def _timed_out(self, expired: Sequence[Job], now: int) -> None:
        generation = self._generation
        if (self._timeouts or now - expired[0].sent >= SURE_NS) and self.way.unacknowledged(self._channel):
            self.drop(no_connection("the device acknowledges nothing that is sent"), now)
            return
        # Half an answer would swallow the beginning of the next one; and a device that answers with id 0 could
        # answer this request as if it were the next. Both are cured by a new connection alone.
        unsafe = self.exchange.cut or self._zero_id
        partly = self._answers_partly()
        wall = time.time_ns()
        for job in expired:
            self._timeouts += 1
            job.failure = partly or timed_out((job.deadline - job.sent) * 1e-9, job.stray)
            if not unsafe and self._again(job):
                continue
            job.owner.ended(job, now, wall)
            if generation != self._generation:
                return
        hangs = self.way.is_local and now - self._opened > REOPEN_NS and all(unit.demoted for unit in self.units)
        if unsafe or hangs:
            self.drop(timed_out(self._timeout * 1e-9), now)

    def _answers_partly(self) -> Failure | None:
        """What is wrong where a device answers, but has never yet answered all of several requests in flight.

        There are servers that read one request of what came together, and the next one when something else comes.
        """
        if self.in_flight == 1 or self.proven or not self._answered:
            return None
        self._partly += 1
        if self._partly < PARTLY_LIMIT:
            return None
        at_a_time, self.in_flight = self.in_flight, 1
        return one_at_a_time(at_a_time)

    def _again(self, job: Job) -> bool:
        """Have a request repeated within its poll, where the file allows it."""
        if not job.owner.repeats or job.attempts >= job.owner.unit.server.retries:
            return False
        job.attempts += 1
        job.owner.unit.note_retry()
        self.urgent.append(job)
        return True
