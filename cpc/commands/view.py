"""The partition's points as the gate sees them: read-only attachments to the segments of its services."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from process_image import Image, ImageError, Point, Snapshot, attach

from cpc.commands.conditions import Present

LOOK_AGAIN = 0.2
"""Seconds between looks for a segment that is not there."""


class SegmentView:
    """Points of several segments; one that is not there has none, and is looked for again."""

    def __init__(self, segments: Mapping[str, str]) -> None:
        """`segments` are names by service."""
        self._names = dict(segments)
        self._images: dict[str, Image] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._look_after = dict.fromkeys(segments, 0.0)

    def refresh(self) -> None:
        """Forget what was read: the next look is at the present. Values are read once between two calls."""
        self._snapshots.clear()

    def owner(self, name: str) -> str | None:
        """The service whose segment holds a point."""
        return next((service for service, snapshot in self._all() if name in snapshot), None)

    def point(self, name: str) -> Point | None:
        """As `View.point`."""
        for _, snapshot in self._all():
            if name in snapshot:
                return snapshot.points[snapshot.row(name)]
        return None

    def present(self, name: str) -> Present | None:
        """As `View.present`."""
        for _, snapshot in self._all():
            if name in snapshot:
                sample = snapshot[name]
                return Present(value=sample.value, quality=sample.quality, age=sample.age,
                               received=sample.received_time / 1e9)
        return None

    def services(self) -> Sequence[str]:
        """The services whose segments are there now."""
        return [service for service, _ in self._all()]

    def close(self) -> None:
        """Let go of all segments."""
        for image in self._images.values():
            image.close()
        self._images.clear()
        self._snapshots.clear()

    def _all(self) -> Iterator[tuple[str, Snapshot]]:
        for service in self._names:
            snapshot = self._snapshots.get(service) or self._snapshot(service)
            if snapshot is not None:
                yield service, snapshot

    def _snapshot(self, service: str) -> Snapshot | None:
        image = self._images.get(service)
        now = time.monotonic()
        try:
            if image is None:
                if now < self._look_after[service]:
                    return None
                self._look_after[service] = now + LOOK_AGAIN
                image = self._images[service] = attach(self._names[service])
            snapshot = self._snapshots[service] = image.snapshot()
        except ImageError:
            gone = self._images.pop(service, None)
            if gone is not None:
                gone.close()
            return None
        return snapshot
