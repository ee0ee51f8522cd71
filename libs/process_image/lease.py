"""The writer lease: an OFD write lock on NAME.lease, which the kernel frees when its holder dies.

OFD and not `lockf`, because a plain record lock is dropped when any descriptor of the file is closed; a file of its
own with mode 0600, because a reader's shared lock on the object could keep a writer out.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import struct
import time
import weakref
from pathlib import Path
from typing import Final

from process_image.errors import ImageError, LeaseHeld, NotPermitted
from process_image.objects import FOLDER, LEASE_SUFFIX, user_name

_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid
_WHOLE_WRITE: Final = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
_TRIES: Final = 100
_held: weakref.WeakSet[Lease] = weakref.WeakSet()


class Lease:
    """The right to write one segment, held from construction until `release`."""

    def __init__(self, name: str) -> None:
        """Take the lease; LeaseHeld (with the holder) if another has it, NotPermitted if another user's."""
        self.name = name
        self.path = path_of_lease(name)
        self._fd = _take(name, self.path)
        _held.add(self)
        note = json.dumps({"pid": os.getpid(), "pid_namespace": pid_namespace(), "host": socket.gethostname(),
                           "since": int(time.time())}).encode()
        os.pwrite(self._fd, note, 0)
        os.ftruncate(self._fd, len(note))

    @property
    def held(self) -> bool:
        """Whether it is (still) ours."""
        return self._fd >= 0

    def release(self) -> None:
        """Remove the lease file and free the lock; whoever waits for it looks again and makes a new file."""
        if self._fd >= 0:
            if _is_at(self._fd, self.path):
                self.path.unlink(missing_ok=True)
            self.abandon()

    def __del__(self) -> None:
        """A writer that was dropped without `close` must not keep its own process out."""
        if getattr(self, "_fd", -1) >= 0:
            self.abandon()

    def abandon(self) -> None:
        """Close the descriptor alone: for a forked child, where the lock stays with the parent."""
        fd, self._fd = self._fd, -1
        _held.discard(self)
        if fd >= 0:
            os.close(fd)


def path_of_lease(name: str) -> Path:
    """Where the lock file of a segment stands."""
    return FOLDER / (name + LEASE_SUFFIX)


def pid_namespace() -> int:
    """Inode of this process's PID namespace; 0 where /proc is not there. For display alone."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _take(name: str, path: Path) -> int:
    for _ in range(_TRIES):
        fd = _open(name, path)
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE_WRITE)
        except (BlockingIOError, PermissionError):
            holder = _read_note(fd)
            os.close(fd)
            raise LeaseHeld(f"{name}: is written by another process ({holder}); stop that one, or give this "
                            "partition another namespace") from None
        if _is_at(fd, path):
            return fd
        os.close(fd)  # its last holder removed the file between open and lock
    raise ImageError(f"{name}: the lease file {path} keeps vanishing; is something cleaning up {FOLDER}?")


def _open(name: str, path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except PermissionError as fault:
        raise NotPermitted(f"{name}: the lease belongs to {_owner(path)}; run as that user, or use another "
                           "namespace") from fault
    except OSError as fault:
        raise ImageError(f"{name}: the lease file {path} can't be opened ({fault.strerror}); {FOLDER} must be a tmpfs "
                         "that this user may write") from fault
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise NotPermitted(f"{name}: the lease belongs to user {user_name(found.st_uid)}, this is "
                           f"{user_name(os.geteuid())}; run as that user, or use another namespace")
    return fd


def _owner(path: Path) -> str:
    try:
        return f"user {user_name(path.lstat().st_uid)}"
    except OSError:
        return "another user"


def _is_at(fd: int, path: Path) -> bool:
    mine = os.fstat(fd)
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _read_note(fd: int) -> str:
    """Who wrote the note in the lease file, for people; it proves nothing."""
    try:
        note = json.loads(os.pread(fd, 4096, 0))
        elsewhere = "" if note["pid_namespace"] == pid_namespace() else f" in another PID namespace on {note['host']}"
        return f"pid {int(note['pid'])}{elsewhere}"
    except (ValueError, KeyError, TypeError, OSError):
        return "which has not said who it is"


def is_held(name: str) -> bool | None:
    """Whether some process holds the lease, asked without disturbing it; None where this user can't tell."""
    path = path_of_lease(name)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return _held_by_list(path)
    try:
        answer = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _WHOLE_WRITE))
    except OSError:
        return None
    finally:
        os.close(fd)
    return bool(answer[0] != fcntl.F_UNLCK)


def _held_by_list(path: Path) -> bool | None:
    """The same from the kernel's list of locks, which any user may read; OFD locks show in every PID namespace."""
    try:
        found = path.stat()
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    return any(fields[1] == "OFDLCK" and place in fields for line in lines if len(fields := line.split()) > 5)


def _after_fork() -> None:
    for lease in list(_held):
        lease.abandon()



def is_lease_file(name: str) -> bool:
    """Whether NAME.lease is one of ours: it holds a note, or nothing yet."""
    try:
        fd = os.open(path_of_lease(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        note = os.pread(fd, 4096, 0)
    finally:
        os.close(fd)
    return not note or note.startswith(b'{"pid": ')


os.register_at_fork(after_in_child=_after_fork)
