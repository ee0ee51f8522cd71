"""How fast the process image is and that it holds, against memcpy, Redis, POSIX semaphores and a bare buffer.

    python bench/image.py [--json] [--full] [--only SECTION]...      or      cpc bench image

Sections: copy (filling, publishing, reading, each against memcpy of the same bytes into the same four slots),
redis (where redis-server is installed), wake (1, 5 and 32 waiting readers), readers (publishing beside 16 readers
that run, are stopped, or were killed while holding the semaphore), takeover, torn. All sides of a comparison take
turns in one run; a figure is the median of at least three runs. `--full` takes 10^7 snapshots of 100 records and
10^6 of 10,000 for torn ones, which takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # a process that forks must have one thread

import _image_copy  # noqa: E402
import _image_readers  # noqa: E402
import _image_redis  # noqa: E402
import _image_takeover  # noqa: E402
import _image_torn  # noqa: E402
import _image_wake  # noqa: E402
from _turns import machine  # noqa: E402

SIZES = (1_000, 10_000, 100_000)


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is done of everything."""

    runs: int = 3
    turns: int = 15
    rounds: int = 150
    windows: int = 41
    take_overs: int = 11
    torn_part: int = 100
    """The long form's number of snapshots is divided by this."""


SHORT = Effort()
FULL = Effort(runs=5, rounds=500, windows=101, take_overs=51, torn_part=1)
QUICK = Effort(runs=1, turns=2, rounds=25, take_overs=3, torn_part=1000)
"""To see that it runs; its figures mean little."""
Section = Callable[[str, Effort], Any]


def _copy(prefix: str, effort: Effort) -> Any:
    return [_image_copy.measure(prefix, size, runs=effort.runs, turns=effort.turns) for size in SIZES]


def _redis(prefix: str, effort: Effort) -> Any:
    return _image_redis.measure(prefix, 1_000, runs=effort.runs, turns=-(-effort.turns // 3))


def _wake(prefix: str, effort: Effort) -> Any:
    return [_image_wake.measure(prefix, readers, rounds=effort.rounds) for readers in (1, 5, 32)]


def _readers(prefix: str, effort: Effort) -> Any:
    return _image_readers.measure(prefix, windows=effort.windows, publishes=60)


def _takeover(prefix: str, effort: Effort) -> Any:
    return _image_takeover.measure(prefix, 10_000, rounds=effort.take_overs)


def _torn(prefix: str, effort: Effort) -> Any:
    return [_image_torn.measure(prefix, records, snapshots=most // effort.torn_part)
            for records, most in ((100, 10_000_000), (10_000, 1_000_000))]


SECTIONS: dict[str, Section] = {
    "copy": _copy, "redis": _redis, "wake": _wake, "readers": _readers, "takeover": _takeover, "torn": _torn}


def run(as_json: bool, *, effort: Effort = SHORT, only: Collection[str] = ()) -> int:
    """Measure and print; returns the exit status, 1 where a snapshot was torn or a wait went over its bound."""
    prefix = f"bench{secrets.token_hex(4)}"
    result: dict[str, Any] = {"machine": machine("numpy", "posix-ipc")}
    if not as_json:
        print(", ".join(f"{key} {value}" for key, value in result["machine"].items()))
    try:
        for name, section in SECTIONS.items():
            if not only or name in only:
                result[name] = section(prefix, effort)
                if not as_json:
                    print(f"\n{name}\n" + "\n".join(PRINTERS[name](result[name])), flush=True)
    finally:
        for path in [*Path("/dev/shm").glob(f"{prefix}*"), *Path("/dev/shm").glob(f"sem.{prefix}*")]:
            path.unlink(missing_ok=True)
    result["load_after"] = machine()["load"]
    if as_json:
        print(json.dumps(result, indent=2))
    broken = any(part["torn"] for part in result.get("torn", ()))
    return int(broken or any(state["waits_over_bound"] for state in result.get("readers", {}).values()))


def _print_copy(parts: Any) -> list[str]:
    lines = [f"  {'':34}" + "".join(f"{part['records']:>22,} records" for part in parts)]
    for side in parts[0]["sides"]:
        found = [part["sides"][side] for part in parts]
        lines.append(f"  {side:34}" + "".join(f"{f['us']:>13.1f} us {f['ratio']:>6.2f} x memcpy" for f in found))
    reach = ", ".join(f"{name} {value:g}" for name, value in _image_copy.REACH.items())
    return [*lines, f"  to reach at 10,000 records: {reach}"]


def _print_redis(part: Any) -> list[str]:
    if part is None:
        return ["  redis-server is not installed"]
    return [f"  {part['records']} points, Redis {part['version']}",
            *(f"  {name:40}{side['us']:>12.1f} us {side['ratio']:>9.2f} x ours"
              for name, side in part["sides"].items())]


def _print_wake(parts: Any) -> list[str]:
    lines = ["  from the call of publish to the reader's next line; publish with its wake, as the writer sees it"]
    for part in parts:
        for kind in ("futex", "semaphores"):
            side = part[kind]
            lines.append(f"  {part['readers']:>3} readers, {kind:11} p50 {side['p50_us']:>8.1f} us, p99 "
                         f"{side['p99_us']:>8.1f} us, first {side['first_p50_us']:>7.1f} us, last "
                         f"{side['last_p50_us']:>7.1f} us; writer {side['writer_us']:>7.1f} us")
    return lines


def _print_readers(states: Any) -> list[str]:
    lines = ["  CPU time of the publishing thread with and without readers, median of alternating windows"]
    for state, part in states.items():
        cpu = f"{part['cpu_us_with']:>6.1f} and {part['cpu_us_without']:>6.1f} us, ratio {part['cpu_ratio']:.3f}"
        wall = f"wall p99 {part['wall_p99_us_with']:>6.1f} and {part['wall_p99_us_without']:>6.1f} us"
        counted = f"busy {part['semaphore_busy']}, waits {part['semaphore_waits']}, over {part['waits_over_bound']}"
        lines.append(f"  {state:32} {cpu}; {wall}; semaphore {counted}")
    return lines


def _print_takeover(part: Any) -> list[str]:
    return [f"  {part['records']} points: {part['lease_to_published_ms']} ms from lease to published, "
            f"{part['create_to_published_ms']} ms from the call of create; a bare socket and futex pair "
            f"{part['bare_socket_and_futex_ms']} ms"]


def _print_torn(parts: Any) -> list[str]:
    return [f"  {part['records']:>6} records: {part['torn']} torn of {part['snapshots']:,} snapshots during "
            f"{part['published']:,} publishes; without protection {part['control_torn_percent']} % of "
            f"{part['control_copies']:,}" for part in parts]


PRINTERS: dict[str, Callable[[Any], list[str]]] = {
    "copy": _print_copy, "redis": _print_redis, "wake": _print_wake, "readers": _print_readers,
    "takeover": _print_takeover, "torn": _print_torn}


def main() -> int:
    """Arguments to `run`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--full", dest="effort", action="store_const", const=FULL, help="the long form")
    length.add_argument("--quick", dest="effort", action="store_const", const=QUICK, help="to see that it runs")
    parser.add_argument("--only", action="append", choices=list(SECTIONS), default=[], help="one section; repeatable")
    arguments = parser.parse_args()
    return run(arguments.json, effort=arguments.effort or SHORT, only=arguments.only)


if __name__ == "__main__":
    sys.exit(main())
