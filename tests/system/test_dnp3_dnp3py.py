"""dnp3py's master as a user of `cpc dnp3`; it reads no octet strings, so there are none here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dnp3_dissect
import pytest
from dnp3_served import COUNT, MAP, float32, served, values, wait_for
from endpoint_config import Dnp3Master

pytest.importorskip("dnp3", reason="peer absent: dnp3py; `make test` installs it")
from dnp3.master import DefaultSOEHandler, Master, MasterConfig, MasterTcpRunner

MAP_OF_IT = replace(MAP, points=tuple(
    replace(p, static_variation=5, event_variation=7) if p.type == "analog input" else p
    for p in MAP.points if p.type != "octet string"))


@pytest.fixture(scope="module", autouse=True)
def dissected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with dnp3_dissect.recorded() as recorder:
        yield
    dnp3_dissect.dissect(recorder, tmp_path_factory.mktemp("dissected"))


def test_integrity_events_and_unsolicited_of_a_thousand_points(tmp_path: Path, shm_name: str) -> None:
    with served(tmp_path, shm_name, map=MAP_OF_IT, masters=(Dnp3Master(hold_time=0.05),)) as plant:
        handler = DefaultSOEHandler()
        asyncio.run(talk(plant, handler))


async def talk(plant: Any, handler: DefaultSOEHandler) -> None:
    master = Master(handler=handler, config=MasterConfig(address=1, outstation_address=10))
    async with MasterTcpRunner(master=master, host="127.0.0.1", port=plant.port) as runner:
        await runner.integrity_poll()
        compare(handler)
        plant.plant.set({"P/float0003": 5.25, "P/bit0003": False}, source_time=1_700_000_000_123_000_000)
        session = plant.consumer.outstation.sessions[0]
        wait_for(lambda: len(session.buffer) == 2, "two events")
        await runner.class_poll()
        assert handler.analog_inputs[3].value == 5.25
        assert handler.binary_inputs[3].value is False
        wait_for(lambda: len(session.buffer) == 0, "their confirmation")
        await runner.enable_unsolicited()
        plant.plant.set({"P/float0004": 6.25})
        for _ in range(5):
            if handler.analog_inputs[4].value == 6.25:
                break
            await runner.listen_unsolicited(timeout=5.0)
        assert handler.analog_inputs[4].value == 6.25


def compare(handler: DefaultSOEHandler) -> None:
    expected = values()
    for index in range(COUNT):
        assert handler.binary_inputs[index].value == expected[f"P/bit{index:04}"]
        assert handler.analog_inputs[index].value == pytest.approx(float32(expected[f"P/float{index:04}"]), rel=1e-6)
        assert handler.counters[index].value == expected[f"P/count{index:04}"]
        assert handler.binary_outputs[index].value == expected[f"P/relay{index:04}"]
        assert handler.analog_outputs[index].value == pytest.approx(expected[f"P/set{index:04}"], rel=1e-6)
