"""The life of a command from its packet to its one final answer; no sockets here.

A turn of the server: `receive` what came, `dispatch` what may go, `AuditLog.sync` once for all of it, and only then
send the orders and the answers. So whatever reaches a device stands in the log before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from acquisition import WriteOutcome, WriteRequest, WriteResult
from command_channel import (
    NEVER_HEARD,
    UNDER_WAY,
    USED_BEFORE,
    Answer,
    Command,
    MessageError,
    Mode,
    Status,
    decode_command,
)
from command_channel.messages import to_json
from endpoint_config import CommandRule, CommandRules

from cpc.commands.audit import AuditLog
from cpc.commands.decision import Decider, Moment, Peer
from cpc.commands.jobs import Asker, Job, Jobs
from cpc.commands.ledger import Entry, Ledger
from cpc.commands.quota import Quota
from cpc.commands.selections import Selections
from cpc.commands.view import SegmentView

MOST_WAITING = 64
"""Commands of one user that may wait or be under way."""
MOST_UNDER_WAY = 16
"""Orders that one service may have at a time."""
MOST_UNWRITTEN = 10_000
"""Records that may wait for a disk that is full; of refusals beyond that only the number is kept."""
GRACE = 1.0
"""Seconds beyond a rule's deadline until the gate answers for a service that does not."""
INTERRUPTED = "the gate was interrupted before it was sent; ask again with a new request_id"
MAYBE = "the gate was interrupted while it was under way: whether the device acted is unknown; it is not sent again"

