"""Values that real servers send: every one into the journal, through restarts, cut connections and full queues."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import opcua_peers as plant
import pytest
from endpoint_config import Deadband, Mode, Subscribing
from endpoint_config.models import OpcUaServer
from opcua_client import OpcUaClient
from opcua_client import subscription as subscription_module
from process_image.quality import BAD_COMMUNICATION_ERROR

SUBSCRIBE = Subscribing(mode=Mode.SUBSCRIBE, sampling_interval=0.0, publishing_interval=0.1, queue_size=20)


class Cutter:
    """A TCP proxy whose connections can be cut, and kept from being made."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self.closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End every connection as a cable fault would, without a word to the server's session."""
        with self._lock:  # a client is back so soon that its new connection would be forgotten and never cut
            ends, self._open = self._open, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.closed:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self._open += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def subscribed(port: int, count: int, *, how: Subscribing = SUBSCRIBE, **settings: Any) -> OpcUaServer:
    return plant.entry(port, plant.doubles(count), subscribing=how, **settings)


def journal(running: plant.Running, cursor: Any, point: str) -> tuple[list[float], list[int], Any]:
    """Good values of a point since a cursor, their source times, and the cursor after them."""
    row = next(i for i, p in enumerate(running.image.points) if p.full_name == point)
    values, times = [], []
    for batch in running.image.changes(cursor):
        assert batch.lost == 0
        mine = (batch.rows == row) & (batch.records["quality"] == 0)
        values += batch.records["value"][mine].tolist()
        times += batch.records["source_time"][mine].tolist()
        cursor = batch.cursor
    return values, times, cursor


def cut_and_wait(cutter: Cutter, running: plant.Running, point: str) -> None:
    """Cut, and wait until the point was Bad and is Good; the journal has that also where it was over in an instant."""
    row = next(i for i, p in enumerate(running.image.points) if p.full_name == point)
    mark = running.image.cursor()
    cutter.cut()
    running.wait(lambda: any((batch.records["quality"][batch.rows == row] == BAD_COMMUNICATION_ERROR).any()
                             for batch in running.image.changes(mark)), what="the cut is seen")
    running.wait_quality(point, "Good")


def test_every_value_of_a_queue_is_journalled_in_order_with_its_own_time(port: int, shm_name: str) -> None:
    with plant.open62541(port, "doubles=300", "moving=20"), \
            plant.Running(shm_name, subscribed(port, 300)) as running:
        running.wait_quality("S/D300", "Good")
        cursor = running.image.cursor()
        before = running["S/D300"].sequence
        running.wait(lambda: running["S/D300"].sequence > before + 25)
        for point, number in (("S/D1", 1), ("S/D300", 300)):
            values, times, _ = journal(running, cursor, point)
            rounds = [round((value - number) * 1e3) for value in values]
            assert len(rounds) > 20
            assert rounds == list(range(rounds[0], rounds[0] + len(rounds)))  # none left out, none twice
            assert times == sorted(set(times))
        running.wait(lambda: running["S/$subscribed"].value == 1)  # the counters go out once a second
        assert running["S/$overflows"].value == 0
        assert running["S/$lost"].value == 0
        assert not running["S/D1"].stale


def test_all_types_come_as_they_do_by_polling(port: int, shm_name: str) -> None:
    nodes = plant.typed_nodes()
    with plant.open62541(port, "doubles=1") as _, \
            plant.Running(shm_name, plant.entry(port, nodes, alias="P"),
                          plant.entry(port, nodes, alias="S", subscribing=SUBSCRIBE)) as running:
        running.wait(lambda: all(running[f"S/{n.name}"].quality == 0 and running[f"P/{n.name}"].quality == 0
                                 for n in nodes))
        for node in nodes:
            ours, polled = running[f"S/{node.name}"], running[f"P/{node.name}"]
            assert (ours.value, ours.source_time) == (polled.value, polled.source_time), node.name


def test_what_a_full_queue_drops_is_counted(port: int, shm_name: str) -> None:
    slow = replace(SUBSCRIBE, publishing_interval=0.5, queue_size=3)
    with plant.open62541(port, "doubles=5", "moving=20"), \
            plant.Running(shm_name, subscribed(port, 5, how=slow)) as running:
        running.wait(lambda: (running["S/$overflows"].value or 0) >= 10)
        assert running["S/D1"].quality_name == "Good"  # the mark is counted and not shown


