"""How fast and how fairly Modbus devices are polled: against pymodbus and against a bare client in C.

    python bench/modbus.py [--only NAME]... [--rounds 3] [--seconds 3] [--long] [--json]

    throughput  200 devices, 125 registers a request, back to back, one request in flight: ours (decoded, published
                into a real segment), pymodbus with a thread each, an epoll client in C that throws the values away;
                the registers hold 60 values of all types, or one value each (`ours, a value a register`)
    pipelined   the same with 8 requests in flight; pymodbus can't
    periods     1,000 devices each 200 ms: periods met, CPU, memory; pymodbus's asynchronous client beside it
    sick        the same while 100 devices are black-holed, 100 refuse and 100 flap: the healthy ones
    rates       10,000 and 100,000 values/s from 100 devices; what was counted reconciled with what the server sent
    latency     answer on the wire to value in a waiting consumer, with and without one device in ten silent

The target is a server in C, because one in Python would be the bottleneck. Sides take turns, a process each; a ratio
is the median of the rounds' ratios. `--long` gives `periods` and `sick` the 30 seconds of their definition.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import _modbus_latency
import _modbus_target as plant
from _turns import machine

SIDES = Path(__file__).with_name("_modbus_sides.py")
Figures = dict[str, Any]


def side(name: str, **task: Any) -> Figures:
    """Run one side in a process of its own."""
    command = [sys.executable, str(SIDES), name, json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=task["seconds"] + 180, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def ratios(rounds: list[dict[str, Figures]]) -> Figures:
    """For each side its medians; for each other side the median of the rounds' ratios of ours to it.

    Once by requests a second, once by CPU time of the client: where others use the machine too, the second is the one
    to look at.
    """
    made: Figures = {name: {k: _round(statistics.median(r[name][k] for r in rounds)) for k in rounds[0][name]}
                     for name in rounds[0]}
    for name in rounds[0]:
        if name != "ours":
            for by, every in (
                ("requests/s", [r["ours"]["per_second"] / r[name]["per_second"] for r in rounds]),
                ("requests per CPU second", [r[name]["cpu_us"] / r["ours"]["cpu_us"] for r in rounds]),
            ):
                made[f"ours / {name}, {by}"] = {"median": _round(statistics.median(every)),
                                                "rounds": [_round(x) for x in every]}
    return made


def _round(number: float) -> float:
    return round(number, 4) if abs(number) < 10 else round(number, 1)


def throughput(args: argparse.Namespace) -> Figures:
    """200 devices back to back, one request in flight."""
    with plant.target(moving=args.moving) as server:
        rounds = []
        for _ in range(args.rounds):
            task = {"port": server.port, "devices": args.devices, "seconds": args.seconds, "interval": 0.0}
            rounds.append({
                "ours": side("ours", map="mixed", **task),
                "ours, a value a register": side("ours", **task),
                "pymodbus threads": side("pymodbus-threads", **task),
                "epoll client in C": plant.c_client(
                    server.port, devices=args.devices, count=125, in_flight=1, seconds=args.seconds),
            })
    return ratios(rounds)


def pipelined(args: argparse.Namespace) -> Figures:
    """200 devices back to back, eight requests in flight."""
    with plant.target(moving=args.moving) as server:
        rounds = []
        for _ in range(args.rounds):
            task = {"port": server.port, "devices": args.devices, "seconds": args.seconds, "interval": 0.0}
            rounds.append({
                "ours": side("ours", map="mixed", in_flight=8, **task),
                "epoll client in C": plant.c_client(
                    server.port, devices=args.devices, count=125, in_flight=8, seconds=args.seconds),
            })
    return ratios(rounds)


def periods(args: argparse.Namespace) -> Figures:
    """1,000 devices each 200 ms."""
    with plant.target(moving=args.moving) as server:
        task = {"port": server.port, "devices": 1000, "seconds": 30.0 if args.long else 5.0, "interval": 0.2,
                "count": 10, "warm_up": 2.0}
        return {"ours": side("ours", **task), "pymodbus async": side("pymodbus-async", **task)}


def sick(args: argparse.Namespace) -> Figures:
    """Healthy devices among as many black-holed, refusing and flapping ones as are a tenth of the fleet each."""
    with ExitStack() as stack:
        server = stack.enter_context(plant.target(moving=args.moving))
        hole, flap = stack.enter_context(plant.black_hole()), stack.enter_context(plant.flapping())
        refuse = plant.refusing()
        task = {"port": server.port, "devices": 700, "seconds": 30.0 if args.long else 5.0, "interval": 0.2,
                "count": 10, "warm_up": 2.0}
        found: Figures = {"all healthy": side("ours", **task),
                 "300 sick beside": side("ours", sick_ports=[hole] * 100 + [refuse] * 100 + [flap] * 100, **task)}
    well, ill = found["all healthy"], found["300 sick beside"]
    found["healthy within period, points lost"] = _round(100 * (well["within_period"] - ill["within_period"]))
    found["lateness p99, ratio"] = _round(ill["lateness_ms_p99"] / max(well["lateness_ms_p99"], 1e-6))
    return found


def rates(args: argparse.Namespace) -> Figures:
    """10,000 and 100,000 values a second from 100 devices, reconciled with the wire."""
    found: Figures = {}
    for values, interval in ((10_000, 1.0), (100_000, 0.1)):
        with plant.target(moving=100) as server:
            task = {"port": server.port, "devices": 100, "seconds": max(3.0, args.seconds), "interval": interval,
                    "count": 100, "warm_up": 0.0}
            ours = side("ours", **task)
            answers, payload = server.carried()
        # The server counts from the first request on, ours from when all are connected to the end of the window.
        ours["values_per_second"] = ours["requests"] * 100 / ours["seconds"]
        ours["values_counted"] = ours["requests"] * 100
        ours["values_on_the_wire"] = payload // 2
        ours["not_carried"] = max(0, ours["values_counted"] - payload // 2)
        ours["journalled_over_carried"] = ours["changes"] / (answers * 100)
        found[f"{values} values/s"] = {k: _round(v) for k, v in ours.items()}
    return found


def latency(args: argparse.Namespace) -> Figures:
    """Answer on the wire to value in a waiting consumer."""
    figures: Figures = _modbus_latency.measure(seconds=max(args.seconds, 5.0), rounds=args.rounds)
    return figures


SCENARIOS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "throughput": throughput, "pipelined": pipelined, "periods": periods, "sick": sick, "rates": rates,
    "latency": latency,
}


def show(name: str, figures: Figures) -> None:
    """Figures for people."""
    print(f"\n{name}")
    for key, value in figures.items():
        text = "  ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        print(f"  {key:40} {text}")


def main() -> int:
    """Run the scenarios that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="one scenario; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of a turn (default 3)")
    parser.add_argument("--devices", type=int, default=200, help="devices of throughput and pipelined (default 200)")
    parser.add_argument("--moving", type=int, default=12, help="registers of each answer that change (default 12)")
    parser.add_argument("--long", action="store_true", help="30 s for periods and sick")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    found: Figures = {"machine": machine("numpy", "pymodbus")}
    for name in args.only or SCENARIOS:
        found[name] = SCENARIOS[name](args)
        if not args.json:
            show(name, found[name])
    if args.json:
        print(json.dumps(found))
    else:
        show("machine", found["machine"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
