"""Which answer belongs to which request, without sockets."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modbus_frames import encode_adu, exception_response, read_request, write_multiple_registers, write_single_coil
from modbus_tcp_client.exchange import Exchange, Job
from process_image.quality import BAD_DECODING_ERROR, BAD_NODE_ID_UNKNOWN


class Owner:
    unsettled = False
    settled = 0

    def settle(self) -> None:
        self.settled += 1
        self.unsettled = False


def read(unit: int = 1, address: int = 0, count: int = 2, **more: object) -> Job:
    return Job(unit=unit, pdu=read_request(3, address, count), target=memoryview(bytearray(2 * count)), owner=Owner(),
               **more)  # type: ignore[arg-type]


def answer(job: Job, values: Sequence[int] = (11, 22), *, transaction: int | None = None, unit: int | None = None,
           function: int = 3) -> bytes:
    data = struct.pack(f">{len(values)}H", *values)
    tid = int.from_bytes(job.frame[:2], "big") if transaction is None else transaction
    return encode_adu(tid, job.unit if unit is None else unit, bytes((function, len(data))) + data)


def whole(exchange: Exchange, data: bytes) -> list[Job]:
    return exchange.receive(memoryview(data))


def bytewise(exchange: Exchange, data: bytes) -> list[Job]:
    return [job for byte in data for job in exchange.receive(memoryview(bytes((byte,))))]


Feed = Callable[[Exchange, bytes], list[Job]]
both_ways = pytest.mark.parametrize("feed", [whole, bytewise])


@both_ways
def test_the_answer_to_a_request_fills_its_target(feed: Feed) -> None:
    exchange, job = Exchange(), read()
    exchange.open(job)
    assert feed(exchange, answer(job)) == [job]
    assert job.failure is None
    assert job.target is not None
    assert bytes(job.target) == struct.pack(">HH", 11, 22)
    assert not exchange.pending


@both_ways
def test_answers_may_come_in_any_order_and_glued(feed: Feed) -> None:
    exchange, jobs = Exchange(), [read(address=n) for n in range(5)]
    for job in jobs:
        exchange.open(job)
    stream = b"".join(answer(job, (n, n)) for n, job in reversed(list(enumerate(jobs))))
    assert feed(exchange, stream) == jobs[::-1]
    assert [bytes(job.target or b"") for job in jobs] == [struct.pack(">HH", n, n) for n in range(5)]


@both_ways
@pytest.mark.parametrize(
    "change",
    [{"transaction": 0}, {"transaction": 999}, {"unit": 2}, {"function": 4}],
    ids=["id zero", "foreign id", "other unit", "other function"],
)
def test_an_answer_that_does_not_match_is_dropped_and_remembered(feed: Feed, change: dict[str, int]) -> None:
    exchange, job = Exchange(), read()
    exchange.open(job)
    assert feed(exchange, answer(job, **change)) == []  # type: ignore[arg-type]
    assert exchange.strays == 1
    assert job.stray
    assert bytes(job.target or b"") == bytes(4)
    assert feed(exchange, answer(job)) == [job], "the right answer still counts"


@both_ways
@pytest.mark.parametrize("values", [(1,), (1, 2, 3)], ids=["short", "long"])
def test_an_answer_with_another_byte_count_is_no_value(feed: Feed, values: tuple[int, ...]) -> None:
    exchange, job = Exchange(), read()
    exchange.open(job)
    assert feed(exchange, answer(job, values)) == [job]
    assert job.failure is not None
    assert job.failure.quality == BAD_DECODING_ERROR
    assert bytes(job.target or b"") == bytes(4)


@both_ways
def test_an_exception_becomes_the_failure_with_its_code(feed: Feed) -> None:
    exchange, job = Exchange(), read()
    exchange.open(job)
    tid = int.from_bytes(job.frame[:2], "big")
    assert feed(exchange, encode_adu(tid, 1, exception_response(3, 2))) == [job]
    assert job.failure is not None
    assert job.failure.quality == BAD_NODE_ID_UNKNOWN
    assert job.failure.exception == 2


def test_an_answer_after_the_deadline_is_late_and_no_value() -> None:
    exchange, job = Exchange(), read()
    exchange.open(job)
    job.deadline = 5
    first = answer(job)
    assert exchange.expire(4) == []
    assert exchange.expire(5) == [job]
    exchange.open(job)
    assert whole(exchange, first) == []
    assert (exchange.late, exchange.strays) == (1, 0)
    assert exchange.late_jobs == [job]
    assert whole(exchange, answer(job, (5, 6))) == [job]
    assert bytes(job.target or b"") == struct.pack(">HH", 5, 6)


def test_a_late_answer_glued_to_the_right_one_loses_neither() -> None:
    exchange, old, new = Exchange(), read(), read()
    exchange.open(old)
    exchange.expire(0)
    exchange.open(new)
    assert whole(exchange, answer(old) + answer(new)) == [new]


def test_a_duplicate_answer_is_dropped() -> None:
    exchange, first, second = Exchange(), read(), read()
    exchange.open(first)
    frame = answer(first)
    assert whole(exchange, frame) == [first]
    exchange.open(second)
    assert whole(exchange, frame) == []
    assert exchange.strays == 1


def test_id_zero_is_taken_where_the_quirk_allows_it_and_only_one_request_is_under_way() -> None:
    exchange, job = Exchange(), read(zero_id=True)
    exchange.open(job)
    assert whole(exchange, answer(job, transaction=0)) == [job]
    first, second = read(zero_id=True), read(zero_id=True)
    exchange.open(first)
    exchange.open(second)
    assert whole(exchange, answer(first, transaction=0)) == []


def test_any_unit_is_taken_where_the_quirk_allows_it() -> None:
    exchange, job = Exchange(), read(any_unit=True)
    exchange.open(job)
    assert whole(exchange, answer(job, unit=77)) == [job]
    assert job.failure is None


def test_transaction_ids_are_never_zero_and_never_two_at_once() -> None:
    exchange = Exchange(0xFFFE)
    blocker = read()
    exchange.open(blocker)
    seen = []
    for _ in range(0x10000 + 10):
        job = read()
        exchange.open(job)
        seen.append(int.from_bytes(job.frame[:2], "big"))
        assert whole(exchange, answer(job)) == [job]
    assert 0 not in seen
    assert 0xFFFE not in seen


@both_ways
def test_writes_are_confirmed_by_their_echo_alone(feed: Feed) -> None:
    for question, reply in [
        (write_single_coil(7, True), write_single_coil(7, True)),
        (write_multiple_registers(7, b"\0\1\0\2"), write_multiple_registers(7, b"\0\1\0\2")[:5]),
    ]:
        exchange, job = Exchange(), Job(unit=1, pdu=question, owner=Owner())
        exchange.open(job)
        tid = int.from_bytes(job.frame[:2], "big")
        assert feed(exchange, encode_adu(tid, 1, reply)) == [job]
        assert job.failure is None
        exchange.open(job)
        tid = int.from_bytes(job.frame[:2], "big")
        assert feed(exchange, encode_adu(tid, 1, reply[:-1] + b"\x55")) == [job]
        assert job.failure is not None


def test_the_data_of_the_poll_before_are_decoded_before_new_ones_take_their_place() -> None:
    exchange, job = Exchange(), read()
    for feed in (whole, bytewise):
        job.owner.unsettled = True
        exchange.open(job)
        feed(exchange, answer(job))
        assert not job.owner.unsettled
    assert job.owner.settled == 2


def test_garbage_ends_the_stream_and_says_so() -> None:
    exchange, job = Exchange(), read()
    exchange.open(job)
    assert whole(exchange, b"HTTP/1.1 200 OK\r\n") == []
    assert exchange.broken is not None


def test_cancelled_requests_of_one_owner_leave_the_others() -> None:
    exchange, mine, other = Exchange(), read(), read()
    exchange.open(mine)
    exchange.open(other)
    exchange.cancel(mine.owner)
    assert list(exchange.pending.values()) == [other]
    assert whole(exchange, answer(mine)) == []
    assert exchange.late == 1


@given(st.lists(st.binary(max_size=40), max_size=20), st.randoms(use_true_random=False))
def test_nothing_that_was_not_asked_for_becomes_a_value(chunks: list[bytes], random: object) -> None:
    """Random bytes never fill a target: the odds of a whole matching header are nil."""
    exchange, job = Exchange(40000), read(unit=200, count=100)
    exchange.open(job)
    for chunk in chunks:
        assert exchange.receive(memoryview(chunk)) == []
    assert bytes(job.target or b"") == bytes(200)


@given(st.data())
def test_mutated_answers_are_values_only_where_the_mutation_left_the_header(data: st.DataObject) -> None:
    exchange, job = Exchange(), read(count=3)
    exchange.open(job)
    good = bytearray(answer(job, (1, 2, 3)))
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(good)))
    done = exchange.receive(memoryview(bytes(good[:cut]))) + exchange.receive(memoryview(bytes(good[cut:])))
    if place >= 9:
        assert done == [job]
        assert job.failure is None
    else:
        assert all(j.failure is not None for j in done)
        assert bytes(job.target or b"") == bytes(6)
