"""How a consumer finds segments that are not there yet."""

from __future__ import annotations

import time

import pytest
from process_image import create

from cpc.consumers.feed import Feed


def test_a_segment_that_was_absent_is_found_at_once_where_somebody_waits_for_it(
        shm_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause between attempts grows to seconds: too long for a command that names a point of a new service."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    feed = Feed(shm_name)
    assert not feed.open()
    with create(shm_name, ["a"]):
        assert not feed.open()
        assert feed.open(at_once=True)
        assert feed.snapshot() is not None
        feed.close()
