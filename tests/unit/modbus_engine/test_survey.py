"""What is learnt about a device's registers: splitting, quarantine, bridges. A simulated device, no sockets."""

from __future__ import annotations

import random

import pytest
from endpoint_config.models import ModbusPoint, ReadFunction
from hypothesis import given
from hypothesis import strategies as st
from modbus_tcp_client.bridge import PAUSE_NS, ROUNDS, BridgeCheck
from modbus_tcp_client.plan import Request
from modbus_tcp_client.survey import Survey

SECOND = 1_000_000_000


def points(*addresses: int) -> list[ModbusPoint]:
    return [ModbusPoint(name=f"p{a}", read_function=ReadFunction.HOLDING_REGISTERS, address=a) for a in addresses]


def spans(requests: tuple[Request, ...]) -> list[tuple[int, int]]:
    return [(r.address, r.count) for r in requests]


def explore(survey: Survey, missing: set[int], limit: int = 125, now: int = 0) -> tuple[tuple[Request, ...], int]:
    """Poll cycles against a device without some registers until nothing is refused; (requests, cycles)."""
    requests = survey.requests()
    for cycle in range(1, 20):
        survivors, ahead = [], list(requests)
        while ahead:
            request = ahead.pop(0)
            if request.count > limit or missing & set(range(request.address, request.stop)):
                ahead += survey.refuse(request, now)
            else:
                survivors.append(request)
        if not survey.changed:
            return requests, cycle
        requests = survey.conclude(survivors)
    raise AssertionError("no end")


def test_the_bad_register_stands_alone_and_the_rest_is_read_in_the_fewest_requests() -> None:
    survey = Survey(points(*range(100)), max_registers=125, max_gap=0, first_pause=30)
    requests, cycles = explore(survey, {61})
    assert spans(requests) == [(0, 61), (62, 38)]
    assert spans(survey.quarantined) == [(61, 1)]
    assert cycles <= 3


@given(st.sets(st.integers(0, 119), max_size=20), st.integers(1, 125))
def test_whatever_is_missing_the_rest_is_read(missing: set[int], limit: int) -> None:
    survey = Survey(points(*range(120)), max_registers=125, max_gap=0, first_pause=30)
    requests, _ = explore(survey, missing, limit)
    read = {a for r in requests for a in range(r.address, r.stop)}
    assert read == set(range(120)) - missing
    assert {a for r in survey.quarantined for a in range(r.address, r.stop)} == missing


def test_quarantine_is_tried_again_ever_more_rarely_and_left_when_it_answers() -> None:
    survey = Survey(points(*range(10)), max_registers=125, max_gap=0, first_pause=30)
    explore(survey, {4})
    (bad,) = survey.quarantined
    assert survey.due(29 * SECOND) == []
    assert survey.due(30 * SECOND) == [bad]
    assert survey.refuse(bad, 30 * SECOND) == ()
    assert not survey.changed
    assert survey.due(89 * SECOND) == []
    assert survey.due(90 * SECOND) == [bad]
    survey.release(bad)
    assert survey.changed
    assert spans(survey.conclude(())) == [(0, 10)]


def test_a_reconnected_device_is_asked_for_everything_again() -> None:
    survey = Survey(points(*range(10)), max_registers=125, max_gap=0, first_pause=30)
    explore(survey, {4})
    survey.retry_now()
    assert survey.due(0) == list(survey.quarantined)


