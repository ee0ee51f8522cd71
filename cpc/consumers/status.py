"""The status segment of a consumer: how it is, as system points that any reader sees, and its heartbeat.

A consumer writes to no segment that it reads; this small one is its own, named after it: `status_shm_NAME`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from process_image import ImageError, Point, Writer, create
from process_image.quality import GOOD

from cpc.consumers.contract import Consumer
from cpc.logs import event
from cpc.names import segment_name, semaphore_name

HEARTBEAT_SECONDS = 0.25
REFRESH_SECONDS = 1.0
"""Numbers go out so often; a change of `$connected` or `$last_error` goes out at once."""
LOOK_SECONDS = 0.1
"""A busy consumer turns many times a millisecond: it is asked how it is no more often than this."""
JOURNAL_ENTRIES = 4096

_log = logging.getLogger("status")

_COMMON = (
    Point(name="$connected", type="uint8", description="1 while what the consumer feeds answers, else 0"),
    Point(name="$entries", type="uint64", description="journal entries read since the start"),
    Point(name="$lost", type="uint64", description="journal entries overwritten before they could be read"),
    Point(name="$lag", type="uint64", description="journal entries not read yet"),
    Point(name="$last_error", type="string", size=256, description="what is wrong, and what to do"),
)


def status_points(device: str, own: Sequence[Point] = ()) -> list[Point]:
    """Every point of a consumer's status segment; its name stands as the device."""
    return [Point(name=p.name, device=device, type=p.type, unit=p.unit, size=p.size, description=p.description)
            for p in (*_COMMON, *own)]


class StatusBoard:
    """Writes the status of one consumer. Where there is no room or right to, it says so once and does nothing."""

    def __init__(self, name: str, namespace: str, consumer: Consumer, *, unlink: bool) -> None:
        self._consumer, self._name, self._unlink = consumer, name, unlink
        self._writer = self._take(namespace)
        self._names = [] if self._writer is None else [p.name for p in self._writer.points]
        self._rows = {name: row for row, name in enumerate(self._names)}
        self._next_heartbeat = self._next_refresh = self._next_look = 0.0
        self._told: tuple[bool, str] | None = None

    def _take(self, namespace: str) -> Writer | None:
        segment = segment_name("status", namespace, self._name)
        try:
            return create(segment, status_points(self._name, self._consumer.metrics),
                          semaphore=semaphore_name("status", namespace, self._name), journal_entries=JOURNAL_ENTRIES)
        except (ImageError, OSError) as error:
            event(_log, logging.WARNING, "no status segment, so its state is in this log alone", segment=segment,
                  reason=error)
            return None

    def tick(self) -> None:
        """Write what is due; called after each step, so that a consumer that hangs is seen at once."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        health = self._consumer.health()
        told = (health.connected, health.message)
        changed = told != self._told
        if changed:
            self._log(told)
        if self._writer is None:
            return
        if changed or now >= self._next_refresh:
            self._next_refresh = now + REFRESH_SECONDS
            self._publish(self._writer, {**self._common(health.connected), **health.counts}, health.message)
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + HEARTBEAT_SECONDS * 0.9
            self._writer.heartbeat()

    def close(self) -> None:
        """Give the segment up."""
        if self._writer is not None:
            self._writer.close(unlink=self._unlink)
            self._writer = None

    def _common(self, connected: bool) -> dict[str, float]:
        feeds = getattr(self._consumer, "feeds", ())
        return {"$connected": float(connected), "$entries": sum(f.read for f in feeds),
                "$lost": sum(f.lost for f in feeds), "$lag": sum(f.lag for f in feeds)}

    def _publish(self, writer: Writer, numbers: dict[str, float], message: str) -> None:
        now = time.time_ns()
        records = writer.records
        for name, number in numbers.items():
            row = self._rows[name]
            records["value"][row] = number
            floating = writer.points[row].type == "float64"
            records["raw"][row] = records["value"][row : row + 1].view("u8")[0] if floating else max(0, int(number))
        writer.set_text(self._rows["$last_error"], message)
        records["quality"] = GOOD
        records["source_time"] = records["received_time"] = now
        due = time.monotonic_ns() + int(3 * REFRESH_SECONDS * 1e9)
        writer.publish(list(range(len(writer.blocks))), next_due=[due] * len(writer.blocks))

    def _log(self, told: tuple[bool, str]) -> None:
        before = self._told
        self._told = told
        if told[1] and (before is None or told[1] != before[1]):
            event(_log, logging.WARNING, "not well", consumer=self._name, error=told[1])
        elif told[0] and (before is None or not before[0]):
            event(_log, logging.INFO, "connected", consumer=self._name)
