"""What can be set: per link, per master session, per outstation. Frozen; checked once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from dnp3_outstation.errors import ConfigurationError
from dnp3_outstation.link import LAST_ADDRESS

LinkConfirm = Literal["never", "multiframe", "always"]
TimeSource = Literal["host", "master"]
SMALLEST_FRAGMENT: Final = 292
"""The longest octet string event, its headers and those of the response fit in."""
LARGEST_FRAGMENT: Final = 65535


class Instant(NamedTuple):
    """A moment, as the caller's clocks show it; the library has no clock of its own."""

    monotonic: float
    """Seconds on a clock that never steps; all time-outs count on it."""
    utc_ms: int
    """Milliseconds since 1970 in UTC by the host's clock."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkSettings:
    """The data link between this outstation and one master (clause 9)."""

    local: int = 10
    """Address of the outstation, 0..65519."""
    remote: int = 1
    """Address of the master, 0..65519."""
    self_address: bool = True
    """Whether frames to 0xFFFC are taken (and answered from `local`)."""
    confirm: LinkConfirm = "never"
    """Which fragments are sent as confirmed user data; `never` is right for TCP and is the default."""
    timeout: float = 2.0
    """Seconds to wait for a link confirmation or a link status."""
    retries: int = 3
    """Repetitions after the first attempt, 0..."""
    keep_alive: float = 60.0
    """Seconds without a frame from the master after which its link status is requested; 0 = never."""

    def __post_init__(self) -> None:
        """Refuse addresses that no device may have."""
        for name, address in (("outstation", self.local), ("master", self.remote)):
            if not 0 <= address <= LAST_ADDRESS:
                raise ConfigurationError(f"{name} address {address}; allowed are 0 to {LAST_ADDRESS}")
        if self.local == self.remote:
            raise ConfigurationError(f"outstation and master have the same address {self.local}; take two")


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionSettings:
    """One master's association with the outstation."""

    link: LinkSettings = field(default_factory=LinkSettings)
    """Its data link."""
    fragment: int = 2048
    """Largest fragment that is sent, octets, 292..65535."""
    receive_fragment: int = 2048
    """Largest fragment that is put together from received segments, octets."""
    confirm_timeout: float = 5.0
    """Seconds to wait for the application confirmation of a solicited response."""
    select_timeout: float = 10.0
    """Seconds within which an operate must follow its select."""
    max_controls: int = 32
    """Most controls in one request; more are answered TOO_MANY_OBJS."""
    event_buffers: tuple[int, int, int] = (10_000, 10_000, 10_000)
    """Most events kept of class 1, 2 and 3; 0 = none of that class."""
    unsolicited: bool = True
    """Whether unsolicited responses may be sent; the master enables the classes."""
    unsolicited_timeout: float = 5.0
    """Seconds to wait for the confirmation of an unsolicited response."""
    unsolicited_retries: int = 3
    """Identical repetitions before an unsolicited response is made anew."""
    unsolicited_pause: float = 10.0
    """Seconds between giving one up and sending the next."""
    hold_count: int = 100
    """Events that end the hold time early."""
    hold_time: float = 1.0
    """Seconds for which events are collected before an unsolicited response goes out."""
    time_source: TimeSource = "host"
    """`master`: NEED_TIME is set, and the master's time becomes an offset for event times."""
    time_interval: float = 3600.0
    """Seconds after which NEED_TIME is set again; 0 = once after each restart."""

    def __post_init__(self) -> None:
        """Refuse what can't work."""
        for name, size in (("fragment", self.fragment), ("receive_fragment", self.receive_fragment)):
            if not SMALLEST_FRAGMENT <= size <= LARGEST_FRAGMENT:
                raise ConfigurationError(
                    f"{name} of {size} octets; allowed are {SMALLEST_FRAGMENT} to {LARGEST_FRAGMENT}")
        if min(self.event_buffers) < 0 or len(self.event_buffers) != 3:
            raise ConfigurationError(f"event_buffers {self.event_buffers}; three sizes of 0 and more are needed")
