"""How many requests the read plan needs for real maps, beside one request for every tag.

    python bench/plans.py [--json]

The maps in `maps/` hold facts of public documents (address, type, scale): the SunSpec common block with a three-phase
inverter (model 103), and three energy meters. They are point tables as `cpc import` reads them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from modbus_tcp_client import plan

from cpc.point_tables import from_csv

MAPS = Path(__file__).resolve().parent / "maps"
GAPS = (0, 2, 10)
"""Unwanted registers that may be read to join two blocks."""


def counts(path: Path) -> dict[str, Any]:
    """Tags, and requests by the largest gap allowed."""
    table = from_csv(path)
    if table.faults:
        raise SystemExit("\n".join(str(fault) for fault in table.faults))
    (server,) = table.servers
    registers = sum(point.registers for point in server.points)
    plans = {gap: plan(server.points, max_gap=gap) for gap in GAPS}
    return {
        "map": path.stem, "tags": len(server.points), "registers": registers,
        "requests_one_per_tag": len(server.points),
        "requests": {str(gap): len(planned) for gap, planned in plans.items()},
        "registers_read": {str(gap): sum(r.count for r in planned) for gap, planned in plans.items()},
    }


def main() -> int:
    """Count for every map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = [counts(path) for path in sorted(MAPS.glob("*.csv"))]
    if args.json:
        print(json.dumps({"results": results}, indent=2))
        return 0
    print(f"{'map':<20}{'tags':>6}" + "".join(f"{f'gap {gap}':>10}" for gap in GAPS) + "   requests by largest gap")
    for r in results:
        print(f"{r['map']:<20}{r['tags']:>6}" + "".join(f"{r['requests'][str(gap)]:>10}" for gap in GAPS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
