"""The Python side of the process image as consumers and producers were promised it."""

from __future__ import annotations

import math
import os
import sys
import time

import numpy as np
import posix_ipc
import pytest
from image_tools import Script, fleet, leftovers, mode_of
from process_image import (
    RECORD,
    ImageError,
    LayoutMismatch,
    LeaseHeld,
    NotPermitted,
    NotReady,
    Point,
    SegmentNotFound,
    WriterClosed,
    attach,
    create,
    quality,
)


def test_record_has_the_promised_fields_in_order() -> None:
    assert RECORD.names == ("source_time", "received_time", "value", "raw", "quality", "sequence")
    assert RECORD.itemsize == 40
    if sys.byteorder == "little":
        assert [kind for _, kind in RECORD.descr] == ["<i8", "<i8", "<f8", "<u8", "<u4", "<u4"]


def test_ten_lines_of_a_consumer(shm_name: str) -> None:
    with create(shm_name, [Point(name="M8", device="Ecotec", unit="kW", range=(0, 50), description="power",
                                 scan_class=1.0, writable=True)]) as writer, attach(shm_name) as image:
        writer.set_value("Ecotec/M8", 12.5, source_time=1_700_000_000_000_000_000)
        writer.publish()
        assert image.wait(timeout=2.0) is True
        snapshot = image.snapshot()
        sample = snapshot["Ecotec/M8"]
        assert (sample.value, sample.quality, sample.quality_name) == (12.5, 0, "Good")
        assert sample.source_time == 1_700_000_000_000_000_000
        assert abs(sample.received_time - time.time_ns()) < 60e9
        assert sample.sequence == 1
        assert 0 <= sample.age < 60
        assert not snapshot.stale
        assert snapshot.epoch == writer.epoch == image.epoch
        assert snapshot.generation == 2
        assert snapshot.records.dtype == RECORD
        assert len(snapshot.records) == len(image.points) == 1
        point = image.points[0]
        assert (point.name, point.device, point.type, point.unit, point.range, point.description, point.scan_class,
                point.writable) == ("M8", "Ecotec", "float64", "kW", (0, 50), "power", 1.0, True)


def test_nothing_was_ever_read_until_it_is_published(shm_name: str) -> None:
    with create(shm_name, ["a"]), attach(shm_name) as image:
        sample = image.snapshot()["a"]
        assert sample.value is None
        assert sample.quality == quality.BAD_WAITING_FOR_INITIAL_DATA
        assert sample.quality_name == "BadWaitingForInitialData"
        assert sample.sequence == 0


@pytest.mark.parametrize(("kind", "value"), [
    ("bool", True), ("bool", False), ("int8", -128), ("uint8", 255), ("int16", -32768), ("uint16", 65535),
    ("int32", -(2**31)), ("uint32", 2**32 - 1), ("int64", -(2**63)), ("int64", 2**53 + 1), ("uint64", 2**64 - 1),
    ("float32", 0.5), ("float64", 0.1), ("float64", math.inf), ("string", "grüße 温度"), ("string", ""),
    ("bytes", b"\x00\xff\x00"),
])
def test_every_type_keeps_its_exact_value(shm_name: str, kind: str, value: object) -> None:
    with create(shm_name, [Point(name="x", type=kind)]) as writer, attach(shm_name) as image:
        cursor = image.cursor()
        writer.set_value("x", value)
        assert writer.publish() == 1
        found = image.snapshot()["x"]
        assert found.value == value
        assert type(found.value) is type(value)
        (changes,) = image.changes(cursor)
        assert changes.value(0) == value


def test_raw_bits_of_signed_integers_are_sign_extended(shm_name: str) -> None:
    with create(shm_name, [Point(name="x", type="int16"), Point(name="y", type="uint16")]) as writer:
        writer.set_value("x", -2)
        writer.set_value("y", 0xFFFE)
        writer.publish()
        with attach(shm_name) as image:
            records = image.snapshot().records
            assert records["raw"].tolist() == [2**64 - 2, 0xFFFE]
            assert image.snapshot()["x"].raw == -2


def test_an_integer_point_whose_producer_fills_the_value_alone(shm_name: str) -> None:
    with create(shm_name, [Point(name="x", type="uint64")]) as writer, attach(shm_name) as image:
        writer.records["value"][0] = 7
        writer.records["quality"][0] = 0
        writer.publish()
        assert image.snapshot()["x"].value == 7


