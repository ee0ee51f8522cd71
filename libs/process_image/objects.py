"""The named objects below /dev/shm: names, opening, creating whole, and the room that is left."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from process_image.errors import ForeignObject, ImageError, NoRoom, NotPermitted, SegmentNotFound

FOLDER: Final = Path("/dev/shm")  # noqa: S108 (this is where glibc keeps POSIX shared memory)
OWN_FILES: Final = Path("/proc/self/fd")
LEASE_SUFFIX: Final = ".lease"
SEMAPHORE_PREFIX: Final = "sem."
NEW_SUFFIX: Final = ".new"
TRACES: Final = (LEASE_SUFFIX, NEW_SUFFIX)
"""What else a segment's name may have beside the object."""
MARGIN: Final = 1 << 20
"""Bytes of /dev/shm that a new segment leaves free at least (or a 50th of it, if that is less)."""


def check_name(name: str) -> str:
    """The name without a leading slash; ValueError where it could not be a segment's."""
    bare = name.removeprefix("/")
    if not bare or "/" in bare or "\0" in bare or bare[0] == "." or len(bare.encode()) > 240:
        raise ValueError(f"{name!r} is no name of a segment; use letters, digits, '_', '-', '.' (not first), "
                         "240 bytes at most")
    if bare.endswith((LEASE_SUFFIX, NEW_SUFFIX)) or bare.startswith(SEMAPHORE_PREFIX):
        raise ValueError(f"{name!r} is kept for locks and semaphores; choose another name")
    return bare


def path_of(name: str) -> Path:
    """Where the object of a segment stands."""
    return FOLDER / name


def user_name(uid: int) -> str:
    """Name of a user, or its number where it has none here."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Name of a group, or its number where it has none here."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def group_id(group: str | int) -> int:
    """Number of a group given by name or number; ImageError where there is none."""
    if isinstance(group, int):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group.isdigit():
            return int(group)
        raise ImageError(f"there is no group {group!r} on this machine; create it or name another") from None


def open_object(name: str, *, write: bool) -> int:
    """Open a segment's object; the descriptor closes on exec. Raises SegmentNotFound, NotPermitted, ForeignObject."""
    path = path_of(name)
    try:
        # O_NONBLOCK: a FIFO by this name must not hold the caller
        fd = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as fault:
        raise SegmentNotFound(f"there is no segment {name!r}; is its writer running?") from fault
    except PermissionError as fault:
        raise NotPermitted(_not_permitted(name)) from fault
    except OSError as fault:
        raise ForeignObject(f"{name}: can't be opened ({fault.strerror}); another program's object?") from fault
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ForeignObject(f"{name}: is no plain file; another program's object?")
    return fd


def _not_permitted(name: str) -> str:
    try:
        found = path_of(name).stat()
    except OSError:
        return f"{name}: this user may not open it"
    return (f"{name}: user {user_name(os.geteuid())} may not open it (owner {user_name(found.st_uid)}, group "
            f"{group_name(found.st_gid)}, mode {stat.S_IMODE(found.st_mode):04o}); join the group")


def require_own(fd: int, name: str) -> None:
    """Raise NotPermitted unless this user owns the object: another user's is never taken over."""
    owner = os.fstat(fd).st_uid
    if owner != os.geteuid():
        raise NotPermitted(f"{name}: belongs to user {user_name(owner)}, this is {user_name(os.geteuid())}; "
                           "run as that user, or have it removed by that user")


def free_bytes() -> tuple[int, int]:
    """Bytes that /dev/shm still has for this user, and its whole size."""
    room = os.statvfs(FOLDER)
    return room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize


def pinned_bytes() -> int:
    """Bytes of /dev/shm that no name holds any more: memory of removed objects that some process still maps."""
    room = os.statvfs(FOLDER)
    used = (room.f_blocks - room.f_bfree) * room.f_frsize
    named = 0
    for folder, _, files in os.walk(FOLDER):
        for file in files:
            try:
                named += os.lstat(f"{folder}/{file}").st_blocks * 512
            except OSError:
                continue
    return max(0, used - named)


