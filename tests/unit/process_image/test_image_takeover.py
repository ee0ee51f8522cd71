"""A writer killed at any stop point leaves a segment that readers can use and that the next writer takes over."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from image_tools import Script, fleet, leftovers
from process_image import Image, SegmentNotFound, attach, create, stops
from process_image.layout import Word

PUBLISH = [n for n in stops.NAMES if n.startswith("publish.")]
LIFE = [n for n in stops.NAMES if n.startswith(("create.", "takeover.", "close."))]

WRITER = """
from process_image import stops
writer = create(name, fleet(devices, 5), semaphore=name + "_sem", journal_entries=entries)
number = 0
def turn():
    global number
    number += 1
    writer.records["value"] = writer.records["raw"] = number
    writer.records["quality"], writer.records["source_time"] = 0, 1
    for row, point in enumerate(writer.points):
        if point.is_text:
            writer.set_text(row, f"text {number}")
    writer.publish()
for _ in range(3):
    turn()
say(ready=True)
input()
stops.arm(stop)
while number < 50:
    turn()
"""


def coherent(image: Image) -> float:
    """The one value that each whole block holds, the same over all blocks but the last publish's."""
    snapshot = image.snapshot()
    for block in image.blocks:
        part = snapshot.records[block.start : block.start + block.count]
        assert len(np.unique(part["value"])) == 1, "a torn block"
        if snapshot.points[block.start].is_text:
            assert snapshot[block.start].value == f"text {part['value'][0]:.0f}"
    return float(snapshot.records["value"].max())


def gaps(batches: list[Any], last: dict[int, int]) -> None:
    """Sequences of every point follow each other without a gap or a repeat."""
    for batch in batches:
        assert batch.lost == 0
        for row, sequence in zip(batch.rows.tolist(), batch.records["sequence"].tolist(), strict=True):
            assert sequence == last[row] + 1, f"row {row}: {last[row]} then {sequence}"
            last[row] = sequence


@pytest.mark.parametrize("devices", [1, 3])
@pytest.mark.parametrize("point", [*PUBLISH, "publish.half:2", "publish.odd:3"])
def test_killed_inside_a_publish(shm_name: str, point: str, devices: int) -> None:
    stop = point if ":" in point else point + ":2"
    with Script(WRITER, name=shm_name, stop=stop, devices=devices, entries=4096) as script:
        script.hear()
        image = attach(shm_name)
        cursor = image.cursor()
        last = dict(enumerate(image.snapshot().records["sequence"].tolist()))
        script.tell()
        assert script.wait() == -9
    seen = coherent(image)
    assert seen >= 4
    with create(shm_name, fleet(devices, 5), semaphore=shm_name + "_sem", journal_entries=4096) as writer:
        assert writer.epoch == image.epoch, "the same layout is taken over in place"
        snapshot = image.snapshot()
        assert not snapshot.stale
        assert set(snapshot.records["quality"].tolist()) == {0x80320000}
        assert coherent(image) in (seen, seen + 1), "what stood in the journal is not lost"
        writer.records["value"] = 1000
        writer.records["quality"] = 0
        for row, one in enumerate(writer.points):
            if one.is_text:
                writer.set_text(row, "text 1000")
        writer.publish()
        assert coherent(image) == 1000
        gaps(list(image.changes(cursor)), last)
        assert last == dict(enumerate(image.snapshot().records["sequence"].tolist())), "journal and slots agree"
        assert writer.semaphore.value() == 1
        writer.close(unlink=True)
    image.close()
    assert leftovers(shm_name) == []


@pytest.mark.parametrize("point", [n for n in LIFE if n != "close.released"])
@pytest.mark.parametrize("before", ["nothing", "same", "other"])
def test_killed_while_starting_or_ending(shm_name: str, point: str, before: str) -> None:
    """A later writer always gets the segment, readers are never stuck, no name is left."""
    if before != "nothing":
        create(shm_name, fleet(2 if before == "same" else 3), semaphore=shm_name + "_sem").close()
    image = attach(shm_name) if before != "nothing" else None
    with Script(
        """
        writer = create(name, fleet(2), semaphore=name + "_sem")
        writer.close(unlink=True)
        """, env={stops.VARIABLE: point}, name=shm_name) as script:
        code = script.wait()
    passed = not ((point.startswith("takeover.") and before != "same")
                  or (point in ("create.retired", "create.unlinked") and before != "other")
                  or (point.startswith("create.") and point != "create.leased" and before == "same"))
    assert code == (-9 if passed else 0)
    started = time.monotonic()
    with create(shm_name, fleet(2), semaphore=shm_name + "_sem") as writer:
        assert time.monotonic() - started < 30
        writer.records["quality"] = 0
        writer.records["value"] = 5
        writer.publish()
        with attach(shm_name) as fresh:
            assert not fresh.snapshot().stale
        if image is not None:
            assert image.wait(timeout=10)
            assert image.snapshot().records["value"][0] == 5
            image.close()
        writer.close(unlink=True)
    assert leftovers(shm_name) == []


