"""The journal: every change, in order, and an exact count of what a slow reader lost."""

from __future__ import annotations

import numpy as np
import pytest
from process_image import Cursor, Point, attach, create
from process_image.changes import BATCH


def values(batches: list) -> list[float]:
    return [float(v) for batch in batches for v in batch.records["value"]]


def test_changes_come_in_order_and_only_once(shm_name: str) -> None:
    with create(shm_name, ["a", "b"]) as writer, attach(shm_name) as image:
        writer.records["quality"] = 0
        writer.publish()
        cursor = image.cursor()
        for number in range(1, 6):
            writer.records["value"][0] = number
            writer.publish()
        (batch,) = image.changes(cursor)
        assert values([batch]) == [1, 2, 3, 4, 5]
        assert batch.rows.tolist() == [0] * 5
        assert batch.records["sequence"].tolist() == [2, 3, 4, 5, 6]
        assert (np.diff(batch.published) >= 0).all()
        assert batch.lost == 0 and batch.snapshot is None and not batch.new_epoch
        assert list(image.changes(batch.cursor)) == []


def test_without_a_cursor_the_oldest_that_is_still_there_comes_first(shm_name: str) -> None:
    with create(shm_name, ["a"], journal_entries=4) as writer, attach(shm_name) as image:
        writer.records["quality"] = 0
        for number in range(1, 4):
            writer.records["value"] = number
            writer.publish()
        assert values(list(image.changes())) == [1, 2, 3]
        for number in range(4, 8):
            writer.records["value"] = number
            writer.publish()
        (batch,) = image.changes(None)
        assert (values([batch]), batch.lost) == ([4, 5, 6, 7], 0)


@pytest.mark.parametrize("behind", [0, 1, 3, 4, 5, 9, 100])
def test_a_lapped_reader_is_told_exactly_how_many_it_lost(shm_name: str, behind: int) -> None:
    size = 4
    with create(shm_name, ["a"], journal_entries=size) as writer, attach(shm_name) as image:
        writer.records["quality"] = 0
        writer.publish()
        cursor = image.cursor()
        for number in range(1, behind + 1):
            writer.records["value"] = number
            writer.publish()
        batches = list(image.changes(cursor))
        lost = max(0, behind - size)
        assert sum(batch.lost for batch in batches) == lost
        assert values(batches) == list(range(lost + 1, behind + 1))
        if lost:
            assert batches[0].snapshot is not None
            assert batches[0].snapshot["a"].value == behind


def test_one_publish_larger_than_the_journal_is_counted_too(shm_name: str) -> None:
    names = [f"p{i}" for i in range(10)]
    with create(shm_name, names, journal_entries=4) as writer, attach(shm_name) as image:
        writer.records["quality"] = 0
        cursor = image.cursor()
        writer.records["value"] = range(10)
        assert writer.publish() == 10
        (batch,) = image.changes(cursor)
        assert batch.lost == 6
        assert batch.rows.tolist() == [6, 7, 8, 9]
        writer.records["value"][::3] = 50
        writer.publish()
        (batch,) = image.changes(batch.cursor)
        assert (batch.lost, batch.rows.tolist()) == (0, [0, 3, 6, 9])


def test_long_journals_come_in_batches(shm_name: str) -> None:
    count = BATCH + 100
    with create(shm_name, [f"p{i}" for i in range(count)]) as writer, attach(shm_name) as image:
        writer.records["quality"] = 0
        cursor = image.cursor()
        writer.publish()
        batches = list(image.changes(cursor))
        assert [len(b) for b in batches] == [BATCH, 100]
        assert np.concatenate([b.rows for b in batches]).tolist() == list(range(count))


