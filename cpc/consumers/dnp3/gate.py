"""Controls of masters by the command gate of the partition, and its answers as statuses of the standard."""

from __future__ import annotations

import math
import secrets

from command_channel import Answer, Command, MessageError, Status, encode_command
from dnp3_outstation import CommandStatus

from cpc.consumers.dnp3.controls import Done
from cpc.consumers.gate_line import GateLine

_STATUS = {
    Status.VERIFIED: CommandStatus.SUCCESS,
    Status.WRITTEN: CommandStatus.SUCCESS,
    Status.NOT_VERIFIED: CommandStatus.HARDWARE_ERROR,
    Status.FAILED: CommandStatus.DOWNSTREAM_FAIL,
    Status.TIMED_OUT: CommandStatus.DOWNSTREAM_FAIL,
    Status.UNKNOWN: CommandStatus.UNDEFINED,
}
"""Beside REFUSED: a rule that matched says BLOCKED, none at all NOT_AUTHORIZED (IEEE 1815-2012, Annex A, object 12)."""


class CommandGate:
    """`controls.Gate` over a line that the consumer steps; the issuer is the consumer's name."""

    def __init__(self, line: GateLine, issuer: str) -> None:
        self._line, self._issuer = line, issuer

    def submit(self, point: str, value: bool | float, done: Done) -> bool:
        """As `controls.Gate.submit`; False while the gate is away."""
        command = Command(request_id=secrets.token_hex(16), point=point, value=_plain(value), issuer=self._issuer)
        try:
            encode_command(command)
        except MessageError:
            return False

        def told(answer: Answer) -> None:
            if answer.status.is_final:
                done(status_of(answer))

        return not self._line.ask(command, told)


def status_of(answer: Answer) -> CommandStatus:
    """What a master is told."""
    if answer.status is Status.REFUSED:
        return CommandStatus.BLOCKED if answer.rule else CommandStatus.NOT_AUTHORIZED
    return _STATUS[answer.status]


def _plain(value: bool | float) -> bool | int | float:
    """A whole number as an integer: points of integer types take no other."""
    if isinstance(value, bool) or not math.isfinite(value) or value != int(value):
        return value
    return int(value)
