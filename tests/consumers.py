"""What tests of consumers share: a plant that is a writer in the test, contexts, and stepping until something is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from endpoint_config import ConsumerSettings, OwnConsumer, Partition
from peers import PATIENCE
from process_image import Changes, Point, Writer, create

from cpc.consumers import Base, Consumer, Context


class Plant:
    """A segment whose values the test sets."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.rows = {point.full_name: row for row, point in enumerate(writer.points)}

    def set(self, values: dict[str, Any], *, quality: int = 0, source_time: int | None = None) -> None:
        """Publish values by full name, all blocks at once."""
        now = time.time_ns() if source_time is None else source_time
        records = self.writer.records
        for name, value in values.items():
            row = self.rows[name]
            point = self.writer.points[row]
            if point.is_text:
                self.writer.set_text(row, value)
            else:
                records["value"][row] = float(value)
                floating = point.type.startswith("float")
                records["raw"][row] = np.array([value], "f8").view("u8")[0] if floating else int(value) % (1 << 64)
            records["quality"][row] = quality
            records["source_time"][row] = records["received_time"][row] = now
        due = time.monotonic_ns() + int(60e9)
        self.writer.publish(list(range(len(self.writer.blocks))), next_due=[due] * len(self.writer.blocks))
        self.writer.heartbeat()


class Collector(Base):
    """The smallest consumer: keeps what it was given, for the base's own promises."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.values: list[tuple[str, Any]] = []
        self.snapshots = 0

    def take(self, segment: str, changes: Changes) -> None:
        self.snapshots += changes.snapshot is not None
        self.values += [(changes.points[row].full_name, changes.value(i)) for i, row in enumerate(changes.rows)]


@contextmanager
def plant(name: str, points: Sequence[Point | str], *, journal_entries: int = 4096) -> Iterator[Plant]:
    """A segment with these points; unlinked at the end."""
    made = [Point(name=p.partition("/")[2], device=p.partition("/")[0]) if isinstance(p, str) else p for p in points]
    with create(name, made, journal_entries=journal_entries, stale_after=3600.0) as writer:
        yield Plant(writer)
        writer.close(unlink=True)


def context(
    state: Path, *segments: str, settings: ConsumerSettings | None = None, partition: Partition | None = None,
) -> Context:
    """What a consumer is told; its state folder is made."""
    settings = settings or OwnConsumer(kind="consumer", name="test", module="none:None")
    folder = state / settings.name
    folder.mkdir(parents=True, exist_ok=True)
    return Context(name=settings.name, segments=segments, state=folder, settings=settings,
                   partition=partition or Partition(file=state / "partition.xml"))


def step_until(consumer: Consumer, condition: Callable[[], object], timeout: float = PATIENCE, what: str = "") -> None:
    """Step the consumer until `condition()` holds; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what or condition}; {consumer.health()}"
        consumer.step(0.02)
