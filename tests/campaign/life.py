"""One life of a writer in the kill campaign: take the segment over, publish once, then on and on until it is killed.

Whatever it publishes can be checked by a stranger: all of a block carries one number, as value, raw bits, both times
and text, and the number rises from publish to publish over all lives.
"""

from __future__ import annotations

import os
import random
import struct
import time
import traceback
from dataclasses import dataclass

import numpy as np
import process_image
from process_image import Point, Writer, stops

STALE_AFTER = 60.0
"""Seconds; a machine under load stops a waiting writer for longer than the usual one."""
READY = struct.Struct("=qdd")
"""What a life tells its parent once: number published, seconds from start to first publish, seconds of create."""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A segment that the campaign works on."""

    name: str
    points: tuple[Point, ...]
    """As published in most lives."""
    other_points: tuple[Point, ...]
    """Another layout, for lives that replace the object."""
    journal_entries: int
    long_bytes: int = 4096
    share: float
    """Part of all kills."""
    run: float
    """Longest time that a life goes on after its first publish, seconds."""


def _points(devices: int, numbers: int, texts: int) -> tuple[Point, ...]:
    return tuple(
        Point(name=f"{kind}{i}", device=f"d{device}", type=kind, size=24)
        for device in range(devices)
        for kind, count in (("float64", numbers), ("string", texts))
        for i in range(count))


LANES = (
    Lane(name="small", points=_points(4, 9, 1), other_points=_points(5, 9, 1), journal_entries=4096, share=0.6,
         run=0.004),
    Lane(name="wide", points=_points(5, 800, 0), other_points=_points(5, 801, 0), journal_entries=65536, share=0.2,
         run=0.006),
    Lane(name="ring", points=_points(3, 9, 1), other_points=_points(3, 10, 1), journal_entries=16, long_bytes=48,
         share=0.2, run=0.004),
)
"""Small blocks with texts; blocks so wide that most random instants fall into a copy; a journal that a single publish
overruns."""


def live(name: str, lane: Lane, *, base: int, seed: int, stop: str, other: bool, out: int, gate: int) -> None:
    """Be a writer, in a process of its own that ends here: publish `base` and up until killed.

    Writes READY to the descriptor `out` after the first publish and goes on when `gate` can be read. With `stop`
    (as for stops.arm) it kills itself there, or ends after some publishes where it never gets there.
    """
    try:
        _live(name, lane, base=base, seed=seed, stop=stop, other=other, out=out, gate=gate)
    except BaseException:  # noqa: BLE001 (here the process ends: nothing of its parent may run in it)
        os.write(2, traceback.format_exc().encode())
        os._exit(3)
    os._exit(0)


def _live(name: str, lane: Lane, *, base: int, seed: int, stop: str, other: bool, out: int, gate: int) -> None:
    chance = random.Random(seed)
    before = time.monotonic()
    if stop:
        stops.arm(stop)
    writer = process_image.create(
        name, lane.other_points if other else lane.points, semaphore=f"{name}_sem", repair_after=0.01,
        stale_after=STALE_AFTER, journal_entries=lane.journal_entries, long_bytes=lane.long_bytes)
    made = time.monotonic()
    everything = tuple(range(len(writer.blocks)))
    publish_number(writer, everything, base)
    os.write(out, READY.pack(base, time.monotonic() - before, made - before))
    os.read(gate, 1)
    ends = stop.startswith("close.")
    for number in range(base + 1, base + (20 if ends else 500 if stop else 1 << 20)):
        blocks = everything if chance.random() < 0.5 else chance.sample(everything, chance.randint(1, len(everything)))
        publish_number(writer, blocks, number)
    if ends:
        writer.close(unlink=True)


def publish_number(writer: Writer, blocks: tuple[int, ...] | list[int], number: int) -> None:
    """Publish the blocks with one number in every field of every record of theirs."""
    for index in blocks:
        block = writer.blocks[index]
        rows = slice(block.start, block.start + block.count)
        for column in ("source_time", "received_time", "value", "raw"):
            writer.records[column][rows] = np.float64(number) if column == "value" else number
        writer.records["quality"][rows] = 0
        for row in range(block.start, block.start + block.count):
            if writer.points[row].is_text:
                writer.set_text(row, str(number))
    writer.publish(blocks)
