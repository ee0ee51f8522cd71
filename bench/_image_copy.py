"""Filling, publishing and reading against memcpy of the same bytes into the same four rotating slots."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from _turns import Timed, compete, ratios, timed
from process_image import Image, Writer, attach, create
from process_image.layout import RECORD_WORDS, SLOTS

REACH = {"fill": 1.25, "snapshot": 1.25, "publish, only times new": 4.0, "publish, all changed": 10.0}
"""Ratios to memcpy that 10,000 records are to stay within."""


def measure(prefix: str, records: int, *, runs: int, turns: int) -> dict[str, Any]:
    """All sides for one block of that many records."""
    name = f"{prefix}_copy"
    with create(name, [f"p{i}" for i in range(records)]) as writer, attach(name) as image:
        writer.records["quality"] = 0
        writer.publish()
        sides = _sides(writer, image)
        done = [compete(sides, turns=turns) for _ in range(runs)]
        writer.close(unlink=True)
    return {"records": records, "bytes": records * 40, "sides": ratios(done, "memcpy")}


def _sides(writer: Writer, image: Image) -> dict[str, Timed]:
    """What takes turns, by name."""
    stage, memory = writer._stage, writer._memory
    source, slots = stage.words.copy(), [memory.records[i] for i in range(SLOTS)]
    index = np.arange(len(writer.blocks))
    turn = 0

    def memcpy() -> None:
        nonlocal turn
        turn = (turn + 1) % SLOTS
        slots[turn][:] = source

    def fill() -> None:
        stage.fill(stage.pieces(index), index, 1)

    def fresh() -> None:
        np.empty(len(source), np.uint64)[:] = slots[0]

    sides = {"memcpy": timed(memcpy), "fill": timed(fill)}
    sides["publish, nothing changed"] = timed(writer.publish)
    sides["publish, only times new"] = _publish(writer, 0)
    sides["publish, a tenth changed"] = _publish(writer, len(source) // RECORD_WORDS // 10)
    sides["publish, all changed"] = _publish(writer, len(source) // RECORD_WORDS)
    sides["memcpy out"] = timed(fresh)
    sides["snapshot"] = timed(image.snapshot)
    return sides


def _publish(writer: Writer, changing: int) -> Timed:
    """A whole publish after `changing` of the values, spread over the block, were set anew; setting does not count.

    The first one of a slice also finds what memcpy wrote over; `compete` leaves that one out.
    """
    rows = np.linspace(0, len(writer.records) - 1, changing).astype(np.intp) if changing else None
    values, times, clock = writer.records["value"], writer.records["received_time"], time.perf_counter_ns

    def once() -> int:
        times[:] += 1  # as after every poll
        if rows is not None:
            values[rows] += 1.0
        start = clock()
        writer.publish()
        return clock() - start

    return once
