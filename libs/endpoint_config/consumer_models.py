"""What partition.xml says of consumers and devices, as frozen, typed models."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ConsumerSettings:
    """What every consumer is told; each kind adds its own."""

    kind: str
    """Name of its element."""
    name: str
    """Unique among the consumers of a partition; default the kind."""
    user: str = ""
    """User that its process runs as where the partition is started by root; empty = the partition's own."""
    segments: tuple[str, ...] = ()
    """Names of the segments that it reads, without namespace; empty = the own segment of every service."""
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class OwnConsumer(ConsumerSettings):
    """A consumer that the partition does not bring."""

    module: str
    """`module:class`, importable."""
    settings: tuple[tuple[str, str], ...] = ()
    """Names and values, `${VARIABLE}` filled in; not shown anywhere."""


@dataclass(frozen=True, kw_only=True)
class DeviceAttributes:
    """What a plant says of its devices beside their points."""

    alias: str
    """Alias of one device, or a pattern (`*`, `?`, `[ab]`) for several."""
    site: str = ""
    devicetype: str = ""
    id: str = ""
    """Name of the device for others, unique; empty = its alias."""
    line: int = 0


def attributes_of(alias: str, listed: Sequence[DeviceAttributes]) -> DeviceAttributes:
    """The attributes of one device: those of its own entry, then of patterns that match it, in the file's order.

    >>> listed = [DeviceAttributes(alias="Meter *", site="Roof"), DeviceAttributes(alias="Meter 2", id="m2")]
    >>> found = attributes_of("Meter 2", listed)
    >>> found.site, found.id
    ('Roof', 'm2')
    """
    own = [entry for entry in listed if entry.alias == alias]
    others = [entry for entry in listed if entry.alias != alias and fnmatch.fnmatchcase(alias, entry.alias)]
    found = [*own, *others]
    return DeviceAttributes(
        alias=alias, site=next((e.site for e in found if e.site), ""),
        devicetype=next((e.devicetype for e in found if e.devicetype), ""),
        id=next((e.id for e in own if e.id), alias), line=found[0].line if found else 0)
