"""What files say of DNP3, as frozen, typed models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .consumer_models import ConsumerSettings

POINT_TYPES = {
    "binary input": 1, "double-bit input": 3, "binary output": 10, "counter": 20, "analog input": 30,
    "analog output": 40, "octet string": 110,
}
"""Names of DNP3 point types and the groups of their static objects."""
STATIC_VARIATIONS = {1: (1, 2), 3: (1, 2), 10: (1, 2), 20: (1, 2, 5, 6), 30: (1, 2, 3, 4, 5, 6), 40: (1, 2, 3, 4)}
"""Variations in which the values of each group can be served; octet strings have none to choose."""
EVENT_VARIATIONS = {1: (1, 2, 3), 3: (1, 2, 3), 10: (1, 2), 20: (1, 2, 5, 6), 30: (1, 2, 3, 4, 5, 6, 7, 8),
                    40: (1, 2, 3, 4, 5, 6, 7, 8)}
"""The same for the events of each group."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dnp3MapPoint:
    """One entry of a map: a point, or all points that a pattern matches."""

    name: str
    """Full name or pattern (`*`, `?`)."""
    type: str = ""
    """One of POINT_TYPES, `none`, or empty = by the point itself."""
    index: int | None = None
    """Index within its type; for a pattern that of its first point; None = the next free one."""
    event_class: int | None = None
    """0 to 3; None = by type."""
    static_variation: int | None = None
    event_variation: int | None = None
    deadband: float = 0.0
    """In units of the DNP3 value."""
    scale: float = 1.0
    """DNP3 value = value of the point x scale."""
    frozen_class: int = 0
    """Class of the events of its frozen counter."""
    command_class: int = 0
    """Class of command events."""
    line: int = field(default=0, compare=False)

    @property
    def is_pattern(self) -> bool:
        """Whether several points may match."""
        return bool(set(self.name) & set("*?"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Dnp3Map:
    """dnp3-map.xml: which points an outstation serves, and how."""

    points: tuple[Dnp3MapPoint, ...] = ()
    """In the file's order; the first entry that matches counts."""
    automatic: bool = True
    """Whether points that no entry names are served."""
    system_points: bool = False
    """Whether system points are among those."""
    file: Path = field(default=Path(), compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dnp3Master:
    """One master that an outstation serves."""

    address: int = 1
    """Link address, 0 to 65519."""
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks from which it may connect."""
    connect: tuple[str, int] | None = None
    """Host and port to connect to; None = the master connects."""
    unsolicited: bool = True
    hold_time: float = 1.0
    """Seconds for which events are collected before an unsolicited response."""
    hold_count: int = 100
    """Events that end the hold time early."""
    retries: int = 3
    """Repetitions of an unsolicited response."""
    confirm_timeout: float = 5.0
    """Seconds to wait for application confirmations."""
    select_timeout: float = 10.0
    event_buffers: tuple[int, int, int] = (10_000, 10_000, 10_000)
    """Most events of class 1, 2 and 3."""
    fragment: int = 2048
    """Largest fragment sent, octets."""
    link_confirm: str = "never"
    """`never`, `multiframe` or `always`."""
    keep_alive: float = 60.0
    """Seconds of silence after which the link status is requested; 0 = never."""
    time_source: str = "host"
    """`host`, or `master`: its time becomes an offset of event times."""
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dnp3Tls:
    """Certificates of a TLS connection; both sides prove who they are."""

    certificate: Path
    key: Path
    ca: Path
    """Certificates of the authorities (or of the peers themselves) that are trusted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dnp3Serial:
    """A serial line in place of TCP."""

    device: str
    baudrate: int = 9600
    """8 data bits, no parity, 1 stop bit, as DNP3 asks for."""


@dataclass(frozen=True, kw_only=True)
class Dnp3Consumer(ConsumerSettings):
    """The element dnp3 of partition.xml: an outstation on the segments."""

    outstation: int = 10
    """Its link address."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 20000
    """Port to listen on, 0 = any free one."""
    map: Dnp3Map = field(default_factory=Dnp3Map)
    self_address: bool = True
    """Whether it answers to 0xFFFC."""
    local_control: bool = False
    """Whether controls are refused as LOCAL."""
    masters: tuple[Dnp3Master, ...] = (Dnp3Master(),)
    tls: Dnp3Tls | None = None
    serial: Dnp3Serial | None = None
    device_name: str = ""
    """User-assigned name among the device attributes."""
    location: str = ""
    """User-assigned location."""


OUTSTATION_TYPES = {**POINT_TYPES, "frozen counter": 21}
"""Names of the types that can be polled, and the groups of their static objects."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dnp3Point:
    """One value of an outstation."""

    name: str
    type: str
    """One of OUTSTATION_TYPES."""
    index: int
    unit: str = ""
    description: str = ""
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dnp3Outstation:
    """One outstation to poll."""

    alias: str
    host: str = "127.0.0.1"
    port: int = 20000
    address: int = 10
    """Its link address."""
    master: int = 1
    """Our own link address."""
    timeout: float = 5.0
    """Seconds to wait for an answer."""
    interval: float | None = None
    """Seconds between polls of the event classes; None = the service's default."""
    integrity_interval: float = 3600.0
    unsolicited: bool = True
    points: tuple[Dnp3Point, ...] = ()
    file: Path = field(default=Path(), compare=False)
    line: int = field(default=0, compare=False)
