"""The memory fences that the layout's ordering rules need, behind two names.

`release` stands between stores whose order others rely on, `acquire` between loads that rely on it. Each is called
as a function of its own between numpy or memoryview accesses, so no compiler moves anything across it; what is left
is the processor. x86-64 keeps loads in order among each other and stores in order among each other (all that is
needed here: no rule needs a store to pass before a later load), and glibc ends its non-temporal copies with a store
fence. aarch64 needs real fences, taken from libatomic by a call that keeps the GIL.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable

from process_image.errors import UnsupportedMachine

_ACQUIRE, _RELEASE = 2, 3  # memory_order_acquire and memory_order_release of C11 in gcc and clang


def _nothing() -> None:
    """The processor keeps the order by itself."""


def make(machine: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """(`release`, `acquire`) for a machine as platform.machine() names it; UnsupportedMachine where there is none."""
    if machine in ("x86_64", "AMD64", "amd64"):
        return _nothing, _nothing
    if machine in ("aarch64", "arm64"):
        try:
            fence = ctypes.PyDLL("libatomic.so.1").atomic_thread_fence
        except (OSError, AttributeError) as fault:
            raise UnsupportedMachine(f"{machine} needs atomic_thread_fence of libatomic.so.1 ({fault}); "
                                     "install libatomic1") from fault
        fence.argtypes, fence.restype = [ctypes.c_int], None
        return (lambda: fence(_RELEASE)), (lambda: fence(_ACQUIRE))
    raise UnsupportedMachine(f"no memory fence is known for the machine {machine!r}; x86_64 and aarch64 are supported")


def _refuse() -> None:
    """Placed where `make` failed: the first use of a segment says what is missing."""
    make(platform.machine())


try:
    release, acquire = make(platform.machine())
except UnsupportedMachine:
    release = acquire = _refuse


def require() -> None:
    """Raise UnsupportedMachine, with what is missing, where coherent reading and writing can't be promised."""
    if sys.maxsize < 1 << 32:
        raise UnsupportedMachine("a 32-bit Python can't store a u64 at once; install a 64-bit one")
    make(platform.machine())
