"""`cpc bench image` runs, says what it measured on, finds nothing torn. How fast it is, is not for a test to say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def bench(root: Path, *sections: str) -> dict:
    only = [word for section in sections for word in ("--only", section)]
    command = [sys.executable, "-m", "cpc", "bench", "image", "--json", "--quick", *only]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_snapshots_are_whole_where_bare_copies_are_torn(root: Path) -> None:
    result = bench(root, "torn")
    assert {"cpu", "cores", "load", "python", "numpy", "posix-ipc"} <= set(result["machine"])
    for part in result["torn"]:
        assert part["snapshots"] > 0 and part["torn"] == 0
        assert part["published"] > 0
    assert sum(part["control_torn"] for part in result["torn"]) > 0


def test_take_over_and_waking_are_measured_with_both_sides(root: Path) -> None:
    result = bench(root, "takeover", "wake")
    assert 0 < result["takeover"]["lease_to_published_ms"] <= result["takeover"]["create_to_published_ms"]
    assert [part["readers"] for part in result["wake"]] == [1, 5, 32]
    assert all(part[side]["p50_us"] > 0 for part in result["wake"] for side in ("futex", "semaphores"))


@pytest.mark.peer("redis-server")
def test_redis_of_its_own_answers_each_way(root: Path) -> None:
    sides = bench(root, "redis")["redis"]["sides"]
    assert len(sides) == 6
    assert sides["SET + GET of each point"]["ratio"] > sides["SET + GET of the block's bytes"]["ratio"]
