"""Requests and answers on a line: late answers, echoes, other masters, and whatever else a line brings."""

from __future__ import annotations

import random
import struct

import pytest
from modbus_frames import (
    AsciiSplitter,
    RtuSplitter,
    encode_ascii,
    encode_rtu,
    exception_response,
    read_request,
    read_response,
    write_single_register,
)
from modbus_tcp_client.exchange import Job
from modbus_tcp_client.line_exchange import OWED_NS, LineExchange, LineMemory
from modbus_tcp_client.settling import settling_request


class Owner:
    unsettled = False


def read(unit: int = 1, address: int = 0, count: int = 2, function: int = 3) -> Job:
    size = 2 * count if function > 2 else (count + 7) // 8
    return Job(unit=unit, pdu=read_request(function, address, count), target=memoryview(bytearray(size)),
               owner=Owner())


def reply(job: Job, fill: int = 0x11) -> bytes:
    assert job.target is not None
    return encode_rtu(job.unit, read_response(job.function, bytes([fill] * len(job.target))))


def exchange(*, echo: bool = False) -> LineExchange:
    return LineExchange(encode_rtu, RtuSplitter(), LineMemory(echo=echo))


def late(line: LineExchange, job: Job, now: int = 100) -> None:
    """The job is sent and given up."""
    job.deadline = now
    line.open(job)
    assert line.expire(now) == [job]


def receive(line: LineExchange, data: bytes) -> list[Job]:
    return line.receive(memoryview(data))


def test_an_answer_is_found_behind_noise_and_in_pieces() -> None:
    line, job = exchange(), read()
    line.open(job)
    frame = reply(job)
    stream = b"\x00" + frame
    done = [found for i in range(len(stream)) for found in receive(line, stream[i : i + 1])]
    assert done == [job]
    assert bytes(job.target or b"") == b"\x11" * 4
    assert job.failure is None


@pytest.mark.parametrize("wrong", [
    lambda job: encode_rtu(2, read_response(3, bytes(4))),
    lambda job: encode_rtu(1, read_response(4, bytes(4))),
    lambda job: encode_rtu(1, read_response(3, bytes(6))),
    lambda job: reply(job)[:-1] + b"\x00\x00",
    lambda job: encode_rtu(1, job.pdu),
    lambda job: bytes(50),
])
def test_what_answers_something_else_is_dropped_and_the_right_answer_still_taken(wrong) -> None:  # type: ignore[no-untyped-def]
    line, job = exchange(), read()
    line.open(job)
    assert receive(line, wrong(job)) == []
    line.silence()
    assert receive(line, reply(job)) == [job]


def test_an_exception_is_an_answer() -> None:
    line, job = exchange(), read()
    line.open(job)
    assert receive(line, encode_rtu(1, exception_response(3, 2))) == [job]
    assert job.failure is not None
    assert job.failure.exception == 2


def test_half_an_answer_is_awaited_over_a_silence_and_half_of_another_is_not() -> None:
    line, job = exchange(), read()
    line.open(job)
    frame, other = reply(job), encode_rtu(9, read_response(3, bytes(100)))
    assert receive(line, other[:40]) == []
    assert receive(line, frame[:3]) == []
    assert line.silence() == []
    assert line.partial == 3
    assert line.silence() == []
    assert receive(line, frame[3:]) == [job]


def test_an_answer_that_came_glued_behind_half_of_another_is_taken_with_the_silence() -> None:
    line, job = exchange(), read()
    line.open(job)
    assert receive(line, encode_rtu(9, read_response(3, bytes(100)))[:40] + reply(job)) == []
    assert line.silence() == [job]


def test_a_unit_that_owes_an_answer_is_asked_for_an_echo_first() -> None:
    line, first, second = exchange(), read(address=0), read(address=100)
    late(line, first)
    assert line.owes(second, 200)
    assert not line.owes(read(unit=2), 200)
    assert not line.owes(read(function=4), 200)
    question = Job(unit=1, pdu=settling_request(), owner=Owner())
    line.open(question)
    assert receive(line, reply(first)) == []  # late: no value, but a sign of life
    assert line.late_jobs == [first]
    assert receive(line, encode_rtu(1, question.pdu)) == [question]
    assert not line.owes(second, 200)


def test_only_the_very_number_settles_what_is_owed() -> None:
    line = exchange()
    late(line, read())
    question = Job(unit=1, pdu=struct.pack(">BHH", 8, 0, 7), owner=Owner())
    line.open(question)
    assert receive(line, encode_rtu(1, struct.pack(">BHH", 8, 0, 8))) == []
    assert receive(line, encode_rtu(1, exception_response(8, 1))) == [question]  # does not know function 8: as good
    assert not line.owes(read(), 200)


