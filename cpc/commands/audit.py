"""The audit log: one JSON object a line, each carrying the hash of the one before, so that a change shows.

A record is `{"seq", "time", "event", ..., "prev", "hash"}`; `hash` is the SHA-256 of the record without it, in the form
in which it is written, and `prev` is the hash of the record before, over all files. What a crash left half written
stays where it is; the next record names it by its own hash. Cutting off the newest records can't be seen from the file
alone: keep the last hash elsewhere (`cpc audit --verify` prints it), or send the log to another machine.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from command_channel.messages import format_time

from cpc.commands.audit_reading import Verdict, read, verify
from cpc.commands.audit_records import (
    CURRENT,
    FIRST,
    AuditError,
    Record,
    as_line,
    digest,
    files,
    last_record,
    parse,
    time_of,
    torn_hash,
    torn_tail,
)
from cpc.commands.stops import reach

__all__ = [
    "CURRENT", "FIRST", "RESERVE", "RESERVE_BYTES", "AuditError", "AuditLog", "Record", "Verdict", "digest", "files",
    "read", "time_of", "verify",
]

ROTATE_BYTES = 16 * 1024 * 1024
RESERVE = ".reserve"
RESERVE_BYTES = 256 * 1024
"""Room for the outcomes of all orders that may be under way."""


class AuditLog:
    """The writing end; one process at a time."""

    def __init__(self, folder: Path, *, rotate_bytes: int = ROTATE_BYTES,
                 wall: Callable[[], float] = time.time) -> None:
        """Open (and make) the log in `folder`; AuditError where it can't be, or another process has it."""
        self._folder, self._rotate_bytes, self._wall = folder, rotate_bytes, wall
        self._waiting: list[bytes] = []
        self._reserved = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            last = last_record(folder)
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
    def backlog(self) -> int:
        """Records that are not on the disk yet."""
        return len(self._waiting)

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
        self._waiting.append(as_line(record))

    def sync(self) -> None:
        """Have every record on the disk before this returns; AuditError where that fails.

        AuditError too where they are there and no room is left for what follows: the outcome of whatever is sent now
        must find room, so nothing may be sent.
        """
        if not self._waiting and self._reserved:
            return
        try:
            if self._waiting:
                self._write_out()
            if os.fstat(self._file).st_size >= self._rotate_bytes:
                self._rotate()
            if not self._reserved:
                self._reserve()
        except OSError as error:
            raise AuditError(f"{self._folder}: the audit log can't be written: {error.strerror or error}; nothing is "
                             "sent to a device until it can") from error

    def _write_out(self) -> None:
        size = os.fstat(self._file).st_size
        try:
            self._write()
        except OSError as error:
            os.ftruncate(self._file, size)  # a full disk may have taken a part: these records come again, whole
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._reserved:
                raise
            self._reserved = False
            (self._folder / RESERVE).unlink(missing_ok=True)
            try:
                self._write()
            except OSError:
                os.ftruncate(self._file, size)
                raise
        self._waiting.clear()

    def _write(self) -> None:
        view = memoryview(b"".join(self._waiting))
        while view:
            view = view[os.write(self._file, view) :]
        reach("audit.written")
        os.fdatasync(self._file)
        reach("audit.synced")

    def _reserve(self) -> None:
        """Take the room in which the outcomes of what is under way are written where the disk is full."""
        path = self._folder / RESERVE
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        self._reserved = True

    def close(self) -> None:
        """Write what waits, as far as that goes, and let go."""
        try:
            self.sync()
        finally:
            os.close(self._file)
            os.close(self._lock)

    def _open(self) -> int:
        found = os.open(self._folder / CURRENT, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _sync_folder(self._folder)
        except OSError:
            os.close(found)
            raise
        return found

    def _rotate(self) -> None:
        with (self._folder / CURRENT).open("rb") as stream:
            first = parse(stream.readline())
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
        torn = torn_tail(self._folder / CURRENT)
        if torn:
            self.append("recovered", torn=torn_hash(torn), bytes=len(torn))
            if not torn.endswith(b"\n"):  # in one write: half of it would need another record
                self._waiting[-1] = b"\n" + self._waiting[-1]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
