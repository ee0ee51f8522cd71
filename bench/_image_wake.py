"""Waking waiting readers: one futex word for all of them against a POSIX semaphore for each."""

from __future__ import annotations

import mmap
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import posix_ipc
from _image_children import children, fork, until
from _turns import percentile
from process_image import attach, create

PAUSE = 0.004
"""Seconds between two rounds, so that every reader is waiting again."""


def measure(prefix: str, readers: int, *, rounds: int) -> dict[str, Any]:
    """Time from the publish to each reader, and what publish and wake cost the writer; the two ways alternate."""
    names = [f"/{prefix}_wake{i}" for i in range(readers)]
    semaphores = [posix_ipc.Semaphore(name, posix_ipc.O_CREX, initial_value=0) for name in names]
    shared = mmap.mmap(-1, 8 * readers * (2 * rounds + 1))
    stamps = np.frombuffer(shared, np.int64).reshape(readers, 2 * rounds + 1)
    costs: dict[str, list[int]] = {"futex": [], "semaphores": []}
    sent = np.zeros(2 * rounds, np.int64)
    try:
        with create(f"{prefix}_wake", ["a"]) as writer, children() as pids:
            for semaphore, row in zip(semaphores, stamps, strict=True):
                pids.append(fork(_reader(f"{prefix}_wake", semaphore, row)))
            until(lambda: bool(stamps[:, -1].all()))
            for turn in range(2 * rounds):
                time.sleep(PAUSE)
                kind = "semaphores" if turn % 2 else "futex"
                start = sent[turn] = time.monotonic_ns()
                writer.publish(wake=not turn % 2)
                for semaphore in semaphores if turn % 2 else ():
                    semaphore.release()
                costs[kind].append(time.monotonic_ns() - int(start))
                until(lambda turn=turn: bool(stamps[:, turn].all()))  # type: ignore[misc]
            writer.close(unlink=True)
    finally:
        for semaphore in semaphores:
            semaphore.unlink()
            semaphore.close()
    latency = (stamps[:, :-1] - sent) / 1e3
    return {"readers": readers, "rounds": rounds,
            **{kind: _summary(latency[:, start::2], costs[kind]) for start, kind in enumerate(costs)},
            "publish_without_readers_us": round(_alone(prefix, rounds), 1)}


def _summary(latency: Any, costs: list[int]) -> dict[str, float]:
    first, last = latency.min(axis=0).tolist(), latency.max(axis=0).tolist()
    every = latency.reshape(-1).tolist()
    return {"p50_us": round(statistics.median(every), 1), "p99_us": round(percentile(every, 0.99), 1),
            "first_p50_us": round(statistics.median(first), 1), "last_p50_us": round(statistics.median(last), 1),
            "writer_us": round(statistics.median(costs) / 1e3, 1)}


def _reader(name: str, semaphore: posix_ipc.Semaphore, row: Any) -> Callable[[], None]:
    """A reader that waits now this way, now that, and notes when it was awake."""

    def run() -> None:
        with attach(name) as image:
            row[-1] = 1
            parent = os.getppid()
            for turn in range(len(row) - 1):
                while not (_acquire(semaphore) if turn % 2 else image.wait(1.0)):
                    if os.getppid() != parent:
                        return
                row[turn] = time.monotonic_ns()
                image.wait(0)  # what came without a wake is seen as well

    return run


def _acquire(semaphore: posix_ipc.Semaphore) -> bool:
    try:
        semaphore.acquire(1.0)
    except posix_ipc.BusyError:
        return False
    return True


def _alone(prefix: str, rounds: int) -> float:
    """Median of the same publish with nobody waiting, microseconds."""
    spent = []
    with create(f"{prefix}_alone", ["a"]) as writer:
        for _ in range(rounds):
            time.sleep(0.0015)
            start = time.monotonic_ns()
            writer.publish()
            spent.append(time.monotonic_ns() - start)
        writer.close(unlink=True)
    return statistics.median(spent) / 1e3
