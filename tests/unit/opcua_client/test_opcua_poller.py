"""A fault of our own in one device's task: told in its records, over after a while, felt by nobody else."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import numpy as np
import pytest
from acquisition import Publisher, system_points
from endpoint_config import OpcUaNode, OpcUaServer
from opcua_client import poller as module
from opcua_client.datatypes import image_points
from opcua_client.poller import ServerPoller
from process_image.quality import BAD_INTERNAL_ERROR

SERVER = OpcUaServer(alias="S", url="opc.tcp://127.0.0.1:1", nodes=(OpcUaNode(name="A", identifier="1"),))


def test_a_task_that_fails_is_told_and_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DOWN_SECONDS", 0.01)
    publisher = Publisher([*image_points(SERVER, 1.0), *system_points("S")], [])
    poller = ServerPoller(SERVER, publisher, lambda: None)
    poller.add_group(1.0, 0.0, SERVER.nodes)
    begun: list[str] = []

    async def fail() -> None:
        begun.append("again")
        raise ZeroDivisionError("for the test")

    async def wait() -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(poller.keeper, "run", wait)
    monkeypatch.setattr(poller.groups[0], "run", fail)

    async def run() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(poller.run(), 0.3)

    asyncio.run(run())
    assert len(begun) > 2
    row = publisher.index["S/A"]
    assert np.asarray(publisher.records["quality"])[row] == BAD_INTERNAL_ERROR
    assert "ZeroDivisionError: for the test" in publisher.status("S").last_error
