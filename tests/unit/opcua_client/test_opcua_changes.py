"""Notifications taken apart: the same as value by value, in rounds, and Malformed for what is none."""

from __future__ import annotations

import asyncio
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opcua_client.changes import OVERFLOW, ChangeReader
from opcua_client.cursor import Cursor, Localized, Qualified
from opcua_client.datatypes import BYTESTRING, DOUBLE, INT32, STRING, Wire, kind_of
from opcua_client.encoding import EPOCH_TICKS, NodeId
from opcua_client.errors import Malformed, Refused
from opcua_client.monitored import Message
from opcua_client.subscription import Subscription
from opcua_client.variants import Unfit, encode_scalar, encode_variant, plain

NOW = 1_700_000_000_000_000_000
TICKS = EPOCH_TICKS + NOW // 100


def item(handle: int, value: float | None, *, status: int = 0, ticks: int = TICKS, text: str | None = None) -> bytes:
    variant = b"" if value is None else encode_variant(Wire.DOUBLE, value)
    variant = encode_variant(Wire.STRING, text) if text is not None else variant
    mask = bool(variant) | (2 if status else 0) | (4 if ticks else 0)
    return (struct.pack("<IB", handle, mask) + variant + (struct.pack("<I", status) if status else b"")
            + (struct.pack("<q", ticks) if ticks else b""))


def notification(*items: bytes) -> bytes:
    return struct.pack("<i", len(items)) + b"".join(items) + struct.pack("<i", -1)


def read(reader: ChangeReader, body: bytes) -> Any:
    return reader.read(b"\7" * 5 + body + b"\7" * 3, 5, 5 + len(body), NOW)


def test_items_of_one_form_are_read_without_a_walk_and_give_the_same() -> None:
    reader = ChangeReader([DOUBLE] * 9)
    alike = [item(h, h + 0.5, ticks=TICKS + h) for h in (3, 1, 8, 1)]
    mixed = [*alike, item(0, 1.0, status=0x40900000)]
    one, other = read(reader, notification(*alike)), read(reader, notification(*mixed))
    for name in ("handles", "value", "raw", "quality", "source_time"):
        assert getattr(one, name).tolist() == getattr(other, name)[:4].tolist(), name
    assert one.handles.tolist() == [3, 1, 8, 1]
    assert one.value.tolist() == [3.5, 1.5, 8.5, 1.5]
    assert one.source_time.tolist() == [NOW + 300, NOW + 100, NOW + 800, NOW + 100]
    assert other.quality[4] == 0x40900000
    assert [places.tolist() for places in one.rounds()] == [[0, 1, 2], [3]]


@given(st.lists(st.integers(0, 5), max_size=30))
def test_rounds_hold_each_item_once_and_keep_its_order(handles: list[int]) -> None:
    changes = read(ChangeReader([DOUBLE] * 6), notification(*(item(h, float(n)) for n, h in enumerate(handles))))
    seen: dict[int, list[int]] = {}
    for places in changes.rounds() if handles else []:
        assert len(set(changes.handles[places].tolist())) == len(places)
        for place in places.tolist():
            seen.setdefault(int(changes.handles[place]), []).append(place)
    assert all(places == sorted(places) for places in seen.values())
    assert sorted(place for places in seen.values() for place in places) == list(range(len(handles)))


def test_the_overflow_mark_is_counted_and_does_not_show() -> None:
    changes = read(ChangeReader([DOUBLE] * 2), notification(item(0, 1.0, status=OVERFLOW), item(1, 2.0)))
    assert (changes.overflows, changes.quality.tolist()) == (1, [0, 0])
    assert changes.fresh.all()


def test_other_types_bad_values_and_ranges_are_told_apart() -> None:
    reader = ChangeReader([INT32, DOUBLE, DOUBLE, DOUBLE], [(None, None), (None, 5.0), (None, None), (None, None)])
    changes = read(reader, notification(
        item(0, 1.5), item(1, 6.0), item(2, None, status=0x80340000), item(3, None, text="x")))
    assert [f"{q:08X}" for q in changes.quality] == ["80740000", "40940000", "80340000", "80740000"]
    assert changes.fresh.tolist() == [False, True, False, False]
    assert dict(changes.mismatches) == {0: "the Double does not fit Int32 exactly", 3: "String instead of Double"}


def test_texts_are_left_to_the_readers_of_answers() -> None:
    from opcua_client.decoding import Reader

    changes = read(ChangeReader([None, DOUBLE]), notification(item(0, None, text="abc"), item(1, 1.0)))
    assert changes.simple.tolist() == [False, True]
    columns = Reader(1).read(changes.answers[0])
    assert columns.body[columns.layout.value_at[0] + 4 : columns.layout.value_end[0]] == b"abc"


def test_times_that_can_not_be_are_replaced() -> None:
    changes = read(ChangeReader([DOUBLE] * 2), notification(item(0, 1.0, ticks=5), item(1, 1.0, ticks=0)))
    assert changes.source_time.tolist() == [NOW, NOW]
    assert changes.odd_times == 0


def test_a_handle_that_was_never_given_is_malformed() -> None:
    with pytest.raises(Malformed, match="handle 7"):
        read(ChangeReader([DOUBLE]), notification(item(7, 1.0)))


