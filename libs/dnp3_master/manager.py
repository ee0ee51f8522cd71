"""Dnp3MasterManager: every outstation of one or more files, into the segments of one service."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from acquisition import HEARTBEAT_SECONDS, DeviceStatus, Health, Publisher, service_points, system_points
from endpoint_config import Dnp3Outstation, load_dnp3
from endpoint_config.dnp3_models import OUTSTATION_TYPES
from process_image import Point, Writer
from process_image.quality import BAD_COMMUNICATION_ERROR, BAD_DATA_LOST, BAD_TIMEOUT

from dnp3_master.qualities import quality_of

TICK = 0.02
"""Seconds between two looks into the queues: so much later than the outstation's answer a value is published."""
TYPES = {1: "bool", 3: "uint8", 10: "bool", 20: "uint32", 21: "uint32", 30: "float64", 40: "float64", 110: "string"}
"""Type of the points by group."""
TEXT_BYTES = 256
Paths = str | Path | Sequence[str | Path]


class Dnp3MasterManager:
    """Polls DNP3 outstations with opendnp3's master; a Producer (see acquisition). Needs the extra `dnp3-master`."""

    service = "dnp3"

    def __init__(self, xml_config_path: Paths, xsd_path: str | Path | None = None, *, interval: float = 1.0) -> None:
        """`xml_config_path`: one file or several; `interval` (s) between event polls where a file says none."""
        paths = [xml_config_path] if isinstance(xml_config_path, (str, Path)) else xml_config_path
        self._files = [Path(path) for path in paths]
        self._xsd = Path(xsd_path) if xsd_path is not None else None
        self._interval = interval
        self._outstations: tuple[Dnp3Outstation, ...] = ()
        self._points: tuple[Point, ...] = ()
        self._devices: list[_Device] = []
        self._stop = threading.Event()
        self._running = False

    def parse_clients(self) -> tuple[Dnp3Outstation, ...]:
        """Read and check the files; ConfigError (endpoint_config) with every fault where they can't be used."""
        self._outstations = load_dnp3(self._files, self._xsd)
        points = [point for one in self._outstations
                  for point in (*image_points(one, self._interval), *system_points(one.alias))]
        self._points = (*points, *service_points())
        return self._outstations

    @property
    def points(self) -> Sequence[Point]:
        """Every point it will publish."""
        return self._points

    def start_clients(self) -> None:
        """Get ready; connecting begins with `periodic_read`."""
        self._stop.clear()

    def periodic_read(self, interval: float, shm_list: Sequence[Writer], semaphore_list: Sequence[Any]) -> None:
        """Poll and publish until `stop_clients`; every reported change is published by itself."""
        import opendnp3

        from dnp3_master.session import Session

        publisher = Publisher(self._points, shm_list, semaphore_list)
        manager = opendnp3.DNP3Manager(1)
        self._devices = []
        self._running = True
        try:
            for one in self._outstations:
                every = interval if one.interval is None else one.interval
                self._devices.append(_Device(Session(manager, one, every), publisher, self._interval, every))
            while not self._stop.wait(TICK):
                for device in self._devices:
                    device.turn()
                publisher.flush()
        finally:
            self._running = False
            manager.Shutdown()

    def health(self) -> Health:
        """How many outstations answer now."""
        statuses = [device.status for device in self._devices] if self._running else []
        silent = [status.last_error for status in statuses if not status.connected]
        return Health(devices=len(self._outstations), connected=sum(status.connected for status in statuses),
                      running=self._running, message=next((text for text in silent if text), ""))

    def stop_clients(self) -> None:
        """End `periodic_read`; harmless when not running."""
        self._stop.set()


def image_points(outstation: Dnp3Outstation, interval: float) -> list[Point]:
    """The points of one outstation as they stand in the segment."""
    every = interval if outstation.interval is None else outstation.interval
    return [Point(name=p.name, device=outstation.alias, type=TYPES[OUTSTATION_TYPES[p.type]], unit=p.unit,
                  description=p.description, scan_class=every, size=TEXT_BYTES) for p in outstation.points]


