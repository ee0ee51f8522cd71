"""What a broker that is away does to acquisition: lateness of all polls beside a run in which it is there, in turns."""

from __future__ import annotations

import argparse
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _turns import percentile
from brokers import mosquitto
from endpoint_config import ModbusPoint, ModbusServer, ReadFunction, to_xml
from peers import Peer, free_port, wait_until
from process_image import Image, ImageError, attach

DEVICES, POINTS, INTERVAL = 25, 20, 0.1
Figures = dict[str, Any]


def devices() -> bytes:
    """A file of devices whose values all move."""
    points = tuple(ModbusPoint(name=f"P{n}", read_function=ReadFunction.HOLDING_REGISTERS, address=n)
                   for n in range(POINTS))
    return to_xml(tuple(ModbusServer(alias=f"D{n}", ipaddr="127.0.0.1", port=free_port(), points=points)
                        for n in range(DEVICES)))


def lateness(image: Image, seconds: float) -> list[float]:
    """Lateness as each device tells it once a second, ms: changes of `$lateness_ms` in the journal."""
    wanted = np.array([point.name == "$lateness_ms" for point in image.points])
    found: list[float] = []
    cursor = image.cursor()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.1)
        for batch in image.changes(cursor):
            found += batch.records["value"][wanted[batch.rows]].tolist()
            cursor = batch.cursor
    return found


def metric(name: str, point: str) -> float:
    """A number of the publisher's status segment, -1 while there is none."""
    try:
        with attach(name) as image:
            return float(image.snapshot()[f"mqtt/{point}"].value or 0)
    except ImageError:
        return -1.0


def outage(args: argparse.Namespace) -> Figures:
    """Turns of `--seconds` each: broker there and nothing left to drain, broker killed."""
    prefix, port = f"b{secrets.token_hex(4)}", free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "m.xml").write_bytes(devices())
        (folder / "partition.xml").write_text(
            f"<partition><namespace>{prefix}</namespace><interval>{INTERVAL}</interval><state>state</state>"
            f"<service kind='modbus'><file>m.xml</file></service><mqtt><broker>127.0.0.1:{port}</broker>"
            "<retry_interval>0.5</retry_interval><rule><qos>1</qos></rule>"
            "<store><megabytes>256</megabytes><drain_rate>50000</drain_rate></store></mqtt></partition>")
        command = [sys.executable, "-m", "cpc", "run", "--simulate", "--config", str(folder / "partition.xml")]
        with Peer(command, ready="running service=consumer:mqtt"):
            return turns(args, folder, prefix, port)


def turns(args: argparse.Namespace, folder: Path, prefix: str, port: int) -> Figures:
    """Measure; the publisher runs all the time."""
    status = f"{prefix}_status_shm_mqtt"
    there: list[list[float]] = []
    away: list[list[float]] = []
    kept = 0.0
    wait_until((Path("/dev/shm") / f"{prefix}_modbus_shm").exists, what="the segment")
    with attach(f"{prefix}_modbus_shm", timeout=20.0) as image:
        for _ in range(args.rounds):
            with mosquitto(folder, port=port) as broker:
                wait_until(lambda: metric(status, "$connected") == 1 and metric(status, "$waiting") == 0, 60, 0.2)
                time.sleep(1.0)
                there.append(lateness(image, args.seconds))
                broker.kill()
            wait_until(lambda: metric(status, "$connected") == 0, 20, 0.1)
            before = metric(status, "$kept")
            away.append(lateness(image, args.seconds))
            kept += metric(status, "$kept") - before
    return {side: {"lateness ms p50": round(statistics.median(percentile(t, 0.5) for t in turns), 3),
                   "lateness ms p99": round(statistics.median(percentile(t, 0.99) for t in turns), 3),
                   "p99 of each turn": [round(percentile(t, 0.99), 2) for t in turns]}
            for side, turns in (("there", there), ("away", away))} | {
        "away / there": {"p99": round(statistics.median(
            percentile(a, 0.99) / percentile(t, 0.99) for a, t in zip(away, there, strict=True)), 2)},
        "samples": {"of each side": sum(map(len, away)), "kept messages/s": round(kept / args.rounds / args.seconds)}}
