"""When a dead device is tried again."""

from __future__ import annotations

from acquisition import Backoff


def test_the_first_retry_is_at_once_and_later_ones_grow_to_the_longest_pause():
    backoff = Backoff(longest=2.0)
    pauses = [backoff.pause() for _ in range(60)]
    assert pauses[0] == 0.0
    assert all(0.05 <= p <= 2.0 for p in pauses[1:])
    assert all(p >= 1.0 for p in pauses[10:])


def test_a_success_starts_over():
    backoff = Backoff(longest=30.0)
    for _ in range(10):
        backoff.pause()
    backoff.reset()
    assert backoff.pause() == 0.0


def test_two_devices_do_not_come_back_in_step():
    one, other = Backoff(longest=30.0), Backoff(longest=30.0)
    assert [one.pause() for _ in range(12)] != [other.pause() for _ in range(12)]
