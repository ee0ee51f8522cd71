"""Records of the audit log and the files that hold them; see `audit` for the form."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from command_channel import MessageError
from command_channel.messages import parse_time

FIRST = "0" * 64
"""`prev` of the very first record."""
CURRENT = "audit.log"
"""The file that is written; full ones are called audit-SEQ.log, SEQ being their first record's."""
Record = dict[str, Any]


class AuditError(Exception):
    """The log can't be written or read; the text says why and what to do. Nothing may be sent then."""


def digest(record: Record) -> str:
    """SHA-256 of a record without its own hash, as hexadecimal text."""
    bare = {key: value for key, value in record.items() if key != "hash"}
    return hashlib.sha256(json.dumps(bare, separators=(",", ":"), ensure_ascii=True).encode("ascii")).hexdigest()


def as_line(record: Record) -> bytes:
    """A record as it stands in a file."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"


def parse(line: bytes) -> Record | None:
    """The record in a line, None where it is none or not whole."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    sound = isinstance(record, dict) and isinstance(record.get("seq"), int) and all(
        isinstance(record.get(key), str) for key in ("time", "event", "prev", "hash"))
    return record if sound and line.endswith(b"\n") else None


def time_of(record: Any) -> float | None:
    """When a record was made, seconds since the Unix epoch; None where somebody made that unreadable."""
    try:
        return parse_time(record["time"])
    except MessageError:
        return None


def files(folder: Path) -> list[Path]:
    """The files of a log, oldest first."""
    current = folder / CURRENT
    return [*sorted(folder.glob("audit-*.log")), *([current] if current.exists() else [])]


def last_record(folder: Path) -> Record | None:
    """The newest record of a log that is whole."""
    for path in reversed(files(folder)):
        for line in _backwards(path):
            record = parse(line)
            if record is not None:
                return record
    return None


def torn_tail(path: Path) -> bytes:
    """What stands behind the last whole record of a file: what a crash left of a write, however long it is."""
    torn: list[bytes] = []
    for line in _backwards(path):
        if parse(line) is not None:
            break
        torn.append(line)
    return b"".join(reversed(torn))


def torn_hash(torn: bytes) -> str:
    """What the record behind half a write says of it."""
    return hashlib.sha256(torn.removesuffix(b"\n")).hexdigest()


def _backwards(path: Path) -> Iterator[bytes]:
    """The lines of a file, the last first, each with its end; the last may have none."""
    with path.open("rb") as stream:
        end = os.fstat(stream.fileno()).st_size
        if not end:
            return
        with mmap.mmap(stream.fileno(), end, prot=mmap.PROT_READ) as view:
            while end > 0:
                begin = view.rfind(b"\n", 0, end - 1) + 1
                yield view[begin:end]
                end = begin
