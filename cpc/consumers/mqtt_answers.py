"""Answers to commands on their way to the broker: kept until it has acknowledged them, in their order, and bounded."""

from __future__ import annotations

from collections import OrderedDict, deque

from mqtt_link import Link, Message

MOST_KEPT = 1000
"""Answers; then the oldest is given up: the gate knows it still."""


class Answers:
    """Publishes with QoS 1 over a link that may be down; takes `on_up` and `on_acknowledged` of it."""

    def __init__(self, link: Link) -> None:
        self.lost = 0
        """Answers that were given up."""
        self._link = link
        self._waiting: deque[Message] = deque()
        self._on_the_way: OrderedDict[int, Message] = OrderedDict()
        """By number: published and not yet acknowledged."""
        link.on_up = self._came_up
        link.on_acknowledged = self._acknowledged

    def publish(self, topic: str, payload: bytes) -> None:
        """Send an answer, now or as soon as it can be."""
        self._waiting.append(Message(topic=topic, payload=payload, qos=1))
        if len(self._waiting) + len(self._on_the_way) > MOST_KEPT:
            self.lost += 1
            if self._on_the_way:
                self._on_the_way.popitem(last=False)
            else:
                self._waiting.popleft()
        self.step()

    def step(self) -> None:
        """Send what waits, as far as the broker takes it; call it each turn."""
        while self._waiting and self._link.up and len(self._on_the_way) < self._link.receive_maximum:
            number = self._link.publish(self._waiting[0])
            if number is None:
                return
            self._on_the_way[number] = self._waiting.popleft()

    def _came_up(self, kept: bool) -> None:
        if not kept:
            self._waiting.extendleft(reversed(self._on_the_way.values()))
            self._on_the_way.clear()

    def _acknowledged(self, number: int, _reason: int) -> None:
        self._on_the_way.pop(number, None)
