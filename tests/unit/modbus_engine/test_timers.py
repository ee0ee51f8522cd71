"""One heap of deadlines."""

from __future__ import annotations

import pytest
from modbus_tcp_client.timers import SHORTEST, Timers


class Link:
    def __init__(self) -> None:
        self.faults: list[Exception] = []

    def break_down(self, fault: Exception, now: int) -> None:
        self.faults.append(fault)


def test_callbacks_come_in_the_order_of_their_times() -> None:
    timers, link, seen = Timers(), Link(), []
    for when in (30, 10, 20):
        timers.at(when, lambda now, when=when: seen.append((when, now)), link)  # type: ignore[misc]
    timers.fire(9)
    assert seen == []
    timers.fire(25)
    assert seen == [(10, 25), (20, 25)]


def test_a_callback_that_sets_itself_again_at_once_does_not_keep_fire_from_ending() -> None:
    timers, link, seen = Timers(), Link(), []

    def again(now: int) -> None:
        seen.append(now)
        timers.at(now, again, link)

    timers.at(1, again, link)
    timers.fire(1)
    timers.fire(2)
    assert seen == [1, 2]


def test_a_callback_that_raises_harms_its_owner_alone() -> None:
    timers, link, seen = Timers(), Link(), []
    timers.at(1, lambda now: 1 // 0, link)  # type: ignore[arg-type, return-value]
    timers.at(2, seen.append, link)
    timers.fire(3)
    assert seen == [3]
    assert isinstance(link.faults[0], ZeroDivisionError)


@pytest.mark.parametrize(
    ("left", "wait"), [(0, 0.0), (-5, 0.0), (1, SHORTEST), (5_000_000, 0.005), (10**10, 0.2)]
)
def test_no_wait_is_shorter_than_a_millisecond(left: int, wait: float) -> None:
    timers = Timers()
    assert timers.wait(0, 0.2) == 0.2
    timers.at(1000 + left, lambda now: None, Link())
    assert timers.wait(1000, 0.2) == pytest.approx(wait)
