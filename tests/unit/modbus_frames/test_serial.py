"""Serial frames: known ones, and streams with noise, lost bytes and frames glued together."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from modbus_frames import (
    AsciiSplitter,
    RtuSplitter,
    SerialAdu,
    SerialSplitter,
    crc16,
    encode_ascii,
    encode_rtu,
    exception_response,
    lrc,
    read_request,
    read_response,
    write_multiple_registers,
)
from modbus_frames.lengths import MORE, UNKNOWN, answer_length, request_length

registers = st.integers(1, 125).flatmap(lambda n: st.binary(min_size=2 * n, max_size=2 * n))
answers = st.one_of(  # function 8 without query data, which only an asker can tell the length of: see below

    st.builds(read_response, st.sampled_from([3, 4]), registers),
    st.builds(read_response, st.sampled_from([1, 2]), st.binary(min_size=1, max_size=250)),
    st.builds(lambda f, d: bytes((f,)) + d, st.sampled_from([5, 6, 8, 15, 16]), st.binary(min_size=4, max_size=4)),
    st.builds(exception_response, st.integers(1, 100), st.integers(1, 255)),
)
queries = st.integers(1, 125).flatmap(lambda n: st.binary(min_size=2 * n, max_size=2 * n)).map(
    lambda d: b"\x08\0\0" + d)
requests = st.one_of(
    queries,
    st.builds(read_request, st.integers(1, 4), st.integers(0, 60000), st.integers(1, 125)),
    st.builds(write_multiple_registers, st.integers(0, 60000), registers.filter(lambda d: len(d) <= 246)),
)
units = st.integers(0, 255)
noises = st.binary(max_size=40)
KINDS = [(encode_rtu, RtuSplitter), (encode_ascii, AsciiSplitter)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces."""
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(marks)]


def drained(splitter: SerialSplitter, pieces: list[bytes]) -> list[SerialAdu]:
    """All frames of a stream that falls silent at its end."""
    found = [adu for piece in pieces for adu in splitter.feed(piece)]
    return found + splitter.silence()


def test_the_standards_own_check_sums() -> None:
    assert crc16(bytes((0x02, 0x07))) == 0x1241  # V1.02, clause 6.2.2: sent as 41 12
    assert encode_rtu(1, read_request(3, 0, 10)).hex() == "01030000000ac5cd"
    assert lrc(bytes.fromhex("0103000001")) == 0xFB
    assert encode_ascii(1, read_request(3, 0, 1)) == b":010300000001FB\r\n"


@pytest.mark.parametrize(("encode", "make"), KINDS, ids=["rtu", "ascii"])
@given(data=st.data())
def test_frames_come_out_as_they_went_in_however_they_are_cut(encode, make, data) -> None:  # type: ignore[no-untyped-def]
    frames = data.draw(st.lists(st.builds(SerialAdu, units, answers), max_size=5))
    stream = b"".join(encode(*adu) for adu in frames)
    pieces = cut(stream, data.draw(st.lists(st.integers(0, 2000), max_size=6)))
    assert drained(make(), pieces) == frames


@given(units, queries, st.lists(st.integers(0, 2000), max_size=6), noises)
def test_an_asker_knows_the_length_of_an_echo(unit: int, pdu: bytes, places: list[int], noise: bytes) -> None:
    splitter = RtuSplitter()
    splitter.expect(pdu)
    frame = encode_rtu(unit, pdu)
    following = SerialAdu(unit, read_response(3, b"\1\2"))
    stream = noise + frame + encode_rtu(*following)
    found = drained(splitter, cut(stream, places))
    assert found[-2:] == [SerialAdu(unit, pdu), following]


@given(st.lists(st.builds(SerialAdu, units, requests), max_size=5), st.lists(st.integers(0, 2000), max_size=6))
def test_a_server_hears_requests_likewise(frames: list[SerialAdu], places: list[int]) -> None:
    stream = b"".join(encode_rtu(*adu) for adu in frames)
    assert drained(RtuSplitter(requests=True), cut(stream, places)) == frames


@pytest.mark.parametrize(("encode", "make"), KINDS, ids=["rtu", "ascii"])
@given(data=st.data())
def test_whole_and_byte_by_byte_give_the_same_from_any_stream(encode, make, data) -> None:  # type: ignore[no-untyped-def]
    """Frames with noise before them and bytes lost from them."""
    stream = b""
    for adu in data.draw(st.lists(st.builds(SerialAdu, units, answers), max_size=4)):
        frame = bytearray(data.draw(noises) + encode(*adu))
        for place in data.draw(st.lists(st.integers(0, 600), max_size=2)):
            del frame[place % len(frame)]
        stream += bytes(frame)
    whole, single = make(), make()
    assert drained(whole, [stream]) == drained(single, [stream[i : i + 1] for i in range(len(stream))])
    assert (whole.noise, whole.pending) == (single.noise, single.pending)