def test_a_bad_point_keeps_its_last_good_value(shm_name: str) -> None:
    with create(shm_name, ["a"]) as writer, attach(shm_name) as image:
        writer.set_value("a", 3.0)
        writer.publish()
        writer.records["quality"] = quality.BAD_TIMEOUT
        writer.publish()
        sample = image.snapshot()["a"]
        assert (sample.value, sample.quality_name, sample.sequence) == (3.0, "BadTimeout", 2)


def test_points_are_looked_up_by_full_name_row_or_point(shm_name: str) -> None:
    with create(shm_name, fleet()) as writer, attach(shm_name) as image:
        writer.set_value("Device 1/M2", 4.0)
        writer.publish()
        snapshot = image.snapshot()
        row = writer.index["Device 1/M2"]
        assert snapshot[row].value == snapshot[image.points[row]].value == snapshot["Device 1/M2"].value == 4.0
        assert "Device 1/M2" in snapshot
        assert "M2" not in snapshot
        assert list(snapshot) == [p.full_name for p in image.points]


def test_an_unknown_name_names_near_matches(shm_name: str) -> None:
    with create(shm_name, fleet()), attach(shm_name) as image:
        with pytest.raises(KeyError, match=r"Device 1/M2"):
            image.snapshot()["Device 1/M22"]
        with pytest.raises(KeyError, match="row 99"):
            image.snapshot()[99]


def test_names_with_slashes_spaces_umlauts_and_dollars_stay_whole(shm_name: str) -> None:
    names = [("Zähler 3/Süd", "cos φ/1"), ("", "plain"), ("A", "$$odd"), ("Gerät", "日本語")]
    points = [Point(device=device, name=name) for device, name in names]
    with create(shm_name, points), attach(shm_name) as image:
        assert {(p.device, p.name) for p in image.points} == set(names)
        assert image.snapshot()["Zähler 3/Süd/cos φ/1"].point.name == "cos φ/1"


def test_plain_names_and_mappings_are_points_too(shm_name: str) -> None:
    with create(shm_name, ["a", {"name": "b", "type": "string", "size": 8}]) as writer:
        assert [p.type for p in writer.points] == ["float64", "string"]


@pytest.mark.parametrize("points", [[], ["a", "a"], [{"name": "a", "type": "complex"}], [{"name": ""}],
                                    [{"name": "a", "type": "string", "size": 0}]])
def test_impossible_points_are_refused_before_anything_is_made(shm_name: str, points: list[object]) -> None:
    with pytest.raises(ValueError):
        create(shm_name, points)  # type: ignore[arg-type]
    with pytest.raises(SegmentNotFound):
        attach(shm_name)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "x.lease", "sem.x", "x" * 250, "a\0b"])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError):
        create(name, ["a"])
    with pytest.raises(ValueError):
        attach(name)


def test_a_leading_slash_means_the_same_segment(shm_name: str) -> None:
    with create("/" + shm_name, ["a"]), attach(shm_name) as image:
        assert image.name == shm_name


def test_a_text_is_cut_at_a_character_and_marked(shm_name: str) -> None:
    points = [Point(name="s", type="string", size=5), Point(name="b", type="bytes", size=5)]
    with create(shm_name, points) as writer, attach(shm_name) as image:
        cursor = image.cursor()
        writer.set_value("s", "ääää")
        writer.set_value("b", b"123456")
        writer.publish()
        snapshot = image.snapshot()
        assert (snapshot["s"].value, snapshot["s"].cut) == ("ää", True)
        assert (snapshot["b"].value, snapshot["b"].cut) == (b"12345", True)
        (changes,) = image.changes(cursor)
        assert changes.cut == {0, 1}
        writer.set_text(writer.index["s"], "ok")
        writer.publish()
        assert (image.snapshot()["s"].value, image.snapshot()["s"].cut) == ("ok", False)


def test_a_changed_text_counts_as_a_change_even_at_the_same_length(shm_name: str) -> None:
    with create(shm_name, [Point(name="s", type="string")]) as writer, attach(shm_name) as image:
        writer.set_value("s", "one", received_time=1)
        writer.publish()
        writer.set_text(0, "two")
        assert writer.publish() == 1
        assert image.snapshot()["s"].sequence == 2
        assert writer.publish() == 0
        with pytest.raises(ValueError, match="float64"):
            create(shm_name + "x", ["n"]).set_text(0, "no")


