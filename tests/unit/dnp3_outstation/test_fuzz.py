"""Frames and segments as Hypothesis thinks of them, and what the checks of the bulk (test_fuzz_million) notice."""

from __future__ import annotations

import pytest
from dnp3_fuzz import Answers, check_answer
from dnp3_outstation.link import FrameReader
from dnp3_outstation.link import encode_frame as library_frame
from dnp3_outstation.transport import Reassembler
from dnp3_rig import frame
from hypothesis import given
from hypothesis import strategies as st


@given(st.binary(max_size=600), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_frames_whole_and_in_pieces_are_the_same(data, sizes):
    data = data[:200] + frame(0xC4, data[:250]) + data[200:] + frame(0xC9)
    whole = list(FrameReader().feed(data))
    reader, pieces, place = FrameReader(), [], 0
    while place < len(data):
        size = sizes[place % len(sizes)]
        pieces += reader.feed(data[place : place + size])
        place += size
    assert pieces == whole


@given(st.integers(0, 255), st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=250))
def test_frames_go_round(control, destination, source, data):
    octets = library_frame(control, destination, source, data)
    assert octets == frame(control, data, destination, source)
    (back,) = FrameReader().feed(octets)
    assert (back.control, back.destination, back.source, back.data) == (control, destination, source, data)


@given(st.lists(st.binary(max_size=260), max_size=60))
def test_any_segments_keep_the_reassembly_bounded(segments):
    reassembler = Reassembler(600)
    for item in segments:
        done = reassembler.add(item)
        assert done is None or 0 < len(done) <= 600


GOOD = bytes.fromhex("c1810000 1e05000001 0100000000 0100000000")


@pytest.mark.parametrize("bad", [GOOD[:-1], GOOD + b"\0", GOOD[:7] + b"\x01\x00" + GOOD[9:],
                                 GOOD.replace(b"\x1e", b"\x77"), b"\xd1" + GOOD[1:], b"\xc1\x01" + GOOD[2:]])
def test_an_answer_that_is_none_is_noticed(bad):
    check_answer(GOOD)
    with pytest.raises((AssertionError, IndexError, ValueError)):
        check_answer(bad)


@pytest.mark.parametrize("place", range(36))
def test_a_wrong_octet_in_an_answer_is_noticed(place):
    octets = frame(0x44, b"\xc0" + GOOD, 1, 10)
    answers = Answers()
    answers.take(octets)
    answers.finish()
    with pytest.raises((AssertionError, IndexError, ValueError)):
        answers.take(octets[:place] + bytes([octets[place] ^ 0x04]) + octets[place + 1 :])
        assert answers.count == 2
        answers.finish()
