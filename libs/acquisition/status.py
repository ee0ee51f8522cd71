"""What the partition itself knows of a device, as points in the same memory: `alias/$connected` and its kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from process_image import Point

LAST_ERROR_BYTES = 256
"""Slot of `$last_error`; longer texts are cut at a character and marked as cut."""

_NUMERIC: tuple[tuple[str, str, str, str], ...] = (
    ("$connected", "uint8", "", "1 while the device answers, else 0"),
    ("$requests", "uint64", "", "requests sent since the writer started"),
    ("$failures", "uint64", "", "requests that brought no good answer since the writer started"),
    ("$response_ms", "float64", "ms", "time from the latest answered request to its answer"),
    ("$lateness_ms", "float64", "ms", "how much later than planned the latest poll began"),
    ("$late", "uint64", "", "polls that ended after their period since the writer started"),
    ("$missed", "uint64", "", "polls left out because the one before was still under way, since the writer started"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Extra:
    """A numeric system point that only some devices have."""

    name: str
    """With its `$`."""
    type: str
    """`uint64` or `float64`."""
    description: str
    unit: str = ""


def system_points(alias: str, extra: Sequence[Point] = (), own: Sequence[Extra] = ()) -> list[Point]:
    """The system points of one device, in the order in which DeviceStatus gives their values.

    `extra` are numeric ones that only its protocol has; all devices of a service have the same. `own` are those that
    only this device has.
    """
    numeric = [
        Point(name=name, device=alias, type=kind, unit=unit, description=text) for name, kind, unit, text in _NUMERIC
    ]
    error = Point(name="$last_error", device=alias, type="string", size=LAST_ERROR_BYTES,
                  description="the latest failure: device: operation address: what; what to do")
    mine = [Point(name=e.name, device=alias, type=e.type, unit=e.unit, description=e.description) for e in own]
    return [*numeric, *extra, error, *mine]


IDENTITY_CLASS = 86400.0
"""Scan class of `$identity` and `$tls`: a block of its own, as they come once a connection, not with the counters."""


def identity_point(alias: str) -> Point:
    """The system point of a device that is asked what it is: vendor, product, revision, as it says them itself."""
    return Point(name="$identity", device=alias, type="string", size=LAST_ERROR_BYTES, scan_class=IDENTITY_CLASS,
                 description="what the device says it is; empty where it does not say")


def tls_point(alias: str, role: str = "") -> Point:
    """The system point of a device behind TLS: version, cipher, our role, the device's certificate.

    `role` is that of our certificate; it stands in the schema as well.
    """
    return Point(name="$tls", device=alias, type="string", size=LAST_ERROR_BYTES, scan_class=IDENTITY_CLASS,
                 description="how the connection is secured: version, cipher, our role, the device's certificate",
                 extra=(("role", role),) if role else ())


_SERVICE: tuple[tuple[str, str], ...] = (
    ("semaphore_busy", "publishes that found the semaphore taken since the writer started"),
    ("semaphore_waits", "publishes that waited for it since the writer started"),
    ("semaphore_repairs", "semaphores posted for a dead holder or drained since the writer started"),
)


def service_points() -> list[Point]:
    """The system points of a service; they have no device: `$semaphore_busy`. Each segment shows its own counts."""
    return [Point(name=f"${name}", type="uint64", description=text) for name, text in _SERVICE]


def service_numbers(counters: object) -> tuple[int, ...]:
    """The values of `service_points` from a writer's counters, in the same order."""
    return tuple(int(getattr(counters, name)) for name, _ in _SERVICE)


@dataclass(slots=True)
class DeviceStatus:
    """Counters and state of one device; its producer changes them, the publisher writes them into the image."""

    connected: bool = False
    requests: int = 0
    failures: int = 0
    response_ms: float = 0.0
    lateness_ms: float = 0.0
    late: int = 0
    missed: int = 0
    last_error: str = ""
    extra: Callable[[], tuple[float, ...]] = field(default=tuple, repr=False)
    """Gives the values of the protocol's own system points."""
    own: list[float] = field(default_factory=list)
    """Values of the points that only this device has, in the order given to `system_points`."""
    on_urgent: Callable[[], None] = field(default=lambda: None, repr=False)
    """Called when something changed that must not wait for the next status tick."""

    def note_request(self, seconds: float) -> None:
        """A request was answered after `seconds`."""
        self.requests += 1
        self.response_ms = seconds * 1e3
        self.note_connected(True)

    def note_failure(self, text: str, *, connected: bool | None = None) -> None:
        """A request failed: `text` says device, operation, address, what, and what to do."""
        self.requests += 1
        self.failures += 1
        self.note_error(text)
        if connected is not None:
            self.note_connected(connected)

    def note_error(self, text: str) -> None:
        """Something to tell that is no request's failure."""
        if text != self.last_error:
            self.last_error = text
            self.on_urgent()

    def note_connected(self, connected: bool) -> None:
        """The device answers, or no longer does."""
        if connected != self.connected:
            self.connected = connected
            self.on_urgent()

    def numbers(self) -> tuple[float, ...]:
        """The numeric values in the order of `system_points`."""
        return (float(self.connected), self.requests, self.failures, self.response_ms, self.lateness_ms,
                self.late, self.missed, *self.extra())
