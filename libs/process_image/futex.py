"""The futex word: waiting by readers (read-only mapping), waking by the writer."""

from __future__ import annotations

import ctypes
import errno
import os
import platform

from process_image.errors import UnsupportedMachine

_NUMBERS = {"x86_64": 202, "aarch64": 98, "riscv64": 422}
_FUTEX_WAIT, _FUTEX_WAKE = 0, 1  # without the private flag: the waiters are other processes


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


_number = _NUMBERS.get(platform.machine())
# Waiting gives up the GIL (CDLL); waking can't block and keeps it (PyDLL): a busy sibling thread would otherwise
# take the GIL for its whole switch interval, 5 ms.
_wait = ctypes.CDLL(None, use_errno=True).syscall
_wait.restype = ctypes.c_long
_wait.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.POINTER(_Timespec),
                  ctypes.c_void_p, ctypes.c_uint32]
_wake = ctypes.PyDLL(None, use_errno=True).syscall
_wake.restype = ctypes.c_long
_wake.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
                  ctypes.c_uint32]


def require() -> int:
    """Number of the futex call; UnsupportedMachine where it is not known."""
    if _number is None:
        raise UnsupportedMachine(f"the futex call of the machine {platform.machine()!r} is not known")
    return _number


def wait(address: int, expected: int, timeout: float) -> bool:
    """Sleep while the u32 at `address` is `expected`, at most `timeout` seconds.

    False after the time-out; True when woken, when the word already differs, or after a signal: look again.
    """
    seconds, part = divmod(max(timeout, 0.0), 1.0)
    limit = _Timespec(int(seconds), int(part * 1e9))
    if _wait(require(), address, _FUTEX_WAIT, expected, ctypes.byref(limit), None, 0) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EAGAIN, errno.EINTR):
        return True
    if code == errno.ETIMEDOUT:
        return False
    raise OSError(code, f"futex wait: {os.strerror(code)}")


def wake(address: int, count: int) -> int:
    """Wake at most `count` waiters; returns how many were woken."""
    return int(_wake(require(), address, _FUTEX_WAKE, count, None, None, 0))
