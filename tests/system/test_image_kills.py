"""The kill campaign in its short form, and the long one for `make campaign`; single kills that it once found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import process_image
import pytest
from process_image import stops

KILLED = """
import sys, process_image
writer = process_image.create(sys.argv[1], [f"p{i}" for i in range(40)], journal_entries=16)
for number in range(1, 6):
    writer.records["value"] = number
    writer.records["quality"] = 0
    writer.publish()
"""


def campaign(root: Path, kills: int, timeout: float) -> dict:
    command = [sys.executable, "-m", "tests.campaign.kill", "--kills", str(kills), "--json"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert not result["faults"], json.dumps(result, indent=1)
    assert done.returncode == 0, done.stderr
    for seen in result["readers"]:
        assert seen["snapshots"] > 1 and not seen.get("torn") and not seen.get("disorder") and not seen.get("stuck")
    return result


def test_150_kills_leave_readers_whole_and_the_next_writer_publishing(root: Path) -> None:
    result = campaign(root, 150, 110)
    assert result["kills"] >= 150
    assert result["at_stop_points"] >= 15
    assert {seen["reader"] for seen in result["readers"]} >= {"python"}


@pytest.mark.campaign
@pytest.mark.timeout(3500)
def test_10000_kills_leave_readers_whole_and_the_next_writer_publishing(
        root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = campaign(root, 10_000, 3400)
    with capsys.disabled():
        print("\n" + json.dumps(result, indent=1))
    assert result["kills"] >= 10_000
    inside = sum(count for place, count in result["by_place"].items() if place.startswith(("publish", "takeover")))
    assert inside >= 1000
    assert set(result["by_place"]) >= set(stops.NAMES)


@pytest.mark.parametrize("place", ["publish.entries", "publish.committed", "publish.odd"])
def test_a_publish_that_overran_its_journal_leaves_no_block_mixed_of_two(shm_name: str, place: str) -> None:
    """The ring holds 16 of 40 changes: after the kill nothing may be rolled forward by half."""
    done = subprocess.run([sys.executable, "-c", KILLED, shm_name], check=False, timeout=30,
                          env={**os.environ, "PROCESS_IMAGE_STOP": f"{place}:4"})
    assert done.returncode == -9
    points = [f"p{i}" for i in range(40)]
    with (process_image.attach(shm_name) as image,
          process_image.create(shm_name, points, journal_entries=16) as writer):
        values = image.snapshot().records["value"]
        assert len(np.unique(values)) == 1
        before = list(image.changes())[-1]
        writer.records["quality"] = 0
        writer.publish()
        after = list(image.changes(before.cursor))[-1]
        assert (after.records["sequence"][-10:] == before.records["sequence"][-10:] + 1).all()


def kill_at(code: str, name: str, stop: str) -> None:
    """Run the code until it kills itself at a stop point."""
    done = subprocess.run([sys.executable, "-c", code, name], check=False, timeout=30,
                          env={**os.environ, "PROCESS_IMAGE_STOP": stop})
    assert done.returncode == -9, stop


def test_a_sequence_is_not_used_twice_when_the_take_over_is_killed_over_the_journal(shm_name: str) -> None:
    """The first kill leaves sequences in the journal alone, the second one overwrites that journal."""
    kill_at(KILLED, shm_name, "publish.committed:3")
    points = [f"p{i}" for i in range(40)]
    with process_image.attach(shm_name, timeout=5.0) as image:
        seen = {}
        for batch in image.changes():
            seen.update(zip(batch.rows.tolist(), batch.records["sequence"].tolist(), strict=True))
        assert len(seen) == 16
        for stop in ("publish.reserved", "publish.entries", "publish.reserved"):
            kill_at(KILLED, shm_name, stop)
        with process_image.create(shm_name, points, journal_entries=16):
            now = image.snapshot().records["sequence"]
            assert all(now[row] > sequence for row, sequence in seen.items())


@pytest.mark.parametrize("first", ["publish.odd:5", "publish.even:5"])
@pytest.mark.parametrize("place", ["publish.odd", "publish.half", "publish.copied"])
def test_killed_again_and_again_in_its_take_over_a_segment_keeps_a_whole_slot(shm_name: str, first: str,
                                                                              place: str) -> None:
    """Each life spoils one slot more; never the newest whole one, nor the one that readers are led to."""
    kill_at(KILLED, shm_name, first)
    with process_image.attach(shm_name, timeout=5.0) as image:
        kill_at(KILLED, shm_name, place)
        good = image.snapshot().records["value"].tolist()
        assert len(set(good)) == 1 and good[0] > 0
        for _ in range(6):
            kill_at(KILLED, shm_name, place)
            assert image.snapshot().stale
            assert image.snapshot().records["value"].tolist() == good
        with process_image.create(shm_name, [f"p{i}" for i in range(40)], journal_entries=16):
            assert image.snapshot().records["value"].tolist() == good
