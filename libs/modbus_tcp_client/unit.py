"""One unit behind a connection: whether it answers, and what follows where it does not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from acquisition import Backoff, DeviceStatus
from endpoint_config.models import ModbusServer
from modbus_frames import read_request

from modbus_tcp_client.commands import Command, Commands
from modbus_tcp_client.exchange import Job
from modbus_tcp_client.failure import DEMOTED, GATEWAY, OPERATIONS, Failure
from modbus_tcp_client.functions import Identity
from modbus_tcp_client.identify import identify
from modbus_tcp_client.poll import Poll

if TYPE_CHECKING:
    from modbus_tcp_client.engine import Engine
    from modbus_tcp_client.link import Link

SILENCES = 2
"""Requests without an answer, one after the other, after which a unit counts as silent."""
IDENTIFY_NS = 30_000_000_000
"""Nanoseconds in which a device must have said what it is."""
PROBE_SHARE = 0.05
"""Part of a shared connection's time that probing silent units may take."""


class Unit:
    """A device as the engine sees it; also the owner of its probe requests."""

    repeats = False
    """A probe that is not answered in time is not repeated at once."""

    def __init__(self, engine: Engine, server: ModbusServer, status: DeviceStatus) -> None:
        self._engine = engine
        self.server = server
        self.status = status
        self.link: Link
        self.polls: list[Poll] = []
        self.commands = Commands(engine, self)
        self.timeout = round(server.timeout * 1e9)
        """Nanoseconds."""
        self.silent = 0
        """Requests since the last answer that were not answered in time."""
        self.demoted = False
        """Whether it is only probed, for the sake of the other units of its connection."""
        self.troubled = True
        """Whether the next good answer is news."""
        self.unsettled = False
        """Always False: a probe's data are not decoded."""
        self._backoff = Backoff(server.retry_interval)
        self._probing = False
        self._may_identify = self._again = server.identify
        """Whether the next good answer is followed by the question what the device is, and whether that of the next
        connection."""

    @property
    def unit(self) -> Unit:
        """Itself, as the owner of its probes."""
        return self

    @property
    def ready(self) -> bool:
        """Whether polls may be sent."""
        return self.link.up and not self.demoted

    def revive(self) -> None:
        """It answered."""
        self.troubled = False
        self.silent = 0
        self.link.backoff.reset()
        self.status.note_connected(True)
        self._engine.press()
        if self._may_identify:
            self._may_identify = False
            self._identify(time.monotonic_ns())

    def _identify(self, now: int) -> None:
        """Ask the device what it is, once for a connection; never again where it did not bear the question well."""
        def told(identity: Identity | None) -> None:
            if identity is not None and identity.answered:
                self._again = True
                self._engine.publisher.tell(self.server.alias, "$identity", str(identity))
                self._engine.press()

        self._again = False
        deadline = now + IDENTIFY_NS
        self.commands.add(Command(self.commands, identify(), told, deadline, lambda _failure: None, quiet=True), now)

    # ------------------------------------------------------------ failures

    def note_failure(self, job: Job, failure: Failure) -> None:
        """Count a failed request and say why."""
        self.troubled = True
        text = failure.text(self.server.alias, OPERATIONS[job.function], job.address)
        self.status.note_failure(text, connected=not failure.silent)
        if not failure.silent:
            self.silent = 0
            self.link.backoff.reset()
        self._engine.press()

    def note_retry(self) -> None:
        """Count a request that is sent again within its poll."""
        self.status.requests += 1
        self.status.failures += 1

    def note_silence(self, failure: Failure, now: int) -> None:
        """A request was not answered: demote the unit, or give the connection up where nobody answers on it."""
        self.silent += 1
        if failure.exception in GATEWAY:
            if self.silent >= SILENCES and self.link.demotes:
                self._demote(now)
        elif self.link.mute_for_all:
            self.link.drop(failure, now)
        elif self.silent >= SILENCES and self.link.demotes:
            self._demote(now)

    def fail_all(self, failure: Failure, now: int, text: str) -> None:
        """Every point of the unit is bad for one reason."""
        self.troubled = True
        self.status.note_failure(text, connected=False)
        wall = time.time_ns()
        promise = now + round((self.server.retry_interval + 2 * self.server.timeout) * 1e9)
        for poll in self.polls:
            poll.fail_all(failure.quality, wall, max(promise, now + 2 * poll.interval))
        self._engine.press()

    def abort(self) -> None:
        """End the cycles of all polls without their answers."""
        for poll in self.polls:
            poll.abort()
        self._probing = False

    # ------------------------------------------------------------ demotion

    def _demote(self, now: int) -> None:
        self.demoted = True
        for poll in self.polls:
            poll.abort()
            self.link.forget(poll)
        self.fail_all(DEMOTED, now, DEMOTED.text(self.server.alias, "poll unit", self.server.unit_id))
        self._probe_later(now)

    def connected(self, now: int) -> None:
        """The connection is up: poll at once, or probe."""
        self.commands.connected()
        self._may_identify = self._again
        if self.demoted:
            self._probe(now)
            return
        for poll in self.polls:
            poll.survey.retry_now()
            poll.begin(now, now)

    def _probe_later(self, now: int) -> None:
        self._engine.timers.at(now + round(max(self._backoff.pause(), 0.1) * 1e9), self._probe, self.link)

    def _probe(self, now: int) -> None:
        """Ask the unit for something, if the connection's budget for probes allows it now."""
        link = self.link
        if not self.demoted or self._probing or not link.up:
            return
        if now < link.probe_after:
            self._engine.timers.at(link.probe_after, self._probe, link)
            return
        self._probing = True
        link.probe_after = now + self.timeout  # one probe at a time; set again when this one ends
        link.urgent.append(self._probe_job())
        link.pump(now)

    def _probe_job(self) -> Job:
        request = next((poll.requests[0] for poll in self.polls if poll.requests), None)
        function, address, count = (request.function, request.address, request.count) if request else (3, 0, 1)
        return Job(
            unit=self.server.unit_id, pdu=read_request(function, address, count), owner=self, index=-1,
            patience=self.timeout, any_unit=self.server.accept_any_unit_id,
            zero_id=self.server.accept_transaction_zero,
        )

    def settle(self) -> None:
        """Nothing to do: see `unsettled`."""

    def ended(self, job: Job, now: int, wall: int) -> None:  # noqa: ARG002 - the owner's part of a job
        """A probe was answered or not."""
        self._probing = False
        self.probed(job, now)
        if job.failure is not None and job.failure.silent:
            self.note_failure(job, job.failure)
            self._probe_later(now)
        else:
            self.restore(now)

    def probed(self, job: Job, now: int) -> None:
        """The time that a demoted unit was waited for in vain counts for all probes of the connection."""
        link = self.link
        link.probe_after = now
        if job.failure is not None and job.failure.silent and any(not unit.demoted for unit in link.units):
            link.probe_after += round((now - job.sent) / PROBE_SHARE)  # there is somebody to be harmed

    def restore(self, now: int) -> None:
        """It was heard of again, by a probe or by a late answer: poll it as before."""
        self.silent = 0
        if not self.demoted:
            return
        # Where the whole line was silent, the others may be back too; one further silence demotes them again.
        back = self.link.units if all(unit.demoted for unit in self.link.units) else (self,)
        for unit in back:
            unit.readmit(now)
        self.silent = 0
        self.link.pump(now)

    def readmit(self, now: int) -> None:
        """Poll it as before, but wait for it no longer than for one that was silent."""
        self.demoted = False
        self.silent = SILENCES - 1
        self._backoff.reset()
        for poll in self.polls:
            poll.begin(now, now)