def test_killed_in_the_middle_of_a_take_over_again_and_again(shm_name: str) -> None:
    with create(shm_name, fleet(2)) as writer:
        writer.records["quality"] = 0
        writer.records["value"] = 7
        writer.records["source_time"] = 1
        writer.publish()
    for point in ("takeover.starting", "takeover.journal", "takeover.staged", "publish.reserved", "publish.odd",
                  "publish.even", "takeover.published"):
        with Script("create(name, fleet(2))", env={stops.VARIABLE: point}, name=shm_name) as script:
            assert script.wait() == -9 or point.startswith("publish.re"), point
    with create(shm_name, fleet(2)) as writer, attach(shm_name) as image:
        sample = image.snapshot()["Device 0/M1"]
        assert (sample.value, sample.quality_name) == (7, "BadWaitingForInitialData")
        writer.records["quality"] = 0
        writer.publish()
        assert image.snapshot()["Device 0/M1"].sequence == 3


def test_reserved_entries_of_a_killed_writer_are_lost_to_those_that_far_behind_only(shm_name: str) -> None:
    with create(shm_name, ["a"], journal_entries=8) as writer:
        writer.records["quality"] = 0
        with attach(shm_name) as image:
            start = image.cursor()
            for number in range(1, 9):
                writer.records["value"] = number
                writer.publish()
            near = image.cursor()
            # as if killed after reserving three entries, which may have destroyed the three oldest
            memory = writer._memory
            memory.words[Word.JOURNAL_RESERVED >> 3] = 11
            writer.close()
            with create(shm_name, ["a"], journal_entries=8) as second:
                far = list(image.changes(start))
                assert sum(b.lost for b in far) == 3
                assert [v for b in far for v in b.records["value"]] == [4, 5, 6, 7, 8, 8]
                (batch,) = image.changes(near)
                assert (batch.lost, batch.records["value"].tolist()) == (0, [8])
                second.records["quality"] = 0
                second.records["value"] = 9
                second.publish()
                (batch,) = image.changes(batch.cursor)
                assert batch.records["value"].tolist() == [9]


def test_a_stopped_writer_is_stale_and_can_not_be_taken_over(shm_name: str) -> None:
    """A writer that is stopped still holds the lease: it is as visible as a dead one, and nobody takes its place."""
    from process_image import LeaseHeld

    with Script("writer = create(name, ['a'], stale_after=0.2)\nsay(up=1)\nwhile True:\n    writer.heartbeat()\n"
                "    time.sleep(0.02)", name=shm_name) as script:
        script.hear()
        with attach(shm_name) as image:
            assert not image.snapshot().stale
            script.process.send_signal(19)
            until = time.monotonic() + 10
            while not image.snapshot().stale:
                assert time.monotonic() < until
                time.sleep(0.02)
            with pytest.raises(LeaseHeld):
                create(shm_name, ["a"], stale_after=0.2)
            script.process.send_signal(18)
            while image.snapshot().stale:
                assert time.monotonic() < until
                time.sleep(0.02)


def test_stop_points_are_known_by_name() -> None:
    with pytest.raises(ValueError, match=r"publish\.odd"):
        stops.arm("publish.nowhere")
    assert stops.hook is None


def test_every_stop_point_is_reached(shm_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []
    monkeypatch.setattr(stops, "hook", reached.append)
    for devices in (1, 2, 2):
        with create(shm_name, fleet(devices), semaphore=shm_name + "_sem") as writer:
            writer.set_value("Device 0/$last_error", "x")
            writer.publish()
    create(shm_name, fleet(2)).close(unlink=True)
    assert set(reached) == set(stops.NAMES)


def test_reading_a_segment_that_vanished_says_so(shm_name: str) -> None:
    with create(shm_name, ["a"]) as writer:
        writer.close(unlink=True)
    with pytest.raises(SegmentNotFound):
        attach(shm_name)
