"""Several requests under way on the fast path: every answer finds its request, whatever order and pieces it comes in.

The points of these devices are so far apart that each needs a request of its own; each holds its own address, plus
a number that the test raises, so that a value in the wrong place or of another time is seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from acquisition import WriteOutcome
from endpoint_config.models import ModbusPoint, WriteFunction
from modbus_frames import encode_adu
from modbus_proxy import Order
from modbus_rig import LyingDevice, Partition, device, holding
from modbus_servers import libmodbus_device, pymodbus_device
from modbus_tcp_client.engine import Engine
from modbus_tcp_client.fleet import Fleet
from modbus_tcp_client.poll import Poll
from process_image.quality import BAD_DECODING_ERROR, BAD_TIMEOUT

Parts = list[tuple[float, bytes]]
APART = 20
EIGHT = [holding(f"p{n}", APART * n) for n in range(8)]
TWENTY = [holding(f"p{n}", APART * n) for n in range(20)]


@pytest.fixture(autouse=True)
def _begins_with_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modbus_tcp_client.engine.FEWEST", 1)


@contextmanager
def polled(name: str, points: list[ModbusPoint] = EIGHT, **settings: object) -> Iterator[tuple[Partition, LyingDevice]]:
    """A device on the fast path, eight requests in flight, with time to answer also where the machine is busy."""
    more = {"interval": 0.0, "in_flight": 8, "timeout": 5.0, **settings}
    with LyingDevice(registers=dict.fromkeys(range(1000), 0)) as plc:
        raise_by(plc, 0)
        with Partition(name, [device("plc", plc.port, points, **more)]) as running:
            running.until_good(*(f"plc/{p.name}" for p in points))
            running.until(swept, what="on the fast path")
            yield running, plc


def raise_by(plc: LyingDevice, number: int) -> None:
    """From now on each register holds its address and this."""
    plc.registers = {a: a + number for a in range(1000)}


def swept(running: Partition) -> bool:
    """Whether the device is on the fast path now."""
    engine = running.manager._engine
    return engine is not None and engine.links[0].swept


def dropped(running: Partition) -> tuple[int, int]:
    """Answers that were dropped on this connection: to nothing, and too late."""
    engine = running.manager._engine
    assert engine is not None
    exchange = engine.links[0].exchange
    return exchange.strays, exchange.late


def right(running: Partition, number: int, points: int = 8) -> bool:
    """Whether every point holds its own register, raised by `number`, and is Good."""
    snapshot = running.image.snapshot()
    samples = [snapshot[f"plc/p{n}"] for n in range(points)]
    return all((s.value, s.quality) == (APART * n + number, 0) for n, s in enumerate(samples))


def together(count: int, send: Callable[[list[bytes]], Parts]) -> Callable[[bytes, bytes], Parts]:
    """A fault that keeps the answers of a cycle of `count` requests, and then sends what `send` makes of them.

    A cycle that had begun before is finished as it is.
    """
    held: list[bytes] = []

    def fault(request: bytes, answer: bytes) -> Parts:
        address = int.from_bytes(request[8:10], "big")
        if not address:
            held.clear()
        elif not held:
            return [(0.0, answer)]
        held.append(answer)
        if address < APART * (count - 1):
            return []
        kept = held[:]
        held.clear()
        return send(kept) if len(kept) == count else [(0.0, b"".join(kept))]

    return fault


def served(running: Partition, requests: int) -> None:
    """Wait until so many more requests were answered."""
    before = running.count("plc")
    running.until(lambda r: r.count("plc") >= before + requests, what="more answers")


def in_order(answers: list[bytes]) -> Parts:
    return [(0.0, b"".join(answers))]


def backwards(answers: list[bytes]) -> Parts:
    return [(0.0, b"".join(reversed(answers)))]


def backwards_one_by_one(answers: list[bytes]) -> Parts:
    return [(0.0005, answer) for answer in reversed(answers)]


@pytest.mark.parametrize("send", [in_order, backwards, backwards_one_by_one])
def test_each_answer_finds_its_request_in_any_order(send: Callable[[list[bytes]], Parts], shm_name: str) -> None:
    with polled(shm_name) as (running, plc):
        plc.fault = together(8, send)
        served(running, 80)
        raise_by(plc, 300)
        running.until(lambda r: right(r, 300))
        assert running.count("plc", "$failures") == 0
        assert dropped(running) == (0, 0)
        plc.fault = None


def test_answers_in_one_segment_or_a_few_stay_on_the_fast_path(
    shm_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the rest comes soon, that is; how long it takes here is the machine's doing."""
    monkeypatch.setattr("modbus_tcp_client.sweep.LOOK_NS", 200_000_000)
    with polled(shm_name) as (running, plc):
        plc.fault = together(8, in_order)
        served(running, 80)
        running.until(swept)
        assert running.manager._engine is not None
        for cuts in ((), (3,), (9, 50), (11, 22, 33)):
            def pieces(answers: list[bytes], cuts: tuple[int, ...] = cuts) -> Parts:
                whole = b"".join(answers)
                edges = [0, *cuts, len(whole)]
                return [(0.001 if a else 0.0, whole[a:b]) for a, b in pairwise(edges)]

            plc.fault = together(8, pieces)
            for _ in range(5):
                served(running, 8)
                assert swept(running), f"left the fast path for pieces cut at {cuts}"
        assert (right(running, 0), running.count("plc", "$failures")) == (True, 0)


