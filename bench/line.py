"""A serial line at its own speed: 32 units, 3 of them silent, against the time that their frames must take.

The line is a pty whose bytes pass at the rate of the line. Both sides, 29 units that answer and the same with 3 silent
ones beside them, take turns. A cycle is the time from one request to a unit to the next. `computed` is what
`cpc check` computes for the units that answer: characters, silences and 1 ms of each device; `budget` adds the share
that probes of silent units may take, and one probe.
"""

from __future__ import annotations

import argparse
import itertools
import json
import secrets
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from _turns import machine, percentile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from modbus_rig import Partition, holding  # noqa: E402 - the tests' paced line is the peer
from modbus_tcp_client import feasibility  # noqa: E402
from modbus_tcp_client.link import SHORT_NS  # noqa: E402
from modbus_tcp_client.unit import PROBE_SHARE  # noqa: E402
from serial_rig import Bus, on_line  # noqa: E402

SILENT = frozenset([5, 13, 29])


def turn(args: argparse.Namespace, units: frozenset[int], answering: frozenset[int]) -> dict[str, float]:
    """Cycle times of the units that answer, in ms, and what silent ones took of the time, in percent."""
    points = [holding(f"r{a}", a) for a in range(args.registers)]
    with Bus(baudrate=args.baudrate, units=answering) as bus:
        servers = [on_line(f"u{u}", u, bus.path, points, line={"baudrate": args.baudrate}, interval=0.0, timeout=0.3)
                   for u in sorted(units)]
        (load,) = feasibility([server for server in servers if server.unit_id in answering], 0.0)
        with Partition(f"bench{secrets.token_hex(4)}", servers) as running:
            running.until_good(*(f"u{u}/r0" for u in answering))
            running.until(lambda r: all(unit.demoted for unit in r.manager._engine.units
                                        if unit.server.unit_id not in answering))
            begin = len(bus.heard)
            time.sleep(args.seconds)
            seen = bus.heard[begin:]
    gaps = [(one.unit, after.when - one.when) for one, after in itertools.pairwise(seen)]
    cycles = [b.when - a.when for unit in answering
              for a, b in itertools.pairwise([heard for heard in seen if heard.unit == unit])]
    lost = sum(gap for unit, gap in gaps if unit not in answering)
    return {"cycle_ms": 1e3 * statistics.median(cycles), "cycle_p95_ms": 1e3 * percentile(cycles, 0.95),
            "mean_ms": 1e3 * statistics.fmean(cycles), "computed_ms": 1e3 * load.needed,
            "silent_percent": 100 * lost / sum(gap for _, gap in gaps), "collisions": float(bus.collisions)}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default 3)")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of a turn (default 10)")
    parser.add_argument("--baudrate", type=int, default=19_200, help="of the line (default 19200)")
    parser.add_argument("--registers", type=int, default=10, help="of each unit (default 10)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    everybody = frozenset(range(1, 33))
    healthy = everybody - SILENT
    runs: dict[str, list[dict[str, float]]] = {"29 answer": [], "29 answer, 3 silent": []}
    for _ in range(args.rounds):
        runs["29 answer"].append(turn(args, healthy, healthy))
        runs["29 answer, 3 silent"].append(turn(args, everybody, healthy))
    found: dict[str, Any] = {"machine": machine("numpy")}
    for name, turns in runs.items():
        found[name] = {key: round(statistics.median(t[key] for t in turns), 1) for key in turns[0]}
    computed = found["29 answer"]["computed_ms"]
    found["budget_ms"] = round(computed / (1 - PROBE_SHARE) + SHORT_NS * 1e-6, 1)
    ratios = [ill["mean_ms"] / well["mean_ms"] for well, ill in zip(*runs.values(), strict=True)]
    found["mean cycle, 3 silent over none"] = round(statistics.median(ratios), 3)
    found["p95 cycle with 3 silent over budget"] = round(
        found["29 answer, 3 silent"]["cycle_p95_ms"] / found["budget_ms"], 3)
    print(json.dumps(found) if args.json else "\n".join(f"{key:38} {value}" for key, value in found.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
