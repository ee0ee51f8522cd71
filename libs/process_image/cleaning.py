"""Removing segments whose writer is gone; what is not certainly ours and dead is left alone and named."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from process_image import objects, semaphore
from process_image.errors import ForeignObject, ImageError, LayoutMismatch, NotPermitted, SegmentNotFound
from process_image.layout import HEADER_SIZE, MAGIC, State, Word
from process_image.lease import Lease, is_lease_file
from process_image.memory import Memory
from process_image.segments import has_lease, names


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleaned:
    """What `clean` did with one name."""

    name: str
    removed: bool
    reason: str
    """Why it was removed or left alone."""


def unlink(name: str, *, with_semaphore: bool = True) -> None:
    """Remove a segment, its lease file and (by the name in its header) its semaphore.

    Raises SegmentNotFound, LeaseHeld while a writer lives, NotPermitted or ForeignObject for what is not ours.
    """
    bare = objects.check_name(name)
    fd = objects.open_object(bare, write=True)
    try:
        objects.require_own(fd, bare)
        if os.pread(fd, len(MAGIC), 0) != MAGIC:
            raise ForeignObject(f"{bare}: is no process image; another program's object is left alone")
        lease = Lease(bare)
        try:
            _remove(fd, bare, with_semaphore=with_semaphore)
        finally:
            lease.release()
    finally:
        os.close(fd)


def _remove(fd: int, name: str, *, with_semaphore: bool) -> None:
    """Under the lease: tell readers, and take the names away; the object must still be the one that was opened."""
    found = os.fstat(fd)
    if objects.identity(name) != (found.st_dev, found.st_ino):
        raise SegmentNotFound(f"{name}: was removed or replaced in the meantime")
    guard = _guard_name(fd, name)
    if found.st_size >= HEADER_SIZE:
        os.pwrite(fd, State.RETIRED.to_bytes(8, sys.byteorder), Word.STATE)
    objects.path_of(name).unlink(missing_ok=True)
    if guard and with_semaphore:
        semaphore.remove(guard)


def _guard_name(fd: int, name: str) -> str:
    """Name of the guarding semaphore, empty where the object can't say."""
    try:
        memory = Memory(fd, name, write=False)
    except LayoutMismatch:
        return ""
    try:
        return memory.semaphore_name
    finally:
        memory.close()


def clean(prefix: str = "", *, exact: bool = False) -> list[Cleaned]:
    """Remove the segments of dead writers: only what this process can get the lease of, and of this layout.

    Everything else whose name begins with `prefix` (with `exact`: is `prefix`) and that is a segment, or looks like
    the trace of one, is left alone and named with the reason.
    """
    chosen = [name for name in names(prefix) if not exact or name == prefix]
    done = [answer for name in chosen if (answer := _clean_one(name)) is not None]
    for path in sorted(objects.FOLDER.iterdir()):
        if path.name.startswith(prefix) and path.name.endswith(objects.TRACES):
            if (exact and path.stem != prefix) or not path.exists():  # a lease goes with the object beside it
                continue
            answer = _clean_trace(path.name)
            if answer is not None:
                done.append(answer)
    return done


def _clean_one(name: str) -> Cleaned | None:
    try:
        fd = objects.open_object(name, write=False)
    except NotPermitted as fault:
        return Cleaned(name=name, removed=False, reason=str(fault)) if has_lease(name) else None
    except ImageError as fault:
        return None if isinstance(fault, SegmentNotFound) else Cleaned(name=name, removed=False, reason=str(fault))
    try:
        Memory(fd, name, write=False).close()
        unlink(name)
    except ImageError as fault:
        return Cleaned(name=name, removed=False, reason=str(fault))
    finally:
        os.close(fd)
    return Cleaned(name=name, removed=True, reason="its writer is gone")


def _clean_trace(trace: str) -> Cleaned | None:
    """A lease file (with an object that never got its name) where no segment is left."""
    suffix = next(s for s in objects.TRACES if trace.endswith(s))
    name = trace.removesuffix(suffix)
    if objects.identity(name) is not None:
        return None
    if not is_lease_file(name) and not _is_unborn(name):
        return Cleaned(name=trace, removed=False, reason=f"{trace}: is not ours; another program's file?")
    try:
        lease = Lease(objects.check_name(name))
    except (ImageError, ValueError) as fault:
        return Cleaned(name=trace, removed=False, reason=str(fault))
    if _is_unborn(name):
        objects.path_of(name + objects.NEW_SUFFIX).unlink(missing_ok=True)
    lease.release()
    return Cleaned(name=trace, removed=True, reason="no segment and no writer belongs to it")


def _is_unborn(name: str) -> bool:
    """Whether NAME.new is an object that a writer was killed over."""
    try:
        with objects.path_of(name + objects.NEW_SUFFIX).open("rb") as file:
            return file.read(len(MAGIC)) in (MAGIC, bytes(len(MAGIC)), b"")
    except OSError:
        return False
