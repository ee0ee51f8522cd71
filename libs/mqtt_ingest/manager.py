"""The producer: links to brokers, messages to records, counters of what was not taken."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from acquisition import Health, Publisher, service_points, system_points
from endpoint_config import MqttSource, MqttUnit, load_mqtt
from mqtt_link import Link
from paho.mqtt.client import MQTTMessage
from process_image import Point, Writer
from process_image.quality import BAD_COMMUNICATION_ERROR, GOOD, UNCERTAIN_ENGINEERING_UNITS_EXCEEDED

from mqtt_ingest.messages import REASONS, RefusedMessage, check_time, check_type, parse

TURN = 0.1
"""Longest sleep, seconds: heartbeats and stops are seen so soon."""
COUNTERS = ("accepted", *REASONS)
Paths = str | Path | Sequence[str | Path]


class MqttIngestManager:
    """Subscribes, checks, and publishes into its segments what is right; see acquisition.Producer."""

    service = "mqtt"

    def __init__(self, xml_config_path: Paths, xsd_path: str | Path | None = None, *, interval: float = 1.0) -> None:
        """`interval` is for producers that poll; here values come when they come."""
        self._paths, self._xsd = xml_config_path, xsd_path
        self.sources: tuple[MqttSource, ...] = ()
        self.points: Sequence[Point] = ()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopped = False
        self._running: list[_Intake] = []
        del interval

    def parse_clients(self) -> None:
        """Read the files; raises ConfigError."""
        self.sources = load_mqtt(self._paths, self._xsd)
        self.points = [point for source in self.sources for point in _points(source)] + service_points()

    def start_clients(self) -> None:
        """Ready to be told; a broker that is down is no error."""

    def periodic_read(self, interval: float, shm_list: Sequence[Writer], semaphore_list: Sequence[Any]) -> None:
        """Take messages and publish them until stopped."""
        del interval
        publisher = Publisher(self.points, shm_list, semaphore_list)
        self._running = [_Intake(source, publisher) for source in self.sources]
        try:
            while not self._stopped:
                for intake in self._running:
                    intake.step()
                publisher.flush()
                self._wait(0.001 if publisher.pending_wake else TURN)
        finally:
            running, self._running = self._running, []
            for intake in running:
                intake.link.close()
            self._stopped = False
            with contextlib.suppress(BlockingIOError):  # else the next run would never wait
                os.eventfd_read(self._wake)

    def _wait(self, timeout: float) -> None:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        links = {intake.link.descriptor: intake.link for intake in self._running if intake.link.descriptor >= 0}
        for descriptor, link in links.items():
            poller.register(descriptor, link.events)
        connecting = any(intake.link.connecting for intake in self._running)
        pending = any(link.has_pending for link in links.values())
        ready = dict(poller.poll(0 if pending else min(timeout, 0.02 if connecting else timeout) * 1000))
        for descriptor, link in links.items():
            if descriptor in ready or link.has_pending:
                link.serve(ready.get(descriptor, 0))

    def health(self) -> Health:
        """Units count as connected while their broker is."""
        running = list(self._running)
        message = next((i.link.message for i in running if i.link.message), "")
        return Health(devices=sum(len(s.units) for s in self.sources), running=bool(running), message=message,
                      connected=sum(len(i.source.units) for i in running if i.link.up))

    def stop_clients(self) -> None:
        """The loop sees it at once."""
        self._stopped = True
        os.eventfd_write(self._wake, 1)


def _points(source: MqttSource) -> list[Point]:
    """Counters of the source, and the points of its units with their system points."""
    made = [Point(name=name, device=source.alias, type="uint64", description=f"messages since the start: {name}")
            for name in COUNTERS]
    for unit in source.units:
        made += [Point(name=p.name, device=unit.alias, type=p.datatype, size=p.size, unit=p.unit,
                       range=(p.minimum, p.maximum), description=p.description) for p in unit.points]
        made += system_points(unit.alias)
    return made


class _Intake:
    """One source at work; used by the publishing thread."""

    def __init__(self, source: MqttSource, publisher: Publisher) -> None:
        self.source, self._publisher = source, publisher
        self.link = Link(source.connection, source.alias)
        self.link.on_message = self._on_message
        self.link.on_up = lambda _kept: self._note_link(True)
        self.link.on_down = lambda: self._note_link(False)
        self.link.subscribe(dict(source.topics))
        self._units: dict[str, MqttUnit] = {unit.id: unit for unit in source.units}
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._counted = True
        self._message = ""

    def step(self) -> None:
        """Keep the link; stage the counters where they changed."""
        self.link.step()
        if self.link.message != self._message:
            self._message = self.link.message
            for unit in self.source.units:
                self._publisher.status(unit.alias).note_error(self._message)
        if self._counted:
            self._counted = False
            self._stage_counts()

    def _stage_counts(self) -> None:
        publisher = self._publisher
        block = publisher.block(self.source.alias, 0.0)
        records = publisher.records[block.start : block.start + block.count]
        numbers = list(self._counts.values())
        records["value"], records["raw"] = numbers, numbers
        records["quality"] = GOOD
        records["source_time"] = records["received_time"] = time.time_ns()
        publisher.touch(block.index, 0)

    def _note_link(self, up: bool) -> None:
        """Without the broker nothing is known any more: the last values stay, with a Bad quality."""
        for unit in self.source.units:
            self._publisher.status(unit.alias).note_connected(up)
            if not up:
                block = self._publisher.block(unit.alias, 0.0)
                self._publisher.fail(slice(block.start, block.start + block.count), BAD_COMMUNICATION_ERROR,
                                     time.time_ns())
                self._publisher.touch(block.index, 0)

    def _on_message(self, message: MQTTMessage) -> None:
        self._counted = True
        unit = None
        try:
            reading = parse(bytes(message.payload), self.source.max_bytes)
            unit = self._units.get(reading.unit_id)
            if unit is None:
                raise RefusedMessage("unknown_unit", f"unit {reading.unit_id[:60]!r} is not in the file")
            self._take(unit, reading)
            self._counts["accepted"] += 1
            self._publisher.status(unit.alias).requests += 1
        except RefusedMessage as refused:
            self._counts[refused.reason] += 1
            if unit is not None:
                status = self._publisher.status(unit.alias)
                status.requests += 1
                status.failures += 1
                status.note_error(f"{unit.alias}: message: {refused}; look at who sends it")

    def _take(self, unit: MqttUnit, reading: Any) -> None:
        point = next((p for p in unit.points if p.name == reading.sensor_type), None)
        if point is None:
            raise RefusedMessage("unknown_point", f"{reading.sensor_type[:60]!r} is no point of this unit")
        check_type(reading.value, point.datatype)
        publisher = self._publisher
        row = publisher.index[f"{unit.alias}/{point.name}"]
        record = publisher.records[row]
        check_time(reading.time, self.source.max_age, int(record["source_time"]))
        quality = reading.quality
        if isinstance(reading.value, str):
            publisher.set_text(row, reading.value)
        else:
            value = float(reading.value)
            record["value"] = value
            floating = point.datatype.startswith("float")
            record["raw"] = np.float64(value).view(np.uint64) if floating else int(reading.value) % (1 << 64)
            low, high = point.minimum, point.maximum
            if not quality and ((low is not None and value < low) or (high is not None and value > high)):
                quality = UNCERTAIN_ENGINEERING_UNITS_EXCEEDED
        record["quality"], record["source_time"], record["received_time"] = quality, reading.time, time.time_ns()
        publisher.touch(publisher.block(unit.alias, 0.0).index, 0)
