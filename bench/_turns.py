"""Measuring two or more sides in one run: they take turns, so that the weather on the machine is the same for all."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

Work = Callable[[], object]
Timed = Callable[[], int]
"""Does its work once and returns the nanoseconds of the part that counts."""


def timed(work: Work) -> Timed:
    """All of `work` counts."""
    clock = time.perf_counter_ns

    def once() -> int:
        start = clock()
        work()
        return clock() - start

    return once


def compete(sides: Mapping[str, Timed], *, turns: int, slice_ns: int = 4_000_000) -> dict[str, float]:
    """Nanoseconds of each side, once: the median over `turns` slices of the median within a slice.

    Each side runs for about `slice_ns`, then the next one; within a slice a side meets the caches as it left them.
    Medians, because the time in which somebody else had the processor is in the mean.
    """
    medians: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, once in sides.items():
            once()
            spent: list[int] = []
            until = time.perf_counter_ns() + slice_ns
            while len(spent) < 3 or time.perf_counter_ns() < until:
                spent.append(once())
            medians[name].append(statistics.median(spent))
    return {name: statistics.median(values) for name, values in medians.items()}


def ratios(runs: Sequence[Mapping[str, float]], base: str) -> dict[str, dict[str, Any]]:
    """For each side its median time and its ratio to `base`: the median over runs, with every run's beside it."""
    made = {}
    for name in runs[0]:
        of_runs = [run[name] / run[base] for run in runs]
        made[name] = {"us": round(statistics.median(run[name] for run in runs) / 1e3, 3),
                      "ratio": round(statistics.median(of_runs), 3), "ratios": [round(r, 3) for r in of_runs]}
    return made


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def machine(*packages: str) -> dict[str, str]:
    """What the figures were measured on; the load says how much others took."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")] if Path("/proc/cpuinfo").exists() else []
    return {"cpu": names[0] if names else platform.machine(), "cores": str(len(os.sched_getaffinity(0))),
            "load": " ".join(f"{part:.1f}" for part in os.getloadavg()), "system": platform.platform(),
            "python": platform.python_version(), **{name: metadata.version(name) for name in packages}}
