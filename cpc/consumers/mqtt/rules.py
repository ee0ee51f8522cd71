"""Which points are published how: the rules of the settings, laid out for the rows of one segment."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from endpoint_config import MqttRule, MqttSettings, Partition, attributes_of
from mqtt_link import fill
from process_image import Point

from cpc.consumers.mqtt.payload import Sensor

Rows = npt.NDArray[np.intp]


def wanted(point: Point, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether patterns choose a point; a system point only where a pattern names one (`*/$connected`)."""
    name = point.full_name
    if point.is_system:
        include = [pattern for pattern in include if "$" in pattern]
        if not include:
            return False
    chosen = not include or any(fnmatch.fnmatchcase(name, pattern) for pattern in include)
    return chosen and not any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude)


class Names:
    """What templates are filled with."""

    def __init__(self, settings: MqttSettings, partition: Partition) -> None:
        self._partition = partition
        self._common = {"node": settings.node, "name": settings.name}
        self._devices: dict[str, dict[str, str]] = {}

    def of_device(self, alias: str) -> dict[str, str]:
        """`id`, `device`, `site`, `devicetype`, `node`, `name`."""
        found = self._devices.get(alias)
        if found is None:
            known = attributes_of(alias, self._partition.devices)
            found = {**self._common, "device": alias, "id": known.id, "site": known.site,
                     "devicetype": known.devicetype}
            self._devices[alias] = found
        return found


class Plan:
    """The rules for the points of one layout, and what was last reported of each; made anew for a new layout."""

    def __init__(self, points: tuple[Point, ...], settings: MqttSettings, names: Names) -> None:
        self.points = points
        self.rules = settings.rules
        self.rule_of = np.full(len(points), -1, np.int16)
        """Number of the rule of each row, -1 = not published."""
        self.sensors: list[Sensor | None] = [None] * len(points)
        self.unit_ids: list[str] = [names.of_device(point.device)["id"] for point in points]
        self.connected: dict[int, str] = {
            row: p.device for row, p in enumerate(points) if p.name == "$connected" and p.device}
        """Rows of `$connected`, with their devices."""
        self.is_connected = np.zeros(len(points), bool)
        self.is_connected[list(self.connected)] = True
        self.faults: list[str] = []
        for row, point in enumerate(points):
            self._place(row, point, settings, names)
        by_rule = [self._column(lambda rule: rule.deadband), self._column(lambda rule: rule.deadband_percent),
                   self._column(lambda rule: rule.maximum_silence), self._column(lambda rule: rule.every)]
        self.absolute, self.percent, self.silence, self.every = by_rule
        self.compact = self._column(lambda rule: rule.format == "compact").astype(bool)
        self.by_change = (self.rule_of >= 0) & (self.every == 0)
        self.damped = self.by_change & ((self.absolute > 0) | (self.percent > 0))
        self.reported = np.zeros(len(points))
        """Value reported last."""
        self.reported_quality = np.full(len(points), -1, np.int64)
        """Its quality, -1 = nothing reported yet."""
        self.reported_at = np.full(len(points), time.monotonic())
        self.seen = np.zeros(len(points), bool)
        """Whether an entry of the row was read since the plan was made."""
        self.seen_sequence = np.zeros(len(points), np.uint32)

    def _place(self, row: int, point: Point, settings: MqttSettings, names: Names) -> None:
        for number, rule in enumerate(self.rules):
            if not wanted(point, rule.include, rule.exclude):
                continue
            template = rule.topic or (settings.compact_topic if rule.format == "compact" else settings.topic)
            try:
                topic = fill(template, {**names.of_device(point.device), "point": point.name})
            except ValueError as error:
                self.faults.append(f"{point.full_name}: {error}")
                return
            self.rule_of[row] = number
            self.sensors[row] = Sensor(point, self.unit_ids[row], topic)
            return

    def _column(self, of_rule: Callable[[MqttRule], float]) -> npt.NDArray[np.float64]:
        """A property of each row's rule; 0 for rows without one (row -1 of the table)."""
        values = np.array([*(float(of_rule(rule)) for rule in self.rules), 0.0])
        column: npt.NDArray[np.float64] = values[self.rule_of]
        return column

    def rule(self, row: int) -> MqttRule:
        """The rule of a row that has one."""
        return self.rules[int(self.rule_of[row])]

    def select(self, rows: Rows, values: npt.NDArray[np.float64], qualities: npt.NDArray[np.uint32]) -> Rows:
        """Which entries of a batch are reported; notes them as reported."""
        chosen = self.by_change[rows]
        for entry in np.flatnonzero(self.damped[rows]).tolist():
            row = int(rows[entry])
            chosen[entry] = self._differs(row, float(values[entry]), int(qualities[entry]))
            if chosen[entry]:  # later entries of this batch are measured against it
                self.reported[row], self.reported_quality[row] = values[entry], qualities[entry]
        entries = np.flatnonzero(chosen)
        self.note(rows[entries], values[entries], qualities[entries])
        return entries

    def note(self, rows: Rows, values: npt.NDArray[np.float64], qualities: npt.NDArray[np.uint32]) -> None:
        """These were reported now."""
        self.reported[rows], self.reported_quality[rows] = values, qualities
        self.reported_at[rows] = time.monotonic()

    def _differs(self, row: int, value: float, quality: int) -> bool:
        """Whether a value lies outside the deadband, or its quality is another one; NaN always does."""
        if quality != self.reported_quality[row] or self.points[row].is_text:
            return True
        before = float(self.reported[row])
        band = max(float(self.absolute[row]), abs(before) * float(self.percent[row]) / 100.0)
        return not abs(value - before) < band

    def silent(self, now: float) -> Rows:
        """Rows that have been silent too long."""
        return np.flatnonzero((self.silence > 0) & (now - self.reported_at >= self.silence))

    def note_seen(self, rows: Rows, sequences: npt.NDArray[np.uint32]) -> None:
        """Entries of these rows were read; a later one of a row stands behind an earlier one."""
        self.seen[rows], self.seen_sequence[rows] = True, sequences

    def missed(self, sequences: npt.NDArray[np.uint32]) -> Rows:
        """Rows of which a snapshot tells something that no entry has told: by the sequences of its records."""
        newer = (sequences - self.seen_sequence).astype(np.int32) > 0
        return np.flatnonzero(self.by_change & (~self.seen | newer))
