"""A message on its way, and what is counted of all of them."""

from __future__ import annotations

from dataclasses import dataclass

from cpc.consumers.mqtt.source import Outgoing


@dataclass(slots=True)
class Counts:
    """Since the start."""

    published: int = 0
    acknowledged: int = 0
    refused: int = 0
    discarded: int = 0
    """Messages that could not be sent and may not be kept, or could not be."""
    kept: int = 0
    drained: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Flight:
    """A message that was taken from where it came from, and is not done."""

    outgoing: Outgoing
    number: int
    """Counts up over all messages taken."""
    stored: int = 0
    """Its number in the store, 0 = not there."""
    qos: int = 0
    """What it was sent with."""
    sent: int = 0
    """Counts up over all messages sent."""
