"""From the lease of a writer whose predecessor was killed to its first publish."""

from __future__ import annotations

import os
import select
import socket
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _image_children import children, end, fork
from process_image import create, stops


def measure(prefix: str, records: int, *, rounds: int) -> dict[str, Any]:
    """Kill a writer in full swing, take over with the same layout, publish everything; with a bare pair beside it."""
    name, points = f"{prefix}_over", [f"p{i}" for i in range(records)]
    from_lease, from_call, bare = [], [], []
    for _ in range(rounds):
        with children() as pids:
            reader, writer_end = os.pipe()
            pids.append(fork(_victim(name, points, writer_end)))
            select.select([reader], [], [], 20)
            end(pids)
            for fd in (reader, writer_end):
                os.close(fd)
        stamps = {}
        stops.hook = lambda place: stamps.setdefault(place, time.perf_counter_ns())  # noqa: B023 (used in this turn)
        called = time.perf_counter_ns()
        with create(name, points) as successor:
            stops.hook = None
            successor.records["value"] = 1.0
            successor.records["quality"] = 0
            successor.publish()
            done = time.perf_counter_ns()
        assert "takeover.starting" in stamps, "the segment was not taken over"
        from_lease.append(done - stamps["create.leased"])
        from_call.append(done - called)
        bare.append(_bare_pair())
    with create(name, points) as last:
        last.close(unlink=True)
    return {"records": records, "rounds": rounds,
            "lease_to_published_ms": round(statistics.median(from_lease) / 1e6, 2),
            "create_to_published_ms": round(statistics.median(from_call) / 1e6, 2),
            "bare_socket_and_futex_ms": round(statistics.median(bare) / 1e6, 3)}


def _victim(name: str, points: list[str], ready: int) -> Callable[[], None]:
    def run() -> None:
        with create(name, points) as writer:
            parent, number = os.getppid(), 0
            while os.getppid() == parent:
                number += 1
                writer.records["value"] = number
                writer.records["quality"] = 0
                writer.publish()
                if number == 20:
                    os.write(ready, b"x")

    return run


def _bare_pair() -> int:
    """Nanoseconds from sending a byte through a socket to a process until that process has woken this one."""
    near, far = socket.socketpair()
    with near, far, create(f"bare{os.getpid()}", ["a"]) as writer, children() as pids:
        from process_image import attach

        def echo() -> None:
            with attach(writer.name) as image:
                far.recv(1)
                far.send(b"y")
                image.wait(1.0)
                far.send(b"z")

        pids.append(fork(echo))
        near.send(b"a")
        near.recv(1)
        time.sleep(0.005)
        start = time.perf_counter_ns()
        writer.publish()
        near.recv(1)
        spent = time.perf_counter_ns() - start
        writer.close(unlink=True)
    assert np.isfinite(spent)
    return spent
