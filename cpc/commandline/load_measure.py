"""What `cpc load` measures: system points of a segment at the beginning and the end, and the processes behind it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from process_image import Image, list_segments

from cpc.commandline.output import plural


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What one service did."""

    service: str
    devices: int
    points: int
    requests_per_s: float
    values_per_s: float
    """Points polled in their time, times points of the poll, a second."""
    polls: int
    """Polls that were due."""
    late: int
    missed: int
    within_percent: float
    """Polls that were neither late nor left out."""
    lateness_p50_ms: float
    lateness_p99_ms: float
    """Of the beginning of polls, over all devices and looks."""
    failures: int
    disconnected: int
    """Devices without a connection at the end."""
    cpu_percent: float
    """Of one core, the service alone."""
    memory_mib: float
    """Resident, the service alone."""
    simulators_cpu_percent: float
    """Everything else below `cpc run`: the simulated devices and the supervisor."""
    faults: Sequence[str] = field(default_factory=tuple)
    """What did not hold."""

    @property
    def held(self) -> bool:
        """Whether everything held."""
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "held": self.held}


class Meter:
    """Watches one segment."""

    def __init__(self, service: str, image: Image, parent: int, *, least: float) -> None:
        """`least` percent of the polls must be in time; `parent` is the pid of `cpc run`."""
        self._service, self._image, self._parent, self._least = service, image, parent, least
        names = [p.name if p.is_system else "" for p in image.points]
        self._places = {name: np.array([i for i, n in enumerate(names) if n == name]) for name in (
            "$connected", "$requests", "$failures", "$lateness_ms", "$late", "$missed")}
        self._devices = len(self._places["$connected"])
        own = [p for p, name in zip(image.points, names, strict=True) if not name]
        self._points = len(own)
        polls: dict[tuple[str, float], int] = {}
        for point in own:
            key = (point.device, float(point.scan_class))
            polls[key] = polls.get(key, 0) + 1
        self._polls = polls
        self._lateness: list[np.ndarray[Any, Any]] = []

    def connected(self) -> bool:
        """Whether every device is."""
        return bool(self._values("$connected").all())

    def begin(self) -> None:
        """The measurement begins."""
        self._began = time.monotonic()
        self._first = {name: self._values(name).sum() for name in ("$requests", "$failures", "$late", "$missed")}
        self._cpu = {pid: cpu_seconds(pid) for pid in family(self._parent)}

    def look(self) -> None:
        """Note how late polls are now."""
        self._lateness.append(self._values("$lateness_ms"))

    def end(self, pids: Sequence[int]) -> Result:
        """What came of it."""
        seconds = time.monotonic() - self._began
        grown = {name: int(self._values(name).sum() - before) for name, before in self._first.items()}
        writer = next((s.pid for s in list_segments(self._image.name) if s.name == self._image.name), 0)
        used = {pid: cpu_seconds(pid) - self._cpu.get(pid, 0.0) for pid in pids}
        due = sum(seconds / interval for _, interval in self._polls if interval > 0)
        asked = sum(seconds / interval * count for (_, interval), count in self._polls.items() if interval > 0)
        outside = min(grown["$late"] + grown["$missed"], due)
        within = 100.0 * (1.0 - outside / due) if due else 100.0
        lateness = np.concatenate(self._lateness) if self._lateness else np.zeros(1)
        lost = int((self._values("$connected") == 0).sum())
        return Result(
            service=self._service, devices=self._devices, points=self._points, polls=round(due),
            requests_per_s=round(grown["$requests"] / seconds, 1),
            values_per_s=round(asked * within / 100 / seconds, 1),
            late=grown["$late"], missed=grown["$missed"], within_percent=round(within, 3),
            lateness_p50_ms=round(float(np.percentile(lateness, 50)), 3),
            lateness_p99_ms=round(float(np.percentile(lateness, 99)), 3), failures=grown["$failures"],
            disconnected=lost, cpu_percent=round(100 * used.get(writer, 0.0) / seconds, 1),
            memory_mib=round(resident_bytes(writer) / 2**20, 1),
            simulators_cpu_percent=round(100 * sum(v for pid, v in used.items() if pid != writer) / seconds, 1),
            faults=tuple(self._faults(grown, within, lost)),
        )

    def _faults(self, grown: dict[str, int], within: float, lost: int) -> list[str]:
        found = []
        if lost:
            found.append(f"{plural(lost, 'device')} without a connection")
        if grown["$failures"]:
            found.append(f"{plural(grown['$failures'], 'request')} without a good answer")
        if within < self._least:
            found.append(f"{within:.2f} % of the polls in time; at least {self._least:g} % are wanted")
        if self._image.stale:
            found.append("the segment is stale")
        return found

    def _values(self, name: str) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = self._image.snapshot().records["value"][self._places[name]]
        return found


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        try:
            waiting += [int(child) for child in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
        except OSError:
            continue
    return found


def cpu_seconds(pid: int) -> float:
    """Time that a process has used, of both kinds; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Memory of a process; 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