_STATUS = {
    WriteOutcome.VERIFIED: Status.VERIFIED, WriteOutcome.WRITTEN: Status.WRITTEN,
    WriteOutcome.NOT_VERIFIED: Status.NOT_VERIFIED, WriteOutcome.REFUSED: Status.REFUSED,
    WriteOutcome.FAILED: Status.FAILED, WriteOutcome.TIMED_OUT: Status.TIMED_OUT,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A write for a service."""

    number: int
    service: str
    request: WriteRequest


@dataclass(slots=True)
class Gate:
    """Decides, orders, answers; used by one thread."""

    decider: Decider
    view: SegmentView
    audit: AuditLog
    ledger: Ledger
    broken: str = ""
    """Why nothing may be sent (the audit log can't be written), empty where all is well."""
    quota: Quota = field(default_factory=Quota)
    _selections: Selections = field(default_factory=Selections)
    _jobs: Jobs = field(default_factory=Jobs)

    def start(self) -> None:
        """Answer for those that an earlier gate left unfinished: unknown if they may have been sent, else failed."""
        self.audit.append("started", rules=str(self.decider.rules.file), count=len(self.decider.rules.rules))
        for request_id, entry in self.ledger.unfinished():
            status, message = (Status.UNKNOWN, MAYBE) if entry.sent else (Status.FAILED, INTERRUPTED)
            self.audit.append("outcome", request_id=request_id, point=entry.point, status=status, message=message)
            self.ledger.close(request_id, status, message)
        self.audit.sync()

    def use(self, rules: CommandRules) -> None:
        """Decide by these rules from now on, also about what was accepted and has not been sent."""
        self.decider.rules = rules
        self.audit.append("rules", rules=str(rules.file), count=len(rules.rules))

    # ------------------------------------------------------------ asking

    def receive(self, packet: bytes, asker: Asker, waited: float = 0.0) -> None:
        """One packet of a client: every one gets an answer.

        `waited`: seconds for which it may have lain unread, where this process was held up.
        """
        try:
            command = decode_command(packet)
        except MessageError as error:
            self._refuse(error.request_id, asker, str(error))
            return
        if command.mode is Mode.QUERY:
            asker.reply(self._what_became(command, asker.peer))
            return
        fault = self._used_before(command) or self.broken or self._too_many(asker.peer)
        if fault:
            self._refuse(command.request_id, asker, fault, command)
            return
        self._decide(command, asker, waited)

    def _decide(self, command: Command, asker: Asker, waited: float) -> None:
        peer, now = asker.peer, _now()
        decision = self.decider.decide(command, peer, self.view, now, ahead=self._jobs.ahead_of(command.point))
        rule, fault = decision.rule, decision.message
        if rule is not None and decision.allowed:
            fault = self._selections.refusal(command, peer, rule, now.monotonic)
            if command.expires is None and waited > rule.expires:
                fault = f"lay unread for {waited:.0f} s, and may wait {rule.expires:g} s by this rule; ask again"
            fault = fault and f"{command.point}: {fault}"
        if command.dry_run:
            self._answer_dry_run(command, asker, rule, fault)
        elif rule is None or fault:
            self._refuse(command.request_id, asker, fault, command, rule)
        elif command.mode is Mode.SELECT:
            self._selections.select(command, peer, rule, now.monotonic)
            self._note("selected", command, peer, rule, status=Status.ACCEPTED)
            self.ledger.open(command.request_id, Entry(uid=peer.uid, point=command.point, time=now.wall,
                                                       status=Status.ACCEPTED, message="selected"))
            asker.reply(_answer(command, Status.ACCEPTED, rule=rule, message="selected"))
        else:
            self._accept(command, asker, rule, now, waited)

    def _accept(self, command: Command, asker: Asker, rule: CommandRule, now: Moment, waited: float) -> None:
        if command.mode is Mode.OPERATE:
            self._selections.release(command.point)
        self.decider.count(rule, command, asker.peer, now)
        valid = rule.expires - waited if command.expires is None else command.expires - now.wall
        self._jobs.add(Job(command, asker, rule, until=now.monotonic + valid))
        self._note("accepted", command, asker.peer, rule)
        self.ledger.open(command.request_id, Entry(uid=asker.peer.uid, point=command.point, time=now.wall))
        asker.reply(_answer(command, Status.ACCEPTED, rule=rule))

    def _answer_dry_run(self, command: Command, asker: Asker, rule: CommandRule | None, fault: str) -> None:
        status = Status.REFUSED if rule is None or fault else Status.ACCEPTED
        if not fault or self._notes_refusal_of(asker.peer):
            self._note("dry-run", command, asker.peer, rule, status=status, message=fault or None, request_id=None)
        asker.reply(_answer(command, status, rule=rule, message=fault or "would be allowed; nothing was sent"))

    def _refuse(self, request_id: str, asker: Asker, why: str, command: Command | None = None,
                rule: CommandRule | None = None) -> None:
        peer = asker.peer
        asker.reply(Answer(request_id=request_id, status=Status.REFUSED, message=why, rule=rule.name if rule else "",
                           time=time.time()))
        if not self._notes_refusal_of(peer):
            return  # answered; of a flood the log keeps the count, and the memory nothing
        if command is not None and request_id not in self.ledger.entries:
            self.ledger.open(request_id, Entry(uid=peer.uid, point=command.point, time=time.time(),
                                               status=Status.REFUSED, message=why))
        if command is not None:
            self._note("refused", command, peer, rule, status=Status.REFUSED, message=why)
        else:
            self.audit.append("refused", request_id=request_id or None, user=peer.user, uid=peer.uid, pid=peer.pid,
                              status=Status.REFUSED, message=why)

    def _notes_refusal_of(self, peer: Peer) -> bool:
        return self.quota.allows(peer.uid, time.monotonic(), room=self.audit.backlog < MOST_UNWRITTEN)

    def _used_before(self, command: Command) -> str:
        entry = self.ledger.entries.get(command.request_id)
        if entry is None:
            return ""
        became = "it is under way" if entry.status is None else f"its answer was {entry.status.value}"
        return f"request_id {command.request_id} {USED_BEFORE}, and {became}; a new one for each command"

    def _too_many(self, peer: Peer) -> str:
        mine = sum(job.asker.peer.uid == peer.uid for job in self._jobs)
        if mine < MOST_WAITING:
            return ""
        return f"{mine} commands of user {peer.user} are waiting; at most {MOST_WAITING}"

    def _what_became(self, command: Command, peer: Peer) -> Answer:
        entry = self.ledger.entries.get(command.request_id)
        if entry is None or entry.uid != peer.uid:
            return _answer(command, Status.REFUSED, message=NEVER_HEARD)
        status = entry.status or Status.ACCEPTED
        return _answer(command, status, message=entry.message if entry.status else UNDER_WAY)

    # ------------------------------------------------------------ sending

    def dispatch(self, connected: frozenset[str]) -> list[Order]:
        """What may go to the connected services now; to be sent once the audit log is on the disk."""
        orders: list[Order] = []
        for job in self._jobs.in_turn():
            command = job.command
            service = self.view.owner(command.point)
            if service not in connected or command.point in self._jobs.busy or self._load(service) >= MOST_UNDER_WAY:
                self._jobs.keep(job)
                continue
            now = _now()
            decision = self.decider.decide_again(command, job.asker.peer, self.view, now)
            job.rule = decision.rule or job.rule
            if self.broken or not decision.allowed:
                self._finish(job, Status.REFUSED, self.broken or decision.message)
            else:
                orders.append(self._order(job, service, now))
        return orders

    def _order(self, job: Job, service: str, now: Moment) -> Order:
        command, rule = job.command, job.rule
        present = self.view.present(command.point)
        number = self._jobs.start(job, service, now.monotonic + rule.deadline + GRACE)
        self._note("sent", command, job.asker.peer, rule, previous=None if present is None else _plain(present.value))
        self.ledger.entries[command.request_id].sent = True
        self.decider.written.sent(command.point, command.value, now.wall)
        verify = command.verify if rule.verify == "optional" else rule.verify == "required"
        return Order(number=number, service=service, request=WriteRequest(
            point=command.point, value=command.value, verify=verify, tolerance=rule.tolerance, deadline=rule.deadline))

    def unsent(self, orders: list[Order], why: str, status: Status = Status.FAILED) -> None:
        """Orders of `dispatch` that were not sent after all."""
        for order in orders:
            job = self._jobs.take(order.number)
            if job is not None:
                self._finish(job, status, f"{job.command.point}: {why}")

    def report(self, number: int, result: WriteResult) -> None:
        """What a service says about an order."""
        job = self._jobs.take(number)
        if job is None:
            self.audit.append("late-report", order=number, status=_STATUS[result.outcome], message=result.message,
                              read=_plain(result.read))
            return
        self._finish(job, _STATUS[result.outcome], result.message, result)

    def lost(self, service: str) -> None:
        """The connection to a service has ended: what it had is unknown."""
        for number in self._jobs.of_service(service):
            job = self._jobs.take(number)
            if job is not None:
                self._finish(job, Status.UNKNOWN, f"{job.command.point}: service {service} ended while it was under "
                             "way: whether the device acted is unknown; it is not sent again")

    def expire(self) -> None:
        """Answer for what waited too long, and for services that do not answer."""
        now = time.monotonic()
        silent, waiting = self._jobs.late(now)
        for job in silent:
            self._finish(job, Status.TIMED_OUT, f"{job.command.point}: service {job.service} did not answer in time: "
                         "whether the device acted is unknown; it is not sent again")
        for job in waiting:
            self._finish(job, Status.FAILED, f"{job.command.point}: it expired before it could be sent; is its service "
                         "running? `cpc segments`")
        for uid, count in self.quota.left_out(now):
            self.audit.append("refused-more", uid=uid, count=count)

    def next_due(self) -> float | None:
        """When `expire` has something to do, monotonic."""
        return min((job.until for job in self._jobs), default=None)

    def tidy(self) -> None:
        """Forget what is old; call it now and then."""
        self.ledger.forget(time.time())
        self.decider.forget(_now())

    def _finish(self, job: Job, status: Status, message: str, result: WriteResult | None = None) -> None:
        command = job.command
        self._jobs.done(job)
        self.ledger.close(command.request_id, status, message)
        read = None if result is None else result.read
        if job.service:
            self.decider.written.ended(command.point, command.value, status, read, time.time())
        previous = None if result is None else result.previous
        self._note("outcome", command, job.asker.peer, job.rule, status=status, message=message or None,
                   read=_plain(read), previous=_plain(previous))
        job.asker.reply(_answer(command, status, rule=job.rule, message=message, read=read, previous=previous))

    def _note(self, event: str, command: Command, peer: Peer, rule: CommandRule | None, **more: object) -> None:
        fields: dict[str, object] = {
            "request_id": command.request_id, "user": peer.user, "uid": peer.uid, "pid": peer.pid,
            "issuer": command.issuer or None, "point": command.point, "value": to_json(command.value),
            "mode": command.mode, "rule": rule.name if rule else None,
        }
        self.audit.append(event, **(fields | more))

    def _load(self, service: str | None) -> int:
        return sum(job.service == service for job in self._jobs.under_way.values())


def _now() -> Moment:
    return Moment(wall=time.time(), monotonic=time.monotonic())


def _answer(command: Command, status: Status, *, rule: CommandRule | None = None, message: str = "",
            read: object = None, previous: object = None) -> Answer:
    return Answer(request_id=command.request_id, status=status, message=message, rule=rule.name if rule else "",
                  read=read, previous=previous, time=time.time())  # type: ignore[arg-type]


def _plain(value: object) -> object:
    """A value as the log carries it: what JSON has no number for as text."""
    try:
        return None if value is None else to_json(value)  # type: ignore[arg-type]
    except MessageError:
        return str(value)
