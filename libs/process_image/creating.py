"""`create`: a new segment, or the take-over of one whose writer is gone."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from process_image import fences, futex, objects, stops
from process_image.errors import ForeignObject, LayoutMismatch, SegmentNotFound
from process_image.filling import Stage
from process_image.guarding import WAIT_BOUND
from process_image.layout import State, Word, stamp
from process_image.lease import Lease, pid_namespace
from process_image.memory import Memory
from process_image.planning import Plan, make_plan
from process_image.quality import BAD_WAITING_FOR_INITIAL_DATA
from process_image.schema import PointLike
from process_image.takeover import take_over
from process_image.writer import WAKE_WAITERS, Writer

JOURNAL_ENTRIES = 65536
STALE_AFTER = 1.0
"""Seconds without a heartbeat after which a segment counts as stale: four heartbeats."""
GRACE = 0.5
"""Seconds past a block's `next_due` after which it counts as stale."""
LONG_BYTES = 1 << 20
"""Bytes of the journal's ring for texts, where there are texts."""


def create(name: str, points: Iterable[PointLike], *, semaphore: Any = None, mode: int = 0o640,
           group: str | int | None = None, journal_entries: int = JOURNAL_ENTRIES, long_bytes: int = LONG_BYTES,
           repair_after: float = 10.0, config_hash: int = 0, stale_after: float = STALE_AFTER, grace: float = GRACE,
           wait_bound: float = WAIT_BOUND) -> Writer:
    """Become the writer of the segment `name` with these points (Points, plain names, or mappings).

    A segment that a dead writer left is taken over in place where its layout is the same, else replaced. All records
    are Bad (BadWaitingForInitialData) until published. `semaphore` is the name of the guarding semaphore (made if it
    is not there), a posix_ipc.Semaphore, or None. `group` and `mode` say who may read. Times are in seconds.

    Raises LeaseHeld, NotPermitted, NoRoom, ForeignObject, UnsupportedMachine, ValueError (points, names).
    """
    fences.require()
    futex.require()
    bare = objects.check_name(name)
    plan = make_plan(points, journal_entries=journal_entries, long_bytes=long_bytes, stale_after=stale_after,
                     grace=grace)
    gid = None if group is None else objects.group_id(group)
    lease = Lease(bare)
    old = None
    try:
        _reach("create.leased")
        old = _find_old(bare)
        taken_over = old is not None and _same_layout(old, plan)
        held = old.semaphore_held if old is not None else ""
        make = _take_over if taken_over else _make
        writer = make(bare, old, plan, lease, mode=mode, gid=gid, config_hash=config_hash,
                      settings={"repair_after": repair_after, "bound": wait_bound, "gid": gid})
    except BaseException:
        lease.release()
        raise
    finally:
        if old is not None:
            old.close()
    try:
        writer.semaphore = semaphore
        if held:
            writer.free_semaphore(held)
    except BaseException:
        writer.close(unlink=not taken_over)
        raise
    return writer


def segment_bytes(points: Iterable[PointLike], *, journal_entries: int = JOURNAL_ENTRIES,
                  long_bytes: int = LONG_BYTES) -> int:
    """Bytes of shared memory that `create` would take for these points; ValueError as there."""
    plan = make_plan(points, journal_entries=journal_entries, long_bytes=long_bytes, stale_after=STALE_AFTER,
                     grace=GRACE)
    return plan.header.total_size


@dataclass(slots=True)
class _Old:
    """An object that is there already: `memory` None where its layout is not ours to read, or given to the writer."""

    fd: int
    memory: Memory | None

    @property
    def semaphore_held(self) -> str:
        """Name of the semaphore that its writer noted to hold when it was killed, else empty."""
        memory = self.memory
        return memory.semaphore_name if memory is not None and memory.read(Word.SEMAPHORE_HELD) else ""

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)
        if self.memory is not None:
            self.memory.close()


def _find_old(name: str) -> _Old | None:
    try:
        fd = objects.open_object(name, write=True)
    except SegmentNotFound:
        return None
    try:
        objects.require_own(fd, name)
        try:
            return _Old(fd, Memory(fd, name, write=True))
        except ForeignObject:
            raise
        except LayoutMismatch:
            return _Old(fd, None)  # a segment of another version, or a damaged one: ours to replace, not to read
    except BaseException:
        os.close(fd)
        raise