@pytest.mark.parametrize(("encode", "make"), KINDS, ids=["rtu", "ascii"])
@given(noise=st.binary(max_size=600), unit=units, pdu=answers)
@example(noise=bytes.fromhex("01037d0000"), unit=1, pdu=read_response(3, bytes(250)))
def test_a_frame_behind_noise_is_found_within_one_silence(  # type: ignore[no-untyped-def]
    encode, make, noise, unit, pdu
) -> None:
    frame = SerialAdu(unit, pdu)
    assert drained(make(), [noise + encode(*frame)])[-1:] == [frame] or crc16(noise[-256:]) == 0


@pytest.mark.parametrize("make", [make for _, make in KINDS], ids=["rtu", "ascii"])
@given(pieces=st.lists(st.binary(max_size=300), max_size=40))
def test_whatever_comes_little_is_kept(make, pieces) -> None:  # type: ignore[no-untyped-def]
    splitter = make()
    for piece in pieces:
        splitter.feed(piece)
        assert splitter.pending < 514
    splitter.reset()
    assert splitter.pending == 0


def test_half_a_frame_is_passed_over_with_the_silence_but_not_the_one_that_is_awaited() -> None:
    splitter, frame = RtuSplitter(), encode_rtu(1, read_response(3, bytes(20)))
    assert splitter.feed(frame[:10]) == []
    assert splitter.silence(frame[:3]) == []
    assert splitter.feed(frame[10:]) == [SerialAdu(1, read_response(3, bytes(20)))]
    splitter.feed(frame[:10])
    splitter.silence(b"\x02\x03\x14")
    assert splitter.pending == 0
    assert splitter.feed(frame) == [SerialAdu(1, read_response(3, bytes(20)))]


def test_a_frame_inside_the_data_of_another_is_data() -> None:
    inner = encode_rtu(1, read_response(3, b"\x12\x34"))
    outer = read_response(3, inner + b"\0")
    frame = encode_rtu(2, outer)
    single = RtuSplitter()
    assert [adu for i in range(len(frame)) for adu in single.feed(frame[i : i + 1])] == [SerialAdu(2, outer)]


@pytest.mark.parametrize("frame", [
    b":010300000001FC\r\n", b":010300000001F\r\n", b":01030000000GFB\r\n", b":010300000001FB\n", b":01FF\r\n", b":\r\n",
])
def test_what_is_no_ascii_frame_is_passed_over(frame: bytes) -> None:
    splitter = AsciiSplitter()
    assert splitter.feed(frame + b":010300000001FB\r\n") == [SerialAdu(1, read_request(3, 0, 1))]
    assert splitter.noise == len(frame)


@pytest.mark.parametrize(("pdu", "length"), [
    ("83 02", 2), ("03 04", 6), ("03 03", UNKNOWN), ("03 00", UNKNOWN), ("01 03", 5), ("06", 5), ("10", 5),
    ("16", 7), ("18 00 06", 9), ("18", MORE), ("2b 0e 01 01 00 00 02 00 03 61 62 63 01", MORE),
    ("2b 0e 01 01 00 00 02 00 03 61 62 63 01 01 64", 15), ("2b 0d", UNKNOWN), ("17 04", 6), ("41", UNKNOWN),
    ("", MORE), ("11 09", 11), ("07", 2), ("08 00", 5), ("18 ff ff", UNKNOWN),
])
def test_lengths_of_answers(pdu: str, length: int) -> None:
    assert answer_length(bytes.fromhex(pdu)) == length


@pytest.mark.parametrize(("pdu", "length"), [
    ("03", 5), ("0f 00 00 00 09 02", 8), ("10 00 00 00 01 02", 8), ("10 00 00", MORE), ("16", 7),
    ("17 00 00 00 01 00 00 00 01 02", 12), ("2b 0e", 4), ("2b", MORE), ("18", 3), ("64", UNKNOWN), ("07", 1),
])
def test_lengths_of_requests(pdu: str, length: int) -> None:
    assert request_length(bytes.fromhex(pdu)) == length


@pytest.mark.parametrize("arguments", [(256, b"\x03"), (-1, b"\x03"), (1, b""), (1, bytes(254))])
def test_what_fits_no_frame_is_refused(arguments: tuple[int, bytes]) -> None:
    for encode in (encode_rtu, encode_ascii):
        with pytest.raises(ValueError, match=r"units 0 to 255"):
            encode(*arguments)
