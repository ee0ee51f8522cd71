"""The publisher's own system points, and its alarm."""

from __future__ import annotations

import time

from mqtt_link import Link
from process_image import Point

from cpc.consumers.mqtt.outbox import Outbox

ALARM_SECONDS = 60.0
"""An alarm stays for so long after messages were dropped."""


def _counter(name: str, text: str) -> Point:
    return Point(name=name, type="uint64", description=text)


METRICS = (
    Point(name="$alarm", type="uint8", description="1 while nothing can be kept, or messages were dropped lately"),
    _counter("$published", "messages handed to the broker"),
    _counter("$acknowledged", "messages that the broker has taken"),
    _counter("$in_flight", "messages on their way to the broker now"),
    _counter("$refused", "messages that the broker refused"),
    _counter("$discarded", "messages that could not be sent, and may not be kept or could not be"),
    _counter("$kept", "messages that were put into the store"),
    _counter("$drained", "stored messages that were handed to the broker"),
    _counter("$waiting", "messages in the store now"),
    _counter("$dropped", "stored messages dropped for want of room or for age, since the store was made"),
    Point(name="$store_bytes", type="uint64", unit="By", description="what the store takes on disk"),
    _counter("$connects", "connections to a broker that came about"),
    Point(name="$bytes", type="uint64", unit="By", description="topics and payloads handed to the broker"),
)


class Alarm:
    """Whether somebody should look at the store."""

    def __init__(self) -> None:
        self.message = ""
        self._dropped: int | None = None
        self._dropped_at = 0.0

    def look(self, outbox: Outbox) -> None:
        """Called each turn."""
        dropped = 0 if outbox.store is None else outbox.store.dropped
        if self._dropped is not None and dropped > self._dropped:
            self._dropped_at = time.monotonic()
        if outbox.store is not None:
            self._dropped = dropped
        if outbox.disk_fault:
            self.message = f"store: {outbox.disk_fault}; make room on the disk"
        elif self._dropped_at and time.monotonic() - self._dropped_at < ALARM_SECONDS:
            self.message = "store: full, or messages too old: the oldest are dropped; look at the broker, or allow more"
        else:
            self.message = ""

    def counts(self, outbox: Outbox, link: Link) -> dict[str, float]:
        """Values of METRICS."""
        c, store = outbox.counts, outbox.store
        return {
            "$alarm": float(bool(self.message) or store is None), "$published": c.published,
            "$acknowledged": c.acknowledged, "$in_flight": outbox.in_flight, "$refused": c.refused,
            "$discarded": c.discarded, "$kept": c.kept, "$drained": c.drained, "$waiting": outbox.waiting,
            "$dropped": 0 if store is None else store.dropped, "$store_bytes": 0 if store is None else store.size,
            "$connects": link.connects, "$bytes": c.bytes,
        }
