"""What is published."""

from __future__ import annotations

from typing import NamedTuple


class Message(NamedTuple):
    """Something to publish."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


Will = Message
"""What the broker publishes when the connection is lost without a farewell."""
