"""The staging area between poll loops and segments."""

from __future__ import annotations

import time

import numpy as np
import pytest
from acquisition import Publisher, service_points, system_points
from process_image import Point, attach, create, quality


def _points(alias: str) -> list[Point]:
    own = [Point(name=f"P{i}", device=alias, type="uint16", scan_class=0.5) for i in range(3)]
    return own + system_points(alias)


@pytest.fixture
def points() -> list[Point]:
    return [*_points("A"), *_points("B"), Point(name="Name", device="A", type="string", scan_class=0.5)]


def test_every_point_waits_for_initial_data_and_system_points_are_good_from_the_first_flush(shm_prefix, points):
    with create(f"{shm_prefix}shm", points) as writer:
        publisher = Publisher(points, [writer])
        publisher.flush()
        with attach(f"{shm_prefix}shm") as image:
            snapshot = image.snapshot()
            assert snapshot["A/P0"].quality == quality.BAD_WAITING_FOR_INITIAL_DATA
            assert (snapshot["A/$connected"].value, snapshot["A/$connected"].quality) == (0, 0)
            assert (snapshot["B/$last_error"].value, snapshot["B/$last_error"].quality) == ("", 0)
        writer.close(unlink=True)


def test_a_touched_block_reaches_every_audience_with_its_own_filter(shm_prefix, points):
    some = [p for p in points if p.device == "B" or p.is_system]
    whole, part = create(f"{shm_prefix}a", points), create(f"{shm_prefix}b", some)
    publisher = Publisher(points, [whole, part])
    for alias in ("A", "B"):
        block = publisher.block(alias, 0.5)
        rows = slice(block.start, block.start + block.count)
        publisher.records["value"][rows] = publisher.records["raw"][rows] = np.arange(block.count) + 7
        publisher.records["quality"][rows] = quality.GOOD
        publisher.touch(block.index, time.monotonic_ns() + 10**9)
    publisher.set_text(publisher.index["A/Name"], "Größe")
    publisher.flush()
    with attach(whole.name) as image, attach(part.name) as other:
        assert image.snapshot()["A/Name"].value == "Größe"
        assert image.snapshot()["B/P2"].value == other.snapshot()["B/P2"].value == 9
        assert [p.device for p in other.points if not p.is_system] == ["B"] * 3
        assert image.snapshot()["B/P2"].sequence == other.snapshot()["B/P2"].sequence
    whole.close(unlink=True)
    part.close(unlink=True)


def test_a_failure_keeps_the_last_good_value(shm_prefix, points):
    with create(f"{shm_prefix}shm", points) as writer:
        publisher = Publisher(points, [writer])
        row = publisher.index["A/P1"]
        publisher.records[row] = (5, 6, 42.0, 42, quality.GOOD, 0)
        block = publisher.block("A", 0.5)
        publisher.fail([row], quality.BAD_TIMEOUT, 99)
        publisher.touch(block.index, 0)
        publisher.flush()
        with attach(writer.name) as image:
            sample = image.snapshot()["A/P1"]
            assert (sample.value, sample.quality_name, sample.source_time) == (42, "BadTimeout", 5)
        writer.close(unlink=True)


def test_a_lost_device_is_told_at_once_and_counters_at_the_next_tick(shm_prefix, points):
    with create(f"{shm_prefix}shm", points) as writer:
        publisher = Publisher(points, [writer])
        publisher.flush()
        status = publisher.status("A")
        status.note_request(0.0125)
        publisher.flush()
        with attach(writer.name) as image:
            assert image.snapshot()["A/$connected"].value == 1
            assert image.snapshot()["A/$response_ms"].value == 12.5
            status.requests += 1
            publisher.flush()
            assert image.snapshot()["A/$requests"].value == 1
            status.note_failure("A: read 3/0: no answer in 1 s; check unit id and wiring", connected=False)
            publisher.flush()
            snapshot = image.snapshot()
            assert snapshot["A/$requests"].value == 3
            assert snapshot["A/$connected"].value == 0
            assert snapshot["A/$last_error"].value.startswith("A: read 3/0")
        writer.close(unlink=True)


def test_a_writer_with_a_point_that_is_not_acquired_is_refused(shm_prefix, points):
    with create(f"{shm_prefix}shm", [*points, Point(name="Ghost", device="A")]) as writer:
        with pytest.raises(ValueError, match="A/Ghost"):
            Publisher(points, [writer])
        writer.close(unlink=True)


def test_each_segment_shows_the_counts_of_its_own_semaphore(shm_prefix, points):
    every = [*points, *service_points()]
    some = [p for p in every if p.device != "A"]
    whole, part = create(f"{shm_prefix}a", every), create(f"{shm_prefix}b", some)
    publisher = Publisher(every, [whole, part])
    whole.counters.semaphore_busy, part.counters.semaphore_waits = 3, 4
    publisher.flush()
    with attach(whole.name) as image, attach(part.name) as other:
        assert (image.snapshot()["$semaphore_busy"].value, image.snapshot()["$semaphore_waits"].value) == (3, 0)
        assert (other.snapshot()["$semaphore_busy"].value, other.snapshot()["$semaphore_waits"].value) == (0, 4)
        assert image.snapshot()["$semaphore_repairs"].quality == quality.GOOD
    whole.close(unlink=True)
    part.close(unlink=True)
