"""How fast answers become values: the decode plan against pymodbus's convert_from_registers, value by value.

    python bench/decode.py [--devices 200] [--values 60] [--rounds 7] [--json]

Both sides take the same bytes of the same mixed map. Ours ends in records with value, raw bits and quality; theirs
in a list of Python numbers. The sides take turns within each round; the figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from endpoint_config.models import Datatype, ModbusPoint, ReadFunction
from modbus_tcp_client import DecodePlan, plan
from process_image import RECORD
from pymodbus.client.mixin import ModbusClientMixin

_D = Datatype
MIX = (
    _D.INT16, _D.FLOAT32, _D.UINT16, _D.INT32, _D.UINT16, _D.FLOAT32, _D.UINT16, _D.UINT32, _D.INT16, _D.FLOAT64,
    _D.UINT16, _D.FLOAT32, _D.INT16, _D.UINT64, _D.UINT16, _D.INT32, _D.INT16, _D.FLOAT32, _D.UINT16, _D.INT64,
)
"""Types in turn, half of them of one register; every third value has its lower register first, every fourth is
scaled by 0.1."""
SLICE_SECONDS = 0.01
"""How long each side runs before the other takes its turn: short, so that both see the same weather."""
TURNS = 25
"""Turns of each side in a round."""


def mixed_map(values: int) -> tuple[ModbusPoint, ...]:
    """Points of the mixed map, side by side from address 0."""
    points = []
    address = 0
    for i in range(values):
        datatype = MIX[i % len(MIX)]
        points.append(ModbusPoint(
            name=f"p{i}", read_function=ReadFunction.HOLDING_REGISTERS, address=address, registers=datatype.registers,
            datatype=datatype, order="CDAB" if i % 3 == 2 else "ABCD", scale=0.1 if i % 4 == 0 else 1.0,
        ))
        address += datatype.registers
    return tuple(points)


def turn(work: Callable[[], None]) -> tuple[int, float]:
    """Runs of `work` in one slice of time, and the seconds that they took."""
    runs = 0
    start = time.perf_counter()
    while (spent := time.perf_counter() - start) < SLICE_SECONDS:
        work()
        runs += 1
    return runs, spent


def compete(one: Callable[[], None], other: Callable[[], None]) -> tuple[float, float]:
    """Seconds for one run of each, measured in turns."""
    runs, seconds = [0, 0], [0.0, 0.0]
    for _ in range(TURNS):
        for side, work in enumerate((one, other)):
            done, spent = turn(work)
            runs[side] += done
            seconds[side] += spent
    return seconds[0] / runs[0], seconds[1] / runs[1]


def measure(devices: int, values: int, rounds: int) -> dict[str, Any]:
    """Nanoseconds a value of both sides, and the median of the ratios."""
    points = mixed_map(values)
    decode_plan = DecodePlan(points, plan(points))
    data = np.random.default_rng(1).integers(0, 256, (devices, decode_plan.width), dtype=np.uint8)
    records = np.zeros((devices, values), RECORD)
    registers = data.view(">u2").astype(int).tolist()
    jobs = [
        (p.address, p.address + p.registers, ModbusClientMixin.DATATYPE[p.datatype.name],
         "little" if p.order == "CDAB" else "big", p.scale)
        for p in points
    ]
    convert = ModbusClientMixin.convert_from_registers

    def theirs() -> None:
        row = registers[0]
        for start, stop, kind, order, scale in jobs:
            number = convert(row[start:stop], kind, word_order=order)  # type: ignore[arg-type]
            if scale != 1.0:
                number *= scale  # type: ignore[operator]

    def ours() -> None:
        decode_plan.decode(data, records)

    check(decode_plan, data, records, registers, jobs)
    turns = [compete(theirs, ours) for _ in range(rounds)]
    pairs = [(a / values, b / (values * devices)) for a, b in turns]
    return {
        "devices": devices, "values": values, "requests": len(decode_plan.requests),
        "convert_from_registers_ns": round(statistics.median(p[0] for p in pairs) * 1e9, 1),
        "decode_plan_ns": round(statistics.median(p[1] for p in pairs) * 1e9, 2),
        "ratio": round(statistics.median(p[0] / p[1] for p in pairs), 1),
        "ratios": [round(p[0] / p[1], 1) for p in pairs],
    }


def check(decode_plan: DecodePlan, data: Any, records: Any, registers: Any, jobs: Any) -> None:
    """Both sides must say the same before they are timed."""
    decode_plan.decode(data, records)
    for i, (start, stop, kind, order, _) in enumerate(jobs):
        number = ModbusClientMixin.convert_from_registers(registers[-1][start:stop], kind, word_order=order)
        number = float(number) / 10 if decode_plan.points[i].scaled else float(number)  # type: ignore[arg-type]
        assert np.isclose(records[-1, i]["value"], number, rtol=1e-12, equal_nan=True), (i, kind)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")] if Path("/proc/cpuinfo").exists() else []
    versions = {name: metadata.version(name) for name in ("numpy", "pymodbus")}
    return {"cpu": names[0] if names else platform.machine(), "cores": str(len(names) or 1),
            "system": platform.platform(), "python": platform.python_version(), **versions}


def main() -> int:
    """Measure a fleet and one device, and say so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--values", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.rounds < 3:
        parser.error("a median needs at least 3 rounds")
    results = [measure(devices, args.values, args.rounds) for devices in (args.devices, 1)]
    if args.json:
        print(json.dumps({"machine": machine(), "results": results}, indent=2))
        return 0
    print(", ".join(f"{k} {v}" for k, v in machine().items()))
    for r in results:
        print(f"{r['devices']:>5} devices x {r['values']} values: convert_from_registers "
              f"{r['convert_from_registers_ns']} ns, decode plan {r['decode_plan_ns']} ns a value: "
              f"{r['ratio']} times (rounds: {r['ratios']})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
