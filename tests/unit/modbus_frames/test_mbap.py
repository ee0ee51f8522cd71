"""The MBAP header: round trips, cutting streams, garbage."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modbus_frames import MAX_ADU, Adu, Splitter, encode_adu

adus = st.builds(
    Adu,
    transaction=st.integers(0, 0xFFFF),
    unit=st.integers(0, 0xFF),
    pdu=st.binary(min_size=1, max_size=253),
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at the given places."""
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(adus)
def test_a_frame_is_laid_out_as_the_guide_says(adu: Adu) -> None:
    data = encode_adu(*adu)
    assert struct.unpack(">HHHB", data[:7]) == (adu.transaction, 0, len(adu.pdu) + 1, adu.unit)
    assert data[7:] == adu.pdu


@given(st.lists(adus, max_size=8), st.lists(st.integers(0, 5000), max_size=12))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(frames: list[Adu], cuts: list[int]) -> None:
    stream = b"".join(encode_adu(*f) for f in frames)
    splitter = Splitter()
    out = [f for piece in pieces(stream, cuts) for f in splitter.feed(piece)]
    assert out == frames
    assert splitter.error is None
    assert splitter.pending == 0


@given(st.lists(adus, max_size=3), st.binary(max_size=600))
def test_garbage_is_judged_alike_whole_and_byte_by_byte_in_bounded_memory(frames: list[Adu], tail: bytes) -> None:
    stream = b"".join(encode_adu(*f) for f in frames) + tail
    whole, single = Splitter(), Splitter()
    at_once = whole.feed(stream)
    one_by_one = []
    for i in range(len(stream)):
        one_by_one += single.feed(stream[i : i + 1])
        assert single.pending < MAX_ADU
    assert at_once == one_by_one
    assert at_once[: len(frames)] == frames
    assert str(whole.error) == str(single.error)
    assert whole.pending == single.pending < MAX_ADU


@pytest.mark.parametrize("header", ["000100010006", "000100000001", "0001000000ff", "000100000000", "00010000ffff"])
def test_an_impossible_header_ends_the_stream_and_reset_begins_a_new_one(header: str) -> None:
    good = encode_adu(7, 1, b"\x03\x02\x00\x01")
    splitter = Splitter()
    assert splitter.feed(good + bytes.fromhex(header) + b"\x01" + good) == [Adu(7, 1, b"\x03\x02\x00\x01")]
    assert splitter.error is not None
    assert splitter.feed(good) == []
    splitter.reset()
    assert len(splitter.feed(good)) == 1
    assert splitter.error is None


@pytest.mark.parametrize(
    ("transaction", "unit", "pdu"),
    [(0, 0, b""), (0, 0, bytes(254)), (-1, 0, b"x"), (0, 256, b"x")],
)
def test_what_can_not_be_sent_is_refused(transaction: int, unit: int, pdu: bytes) -> None:
    with pytest.raises(ValueError):
        encode_adu(transaction, unit, pdu)
