"""How fast values get from an OPC UA server into the segment, against three other clients doing the bare read.

    python bench/opcua.py [--values 10000] [--chunk 1000] [--rounds 5] [--only doubles|mixed|fleet] [--json]

The server is open62541's, whose doubles change all the time. Ours decodes, stages and publishes into a real segment;
asyncua's `read_values`, node-opcua's client and open62541's client in C read and throw away. All sides ask in chunks
of the same size and take turns within each round; a figure is the median of the rounds' ratios. Then mixed types
(_opcua_mixed.py), and twenty servers of which three get into trouble (_opcua_fleet.py). Needs `make peers`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import platform
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import _opcua_fleet  # noqa: E402
import _opcua_mixed  # noqa: E402
import opcua_peers as plant  # noqa: E402
import peers  # noqa: E402
from acquisition import Publisher  # noqa: E402
from asyncua import ua  # noqa: E402
from endpoint_config import OpcUaServer  # noqa: E402
from opcua_client import OpcUaClientManager  # noqa: E402
from opcua_client.poller import ServerPoller  # noqa: E402
from opcua_client.session import Session, open_session  # noqa: E402
from process_image import create  # noqa: E402

SLICE_SECONDS = 0.4
"""How long a side reads before the next one takes its turn."""
MIXED = ("Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double")
FIGURES = re.compile(rb"[0-9.e-]+ [0-9.e-]+\n")

Side = Callable[[int], Awaitable[tuple[float, float]]]
"""Makes so many whole reads; seconds on the wall and on the processor."""


async def ours(server: OpcUaServer, stack: contextlib.AsyncExitStack) -> Side:
    """The poll of the product itself: request, decode, stage, publish."""
    manager = OpcUaClientManager.from_servers([server], interval=0.0)
    writer = create(f"b{secrets.token_hex(5)}_shm", manager.points)
    stack.callback(writer.close, unlink=True)
    publisher = Publisher(manager.points, [writer])
    poller = ServerPoller(server, publisher, lambda: None)
    poller.add_group(0.0, 0.0, server.nodes)
    session = await _session(server, stack)
    poller.session_up(session)
    group, = poller.groups

    async def read() -> None:
        await group._tick(session, group._plan)  # type: ignore[arg-type]
        publisher.flush()

    return _timed(read)


async def library(server: OpcUaServer, stack: contextlib.AsyncExitStack) -> Side:
    """asyncua's own way of reading many values."""
    session = await _session(server, stack)
    client = session.channel._client
    space = session.namespaces.index(plant.PLANT)
    nodes = [client.get_node(ua.NodeId(int(n.identifier), space)) for n in server.nodes]

    async def read() -> None:
        for at in range(0, len(nodes), server.chunk):
            await client.read_values(nodes[at : at + server.chunk])

    return _timed(read)


async def _session(server: OpcUaServer, stack: contextlib.AsyncExitStack) -> Session:
    session = await open_session(server, connect_timeout=10, patience=10)
    stack.push_async_callback(session.close)
    return session


def _timed(read: Callable[[], Awaitable[None]]) -> Side:
    async def side(count: int) -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            await read()
        return time.perf_counter() - wall, time.process_time() - cpu

    return side


async def other(command: list[str | Path], stack: contextlib.AsyncExitStack) -> Side:
    """A peer that reads on command."""
    environment = {**os.environ, "NODE_PATH": str(peers.NODE / "node_modules")}
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )

    async def end() -> None:
        if process.returncode is None:
            process.kill()
        await process.wait()

    stack.push_async_callback(end)
    assert process.stdin is not None and process.stdout is not None
    output = process.stdout
    while (line := await output.readline()) != b"ready\n":
        if not line:
            raise SystemExit(f"{Path(command[0]).name} could not read from the server")

    async def side(count: int) -> tuple[float, float]:
        assert process.stdin is not None
        process.stdin.write(f"{count}\n".encode())
        while not FIGURES.fullmatch(line := await output.readline()):  # a peer may talk in between
            if not line:
                raise SystemExit(f"{Path(command[0]).name} stopped reading")
        wall, cpu = map(float, line.split())
        return wall, cpu

    return side


