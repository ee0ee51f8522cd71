"""Another layout is another epoch: readers change over by themselves, finish the old journal, and are told."""

from __future__ import annotations

import threading
import time

import pytest
from process_image import NotReady, Point, SegmentNotFound, attach, create, pinned_bytes, pins
from process_image.layout import State, Word


def test_the_same_layout_goes_on_in_place(shm_name: str) -> None:
    with create(shm_name, ["a"]) as writer:
        epoch = writer.epoch
    with attach(shm_name) as image, create(shm_name, ["a"]) as writer:
        assert writer.epoch == epoch
        assert not image.snapshot().stale
        assert image.attachments == 1
        assert image.counters["take_overs"] == 1


@pytest.mark.parametrize("other", [
    {"points": ["a", "b"]}, {"points": [{"name": "a", "unit": "m"}]}, {"points": [{"name": "a", "type": "int8"}]},
    {"points": ["a"], "journal_entries": 128}, {"points": ["a"], "stale_after": 5.0}, {"points": ["a"], "grace": 5.0},
])
def test_any_difference_in_the_layout_is_a_new_epoch(shm_name: str, other: dict) -> None:
    with create(shm_name, ["a"]) as writer:
        epoch = writer.epoch
    with attach(shm_name) as image, create(shm_name, **other) as writer:
        assert writer.epoch != epoch
        snapshot = image.snapshot()
        assert snapshot.epoch == writer.epoch
        assert image.attachments == 2
        assert not snapshot.stale
        assert image.points == writer.points == snapshot.points


def test_a_waiting_reader_changes_over(shm_name: str) -> None:
    with create(shm_name, ["a"]):
        image = attach(shm_name)
    image.snapshot()
    with create(shm_name, ["a", "b"]):
        assert image.wait(timeout=10)
        assert [p.name for p in image.points] == ["a", "b"]
        assert image.wait(timeout=0.0) is False
    image.close()


def test_a_reader_that_sleeps_is_woken_by_the_change(shm_name: str) -> None:
    writer = create(shm_name, ["a"], stale_after=60)
    image = attach(shm_name)
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(image.wait(timeout=20)))
    thread.start()
    time.sleep(0.05)
    started = time.monotonic()
    writer.close()
    with create(shm_name, ["a", "b"]):
        thread.join(20)
        assert woken == [True]
        assert time.monotonic() - started < 15
        assert len(image.points) == 2
    image.close()


def test_the_old_journal_is_finished_first(shm_name: str) -> None:
    writer = create(shm_name, ["a", "b"])
    image = attach(shm_name)
    cursor = image.cursor()
    writer.records["quality"] = 0
    for number in (1, 2):
        writer.records["value"][1] = number
        writer.publish()
    writer.close()
    with create(shm_name, ["x", "b"]) as second:
        second.records["quality"] = 0
        second.publish()
        image.snapshot()
        assert image.epoch == second.epoch
        batches = list(image.changes(cursor))
        old, new = batches
        assert [p.name for p in old.points] == ["a", "b"]
        assert [(old.points[r].name, v) for r, v in zip(old.rows, old.records["value"], strict=True)][-1] == ("b", 2.0)
        assert not old.new_epoch
        assert new.new_epoch
        assert new.epoch == second.epoch
        assert new.snapshot is not None
        assert [p.name for p in new.points] == ["x", "b"]
        assert len(new) == 2
        assert list(image.changes(new.cursor)) == []
        assert image._before is None, "the old object is let go when its journal is finished"
    image.close()


def test_a_consumer_that_broke_off_finishes_the_old_journal_later(shm_name: str) -> None:
    writer = create(shm_name, ["a"])
    image = attach(shm_name)
    cursor = image.cursor()
    writer.set_value("a", 1)
    writer.publish()
    writer.close()
    with create(shm_name, ["b"]):
        for batch in image.changes(cursor):
            assert not batch.new_epoch
            break
        later = list(image.changes(cursor))
        assert [b.new_epoch for b in later] == [False, True]
    image.close()


def test_a_cursor_of_an_epoch_that_is_gone_starts_anew_with_a_snapshot(shm_name: str) -> None:
    with create(shm_name, ["a"]), attach(shm_name) as image:
        kept = image.cursor()
    with create(shm_name, ["b"]) as writer:
        writer.set_value("b", 2)
        writer.publish()
        with attach(shm_name) as image:
            (batch,) = image.changes(kept)
            assert batch.new_epoch
            assert batch.lost == 0
            assert batch.snapshot is not None
            assert batch.snapshot["b"].value == 2
            assert list(image.changes(batch.cursor)) == []


def test_no_name_for_a_while_is_no_end(shm_name: str) -> None:
    writer = create(shm_name, ["a"])
    image = attach(shm_name)
    writer.set_value("a", 1)
    writer.publish()
    writer.close(unlink=True)
    for _ in range(3):
        snapshot = image.snapshot()
        assert snapshot.stale
        assert snapshot["a"].value == 1
        assert snapshot["a"].quality_name == "UncertainLastUsableValue"
    with create(shm_name, ["a"]) as writer:
        assert image.wait(timeout=10)
        assert image.epoch == writer.epoch
    image.close()


def test_attach_waits_a_moment_for_a_writer_that_is_starting(shm_name: str) -> None:
    with create(shm_name, ["a"]) as writer:
        words = writer._memory.words
        words[Word.STATE >> 3] = State.STARTING
        with pytest.raises(NotReady, match="STARTING"):
            attach(shm_name, timeout=0.02)
        timer = threading.Timer(0.05, lambda: words.__setitem__(Word.STATE >> 3, State.READY))
        timer.start()
        attach(shm_name, timeout=20).close()
        timer.join()
        words[Word.STATE >> 3] = State.RETIRED
        with pytest.raises(NotReady, match="RETIRED"):
            attach(shm_name)
    with pytest.raises(SegmentNotFound):
        attach(shm_name + "_other")


def test_memory_that_readers_of_retired_objects_hold_is_reported(shm_name: str) -> None:
    before = pinned_bytes()
    points = [Point(name=f"p{i}") for i in range(50)]
    images = []
    for number in range(3):
        with create(shm_name, [*points, f"extra{number}"], journal_entries=20000) as writer:
            images.append(attach(shm_name))
            size = writer._memory.size
    held = pins(shm_name)
    assert [p.name for p in held] == [shm_name] * 2
    assert all(abs(p.size - size) < 4096 * 4 for p in held)
    # other programs use /dev/shm at the same time: at least most of it must show
    assert pinned_bytes() - before > size
    for image in images:
        image.close()
    assert pins(shm_name) == []