def create_object(name: str, size: int, *, mode: int, gid: int | None) -> int:
    """A new object of `size` bytes, all of them allocated, that has no name yet; descriptor open for both.

    Its mode and group are set, whatever the umask. `publish_object` gives it the name: others never see it half made,
    and a process killed before that leaves nothing behind. Raises NoRoom, NotPermitted.
    """
    free, whole = free_bytes()
    if whole and size + min(MARGIN, whole // 50) > free:
        raise NoRoom(_no_room(name, size, free, whole))
    fd = _unnamed(name)
    try:
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as fault:
            if fault.errno in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
                raise NoRoom(_no_room(name, size, *free_bytes())) from fault
            raise
        set_access(fd, name, mode=mode, gid=gid)
    except BaseException:
        os.close(fd)
        path_of(name + NEW_SUFFIX).unlink(missing_ok=True)
        raise
    return fd


def _unnamed(name: str) -> int:
    """A file without a name, or one called NAME.new where the file system knows no such files."""
    flags = os.O_RDWR | os.O_CLOEXEC
    spare = path_of(name + NEW_SUFFIX)
    spare.unlink(missing_ok=True)  # of a writer that was killed; its lease is ours now
    try:
        if OWN_FILES.is_dir():  # without it an unnamed file could not be given its name
            return os.open(FOLDER, flags | os.O_TMPFILE, 0o600)
    except OSError as fault:
        if fault.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            raise
    return os.open(spare, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def publish_object(fd: int, name: str) -> None:
    """Give a whole object its name; ForeignObject where something of that name came in between."""
    spare = path_of(name + NEW_SUFFIX)
    try:
        if os.fstat(fd).st_nlink:
            os.link(spare, path_of(name))
            spare.unlink()
        else:
            # only with a directory descriptor does CPython call linkat with AT_SYMLINK_FOLLOW
            here = os.open(OWN_FILES, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.link(str(fd), path_of(name), src_dir_fd=here, follow_symlinks=True)
            finally:
                os.close(here)
    except FileExistsError as fault:
        raise ForeignObject(f"{name}: another program made an object of this name; remove it or choose another "
                            "name") from fault


def set_access(fd: int, name: str, *, mode: int, gid: int | None) -> None:
    """Group and mode after creation (the umask would cut the mode); NotPermitted where this user can't give them."""
    try:
        if gid is not None and os.fstat(fd).st_gid != gid:
            os.fchown(fd, -1, gid)
        if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
            os.fchmod(fd, mode)
    except PermissionError as fault:
        wanted = group_name(gid) if gid is not None else "its own"
        raise NotPermitted(f"{name}: user {user_name(os.geteuid())} can't give it to group {wanted} with mode "
                           f"{mode:04o}; add the user to the group") from fault


def _no_room(name: str, size: int, free: int, whole: int) -> str:
    need = -(-(size + min(MARGIN, whole // 50) - free) // (1 << 20))
    pinned = pinned_bytes()
    held = f", of which {_mib(pinned)} are held by processes that still map removed objects" if pinned else ""
    return (f"{name}: needs {size} bytes ({_mib(size)}) in {FOLDER}, which has {_mib(free)} of {_mib(whole)} left"
            f"{held}; make room for {max(need, 1)} MiB more (docker: --shm-size, compose: shm_size, "
            "Kubernetes: emptyDir medium Memory)")


def _mib(value: int) -> str:
    return f"{value / (1 << 20):.1f} MiB"


def identity(name: str) -> tuple[int, int] | None:
    """Device and inode of the object that has this name now, None where there is none."""
    try:
        found = path_of(name).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """A process that keeps the memory of a removed segment."""

    pid: int
    name: str
    """Name that the segment had."""
    size: int
    """Bytes that it maps."""


def pins(prefix: str = "") -> list[Pin]:
    """Processes that still map removed objects of /dev/shm whose name began with `prefix`, as far as this user sees."""
    found = []
    start, end = f"{FOLDER}/{prefix}", " (deleted)"
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines = (folder / "maps").read_text(errors="replace").splitlines()
        except OSError:
            continue  # ended, or another user's
        for line in lines:
            fields = line.split(None, 5)
            if len(fields) == 6 and fields[5].startswith(start) and fields[5].endswith(end):
                low, high = (int(edge, 16) for edge in fields[0].split("-"))
                name = fields[5].removeprefix(f"{FOLDER}/").removesuffix(end)
                found.append(Pin(pid=int(folder.name), name=name, size=high - low))
    return found