def test_a_burst_may_be_cut_at_any_byte(shm_name: str) -> None:
    cut = [0]

    def two_pieces(answers: list[bytes]) -> Parts:
        whole = b"".join(answers)
        cut[0] = cut[0] % (len(whole) - 1) + 1
        return [(0.0, whole[: cut[0]]), (0.001, whole[cut[0] :])]

    with polled(shm_name) as (running, plc):
        plc.fault = together(8, two_pieces)
        served(running, 8 * 88)
        raise_by(plc, 300)
        running.until(lambda r: right(r, 300))
        assert running.count("plc", "$failures") == 0
        assert dropped(running) == (0, 0)


def test_a_burst_that_drips_in_is_taken_answer_by_answer(shm_name: str) -> None:
    def drip(answers: list[bytes]) -> Parts:
        whole = b"".join(answers)
        return [(0.002, whole[n : n + 1]) for n in range(len(whole))]

    with polled(shm_name) as (running, plc):
        plc.fault = together(8, drip)
        raise_by(plc, 300)
        running.until(lambda r: right(r, 300))
        assert running.count("plc", "$failures") == 0
        assert dropped(running) == (0, 0)


def test_one_missing_of_eight_is_bad_and_the_others_go_on(shm_name: str) -> None:
    def without_the_third(request: bytes, answer: bytes) -> Parts | None:
        return [] if request[8:10] == (3 * APART).to_bytes(2, "big") else None

    with polled(shm_name, timeout=0.3) as (running, plc):
        plc.fault = without_the_third
        running.until_quality("plc/p3", BAD_TIMEOUT)
        raise_by(plc, 300)
        running.until(lambda r: r["plc/p7"].value == 7 * APART + 300)
        running.until_good(*(f"plc/p{n}" for n in range(8) if n != 3))
        assert running["plc/p3"].value == 3 * APART
        assert plc.connections == 1
        plc.fault = None
        running.until(lambda r: right(r, 300))


def test_a_hiccup_anywhere_in_a_long_cycle_is_over_with_it(shm_name: str) -> None:
    """Twenty requests, eight at a time: one answer is late, once; the cycle goes on behind it."""
    for in_flight in (1, 8):
        for place in (0, 7, 8, 13, 19):
            late = [True]

            def fault(request: bytes, answer: bytes, place: int = place, late: list[bool] = late) -> Parts | None:
                if late[0] and request[8:10] == (place * APART).to_bytes(2, "big"):
                    late[0] = False
                    return [(0.45, answer)]
                return None

            with polled(shm_name, TWENTY, in_flight=in_flight, timeout=0.3) as (running, plc):
                plc.fault = fault
                running.until(lambda _, late=late: not late[0])
                raise_by(plc, 300)
                running.until(lambda r: right(r, 300, 20), what=f"{in_flight} in flight, {place} late")
                assert plc.connections == 1


