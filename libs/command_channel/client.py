"""The asking side: a blocking client for scripts, consumers and the command line."""

from __future__ import annotations

import secrets
import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from command_channel.messages import MOST_BYTES, Answer, Command, Mode, Status, Value, decode_answer, encode_command
from command_channel.places import gate_socket

_LOOK_AGAIN = 0.02
"""Seconds between attempts at a gate whose queue of connections is full."""


class GateUnavailable(Exception):
    """There is no gate at the socket, or it went away before anything was asked; the text says where."""


class GateBusy(GateUnavailable):
    """The gate is there and does not read: a command was not sent, and may be later."""


class CommandClient:
    """One connection to the gate; not for several threads at once. Answers of several commands may come mixed."""

    def __init__(self, path: Path | str | None = None, *, namespace: str = "", issuer: str = "",
                 patience: float = 5.0) -> None:
        """Connect to the gate at `path`, or to that of a namespace; GateUnavailable where there is none.

        `issuer` is the name that goes with every command; the gate sees the process's user beside it. A gate that is
        stopped takes no further connections once its queue is full: then it is tried for `patience` seconds, with 0
        once, so that nobody who has other things to do is held up.
        """
        self._path = Path(path) if path is not None else gate_socket(namespace)
        self._issuer = issuer
        self._kept: deque[Answer] = deque()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        try:
            self._connect(time.monotonic() + patience)
        except BlockingIOError as error:
            self._socket.close()
            raise GateUnavailable(f"{self._path}: the command gate takes no connection; it is stopped or hangs, look "
                                  "at its process") from error
        except OSError as error:
            self._socket.close()
            raise GateUnavailable(f"{self._path}: no command gate ({error.strerror}); start a partition whose "
                                  "partition file has <commands>, or name its folder in CPC_COMMANDS") from error

    def _connect(self, until: float) -> None:
        """Connect without being held up by a full queue of connections (EAGAIN of unix(7))."""
        while True:
            try:
                self._socket.connect(str(self._path))
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise
                time.sleep(_LOOK_AGAIN)
            else:
                return

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
        """Send one command and wait for its last answer (for a select, a query or a dry run, its only one)."""
        only = command.dry_run or command.mode in (Mode.SELECT, Mode.QUERY)
        self.send(command)
        others: list[Answer] = []
        try:
            for answer in self.answers(time.monotonic() + timeout):
                if answer.request_id != command.request_id:
                    others.append(answer)
                elif only or answer.status.is_final:
                    return answer
        finally:
            self._kept.extendleft(reversed(others))
        return Answer(request_id=command.request_id, status=Status.UNKNOWN, time=time.time(),
                      message=f"{command.point}: no final answer from the gate; `cpc audit` says what became of it")

    def send(self, command: Command) -> None:
        """Send one command; MessageError for one that can't be sent, GateUnavailable where the gate has gone.

        GateBusy where it has not read what was sent before: nothing of this one has left.
        """
        packet = encode_command(command)
        try:
            self._socket.send(packet, socket.MSG_DONTWAIT)  # a packet is taken whole or not at all
        except BlockingIOError as error:
            raise GateBusy(f"{self._path}: the command gate does not read what it is sent; later") from error
        except OSError as error:
            raise GateUnavailable(f"{self._path}: the gate has gone ({error.strerror}); connect again") from error

    def answers(self, deadline: float) -> Iterator[Answer]:
        """Answers as they come, until `deadline` (monotonic seconds) or the end of the connection.

        A caller who stops early leaves the rest for the next call.
        """
        while self._kept:
            yield self._kept.popleft()
        while time.monotonic() < deadline and (packet := self._receive(deadline)):
            yield decode_answer(packet)

    def receive(self) -> Answer | None:
        """The next answer if there is one now; GateUnavailable where the gate has gone."""
        if self._kept:
            return self._kept.popleft()
        packet = self._receive(0.0)
        if packet is None:
            return None
        if not packet:
            raise GateUnavailable(f"{self._path}: the gate has gone; connect again")
        return decode_answer(packet)

    def _receive(self, deadline: float) -> bytes | None:
        """One packet, empty where the connection has ended, None where none came by the deadline."""
        poll = select.poll()  # select() takes no descriptor over 1023
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000.0):
            return None
        try:
            return self._socket.recv(MOST_BYTES + 1)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _command(self, point: str, value: Value, more: dict[str, Any]) -> Command:
        fields = {"request_id": secrets.token_hex(16), "issuer": self._issuer, **more}
        return Command(point=point, value=value, **fields)