def test_entries_overwritten_during_the_copy_are_thrown_away_and_counted(
        shm_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer laps the reader between its copy and its second look at `reserved`."""
    from process_image import changes as module

    with create(shm_name, [Point(name="a"), Point(name="t", type="string")], journal_entries=8) as writer, \
            attach(shm_name) as image:
        writer.records["quality"] = 0
        writer.publish()
        cursor = image.cursor()
        for number in range(1, 7):
            writer.records["value"][0] = number
            writer.publish()
        original = module._read_texts

        def lapped(*arguments: object) -> object:
            result = original(*arguments)  # type: ignore[arg-type]
            for number in range(7, 12):
                writer.records["value"][0] = number
                writer.publish()
            return result

        monkeypatch.setattr(module, "_read_texts", lapped)
        batches = image.changes(cursor)
        first = next(batches)
        monkeypatch.undo()
        rest = list(batches) + list(image.changes(first.cursor))
        found = values([first, *rest])
        lost = first.lost + sum(b.lost for b in rest)
        assert first.lost == 3
        assert found == list(range(12 - len(found), 12))
        assert len(found) + lost == 11


def test_texts_come_with_their_entries(shm_name: str) -> None:
    with create(shm_name, [Point(name="t", type="string", size=8), Point(name="b", type="bytes", size=8), "n"]) as w, \
            attach(shm_name) as image:
        cursor = image.cursor()
        for number in range(3):
            w.set_value("t", f"text {number}")
            w.set_value("b", bytes([number]))
            w.set_value("n", number)
            w.publish()
        (batch,) = image.changes(cursor)
        names = [image.points[r].name for r in batch.rows]
        got = [(name, batch.value(i)) for i, name in enumerate(names)]
        for k in range(3):  # within one publish the order is free
            assert dict(got[3 * k : 3 * k + 3]) == {"t": f"text {k}", "b": bytes([k]), "n": float(k)}


def test_a_bad_entry_of_what_was_never_read_has_no_value_and_a_later_bad_one_keeps_the_last_good(shm_name: str) -> None:
    with create(shm_name, ["n", Point(name="t", type="string", size=8)]) as writer, attach(shm_name) as image:
        cursor = image.cursor()
        writer.records["quality"] = 0x800A0000
        writer.publish()
        for row, value in enumerate((7.0, "seven")):
            writer.set_value(row, value)
        writer.records["quality"], writer.records["source_time"] = 0, 1
        writer.publish()
        writer.records["quality"] = 0x800A0000
        writer.publish()
        (batch,) = image.changes(cursor)
        got = [(image.points[row].name, batch.value(i)) for i, row in enumerate(batch.rows)]
        assert sorted(got[:2]) == [("n", None), ("t", None)]
        assert sorted(got[2:4]) == sorted(got[4:]) == [("n", 7.0), ("t", "seven")]


def test_texts_that_were_overwritten_are_none_and_counted(shm_name: str) -> None:
    with create(shm_name, [Point(name="t", type="string", size=10)], long_bytes=25) as writer, \
            attach(shm_name) as image:
        writer.records["quality"] = 0
        writer.records["source_time"] = 1
        cursor = image.cursor()
        for number in range(5):
            writer.set_text(0, f"{number}" * 10)
            writer.publish()
        (batch,) = image.changes(cursor)
        assert [batch.value(i) for i in range(5)] == [None, None, None, "3" * 10, "4" * 10]
        assert (batch.lost, batch.texts_lost) == (0, 3)


def test_a_cursor_is_kept_as_text_and_used_again(shm_name: str) -> None:
    with create(shm_name, ["a"]) as writer:
        with attach(shm_name) as image:
            kept = str(image.cursor())
        writer.set_value("a", 1.0)
        writer.publish()
        with attach(shm_name) as image:
            (batch,) = image.changes(Cursor.parse(kept))
            assert values([batch]) == [1.0]


def test_a_cursor_ahead_of_the_journal_is_refused(shm_name: str) -> None:
    with create(shm_name, ["a"]), attach(shm_name) as image, pytest.raises(ValueError, match="ahead"):
        list(image.changes(Cursor(epoch=image.epoch, position=99)))


@pytest.mark.parametrize("text", ["", "x", "12", "zz:1", "1:z"])
def test_a_damaged_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Cursor.parse(text)


def test_the_journal_goes_on_over_a_take_over(shm_name: str) -> None:
    with create(shm_name, ["a"]) as writer:
        writer.set_value("a", 1.0)
        writer.publish()
        with attach(shm_name) as image:
            cursor = image.cursor()
            writer.set_value("a", 2.0)
            writer.publish()
            writer.close()
            with create(shm_name, ["a"]) as second:
                second.set_value("a", 3.0)
                second.publish()
                (batch,) = image.changes(cursor)
                assert values([batch]) == [2.0, 2.0, 3.0]
                assert batch.records["quality"].tolist() == [0, 0x80320000, 0]
                assert batch.records["sequence"].tolist() == [2, 3, 4]
                assert image.attachments == 1
