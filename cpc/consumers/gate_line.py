"""A consumer's line to the command gate: never waited for, and what was asked is never lost sight of.

A command is sent once. When the line breaks before its final answer came, the gate is asked what became of it as soon
as it is there again; only where it never heard of the command is it sent again.
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
    Answer,
    Command,
    CommandClient,
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
Told = Callable[[Answer], None]


@dataclass(slots=True)
class _Asked:
    command: Command
    told: Told
    since: float
    ask_at: float = math.inf
    """When to ask for its fate, monotonic."""


class GateLine:
    """For one thread; `step` each turn, and when `fileno` is readable."""

    def __init__(self, path: Path, name: str) -> None:
        """The gate's socket; `name` is the issuer of the commands, and stands before errors."""
        self.message = ""
        """Why there is no gate; empty where there is."""
        self._path, self._name = path, name
        self._client: CommandClient | None = None
        self._connect_after = 0.0
        self._asked: dict[str, _Asked] = {}

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

    def awaits(self, request_id: str) -> bool:
        """Whether a final answer to it is still to come."""
        return request_id in self._asked

    def ask(self, command: Command, told: Told, *, again: bool = False) -> str:
        """Pass a command on; why it can't be, or empty. `told` gets every answer, from `step`.

        `again`: it may have been passed on in an earlier life, so its fate is asked for first.
        """
        request_id = command.request_id
        if request_id in self._asked:
            return f"request_id {request_id} is under way; a new one for each command"
        if len(self._asked) >= MOST_ASKED:
            return f"{MOST_ASKED} commands wait for their answers; later"
        self._reach()
        if self._client is None:
            return self.message
        self._asked[request_id] = _Asked(command, told, time.monotonic())
        self._send(_query(command) if again else command)
        return ""

    def step(self) -> None:
        """Connect, hear, ask again."""
        self._reach()
        self._hear()
        now = time.monotonic()
        for request_id, asked in list(self._asked.items()):
            if now - asked.since > FORGET:
                self._give_up(request_id, asked)
            elif asked.ask_at <= now:
                asked.ask_at = math.inf
                self._send(_query(asked.command))

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
            self._client = CommandClient(self._path, issuer=self._name)
        except GateUnavailable as error:
            self.message = f"{self._name}: {error}"
            return
        self.message = ""
        for asked in list(self._asked.values()):
            self._send(_query(asked.command))

    def _hear(self) -> None:
        client = self._client
        if client is None or not select.select([client], [], [], 0)[0]:
            return
        heard = 0
        try:
            for answer in client.answers(time.monotonic() + 0.001):
                heard += 1
                self._tell(answer)
        except MessageError as error:
            self._lose(f"an answer was not understood: {error}")
            return
        if not heard:
            self._lose("the gate has gone")

    def _send(self, command: Command) -> None:
        if self._client is not None:
            try:
                self._client.send(command)
            except GateUnavailable as error:
                self._lose(str(error))

    def _lose(self, why: str) -> None:
        self.close()
        self.message = f"{self._name}: {why}"

    def _tell(self, answer: Answer) -> None:
        asked = self._asked.get(answer.request_id)
        if asked is None:
            return
        if answer.status is Status.REFUSED and answer.message == NEVER_HEARD and asked.command.mode is not Mode.QUERY:
            if time.monotonic() - asked.since <= RESEND:
                self._send(asked.command)  # it never got there
                return
            answer = Answer(request_id=answer.request_id, status=Status.FAILED, time=time.time(),
                            message=f"{asked.command.point}: it never reached the gate, and is too old by now")
        if answer.status is Status.ACCEPTED and answer.message == UNDER_WAY:
            asked.ask_at = time.monotonic() + ASK_AGAIN  # its final answer goes to the connection that asked first
            return
        only = asked.command.dry_run or asked.command.mode in (Mode.SELECT, Mode.QUERY)
        if answer.status.is_final or only:
            del self._asked[answer.request_id]
        asked.told(answer)

    def _give_up(self, request_id: str, asked: _Asked) -> None:
        del self._asked[request_id]
        asked.told(Answer(request_id=request_id, status=Status.UNKNOWN, time=time.time(),
                          message=f"{asked.command.point}: no answer from the gate; `cpc audit` says what became"))


def line_to_gate(partition: Partition, namespace: str, name: str) -> GateLine:
    """The line of the consumer `name` to the gate of its partition."""
    folder = partition.commands.directory if partition.commands is not None else None
    return GateLine(gate_socket(namespace, folder), name)


def _query(command: Command) -> Command:
    return Command(request_id=command.request_id, point=command.point, value=command.value, issuer=command.issuer,
                   mode=Mode.QUERY)
