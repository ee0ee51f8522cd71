"""A consumer's line to the command gate: never waited for, and what was asked is never lost sight of.

A command is sent once. When the line breaks before its final answer came, the gate is asked what became of it as soon
as it is there again; only where it never heard of the command is it sent again. The line never ends a connection by
itself while something is asked for: what lies unread in it might still be carried out, after its fate was told.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from command_channel import (
    NEVER_HEARD,
    UNDER_WAY,
    USED_BEFORE,
    Answer,
    Command,
    CommandClient,
    GateBusy,
    GateUnavailable,
    MessageError,
    Mode,
    Status,
    gate_socket,
)
from endpoint_config import Partition

MOST_ASKED = 1000
"""Commands that may wait for their answer."""
CONNECT_AGAIN = 0.2
"""Seconds between attempts to reach the gate."""
ASK_AGAIN = 0.5
"""Seconds after which the fate of a command that an earlier connection asked for is asked for again."""
RESEND = 5.0
"""Seconds within which a command that never reached the gate is sent again; later nobody wants it any more."""
FORGET = 600.0
"""Seconds after which a command that got no answer is given up: the gate answers within minutes or not at all."""
MUTE = 5.0
"""Seconds without any answer to a command after which the gate is said to hang."""
A_TURN = 200
"""Answers taken in one step."""
Told = Callable[[Answer], None]


@dataclass(slots=True)
class _Asked:
    command: Command
    told: Told
    since: float
    ask_at: float = math.inf
    """When to ask for its fate, monotonic."""
    asking: bool = False
    """Whether its fate was asked for and not yet told."""
    sent_again: bool = False
    """A refusal because of its id may then mean itself."""
    heard: bool = False
    """Whether the gate said anything about it."""


class GateLine:
    """For one thread; `step` each turn, and when `fileno` is readable."""

    def __init__(self, path: Path, name: str) -> None:
        """The gate's socket; `name` is the issuer of the commands, and stands before errors."""
        self.message = ""
        """Why there is no gate, or what is wrong with it; empty where all is well."""
        self._path, self._name = path, name
        self._client: CommandClient | None = None
        self._connect_after = 0.0
        self._asked: dict[str, _Asked] = {}
        self._queries: dict[str, list[_Asked]] = {}
        """Questions for the fate of a command, in the order of asking: each gets one answer."""

    @property
    def connected(self) -> bool:
        """Whether the gate is there."""
        return self._client is not None

    def fileno(self) -> int:
        """The socket, -1 for none."""
        return -1 if self._client is None else self._client.fileno()

    def sockets(self) -> list[tuple[int, int]]:
        """What `Base.wait` is to wait for."""
        return [] if self._client is None else [(self._client.fileno(), select.POLLIN)]

    def pending(self, request_id: str) -> Command | None:
        """The command with this id whose final answer is still to come."""
        asked = self._asked.get(request_id)
        return None if asked is None else asked.command

    def ask(self, command: Command, told: Told, *, again: bool = False) -> str:
        """Pass a command on; why it can't be, or empty. `told` gets every answer, from `step`.

        `again`: it may have been passed on in an earlier life, so its fate is asked for first.
        """
        request_id, query = command.request_id, command.mode is Mode.QUERY
        if not query and request_id in self._asked:
            return f"request_id {request_id} is under way; a new one for each command"
        if len(self._asked) + sum(map(len, self._queries.values())) >= MOST_ASKED:
            return f"{MOST_ASKED} commands wait for their answers; later"
        self._reach()
        asked = _Asked(command, told, time.monotonic())
        if again and not query:  # also while no gate is there: nobody else knows whether a refusal would be true
            self._asked[request_id] = asked
            self._ask_fate(asked)
            return ""
        if self._client is None:
            return self.message
        why = self._send(command)
        if not why and query:
            self._queries.setdefault(request_id, []).append(asked)
        elif not why:
            self._asked[request_id] = asked
        return why

    def step(self) -> None:
        """Connect, hear, ask again."""
        self._reach()
        self._hear()
        now = time.monotonic()
        mute = False
        for request_id, asked in list(self._asked.items()):
            mute = mute or (not asked.heard and now - asked.since > MUTE)
            if now - asked.since > FORGET:
                del self._asked[request_id]
                self._give_up(asked)
            elif asked.ask_at <= now:
                self._ask_fate(asked)
        for request_id, queries in list(self._queries.items()):
            if now - queries[0].since > FORGET:
                for query in self._queries.pop(request_id):
                    self._give_up(query)
        if self._client is not None:
            self.message = f"{self._name}: the gate does not answer; it is stopped or hangs" if mute else ""

    def close(self) -> None:
        """Leave; what was passed on is carried out all the same."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _reach(self) -> None:
        if self._client is not None or time.monotonic() < self._connect_after:
            return
        self._connect_after = time.monotonic() + CONNECT_AGAIN
        try:
            self._client = CommandClient(self._path, issuer=self._name, patience=0.0)
        except GateUnavailable as error:
            self.message = f"{self._name}: {error}"
            return
        self.message = ""
        for asked in self._asked.values():
            asked.ask_at = 0.0
        for queries in self._queries.values():
            for query in queries:
                self._send(query.command)

    def _hear(self) -> None:
        for _ in range(A_TURN):
            if self._client is None:
                return
            try:
                answer = self._client.receive()
            except MessageError:  # which command it was for is not known
                for asked in self._asked.values():
                    asked.ask_at = min(asked.ask_at, time.monotonic() + ASK_AGAIN)
                continue
            except GateUnavailable as error:
                self._lose(str(error))
                return
            if answer is None:
                return
            self._tell(answer)

    def _send(self, command: Command) -> str:
        """Why it was not sent and never will be; empty where it was, or where its fate is asked for after a break."""
        if self._client is not None:
            try:
                self._client.send(command)
            except GateBusy as error:
                return f"{self._name}: {error}"
            except GateUnavailable as error:
                self._lose(str(error))
        return ""

    def _ask_fate(self, asked: _Asked) -> None:
        asked.asking, asked.ask_at = True, math.inf
        if self._send(_query(asked.command)):
            asked.ask_at = time.monotonic() + ASK_AGAIN

    def _lose(self, why: str) -> None:
        self.close()
        self.message = f"{self._name}: {why}"

    def _tell(self, answer: Answer) -> None:
        if self._tell_queries(answer):
            return
        asked = self._asked.get(answer.request_id)
        if asked is None:
            return
        asked.heard = True
        if asked.asking and _is(answer, NEVER_HEARD):
            self._never_heard(asked)
            return
        if asked.sent_again and answer.status is Status.REFUSED and USED_BEFORE in answer.message:
            self._ask_fate(asked)  # it got there twice, and what became of the first is what counts
            return
        if answer.status is Status.ACCEPTED and answer.message == UNDER_WAY:
            if asked.asking:  # its final answer goes to the connection that asked first
                asked.asking, asked.ask_at = False, time.monotonic() + ASK_AGAIN
            return
        self._pass_on(asked, answer)

    def _tell_queries(self, answer: Answer) -> bool:
        """Give an answer to those who asked for the fate of a command; whether it was meant for them alone."""
        queries = self._queries.get(answer.request_id, [])
        one = _is(answer, NEVER_HEARD) or (answer.status is Status.ACCEPTED and answer.message == UNDER_WAY)
        if not queries or not (one or answer.status.is_final):
            return False
        told = queries[:1] if one else list(queries)
        del queries[: len(told)]
        if not queries:
            del self._queries[answer.request_id]
        for query in told:
            query.told(answer)
        return one

    def _never_heard(self, asked: _Asked) -> None:
        asked.asking = False
        if time.monotonic() - asked.since <= RESEND:
            asked.sent_again = True
            if self._send(asked.command):
                asked.ask_at = time.monotonic() + ASK_AGAIN
            return
        self._pass_on(asked, Answer(
            request_id=asked.command.request_id, status=Status.FAILED, time=time.time(),
            message=f"{asked.command.point}: it never reached the gate, and is too old by now"))

    def _pass_on(self, asked: _Asked, answer: Answer) -> None:
        if answer.status.is_final or asked.command.dry_run or asked.command.mode is Mode.SELECT:
            self._asked.pop(answer.request_id, None)
        asked.told(answer)

    def _give_up(self, asked: _Asked) -> None:
        asked.told(Answer(request_id=asked.command.request_id, status=Status.UNKNOWN, time=time.time(),
                          message=f"{asked.command.point}: no answer from the gate; `cpc audit` says what became"))


def _is(answer: Answer, refusal: str) -> bool:
    return answer.status is Status.REFUSED and answer.message == refusal


def line_to_gate(partition: Partition, namespace: str, name: str) -> GateLine:
    """The line of the consumer `name` to the gate of its partition."""
    folder = partition.commands.directory if partition.commands is not None else None
    return GateLine(gate_socket(namespace, folder), name)


def _query(command: Command) -> Command:
    return Command(request_id=command.request_id, point=command.point, value=command.value, issuer=command.issuer,
                   mode=Mode.QUERY)