@given(st.binary(max_size=40), st.integers(0, 60))
def test_garbage_is_malformed_and_nothing_else(noise: bytes, cut: int) -> None:
    reader = ChangeReader([DOUBLE] * 300)
    whole = notification(item(0, 1.0), item(1, None, text="ab"), item(2, 3.0))
    for body in (noise, whole[:cut] + noise, whole[: cut % len(whole)]):
        try:
            read(reader, body)
        except Malformed:
            continue


SCALARS = [(Wire.BOOLEAN, True), (Wire.SBYTE, -128), (Wire.UINT64, 2**64 - 1), (Wire.INT64, -(2**63)),
           (Wire.FLOAT, 0.5), (Wire.DOUBLE, 1e300), (Wire.STRING, "ä€"), (Wire.BYTESTRING, b"\0\xff"),
           (Wire.GUID, "72962b91-fa75-4ae6-8d28-b404dc7daf63"), (Wire.NODEID, "ns=3;s=a;b"),
           (Wire.QUALIFIEDNAME, "2:Name"), (Wire.LOCALIZEDTEXT, "Text"), (Wire.STATUSCODE, 0x80340000)]


@pytest.mark.parametrize(("wire", "value"), SCALARS)
def test_what_is_encoded_reads_back(wire: Wire, value: Any) -> None:
    assert plain(Cursor(encode_variant(wire, value)).variant()) == value
    assert plain(Cursor(encode_variant(wire, [value, value], array=True)).variant()) == [value, value]


@pytest.mark.parametrize(("wire", "value"), [
    (Wire.BYTE, 256), (Wire.BYTE, -1), (Wire.INT16, 1.5), (Wire.INT32, True), (Wire.DOUBLE, "1"), (Wire.FLOAT, 1e39),
    (Wire.BOOLEAN, 2), (Wire.STRING, 5), (Wire.GUID, "x"), (Wire.DATETIME, "yesterday"), (Wire.INT64, float("nan")),
    (Wire.EXTENSIONOBJECT, 1), (Wire.NODEID, "x"), (Wire.DOUBLE, 10**400), (Wire.DOUBLE, 2**63 + 1),
])
def test_what_does_not_fit_is_refused_with_what_is_allowed(wire: Wire, value: Any) -> None:
    with pytest.raises(Unfit, match=";"):
        encode_scalar(wire, value)


def test_localized_and_qualified_keep_their_parts() -> None:
    assert Cursor(encode_variant(Wire.LOCALIZEDTEXT, Localized(text="a", locale="de"))).variant().value == Localized(
        text="a", locale="de")
    assert str(Qualified(name="x", namespace=2)) == "2:x"
    assert kind_of("ByteString") is BYTESTRING
    assert kind_of("String") is STRING
    assert str(NodeId(namespace=0, identifier=85)) == "i=85"


class Recorder:
    """A subscription without a server: what is staged, and which notifications are asked for again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, available: set[int]) -> None:
        self.staged: list[int] = []
        self.acknowledged: list[int] = []
        counts = SimpleNamespace(lost=0, republished=0, notifications=0)
        self.counts = counts
        self.subscription = Subscription.__new__(Subscription)
        made: Any = self.subscription
        made._last, made._saved, made.number, made.heard = 0, None, 1, 0.0
        made._of = SimpleNamespace(
            counts=counts, server=SimpleNamespace(timeout=1.0), note=lambda text: None,
            acknowledge=lambda number, sequence: self.acknowledged.append(sequence))
        made.publish = lambda: None
        made._stage = lambda message: self.staged.append(message.sequence)

        async def republish(channel: Any, number: int, sequence: int, timeout: float) -> Message:
            if sequence not in available:
                raise Refused("republish", 0x807B0000)
            return message(sequence)

        monkeypatch.setattr("opcua_client.subscription.republish", republish)

    def take(self, *messages: Message) -> None:
        async def run() -> None:
            for each in messages:
                await self.subscription.take(SimpleNamespace(channel=None), each, ())  # type: ignore[arg-type]

        asyncio.run(run())


def message(sequence: int, *, keep_alive: bool = False) -> Message:
    return Message(sequence=sequence, changes=() if keep_alive else ((0, 0),), status=None, body=b"")


def test_missing_notifications_are_had_again_before_the_next_or_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Recorder(monkeypatch, {2, 4})
    rig.take(message(1), message(5), message(5), message(3))
    assert rig.staged == [1, 2, 4, 5]
    assert (rig.counts.lost, rig.counts.republished) == (1, 2)
    assert rig.acknowledged == [1, 2, 4, 5]


def test_a_keep_alive_tells_of_what_is_missing_and_is_no_notification(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Recorder(monkeypatch, {1})
    rig.take(message(1, keep_alive=True), message(2, keep_alive=True), message(2))
    assert rig.staged == [1, 2]
    assert (rig.counts.lost, rig.counts.republished) == (0, 1)


def test_sequence_numbers_go_round_without_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Recorder(monkeypatch, set())
    rig.subscription._last = 0xFFFF_FFFE
    rig.take(message(0xFFFF_FFFF), message(1), message(2))
    assert rig.staged == [0xFFFF_FFFF, 1, 2]
    assert rig.counts.lost == 0


def test_far_too_many_missing_notifications_are_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Recorder(monkeypatch, set())
    rig.take(message(1), message(50_000))
    assert rig.counts.lost == 49_998
    assert rig.staged[-1] == 50_000
    assert np.int64(rig.subscription._last) == 50_000
