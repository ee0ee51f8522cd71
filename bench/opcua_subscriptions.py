"""How many values of a subscription arrive, against asyncua's own client on the same server in the same run.

    python bench/opcua_subscriptions.py [--items 10000] [--hertz 10] [--seconds 4] [--rounds 3] [--json]

open62541 writes every item so many times a second and queues each write (sampling interval 0). Both sides subscribe to
all items with a publishing interval of 0.1 s, one after the other in each round, each in a process of its own: ours
ends in the journal of a segment, asyncua's in a handler that counts. Each value holds the number of its write, so what
is missing is known exactly: delivered + missing = offered. Needs `make peers`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import _turns  # noqa: E402
import numpy as np  # noqa: E402
import opcua_peers as plant  # noqa: E402
import peers  # noqa: E402
from endpoint_config import Mode, Subscribing  # noqa: E402
from opcua_client import OpcUaClientManager  # noqa: E402
from process_image import attach, create  # noqa: E402

PUBLISHING, QUEUE = 0.1, 20
SIDES = ("ours", "asyncua")
WARM_SECONDS = 60.0
"""How long a side may take until every item has arrived once."""


def report(numbers: np.ndarray[Any, Any], rounds: np.ndarray[Any, Any], cpu: float, wall: float) -> dict[str, float]:
    """What arrived: `numbers` of items, `rounds` of their values; offered = from an item's first to its last."""
    order = np.lexsort((rounds, numbers))
    numbers, rounds = numbers[order], rounds[order]
    edges = np.flatnonzero(np.diff(numbers, prepend=-1))
    last = np.append(edges[1:], len(numbers)) - 1
    offered = int((rounds[last] - rounds[edges] + 1).sum())
    unique = len(np.unique(numbers.astype(np.int64) << 32 | rounds))
    return {"offered": offered, "delivered": unique, "missing": offered - unique, "twice": len(numbers) - unique,
            "per_second": unique / wall, "cpu_us_per_value": cpu / max(unique, 1) * 1e6, "cpu": cpu / wall}


def ours(port: int, items: int, seconds: float) -> dict[str, float]:
    """The product's own subscription, into a segment; what the journal holds afterwards."""
    how = Subscribing(mode=Mode.SUBSCRIBE, sampling_interval=0.0, publishing_interval=PUBLISHING, queue_size=QUEUE)
    manager = OpcUaClientManager.from_servers([plant.entry(port, plant.doubles(items), subscribing=how, timeout=30.0)])
    name = f"b{secrets.token_hex(5)}_shm"
    with create(name, manager.points, journal_entries=1 << 21) as writer, attach(name) as image:
        thread = threading.Thread(target=manager.periodic_read, args=(1.0, [writer], [None]))
        thread.start()
        try:
            end = time.monotonic() + WARM_SECONDS
            index = [i for i, p in enumerate(image.points) if not p.name.startswith("$")]
            while (image.snapshot().records["quality"][index] != 0).any() and time.monotonic() < end:
                time.sleep(0.1)
            cursor = image.cursor()
            wall, cpu = time.perf_counter(), time.process_time()
            time.sleep(seconds)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            found = list(image.changes(cursor))
            snapshot = image.snapshot()
            counts = {key: int(snapshot[f"S/${key}"].value or 0) for key in ("overflows", "lost", "subscribed")}
        finally:
            manager.stop_clients()
            thread.join()
        item = np.array([int(p.name[1:]) if p.name.startswith("D") else 0 for p in image.points])
        rows = np.concatenate([batch.rows for batch in found])
        values = np.concatenate([batch.records["value"] for batch in found])
        numbers = item[rows]
        keep = numbers > 0
        made = report(numbers[keep], np.rint((values[keep] - numbers[keep]) * 1e3).astype(np.int64), cpu, wall)
        writer.close(unlink=True)
    return {**made, **counts, "journal_lost": sum(batch.lost for batch in found)}


def library(port: int, items: int, seconds: float) -> dict[str, float]:
    """asyncua's client, whose handler does nothing but keep the values."""
    from asyncua import Client, ua

    logging.disable(logging.CRITICAL)
    numbers: list[int] = []
    values: list[float] = []

    class Handler:
        """Called for each value."""

        def datachange_notification(self, node: Any, value: Any, data: Any) -> None:  # noqa: ARG002
            """Keep it."""
            numbers.append(node.nodeid.Identifier)
            values.append(value)

    async def run() -> dict[str, float]:
        client = Client(f"opc.tcp://127.0.0.1:{port}", timeout=60)
        async with client:
            space = await client.get_namespace_index(plant.PLANT)
            nodes = [client.get_node(ua.NodeId(i, space)) for i in range(1, items + 1)]
            subscription = await client.create_subscription(PUBLISHING * 1e3, Handler())
            for at in range(0, items, 1000):
                await subscription.subscribe_data_change(nodes[at : at + 1000], queuesize=QUEUE, sampling_interval=0)
            end = time.monotonic() + WARM_SECONDS
            while len(numbers) < 2 * items and time.monotonic() < end:
                await asyncio.sleep(0.1)
            numbers.clear()
            values.clear()
            wall, cpu = time.perf_counter(), time.process_time()
            await asyncio.sleep(seconds)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            item = np.array(numbers)
            rounds = np.rint((np.array(values) - item) * 1e3).astype(np.int64)
            made = report(item, rounds, cpu, wall)
            os.write(1, (json.dumps(made) + "\n").encode())
            os._exit(0)  # deleting 10,000 items would hold up the other side's turn
        return made

    return asyncio.run(run())


def side(name: str, port: int, items: int, seconds: float) -> dict[str, float]:
    """One turn of a side in a process of its own."""
    command = [sys.executable, __file__, "--side", name, "--port", str(port), "--items", str(items), "--seconds",
               str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WARM_SECONDS * 2 + seconds * 4)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Take turns and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--hertz", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        work = ours if args.side == "ours" else library
        print(json.dumps(work(args.port, args.items, args.seconds)))
        return
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for _ in range(args.rounds):
        for name in SIDES:
            port = peers.free_port()
            with plant.open62541(port, f"doubles={args.items}", f"moving={1e3 / args.hertz:g}"):
                turns[name].append(side(name, port, args.items, args.seconds))
    pairs = list(zip(turns["ours"], turns["asyncua"], strict=True))
    result = {
        "items": args.items, "hertz": args.hertz, "turns": turns, "machine": _turns.machine(),
        "delivered_ratio": statistics.median(a["per_second"] / max(b["per_second"], 1) for a, b in pairs),
        "cpu_per_value_ratio": statistics.median(b["cpu_us_per_value"] / a["cpu_us_per_value"] for a, b in pairs),
    }
    if args.json:
        print(json.dumps(result))
        return
    for name in SIDES:
        for turn in turns[name]:
            print(name, {key: round(value, 2) for key, value in turn.items()})
    print(f"delivered: {result['delivered_ratio']:.1f} x asyncua; processor time of a value: 1/"
          f"{result['cpu_per_value_ratio']:.1f}")


if __name__ == "__main__":
    main()
