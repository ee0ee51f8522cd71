"""How long a command takes from request to verified answer, and whether polling notices.

    python bench/commands.py [--devices 800] [--commands 400] [--seconds 8] [--rounds 3] [--json]

The service polls `devices` x 125 registers each second (800 make 100,000 points) from a server in C, and beside them
one device that can be written to. In each round the sides take turns: commands through the gate (its process, the
audit log on the disk, the service's process, the device, reading back), and a bare write and read of the same
register by a plain client; then lateness of all polls without commands and with 100 commands a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _modbus_target as plant
import numpy as np
import process_image
from _turns import machine
from command_channel import CommandClient, Status, gate_socket
from modbus_frames import pdu as p
from modbus_frames.server import answer

PACE = 0.01
"""Seconds between commands while lateness is looked at."""
Figures = dict[str, Any]


class Register:
    """The device that is written to: two registers."""

    def __init__(self) -> None:
        self._data = bytearray(4)

    def read(self, request: p.Request) -> bytes:  # noqa: ARG002 - there is nothing else to read
        """The data."""
        return bytes(self._data)

    def write(self, request: p.Request) -> None:
        """Take the data."""
        self._data[:] = request.data


def serve(listener: socket.socket) -> None:
    """Answer every connection, a thread for each."""
    unit = Register()

    def one(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, contextlib.suppress(OSError):
            while head := connection.recv(7, socket.MSG_WAITALL):
                body = connection.recv(int.from_bytes(head[4:6], "big") - 1, socket.MSG_WAITALL)
                reply = answer(body, unit)
                connection.sendall(head[:4] + (len(reply) + 1).to_bytes(2, "big") + head[6:7] + reply)

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=one, args=(connection,), daemon=True).start()


def point(name: str, function: str, address: int, quantity: int, more: str = "") -> str:
    """An endpoint."""
    return (f"<endpoint><name>{name}</name><function>{function}</function><address>{address}</address>"
            f"<quantity>{quantity}</quantity><offset>-1</offset><type>t</type><description>d</description>{more}"
            "</endpoint>")


def write_files(folder: Path, port: int, devices: int, written: int) -> None:
    """`devices` that are only polled, and one that takes values."""
    polled = point("r", "Read Holding Registers", 0, 125)
    servers = [
        f"<server><ipaddr>127.0.{n // 250}.{n % 250 + 1}</ipaddr><port>{port}</port><serveralias>d{n}</serveralias>"
        f"<endpoints>{polled}</endpoints></server>" for n in range(devices)
    ]
    value = point("Value", "Write Multiple Holding Registers", 0, 2, "<datatype>uint32</datatype>")
    servers.append(f"<server><ipaddr>127.0.0.1</ipaddr><port>{written}</port><serveralias>PLC</serveralias>"
                   f"<endpoints>{value}</endpoints></server>")
    (folder / "modbus.xml").write_text(f"<modbus-servers>{''.join(servers)}</modbus-servers>")
    (folder / "rules.xml").write_text("<command-rules><rule name='all'><issuer user='*'/><point>PLC/*</point></rule>"
                                      "</command-rules>")
    (folder / "partition.xml").write_text(
        f"<partition><namespace>{folder.name}</namespace><interval>1.0</interval><state>state</state>"
        "<service kind='modbus'><file>modbus.xml</file></service>"
        "<commands><rules>rules.xml</rules><directory>.</directory></commands></partition>")


@contextlib.contextmanager
def partition(folder: Path) -> Iterator[None]:
    """The partition as a user runs it."""
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "cpc", "run", "--config", str(folder / "partition.xml")],
                                   stdout=log, stderr=log)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def through_the_gate(client: CommandClient, count: int) -> list[float]:
    """Milliseconds of each command."""
    took = []
    for number in range(count):
        start = time.perf_counter()
        answer_ = client.write("PLC/Value", number + secrets.randbits(20))
        took.append(1e3 * (time.perf_counter() - start))
        if answer_.status is not Status.VERIFIED:
            raise SystemExit(f"{answer_.status}: {answer_.message}")
    return took


def bare(port: int, count: int) -> list[float]:
    """Milliseconds of a write and a read by a plain socket."""
    took = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(count):
            start = time.perf_counter()
            connection.sendall(struct.pack(">HHHBBHHBI", number & 0xFFFF, 0, 11, 1, 16, 0, 2, 4, number))
            connection.recv(12, socket.MSG_WAITALL)
            connection.sendall(struct.pack(">HHHBBHH", number & 0xFFFF, 0, 6, 1, 3, 0, 2))
            connection.recv(13, socket.MSG_WAITALL)
            took.append(1e3 * (time.perf_counter() - start))
    return took


def lateness(image: process_image.Image, seconds: float, client: CommandClient | None) -> list[float]:
    """Lateness of all polls over a while (ms), with 100 commands a second where there is a client."""
    snapshot = image.snapshot()
    rows = np.array([row for row, one in enumerate(snapshot.points) if one.name == "$lateness_ms"])
    found: list[float] = []
    until, look = time.monotonic() + seconds, time.monotonic() + 1.0
    turn = time.monotonic()
    while (now := time.monotonic()) < until:
        if client is not None:
            client.write("PLC/Value", secrets.randbits(30))
        turn += PACE
        time.sleep(max(0.0, turn - time.monotonic()))
        if now >= look:
            look = now + 1.0
            found += image.snapshot().records["value"][rows].tolist()
    return found


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def measure(args: argparse.Namespace, folder: Path, port: int) -> Figures:
    """All rounds."""
    commands: list[float] = []
    direct: list[float] = []
    quiet, busy = [], []
    socket_path = gate_socket(folder.name, folder)
    deadline = time.monotonic() + 60.0
    while not (Path("/dev/shm") / f"{folder.name}_modbus_shm").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    with process_image.attach(f"{folder.name}_modbus_shm", timeout=30.0) as image:
        while image.snapshot()["PLC/Value"].quality or not socket_path.exists():
            if time.monotonic() > deadline:
                raise SystemExit((folder / "log").read_text()[-2000:])
            time.sleep(0.1)
        points = sum(not one.is_system for one in image.points)
        with CommandClient(socket_path) as client:
            time.sleep(2.0)
            for _ in range(args.rounds):
                commands += through_the_gate(client, args.commands // args.rounds)
                direct += bare(port, args.commands // args.rounds)
                quiet.append(percentile(lateness(image, args.seconds, None), 0.99))
                busy.append(percentile(lateness(image, args.seconds, client), 0.99))
    return {
        "points": points,
        "through the gate, ms": {"p50": statistics.median(commands), "p99": percentile(commands, 0.99)},
        "bare write and read, ms": {"p50": statistics.median(direct), "p99": percentile(direct, 0.99)},
        "p99, gate / bare": percentile(commands, 0.99) / percentile(direct, 0.99),
        "lateness p99 without commands, ms": quiet, "lateness p99 with 100 commands/s, ms": busy,
        "lateness p99, with / without": statistics.median(b / max(q, 1e-6) for b, q in zip(busy, quiet, strict=True)),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=800)
    parser.add_argument("--commands", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cb"))
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    child = os.fork()
    if child == 0:
        serve(listener)
    try:
        with plant.target() as server:
            write_files(folder, server.port, args.devices, port)
            with partition(folder):
                found = measure(args, folder, port)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        shutil.rmtree(folder, ignore_errors=True)
    made = {"results": found, "machine": machine()}
    print(json.dumps(made, indent=2) if args.json else "\n".join(
        f"{name}: {value}" for part in made.values() for name, value in part.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