def test_a_restart_with_other_nodes_harms_those_alone(port: int, shm_name: str) -> None:
    with plant.Running(shm_name, subscribed(port, 4, retry_interval=0.5)) as running:
        with plant.open62541(port, "doubles=3"):
            running.wait(lambda: [running.quality(f"S/D{i}") for i in (1, 2, 3)] == ["Good"] * 3)
            running.wait_quality("S/D4", "BadNodeIdUnknown")
        running.wait_quality("S/D1", "BadCommunicationError")
        with plant.open62541(port, "doubles=4", "without=2", "text=3"):
            running.wait_quality("S/D1", "Good")
            running.wait_quality("S/D4", "Good")
            running.wait_quality("S/D2", "BadNodeIdUnknown")
            running.wait_quality("S/D3", "BadTypeMismatch")
            running.wait(lambda: running["S/$subscribed"].value == 2)


def test_a_cut_connection_loses_no_value_where_the_server_lets_subscriptions_be_taken_over(
        port: int, shm_name: str) -> None:
    with plant.open62541(port, "doubles=3", "moving=50"), Cutter(port) as cutter, \
            plant.Running(shm_name, subscribed(cutter.port, 3)) as running:
        running.wait_quality("S/D1", "Good")
        cursor = running.image.cursor()
        for _ in range(3):
            time.sleep(0.3)
            cut_and_wait(cutter, running, "S/D1")
        time.sleep(0.3)
        running.wait(lambda: running["S/$subscribed"].value == 1)
        values, _, _ = journal(running, cursor, "S/D1")
        rounds = [round((value - 1) * 1e3) for value in values]
        assert sorted(set(rounds)) == list(range(min(rounds), max(rounds) + 1))
        assert running["S/$lost"].value == 0


def test_a_server_that_stops_is_bad_after_its_sign_of_life_is_due_and_good_when_it_goes_on(
        port: int, shm_name: str) -> None:
    entry = subscribed(port, 2, timeout=0.5, retry_interval=30.0)
    with plant.open62541(port, "doubles=2") as server, plant.Running(shm_name, entry) as running:
        running.wait_quality("S/D1", "Good")
        before = running["S/D1"].value
        time.sleep(2.5)  # longer than between two signs of life
        assert running.quality("S/D1") == "Good"
        assert not running["S/D1"].stale
        os.kill(server.pid, signal.SIGSTOP)
        try:
            assert running.wait_quality("S/D1", "BadTimeout") < subscription_module.ALIVE_SECONDS + 0.5 + 2.0
            assert running["S/$connected"].value == 0
        finally:
            os.kill(server.pid, signal.SIGCONT)
        running.wait_quality("S/D1", "Good")
        assert running["S/D1"].value == before
        running.wait(lambda: running["S/$subscribed"].value == 1)


def test_a_deadband_that_a_server_refuses_is_left_out_and_told(port: int, shm_name: str) -> None:
    percent = replace(SUBSCRIBE, deadband=Deadband(value=5.0, percent=True))  # the nodes have no EURange
    with plant.open62541(port, "doubles=2", "moving=50"), \
            plant.Running(shm_name, subscribed(port, 2, how=percent)) as running:
        running.wait_quality("S/D1", "Good")
        running.wait(lambda: "every change is sent" in running.last_error())


def test_a_deadband_holds_back_small_changes(port: int, shm_name: str) -> None:
    half = replace(SUBSCRIBE, deadband=Deadband(value=0.5))
    with plant.open62541(port, "doubles=1", "moving=20"), \
            plant.Running(shm_name, subscribed(port, 1, how=half)) as running:
        running.wait_quality("S/D1", "Good")
        cursor = running.image.cursor()
        time.sleep(1.0)
        assert journal(running, cursor, "S/D1")[0] == []


def test_polled_and_subscribed_nodes_of_one_server_go_together(port: int, shm_name: str) -> None:
    polled = replace(plant.named("Double"), subscribing=Subscribing(mode=Mode.POLL))
    faster = replace(plant.doubles(2)[1], subscribing=Subscribing(publishing_interval=0.05))
    server = plant.entry(port, [plant.doubles(1)[0], faster, polled], subscribing=SUBSCRIBE)
    with plant.open62541(port, "doubles=2", "moving=50"), plant.Running(shm_name, server) as running:
        for name in ("D1", "D2", "Double"):
            running.wait_quality(f"S/{name}", "Good")
        running.wait(lambda: running["S/$subscribed"].value == 2)


def test_a_percent_deadband_is_of_the_range_that_the_server_says(node_port: int, shm_name: str) -> None:
    """EURange is -100 to 300, so 10 % are 40; the value goes up by 7 every 100 ms, and falls by 200 at the end."""
    ten = replace(SUBSCRIBE, deadband=Deadband(value=10.0, percent=True))
    nodes = [replace(plant.named("Analog"), subscribing=ten), plant.named("Bare")]
    with plant.Running(shm_name, plant.entry(node_port, nodes, subscribing=SUBSCRIBE)) as running:
        cursor = running.image.cursor()
        running.wait(lambda: running["S/Analog"].sequence >= 4)
        analog, _, _ = journal(running, cursor, "S/Analog")
        bare, _, _ = journal(running, cursor, "S/Bare")
        steps = {abs(b - a) for a, b in pairwise(analog)}
        assert min(steps) > 40
        assert min(steps) <= 40 + 7  # the first change beyond it is sent, and not a later one
        assert len(bare) > 3 * len(analog)
        assert running.last_error() == ""


