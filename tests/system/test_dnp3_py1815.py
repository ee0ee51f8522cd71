"""py1815's master as a user of `cpc dnp3`; it reads no octet strings, so there are none here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dnp3_dissect
import pytest
from dnp3_served import COUNT, MAP, Served, served, values, wait_for
from endpoint_config import Dnp3Master

pytest.importorskip("py1815", reason="peer absent: py1815; `make test` installs it")
from py1815 import FunctionCode
from py1815.application import IINBit
from py1815.master.sync import Master

NO_TEXT = replace(MAP, points=tuple(p for p in MAP.points if p.type not in ("octet string", "double-bit input")))


@pytest.fixture(scope="module", autouse=True)
def dissected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with dnp3_dissect.recorded() as recorder:
        yield
    dnp3_dissect.dissect(recorder, tmp_path_factory.mktemp("dissected"))


@pytest.fixture
def plant(tmp_path: Path, shm_name: str, request: pytest.FixtureRequest) -> Iterator[Served]:
    masters = (Dnp3Master(hold_time=0.05, **getattr(request, "param", {})),)
    with served(tmp_path, shm_name, map=NO_TEXT, masters=masters) as made:
        yield made


@pytest.fixture
def lab(plant: Served) -> Iterator[Any]:
    with Master() as master:
        made = master.add("lab", host="127.0.0.1", port=plant.port, outstation_address=10, master_address=1)
        made.idle()
        yield made


def test_integrity_of_a_thousand_points_of_every_type(lab: Any) -> None:
    lab.integrity_poll()
    expected = values()
    for index in range(COUNT):
        found = {"bit": lab.store.binary_input(index), "float": lab.store.analog_input(index),
                 "count": lab.store.counter(index), "relay": lab.store.binary_output(index),
                 "set": lab.store.analog_output(index)}
        for name, point in found.items():
            assert point.value == expected[f"P/{name}{index:04}"], (name, index)
            assert point.flags & 0x3F == 1, (name, index)


def test_events_by_poll_and_unsolicited_carry_their_time(lab: Any, plant: Served) -> None:
    lab.integrity_poll()
    plant.plant.set({"P/float0003": 5.25, "P/bit0003": False}, source_time=1_700_000_000_123_000_000)
    wait_for(lambda: len(plant.consumer.outstation.sessions[0].buffer) == 2, "two events")
    lab.scan("events")
    assert {(e.point.name, e.index, e.value, e.time_ms) for e in lab.store.events} == {
        ("ANALOG_INPUT", 3, 5.25, 1_700_000_000_123), ("BINARY_INPUT", 3, False, 1_700_000_000_123)}
    lab.enable_unsolicited(1, 2, 3)
    plant.plant.set({"P/float0004": 6.25})
    assert lab.wait_for(lambda store: store.analog_input(4).value == 6.25, timeout=10.0)


def test_controls_freeze_and_a_restart(lab: Any, plant: Served) -> None:
    assert lab.operate(binary_outputs={2: True}, analog_outputs={3: 7.5}, mode="select").accepted
    assert lab.operate(analog_outputs={3: 8}, mode="direct").accepted
    assert not lab.operate(binary_outputs={5000: True}).accepted
    assert plant.writes.done == [("P/relay0002", True), ("P/set0003", 7.5), ("P/set0003", 8.0)]
    lab.freeze()
    lab.read(frozen_counters="all")
    assert [lab.store.frozen_counter(i).value for i in range(COUNT)] == [i * 4_000_000 for i in range(COUNT)]
    session = plant.consumer.outstation.sessions[0]
    wait_for(lambda: not session.indications.restart, "the restart bit cleared")
    restarted: list[bool] = []
    session.restarted = lambda *, cold: restarted.append(cold)
    lab.restart("cold")
    lab.restart("warm")
    assert restarted == [True, False]


@pytest.mark.parametrize("plant", [{"time_source": "master"}], indirect=True)
@pytest.mark.parametrize("procedure", ["lan", "non_lan"])
def test_time_is_synchronised(lab: Any, plant: Served, procedure: str) -> None:
    lab.synchronize_time(procedure)
    session = plant.consumer.outstation.sessions[0]
    assert not session.executor.time.need_time
    assert abs(session.detector.offset_ms) < 5_000


def test_a_broadcast_is_told_with_the_next_response(lab: Any) -> None:
    lab.broadcast(FunctionCode.IMMED_FREEZE_NR, b"\x14\x00\x06", address="shall_confirm")
    assert lab.scan("class1").iin.is_set(IINBit.BROADCAST)
    assert not lab.scan("class1").iin.is_set(IINBit.BROADCAST)