def test_wait_is_true_for_news_and_false_after_the_timeout(shm_name: str) -> None:
    with create(shm_name, ["a"]) as writer, attach(shm_name) as image:
        assert image.wait(timeout=0.0) is False
        assert image.wait(timeout=0.02) is False
        writer.publish()
        assert image.wait(timeout=5.0) is True
        assert image.wait(timeout=0.02) is False
        writer.publish()
        image.snapshot()
        assert image.wait(timeout=0.02) is False


def test_a_waiting_reader_in_another_process_is_woken(shm_name: str) -> None:
    with create(shm_name, ["a"]) as writer, Script(
        """
        with attach(name) as image:
            say(ready=True)
            while image.wait(timeout=30.0):
                say(value=image.snapshot()["a"].value)
        """, name=shm_name) as reader:
        reader.hear()
        for value in (1.0, 2.0, 3.0):
            writer.set_value("a", value)
            writer.publish()
            assert reader.hear() == {"value": value}


def test_publish_counts_changes_of_value_raw_and_quality_only(shm_name: str) -> None:
    with create(shm_name, ["a", "b", "c"]) as writer:
        writer.records["quality"] = 0
        assert writer.publish() == 3
        writer.records["received_time"] = 5
        writer.records["source_time"] = 6
        assert writer.publish() == 0
        writer.records["raw"][1] = 9
        assert writer.publish() == 1
        writer.records["value"][2] = math.nan
        assert writer.publish() == 1
        assert writer.publish() == 0
        assert writer.records["sequence"].tolist() == [1, 2, 2]


def test_only_the_named_blocks_are_published(shm_name: str) -> None:
    with create(shm_name, fleet(3, 2, texts=False)) as writer, attach(shm_name) as image:
        writer.records["quality"] = 0
        writer.records["value"] = 1.0
        assert writer.publish([2, 0, 2]) == 4
        assert [image.snapshot()[b.start].quality for b in image.blocks] == [
            0, quality.BAD_WAITING_FOR_INITIAL_DATA, 0]
        assert writer.publish(1) == 2
        assert writer.publish(()) == 0
        for wrong in ([3], [-1]):
            with pytest.raises(IndexError):
                writer.publish(wrong)


def test_next_due_decides_block_by_block_what_is_stale(shm_name: str) -> None:
    with create(shm_name, fleet(3, 2, texts=False), grace=0.01) as writer, attach(shm_name) as image:
        writer.records["quality"] = 0
        writer.records["source_time"] = 1
        now = time.monotonic_ns()
        writer.publish([2, 1, 0], next_due=[0, now + 10**12, now - 10**9])
        snapshot = image.snapshot()
        assert snapshot.stale_blocks.tolist() == [True, False, False]
        assert not snapshot.stale
        first = snapshot[0]
        assert first.quality_name == "UncertainLastUsableValue"
        assert (first.raw_quality, first.stale) == (0, True)
        assert snapshot.records["quality"][0] == quality.UNCERTAIN_LAST_USABLE_VALUE
        assert snapshot.raw_quality[0] == 0
        assert snapshot[2].quality == 0


def test_a_writer_without_heartbeat_goes_stale_and_comes_back(shm_name: str) -> None:
    with create(shm_name, ["a", "b"], stale_after=0.05) as writer, attach(shm_name) as image:
        writer.set_value("a", 1.0)
        writer.publish()
        assert not image.snapshot().stale
        time.sleep(0.1)
        snapshot = image.snapshot()
        assert snapshot.stale
        assert snapshot["a"].quality == quality.UNCERTAIN_LAST_USABLE_VALUE
        assert snapshot["a"].value == 1.0
        assert snapshot["b"].quality == quality.BAD_WAITING_FOR_INITIAL_DATA
        writer.heartbeat()
        assert image.snapshot()["a"].quality == 0


def test_a_closed_writer_is_stale_at_once_and_refuses_work(shm_name: str) -> None:
    writer = create(shm_name, ["a"])
    with attach(shm_name) as image:
        writer.close()
        writer.close()
        assert image.snapshot().stale
        for work in (writer.publish, writer.heartbeat, writer.wake):
            with pytest.raises(WriterClosed):
                work()


