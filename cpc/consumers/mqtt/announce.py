"""What the broker retains about us and our devices: birth, heartbeat, last will; who answers and who does not."""

from __future__ import annotations

import time
from collections.abc import Iterator

from endpoint_config import MqttSettings
from mqtt_link import Message, fill

from cpc.consumers.mqtt.payload import Clock, document
from cpc.consumers.mqtt.rules import Names

QOS = 1


class Announcer:
    """Keeps the latest state of each, and says what the broker has not been told yet."""

    def __init__(self, settings: MqttSettings, names: Names) -> None:
        self._settings, self._names, self._clock = settings, names, Clock()
        self._states: dict[str, tuple[bool, int]] = {}
        self._untold: dict[str, None] = {}
        self._beat_at = 0.0
        self._topic = fill(settings.heartbeat_topic, {"node": settings.node, "name": settings.name})

    def will(self) -> Message:
        """What the broker says when we vanish."""
        return self._beat("offline", "connection lost")

    def farewell(self) -> Message:
        """What we say when we end in order."""
        return self._beat("offline", "stopped")

    def note(self, alias: str, connected: bool, at: int) -> None:
        """A device came or went at `at` (ns)."""
        before = self._states.get(alias)
        if before is None or before[0] != connected:
            self._states[alias] = (connected, at)
            self._untold[alias] = None

    def tell_all(self) -> None:
        """The broker is new, or was away: everything is to be told again, our own birth first."""
        self._untold.update(dict.fromkeys(self._states))
        self._beat_at = 0.0

    def due(self) -> Iterator[Message]:
        """What is to be told now; take only what can be sent."""
        if time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + self._settings.heartbeat
            yield self._beat("online", "")
        while self._untold:
            alias = next(iter(self._untold))
            del self._untold[alias]
            yield self._state(alias)

    def untell(self) -> None:
        """What `due` gave last could not be sent: all of it is told again later."""
        self.tell_all()

    def _state(self, alias: str) -> Message:
        connected, at = self._states[alias]
        names = self._names.of_device(alias)
        payload = document(unit_id=names["id"], status="online" if connected else "offline",
                           timestamp=self._clock.text(at or time.time_ns()))
        return Message(topic=fill(self._settings.status_topic, {**names, "point": "status"}), payload=payload, qos=QOS,
                       retain=True)

    def _beat(self, status: str, reason: str) -> Message:
        more = {"reason": reason} if reason else {}
        payload = document(node=self._settings.node, name=self._settings.name, status=status,
                           timestamp=self._clock.text(time.time_ns()), **more)
        return Message(topic=self._topic, payload=payload, qos=QOS, retain=True)
