"""One number of many points: sums, means, extremes over a group, with the worst quality of its parts."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from endpoint_config import MqttAggregate
from mqtt_link import Message, fill
from process_image import Point, Snapshot, is_bad

from cpc.consumers.mqtt.payload import Clock, document
from cpc.consumers.mqtt.rules import Names, wanted

_GROUPS = ("site", "devicetype")


@dataclass(slots=True)
class Group:
    """The parts of one message."""

    values: list[float] = field(default_factory=list)
    quality: int = 0
    units: set[str] = field(default_factory=set)
    parts: int = 0

    def add(self, value: object, quality: int, unit: str) -> None:
        """A part; its value counts unless it is Bad or no finite number."""
        self.parts += 1
        self.units.add(unit)
        self.quality = worse(self.quality, quality)
        if not is_bad(quality) and isinstance(value, (bool, int, float)) and math.isfinite(value):
            self.values.append(float(value))

    def number(self, function: str) -> float | None:
        """The values as one; None where there is none."""
        if not self.values:
            return None
        if function == "sum":
            return math.fsum(self.values)
        if function == "mean":
            return math.fsum(self.values) / len(self.values)
        return min(self.values) if function == "minimum" else max(self.values)


def worse(one: int, other: int) -> int:
    """The worse of two qualities, by severity (the upper two bits); of two that are alike the first.

    >>> hex(worse(0x40900000, 0x800A0000)), hex(worse(0, 0x40900000))
    ('0x800a0000', '0x40900000')
    """
    return other if other >> 30 > one >> 30 else one


class Aggregate:
    """One `aggregate` of the settings: due at an interval, aligned to it so that all machines tell the same times."""

    def __init__(self, settings: MqttAggregate, names: Names) -> None:
        self.settings = settings
        self._names = names
        self._clock = Clock()
        self._members: dict[int, list[tuple[int, Point, tuple[str, ...]]]] = {}
        self._points: dict[int, tuple[Point, ...]] = {}
        self.due = self._next()

    def _next(self) -> float:
        interval = self.settings.interval
        return (time.time() // interval + 1) * interval

    def messages(self, snapshots: Sequence[Snapshot]) -> Iterator[Message]:
        """One for each group that has parts; sets when the next are due."""
        groups: dict[tuple[str, ...], Group] = {}
        for place, snapshot in enumerate(snapshots):
            for row, point, key in self._members_of(place, snapshot):
                sample = snapshot[row]
                groups.setdefault(key, Group()).add(sample.value, sample.quality, point.unit)
        at = self._clock.text(int(self.due * 1e9))
        for key, group in groups.items():
            yield self._message(dict(zip(_GROUPS, key, strict=True)), group, at)
        self.due = self._next()

    def _members_of(self, place: int, snapshot: Snapshot) -> list[tuple[int, Point, tuple[str, ...]]]:
        if self._points.get(place) is not snapshot.points:
            self._points[place] = snapshot.points
            s = self.settings
            self._members[place] = [
                (row, point, key) for row, point in enumerate(snapshot.points)
                if not point.is_text and wanted(point, s.include, s.exclude)
                and (key := self._key(point.device)) is not None]
        return self._members[place]

    def _key(self, alias: str) -> tuple[str, ...] | None:
        """The group of a device; None where the topic asks for what the device does not have."""
        names = self._names.of_device(alias)
        used = [name if f"{{{name}}}" in self.settings.topic else "" for name in _GROUPS]
        if any(name and not names[name] for name in used):
            return None
        return tuple(names[name] if name else "" for name in used)

    def _message(self, key: dict[str, str], group: Group, at: str) -> Message:
        s = self.settings
        common = self._names.of_device("")
        unit = s.unit or (next(iter(group.units)) if len(group.units) == 1 else "")
        payload = document(unit_id=key["site"] or key["devicetype"] or common["node"], sensor_type=s.name,
                           value=group.number(s.function), timestamp=at, quality=group.quality, unit=unit,
                           function=s.function, parts=group.parts)
        return Message(topic=fill(s.topic, {**common, **key, "name": s.name}), payload=payload, qos=s.qos)
