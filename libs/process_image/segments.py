"""Listing segments, as any user may see them."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from typing import Any

from process_image import objects
from process_image.errors import ForeignObject, LayoutMismatch, NotPermitted, SegmentNotFound
from process_image.layout import COUNTERS, STATE_NAMES, State, Word
from process_image.lease import is_held
from process_image.memory import Memory


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentInfo:
    """One segment as it stands in shared memory, seen by this user."""

    name: str
    size: int = 0
    """Bytes of the object."""
    epoch: int = 0
    generation: int = 0
    """Publishes in this epoch."""
    points: int = 0
    blocks: int = 0
    state: str = ""
    """STARTING, READY or RETIRED."""
    pid: int = 0
    """Process that writes (or wrote) it, in that process's own PID namespace; for display alone."""
    alive: bool | None = None
    """Whether a process holds the writer lease; None where this user can't tell."""
    fresh: bool = False
    """Whether the writer's heartbeat is young enough."""
    heartbeat_age: float | None = None
    """Seconds since the last heartbeat; None after an orderly end."""
    mode: int = 0
    """Permission bits."""
    owner: str = ""
    group: str = ""
    used_percent: float = 0.0
    """How full the file system that holds the segments is, percent."""
    enforced: bool = False
    """True: the kernel keeps this user from writing; False: only convention does (owner, root, or a wide mode)."""
    semaphore: str = ""
    """Name of the guarding semaphore, empty for none."""
    journal_entries: int = 0
    journal_seconds: float | None = None
    """Time span that the journal covers now; None while it has not come round once."""
    counters: tuple[tuple[str, int], ...] = ()
    """The writer's counters since its start, as pairs."""
    problem: str = ""
    """Why it can't be read, empty when it can; then the fields above are what could be found out."""


def list_segments(prefix: str = "") -> list[SegmentInfo]:
    """Every segment whose name begins with `prefix`, by name; other programs' objects are not among them.

    A segment of another layout version, or one that this user may not read, is listed with its `problem`.
    """
    found = []
    for name in names(prefix):
        info = describe(name)
        if info is not None:
            found.append(info)
    return found


def describe(name: str) -> SegmentInfo | None:
    """One segment by name; None where there is none, or where the object is another program's."""
    try:
        fd = objects.open_object(name, write=False)
    except NotPermitted as fault:
        return _unreadable(name, str(fault)) if is_held(name) or has_lease(name) else None
    except (SegmentNotFound, ForeignObject):
        return None
    try:
        memory = Memory(fd, name, write=False)
    except ForeignObject:
        return None
    except LayoutMismatch as fault:
        return _unreadable(name, str(fault))
    finally:
        os.close(fd)
    try:
        return _describe(name, memory)
    finally:
        memory.close()


def _describe(name: str, memory: Memory) -> SegmentInfo:
    read, header = memory.read, memory.header
    now = time.monotonic_ns()
    beat = read(Word.HEARTBEAT)
    state = read(Word.STATE)
    return SegmentInfo(
        **_access(name), epoch=header.epoch, generation=read(Word.GENERATION), points=header.points,
        blocks=header.blocks, state=STATE_NAMES.get(state, str(state)), pid=read(Word.WRITER_PID),
        alive=is_held(name), fresh=state == State.READY and now - beat <= header.stale_after,
        heartbeat_age=(now - beat) / 1e9 if beat else None, semaphore=memory.semaphore_name,
        journal_entries=header.journal_entries, journal_seconds=_journal_seconds(memory, now),
        counters=tuple((label, read(word)) for label, word in COUNTERS))


def _journal_seconds(memory: Memory, now: int) -> float | None:
    committed, entries = memory.read(Word.JOURNAL_COMMITTED), memory.header.journal_entries
    if committed < entries:
        return None
    oldest = int(memory.journal_published[committed % entries])
    return max(0, now - oldest) / 1e9


def _access(name: str) -> dict[str, Any]:
    """What the file system says of the object."""
    found = objects.path_of(name).stat()
    free, whole = objects.free_bytes()
    return {
        "name": name, "size": found.st_size, "mode": stat.S_IMODE(found.st_mode),
        "owner": objects.user_name(found.st_uid), "group": objects.group_name(found.st_gid),
        "used_percent": 100.0 * (whole - free) / whole if whole else 0.0,
        "enforced": not os.access(objects.path_of(name), os.W_OK, effective_ids=True),
    }


def _unreadable(name: str, problem: str) -> SegmentInfo | None:
    try:
        return SegmentInfo(**_access(name), alive=is_held(name), problem=problem)
    except OSError:
        return None


def has_lease(name: str) -> bool:
    """Whether there is a lease file beside the object."""
    return objects.path_of(name + objects.LEASE_SUFFIX).exists()


def names(prefix: str) -> list[str]:
    """Names that could be segments; locks and semaphores are not."""
    try:
        entries = [path.name for path in objects.FOLDER.iterdir()]
    except OSError:
        return []
    return sorted(e for e in entries if e.startswith(prefix) and not e.startswith((objects.SEMAPHORE_PREFIX, "."))
                  and not e.endswith(objects.TRACES))
