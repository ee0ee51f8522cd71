"""A day in seconds: a master that comes and goes; nothing is lost while the buffers hold, and what is lost is told."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
from dnp3_outstation import IIN, Kind, PointConfig
from dnp3_rig import outstation

POINTS = 50
EVENT = np.dtype([("index", "u1"), ("flags", "u1"), ("value", "<i4"), ("time", "V6")])
LONG_EVENT = np.dtype([("index", "<u2"), ("flags", "u1"), ("value", "<i4"), ("time", "V6")])
ALL = bytes.fromhex("3c02063c03063c0406")
MINUTES = 24 * 60


def taken(answers: list) -> list[tuple[int, int]]:
    """Index and value of each event, in order."""
    found: list[tuple[int, int]] = []
    for answer in answers:
        objects = answer.objects
        if objects:
            short = objects[2] == 0x17
            assert objects[:2] == b"\x20\x03" and (short or objects[2] == 0x28)
            events = np.frombuffer(objects[4 if short else 5 :], EVENT if short else LONG_EVENT)
            found += zip(events["index"].tolist(), events["value"].tolist(), strict=True)
    return found


def day(buffer: int, away: int) -> tuple[int, int, bool, int]:
    """A change of ten points each minute; the master is there for an hour, then away for `away` minutes."""
    device, master = outstation(
        [PointConfig(kind=Kind.ANALOG_INPUT, index=i, event_class=1, event_variation=3) for i in range(POINTS)],
        event_buffers=(buffer, 0, 0), link={"keep_alive": 0.0})
    made, got, overflow, there = 0, [], False, True
    expected: list[tuple[int, int]] = []
    for minute in range(MINUTES):
        rows = (np.arange(10) + 10 * minute) % POINTS
        values = made + np.arange(10) + 1
        expected += zip(rows.tolist(), values.tolist(), strict=True)
        made += 10
        device.update(Kind.ANALOG_INPUT, rows, values, np.ones(10), np.full(10, master.now.utc_ms), now=master.now)
        master.clock += 60.0
        comes = minute % (60 + away) < 60
        if comes != there:
            there = comes
            if comes:
                master.session.connect(master.now)
            else:
                master.session.disconnect()
        if there:
            master.session.tick(master.now)
            master.collect()
            answers = master.read(ALL)
            overflow |= any(answer.iin & IIN.EVENT_BUFFER_OVERFLOW for answer in answers)
            got += taken(answers)
            master.sent.clear()
    got += [(int(e["index"]), int(e["value"])) for e in master.session.buffer.live]
    place = 0
    for event in got:  # in order, none twice, none invented
        place = expected.index(event, place) + 1
    return made, len(got), overflow, master.session.buffer.discarded


def test_no_event_is_lost_over_a_day_while_the_buffer_holds():
    made, got, overflow, discarded = day(buffer=2000, away=90)
    assert (got, overflow, discarded) == (made, False, 0)


def test_what_did_not_fit_is_counted_and_told_by_the_overflow_bit():
    made, got, overflow, discarded = day(buffer=500, away=90)
    assert overflow and discarded > 0
    assert got + discarded == made


def test_memory_is_flat_over_the_day():
    used = []
    for _ in range(6):
        day(buffer=500, away=90)
        gc.collect()
        used.append((sys.getallocatedblocks(), int(Path("/proc/self/statm").read_text().split()[1]) * 4096))
    assert max(blocks for blocks, _ in used[2:]) - used[1][0] < 500, used
    assert max(octets for _, octets in used[2:]) - used[1][1] < 1 << 20, used