def bridged(survey: Survey, registers: dict[int, int], shifting: bool, cycles: int, move: bool = False,
            now: int = 0) -> tuple[Request, ...]:
    """Poll a device; `shifting` moves values up into holes. Returns the requests after so many cycles."""
    dice = random.Random(1)
    requests = survey.requests()
    for _ in range(cycles):
        if move:
            for address in registers:
                registers[address] = dice.randrange(65536)

        def content(request: Request) -> memoryview:
            wanted = range(request.address, request.stop)
            if shifting:
                there = sorted(a for a in registers if a >= request.address)
                words = [registers[there[i]] if i < len(there) else 0 for i in range(request.count)]
            else:
                words = [registers.get(a, 0xDEAD) for a in wanted]
            return memoryview(b"".join(w.to_bytes(2, "big") for w in words))

        plain = [(r, content(r)) for r in requests]
        bridges = survey.bridges
        trials = bridges.due(now)
        if bridges.waiting:
            bridges.after(plain, now)
        for trial in trials:
            bridges.answered(trial, bytes(content(trial)))
        if trials:
            bridges.before(plain)
        if survey.changed:
            requests = survey.conclude([r for r, _ in plain])
    return requests


def test_an_honest_bridge_is_used_after_it_was_checked_and_not_before() -> None:
    survey = Survey(points(0, 1, 5, 6), max_registers=125, max_gap=5, first_pause=30)
    registers = {0: 10, 1: 11, 5: 15, 6: 16}
    assert spans(survey.requests()) == [(0, 2), (5, 2)]
    assert spans(bridged(survey, registers, shifting=False, cycles=2)) == [(0, 7)]


def test_a_bridge_that_shifts_values_is_given_up() -> None:
    survey = Survey(points(0, 1, 5, 6), max_registers=125, max_gap=5, first_pause=30)
    registers = {0: 10, 1: 11, 5: 15, 6: 16}
    requests = bridged(survey, registers, shifting=True, cycles=ROUNDS + 2)
    assert spans(requests) == [(0, 2), (5, 2)]
    assert survey.bridges.rejected == {(3, 0, 7)}
    assert not survey.bridges.trying


def test_a_shift_is_not_overlooked_because_all_values_are_alike() -> None:
    survey = Survey(points(0, 1, 5, 6), max_registers=125, max_gap=5, first_pause=30)
    registers = {0: 0, 1: 0, 5: 0, 6: 0}
    assert spans(bridged(survey, registers, shifting=True, cycles=10)) == [(0, 2), (5, 2)]
    assert survey.bridges.trying, "zeros can't tell"
    registers.update({0: 10, 1: 11, 5: 15, 6: 16})
    requests = bridged(survey, registers, shifting=True, cycles=ROUNDS + 2, now=2 * PAUSE_NS)
    assert spans(requests) == [(0, 2), (5, 2)]
    assert survey.bridges.rejected


def test_values_that_move_all_the_time_do_not_count_as_a_shift_of_honest_devices_when_one_comparison_agrees() -> None:
    check = BridgeCheck()
    whole, low, high = (Request(function=3, address=a, count=c, points=(0,)) for a, c in ((0, 5), (0, 2), (4, 1)))
    assert check.choose(whole, (low, high)) == (low, high)

    def data(*words: int) -> memoryview:
        return memoryview(b"".join(w.to_bytes(2, "big") for w in words))

    check.answered(whole, bytes(data(1, 2, 0, 0, 9)))
    check.before([(low, data(1, 3)), (high, data(9))])  # 3 has become 2 meanwhile
    check.after([(low, data(7, 2)), (high, data(8))], 0)
    assert check.changed
    assert check.choose(whole, (low, high)) == (whole,)


def test_a_bridge_that_the_device_refuses_is_given_up_without_quarantine() -> None:
    survey = Survey(points(0, 1, 5, 6), max_registers=125, max_gap=5, first_pause=30)
    survey.requests()
    (trial,) = survey.bridges.due(0)
    survey.bridges.reject(trial)
    assert survey.changed
    assert spans(survey.conclude(survey.requests())) == [(0, 2), (5, 2)]
    assert survey.quarantined == ()


@pytest.mark.parametrize("gap", [0, 1])
def test_without_a_bridge_nothing_is_tried(gap: int) -> None:
    survey = Survey(points(0, 1, 5, 6), max_registers=125, max_gap=gap, first_pause=30)
    survey.requests()
    assert not survey.bridges.trying
