"""A reader that runs through the whole campaign: SEGMENT MARK; ends when the file MARK is gone, prints what it saw."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import process_image

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from campaign.checking import Checker  # noqa: E402


def main(name: str, mark: Path) -> int:
    """Snapshots, journal and waits, as fast as they come; JSON on stdout."""
    checker = Checker(process_image.attach(name, timeout=5.0))
    mark.with_name(f"{mark.name}.python").touch()
    longest, last = 0.0, time.monotonic()
    while mark.exists():
        checker.image.wait(0.02)
        checker.snapshot()
        checker.journal()
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    checker.snapshot()
    print(json.dumps({"snapshots": checker.snapshots, "changes": checker.changes, "lost": checker.lost,
                      "epochs": checker.epochs, "highest": checker.highest, "longest_turn": round(longest, 3),
                      "faults": checker.faults[:10]}))
    return bool(checker.faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
