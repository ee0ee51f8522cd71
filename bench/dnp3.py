"""How fast `cpc dnp3` answers a master, beside opendnp3's outstation (C++, by yadnp3) in the same run.

    python bench/dnp3.py [--rounds 5] [--seconds 1.0] [--json]

Both outstations serve the same points in the same variations, in fragments of 2,048 octets. The master is a bare socket
that confirms each fragment as soon as its last frame is there, and decodes nothing: so the outstations are what is
measured. They take turns; a figure is the median of the rounds' ratios. CPU is that of the outstation's process.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from _turns import machine  # noqa: E402
from dnp3_rig import frame  # noqa: E402

POINTS = 10_000
STATIC = bytes.fromhex("010206 030206 0a0206 140106 150106 1e0106 280106")
"""g1v2, g3v2, g10v2, g20v1, g21v1, g30v1, g40v1, all of each."""
ANALOG = bytes.fromhex("1e0106")
CLASS_1 = bytes.fromhex("3c0206")
TICK = os.sysconf("SC_CLK_TCK")


class Master:
    """A socket, ready-made confirmations, and as little else as can be."""

    def __init__(self, port: int, address: int = 1) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._address = address
        self._confirms = [self._frame(0xC0 | sequence, 0) for sequence in range(16)]
        self._data = b""
        self._sequence = 0
        self.octets = 0

    def _frame(self, control: int, function: int, objects: bytes = b"") -> bytes:
        return frame(0xC4, bytes([0xC0, control, function]) + objects, source=self._address)

    def _fragment(self) -> int:
        """Receive one fragment; its application control octet."""
        control = -1
        while True:
            while len(self._data) < 12 or len(self._data) < self._size():
                self._data += self._socket.recv(65536)
            size, head = self._size(), self._data
            self._data = head[size:]
            self.octets += size
            if head[3] & 0x4F != 0x44:
                continue  # a link frame
            if head[10] & 0x40:
                control = head[11]
            if head[10] & 0x80:
                return control

    def _size(self) -> int:
        length = self._data[2] - 5
        return 10 + length + 2 * -(-length // 16)

    def read(self, objects: bytes) -> int:
        """One read, confirmed to its end; the number of fragments."""
        self._sequence = (self._sequence + 1) & 15
        self._socket.sendall(self._frame(0xC0 | self._sequence, 1, objects))
        fragments = 0
        while True:
            control = self._fragment()
            if control & 0x10:
                continue  # unsolicited: not asked for here
            fragments += 1
            if control & 0x20:
                self._socket.sendall(self._confirms[control & 15])
            if control & 0x40:
                return fragments

    def close(self) -> None:
        self._socket.close()


class Side:
    """One outstation and its master."""

    def __init__(self, name: str, count: int) -> None:
        command = [sys.executable, str(ROOT / "bench" / "_dnp3_children.py"), name, str(count)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.master = Master(int(self._line()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"an outstation ended: {self._process.wait()}")
        return line

    def fill(self, count: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"fill {count}\n")
        self._process.stdin.flush()
        self._line()

    def cpu(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def close(self) -> None:
        self.master.close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


def polls(side: Side, objects: bytes, seconds: float) -> dict[str, float]:
    """Polls a second, and the outstation's processor time for one."""
    side.master.read(objects)
    cpu, start, count = side.cpu(), time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        side.master.read(objects)
        count += 1
    took = time.perf_counter() - start
    return {"rate": count / took, "cpu_ms": (side.cpu() - cpu) / count * 1e3}


def events(side: Side, count: int, *, feeding: bool) -> dict[str, float]:
    """Events a second to the master that confirms them; with `feeding`, the making of the events counts, too."""
    cpu, start = side.cpu(), time.perf_counter()
    side.fill(count)
    if not feeding:
        cpu, start = side.cpu(), time.perf_counter()
    side.master.read(CLASS_1)
    took = time.perf_counter() - start
    return {"rate": count / took, "cpu_ms": (side.cpu() - cpu) * 1e3}


def compete(sides: dict[str, Side], measure: Any, rounds: int) -> dict[str, Any]:
    """Both sides in turn, `rounds` times: medians, and the median of the ratios."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(measure(side))
    ratios = [a["rate"] / b["rate"] for a, b in zip(found["ours"], found["opendnp3"], strict=True)]
    result: dict[str, Any] = {name: {key: round(statistics.median(r[key] for r in runs), 2) for key in runs[0]}
                              for name, runs in found.items()}
    return {**result, "ratio": round(statistics.median(ratios), 3), "ratios": [round(r, 3) for r in ratios]}


def run(rounds: int, seconds: float) -> dict[str, Any]:
    """All figures."""
    made: dict[str, Any] = {"machine": machine("numpy", "yadnp3")}
    sides = {name: Side(name, -(-POINTS // 7)) for name in ("ours", "opendnp3")}
    try:
        made["integrity polls of 10,000 points of 7 types"] = compete(
            sides, lambda side: polls(side, STATIC, seconds), rounds)
    finally:
        for side in sides.values():
            side.close()
    sides = {name: Side(name, POINTS) for name in ("ours", "opendnp3")}
    try:
        made["polls of 10,000 analog inputs"] = compete(sides, lambda side: polls(side, ANALOG, seconds), rounds)
        for side in sides.values():
            side.master.read(CLASS_1)
        made["events delivered, 10,000 waiting"] = compete(
            sides, lambda side: events(side, POINTS, feeding=False), rounds)
        made["events made and delivered"] = compete(sides, lambda side: events(side, POINTS, feeding=True), rounds)
    finally:
        for side in sides.values():
            side.close()
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each side in each round of polls")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    made = run(args.rounds, args.seconds)
    if args.json:
        print(json.dumps(made))
        return
    print(", ".join(f"{key} {value}" for key, value in made.pop("machine").items()))
    for what, figures in made.items():
        ours, other = figures["ours"], figures["opendnp3"]
        print(f"{what}: {ours['rate']:,.0f}/s against {other['rate']:,.0f}/s = {figures['ratio']:.2f} x "
              f"(rounds {figures['ratios']}); CPU {ours['cpu_ms']:.1f} ms against {other['cpu_ms']:.1f} ms")


if __name__ == "__main__":
    main()
