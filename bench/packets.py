"""What the packet log costs where nobody listens, and where somebody does.

    python bench/packets.py [--rounds 5] [--seconds 2] [--devices 200] [--json]

Polls of 200 devices, 125 registers a request, back to back, against the target in C. Sides, a process each, in turns:

    ordinary path    as it is, without a listener
    without the hook the same code with the comparisons for a tap cut out of it
    all listened to  a listener that counts the packets of every device, both ways
    fast path        as it is, without a listener
    one listened to  the fast path with a listener to one of the devices

The ratio is that of CPU time a request, to the ordinary path or the fast path; above 1 is dearer.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import statistics
import subprocess
import sys
import textwrap
from typing import Any

import _modbus_sides
import _modbus_target as plant
from _turns import machine

BASE = {"without the hook": "ordinary path", "all listened to": "ordinary path", "one listened to": "fast path"}
SIDES = ("ordinary path", "without the hook", "all listened to", "fast path", "one listened to")
HOOK = re.compile(r"^ *if self\.tap is not None:\n.*\n", re.MULTILINE)


def cut_out_the_hook() -> None:
    """Compile the methods of Link that look for a tap without those lines."""
    from modbus_tcp_client import link

    for name in ("_open", "absorb", "_connected"):
        source = textwrap.dedent(inspect.getsource(getattr(link.Link, name)))
        bare, count = HOOK.subn("", source)
        assert count == 1, name
        scope: dict[str, Any] = {}
        exec(compile(bare, name, "exec"), vars(link), scope)
        setattr(link.Link, name, scope[name])


def run_side(name: str, task: dict[str, Any]) -> dict[str, Any]:
    """Poll for a while, in this process."""
    from modbus_tcp_client import ModbusClientManager, engine

    if "fast" not in name and "one" not in name:
        engine.FEWEST = 1 << 30
    if name == "without the hook":
        cut_out_the_hook()
    seen = [0]
    if name.endswith("listened to"):
        make = ModbusClientManager.from_servers.__func__  # type: ignore[attr-defined]

        def listened(cls: Any, servers: Any, **more: Any) -> Any:
            def count(_packet: object) -> None:
                seen[0] += 1

            manager = make(cls, servers, **more)
            manager.listen(count, ["d0"] if name.startswith("one") else ())
            return manager

        ModbusClientManager.from_servers = classmethod(listened)  # type: ignore[assignment, method-assign]
    return {**_modbus_sides.ours(task), "packets": seen[0]}


def main() -> None:
    """Run the sides in turns and print what they cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(run_side(args.side, args.task)))
        return
    rounds: list[dict[str, dict[str, Any]]] = []
    with plant.target(moving=12) as server:
        task = {"port": server.port, "devices": args.devices, "seconds": args.seconds, "interval": 0.0}
        for _ in range(args.rounds):
            rounds.append({name: _run(name, task) for name in SIDES})
    found: dict[str, Any] = {"machine": machine("numpy")}
    for name in SIDES:
        every = [turn[name]["cpu_us"] for turn in rounds]
        found[name] = {"cpu_us": round(statistics.median(every), 2), "per_second": round(statistics.median(
            turn[name]["per_second"] for turn in rounds)), "packets": rounds[-1][name]["packets"]}
        base = BASE.get(name)
        if base:
            of_rounds = [turn[name]["cpu_us"] / turn[base]["cpu_us"] for turn in rounds]
            found[name]["ratio"] = round(statistics.median(of_rounds), 3)
            found[name]["ratios"] = [round(ratio, 3) for ratio in of_rounds]
    if args.json:
        print(json.dumps(found, indent=2))
        return
    for name, figures in found.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))


def _run(name: str, task: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", name, "--task", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=task["seconds"] + 120, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()
