"""The public semaphore, as the writer may touch it: by trying, and once in a while by a bounded wait.

posix_ipc gives up the GIL even for a try, and takes up to a switch interval (5 ms) to get it back from a busy
sibling thread; a try can't block, so it goes through ctypes.PyDLL here. Only the bounded wait lets others run.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from typing import Any, Final, Protocol

import posix_ipc

from process_image.errors import ImageError, NotPermitted
from process_image.layout import SEMAPHORE_NAME_SIZE
from process_image.objects import FOLDER, SEMAPHORE_PREFIX, set_access

SEMAPHORE_MODE: Final = 0o660


class Guard(Protocol):
    """What the writer asks of a semaphore."""

    name: str

    def try_acquire(self) -> bool:
        """Take it if it is free, without ever waiting."""

    def acquire(self, seconds: float) -> bool:
        """Take it, waiting at most `seconds`."""

    def release(self) -> None:
        """Give it back."""

    def value(self) -> int:
        """How often it could be taken now."""


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


_quick = ctypes.PyDLL(None, use_errno=True)
_slow = ctypes.CDLL(None, use_errno=True)
_sem_open = _quick.sem_open
_sem_open.restype, _sem_open.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
for _function in (_quick.sem_trywait, _quick.sem_post, _quick.sem_close):
    _function.argtypes = [ctypes.c_void_p]
_quick.sem_getvalue.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)]
# sem_timedwait knows the wall clock alone: a clock that is set back would lengthen the wait without bound
_sem_clockwait = getattr(_slow, "sem_clockwait", None)
if _sem_clockwait is not None:
    _sem_clockwait.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Timespec)]


class NamedSemaphore:
    """A named semaphore that exists, opened by this process."""

    def __init__(self, name: str) -> None:
        """Open it; ImageError where there is none, NotPermitted where this user may not."""
        self.name = _bare(name)
        self._sem = _sem_open(b"/" + os.fsencode(self.name), 0)
        if not self._sem:
            code = ctypes.get_errno()
            text = f"semaphore {self.name!r}: {os.strerror(code)}"
            raise (NotPermitted(text + "; join its group") if code == errno.EACCES else ImageError(text))
        self._value = ctypes.c_int()
        self._trywait, self._post, self._getvalue = _quick.sem_trywait, _quick.sem_post, _quick.sem_getvalue

    def try_acquire(self) -> bool:
        """Take it if it is free, without ever waiting."""
        return bool(self._trywait(self._sem) == 0)

    def acquire(self, seconds: float) -> bool:
        """Take it, waiting at most `seconds`; False after that, or after a signal."""
        if _sem_clockwait is None:  # glibc before 2.30
            time.sleep(seconds)
            return self.try_acquire()
        until = time.monotonic_ns() + int(seconds * 1e9)
        limit = _Timespec(until // 1_000_000_000, until % 1_000_000_000)
        return bool(_sem_clockwait(self._sem, time.CLOCK_MONOTONIC, ctypes.byref(limit)) == 0)

    def release(self) -> None:
        """Give it back."""
        self._post(self._sem)

    def value(self) -> int:
        """How often it could be taken now."""
        self._getvalue(self._sem, ctypes.byref(self._value))
        return self._value.value

    def close(self) -> None:
        """Let go of it; it stays for others."""
        sem, self._sem = self._sem, None
        if sem:
            _quick.sem_close(sem)


class ForeignSemaphore:
    """An object like posix_ipc.Semaphore, for one whose name is gone or that is made for a test."""

    def __init__(self, semaphore: Any) -> None:
        """Wrap `semaphore`, which has acquire(timeout), release() and value."""
        self._semaphore = semaphore
        self.name = _bare(str(getattr(semaphore, "name", "") or ""))

    def try_acquire(self) -> bool:
        """Take it if it is free."""
        return self.acquire(0)

    def acquire(self, seconds: float) -> bool:
        """Take it, waiting at most `seconds`."""
        try:
            self._semaphore.acquire(seconds)
        except (posix_ipc.BusyError, posix_ipc.SignalError):
            return False
        return True

    def release(self) -> None:
        """Give it back."""
        self._semaphore.release()

    def value(self) -> int:
        """How often it could be taken now; 0 where the object can't say."""
        return int(getattr(self._semaphore, "value", 0))


def _bare(name: str) -> str:
    return name.removeprefix("/")


def open_guard(semaphore: Any, *, gid: int | None = None) -> tuple[Guard | None, bool]:
    """The guard for a name (made with the value 1 if it is not there), a semaphore object, or None.

    Also says whether it was given by name, so that the writer may remove it with the segment.
    """
    if semaphore is None:
        return None, False
    if isinstance(semaphore, str):
        make(semaphore, gid=gid)
        return NamedSemaphore(semaphore), True
    name = str(getattr(semaphore, "name", "") or "")
    if name:
        try:
            return NamedSemaphore(name), False
        except ImageError:
            pass  # its name is gone: only the object can reach it
    return ForeignSemaphore(semaphore), False


def make(name: str, *, gid: int | None = None) -> None:
    """Create the semaphore with the value 1 and mode 0660, whatever the umask; keep one that is there."""
    bare = _bare(name)
    if not bare or "/" in bare or len(bare.encode()) >= SEMAPHORE_NAME_SIZE:
        raise ValueError(f"{name!r} is no name of a semaphore")
    try:
        posix_ipc.Semaphore("/" + bare, posix_ipc.O_CREAT, mode=SEMAPHORE_MODE, initial_value=1).close()
    except posix_ipc.PermissionsError as fault:
        raise NotPermitted(f"semaphore {bare!r}: belongs to another user; remove it or choose another name") from fault
    try:
        fd = os.open(FOLDER / (SEMAPHORE_PREFIX + bare), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return  # removed again, or kept elsewhere: there is nothing to set
    try:
        if os.fstat(fd).st_uid == os.geteuid():
            set_access(fd, f"semaphore {bare}", mode=SEMAPHORE_MODE, gid=gid)
    finally:
        os.close(fd)


def remove(name: str) -> None:
    """Remove the name of a semaphore; harmless where there is none."""
    try:
        posix_ipc.unlink_semaphore("/" + _bare(name))
    except (posix_ipc.ExistentialError, posix_ipc.PermissionsError):
        return
