"""What every process of a partition does at its start, and how one is started.

Kept free of heavy imports: it runs before anything else, so that no child outlives its parent.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
READY = b"ready\n"
"""What a child writes to its notify descriptor when its work has begun."""
REFUSED = 1
"""Exit status by which a child says that it can't do its work as it was told to; it has said why on stderr."""
FAILED = 70
"""Exit status of a child that failed and may do better when started again (EX_SOFTWARE of sysexits.h)."""


def die_with(parent: int) -> None:
    """Have the kernel kill this process as soon as `parent` (its pid) ends, however it ends; 0 = live alone.

    SIGKILL and not SIGTERM, because a successor must find the leases free at once. The parent may have died before
    the call took effect, hence the look afterwards. The kernel watches the thread that started us: the supervisor
    starts its children from its main thread.
    """
    if not parent:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)


def notify_ready(descriptor: int) -> None:
    """Tell the supervisor that the work has begun; -1 = there is none."""
    if descriptor >= 0:
        os.write(descriptor, READY)
        os.close(descriptor)


def python(module: str, *arguments: str) -> list[str]:
    """The command line of one of our modules in a new interpreter.

    -P keeps the working directory out of the import path: a file `numpy.py` there must not break a partition.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def spawn(
    argv: Sequence[str], *, keep: Sequence[int] = (), stdin: int = subprocess.DEVNULL,
    stdout: int | None = None, stderr: int | IO[bytes] | None = None, user: str = "", without: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own, so that Ctrl-C in a terminal reaches the supervisor alone.

    `keep` are descriptors that it inherits. `user` is another user to run as, with its groups, where we are root.
    `without` are beginnings of environment variables that it does not get. One BLAS thread: nobody here multiplies
    matrices, and a pool of idle threads costs time at every start.
    """
    environment = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **os.environ}
    environment = {name: value for name, value in environment.items() if not name.startswith(tuple(without))}
    other = _identity(user) if user and os.geteuid() == 0 else {}
    return subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=tuple(keep),
                            process_group=0, env=environment, **other)


def _identity(user: str) -> dict[str, Any]:
    """Arguments of Popen that make a process another user's, groups included; KeyError for an unknown one."""
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist(user, entry.pw_gid)}


@contextmanager
def companion(argv: Sequence[str], grace: float = 0.3) -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives while this is entered, and no longer than we do; `--parent PID` is put behind `argv`."""
    process = spawn([*argv, "--parent", str(os.getpid())])
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def describe_end(status: int) -> str:
    """A return code in words: `exit 1`, `killed by SIGKILL`."""
    if status >= 0:
        return f"exit {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
