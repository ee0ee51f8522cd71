"""What a partition file says, as frozen, typed models: see `models`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .consumer_models import ConsumerSettings, DeviceAttributes
from .rule_models import CommandSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Audience:
    """A consumer group with a segment of its own for a service."""

    name: str
    """Part of the names: SERVICE_shm_NAME, SERVICE_semaphore_NAME; empty for the service's own segment."""
    group: str | None = None
    """Group that may read; None = the primary group of the writer."""
    mode: int = 0o640
    """File mode of the segment; the semaphore gets 0660 of the same owner and group."""
    include: tuple[str, ...] = ()
    """Patterns (fnmatch, on alias/name) of points; empty = all."""
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """One acquisition service: its files, and who may read what it publishes."""

    kind: str
    """`modbus` or `opcua`."""
    files: tuple[Path, ...] = ()
    audiences: tuple[Audience, ...] = (Audience(name=""),)
    """The first is the service's own segment."""
    journal_entries: int = 65536
    repair_after: float = 10.0
    """Seconds until a semaphore that stays taken is repaired."""
    line: int = 0
    """Where it stands in the partition file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """partition.xml: what one partition runs."""

    namespace: str = ""
    """Prefix of every name: `x` gives x_modbus_shm."""
    interval: float = 1.0
    """Default scan class in seconds."""
    services: tuple[Service, ...] = ()
    consumers: tuple[ConsumerSettings, ...] = ()
    """What reads the segments, in the file's order."""
    devices: tuple[DeviceAttributes, ...] = ()
    """Site, type and id of devices, by alias or pattern; see `attributes_of`."""
    commands: CommandSettings | None = None
    """The command gate; None = nothing is writable."""
    state: Path | None = None
    """Folder for what consumers must keep; None = that of systemd or of the user."""
    pki: Path | None = None
    """Folder of certificates for OPC UA servers that name none; None = beside their endpoint file."""
    file: Path = Path()
