"""Twenty servers in one process: what three of them in trouble do to the lateness of the others.

Windows of health and trouble take turns: one server is stopped (SIGSTOP), one is killed, one answers a byte a second.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import opcua_peers as plant
import peers
from _turns import percentile
from opcua_client.group import Group

SERVERS, NODES, INTERVAL, TROUBLED = 20, 500, 0.5, 3
SETTLE = 3.0
"""Seconds after each change that count for neither side: connections are made and lost in them."""


@contextlib.contextmanager
def proxy(target: int) -> Iterator[tuple[int, int]]:
    """A proxy as a process of its own: its port and pid. SIGUSR1 makes it pass one byte a second, SIGUSR2 all."""
    script = Path(__file__).resolve().parent.parent / "tests" / "opcua_proxy.py"
    process = subprocess.Popen([sys.executable, script, str(target)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait()


class Lateness:
    """Seconds from the deadline of each poll to its begin and to its end, of every server while entered."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, str, float, float]] = []
        self._tick = Group._tick

    def __enter__(self) -> Lateness:
        samples, tick = self.samples, self._tick

        async def timed(group: Group, session: Any, plan: Any) -> None:
            due, began = group._grid.due, time.monotonic()
            await tick(group, session, plan)
            samples.append((began, group._poller.server.alias, began - due, time.monotonic() - due))

        Group._tick = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        Group._tick = self._tick  # type: ignore[method-assign]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Lateness at p50 and p99 of the healthy servers, in health and in trouble, and the ratios of the windows."""
    ports = [peers.free_port() for _ in range(SERVERS)]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(_server(port)) for port in ports]
        slow_port, slow = stack.enter_context(proxy(ports[2]))
        entries = [plant.entry(slow_port if i == 2 else port, plant.doubles(NODES), alias=f"S{i}", interval=INTERVAL,
                               timeout=2.0) for i, port in enumerate(ports)]
        late = stack.enter_context(Lateness())
        running = stack.enter_context(plant.Running(f"b{peers.free_port()}_shm", *entries, interval=INTERVAL))
        for entry in entries:
            running.wait_quality(f"{entry.alias}/D1", "Good", 20)
        windows: dict[str, list[list[tuple[float, float]]]] = {"health": [], "trouble": []}
        for _ in range(args.rounds):
            windows["health"].append(_window(late, args.window))
            os.kill(servers[0].pid, signal.SIGSTOP)
            servers[1].stop(timeout=0.5)
            os.kill(slow, signal.SIGUSR1)
            windows["trouble"].append(_window(late, args.window))
            bad = {alias: running.quality(f"{alias}/D1") for alias in ("S0", "S1", "S2")}
            good = sum(running.quality(f"S{i}/D1") == "Good" for i in range(TROUBLED, SERVERS))
            os.kill(servers[0].pid, signal.SIGCONT)
            servers[1] = stack.enter_context(_server(ports[1]))
            os.kill(slow, signal.SIGUSR2)
    return {"servers": SERVERS, "nodes": NODES, "interval": INTERVAL, "window_s": args.window, "troubled": bad,
            "healthy_good": good, **_figures(windows)}


def _server(port: int) -> peers.Peer:
    return plant.open62541(port, f"doubles={NODES}", "moving=250")


def _window(late: Lateness, seconds: float) -> list[tuple[float, float]]:
    """Samples of the healthy servers in the time to come, once things have settled."""
    time.sleep(SETTLE)
    begin = time.monotonic()
    time.sleep(seconds)
    troubled = {f"S{i}" for i in range(TROUBLED)}
    return [(start, end) for at, alias, start, end in late.samples if at >= begin and alias not in troubled]


def _figures(windows: dict[str, list[list[tuple[float, float]]]]) -> dict[str, Any]:
    found: dict[str, Any] = {"polls": {name: sum(map(len, parts)) for name, parts in windows.items()}}
    for column, what in enumerate(("lateness", "answered_after")):
        for share in (0.5, 0.99):
            found[f"{what}_p{share * 100:.0f}_ms"] = {
                name: round(percentile([s[column] for part in parts for s in part], share) * 1e3, 2)
                for name, parts in windows.items()}
        ratios = [percentile([s[column] for s in after], 0.99) / percentile([s[column] for s in before], 0.99)
                  for before, after in zip(windows["health"], windows["trouble"], strict=True)]
        found[f"{what}_p99_grows_by"] = round(statistics.median(ratios), 2)
        found[f"{what}_p99_ratios"] = [round(ratio, 2) for ratio in ratios]
    return found
