"""The MQTT benchmark runs and tells what it is asked for; its figures are no matter of a test."""

from __future__ import annotations

import json

import pytest
from plant import cpc


@pytest.mark.peer("mosquitto")
def test_the_benchmark_compares_three_sides_for_each_quality_of_service() -> None:
    done = cpc("bench", "mqtt", "--json", "--only", "rates", "--rounds", "1", "--messages", "200", timeout=100)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["rates"]) == {"QoS 0", "QoS 1", "QoS 2"}
    for figures in found["rates"].values():
        assert {"ours, messages/s", "ours / paho, its thread", "ours / paho, one loop"} <= set(figures)
        assert all(value > 0 for value in figures.values())
