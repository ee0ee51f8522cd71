"""The reading side of the audit log: its records, and whether anybody changed them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cpc.commands.audit_records import FIRST, AuditError, Record, digest, files, parse, time_of, torn_hash


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a look through the log found."""

    records: int
    files: int
    last_hash: str
    """Hash of the newest record; what to keep elsewhere."""
    faults: tuple[str, ...] = ()
    """`FILE:LINE: what is wrong`, empty where the chain is whole."""


def read(folder: Path, since: float = 0.0) -> Iterator[Record]:
    """Records from `since` (seconds since the Unix epoch) on, oldest first; half-written lines are passed over.

    Files that are older as a whole are not looked through; a record whose time can't be read is not left out.
    AuditError where a file can't be read.
    """
    try:
        for path in _files_since(folder, since):
            with path.open("rb") as stream:
                for line in stream:
                    record = parse(line)
                    if record is not None and (not since or (moment := time_of(record)) is None or moment >= since):
                        yield record
    except OSError as error:
        raise AuditError(f"{folder}: the audit log can't be read: {error.strerror or error}") from error


def verify(folder: Path, since: float = 0.0) -> Verdict:
    """Follow the chain through every file that may hold records from `since` on; AuditError where one can't be read.

    Where older files are left out, the first record that is looked at is taken as it is, for what it follows.
    """
    listed = _files_since(folder, since)
    found = _Chain(anywhere=bool(since))
    try:
        for path in listed:
            with path.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    found.look(f"{path}:{number}", line)
    except OSError as error:
        raise AuditError(f"{folder}: the audit log can't be read: {error.strerror or error}") from error
    found.end(of_log=True)
    return Verdict(records=found.records, files=len(listed), last_hash=found.last, faults=tuple(found.faults))


def _files_since(folder: Path, since: float) -> list[Path]:
    """All files but those that were last written before `since` and are followed by one that began before it."""
    listed = files(folder)
    if not since:
        return listed
    wanted = [path.stat().st_mtime + 1.0 >= since or not _began_before(follower, since)
              for path, follower in pairwise(listed)]
    first = next((i for i, take in enumerate(wanted) if take), max(0, len(listed) - 1))
    return listed[first:]


def _began_before(path: Path, since: float) -> bool:
    with path.open("rb") as stream:
        record = parse(stream.readline())
    moment = None if record is None else time_of(record)
    return moment is not None and moment < since


class _Chain:
    """Where a look through the log stands."""

    def __init__(self, *, anywhere: bool) -> None:
        """`anywhere`: the first record may follow others that are not looked at."""
        self.records, self.last, self.seq = 0, FIRST, 0
        self.faults: list[str] = []
        self._anywhere = anywhere
        self._torn: tuple[str, list[bytes]] | None = None

    def look(self, place: str, line: bytes) -> None:
        record = parse(line)
        if record is None:
            if self._torn is None:
                self._torn = (place, [])
            self._torn[1].append(line)
            return
        if self._torn is not None and record.get("torn") == torn_hash(b"".join(self._torn[1])):
            self._torn = None
        self.end()
        self.records += 1
        if digest(record) != record["hash"]:
            self.faults.append(f"{place}: the record was changed: its hash does not match")
        follows = record["prev"] == self.last and record["seq"] == self.seq + 1
        if not follows and not (self._anywhere and self.records == 1):
            self.faults.append(f"{place}: the chain is broken: record {record['seq']} does not follow {self.seq}")
        self.last, self.seq = record["hash"], record["seq"]

    def end(self, *, of_log: bool = False) -> None:
        """Lines that are no records, and that no record after them accounts for."""
        if self._torn is not None:
            place, lines = self._torn
            if of_log and not lines[-1].endswith(b"\n"):
                self.faults.append(f"{place}: half a record at the end: it is being written, or a crash cut it, which "
                                   "the gate's next start accounts for")
                return
            more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
            self.faults.append(f"{place}: not a record{more}, and no crash accounts for it")
            self._torn = None
