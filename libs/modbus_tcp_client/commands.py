"""Requests that somebody ordered, between the polls of a unit: one command after the other, each step sent once.

A command is a generator of steps (see write_steps). Its steps take turns with the polls of their connection, so that
neither waits for more than one request of the other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from acquisition import Value, WriteOutcome, WriteRequest, WriteResult
from process_image.quality import BAD_NODE_ID_UNKNOWN, BAD_RESOURCE_UNAVAILABLE, BAD_TIMEOUT, is_good

from modbus_tcp_client.encode import is_part
from modbus_tcp_client.exchange import Job
from modbus_tcp_client.failure import Failure, internal
from modbus_tcp_client.points import is_text
from modbus_tcp_client.single import typed
from modbus_tcp_client.write_steps import Order, Reply, Step, Steps, carry_out

if TYPE_CHECKING:
    from endpoint_config.models import ModbusPoint

    from modbus_tcp_client.engine import Engine
    from modbus_tcp_client.unit import Unit

MOST_WAITING = 256
"""Commands that may wait for one unit; more would only wait for their deadlines."""
Done = Callable[[Any], None]
_log = logging.getLogger("modbus")

TOO_LATE = Failure(quality=BAD_TIMEOUT, what="its deadline passed before it could be sent",
                   todo="it is not sent any more; see $last_error of the device")
STOPPED = Failure(quality=BAD_TIMEOUT, what="polling was stopped", todo="start it again")


class Commands:
    """The commands of one unit."""

    def __init__(self, engine: Engine, unit: Unit) -> None:
        self.engine = engine
        self.unit = unit
        self.masks = True
        """Whether function 22 is worth trying."""
        self._waiting: list[Command] = []
        self._active: Command | None = None
        self._beginning = False

    def add(self, command: Command, now: int) -> bool:
        """Have a command carried out after those that wait already; False where too many do."""
        if len(self._waiting) >= MOST_WAITING:
            return False
        self._waiting.append(command)
        self.engine.timers.at(command.deadline, command.expire, command)
        self.next(now)
        return True

    def next(self, now: int) -> None:
        """Begin the next command, unless one is under way."""
        if self._beginning:  # the loop below goes on with it; a call for each would nest
            return
        self._beginning = True
        while self._active is None and self._waiting:
            self._active = self._waiting.pop(0)
            self._active.begin(now)
        self._beginning = False

    def connected(self) -> None:
        """There is a new connection, and maybe another device behind it."""
        self.masks = True

    def ended(self, command: Command, now: int) -> None:
        """A command has given its answer."""
        if self._active is command:
            self._active = None
            self.next(now)
        elif command in self._waiting:
            self._waiting.remove(command)

    def interrupted(self, failure: Failure, now: int, *, was_up: bool) -> None:
        """The connection broke, or (`was_up` false) could not be made."""
        if was_up:
            if self._active is not None:
                self._active.interrupted(failure, now, was_up=True)
            return
        for command in [c for c in (self._active, *self._waiting) if c is not None]:
            command.interrupted(failure, now, was_up=False)

    def end(self, now: int) -> None:
        """Answer everything that is open: polling ends."""
        for command in [c for c in (self._active, *self._waiting) if c is not None]:
            command.give_up(STOPPED, now)


class Command:
    """One generator of steps on its way through a connection; the owner of its jobs."""

    repeats = False
    """No step is ever sent twice."""
    unsettled = False

    def __init__(self, commands: Commands, steps: Generator[Step, Reply, Any], done: Done, deadline: int,
                 failed: Callable[[Failure], Any], *, quiet: bool = False) -> None:
        """`done` gets what the steps return, or what `failed` makes of a fault of this program; deadline in ns.

        What goes wrong with a `quiet` command says nothing of the unit, and is not counted.
        """
        self._quiet = quiet
        self._commands = commands
        self._steps = steps
        self._done: Done | None = done
        self._failed = failed
        self.deadline = deadline
        self._job: Job | None = None
        self._over: Failure | None = None
        self._begun = self._probes = self._offered = False
        self.sent = False
        """Whether the step under way has left."""
        self.left = False
        """Whether any step has."""

    @property
    def unit(self) -> Unit:
        """The unit that it is for."""
        return self._commands.unit

    def settle(self) -> None:
        """Nothing to do: see `unsettled`."""

    def break_down(self, fault: Exception, now: int) -> None:
        """Something went wrong that should not be able to."""
        self._finish(self._failed(internal(fault)), now)

    # ------------------------------------------------------------ steps

    def begin(self, now: int) -> None:
        """Take the first step."""
        self._begun = True
        self._advance(None, now)

    def _advance(self, reply: Reply | None, now: int) -> None:
        """Tell the steps what became of the last one, and offer the next to the connection."""
        self._job = None
        self.sent = self._offered = False
        if self._over is None and now >= self.deadline:
            self._over = TOO_LATE
        try:
            step = next(self._steps) if reply is None else self._steps.send(reply)
            while self._over is not None:
                step = self._steps.send(Reply(failure=self._over, sent=False))
        except StopIteration as end:
            self._finish(end.value, now)
            return
        except Exception as fault:  # noqa: BLE001 - here a command ends, with a definite answer; polling goes on
            _log.exception("a command failed device=%s", self.unit.server.alias)
            self._finish(self._failed(internal(fault)), now)
            return
        server = self.unit.server
        self._job = job = Job(
            unit=server.unit_id, pdu=step.pdu, owner=self, patience=self.unit.timeout, read=step.read,
            any_unit=server.accept_any_unit_id, zero_id=server.accept_transaction_zero,
            target=memoryview(bytearray(step.data_bytes)) if step.data_bytes else None,
        )
        if step.pause:
            self._commands.engine.timers.at(now + round(step.pause * 1e9), lambda later: self._offer(job, later), self)
        else:
            self._offer(job, now)

    def _offer(self, job: Job, now: int) -> None:
        """Put the step where the connection takes it; a demoted unit gets no more time than its probes do."""
        if job is not self._job or self.sent:
            return
        unit, engine = self.unit, self._commands.engine
        link = unit.link
        if unit.demoted and link.up:
            if now < link.probe_after:
                engine.timers.at(link.probe_after, lambda later: self._offer(job, later), self)
                return
            self._probes = True
            link.probe_after = now + unit.timeout
        self._offered = True
        link.commands.append(job)
        if link.swept:
            engine.step_aside(link, now)
        if link.up:
            link.pump(now)
        else:
            engine.timers.at(now, link.connect, link)

    def wants(self, job: Job) -> bool:
        """Whether a job that was offered is still to be sent."""
        return job is self._job

    def leaving(self, job: Job, now: int) -> None:
        """The job is about to be sent; it is not waited for beyond the deadline."""
        self.sent = self.left = True
        job.patience = max(1, min(self.unit.timeout, self.deadline - now))

    # ------------------------------------------------------------ what becomes of them

    def ended(self, job: Job, now: int, wall: int) -> None:  # noqa: ARG002 - the owner's part of a job
        """A step was answered, refused or timed out."""
        if job is not self._job:
            return
        unit, failure = self.unit, job.failure
        if self._probes:
            self._probes = False
            unit.probed(job, now)
        if failure is None:
            unit.status.note_request((now - job.sent) * 1e-9)
            if unit.troubled:
                unit.revive()
        elif not self._quiet:
            unit.note_failure(job, failure)
        if failure is None or not failure.silent:
            unit.restore(now)
        self._advance(Reply(data=bytes(job.target or b""), failure=failure, value=job.value, sent=self.sent), now)
        if failure is not None and failure.silent and not unit.demoted and not self._quiet:
            unit.note_silence(failure, now)

    def interrupted(self, failure: Failure, now: int, *, was_up: bool) -> None:
        """The connection broke under the step, or could not be made for it."""
        job, link = self._job, self.unit.link
        if self.sent:
            self._advance(Reply(failure=failure), now)
        elif was_up and self._offered and job is not None and job not in link.commands:
            link.commands.append(job)  # it stood behind a request that settles something
        elif self._job is not None and not was_up:
            self._withdraw()
            self._advance(Reply(failure=failure, sent=False), now)
        elif not self._begun:
            self.give_up(failure, now)

    def expire(self, now: int) -> None:
        """The deadline has come. A step that is under way has its own, which is this one."""
        if self._done is not None and not self.sent:
            self._withdraw()
            self.give_up(TOO_LATE, now)

    def give_up(self, failure: Failure, now: int) -> None:
        """Answer now; nothing more is sent."""
        sent = self.sent
        self._withdraw()
        self._over = failure
        self._begun = True
        if self._job is None:
            self._advance(None, now)
        else:
            self._advance(Reply(failure=failure, sent=sent), now)

    def _withdraw(self) -> None:
        job, link = self._job, self.unit.link
        for queue in (link.commands, link.urgent):
            if job is not None and job in queue:
                queue.remove(job)

    def _finish(self, result: Any, now: int) -> None:
        done, self._done = self._done, None
        self._job = None
        self._steps.close()
        if done is not None:
            tell(done, result)
            self._commands.ended(self, now)


def tell(done: Done, result: Any) -> None:
    """Hand a result over."""
    try:
        done(result)
    except Exception:  # noqa: BLE001 - here somebody else's callback ends; polling goes on
        _log.exception("the receiver of a result failed")


@dataclass(frozen=True, slots=True)
class Ordered:
    """A write that another thread wants."""

    request: WriteRequest
    done: Callable[[WriteResult], None]
    deadline: int
    """Monotonic ns."""


class Writer:
    """Orders from other threads, for the engine to carry out; all but `put` belongs to the engine's thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._orders: deque[Ordered] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._seen: dict[str, tuple[int, Value]] = {}
        self._units = {unit.server.alias: unit for unit in engine.units}
        masks = any(point.writable and is_part(point) for unit in engine.units for point in unit.server.points)
        if masks or any(unit.server.identify for unit in engine.units):
            from modbus_tcp_client.functions import mask_write

            mask_write(0, 0, 0)  # pymodbus is imported now and not in the middle of polling

    def put(self, ordered: Ordered) -> bool:
        """From any thread; the caller rings the engine's bell. False where nothing is taken any more."""
        with self._lock:
            if not self._closed:
                self._orders.append(ordered)
            return not self._closed

    def deliver(self, now: int) -> None:
        """Begin what was ordered."""
        while self._orders:
            self._begin(self._orders.popleft(), now)

    def close(self, now: int) -> None:
        """Answer everything that is open; nothing is taken any more."""
        with self._lock:
            self._closed = True
        self.deliver(now)
        for unit in self._engine.units:
            unit.commands.end(now)

    def _begin(self, ordered: Ordered, now: int) -> None:
        found = self._find(ordered.request.point)
        if found is None:
            tell(ordered.done, unknown(ordered.request.point))
            return
        unit, point = found

        def failed(failure: Failure) -> WriteResult:
            text = failure.text(unit.server.alias, "write", point.address)
            outcome = WriteOutcome.TIMED_OUT if command.left else WriteOutcome.FAILED
            return WriteResult(outcome=outcome, message=text, quality=failure.quality, sent=command.left)

        steps = self._steps(unit, point, ordered.request)
        command = Command(unit.commands, steps, ordered.done, ordered.deadline, failed)
        if not unit.commands.add(command, now):
            text = f"{unit.server.alias}: write {point.address}: {MOST_WAITING} commands wait already; write less often"
            tell(ordered.done, WriteResult(outcome=WriteOutcome.FAILED, message=text, quality=BAD_RESOURCE_UNAVAILABLE))

    def _find(self, name: str) -> tuple[Unit, ModbusPoint] | None:
        """Commands are rare: no table of all points is kept for them."""
        publisher = self._engine.publisher
        row = publisher.index.get(name)
        unit = None if row is None else self._units.get(publisher.points[row].device)
        if unit is None:
            return None
        alias = unit.server.alias
        return next(((unit, point) for point in unit.server.points if f"{alias}/{point.name}" == name), None)

    def _steps(self, unit: Unit, point: ModbusPoint, request: WriteRequest) -> Steps:
        """What is known of the point is looked up when its turn comes: another write may have been before it."""
        previous = present = None
        publisher = self._engine.publisher
        record = publisher.records[publisher.index[request.point]]
        if record["source_time"] and not is_text(point):
            previous = typed(point, record)
            present = previous if is_good(int(record["quality"])) else None
        seen = self._seen.get(request.point)
        if seen is not None and seen[0] > record["received_time"]:  # read back since the latest poll
            previous = present = seen[1]
        order = Order(device=unit.server.alias, point=point, value=request.value, verify=request.verify,
                      tolerance=request.tolerance, previous=previous, present=present, masks=unit.commands.masks)
        result = yield from carry_out(order)
        unit.commands.masks = order.masks
        if result.read is not None:
            self._seen[request.point] = time.time_ns(), result.read
        return result


def unknown(point: str) -> WriteResult:
    """The answer for a point that there is not."""
    return WriteResult(outcome=WriteOutcome.REFUSED, quality=BAD_NODE_ID_UNKNOWN,
                       message=f"{point}: write: there is no such point; a point of the endpoint files, as alias/name")


def not_polling(point: str) -> WriteResult:
    """The answer where nothing runs that could write."""
    return WriteResult(outcome=WriteOutcome.FAILED, quality=STOPPED.quality,
                       message=f"{point}: write: the device is not polled now; start polling")
