"""Draws docs/images/live-table.svg from a running demo: `.venv/bin/python tools/draw_live_table.py`."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from process_image import list_segments

from cpc.commandline.watch_app import WatchApp
from cpc.commandline.watch_feed import SegmentFeed

TARGET = Path(__file__).resolve().parent.parent / "docs" / "images" / "live-table.svg"
SIZE = (108, 32)
SECONDS = 5.0
"""How long the partition runs before the picture is taken."""


async def draw(namespace: str) -> str:
    """The table's picture, as SVG."""
    app = WatchApp(SegmentFeed(lambda: [info.name for info in list_segments(f"{namespace}_")]))
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(1.5)
        return app.export_screenshot(title="cpc watch")


def main() -> None:
    """Run a partition on the samples, and draw."""
    namespace = "picture"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cpc"]
        subprocess.run([*command, "init", folder], check=True, stdout=subprocess.DEVNULL)
        partition = subprocess.Popen(
            [*command, "run", f"--config={folder}/partition.xml", "--simulate", f"--namespace={namespace}"]
        )
        try:
            time.sleep(SECONDS)
            picture = asyncio.run(draw(namespace))
        finally:
            partition.terminate()
            partition.wait()
    # the fonts would be fetched from elsewhere; every viewer has a monospaced one
    picture = re.sub(r"@font-face\s*{[^}]*}", "", picture)
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text("\n".join(line.rstrip() for line in picture.splitlines()) + "\n")


main()
