"""The asking side: a blocking client for scripts, consumers and the command line."""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from command_channel.messages import MOST_BYTES, Answer, Command, Mode, Status, Value, decode_answer, encode_command
from command_channel.places import gate_socket


class GateUnavailable(Exception):
    """There is no gate at the socket, or it went away before anything was asked; the text says where."""


class CommandClient:
    """One connection to the gate; not for several threads at once. Answers of several commands may come mixed."""

    def __init__(self, path: Path | str | None = None, *, namespace: str = "", issuer: str = "") -> None:
        """Connect to the gate at `path`, or to that of a namespace; GateUnavailable where there is none.

        `issuer` is the name that goes with every command; the gate sees the process's user beside it.
        """
        self._path = Path(path) if path is not None else gate_socket(namespace)
        self._issuer = issuer
        self._kept: list[Answer] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.connect(str(self._path))
        except OSError as error:
            self._socket.close()
            raise GateUnavailable(f"{self._path}: no command gate ({error.strerror}); start a partition whose "
                                  "partition file has <commands>, or name its folder in CPC_COMMANDS") from error

    def __enter__(self) -> CommandClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None,
                 /) -> None:
        self.close()

    def close(self) -> None:
        """Leave; what was accepted is carried out all the same."""
        self._socket.close()

    def fileno(self) -> int:
        """For select and its kin: readable when an answer is there."""
        return self._socket.fileno()

    def write(self, point: str, value: Value, *, timeout: float = 30.0, select: bool = False, **more: Any) -> Answer:
        """Ask for a change and wait for the final answer.

        `select` selects first and operates then. `more` are further fields of Command. Without a final answer within
        `timeout` (s) the answer is made here, with status unknown; ask `cpc audit` what became of it.
        """
        if select:
            chosen = self.ask(self._command(point, value, {**more, "mode": Mode.SELECT}), timeout)
            if chosen.status is not Status.ACCEPTED:
                return chosen
            more = {**more, "mode": Mode.OPERATE}
            more.pop("request_id", None)
        return self.ask(self._command(point, value, more), timeout)

    def ask(self, command: Command, timeout: float = 30.0) -> Answer:
        """Send one command and wait for its last answer (for a select or a dry run, its only one)."""
        only = command.dry_run or command.mode is Mode.SELECT
        self.send(command)
        deadline = time.monotonic() + timeout
        for answer in self.answers(deadline):
            if answer.request_id != command.request_id:
                self._kept.append(answer)
            elif only or answer.status.is_final:
                return answer
        return Answer(request_id=command.request_id, status=Status.UNKNOWN, time=time.time(),
                      message=f"{command.point}: no final answer from the gate; `cpc audit` says what became of it")

    def send(self, command: Command) -> None:
        """Send one command; MessageError for one that can't be sent, GateUnavailable where the gate has gone."""
        packet = encode_command(command)
        try:
            self._socket.send(packet, socket.MSG_DONTWAIT)  # a packet is taken whole or not at all
        except OSError as error:
            raise GateUnavailable(f"{self._path}: the gate has gone ({error.strerror}); connect again") from error

    def answers(self, deadline: float) -> Iterator[Answer]:
        """Answers as they come, until `deadline` (monotonic seconds) or the end of the connection."""
        kept, self._kept = self._kept, []
        yield from kept
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                return
            packet = b""
            with contextlib.suppress(ConnectionError):
                packet = self._socket.recv(MOST_BYTES + 1)
            if not packet:
                return
            yield decode_answer(packet)

    def _command(self, point: str, value: Value, more: dict[str, Any]) -> Command:
        fields = {"request_id": secrets.token_hex(16), "issuer": self._issuer, **more}
        return Command(point=point, value=value, **fields)
