"""No reader ever sees a torn block while the writer publishes as fast as it can; a control shows that it could."""

from __future__ import annotations

import time

import pytest
from image_tools import Script
from process_image import RECORD, Image, attach, create

WRITER = """
points = [Point(name=f"p{i}", device=f"d{i * blocks // count}") for i in range(count)]
with create(name, points, journal_entries=1024) as writer:
    say(ready=True)
    number, records = 0, writer.records
    until = time.monotonic() + 60
    while time.monotonic() < until:
        number += 1
        records["value"] = number
        records["quality"] = 0
        records["received_time"] = number
        writer.publish()
"""


@pytest.mark.parametrize("blocks", [1, 7])
def test_snapshots_are_whole_at_full_rate(shm_name: str, blocks: int) -> None:
    count, wanted = 700, 400
    with Script(WRITER, name=shm_name, count=count, blocks=blocks) as script:
        script.hear()
        generations = set()
        with attach(shm_name) as image:
            assert image.wait(timeout=30)
            while len(generations) < wanted:
                snapshot = image.snapshot()
                generations.add(snapshot.generation)
                values, times = snapshot.records["value"], snapshot.records["received_time"]
                for block in image.blocks:
                    span = slice(block.start, block.start + block.count)
                    assert values[span].min() == values[span].max()
                    assert (times[span] == values[block.start]).all()


def test_without_the_sequences_snapshots_are_torn(shm_name: str) -> None:
    """The control: copying one fixed slot, as if there were no protocol, is torn before long."""
    with Script(WRITER, name=shm_name, count=20_000, blocks=1) as script, attach_when_ready(script, shm_name) as image:

        slot = image._now.memory.records[0]
        torn = 0
        until = time.monotonic() + 50
        while torn < 10 and time.monotonic() < until:
            values = slot.copy().view(RECORD)["value"]
            torn += bool(values.min() != values.max())
        assert torn == 10


def attach_when_ready(script: Script, name: str) -> Image:
    """Attach once the writer has said that it is there."""
    script.hear()
    return attach(name)


def test_a_locked_out_or_stopped_reader_changes_nothing_for_the_writer(shm_name: str) -> None:
    reader = "image = attach(name)\nsay(ready=1)\nwhile True:\n    image.snapshot()\n"

    with create(shm_name, [f"p{i}" for i in range(500)]) as writer, \
            Script(reader, name=shm_name) as stopped, Script(reader, name=shm_name) as killed:
        for script in (stopped, killed):
            script.hear()
        stopped.process.send_signal(19)
        killed.kill()
        for number in range(1, 200):
            writer.records["value"] = number
            writer.records["quality"] = 0
            assert writer.publish() == 500
        with attach(shm_name) as image:
            assert set(image.snapshot().records["value"].tolist()) == {199.0}
        stopped.process.send_signal(18)