class _Device:
    """From what one outstation told to the staging records."""

    def __init__(self, session: Any, publisher: Publisher, scan_class: float, every: float) -> None:
        self._session, self._publisher = session, publisher
        one: Dnp3Outstation = session.outstation
        self._block = publisher.block(one.alias, scan_class if one.interval is None else one.interval)
        self.status: DeviceStatus = publisher.status(one.alias)
        self._rows: dict[tuple[int, int], list[int]] = {}
        for point in one.points:
            row = publisher.index[f"{one.alias}/{point.name}"]
            self._rows.setdefault((OUTSTATION_TYPES[point.type], point.index), []).append(row)
        self._all = np.arange(self._block.start, self._block.start + self._block.count)
        self._late_after = int((max(every, HEARTBEAT_SECONDS) + one.timeout) * 2e9)
        self._was_open, self._dropped = False, 0
        self._open_until: float | None = time.monotonic() + one.timeout
        """When the first connection should stand; None once that was, or was told."""

    def turn(self) -> None:
        """Take what came since the last turn."""
        self._take_tasks()
        if self._was_open and not self._session.open:
            self._fail(BAD_COMMUNICATION_ERROR, "connection lost; is tried again")
        self._expect_connection()
        self._was_open = self._session.open
        staged: set[int] = set()
        values = self._session.queue.values
        for _ in range(len(values)):
            told = values.popleft()
            for row in self._rows.get((told.group, told.number), ()):
                if row in staged:  # two changes of one point are two publishes, so that the journal has both
                    self._publish()
                    self._publisher.flush()
                    staged.clear()
                self._stage(row, told)
                staged.add(row)
        if staged or self.status.connected:
            self._publish()
        if self._session.queue.dropped > self._dropped:
            self._dropped = self._session.queue.dropped
            self._fail(BAD_DATA_LOST, f"{self._dropped} values came faster than they could be published; poll less")

    def _expect_connection(self) -> None:
        """opendnp3 tells of connections that end, and of none that never was."""
        if self._open_until is None or self._session.open:
            self._open_until = None
        elif time.monotonic() > self._open_until:
            self._open_until, one = None, self._session.outstation
            self._fail(BAD_COMMUNICATION_ERROR, f"connect {one.host}:{one.port}: nobody listens there; is tried again")

    def _publish(self) -> None:
        self._publisher.touch(self._block.index, time.monotonic_ns() + self._late_after)

    def _stage(self, row: int, told: Any) -> None:
        records = self._publisher.records
        if isinstance(told.value, bytes):
            self._publisher.set_text(row, told.value.decode("utf-8", "replace"))
        else:
            point = self._publisher.points[row]
            records["value"][row] = told.value
            floating = point.type == "float64"
            records["raw"][row] = records["value"][row : row + 1].view("u8")[0] if floating else int(told.value)
        records["quality"][row] = quality_of(told.flags, told.group)
        records["received_time"][row] = told.received_ns
        records["source_time"][row] = told.time_ms * 1_000_000 or told.received_ns

    def _take_tasks(self) -> None:
        tasks = self._session.tasks
        while tasks:
            name, result = tasks.popleft()
            if result == "SUCCESS":
                self.status.note_request(0.0)
            else:
                lost = result == "FAILURE_NO_COMMS"
                self._fail(BAD_COMMUNICATION_ERROR if lost else BAD_TIMEOUT,
                           f"{name.lower()}: {result.lower()}; is tried again")

    def _fail(self, quality: int, why: str) -> None:
        alias = self._session.outstation.alias
        self.status.note_failure(f"{alias}: {why}", connected=False)
        self._publisher.fail(self._all, quality, time.time_ns())
        self._publish()
