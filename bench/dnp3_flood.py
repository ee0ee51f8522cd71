"""Whether polling, and a master that behaves, notice masters that do not.

    python bench/dnp3_flood.py [--devices 100] [--seconds 5] [--rounds 5] [--json]

`cpc run` polls `devices` x 125 registers five times a second from a server in C and serves them by `cpc dnp3` to four
masters. Windows take turns: calm, in which one master reads everything twice a second, and flooded, in which besides it
a second one asks for everything as fast as it is answered, a third one asks and never takes an answer, a fourth one
sends garbage in frames whose CRCs are right, and connections of strangers come and go. The flood is made by processes
at the lowest priority, so that what is measured is what the partition does, as far as two cores can show it. Reported
are the lateness of all polls at the 99th percentile, and how long the well-behaved master waits for everything.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _modbus_target as plant
import numpy as np
import process_image
from _turns import machine, percentile
from dnp3 import Master
from dnp3_fuzz import Mutations
from dnp3_rig import frame

PERIOD = 0.2
CLASS_0 = bytes.fromhex("3c0106")


def asking(port: int) -> None:
    """Master 2: the next read as soon as the last one is answered."""
    master = Master(port, 2)
    while True:
        master.read(CLASS_0)


def never_taking(port: int) -> None:
    """Master 3: asks for everything, again and again, and takes nothing."""
    request = b"".join(frame(0xC4, bytes([0xC0, 0xC0 | n, 1]) + CLASS_0, source=3) for n in range(16))
    while True:
        with socket.create_connection(("127.0.0.1", port)) as sock, contextlib.suppress(OSError):
            sock.settimeout(1.0)
            while True:
                sock.sendall(request)


def raving(port: int) -> None:
    """Master 4: garbage in sound frames, whose sources are put right."""
    bodies = [part[:80] for part in Mutations(1).plain(4000) if part]
    octets = b"".join(frame(0xC4, b"\xc0" + part, source=4) for part in bodies)
    while True:
        with socket.create_connection(("127.0.0.1", port)) as sock, contextlib.suppress(OSError):
            sock.settimeout(1.0)
            while True:
                sock.sendall(octets)
                with contextlib.suppress(BlockingIOError):
                    sock.recv(1 << 20, socket.MSG_DONTWAIT)


def coming_and_going(port: int) -> None:
    """Strangers: 200 connections a second, with noise."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"\x05\x64\x05\xc9" * 64)
        time.sleep(0.005)


NUISANCES: tuple[Callable[[int], None], ...] = (asking, never_taking, raving, coming_and_going)


@contextlib.contextmanager
def flood(port: int) -> Iterator[None]:
    """All of them, a process each."""
    children = []
    for nuisance in NUISANCES:
        child = os.fork()
        if child == 0:
            os.nice(19)
            try:
                nuisance(port)
            finally:
                os._exit(1)
        children.append(child)
    try:
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def write_files(folder: Path, modbus: int, port: int, devices: int) -> None:
    """The devices, and an outstation for four masters."""
    endpoint = ("<endpoint><name>r</name><function>Read Holding Registers</function><address>0</address>"
                "<quantity>125</quantity><offset>-1</offset><type>t</type><description>d</description></endpoint>")
    servers = "".join(
        f"<server><ipaddr>127.0.{n // 250}.{n % 250 + 1}</ipaddr><port>{modbus}</port><serveralias>d{n}</serveralias>"
        f"<endpoints>{endpoint}</endpoints></server>" for n in range(devices))
    (folder / "modbus.xml").write_text(f"<modbus-servers>{servers}</modbus-servers>")
    masters = "".join(f'<master address="{n}"><unsolicited>false</unsolicited></master>' for n in range(1, 5))
    (folder / "partition.xml").write_text(
        f"<partition><namespace>{folder.name}</namespace><interval>{PERIOD}</interval><state>state</state>"
        "<service kind='modbus'><file>modbus.xml</file></service>"
        f"<dnp3><port>{port}</port>{masters}</dnp3></partition>")


def window(image: process_image.Image, master: Master, seconds: float) -> tuple[list[float], list[float]]:
    """Lateness of all polls, and how long each read of everything took; both in ms."""
    rows = np.array([row for row, one in enumerate(image.points) if one.name == "$lateness_ms"])
    late: list[float] = []
    took: list[float] = []
    until, turn = time.monotonic() + seconds, 0
    while (now := time.monotonic()) < until:
        if turn % 5 == 0:
            master.read(CLASS_0)
            took.append(1e3 * (time.monotonic() - now))
        turn += 1
        late += image.snapshot().records["value"][rows].tolist()
        time.sleep(max(0.0, now + PERIOD / 2 - time.monotonic()))
    return late, took


def measure(folder: Path, port: int, args: argparse.Namespace) -> dict[str, Any]:
    """All rounds."""
    deadline = time.monotonic() + 60.0
    while not (Path("/dev/shm") / f"{folder.name}_modbus_shm").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    found: dict[str, list[tuple[float, float, float]]] = {"calm": [], "flooded": []}
    with process_image.attach(f"{folder.name}_modbus_shm", timeout=30.0) as image:
        master = connected(port, deadline)
        time.sleep(2.0)
        for _ in range(args.rounds):
            for name, runs in found.items():
                with flood(port) if name == "flooded" else contextlib.nullcontext():
                    time.sleep(1.0)
                    late, took = window(image, master, args.seconds)
                runs.append((percentile(late, 0.99), statistics.median(took), max(took)))
        bad = int(np.count_nonzero(image.snapshot().records["quality"]))
        requests = requests_of(folder)
    ratios = [b[0] / max(a[0], 1e-6) for a, b in zip(found["calm"], found["flooded"], strict=True)]
    made: dict[str, Any] = {"points": args.devices * 125, "points not Good in the end": bad,
                            "requests of all masters": requests}
    for name, runs in found.items():
        for column, what in enumerate(("lateness p99", "read of everything, median", "read of everything, longest")):
            made[f"{what}, {name}, ms"] = [round(run[column], 2) for run in runs]
    return {**made, "lateness p99, flooded / calm": round(statistics.median(ratios), 2)}


def requests_of(folder: Path) -> int:
    """Requests that the outstation took from all masters."""
    with process_image.attach(f"{folder.name}_status_shm_dnp3") as image:
        snapshot = image.snapshot()
        rows = [row for row, point in enumerate(image.points) if point.name == "$requests"]
        return int(snapshot[rows[0]].value)


def connected(port: int, deadline: float) -> Master:
    """The well-behaved master, as soon as the outstation has its points."""
    while True:
        try:
            master = Master(port)
            if master.read(CLASS_0) > 1:
                return master
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="df"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    try:
        with plant.target() as server, (folder / "log").open("w") as log:
            write_files(folder, server.port, port, args.devices)
            process = subprocess.Popen([sys.executable, "-m", "cpc", "run", "--config", str(folder / "partition.xml")],
                                       stdout=log, stderr=log)
            try:
                found = measure(folder, port, args)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    made = {"results": found, "machine": machine("numpy")}
    print(json.dumps(made, indent=2) if args.json else "\n".join(
        f"{name}: {value}" for part in made.values() for name, value in part.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
