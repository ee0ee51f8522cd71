"""Listing and cleaning: what is dead and ours goes, everything else is left alone and named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from image_tools import Script, leftovers
from process_image import (
    ForeignObject,
    LeaseHeld,
    SegmentNotFound,
    attach,
    clean,
    create,
    describe,
    list_segments,
    unlink,
)
from process_image.layout import STATE_NAMES, Word

SHM = Path("/dev/shm")


def test_segments_are_listed_with_who_writes_them(shm_prefix: str) -> None:
    with create(shm_prefix + "_b", ["a", "b"], semaphore=shm_prefix + "_sem", journal_entries=4) as writer, \
            create(shm_prefix + "_a", ["a"], mode=0o600):
        writer.records["quality"] = 0
        for number in range(4):
            writer.records["value"] = number
            writer.publish()
        first, second = list_segments(shm_prefix)
        assert [first.name, second.name] == [shm_prefix + "_a", shm_prefix + "_b"]
        assert (second.points, second.blocks, second.epoch, second.generation) == (2, 1, writer.epoch, 5)
        assert (second.pid, second.alive, second.fresh, second.state) == (os.getpid(), True, True, "READY")
        assert (first.mode, second.mode, second.semaphore) == (0o600, 0o640, shm_prefix + "_sem")
        assert second.size == (SHM / second.name).stat().st_size
        assert 0 < second.used_percent <= 100
        assert first.journal_seconds is None
        assert second.journal_seconds is not None and 0 <= second.journal_seconds < 60
        assert second.problem == ""
        assert dict(second.counters)["publishes"] == 5
        if os.geteuid() == 0:
            assert not second.enforced, "root could write: it is convention that it does not"
    info = describe(shm_prefix + "_b")
    assert info is not None
    assert (info.alive, info.fresh, info.heartbeat_age) == (False, False, None)
    assert describe(shm_prefix + "_none") is None


def test_a_segment_that_can_not_be_read_is_listed_with_its_problem(shm_name: str) -> None:
    create(shm_name, ["a"]).close()
    with (SHM / shm_name).open("r+b") as file:
        file.seek(8)
        file.write((99).to_bytes(4, "little"))
    (info,) = list_segments(shm_name)
    assert "99" in info.problem
    (SHM / (shm_name + "_foreign")).write_bytes(b"hello")
    assert [i.name for i in list_segments(shm_name)] == [shm_name]


def test_clean_removes_what_is_dead_and_ours_only(shm_prefix: str) -> None:
    create(shm_prefix + "_dead", ["a"], semaphore=shm_prefix + "_dead_sem").close()
    create(shm_prefix + "_version", ["a"]).close()
    with (SHM / (shm_prefix + "_version")).open("r+b") as file:
        file.seek(8)
        file.write((99).to_bytes(4, "little"))
    (SHM / (shm_prefix + "_foreign")).write_bytes(b"x" * 8192)
    (SHM / (shm_prefix + "_other.lease")).write_bytes(b"not ours")
    (SHM / (shm_prefix + "_ours.lease")).write_bytes(b'{"pid": 1}')
    with create(shm_prefix + "_live", ["a"], semaphore=shm_prefix + "_live_sem") as writer:
        done = {c.name.removeprefix(shm_prefix): c for c in clean(shm_prefix)}
        removed = {name for name, c in done.items() if c.removed}
        assert removed == {"_dead", "_ours.lease"}
        assert str(os.getpid()) in done["_live"].reason
        assert "version 99" in done["_version"].reason
        assert "no process image" in done["_foreign"].reason
        assert "not ours" in done["_other.lease"].reason
        writer.publish()
        with attach(shm_prefix + "_live") as image:
            assert not image.stale
    assert leftovers(shm_prefix) == sorted([
        f"sem.{shm_prefix}_live_sem", *(shm_prefix + n for n in ("_foreign", "_live", "_other.lease", "_version"))])


def test_clean_after_a_killed_writer(shm_prefix: str) -> None:
    with Script("create(name, ['a'])\nos.kill(os.getpid(), 9)", name=shm_prefix + "_shm") as script:
        assert script.wait() == -9
    assert leftovers(shm_prefix) == [shm_prefix + "_shm", shm_prefix + "_shm.lease"]
    assert [(c.name, c.removed) for c in clean(shm_prefix)] == [(shm_prefix + "_shm", True)]
    assert leftovers(shm_prefix) == []
    assert clean(shm_prefix) == []


def test_a_reader_of_a_cleaned_segment_sees_it_stale(shm_name: str) -> None:
    create(shm_name, ["a"]).close()
    with attach(shm_name) as image:
        clean(shm_name)
        assert image.snapshot().stale
        with create(shm_name, ["a"]) as writer:
            assert image.wait(timeout=10)
            assert image.epoch == writer.epoch


def test_unlink_refuses_what_lives_or_is_foreign(shm_name: str) -> None:
    with pytest.raises(SegmentNotFound):
        unlink(shm_name)
    with create(shm_name, ["a"]), pytest.raises(LeaseHeld):
        unlink(shm_name)
    unlink(shm_name)
    assert leftovers(shm_name) == []
    (SHM / shm_name).write_bytes(b"x" * 5000)
    with pytest.raises(ForeignObject):
        unlink(shm_name)


def test_create_leaves_a_foreign_object_alone(shm_name: str) -> None:
    (SHM / shm_name).write_bytes(b"somebody else's")
    with pytest.raises(ForeignObject, match="another program"):
        create(shm_name, ["a"])
    assert (SHM / shm_name).read_bytes() == b"somebody else's"
    assert leftovers(shm_name) == [shm_name]


def test_create_replaces_a_damaged_or_older_segment_of_ours(shm_name: str) -> None:
    for place in (8, 100, Word.STATE):
        create(shm_name, ["a"]).close()
        image = attach(shm_name) if place == Word.STATE else None
        with (SHM / shm_name).open("r+b") as file:
            file.seek(place)
            file.write(b"\x63\0\0\0")
        with create(shm_name, ["a"]) as writer, attach(shm_name) as fresh:
            assert fresh.epoch == writer.epoch
            if image is not None:
                assert image.wait(timeout=10)
                assert image.epoch == writer.epoch
                image.close()
    assert STATE_NAMES[3] == "RETIRED"


def test_a_fifo_or_link_by_the_name_does_not_hold_anyone(shm_name: str, tmp_path: Path) -> None:
    os.mkfifo(SHM / shm_name)
    for act in (attach, lambda name: create(name, ["a"])):
        with pytest.raises(ForeignObject):
            act(shm_name)
    (SHM / shm_name).unlink()
    (SHM / shm_name).symlink_to(tmp_path / "elsewhere")
    for act in (attach, lambda name: create(name, ["a"])):
        with pytest.raises(ForeignObject):
            act(shm_name)
    assert list_segments(shm_name) == []


def test_without_unnamed_files_the_object_is_still_made_whole(shm_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that knows no O_TMPFILE: the object is made under another name."""
    original = os.open

    def refuse(path: object, flags: int, *rest: object, **more: object) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return original(path, flags, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    (SHM / (shm_name + ".new")).write_bytes(b"left by a killed writer")
    with create(shm_name, ["a"]), attach(shm_name) as image:
        assert not image.stale
    assert leftovers(shm_name) == [shm_name]


def test_an_object_that_never_got_its_name_is_cleaned(shm_name: str) -> None:
    (SHM / (shm_name + ".new")).write_bytes(b"CPCIMAGE" + bytes(5000))
    (SHM / (shm_name + "x.new")).write_bytes(b"something else")
    done = clean(shm_name)
    assert [(c.name, c.removed) for c in done] == [(shm_name + ".new", True), (shm_name + "x.new", False)]
    assert leftovers(shm_name) == [shm_name + "x.new"]
