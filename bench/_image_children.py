"""Readers of the benchmark as forked processes: forking costs a thousandth of starting an interpreter each."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator


def fork(work: Callable[[], object]) -> int:
    """Run `work` in a child that ends with it; the child's pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        work()
        code = 0
    except BaseException:  # noqa: BLE001 (here a process ends)
        os.write(2, traceback.format_exc().encode())
    os._exit(code)


def end(pids: list[int]) -> None:
    """Kill and reap them; stopped ones too."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    pids.clear()


@contextlib.contextmanager
def children() -> Iterator[list[int]]:
    """A list for pids; whoever is in it at the end is ended."""
    pids: list[int] = []
    try:
        yield pids
    finally:
        end(pids)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return when it holds; RuntimeError when it does not in that time."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise RuntimeError("the readers of the benchmark do not answer")
        time.sleep(0.002)