def test_answers_after_the_timeout_are_counted_and_are_no_values(shm_name: str) -> None:
    def late(answers: list[bytes]) -> Parts:
        return [(0.15, b"".join(answers))]

    with polled(shm_name, timeout=0.1) as (running, plc):
        plc.fault = together(8, late)
        running.until_quality("plc/p0", BAD_TIMEOUT)
        running.until(lambda r: dropped(r)[1] > 0 or plc.connections > 1)
        assert all(running[f"plc/p{n}"].quality != 0 for n in range(8))
        plc.fault = None
        raise_by(plc, 300)
        running.until(lambda r: right(r, 300))


def test_duplicates_and_foreign_answers_are_counted_and_dropped(shm_name: str) -> None:
    def twice(answers: list[bytes]) -> Parts:
        foreign = b"\xff\xfe" + answers[2][2:9] + b"\x7f\x7f"
        return [(0.0, b"".join([*answers[:4], answers[1], foreign, *answers[4:]]))]

    with polled(shm_name) as (running, plc):
        plc.fault = together(8, twice)
        running.until(lambda r: dropped(r)[0] >= 8)
        raise_by(plc, 300)
        running.until(lambda r: right(r, 300))
        assert running.count("plc", "$failures") == 0
        assert plc.connections == 1


@pytest.mark.parametrize("place", [0, 3, 7])
def test_one_answer_of_another_unit_function_or_length_spoils_no_other(place: int, shm_name: str) -> None:
    def unit(answer: bytes) -> bytes:
        return answer[:6] + b"\x09" + answer[7:]

    def function(answer: bytes) -> bytes:
        return answer[:7] + b"\x04" + answer[8:]

    def length(answer: bytes) -> bytes:
        return encode_adu(int.from_bytes(answer[:2], "big"), answer[6], b"\x03\x04\x7f\x7f\x7f\x7f")

    for spoil in (unit, function, length):
        def spoiled(answers: list[bytes], spoil: Callable[[bytes], bytes] = spoil) -> Parts:
            return [(0.0, b"".join(spoil(a) if k == place else a for k, a in enumerate(answers)))]

        with polled(shm_name, timeout=0.1) as (running, plc):
            plc.fault = together(8, spoiled)
            running.until_quality(f"plc/p{place}", BAD_DECODING_ERROR)
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                snapshot = running.image.snapshot()
                assert all(snapshot[f"plc/p{n}"].value == APART * n for n in range(8))
            plc.fault = None
            raise_by(plc, 300)
            running.until(lambda r: right(r, 300))


def test_transaction_ids_go_round_and_leave_zero_out(shm_name: str) -> None:
    seen: list[int] = []

    def note(request: bytes, answer: bytes) -> None:
        seen.append(int.from_bytes(request[:2], "big"))

    with polled(shm_name) as (running, plc):
        engine = running.manager._engine
        assert engine is not None
        plc.fault = note

        def shift(now: int) -> None:
            engine.step_aside(engine.links[0], now)
            engine.links[0].exchange._next = 0xFFF3

        engine.timers.at(0, shift, engine.links[0])
        running.until(lambda _: 0xFFF3 in seen and len(seen) > seen.index(0xFFF3) + 100)
        served(running, 80)
        raise_by(plc, 300)
        running.until(lambda r: right(r, 300))
        running.until(swept)
        assert running.count("plc", "$failures") == 0
    begin = seen.index(0xFFF3)
    assert seen[begin : begin + 40] == [(0xFFF2 + k) % 0xFFFF + 1 for k in range(40)]