async def compete(sides: dict[str, Side], values: int, rounds: int) -> dict[str, Any]:
    """Values a second and processor time a value of each side, and ours against each other one."""
    counts = {}
    for name, side in sides.items():
        await side(1)
        wall, _ = await side(2)
        counts[name] = max(round(SLICE_SECONDS * 2 / wall), 1)
    walls: dict[str, list[float]] = {name: [] for name in sides}
    cpus: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            wall, cpu = await side(counts[name])
            walls[name].append(wall / counts[name] / values)
            cpus[name].append(cpu / counts[name] / values)

    def ratio(figures: dict[str, list[float]], name: str) -> float:
        return statistics.median(b / a for a, b in zip(figures["ours"], figures[name], strict=True))

    return {
        "values_per_second": {name: round(1 / statistics.median(w)) for name, w in walls.items()},
        "cpu_ns_per_value": {name: round(statistics.median(c) * 1e9, 1) for name, c in cpus.items()},
        "faster_than": {name: round(ratio(walls, name), 2) for name in sides if name != "ours"},
        "cpu_less_than": {name: round(ratio(cpus, name), 2) for name in sides if name != "ours"},
    }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the library's log out of the figures."""
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
    yield


async def measure(port: int, keys: plant.Keys, args: argparse.Namespace, *, secured: bool) -> dict[str, Any]:
    """One server, one security, all sides."""
    server = plant.entry(port, plant.doubles(args.values), chunk=args.chunk, timeout=10.0)
    if secured:
        server = keys.secure(server)
    url, sizes = f"opc.tcp://127.0.0.1:{port}", [str(args.values), str(args.chunk)]
    files = [keys.folder / "client.der", keys.folder / "client.key", keys.folder / "server.der"] if secured else []
    program = plant.open62541_program("opcua_client", Path(__file__).parent / "peers")
    script = Path(__file__).parent / "peers" / "opcua_client.js"
    folder = keys.folder / f"node-{secured}"
    node = [peers.require_node("node-opcua-client"), script, url, *sizes, folder]
    node += [keys.folder / "client.crt", keys.folder / "client.pem"] if secured else []
    async with contextlib.AsyncExitStack() as stack:
        sides = {
            "ours": await ours(server, stack), "asyncua": await library(server, stack),
            "node-opcua": await other(node, stack), "open62541": await other([program, url, *sizes, *files], stack),
        }
        return await compete(sides, args.values, args.rounds)


def doubles(args: argparse.Namespace) -> dict[str, Any]:
    """All sides on one server process, open and encrypted."""
    with tempfile.TemporaryDirectory(prefix="bench-opcua-") as folder:
        keys = plant.Keys.make(Path(folder))
        port = peers.free_port()
        with plant.open62541(port, f"doubles={args.values}", "moving=50", *keys.server_arguments()):
            return {
                name: asyncio.run(measure(port, keys, args, secured=secured))
                for name, secured in (("None", False), ("SignAndEncrypt", True))
            }


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Everything, or the part that is asked for."""
    found: dict[str, Any] = {
        "machine": {"cpu": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "versions": {name: metadata.version(name) for name in ("asyncua", "cryptography", "numpy")},
        "values": args.values, "chunk": args.chunk, "rounds": args.rounds,
    }
    with quiet():
        if args.only in (None, "doubles"):
            found["result"] = doubles(args)
        if args.only in (None, "mixed"):
            found["mixed"] = _opcua_mixed.measure(args, ours, library, compete)
        if args.only in (None, "fleet"):
            found["fleet"] = _opcua_fleet.measure(args)
    return found


def _show(security: str, figures: dict[str, Any]) -> None:
    print(f"\n{security:24} values/s   CPU ns/value   ours is faster by   ours takes less CPU by")
    for name, speed in figures["values_per_second"].items():
        print(f"  {name:20} {speed:10} {figures['cpu_ns_per_value'][name]:14}"
              f" {figures['faster_than'].get(name, ''):>19} {figures['cpu_less_than'].get(name, ''):>24}")


def main() -> int:
    """Print the figures; exit 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--values", type=int, default=10_000)
    parser.add_argument("--chunk", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mixed", type=int, default=2_000, help="nodes of mixed types")
    parser.add_argument("--window", type=float, default=10.0, help="seconds of health, and of trouble, in each round")
    parser.add_argument("--only", choices=("doubles", "mixed", "fleet"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = run(args)
    if args.json:
        print(json.dumps(found))
        return 0
    print(f"{args.values} doubles in chunks of {args.chunk}, {args.rounds} rounds; {found['machine']}")
    for security, figures in found.get("result", {}).items():
        _show(security, figures)
    for server, figures in found.get("mixed", {}).items():
        _show(f"mixed, {server}", figures)
        print("  " + ", ".join(f"{name} {figures[name]}" for name in (
            "values", "differing", "bad", "uncertain", "with_picoseconds") if name in figures))
    for name, figure in found.get("fleet", {}).items():
        print(f"  {name:28} {figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