def test_node_opcua_lets_a_subscription_be_taken_over_without_a_value_lost(node_port: int, shm_name: str) -> None:
    how = replace(SUBSCRIBE, queue_size=100)
    with Cutter(node_port) as cutter, plant.Running(shm_name, plant.entry(
            cutter.port, [plant.named("Bare")], subscribing=how)) as running:
        running.wait_quality("S/Bare", "Good")
        cursor = running.image.cursor()
        for _ in range(3):
            time.sleep(0.3)
            cut_and_wait(cutter, running, "S/Bare")
        time.sleep(0.5)
        running.wait(lambda: running["S/$subscribed"].value == 1)
        values, _, _ = journal(running, cursor, "S/Bare")
        seen = [value for place, value in enumerate(values) if not place or value != values[place - 1]]
        assert {(b - a) % 200 for a, b in pairwise(seen)} == {7}
        assert running["S/$lost"].value == 0
        running.stop()
        assert count(node_port, SUBSCRIPTION_COUNT) == 0


def test_node_opcua_sends_its_types_too_and_is_left_without_sessions(
    tmp_path: Path, port: int, shm_name: str
) -> None:
    nodes = [n for n in plant.typed_nodes() if n.name in ("Double", "Int64", "String", "Boolean", "ByteString", "Guid")]
    with plant.node_opcua(port, tmp_path, "100"), \
            plant.Running(shm_name, plant.entry(port, nodes, subscribing=SUBSCRIBE)) as running:
        running.wait(lambda: (running["S/$values"].value or 0) > 30)
        running.wait(lambda: all(running[f"S/{n.name}"].sequence > 3 for n in nodes))
        running.stop()
        assert plant.sessions(port) == 1  # ours, that asks; the other tests' server keeps those whose way was cut


SUBSCRIPTION_COUNT = "i=2285"
VARIANTS = (("doubles=20",), ("doubles=20", "without=2"), ("doubles=21",), ("doubles=20", "text=3"))
EXPECTED = ({}, {"D2": "BadNodeIdUnknown"}, {"D21": "Good"}, {"D3": "BadTypeMismatch"})


def count(port: int, node: str) -> int:
    with OpcUaClient(f"opc.tcp://127.0.0.1:{port}") as client:
        return int(client.read_value(node).value or 0)  # type: ignore[arg-type]


def restart_again_and_again(port: int, shm_name: str, restarts: int) -> None:
    """A server that comes back with a node deleted, one added, one of another type, in turn; the rest goes on."""
    names = [f"D{i}" for i in range(1, 22)]
    with plant.Running(shm_name, subscribed(port, 21, retry_interval=0.5)) as running:
        for number in range(restarts):
            variant = number % len(VARIANTS)
            with plant.open62541(port, *VARIANTS[variant], "moving=50"):
                wanted = dict.fromkeys(names, "Good") | {"D21": "BadNodeIdUnknown"} | EXPECTED[variant]
                running.wait(lambda wanted=wanted: {n: running.quality(f"S/{n}") for n in names} == wanted)
                before = {name: running[f"S/{name}"].sequence for name in ("D1", "D20")}
                running.wait(lambda before=before: all(running[f"S/{n}"].sequence > s for n, s in before.items()))
                assert plant.sessions(port) == 2  # ours, and the one that asks
                assert count(port, SUBSCRIPTION_COUNT) == 1
            running.wait_quality("S/D1", "BadCommunicationError")
        assert running["S/$subscribed"].value == restarts
        assert running["S/$lost"].value == 0


def test_restarts_leak_neither_sessions_nor_subscriptions(port: int, shm_name: str) -> None:
    restart_again_and_again(port, shm_name, len(VARIANTS))


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_a_hundred_restarts_leak_neither_sessions_nor_subscriptions(port: int, shm_name: str) -> None:
    restart_again_and_again(port, shm_name, 100)


def test_a_subscription_that_is_taken_over_is_not_left_behind(port: int, shm_name: str) -> None:
    with plant.open62541(port, "doubles=1", "moving=50"), Cutter(port) as cutter, \
            plant.Running(shm_name, subscribed(cutter.port, 1)) as running:
        running.wait_quality("S/D1", "Good")
        for _ in range(4):
            cut_and_wait(cutter, running, "S/D1")
        assert count(port, SUBSCRIPTION_COUNT) == 1
        running.stop()
        assert count(port, SUBSCRIPTION_COUNT) == 0
