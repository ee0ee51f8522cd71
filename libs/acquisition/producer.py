"""The one small contract of everything that fills a segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from process_image import Point, Writer


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """How a producer is, for supervisor and log."""

    devices: int
    """Devices configured."""
    connected: int
    """Devices that answer now."""
    running: bool
    """Whether `periodic_read` is at work."""
    message: str = ""
    """What a person should know, empty when all is well."""


@runtime_checkable
class Producer(Protocol):
    """A source of points: owns its devices and the lease of the segments it fills.

    Order of calls: the configuration is read (each producer's own loading methods), then `points` is complete,
    then `start_clients`, `periodic_read` (blocks until stopped), `stop_clients` from any thread or signal handler.
    """

    @property
    def service(self) -> str:
        """Short name: `modbus` gives the segment modbus_shm."""

    @property
    def points(self) -> Sequence[Point]:
        """Every point it will publish, system points included."""

    def start_clients(self) -> None:
        """Get ready to poll or to be told; a device that is down is no error."""

    def periodic_read(self, interval: float, shm_list: Sequence[Writer], semaphore_list: Sequence[Any]) -> None:
        """Acquire and publish until stopped; `interval` (s) is for points whose file names none, 0 = back to back."""

    def health(self) -> Health:
        """How it is, at any time and from any thread."""

    def stop_clients(self) -> None:
        """End `periodic_read` within two seconds and close every connection; harmless when not running."""