def test_a_closed_image_says_so(shm_name: str) -> None:
    with create(shm_name, ["a"]):
        image = attach(shm_name)
        image.close()
        image.close()
        with pytest.raises(ImageError, match="closed"):
            image.snapshot()


def test_a_second_writer_is_told_who_holds_the_segment(shm_name: str) -> None:
    with create(shm_name, ["a"]):
        with pytest.raises(LeaseHeld, match=rf"pid {os.getpid()}\b"):
            create(shm_name, ["a"])
        with attach(shm_name) as image:
            assert not image.stale


def test_errors_of_attach_are_image_errors_and_what_they_are_elsewhere(shm_name: str) -> None:
    with pytest.raises(SegmentNotFound, match="is its writer running"):
        attach(shm_name)
    for kind in (SegmentNotFound, LayoutMismatch, NotReady, NotPermitted, LeaseHeld):
        assert issubclass(kind, ImageError)
    assert issubclass(SegmentNotFound, FileNotFoundError)
    assert issubclass(NotPermitted, PermissionError)


def test_close_with_unlink_leaves_nothing_behind(shm_name: str) -> None:
    writer = create(shm_name, ["a"], semaphore=shm_name + "_sem")
    writer.close(unlink=True)
    assert leftovers(shm_name) == []


def test_a_semaphore_is_made_by_name_or_taken_as_an_object(shm_name: str) -> None:
    with create(shm_name, ["a"], semaphore=shm_name + "_sem") as writer, attach(shm_name) as image:
        assert image.semaphore_name == shm_name + "_sem"
        guard = posix_ipc.Semaphore("/" + shm_name + "_sem")
        assert guard.value == 1
        writer.semaphore = None
        assert image.semaphore_name == ""
        writer.semaphore = guard
        assert image.semaphore_name == shm_name + "_sem"
        writer.publish()
        assert guard.value == 1
        guard.close()
    assert mode_of(f"sem.{shm_name}_sem") == 0o660


def test_the_mode_is_as_asked_for_whatever_the_umask(shm_name: str) -> None:
    before = os.umask(0o077)
    try:
        with create(shm_name, ["a"]):
            assert mode_of(shm_name) == 0o640
            assert mode_of(shm_name + ".lease") == 0o600
        with create(shm_name, ["a"], mode=0o644):
            assert mode_of(shm_name) == 0o644
    finally:
        os.umask(before)


def test_snapshots_are_private_copies(shm_name: str) -> None:
    with create(shm_name, ["a"]) as writer, attach(shm_name) as image:
        before = image.snapshot()
        writer.set_value("a", 1.0)
        writer.publish()
        before.records["value"] = 99.0
        assert image.snapshot()["a"].value == 1.0
        assert np.isclose(image.snapshot().ages[0], 0, atol=60)


def test_counters_stand_in_the_header(shm_name: str) -> None:
    with create(shm_name, ["a", "b"]) as writer, attach(shm_name) as image:
        writer.set_value("a", 1.0)
        writer.publish()
        writer.publish()
        assert writer.counters.publishes == image.counters["publishes"] == 3
        assert writer.counters.changes == image.counters["changes"] == 1


def test_a_forked_child_can_not_write(shm_name: str) -> None:
    with Script(
        """
        writer = create(name, ["a"])
        pid = os.fork()
        if not pid:
            try:
                writer.publish()
            except WriterClosed:
                writer.close(unlink=True)
                del writer
                os._exit(7)
            os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        writer.set_value("a", 5.0)
        writer.publish()
        say(child=status, value=attach(name).snapshot()["a"].value)
        """, name=shm_name) as script:
        assert script.hear() == {"child": 7, "value": 5.0}


def test_a_forked_child_does_not_keep_the_lease(shm_name: str) -> None:
    with Script(
        """
        writer = create(name, ["a"])
        pid = os.fork()
        if not pid:
            say(child=os.getpid())
        time.sleep(60)
        """, name=shm_name) as script:
        child = script.hear()["child"]
        script.kill()
        try:
            create(shm_name, ["a"]).close(unlink=True)
        finally:
            os.kill(child, 9)