def test_devices_that_take_different_numbers_at_a_time_are_polled_side_by_side(shm_name: str) -> None:
    limits = (1, 3, 8)
    most: dict[int, int] = {}
    with LyingDevice() as a, LyingDevice() as b, LyingDevice() as c:
        for limit, plc in zip(limits, (a, b, c), strict=True):
            plc.registers = {n: 1000 * limit + n for n in range(1000)}
            waiting = [0]

            def held(request: bytes, answer: bytes, limit: int = limit, waiting: list[int] = waiting) -> Parts:
                waiting[0] += 1
                most[limit] = max(most.get(limit, 0), waiting[0])
                if waiting[0] == limit or request[8:10] == (7 * APART).to_bytes(2, "big"):
                    waiting[0] = 0
                return [(0.0, answer)]

            plc.fault = held
        servers = [device(f"d{k}", plc.port, EIGHT, interval=0.0, in_flight=k, timeout=5.0)
                   for k, plc in zip(limits, (a, b, c), strict=True)]
        with Partition(shm_name, servers) as running:
            running.until_good(*(f"d{k}/p7" for k in limits))
            running.until(lambda r: all(u.link.swept for u in r.manager._engine.units))
            for k in limits:
                before = running.count(f"d{k}")
                running.until(lambda r, k=k, before=before: r.count(f"d{k}") > before + 40)
            snapshot = running.image.snapshot()
            assert [snapshot[f"d{k}/p{n}"].value for k in limits for n in range(8)] == [
                1000 * k + APART * n for k in limits for n in range(8)]
            assert all(running.count(f"d{k}", "$failures") == 0 for k in limits)
    assert most == {1: 1, 3: 3, 8: 8}


def test_a_write_goes_between_bursts(shm_name: str) -> None:
    points = [*EIGHT[1:], holding("p0", 0, write_function=WriteFunction.SINGLE_REGISTER)]
    with libmodbus_device() as plc:
        server = device("plc", plc.port, points, interval=0.0, in_flight=8, timeout=5.0)
        with Partition(shm_name, [server]) as running:
            for value in range(10, 20):
                running.until(swept, what="on the fast path")
                assert Order(running, "plc/p0", value).result().outcome is WriteOutcome.VERIFIED
                running.until(lambda r, value=value: r["plc/p0"].value == value)
            assert running.count("plc", "$failures") == 0
        assert plc.memory().writes == 10


def test_a_server_that_takes_one_request_at_a_time_is_found_out_and_polled_so(shm_name: str) -> None:
    """pymodbus's server reads one request of what came in one piece, and the next when something else comes."""
    with pymodbus_device() as plc:
        server = device("plc", plc.port, EIGHT, interval=0.0, in_flight=4, timeout=0.3)
        with Partition(shm_name, [server]) as running:
            running.until_good(*(f"plc/p{n}" for n in range(8)))
            assert [running[f"plc/p{n}"].value for n in range(8)] == [5 * APART * n for n in range(8)]
            running.until(lambda r: "in_flight 1" in str(r["plc/$last_error"].value))
            failures = running.count("plc", "$failures")
            served(running, 50)
            assert running.count("plc", "$failures") == failures


def test_a_device_that_was_away_is_asked_for_as_much_as_before(shm_name: str) -> None:
    with polled(shm_name, timeout=0.1) as (running, plc):
        plc.refuse()
        running.until(lambda r: r["plc/p0"].quality != 0)
        plc.fault = lambda request, answer: []
        plc.listen()
        running.until_quality("plc/p0", BAD_TIMEOUT)
        plc.fault = None
        running.until_good(*(f"plc/p{n}" for n in range(8)))
        assert running.manager._engine is not None
        assert running.manager._engine.links[0].in_flight == 8


def test_a_device_that_hangs_up_as_its_cycle_ends_is_not_good_with_nothing(
    shm_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process stands still between a device's last ordinary cycle and its first burst: its end is seen first."""
    admit, held = Engine.admit, []
    with LyingDevice(registers=dict.fromkeys(range(1000), 7)) as plc:

        def held_up(engine: Engine, poll: Poll, now: int) -> bool:
            admitted = admit(engine, poll, now)
            if admitted and not held:
                held.append(poll)
                plc._loop.call_soon_threadsafe(lambda: [writer.transport.close() for writer in plc._writers])
                time.sleep(0.4)
            return admitted

        monkeypatch.setattr(Engine, "admit", held_up)
        put, seen = Fleet.put, []

        def noted(fleet: Fleet, members: Any, request: int, data: Any, wall: int) -> None:
            seen.extend(bytes(row) for row in data)
            put(fleet, members, request, data, wall)

        monkeypatch.setattr(Fleet, "put", noted)
        with Partition(shm_name, [device("plc", plc.port, EIGHT[:1], interval=0.0, timeout=5.0)]) as running:
            running.until(lambda r: r.count("plc") > 50)
    assert held
    assert set(seen) == {b"\0\7"}
