"""Mixed types whose values, statuses and times change: equal to what an independent client reads, and how fast.

node-opcua's server makes fewer values a second than any client takes, so that the time on the wall tells of the server.
Therefore each server's answers are also recorded and replayed (_opcua_replay.py): the same octets for all sides, faster
than they can read.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import opcua_peers as plant
import peers
from _opcua_replay import KEPT
from endpoint_config import OpcUaServer

Side = Callable[[int], Awaitable[tuple[float, float]]]
Make = Callable[[OpcUaServer, contextlib.AsyncExitStack], Awaitable[Side]]


def start(kind: str, port: int, folder: str, count: int, moving: int) -> tuple[peers.Peer, OpcUaServer]:
    """A server of one kind with `count` mixed nodes that change every `moving` ms (0 = never), and its entry."""
    if kind == "open62541":
        arguments = [f"mixed={count}", *([f"moving={moving}"] if moving else [])]
        return plant.open62541(port, *arguments), plant.entry(port, plant.mixed(count), timeout=10.0)
    peer = plant.node_opcua(port, Path(folder), str(moving), str(count))
    return peer, plant.entry(port, plant.mixed(count, plant.NODE_MIXED), timeout=10.0)


def equal(kind: str, count: int) -> dict[str, Any]:
    """How many values, statuses and source times are those that node-opcua's client reads."""
    port, name = peers.free_port(), f"b{peers.free_port()}_shm"
    with tempfile.TemporaryDirectory(prefix="bench-opcua-") as folder:
        peer, entry = start(kind, port, folder, count, 0)
        with peer, plant.Running(name, entry) as running:
            running.wait(lambda: running["S/$requests"].value and running["S/$requests"].value >= 2)
            theirs = plant.read_by_node(entry.url, [f"ns=2;i={100_000 + i}" for i in range(count)])
            differing = [i for i, other in enumerate(theirs) if not _same(running[f"S/M{i}"], other)]
            return {
                "values": count, "differing": len(differing), "bad": sum(o["status"] >> 31 for o in theirs),
                "uncertain": sum(o["status"] >> 30 == 1 for o in theirs),
                "with_picoseconds": sum(bool(o["picoseconds"]) for o in theirs),
            }


def _same(sample: Any, other: dict[str, Any]) -> bool:
    if sample.quality != other["status"]:
        return False
    if other["status"] & 0x8000_0000:
        return True
    return plant.same(sample.value, other) and plant.same_time(sample.source_time, other)


def measure(args: argparse.Namespace, ours: Make, library: Make, compete: Callable[..., Awaitable[dict[str, Any]]]
            ) -> dict[str, Any]:
    """Both servers: equal values first, then speed against `read_values` while everything changes."""

    async def race(server: OpcUaServer, count: int, before: int = 0) -> dict[str, Any]:
        async with contextlib.AsyncExitStack() as stack:
            sides = {"ours": await ours(server, stack), "asyncua": await library(server, stack)}
            for side in sides.values():
                await side(before)
            return await compete(sides, count, args.rounds)

    found: dict[str, Any] = {}
    for kind in ("open62541", "node-opcua"):
        found[kind] = equal(kind, min(args.mixed, 800))
        port = peers.free_port()
        with tempfile.TemporaryDirectory(prefix="bench-opcua-") as folder:
            peer, entry = start(kind, port, folder, args.mixed, 200)
            with peer:
                found[kind] |= asyncio.run(race(entry, args.mixed))
                with replayed(port) as again:
                    url = f"opc.tcp://127.0.0.1:{again}"
                    found[f"{kind}, its answers replayed"] = asyncio.run(race(
                        replace(entry, url=url), args.mixed, KEPT + 1))
    return found


@contextlib.contextmanager
def replayed(port: int) -> Iterator[int]:
    """The server's own answers, served faster than it can; gives the port."""
    program = [sys.executable, str(Path(__file__).parent / "_opcua_replay.py"), str(port)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()
