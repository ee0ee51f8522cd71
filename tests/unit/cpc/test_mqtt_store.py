"""The store of the MQTT publisher: what was kept is there again, whatever happened in between."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mqtt_link import Message

from cpc.consumers.mqtt import store as store_module
from cpc.consumers.mqtt.frames import Frame, decode, encode, frames
from cpc.consumers.mqtt.store import Store

MESSAGES = st.builds(
    Message, topic=st.text(min_size=1, max_size=30).filter(lambda t: t.isprintable()), payload=st.binary(max_size=200),
    qos=st.integers(0, 2), retain=st.booleans())
FRAMES = st.builds(
    Frame, version=st.integers(1, 1 << 60), first=st.integers(1, 1 << 60), stored=st.integers(0, 1 << 62),
    cursors=st.just(b'{"a": "1:2"}'), messages=st.lists(MESSAGES, max_size=5).map(tuple))


def some(first: int, count: int, size: int = 20) -> list[Message]:
    return [Message(topic=f"t/{n}", payload=str(n).encode().ljust(size), qos=1) for n in range(first, first + count)]


def topics(found: list[tuple[int, Message]]) -> list[str]:
    return [message.topic for _, message in found]


@given(FRAMES)
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    data = encode(frame)
    assert decode(data) == (frame, len(data))
    assert decode(b"\0" * 7 + data, 7) == (frame, len(data) + 7)


@given(FRAMES, st.data())
def test_a_damaged_or_cut_frame_is_none(frame: Frame, data: st.DataObject) -> None:
    whole = encode(frame)
    assert decode(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    assert decode(bytes(damaged)) is None


@given(st.binary(max_size=300))
def test_garbage_is_no_frame(data: bytes) -> None:
    assert list(frames(data)) == []


def test_messages_wait_in_order_until_they_are_acknowledged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(some(1, 3), {"seg": "1:3"})
    store.append(some(4, 2), {"seg": "1:5"})
    found = store.read(10)
    assert topics(found) == ["t/1", "t/2", "t/3", "t/4", "t/5"]
    assert store.read(10) == []
    store.acknowledge(found[1][0])
    assert store.waiting == 4
    store.rewind()
    assert topics(store.read(2)) == ["t/1", "t/3"]
    for number, _ in found:
        store.acknowledge(number)
    assert store.waiting == 0
    assert list(tmp_path.glob("*.chunk")) == []
    store.append(some(6, 1), {"seg": "1:6"})
    assert topics(store.read(10)) == ["t/6"]
    store.close()


def test_another_life_finds_what_was_kept_and_the_newest_cursors(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(some(1, 5), {"a": "1:5"})
    store.acknowledge(1)
    store.acknowledge(2)
    store.acknowledge(4)
    store.keep({"b": "1:7"})
    store.append(some(6, 1), {"a": "1:6"})
    store.close()
    again = Store(tmp_path)
    assert again.cursors == {"a": "1:6", "b": "1:7"}
    assert topics(again.read(10)) == ["t/3", "t/4", "t/5", "t/6"]
    again.keep({"a": "1:9"})
    again.close()
    last = Store(tmp_path)
    assert last.cursors["a"] == "1:9"
    last.close()


@settings(max_examples=30)
@given(cut=st.integers(1, 600))
def test_what_a_crash_left_half_written_is_cut_and_nothing_before_it(tmp_path_factory: pytest.TempPathFactory,
                                                                     cut: int) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder)
    store.append(some(1, 4), {"a": "1:4"})
    first_ends = store._chunks[0].used
    store.append(some(5, 4), {"a": "1:8"})
    used = store._chunks[0].used
    store.close()
    (chunk,) = folder.glob("*.chunk")
    keep = max(first_ends, used - cut)
    with chunk.open("r+b") as file:
        file.truncate(keep)
    again = Store(folder)
    assert topics(again.read(99)) == ["t/1", "t/2", "t/3", "t/4"]
    assert again.cursors == {"a": "1:4"}
    again.append(some(5, 1), {"a": "1:5"})
    again.close()
    last = Store(folder)
    assert topics(last.read(99)) == ["t/1", "t/2", "t/3", "t/4", "t/5"]
    last.close()


def test_a_state_that_is_half_written_leaves_the_one_before(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(some(1, 3), {})
    store.acknowledge(1)
    store.keep({"a": "1:1"})
    store.acknowledge(2)
    store.keep({"a": "1:2"})
    slot = (store._version & 1) * 4096
    store.close()
    with (tmp_path / "state").open("r+b") as file:
        file.seek(slot + 20)
        file.write(b"\xff\xff\xff")
    again = Store(tmp_path)
    assert again.cursors["a"] == "1:1"
    assert topics(again.read(9)) == ["t/2", "t/3"]
    again.close()


def test_a_full_store_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    store = Store(tmp_path, megabytes=1)
    for n in range(100):
        store.append(some(n * 100, 100, size=300), {"a": f"1:{n}"})
    assert store.size <= 1 << 20
    assert store.dropped > 0
    assert store.dropped + store.waiting == 10_000
    found = store.read(20_000)
    assert found[-1][1].topic == "t/9999"
    assert [number for number, _ in found] == list(range(10_001 - len(found), 10_001))
    store.keep()
    dropped = store.dropped
    store.close()
    again = Store(tmp_path)
    assert (again.dropped, again.waiting) == (dropped, 10_000 - dropped)
    again.close()


def test_what_is_too_old_is_dropped(tmp_path: Path) -> None:
    store = Store(tmp_path, megabytes=1, hours=1e-9)
    for n in range(20):
        store.append(some(n * 100, 100, size=300), {})
    store.expire()
    assert store.dropped > 0
    store.close()


def test_a_full_disk_keeps_nothing_and_breaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path, megabytes=1)
    store.append(some(1, 300, size=300), {"a": "1:1"})
    real = os.posix_fallocate

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store_module.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        store.append(some(301, 300, size=300), {"a": "1:2"})
    assert store.cursors == {"a": "1:1"}
    assert store.waiting == 300
    found = store.read(999)
    for number, _ in found[:100]:
        store.acknowledge(number)
    store.keep({"b": "1:1"})
    monkeypatch.setattr(store_module.os, "posix_fallocate", real)
    store.append(some(301, 300, size=300), {"a": "1:2"})
    assert len(store.read(999)) == 300
    store.close()


def test_two_processes_do_not_share_a_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(OSError, match="another process"):
        Store(tmp_path)
    store.close()
    Store(tmp_path).close()
