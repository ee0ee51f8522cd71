"""The one small contract of everything that reads segments and hands on what stands there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from endpoint_config import ConsumerSettings, Partition
from process_image import Point

STEP_SECONDS = 0.25
"""Longest time that `step` is asked to wait: a stop is seen, and the heartbeat written, at least so often."""


class Refused(Exception):
    """The consumer can't do its work as it was told to; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """How a consumer is, for supervisor, operator and log; shown as points of its status segment."""

    connected: bool
    """Whether what it feeds takes what it gives: the broker answers, the file can be written."""
    message: str = ""
    """What a person should know: device: operation: what; what to do. Empty when all is well."""
    counts: Mapping[str, float] = field(default_factory=dict)
    """Values of the consumer's own `metrics`, by their names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What a consumer is told when it is made."""

    name: str
    """Unique among the consumers of a partition."""
    segments: tuple[str, ...]
    """Names of the segments to read, namespace included; each may be absent yet, or for a while."""
    namespace: str = ""
    """Prefix of the partition's names."""
    state: Path
    """Folder of its own for what must outlive it; there when it is started, private to its user."""
    settings: ConsumerSettings
    """Its element of partition.xml; a consumer of another module finds pairs in `settings.settings`."""
    partition: Partition
    """The partition that it is a part of, without the other consumers."""


@runtime_checkable
class Consumer(Protocol):
    """One thread makes it, starts it, calls `step` over and over, and stops it; nothing here may raise for a peer
    that is absent, slow or broken: such things are counted, told by `health`, and tried again."""

    @property
    def metrics(self) -> Sequence[Point]:
        """System points of its own (`$...`, numeric), beside `$connected`, `$last_error` and the feed's counts."""

    def start(self) -> None:
        """Take up what an earlier life left: cursors, stores. Waits for nothing outside. Raises Refused."""

    def step(self, timeout: float) -> None:
        """Do what is due; when there is nothing, wait for it, at most `timeout` seconds."""

    def stop(self) -> None:
        """Keep what must be kept and close, within a second; nothing is called after it."""

    def health(self) -> Health:
        """How it is now."""
