"""The points of one unit in one scan class: their requests, their schedule and the cycle under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from endpoint_config.models import ModbusPoint
from modbus_frames import read_request

from modbus_tcp_client.exchange import Job
from modbus_tcp_client.failure import OPERATIONS, Failure
from modbus_tcp_client.plan import Request
from modbus_tcp_client.survey import Survey

if TYPE_CHECKING:
    from modbus_tcp_client.engine import Engine
    from modbus_tcp_client.fleet import Fleet
    from modbus_tcp_client.unit import Unit

REFUSED = frozenset([2, 3])
"""Exceptions that may concern a part of the block alone: illegal data address, illegal data value (quantity)."""
MUTE_LIMIT = 2
"""Timeouts of one request, while others of its cycle are answered, after which it goes into quarantine."""
IDLE_NS = 1_000_000_000
"""Pause of a back-to-back poll that has nothing to ask because all is in quarantine."""
EXTRA = -1
"""Job.index of a request that is not part of the plan: a part of a refused block, or a try out of quarantine."""
TRIAL = -2
"""Job.index of a read across unwanted registers that is being checked."""


class Poll:
    """One scan class of one unit.

    A cycle begins at its due time, sends its requests as the connection allows, and ends with the last answer,
    refusal or timeout. Due times lie on a grid with a phase of its own. A cycle that is still under way at the next
    due time is followed by that one directly; a further due time that passes meanwhile counts as missed.
    """

    __slots__ = (
        "_began", "_engine", "_faults", "_mutes", "_next_due", "_took", "_waiting", "active", "block", "cursor",
        "cycle", "fleet", "interval", "jobs", "member", "open", "planned", "points", "requests", "rows", "survey",
        "unit", "unsettled",
    )

    repeats = True
    """Whether a request that is not answered in time is repeated within the cycle."""

    def __init__(self, engine: Engine, unit: Unit, *, points: Sequence[ModbusPoint], rows: npt.NDArray[np.intp],
                 block: int, interval: float) -> None:
        """`rows[p]` is the row in the image of `points[p]`; `block` the block that they belong to; `interval` in s."""
        self._engine = engine
        self.unit = unit
        self.points = tuple(points)
        self.rows = rows
        self.block = block
        self.interval = round(interval * 1e9)
        """Nanoseconds, 0 = back to back."""
        self.survey = Survey(self.points, max_registers=unit.server.max_registers, max_gap=unit.server.max_gap,
                             first_pause=unit.server.retry_interval)
        self.requests: tuple[Request, ...] = self.survey.requests()
        self.fleet: Fleet
        self.member = 0
        self.jobs: list[Job] = []
        self.cycle: list[Job] = []
        """Jobs of the cycle under way: `jobs`, and what was added meanwhile."""
        self.cursor = 0
        """Next job of the cycle to be sent."""
        self.open = 0
        """Jobs of the cycle that were sent and have not ended."""
        self.active = False
        """Whether a cycle is under way."""
        self.unsettled = False
        """Whether answers wait to be decoded."""
        self.planned = 0
        """When the latest cycle should have begun (monotonic ns)."""
        self._next_due = 0
        self._waiting = 0
        self._began = self._took = 0
        self._faults: list[tuple[Request, Failure]] = []
        self._mutes: dict[Request, int] = {}

    # ------------------------------------------------------------ schedule

    def start(self, first_due: int) -> None:
        """Begin the grid; a back-to-back poll has none and begins with the connection."""
        if self.interval:
            self._next_due = first_due
            self._engine.timers.at(first_due, self._fall_due, self.unit.link)

    def _fall_due(self, now: int) -> None:
        due = self._next_due
        passed = (now - due) // self.interval  # whole periods in which this process did not run
        due += passed * self.interval
        self._next_due = due + self.interval
        self._engine.timers.at(self._next_due, self._fall_due, self.unit.link)
        if self.unit.ready:
            self.unit.status.missed += passed
            if not self.active:
                self.begin(due, now)
                self.unit.link.pump(now)
            else:
                self.unit.status.missed += 1 if self._waiting else 0
                self._waiting = due

    def begin(self, due: int, now: int) -> None:
        """Begin the cycle that was planned for `due`; the caller pumps the connection."""
        self.planned = due
        self.cycle = self.jobs
        if not self.survey.settled:
            extra = [self._job(request, EXTRA) for request in self.survey.due(now)]
            extra += [self._job(request, TRIAL) for request in self.survey.bridges.due(now)]
            self.cycle = [*self.jobs, *extra]
        if not self.cycle:
            if not self.interval:
                self._engine.timers.at(now + IDLE_NS, self._begin_again, self.unit.link)
            return
        self.cursor = self.open = 0
        self._began = now
        self.active = True
        self.unit.link.queue.append(self)

    def _begin_again(self, now: int) -> None:
        if not self.active and self.unit.ready:
            self.begin(now, now)
            self.unit.link.pump(now)

    def next_job(self, now: int) -> Job:
        """Take the next job to be sent; the caller knows that there is one."""
        if not self.cursor:
            self.unit.status.lateness_ms = max(0, now - self.planned) * 1e-6
        job = self.cycle[self.cursor]
        job.attempts = 0
        self.cursor += 1
        self.open += 1
        return job

    def resume(self, first: int, count: int, began: int) -> list[Job]:
        """Go on with a cycle that was begun on the fast path; `count` jobs from `first` on are under way."""
        self.cycle = self.jobs
        self.cursor, self.open, self.active = first + count, count, True
        self.planned = self._began = began
        if self.cursor < len(self.cycle):
            self.unit.link.queue.append(self)
        return self.jobs[first : first + count]

    def abort(self) -> None:
        """End the cycle without its answers: the connection is gone, or the unit is demoted."""
        self.active = False
        self._waiting = 0
        self._faults.clear()

    # ------------------------------------------------------------ answers

    def ended(self, job: Job, now: int, wall: int) -> None:
        """A job was answered, refused or timed out."""
        failure = job.failure
        if failure is None:
            unit = self.unit
            unit.status.requests += 1
            unit.status.response_ms = (now - job.sent) * 1e-6
            if unit.troubled:
                unit.revive()
            if job.index >= 0:
                self.fleet.note_time(self.member, job.index, wall)
            elif job.index == EXTRA:
                self.survey.release(job.request)
        else:
            self._failed(job, failure, now, wall)
        if self.active:
            self.open -= 1
            if not self.open and self.cursor == len(self.cycle):
                self._finish(now)

    def settle(self) -> None:
        """Have the answers of the cycle before decoded and published, for the next are about to take their place."""
        self._engine.flush()

    def fail_all(self, quality: int, wall: int, next_due: int) -> None:
        """Give every point a bad quality."""
        self._engine.publisher.fail(self.rows, quality, wall)
        self._engine.touch(self.block, next_due)

    def _failed(self, job: Job, failure: Failure, now: int, wall: int) -> None:
        self.unit.note_failure(job, failure)
        if job.index == TRIAL:
            self._failed_trial(job, failure, now)
            return
        if failure.exception in REFUSED:
            parts = self.survey.refuse(job.request, now)
            if parts:
                self.cycle = [*self.cycle, *(self._job(part, EXTRA) for part in parts)]
                self._requeue()
                return
        self._faults.append((job.request, failure))
        self._engine.publisher.fail(self.rows[list(job.request.points)], failure.quality, wall)
        self._engine.touch(self.block, self.promise(now))
        if failure.silent:
            self._silent(job, failure, now, wall)

    def _failed_trial(self, job: Job, failure: Failure, now: int) -> None:
        """No point depends on a trial; only that it was refused means anything for the points' requests."""
        if failure.exception:
            self.survey.bridges.reject(job.request)
        if failure.silent:
            self.unit.note_silence(failure, now)

    def _silent(self, job: Job, failure: Failure, now: int, wall: int) -> None:
        """No answer: all points of this poll are in doubt, unless this request is known to be a mute one."""
        if not self.unit.silent and job.request not in self._mutes:
            self.fail_all(failure.quality, wall, self.promise(now))
        self._mutes[job.request] = self._mutes.get(job.request, 0) + 1
        self.unit.note_silence(failure, now)

    def _requeue(self) -> None:
        """There is more to send in this cycle after its last job had been taken."""
        if self not in self.unit.link.queue:
            self.unit.link.queue.append(self)

    def _finish(self, now: int) -> None:
        self.active = False
        self._took = now - self._began
        if self.interval and now > self.planned + self.interval:
            self.unit.status.late += 1
        clean = not self._faults and self.survey.settled
        if self._faults:
            self._settle_partly(now)
        elif self.jobs:
            self.unsettled = True
            self.unit.link.proven = self.unit.link.proven or len(self.jobs) > 1
            self._engine.complete(self)
            if self.survey.bridges.trying:
                self._check_bridges(now)
        if self.survey.changed:
            self._replan()
            self.begin(now, now)
        elif self._waiting:
            due, self._waiting = self._waiting, 0
            self.begin(due, now)
        elif not self.interval and not (clean and self._engine.admit(self, now)):
            self.begin(now, now)

    def _check_bridges(self, now: int) -> None:
        """Compare bridged reads with the plain ones of the cycle before and of this one."""
        bridges = self.survey.bridges
        plain = [(job.request, job.target) for job in self.jobs if job.target is not None]
        tried = [job for job in self.cycle if job.index == TRIAL and job.failure is None]
        if bridges.waiting:
            bridges.after(plain, now)
        for job in tried:
            bridges.answered(job.request, bytes(job.target or b""))
        if tried:
            bridges.before(plain)

    def _settle_partly(self, now: int) -> None:
        """Decode the good answers of a cycle in which others failed."""
        failed = {request for request, _ in self._faults}
        without = frozenset(index for request in failed for index in request.points)
        self._faults.clear()
        good = [job for job in self.jobs if job.failure is None]
        for job in good:
            self.fleet.settle_request(self.member, job.index, without)
            self._mutes.pop(job.request, None)
        if good:
            for request in failed:
                if self._mutes.get(request, 0) >= MUTE_LIMIT:
                    self.survey.quarantine(request, now)
        self._engine.touch(self.block, self.promise(now))

    def promise(self, now: int) -> int:
        """By when the block will have been published again, good or bad (monotonic ns)."""
        return max(self._next_due, now) + self.unit.timeout + self._took

    # ------------------------------------------------------------ plan

    def _replan(self) -> None:
        """Take over what the survey has learnt; the next cycle brings the values."""
        survivors = [job.request for job in self.cycle if self._survives(job)]
        self.requests = self.survey.conclude(survivors)
        self._engine.assign(self)

    def _survives(self, job: Job) -> bool:
        refused = job.failure is not None and job.failure.exception in REFUSED
        return not refused and job.request not in self.survey.quarantined

    def join(self, fleet: Fleet, member: int) -> None:
        """Become `member` of a fleet that decodes the answers to `requests`."""
        self.fleet, self.member = fleet, member
        self.jobs = [self._job(request, index) for index, request in enumerate(self.requests)]

    def _job(self, request: Request, index: int) -> Job:
        server = self.unit.server
        data = self.fleet.target(self.member, index) if index >= 0 else memoryview(bytearray(request.data_bytes))
        return Job(
            unit=server.unit_id, pdu=read_request(request.function, request.address, request.count), target=data,
            owner=self, index=index, request=request, patience=self.unit.timeout,
            any_unit=server.accept_any_unit_id, zero_id=server.accept_transaction_zero,
        )


def operation_of(job: Job) -> str:
    """The request in words."""
    return OPERATIONS[job.function]
