"""Asking a unit on a line to repeat a random number, so that no answer that it owes is taken for the next one's."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

from modbus_tcp_client.commands import Command
from modbus_tcp_client.exchange import Job
from modbus_tcp_client.line_exchange import DIAGNOSTICS

if TYPE_CHECKING:
    from modbus_tcp_client.link import Link
    from modbus_tcp_client.unit import Unit

RETURN_QUERY_DATA = 0
"""Sub-function of function 8 that a unit answers by the request itself (V1.1b3, clause 6.8.1)."""


def settling_request() -> bytes:
    """The PDU of function 8 with a number that no request before it had."""
    number = random.randrange(0x10000)  # noqa: S311 - to differ from others, guards nothing
    return struct.pack(">BHH", DIAGNOSTICS, RETURN_QUERY_DATA, number)


class Settling:
    """The owner of such a request, sent in place of another one; an exception to it settles things just as well."""

    repeats = False
    """It is not repeated by itself."""
    unsettled = False
    """It brings no data."""

    def __init__(self, link: Link, behind: Job) -> None:
        """`behind` waits for it."""
        self._link = link
        self.behind = behind
        self.unit: Unit = behind.owner.unit
        self.job = Job(unit=behind.unit, pdu=settling_request(), owner=self, patience=behind.patience)

    def settle(self) -> None:
        """Nothing to do: see `unsettled`."""

    def ended(self, job: Job, now: int, wall: int) -> None:
        """The unit has answered, and the other request is next; or it has not, and that one fails for that."""
        behind = self.behind
        if isinstance(behind.owner, Command) and not behind.owner.wants(behind):
            return  # its deadline has passed meanwhile
        if job.failure is None or job.failure.exception:
            self._link.urgent.insert(0, behind)
            return
        behind.sent, behind.deadline = job.sent, job.deadline
        behind.failure = job.failure
        behind.owner.ended(behind, now, wall)