def _same_layout(old: _Old, plan: Plan) -> bool:
    """Whether the object can go on in place: header, schema and tables as this writer would write them."""
    memory = old.memory
    if memory is None or memory.read(Word.STATE) not in (State.STARTING, State.READY):
        return False
    header = memory.header
    if stamp(plan.header, epoch=header.epoch, created=header.created) != header:
        return False
    tables = plan.tables.pack()
    return (memory.section(header.schema_offset, header.schema_length) == plan.schema
            and memory.section(header.block_table_offset, len(tables)) == tables)


def _note_writer(memory: Memory, config_hash: int) -> None:
    """Who writes from now on, for display; counters count from the start of the writer."""
    words = memory.words
    words[Word.WRITER_PID >> 3] = os.getpid()
    words[Word.WRITER_PID_NAMESPACE >> 3] = pid_namespace()
    words[Word.WRITER_STARTED >> 3] = time.time_ns()
    words[Word.CONFIG_HASH >> 3] = config_hash & 0xFFFF_FFFF_FFFF_FFFF
    for word in range(Word.PUBLISHES >> 3, (Word.WAKES >> 3) + 1):
        words[word] = 0


def _take_over(name: str, old: _Old | None, plan: Plan, lease: Lease, *, mode: int, gid: int | None,
               config_hash: int, settings: dict[str, Any]) -> Writer:
    assert old is not None and old.memory is not None
    objects.set_access(old.fd, name, mode=mode, gid=gid)
    memory, old.memory = old.memory, None
    memory.words[Word.STATE >> 3] = State.STARTING
    _reach("takeover.starting")
    memory.words[Word.TAKE_OVERS >> 3] = memory.read(Word.TAKE_OVERS) + 1
    _note_writer(memory, config_hash)
    stage = Stage(memory, plan)
    take_over(memory, stage, plan.tables)
    writer = Writer(memory, lease, stage, plan, **settings)
    writer.start(taken_over=True)
    return writer


def _make(name: str, old: _Old | None, plan: Plan, lease: Lease, *, mode: int, gid: int | None, config_hash: int,
          settings: dict[str, Any]) -> Writer:
    """A new object, whole before it has a name; then the old one is retired and gives up the name."""
    fd = objects.create_object(name, plan.header.total_size, mode=mode, gid=gid)
    try:
        _reach("create.allocated")
        memory = _fill_new(fd, name, plan, config_hash)
        stage = Stage(memory, plan)
        stage.records["quality"] = BAD_WAITING_FOR_INITIAL_DATA
        writer = Writer(memory, lease, stage, plan, **settings)
        writer.start(taken_over=False)
        _reach("create.filled")
        if old is not None:
            _retire(name, old)
        objects.publish_object(fd, name)
        _reach("create.linked")
    finally:
        os.close(fd)
    return writer


def _fill_new(fd: int, name: str, plan: Plan, config_hash: int) -> Memory:
    header = stamp(plan.header, epoch=secrets.randbits(64) or 1, created=time.time_ns())
    memory = Memory(fd, name, write=True, header=header)
    for start, part in ((0, header.pack()), (header.schema_offset, plan.schema),
                        (header.block_table_offset, plan.tables.pack())):
        memory.bytes[start : start + len(part)] = np.frombuffer(part, np.uint8)
    _note_writer(memory, config_hash)
    memory.words[Word.STATE >> 3] = State.STARTING
    fences.release()
    return memory


def _retire(name: str, old: _Old) -> None:
    """Tell the readers of the old object to open the name again, then take the name from it."""
    if old.memory is not None:
        old.memory.words[Word.STATE >> 3] = State.RETIRED
        old.memory.words[Word.HEARTBEAT >> 3] = 0
        old.memory.futex[0] = (old.memory.futex[0] + 1) & 0xFFFFFFFF
        futex.wake(old.memory.futex_address, WAKE_WAITERS)
    else:
        os.pwrite(old.fd, State.RETIRED.to_bytes(8, sys.byteorder), Word.STATE)
    _reach("create.retired")
    objects.path_of(name).unlink(missing_ok=True)
    _reach("create.unlinked")


def _reach(name: str) -> None:
    if stops.hook is not None:
        stops.hook(name)
