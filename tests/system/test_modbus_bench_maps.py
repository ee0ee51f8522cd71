"""The maps of the benchmarks are sound, and their plans are as short as the maps allow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_real_maps_need_few_requests(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, root / "bench" / "plans.py", "--json"], capture_output=True, text=True, timeout=60, check=True
    )
    results = {r["map"]: r for r in json.loads(done.stdout)["results"]}
    assert {name: r["requests"]["0"] for name, r in results.items()} == {
        "abb-b23": 3, "eastron-sdm630": 14, "janitza-umg96rm": 1, "sunspec-103": 2,
    }
    for r in results.values():
        assert r["requests"]["10"] <= r["requests"]["0"] < r["requests_one_per_tag"]
