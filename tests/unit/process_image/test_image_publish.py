"""Publishing many blocks in one call gives what publishing point by point would give, and tears nothing."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from process_image import RECORD, Point, attach, create
from process_image.layout import RECORD_WORDS


def layout(shapes: list[int], *, with_text: bool) -> list[Point]:
    """One device for each entry, with so many points (and a text point)."""
    points = []
    for number, count in enumerate(shapes):
        points += [Point(name=f"p{i}", device=f"d{number}") for i in range(count)]
        if with_text and number % 2:
            points.append(Point(name="t", device=f"d{number}", type="string", size=16))
    return points


class Model:
    """What a reader should see, kept with plain Python."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer
        self.published = writer.records.copy()
        self.texts = {row: "" for row, p in enumerate(writer.points) if p.is_text}
        self.staged = dict(self.texts)
        self.journal: list[tuple[int, int]] = []

    def publish(self, blocks: list[int]) -> int:
        changed = []
        for number in sorted(set(blocks)):
            block = self.writer.blocks[number]
            for row in range(block.start, block.start + block.count):
                old, new = self.published[row], self.writer.records[row]
                same = all(old[f].tobytes() == new[f].tobytes() for f in ("value", "raw", "quality"))
                sequence = int(old["sequence"])
                if not same or self.texts.get(row) != self.staged.get(row):
                    sequence += 1
                    changed.append((row, sequence))
                    if row in self.texts:
                        self.texts[row] = self.staged[row]
                self.published[row] = new
                self.published[row]["sequence"] = sequence
        self.journal += changed
        return len(changed)


def check(writer: Any, shapes: list[int], rounds: Any) -> None:
    model = Model(writer)
    with attach(writer.name) as image:
        cursor = image.cursor()
        for number, (blocks, cells, clobber) in enumerate(rounds):
            for place, value in cells:
                row = place % len(writer.points)
                if writer.points[row].is_text:
                    model.staged[row] = str(value)
                    writer.set_text(row, str(value))
                else:
                    writer.records["value"][row] = value
                writer.records["quality"][row] = 0
            if clobber:
                writer.records["sequence"] = number
            chosen = [b % len(writer.blocks) for b in blocks]
            assert writer.publish(chosen) == model.publish(chosen)
            snapshot = image.snapshot()
            assert snapshot.records.tobytes() == model.published.tobytes()
            for row, text in model.texts.items():
                if snapshot[row].value is not None:
                    assert snapshot[row].value == text
        found = [(int(r), int(s)) for batch in image.changes(cursor)
                 for r, s in zip(batch.rows, batch.records["sequence"], strict=True)]
        assert sorted(found) == sorted(model.journal)


ROUND = st.tuples(
    st.lists(st.integers(0, 40), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3)), max_size=12),
    st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes=st.lists(st.integers(1, 4), min_size=1, max_size=40), with_text=st.booleans(),
       rounds=st.lists(ROUND, min_size=1, max_size=6))
def test_publish_equals_a_plain_model(shm_name: str, shapes: list[int], with_text: bool, rounds: Any) -> None:
    with closing(create(shm_name, layout(shapes, with_text=with_text), journal_entries=4096)) as writer:
        try:
            check(writer, shapes, rounds)
        finally:
            writer.close(unlink=True)


@pytest.mark.parametrize("devices", [1, 2, 40])
def test_scattered_blocks_reach_their_own_slots(shm_name: str, devices: int) -> None:
    """More runs than are copied one by one: the indexed way, over blocks of two shapes."""
    points = layout([3] * devices + [2] * devices, with_text=True)
    random = np.random.default_rng(devices)
    with create(shm_name, points) as writer, attach(shm_name) as image:
        words = writer.records.view("u8").reshape(-1, RECORD_WORDS)
        expected = writer.records.copy()
        for _ in range(60):
            words[:] = random.integers(0, 2**62, words.shape, dtype=np.uint64)
            chosen = random.permutation(len(writer.blocks))[: random.integers(1, len(writer.blocks) + 1)]
            writer.publish(chosen)
            for number in chosen:
                block = writer.blocks[number]
                span = slice(block.start, block.start + block.count)
                expected[span] = writer.records[span]
            assert image.snapshot().records.tobytes() == expected.tobytes()


def test_four_publishes_fill_four_slots_in_turn(shm_name: str) -> None:
    with create(shm_name, ["a"]) as writer, attach(shm_name) as image:
        memory = image._now.memory
        assert memory.generation.tolist() == [1]
        for generation in range(2, 10):
            writer.records["value"] = generation
            writer.publish()
            slot = generation % 4
            assert memory.generation.tolist() == [generation]
            assert memory.sequence[slot, 0] == 2 * generation
            assert memory.records[slot].view(RECORD)["value"].tolist() == [generation]


def test_the_sequence_of_a_record_wraps_round(shm_name: str) -> None:
    with create(shm_name, ["a"]) as writer, attach(shm_name) as image:
        # as after 2**32 - 1 changes
        writer._memory.records.view(RECORD)["sequence"][:] = 2**32 - 1
        writer.set_value("a", 1.0)
        writer.publish()
        assert image.snapshot()["a"].sequence == 0
