"""How a checked command reaches a device: the one contract between the command gate and the clients that own devices.

A client never decides whether somebody may write. It refuses what the point itself can't take (type, range, not
writable), writes at most once, reads back where asked, and says what the device did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

Value = bool | int | float | str | bytes
"""A value in engineering units, typed as the point is."""


class WriteOutcome(StrEnum):
    """The one definite answer to a write."""

    VERIFIED = "verified"
    """Written, read back, and the same within the tolerance."""
    WRITTEN = "written"
    """The device confirmed; reading back was not possible or not wanted."""
    NOT_VERIFIED = "not-verified"
    """The device confirmed, and then something else was read back, or nothing; `read` says what."""
    REFUSED = "refused"
    """Not sent: the point can't take it."""
    FAILED = "failed"
    """Not done: the device refused it, or it could not be sent."""
    TIMED_OUT = "timed-out"
    """Sent without an answer in time: whether the device acted is unknown; it is not sent again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteRequest:
    """One value for one point."""

    point: str
    """Full name, `alias/name`."""
    value: Value
    verify: bool = True
    """Read back and compare; False for pulses and points that only take values."""
    tolerance: float = 0.0
    """Largest difference in engineering units that still counts as verified, beside the step of the encoding."""
    deadline: float = 5.0
    """Seconds from now for everything; what has not been sent by then never is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteResult:
    """What became of it."""

    outcome: WriteOutcome
    message: str = ""
    """Empty when all went well, else `device: operation address: what; what to do`."""
    quality: int = 0
    """OPC UA StatusCode of the answer: the server's own, or what the Modbus exception means; 0 = Good."""
    previous: Value | None = None
    """The last good value before the write, None where none is known."""
    read: Value | None = None
    """What was read back, None where nothing was."""
    sent: bool = False
    """Whether the write left for the device."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WritablePoint:
    """What a point takes; for checks before a request is passed on."""

    point: str
    """Full name, `alias/name`."""
    type: str
    """As `Point.type` of the image."""
    unit: str = ""
    minimum: float | None = None
    """In engineering units; outside is refused."""
    maximum: float | None = None


@runtime_checkable
class Writing(Protocol):
    """A producer whose points can be written while it polls."""

    def writable_points(self) -> tuple[WritablePoint, ...]:
        """Every point that its file marks as writable."""

    def submit_write(self, request: WriteRequest, done: Callable[[WriteResult], None]) -> None:
        """Have it carried out between polls; from any thread, never blocks, never raises for a bad request.

        `done` is called exactly once, from the producer's own thread, and must not block. Bounded: at most a few
        writes a poll cycle of a device, so that writes neither starve polling nor wait behind it.
        """
