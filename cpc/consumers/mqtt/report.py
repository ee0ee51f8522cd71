"""Entries as messages: one for each, or, where the rule is compact, one for each device and cycle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mqtt_link import Message
from process_image import Changes, Snapshot, is_bad
from process_image.quality import BAD_WAITING_FOR_INITIAL_DATA

from cpc.consumers.mqtt.payload import Clock, compact, number, text, time_of
from cpc.consumers.mqtt.rules import Plan, Rows


class Entry(NamedTuple):
    """One value to tell."""

    row: int
    value: str
    """As JSON."""
    stamp: int
    """ns since the Unix epoch."""
    quality: int
    position: int
    """Of its entry in the journal; 0 where it came from a snapshot."""
    cycle: int
    """What was published at once has one number."""


class Report(NamedTuple):
    """A message and what of the journal it stands for."""

    message: Message
    position: int
    """Of its first entry."""
    behind: int
    """All before it has been told, or is in this message or an earlier one."""
    store: bool


def entries_of(plan: Plan, changes: Changes, chosen: Rows) -> Iterator[Entry]:
    """The chosen entries of a batch."""
    first = changes.cursor.position - len(changes)
    records = changes.records[chosen]
    columns = (chosen.tolist(), changes.rows[chosen].tolist(), *(records[name].tolist() for name in (
        "value", "raw", "quality", "source_time", "received_time")), changes.published[chosen].tolist())
    for entry, row, value, raw, quality, source, received, cycle in zip(*columns, strict=True):
        sensor = plan.sensors[row]
        if sensor is not None:
            if source == 0 and is_bad(quality):
                made = "null"
            else:
                made = number(value, raw, sensor.kind) if sensor.kind else text(changes.value(entry))
            yield Entry(row, made, time_of(source, received, quality), quality, first + entry, cycle)


def entries_of_snapshot(plan: Plan, snapshot: Snapshot, rows: Rows) -> Iterator[Entry]:
    """Rows of a snapshot as they stand there; what was never tried to read is left out."""
    for row in rows.tolist():
        sample = snapshot[row]
        tried = sample.value is not None or sample.raw_quality != BAD_WAITING_FOR_INITIAL_DATA
        if tried and plan.sensors[row] is not None:
            sensor_kind = "" if sample.point.is_text or sample.value is None else sample.point.type
            record = snapshot.records[row]
            made = (number(float(record["value"]), int(record["raw"]), sensor_kind) if sensor_kind
                    else text(sample.value))
            stamp = time_of(sample.source_time, sample.received_time, sample.quality)
            yield Entry(row, made, stamp, sample.quality, 0, 0)


class Reporter:
    """Makes messages of entries."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self._plan, self._clock = plan, clock
        self._groups: dict[str, list[Entry]] = {}
        self._cycle = 0

    def messages(self, entries: Iterable[Entry], end: int) -> Iterator[Report]:
        """Messages of one batch, whose journal entries end before `end`."""
        plan = self._plan
        for entry in entries:
            if self._groups and entry.cycle != self._cycle:
                yield from self._flush(entry.position)
            if plan.compact[entry.row]:
                self._cycle = entry.cycle
                sensor = plan.sensors[entry.row]
                self._groups.setdefault(sensor.topic if sensor else "", []).append(entry)
                continue
            behind = entry.position + 1
            if self._groups:
                behind = min(behind, next(iter(self._groups.values()))[0].position)
            yield self._single(entry, behind)
        yield from self._flush(end)

    def _single(self, entry: Entry, behind: int) -> Report:
        sensor, rule = self._plan.sensors[entry.row], self._plan.rule(entry.row)
        assert sensor is not None
        payload = sensor.message(entry.value, self._clock.text(entry.stamp), entry.quality)
        return Report(Message(topic=sensor.topic, payload=payload, qos=rule.qos, retain=rule.retain), entry.position,
                      behind, rule.store)

    def _flush(self, end: int) -> Iterator[Report]:
        """The groups in the order of their first entries."""
        groups = list(self._groups.items())
        self._groups.clear()
        for number_, (topic, group) in enumerate(groups):
            head = group[0]
            rule = self._plan.rule(head.row)
            named = [(self._name(e.row), e.value, e.stamp, e.quality) for e in group]
            payload = compact(self._plan.unit_ids[head.row], self._clock.text(head.stamp), head.stamp, named)
            behind = groups[number_ + 1][1][0].position if number_ + 1 < len(groups) else end
            yield Report(Message(topic=topic, payload=payload, qos=rule.qos, retain=rule.retain), head.position, behind,
                         rule.store)

    def _name(self, row: int) -> str:
        return self._plan.points[row].name
