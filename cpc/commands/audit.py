"""The audit log: one JSON object a line, each carrying the hash of the one before, so that a change shows.

A record is `{"seq", "time", "event", ..., "prev", "hash"}`; `hash` is the SHA-256 of the record without it, in the form
in which it is written, and `prev` is the hash of the record before, over all files. What a crash left half written
stays where it is; the next record names it by its own hash. Cutting off the newest records can't be seen from the file
alone: keep the last hash elsewhere (`cpc audit --verify` prints it), or send the log to another machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command_channel.messages import format_time, parse_time

from cpc.commands.stops import reach

FIRST = "0" * 64
"""`prev` of the very first record."""
CURRENT = "audit.log"
"""The file that is written; full ones are called audit-SEQ.log, SEQ being their first record's."""
ROTATE_BYTES = 16 * 1024 * 1024
MOST_LINE = 65536
Record = dict[str, Any]


class AuditError(Exception):
    """The log can't be written or read; the text says why and what to do. Nothing may be sent then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a look through the whole log found."""

    records: int
    files: int
    last_hash: str
    """Hash of the newest record; what to keep elsewhere."""
    faults: tuple[str, ...] = ()
    """`FILE:LINE: what is wrong`, empty where the chain is whole."""


class AuditLog:
    """The writing end; one process at a time."""

    def __init__(self, folder: Path, *, rotate_bytes: int = ROTATE_BYTES,
                 wall: Callable[[], float] = time.time) -> None:
        """Open (and make) the log in `folder`; AuditError where it can't be, or another process has it."""
        self._folder, self._rotate_bytes, self._wall = folder, rotate_bytes, wall
        self._waiting: list[bytes] = []
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            last = _last_record(folder)
            self._seq: int = last["seq"] if last else 0
            self._hash: str = last["hash"] if last else FIRST
            self._file = self._open()
            self._mark_torn()
        except BlockingIOError as error:
            os.close(self._lock)
            raise AuditError(f"{folder}: another gate writes this audit log; one folder for each partition") from error
        except OSError as error:
            raise AuditError(f"{folder}: the audit log can't be opened: {error.strerror or error}; a folder that the "
                             "gate's user can write") from error

    @property
    def last_hash(self) -> str:
        """Hash of the newest record."""
        return self._hash

    def append(self, event: str, **fields: Any) -> None:
        """Add a record; it is on its way to the disk with the next `sync`. None is left out."""
        self._seq += 1
        record: Record = {"seq": self._seq, "time": format_time(self._wall()), "event": event}
        record |= {key: value for key, value in fields.items() if value is not None}
        record["prev"] = self._hash
        self._hash = record["hash"] = digest(record)
        self._waiting.append(_line(record))

    def sync(self) -> None:
        """Have every record on the disk before this returns; AuditError where that fails."""
        if not self._waiting:
            return
        size = os.fstat(self._file).st_size
        try:
            view = memoryview(b"".join(self._waiting))
            while view:
                view = view[os.write(self._file, view) :]
            reach("audit.written")
            os.fdatasync(self._file)
            reach("audit.synced")
            self._waiting.clear()
            if os.fstat(self._file).st_size >= self._rotate_bytes:
                self._rotate()
        except OSError as error:
            if self._waiting:  # a full disk may have taken a part: these records come again, whole
                os.ftruncate(self._file, size)
            raise AuditError(f"{self._folder}: the audit log can't be written: {error.strerror or error}; nothing is "
                             "sent to a device until it can") from error

    def close(self) -> None:
        """Write what waits, as far as that goes, and let go."""
        try:
            self.sync()
        finally:
            os.close(self._file)
            os.close(self._lock)

    def _open(self) -> int:
        found = os.open(self._folder / CURRENT, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        _sync_folder(self._folder)
        return found

    def _rotate(self) -> None:
        with (self._folder / CURRENT).open("rb") as stream:
            first = _parse(stream.readline(MOST_LINE))
        number = first["seq"] if first else self._seq
        full = self._folder / f"audit-{number:015d}.log"
        (self._folder / CURRENT).rename(full)
        try:
            opened = self._open()
        except OSError:
            full.rename(self._folder / CURRENT)  # the log goes on in the file that is open
            raise
        os.close(self._file)
        self._file = opened

    def _mark_torn(self) -> None:
        """End what a crash left half written, and say so in the next record."""
        size = os.fstat(self._file).st_size
        tail = os.pread(self._file, MOST_LINE, max(0, size - MOST_LINE)).rpartition(b"\n")[2]
        if tail:
            self.append("recovered", torn=hashlib.sha256(tail).hexdigest(), bytes=len(tail))
            self._waiting[-1] = b"\n" + self._waiting[-1]  # in one write: half of it would need another record


def digest(record: Record) -> str:
    """SHA-256 of a record without its own hash, as hexadecimal text."""
    bare = {key: value for key, value in record.items() if key != "hash"}
    return hashlib.sha256(json.dumps(bare, separators=(",", ":"), ensure_ascii=True).encode("ascii")).hexdigest()


def files(folder: Path) -> list[Path]:
    """The files of a log, oldest first."""
    current = folder / CURRENT
    return [*sorted(folder.glob("audit-*.log")), *([current] if current.exists() else [])]


def read(folder: Path, since: float = 0.0) -> Iterator[Record]:
    """Records from `since` (seconds since the Unix epoch) on, oldest first; half-written lines are passed over.

    Files that were last written before `since` are not opened. AuditError where a file can't be read.
    """
    try:
        for path in files(folder):
            if path.stat().st_mtime + 1.0 < since:
                continue
            with path.open("rb") as stream:
                for line in stream:
                    record = _parse(line)
                    if record is not None and (not since or (parse_time(record["time"]) or 0.0) >= since):
                        yield record
    except OSError as error:
        raise AuditError(f"{folder}: the audit log can't be read: {error.strerror or error}") from error


def verify(folder: Path) -> Verdict:
    """Follow the chain through every file; AuditError where one can't be read."""
    found = _Chain()
    listed = files(folder)
    try:
        for path in listed:
            with path.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    found.look(f"{path}:{number}", line)
    except OSError as error:
        raise AuditError(f"{folder}: the audit log can't be read: {error.strerror or error}") from error
    found.end()
    return Verdict(records=found.records, files=len(listed), last_hash=found.last, faults=tuple(found.faults))


class _Chain:
    """Where a look through the log stands."""

    def __init__(self) -> None:
        self.records, self.last, self.seq = 0, FIRST, 0
        self.faults: list[str] = []
        self._torn: tuple[str, bytes] | None = None

    def look(self, place: str, line: bytes) -> None:
        record = _parse(line)
        if record is None:
            self.end()
            self._torn = (place, line.rstrip(b"\n"))
            return
        if self._torn is not None and record.get("torn") == hashlib.sha256(self._torn[1]).hexdigest():
            self._torn = None
        self.end()
        self.records += 1
        if digest(record) != record["hash"]:
            self.faults.append(f"{place}: the record was changed: its hash does not match")
        if record["prev"] != self.last or record["seq"] != self.seq + 1:
            self.faults.append(f"{place}: the chain is broken: record {record['seq']} does not follow {self.seq}")
        self.last, self.seq = record["hash"], record["seq"]

    def end(self) -> None:
        """A line that is no record, and that no record after it accounts for."""
        if self._torn is not None:
            self.faults.append(f"{self._torn[0]}: not a record, and no crash accounts for it")
            self._torn = None


def _line(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    sound = isinstance(record, dict) and isinstance(record.get("seq"), int) and all(
        isinstance(record.get(key), str) for key in ("time", "event", "prev", "hash"))
    return record if sound and line.endswith(b"\n") else None


def _last_record(folder: Path) -> Record | None:
    for path in reversed(files(folder)):
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            # far enough back for a whole record even where half a one follows it
            stream.seek(max(0, size - 4 * MOST_LINE))
            for line in reversed(stream.read().splitlines(keepends=True)):
                record = _parse(line)
                if record is not None:
                    return record
    return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
