"""Devices that misbehave: within a timeout and a poll their points are Bad with the right code, and nobody else's.

Every test has a healthy device beside the faulty one, which must not notice anything.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import pytest
from modbus_frames import encode_adu, exception_response
from modbus_rig import LyingDevice, Partition, device, holding
from process_image import Cursor
from process_image.quality import (
    BAD_COMMUNICATION_ERROR,
    BAD_DATA_LOST,
    BAD_DECODING_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_INTERNAL_ERROR,
    BAD_INVALID_ARGUMENT,
    BAD_NO_COMMUNICATION,
    BAD_NODE_ID_UNKNOWN,
    BAD_NOT_CONNECTED,
    BAD_NOT_SUPPORTED,
    BAD_RESOURCE_UNAVAILABLE,
    BAD_TIMEOUT,
    BAD_WAITING_FOR_RESPONSE,
)

Parts = list[tuple[float, bytes]]
Fault = Callable[[bytes, bytes], Parts | None]


def on_the_fast_path(running: Partition, alias: str) -> bool:
    """Whether a device takes part in the sweep."""
    engine = running.manager._engine
    return engine is not None and any(u.server.alias == alias and u.link.swept for u in engine.units)


@contextmanager
def pair(name: str, **settings: object) -> Iterator[tuple[Partition, LyingDevice]]:
    """A faulty device `sick` and a healthy one `well`, both polled and Good; at the end `well` must have stayed so."""
    with LyingDevice() as sick, LyingDevice() as well:
        servers = [device("sick", sick.port, **settings), device("well", well.port, timeout=5.0)]
        with Partition(name, servers) as running:
            running.until_good("sick/a", "well/a")
            if settings.get("interval") == 0.0:
                running.until(lambda r: on_the_fast_path(r, "sick"))
            sequence = running["well/a"].sequence
            yield running, sick
            assert running["well/a"].sequence == sequence, "quality or value of the healthy device changed"
            assert running.count("well", "$failures") == 0


def _qualities(running: Partition, cursor: Cursor, point: str) -> set[int]:
    """All qualities that a point has had since `cursor`."""
    row = [p.full_name for p in running.image.points].index(point)
    return {int(quality) for batch in running.image.changes(cursor)
            for quality in batch.records["quality"][batch.rows == row]}


def silent(request: bytes, answer: bytes) -> Parts:
    return []


def drip(request: bytes, answer: bytes) -> Parts:
    return [(1.0, answer[n : n + 1]) for n in range(len(answer))]


def wrong_id(request: bytes, answer: bytes) -> Parts:
    return [(0.0, bytes((answer[0] ^ 0x55, answer[1])) + answer[2:])]


def zero_id(request: bytes, answer: bytes) -> Parts:
    return [(0.0, b"\0\0" + answer[2:])]


def wrong_unit(request: bytes, answer: bytes) -> Parts:
    return [(0.0, answer[:6] + bytes((answer[6] ^ 9,)) + answer[7:])]


def wrong_function(request: bytes, answer: bytes) -> Parts:
    return [(0.0, answer[:7] + b"\x04" + answer[8:])]


def short_count(request: bytes, answer: bytes) -> Parts:
    return [(0.0, encode_adu(int.from_bytes(answer[:2], "big"), answer[6], b"\x03\x02" + b"\x7f\x7f"))]


def long_count(request: bytes, answer: bytes) -> Parts:
    return [(0.0, encode_adu(int.from_bytes(answer[:2], "big"), answer[6], b"\x03\x06" + b"\x7f" * 6))]


def lying_count(request: bytes, answer: bytes) -> Parts:
    return [(0.0, answer[:8] + b"\x08" + answer[9:])]


def truncated(request: bytes, answer: bytes) -> Parts:
    return [(0.0, answer[:-2])]


def garbage(request: bytes, answer: bytes) -> Parts:
    return [(0.0, b"HTTP/1.0 400 Bad Request\r\n\r\n")]


CASES: list[tuple[Fault, set[int]]] = [
    (silent, {BAD_TIMEOUT}),
    (drip, {BAD_TIMEOUT}),
    (wrong_id, {BAD_DECODING_ERROR}),
    (zero_id, {BAD_DECODING_ERROR}),
    (wrong_unit, {BAD_DECODING_ERROR}),
    (wrong_function, {BAD_DECODING_ERROR}),
    (short_count, {BAD_DECODING_ERROR}),
    (long_count, {BAD_DECODING_ERROR}),
    (lying_count, {BAD_DECODING_ERROR}),
    (truncated, {BAD_TIMEOUT}),
    (garbage, {BAD_DECODING_ERROR}),
]


BURSTS = {"interval": 0.0, "in_flight": 8, "points": (holding("a", 0), holding("b", 1), holding("c", 50))}


@pytest.fixture(params=[{"interval": 0.1}, {"interval": 0.0}, BURSTS], ids=["timed", "back-to-back", "bursts"])
def polled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Polls on a grid, and polls on the fast path for fleets, which here begins with one device; two in flight."""
    monkeypatch.setattr("modbus_tcp_client.engine.FEWEST", 1)
    settings: dict[str, Any] = request.param
    return settings


