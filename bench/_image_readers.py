"""Publishing beside 16 readers that run, are stopped, or were killed while holding the public semaphore.

And beside a hostile process with 1,000 waiting threads, where a C compiler is there.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import posix_ipc
from _image_children import children, end, fork, until
from _turns import percentile
from process_image import Counters, Writer, attach, create

READERS = 16
STATES = ("none", "running", "stopped", "killed", "mixed")
"""`mixed`: 5 stopped, 5 killed while they held the semaphore, 6 waiting."""
HOSTILE = ("hostile", "hostile, publishing without wakes")
RECORDS = 1000


class _Scene:
    """Two segments that are published alike; all readers are at the first one."""

    def __init__(self, prefix: str) -> None:
        self.names = [f"{prefix}_{side}" for side in ("with", "without")]
        points = [f"p{i}" for i in range(RECORDS)]
        self.writers = [create(name, points, semaphore=f"{name}_sem") for name in self.names]
        for writer in self.writers:
            writer.records["quality"] = 0
        shared = mmap.mmap(-1, READERS)
        self.ready = np.frombuffer(shared, np.uint8)

    def free(self) -> None:
        """Give the semaphore back for the dead."""
        semaphore = posix_ipc.Semaphore(f"/{self.names[0]}_sem")
        if semaphore.value == 0:
            semaphore.release()

    def close(self) -> None:
        """Remove both segments."""
        for writer in self.writers:
            writer.close(unlink=True)

    def start(self, pids: list[int], state: str) -> None:
        """Bring the readers into their state."""
        if state == "none" or state in HOSTILE:
            return
        self.ready[:] = 0
        kinds = {"mixed": ["wait"] * 5 + ["hold"] * 5 + ["wait"] * 6, "killed": ["hold"] * READERS,
                 "stopped": ["wait"] * READERS, "running": ["run"] * READERS}[state]
        for number, kind in enumerate(kinds):
            pids.append(fork(self._reader(kind, number)))
            if kind == "hold":
                self._kill_holder(pids, number)
        until(lambda: bool(self.ready.all()))
        for number, pid in enumerate(pids):
            if state == "stopped" or (state == "mixed" and number < 5):
                os.kill(pid, signal.SIGSTOP)
        if "hold" in kinds:  # at the time of measuring it is taken, and its holder dead
            posix_ipc.Semaphore(f"/{self.names[0]}_sem").acquire(0)

    def _kill_holder(self, pids: list[int], number: int) -> None:
        """Wait until it holds the semaphore, kill it, and give the semaphore back for the next one to die with."""
        until(lambda: bool(self.ready[number]))
        os.kill(pids[-1], signal.SIGKILL)
        os.waitpid(pids.pop(), 0)
        posix_ipc.Semaphore(f"/{self.names[0]}_sem").release()

    def _reader(self, kind: str, number: int) -> Callable[[], None]:
        def run() -> None:
            with attach(self.names[0]) as image:
                if kind == "hold":
                    posix_ipc.Semaphore(f"/{self.names[0]}_sem").acquire()
                self.ready[number] = 1
                parent = os.getppid()
                while os.getppid() == parent:
                    if image.wait(0.5) and kind == "run":
                        image.snapshot()

        return run


def measure(prefix: str, *, windows: int, publishes: int) -> dict[str, Any]:
    """For each state: CPU time of the publishing thread in windows that alternate between the two segments."""
    scene = _Scene(prefix)
    try:
        found = {state: _state(scene, state, windows, publishes) for state in STATES}
        program = _waiters()
        for state in HOSTILE if program else ():
            with _hostile(program, scene.names[0]):
                found[state] = _state(scene, state, windows, publishes)
        return found
    finally:
        scene.close()


def _waiters() -> Path | None:
    """The hostile program; None without a compiler."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    import image_c
    import peers

    if not peers.find_program("gcc"):
        return None
    return image_c.build(peers.SOURCES / "image_waiters.c", "-O1", "-pthread")


@contextlib.contextmanager
def _hostile(program: Path | None, name: str) -> Iterator[None]:
    """1,000 threads wait at the segment for as long as the block runs."""
    process = subprocess.Popen([str(program), name, "1000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.communicate()


def _state(scene: _Scene, state: str, windows: int, publishes: int) -> dict[str, Any]:
    before = replace(scene.writers[0].counters)
    with children() as pids:
        scene.start(pids, state)
        wake = state != HOSTILE[1]
        for writer in scene.writers:
            _window(writer, publishes, wake)
        turns = [[_window(writer, publishes, wake) for writer in _order(scene.writers, turn)]
                 for turn in range(windows)]
        end(pids)
    scene.free()
    pairs = [turn if number % 2 == 0 else turn[::-1] for number, turn in enumerate(turns)]
    ratios = [with_readers[0] / without[0] for with_readers, without in pairs]
    walls = [sorted(wall for pair in pairs for wall in pair[side][1]) for side in (0, 1)]
    return {
        "windows": windows, "cpu_ratio": round(statistics.median(ratios), 3),
        "cpu_us_with": round(statistics.median(p[0][0] for p in pairs) / publishes / 1e3, 2),
        "cpu_us_without": round(statistics.median(p[1][0] for p in pairs) / publishes / 1e3, 2),
        "wall_p99_us_with": round(percentile(walls[0], 0.99) / 1e3, 1),
        "wall_p99_us_without": round(percentile(walls[1], 0.99) / 1e3, 1),
        **_counted(before, scene.writers[0].counters),
    }


def _counted(before: Counters, after: Counters) -> dict[str, int]:
    """What the writer with the readers counted meanwhile."""
    return {"waits_over_bound": after.semaphore_overruns - before.semaphore_overruns,
            **{name: getattr(after, name) - getattr(before, name)
               for name in ("semaphore_busy", "semaphore_waits", "semaphore_repairs")}}


def _order(writers: list[Writer], turn: int) -> list[Writer]:
    return writers if turn % 2 == 0 else writers[::-1]


def _window(writer: Writer, publishes: int, wake: bool) -> tuple[int, list[int]]:
    """CPU time of this thread for so many publishes with all values changed, and the wall time of each, ns."""
    values, clock = writer.records["value"], time.perf_counter_ns
    walls = []
    start = time.thread_time_ns()
    for _ in range(publishes):
        values += 1.0
        before = clock()
        writer.publish(wake=wake)
        walls.append(clock() - before)
    return time.thread_time_ns() - start, walls
