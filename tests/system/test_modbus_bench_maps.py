"""The maps of the benchmarks are sound, and their plans are as short as the maps allow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cpc.point_tables import from_csv

DRIVERS = {
    # volkszaehler/mbmd: meters/rs485/sdm.go, janitza.go, abb.go
    "eastron-sdm630": {
        "Voltage L1": (0x0000, "float32", 1.0), "Active power L3": (0x0010, "float32", 1.0),
        "Active power total": (0x0034, "float32", 1.0), "Apparent power total": (0x0038, "float32", 1.0),
        "Reactive power total": (0x003C, "float32", 1.0), "Power factor total": (0x003E, "float32", 1.0),
        "Frequency": (0x0046, "float32", 1.0), "Import active energy": (0x0048, "float32", 1.0),
        "Export active energy": (0x004A, "float32", 1.0), "Power demand": (0x0054, "float32", 1.0),
        "Voltage THD L1": (0x00EA, "float32", 1.0), "Voltage THD mean": (0x00F8, "float32", 1.0),
        "Active energy total": (0x0156, "float32", 1.0), "Import energy L1": (0x015A, "float32", 1.0),
        "Export energy L3": (0x0164, "float32", 1.0), "Energy L3": (0x016A, "float32", 1.0),
    },
    "janitza-umg96rm": {
        "Voltage L1-N": (0x4A38, "float32", 1.0), "Current L1": (0x4A44, "float32", 1.0),
        "Active power L3": (0x4A50, "float32", 1.0), "cos phi L1": (0x4A64, "float32", 1.0),
        "Consumed energy sum": (0x4A7C, "float32", 1.0), "Delivered energy sum": (0x4A84, "float32", 1.0),
    },
    "abb-b23": {
        "Active energy import": (0x5000, "uint64", 0.01), "Active energy export": (0x5004, "uint64", 0.01),
        "Voltage L1-N": (0x5B00, "uint32", 0.1), "Current L3": (0x5B10, "uint32", 0.01),
        "Active power total": (0x5B14, "int32", 0.01), "Active power L3": (0x5B1A, "int32", 0.01),
        "Frequency": (0x5B2C, "uint16", 0.01), "Power factor total": (0x5B3A, "int16", 0.001),
        "Power factor L3": (0x5B3D, "int16", 0.001),
    },
}
"""Address, type and scale of what public drivers read of the same meters; see bench/maps/README.md."""


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


@pytest.mark.parametrize("name", DRIVERS)
def test_maps_agree_with_public_drivers(name: str, root: Path) -> None:
    (server,) = from_csv(root / "bench" / "maps" / f"{name}.csv").servers
    points = {p.name: (p.address, p.datatype.value, p.scale) for p in server.points}
    assert {point: points[point] for point in DRIVERS[name]} == DRIVERS[name]
