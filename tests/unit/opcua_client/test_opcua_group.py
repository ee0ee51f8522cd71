"""One scan class against a server that answers late, never, or out of turn: no poll waits longer than its interval."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from acquisition import Publisher, system_points
from asyncua import ua
from endpoint_config import OpcUaNode, OpcUaServer
from opcua_answers import Value, response, variant
from opcua_client.datatypes import image_points
from opcua_client.group import MOST_UNANSWERED, Group
from opcua_client.poller import ServerPoller
from opcua_client.structures import Types
from process_image.quality import quality_name

INTERVAL = 0.05


class Scripted:
    """A channel whose answers come when the test says so."""

    largest_request = 60_000

    def __init__(self) -> None:
        self.asked: list[tuple[int, asyncio.Future[bytes]]] = []

    def read(self, body: bytes, timeout: float) -> asyncio.Future[bytes]:
        assert timeout > 0
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.asked.append((struct.unpack_from("<i", body, 12)[0], answer))
        return answer

    def answer(self, place: int, value: float) -> None:
        count, future = self.asked[place]
        future.set_result(response([Value(variant(value, ua.VariantType.Double))] * count))


class Rig:
    """A poller with one group, no keeper at work."""

    def __init__(self, nodes: int = 1, chunk: int = 1000, timeout: float = 1.0) -> None:
        server = OpcUaServer(alias="S", url="opc.tcp://127.0.0.1:1", timeout=timeout, chunk=chunk, nodes=tuple(
            OpcUaNode(name=f"N{i}", identifier=str(i + 1), datatype="Double") for i in range(nodes)))
        self.publisher = Publisher([*image_points(server, INTERVAL), *system_points("S")], [])
        self.poller = ServerPoller(server, self.publisher, lambda: None)
        self.poller.add_group(INTERVAL, 0.0, server.nodes)
        self.group: Group = self.poller.groups[0]
        self.channel = Scripted()
        self.session: Any = SimpleNamespace(channel=self.channel, namespaces=(), max_nodes=0, types=Types(),
                                            certificate=None)

    async def tick(self) -> float:
        began = time.monotonic()
        await self.group._tick(self.session, self.group._plan)  # type: ignore[arg-type]
        return time.monotonic() - began

    def quality(self, name: str = "N0") -> str:
        return quality_name(int(self.publisher.records["quality"][self.publisher.index[f"S/{name}"]]))

    def value(self, name: str = "N0") -> float:
        return float(self.publisher.records["value"][self.publisher.index[f"S/{name}"]])


def run(work: Callable[[Rig], Awaitable[None]], **settings: Any) -> None:
    async def inside() -> None:
        rig = Rig(**settings)
        rig.poller.session_up(rig.session)
        await work(rig)

    asyncio.run(inside())


def test_a_poll_ends_with_its_interval_and_the_next_one_asks_again() -> None:
    async def work(rig: Rig) -> None:
        for asked in range(1, MOST_UNANSWERED + 1):
            assert await rig.tick() < rig.poller.server.timeout / 2
            assert len(rig.channel.asked) == asked
        await rig.tick()
        assert len(rig.channel.asked) == MOST_UNANSWERED
        assert rig.quality() == "BadWaitingForInitialData"

    run(work)


def test_a_late_answer_is_taken_and_an_older_one_after_it_is_not() -> None:
    async def work(rig: Rig) -> None:
        await rig.tick()
        await rig.tick()
        rig.channel.answer(1, 2.0)
        rig.group._catch_up(rig.session, rig.group._plan)  # type: ignore[arg-type]
        assert (rig.quality(), rig.value()) == ("Good", 2.0)
        rig.channel.answer(0, 1.0)
        rig.group._catch_up(rig.session, rig.group._plan)  # type: ignore[arg-type]
        assert (rig.quality(), rig.value()) == ("Good", 2.0)
        assert not rig.group.unanswered

    run(work)


def test_what_is_unanswered_for_the_timeout_is_bad_and_an_answer_after_that_is_asked_for_anew() -> None:
    async def work(rig: Rig) -> None:
        while rig.quality() != "BadTimeout":
            await rig.tick()
        asked = len(rig.channel.asked)
        rig.channel.answer(0, 1.0)
        rig.group._catch_up(rig.session, rig.group._plan)  # type: ignore[arg-type]
        assert rig.quality() == "BadTimeout"
        rig.group.unanswered.clear()
        poll = asyncio.ensure_future(rig.tick())
        await asyncio.sleep(0)
        rig.channel.answer(asked, 3.0)
        await poll
        assert (rig.quality(), rig.value()) == ("Good", 3.0)

    run(work, timeout=0.2)


def test_a_server_that_is_slower_than_the_interval_is_not_asked_twice_at_a_time() -> None:
    async def work(rig: Rig) -> None:
        poll = asyncio.ensure_future(rig.tick())
        await asyncio.sleep(INTERVAL * 0.8)
        rig.channel.answer(0, 1.0)
        await poll
        rig.group._pace = 10.0
        for _ in range(4):
            await rig.tick()
        assert len(rig.channel.asked) == 2

    run(work, timeout=20.0)


def test_polls_that_are_cut_short_begin_with_the_next_read_in_turn() -> None:
    async def work(rig: Rig) -> None:
        await rig.tick()
        await rig.tick()
        assert [rig.group._first % 5] == [4]
        assert len(rig.channel.asked) == 4
        for place in range(4):
            rig.channel.answer(place, float(place))
        rig.group._catch_up(rig.session, rig.group._plan)  # type: ignore[arg-type]
        assert [rig.value(f"N{i}") for i in range(4)] == [0.0, 1.0, 2.0, 3.0]

    run(work, nodes=5, chunk=1)


def test_every_point_behind_a_hung_server_is_bad_not_only_those_that_were_asked_for() -> None:
    async def work(rig: Rig) -> None:
        while rig.quality("N7") != "BadTimeout":
            await rig.tick()
        assert {rig.quality(f"N{i}") for i in range(8)} == {"BadTimeout"}

    run(work, nodes=8, chunk=1, timeout=0.2)


@pytest.mark.parametrize("lost", [0, 1])
def test_one_lost_request_does_not_stop_the_polls(lost: int) -> None:
    async def work(rig: Rig) -> None:
        await rig.tick()
        await rig.tick()
        rig.channel.answer(1 - lost, 1.0)
        for _ in range(12):
            poll = asyncio.ensure_future(rig.tick())
            await asyncio.sleep(0)
            for place, (_, future) in enumerate(rig.channel.asked):
                if place != lost and not future.done():
                    rig.channel.answer(place, 2.0)
            await poll
            await asyncio.sleep(0.02)
        assert (rig.quality(), rig.value()) == ("Good", 2.0)
        assert len(rig.channel.asked) > 10
        assert not rig.group.unanswered

    run(work, timeout=0.2)
