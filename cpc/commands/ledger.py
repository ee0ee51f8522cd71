"""Which request ids were used, and what became of them: made again from the audit log after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from command_channel import Status

from cpc.commands.audit import time_of

REMEMBERED = 7 * 86400.0
"""Seconds for which a request id can't be used again; commands expire within a day."""

_STATUSES = frozenset(status.value for status in Status)


@dataclass(slots=True)
class Entry:
    """One request id."""

    uid: int
    point: str
    time: float
    """When it came, seconds since the Unix epoch."""
    status: Status | None = None
    """The final answer; None while there is none."""
    message: str = ""
    sent: bool = False
    """Whether it may have left for the service."""


@dataclass(slots=True)
class Ledger:
    """Request ids of the last seven days."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def take(self, record: Mapping[str, Any]) -> None:
        """What one record tells, in the order of the log."""
        request_id, event = record.get("request_id"), record["event"]
        if not isinstance(request_id, str) or not request_id:
            return
        new = request_id not in self.entries
        if new and event in ("accepted", "selected", "refused"):
            uid = record.get("uid")
            self.open(request_id, Entry(uid=uid if isinstance(uid, int) else -1, point=str(record.get("point", "")),
                                        time=time_of(record) or 0.0))
        entry = self.entries.get(request_id)
        if entry is None:
            return
        if event == "sent":
            entry.sent = True
        elif entry.status is None and (event == "outcome" or (new and event in ("refused", "selected"))):
            # the refusal of a second command with this id says nothing of the first
            status = record.get("status", Status.REFUSED)
            entry.status = Status(status) if status in _STATUSES else Status.UNKNOWN
            entry.message = str(record.get("message", ""))

    def open(self, request_id: str, entry: Entry) -> None:
        """A request id has been used."""
        self.entries[request_id] = entry

    def close(self, request_id: str, status: Status, message: str) -> None:
        """It has its final answer."""
        entry = self.entries.get(request_id)
        if entry is not None:
            entry.status, entry.message = status, message

    def unfinished(self) -> list[tuple[str, Entry]]:
        """Those that have no final answer."""
        return [(request_id, entry) for request_id, entry in self.entries.items() if entry.status is None]

    def forget(self, now: float) -> None:
        """Drop what is older than REMEMBERED and finished."""
        oldest = now - REMEMBERED
        for request_id in [k for k, e in self.entries.items() if e.time < oldest and e.status is not None]:
            del self.entries[request_id]
