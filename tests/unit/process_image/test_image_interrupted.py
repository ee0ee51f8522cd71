"""An exception inside a publish (a signal handler's) leaves a writer that goes on, and readers that are not fooled."""

from __future__ import annotations

import numpy as np
import pytest
from image_tools import fleet
from process_image import attach, create, stops

POINTS = [n for n in stops.NAMES if n.startswith("publish.") and n not in ("publish.semaphore", "publish.woken")]


class Stop(BaseException):
    """As KeyboardInterrupt, from the handler of a signal."""


@pytest.mark.parametrize("devices", [1, 3])
@pytest.mark.parametrize("point", POINTS)
def test_a_publish_that_was_interrupted_is_mended(
        shm_name: str, point: str, devices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with create(shm_name, fleet(devices, 4), semaphore=shm_name + "_sem") as writer, attach(shm_name) as image:
        cursor = image.cursor()
        last = dict.fromkeys(range(len(writer.points)), 0)

        def turn(number: int) -> None:
            writer.records["value"] = number
            writer.records["raw"] = number
            writer.records["quality"] = 0
            writer.records["source_time"] = 1
            for device in range(devices):
                writer.set_text(writer.index[f"Device {device}/$last_error"], f"text {number}")
            writer.publish()

        def stop(name: str) -> None:
            if name == point:
                raise Stop

        turn(1)
        monkeypatch.setattr(stops, "hook", stop)
        with pytest.raises(Stop):
            turn(2)
        monkeypatch.undo()
        seen = image.snapshot()
        for block in writer.blocks:
            part = seen.records[block.start : block.start + block.count]
            assert len(np.unique(part["value"])) == 1, "a torn block"
        turn(3)
        snapshot = image.snapshot()
        assert set(snapshot.records["value"].tolist()) == {3.0}
        assert snapshot["Device 0/$last_error"].value == "text 3"
        for batch in image.changes(cursor):
            for row, sequence in zip(batch.rows.tolist(), batch.records["sequence"].tolist(), strict=True):
                assert sequence == last[row] + 1
                last[row] = sequence
        assert last == dict(enumerate(snapshot.records["sequence"].tolist()))
        assert writer.semaphore.value() == 1
        assert not snapshot.stale