def test_what_is_owed_is_forgiven_after_a_while_and_outlives_a_connection() -> None:
    memory = LineMemory()
    line = LineExchange(encode_rtu, RtuSplitter(), memory)
    job = read()
    job.deadline = 100
    line.open(job)
    assert line.abandon() == [job]
    again = LineExchange(encode_rtu, RtuSplitter(), memory)
    assert again.owes(read(), 200)
    assert not again.owes(read(), 100 + OWED_NS)


def test_a_late_answer_settles_it_too() -> None:
    line, job = exchange(), read()
    late(line, job)
    assert receive(line, reply(job)) == []
    assert not line.owes(read(), 200)


def test_the_echo_of_a_read_is_taken_away_though_the_file_does_not_speak_of_it() -> None:
    """20 coils from address 768 on: the request is also a good answer, with the coils 00 00 14 hex."""
    line, job = exchange(), read(address=0x300, count=20, function=1)
    line.open(job)
    assert receive(line, encode_rtu(1, job.pdu)) == []
    assert "echo" in line.stray_note
    assert receive(line, reply(job)) == [job]
    assert bytes(job.target or b"") == b"\x11" * 3


def test_the_echo_of_a_write_is_no_confirmation() -> None:
    line, job = exchange(echo=True), Job(unit=1, pdu=write_single_register(4, 5), owner=Owner())
    frame = encode_rtu(1, job.pdu)
    line.open(job)
    assert receive(line, b"\xff" + frame) == []
    assert receive(line, frame) == [job]
    assert job.failure is None


def test_an_echo_that_was_seen_once_is_expected_of_writes_too() -> None:
    line, job = exchange(), read()
    line.open(job)
    assert receive(line, encode_rtu(1, job.pdu) + reply(job)) == [job]
    write = Job(unit=1, pdu=write_single_register(4, 5), owner=Owner())
    line.open(write)
    assert receive(line, encode_rtu(1, write.pdu)) == []
    assert receive(line, encode_rtu(1, write.pdu)) == [write]


def test_an_answer_that_begins_as_the_request_is_no_echo() -> None:
    line, job = exchange(), read(address=0x0411, count=2)
    line.open(job)
    frame = encode_rtu(1, read_response(3, b"\x11\x00\x02\x99"))
    assert frame[:3] == encode_rtu(1, job.pdu)[:3]
    assert [j for i in range(len(frame)) for j in receive(line, frame[i : i + 1])] == [job]


def damaged(dice: random.Random, asked: bytes, frame: bytes) -> tuple[bytes, bytes]:
    """What comes now in the place of an answer, and what comes with the next one."""
    kind = dice.randrange(8)
    if kind == 0:
        return b"", frame
    if kind == 1:
        return asked + frame, b""
    if kind == 2:
        place = dice.randrange(len(frame))
        return frame[:place] + frame[place + 1 :], b""
    noise = dice.randbytes(dice.randrange(1, 30))
    return {3: noise + frame, 4: frame + noise, 5: frame + frame}.get(kind, frame), b""


@pytest.mark.parametrize(("encode", "make"), [(encode_rtu, RtuSplitter), (encode_ascii, AsciiSplitter)],
                         ids=["rtu", "ascii"])
def test_nothing_is_ever_taken_for_what_it_is_not(  # type: ignore[no-untyped-def]
    encode, make
) -> None:
    """A line that loses bytes, adds noise, glues frames, is late and echoes; each value says what it is of."""
    good = 0
    for seed in range(60):
        dice, backlog = random.Random(seed), b""
        line = LineExchange(encode, make(), LineMemory())
        for now in range(1_000_000, 41_000_000, 1_000_000):
            job = read(unit=dice.randrange(1, 4), address=dice.randrange(0, 6) * 10, count=2)
            told = struct.pack(">BBH", job.unit, 0, job.address)
            answer = read_response(3, told)
            if line.owes(job, now):
                job = Job(unit=job.unit, pdu=settling_request(), owner=Owner())
                answer = job.pdu
            job.deadline = now + 1
            asked = line.open(job)
            stream, following = damaged(dice, asked if job.target else b"", encode(job.unit, answer))
            stream, backlog = backlog + stream, following
            place = dice.randrange(len(stream) + 1)
            done = receive(line, stream[:place]) + receive(line, stream[place:]) + line.silence()
            assert done in ([], [job])
            if done and job.failure is None and job.target is not None:
                assert bytes(job.target) == told, f"seed {seed}"
                good += 1
            line.expire(now + 1)
    assert good > 1000