@pytest.mark.parametrize(("fault", "allowed"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_fault_is_a_quality_with_a_reason_and_goes_away_with_its_cause(
    fault: Fault, allowed: set[int], shm_name: str, polled: dict[str, Any]
) -> None:
    with pair(shm_name, **polled) as (running, sick):
        good = running["sick/a"]
        if fault is truncated and polled is BURSTS:
            allowed = allowed | {BAD_DECODING_ERROR}  # its end is taken from the next one
        sick.fault = fault
        running.until(lambda r: r["sick/a"].quality != 0, timeout=2.0)
        bad = running["sick/a"]
        assert bad.quality in allowed
        assert (bad.value, bad.source_time >= good.source_time) == (good.value, True)
        running.until(lambda r: str(r["sick/$last_error"].value).startswith("sick: "))
        assert ";" in str(running["sick/$last_error"].value)
        # While it lasts nothing ever looks good, and nothing that it sends becomes a value.
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            now = running["sick/a"]
            assert now.quality != 0
            assert now.value == good.value
        sick.fault = None
        running.until_good("sick/a", "sick/b", timeout=3.0)
        running.until(lambda r: r["sick/$connected"].value == 1)
        assert running["sick/a"].value == good.value


@pytest.mark.parametrize(
    ("code", "quality"),
    [(1, BAD_NOT_SUPPORTED), (2, BAD_NODE_ID_UNKNOWN), (3, BAD_INVALID_ARGUMENT), (4, BAD_DEVICE_FAILURE),
     (5, BAD_WAITING_FOR_RESPONSE), (6, BAD_RESOURCE_UNAVAILABLE), (8, BAD_DATA_LOST), (10, BAD_NOT_CONNECTED),
     (11, BAD_NO_COMMUNICATION), (0x55, BAD_INTERNAL_ERROR)],
)
def test_exceptions_have_the_qualities_of_the_table(code: int, quality: int, shm_name: str) -> None:
    def refuse(request: bytes, answer: bytes) -> Parts:
        tid = int.from_bytes(answer[:2], "big")
        return [(0.0, encode_adu(tid, answer[6], exception_response(request[7], code)))]

    with pair(shm_name, retry_interval=1.0) as (running, sick):
        sick.fault = refuse
        running.until_quality("sick/a", quality)
        running.until_quality("sick/b", quality)
        running.until(lambda r: f"exception {code:02X}" in str(r["sick/$last_error"].value))
        sick.fault = None
        running.until_good("sick/a", "sick/b", timeout=5.0)


def test_a_late_answer_is_dropped_and_the_next_one_counts(shm_name: str, polled: dict[str, Any]) -> None:
    def late(request: bytes, answer: bytes) -> Parts:
        return [(0.4, answer)]

    with pair(shm_name, **polled) as (running, sick):
        sick.fault = late
        running.until_quality("sick/a", BAD_TIMEOUT, timeout=2.0)
        sick.registers[0] = 5
        sick.fault = None
        running.until_good("sick/a", timeout=3.0)
        running.until(lambda r: r["sick/a"].value == 5)


def test_duplicates_and_answers_glued_to_the_next_lose_nothing(shm_name: str) -> None:
    held: list[bytes] = []

    def glue(request: bytes, answer: bytes) -> Parts:
        old = held.pop() if held else b""
        held.append(answer)
        return [(0.0, old + answer)]

    with pair(shm_name, timeout=5.0) as (running, sick):
        sick.fault = glue
        before = running.count("sick")
        running.until(lambda r: r.count("sick") > before + 10)
        assert running["sick/a"].quality == 0
        assert running.count("sick", "$failures") == 0


def test_a_cable_pulled_is_a_communication_error_until_it_is_back(shm_name: str, polled: dict[str, Any]) -> None:
    with pair(shm_name, **polled) as (running, sick):
        sick.refuse()
        running.until_quality("sick/a", BAD_COMMUNICATION_ERROR, timeout=1.0)
        assert running["sick/a"].value == 1000
        sick.listen()
        running.until_good("sick/a", timeout=3.0)


def test_resets_are_answered_by_a_new_connection_at_once(shm_name: str, polled: dict[str, Any]) -> None:
    with pair(shm_name, **polled) as (running, sick):
        for _ in range(3):
            connections = sick.connections
            sick.reset()
            running.until(lambda _, n=connections: sick.connections > n, timeout=1.0)
            running.until_good("sick/a", timeout=1.0)


def test_a_half_open_connection_is_given_up_for_a_new_one(shm_name: str, polled: dict[str, Any]) -> None:
    """The peer is gone without a word: nothing comes on this connection ever again, a new one works."""
    dead: set[int] = set()

    def half_open(request: bytes, answer: bytes) -> Parts | None:
        return [] if sick.connections in dead else None

    with pair(shm_name, **polled, timeout=1.0) as (running, sick):
        dead.add(sick.connections)
        cursor = running.image.cursor()
        sick.fault = half_open
        # From the journal, for it may be over within a millisecond.
        running.until(lambda r: BAD_TIMEOUT in _qualities(r, cursor, "sick/a"), timeout=2.0)
        running.until_good("sick/a", timeout=3.0)
        assert sick.connections == 2


def test_a_silent_unit_is_demoted_alone_and_its_neighbours_keep_their_connection(shm_name: str) -> None:
    with LyingDevice() as gateway:
        units = [device(f"u{n}", gateway.port, unit_id=n, interval=0.05, timeout=0.2) for n in (1, 2, 3)]
        with Partition(shm_name, units) as running:
            running.until_good("u1/a", "u2/a", "u3/a")
            gateway.silent_units = {2}
            running.until_quality("u2/a", BAD_NO_COMMUNICATION, timeout=3.0)
            running.until(lambda r: "only probed" in str(r["u2/$last_error"].value), timeout=3.0)
            before = {n: running.count(f"u{n}") for n in (1, 3)}
            began = time.monotonic()
            gateway.log.clear()
            running.until(lambda r: r.count("u1") > before[1] + 40, timeout=10.0)
            seconds = time.monotonic() - began
            probes = sum(unit == 2 for unit, *_ in gateway.log)
            assert probes * 0.1 <= 0.05 * seconds + 0.2, "probing takes more than its share"
            assert gateway.connections == 1
            assert running["u3/a"].quality == 0
            gateway.silent_units = set()
            running.until_good("u2/a", timeout=10.0)
            assert gateway.connections == 1


def test_a_gateway_that_says_that_a_unit_is_gone_is_believed(shm_name: str) -> None:
    def gone(request: bytes, answer: bytes) -> Parts | None:
        if request[6] != 2:
            return None
        return [(0.0, encode_adu(int.from_bytes(answer[:2], "big"), 2, exception_response(request[7], 11)))]

    with LyingDevice(fault=gone) as gateway:
        units = [device(f"u{n}", gateway.port, unit_id=n) for n in (1, 2)]
        with Partition(shm_name, units) as running:
            running.until_quality("u2/a", BAD_NO_COMMUNICATION)
            running.until_good("u1/a")
            gateway.fault = None
            running.until_good("u2/a", timeout=5.0)
            assert gateway.connections == 1


def test_a_request_that_is_never_answered_does_not_take_the_others_with_it(shm_name: str) -> None:
    """One block of a device is mute, such as one behind an option module; its other blocks go on."""
    def mute(request: bytes, answer: bytes) -> Parts | None:
        return [] if request[8:10] == b"\0\x64" else None

    with LyingDevice(fault=mute) as plc:
        server = device("plc", plc.port, [holding("first", 0), holding("mute", 100), holding("last", 150)])
        with Partition(shm_name, [server]) as running:
            running.until_quality("plc/mute", BAD_TIMEOUT)
            running.until_good("plc/first", "plc/last")
            before = running.count("plc")
            running.until(lambda r: r.count("plc") > before + 30, timeout=5.0)
            assert running["plc/mute"].quality == BAD_TIMEOUT
            assert plc.connections == 1


def test_retries_happen_within_the_poll_and_are_counted(shm_name: str) -> None:
    seen = [0]

    def every_other(request: bytes, answer: bytes) -> Parts | None:
        seen[0] += 1
        return [] if seen[0] % 2 else None

    with LyingDevice(fault=every_other) as plc:
        server = device("plc", plc.port, retries=1, timeout=0.1)
        with Partition(shm_name, [server]) as running:
            running.until_good("plc/a")
            sequence = running["plc/a"].sequence
            running.until(lambda r: r.count("plc", "$failures") >= 3, timeout=5.0)
            assert running["plc/a"].sequence == sequence, "a retried poll is a good poll"


def test_the_quirks_take_what_they_name_and_nothing_else(shm_name: str) -> None:
    with LyingDevice(fault=zero_id) as zero, LyingDevice(fault=wrong_unit) as unit:
        servers = [
            device("zero", zero.port, accept_transaction_zero=True),
            device("unit", unit.port, accept_any_unit_id=True),
        ]
        with Partition(shm_name, servers) as running:
            running.until_good("zero/a", "unit/a")
            zero.fault = wrong_id
            unit.fault = wrong_id
            running.until_quality("zero/a", BAD_DECODING_ERROR)
            running.until_quality("unit/a", BAD_DECODING_ERROR)


def test_delay_is_kept_between_an_answer_and_the_next_request(shm_name: str) -> None:
    times: list[tuple[float, str]] = []

    def note(request: bytes, answer: bytes) -> Parts | None:
        times.append((time.monotonic(), "asked"))
        return None

    with LyingDevice(fault=note) as plc:
        server = device("plc", plc.port, [holding(f"p{n}", 10 * n) for n in range(5)], delay=0.05, interval=0.0)
        with Partition(shm_name, [server]) as running:
            running.until(lambda _: len(times) > 10)
    gaps = [b[0] - a[0] for a, b in pairwise(times)]
    assert min(gaps) >= 0.045


def test_a_fleet_on_the_fast_path_reads_what_each_device_holds(shm_name: str, polled: dict[str, Any]) -> None:
    """Several requests a cycle, devices alike but for their values, one of them different, and one with a text."""
    points = [holding(f"p{n}", 40 * n) for n in range(4)]
    with ExitStack() as stack:
        plcs = [stack.enter_context(LyingDevice(registers={a: 1000 * k + a for a in range(200)})) for k in range(4)]
        servers = [device(f"plc{k}", plc.port, **{**polled, "points": points[: 4 if k else 2], "timeout": 5.0})
                   for k, plc in enumerate(plcs)]
        running = stack.enter_context(Partition(shm_name, servers))
        running.until_good(*(f"plc{k}/p0" for k in range(4)))
        if not polled["interval"]:
            running.until(lambda r: all(on_the_fast_path(r, f"plc{k}") for k in range(4)))
        for plc in plcs:
            plc.registers.update({a: value + 7 for a, value in plc.registers.items()})
        expected = {f"plc{k}/p{n}": 1000 * k + 40 * n + 7 for k in range(4) for n in range(4 if k else 2)}
        running.until(lambda r: {name: r[name].value for name in expected} == expected)
        snapshot = running.image.snapshot()
        assert all(snapshot[name].quality == 0 for name in expected)
        assert running.count("plc1", "$failures") == 0


def test_requests_on_the_fast_path_are_counted_like_others(shm_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modbus_tcp_client.engine.FEWEST", 1)
    with LyingDevice() as plc:
        with Partition(shm_name, [device("plc", plc.port, interval=0.0)]) as running:
            running.until(lambda r: r.count("plc") > 200)
            engine = running.manager._engine
            assert engine is not None
            units = engine.units
        assert abs(units[0].status.requests - len(plc.log)) <= 1


def test_a_line_that_damages_every_other_answer_never_brings_a_wrong_value(
    shm_name: str, polled: dict[str, Any]
) -> None:
    """Headers, lengths and ends are damaged, not data: those Modbus TCP could not protect."""
    dice = random.Random(1)

    def damage(request: bytes, answer: bytes) -> Parts | None:
        way = dice.randrange(8)
        if way == 0:
            return [(0.0, answer[: dice.randrange(len(answer))])]
        if way == 1:
            return [(0.0, answer + dice.randbytes(dice.randrange(1, 12)))]
        if way == 2:
            return [(0.0, dice.randbytes(dice.randrange(1, 40)))]
        if way == 3:
            place = dice.randrange(9)
            return [(0.0, answer[:place] + bytes((answer[place] ^ dice.randrange(1, 256),)) + answer[place + 1 :])]
        return None

    with pair(shm_name, **polled, timeout=0.1, retry_interval=0.1) as (running, sick):
        sick.fault = damage
        seen = set()
        end = time.monotonic() + 3.0
        while time.monotonic() < end:
            sample = running["sick/a"]
            assert sample.value == 1000
            seen.add(sample.quality == 0)
        assert seen == {True, False}
        sick.fault = None
        running.until_good("sick/a", "sick/b", timeout=3.0)


def test_a_device_that_floods_the_line_with_answers_to_nothing_is_cut_off(
    shm_name: str, polled: dict[str, Any]
) -> None:
    def flood(request: bytes, answer: bytes) -> Parts:
        return [(0.0, wrong_id(request, answer)[0][1] * 400)]

    with pair(shm_name, **polled) as (running, sick):
        sick.fault = flood
        running.until_quality("sick/a", BAD_DECODING_ERROR, timeout=2.0)
        running.until(lambda r: "200 answers to nothing" in str(r["sick/$last_error"].value), timeout=3.0)
        sick.fault = None
        running.until_good("sick/a", timeout=3.0)


def test_answers_that_came_while_the_process_did_not_run_are_not_too_late(
    shm_name: str, polled: dict[str, Any]
) -> None:
    with LyingDevice(fault=lambda request, answer: [(0.05, answer)]) as plc:
        server = device("plc", plc.port, **polled, timeout=1.0)
        with Partition(shm_name, [server]) as running:
            running.until_good("plc/a")
            engine = running.manager._engine
            assert engine is not None
            for _ in range(2):
                engine.timers.at(0, lambda now: time.sleep(1.5), engine.links[0])
                before = running.count("plc")
                running.until(lambda r, n=before: r.count("plc") > n + 8)
            assert running.count("plc", "$failures") == 0
