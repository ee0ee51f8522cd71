"""What servers do to their clients: each fault ends in Good values again by itself, or in Bad ones with a reason."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import opcua_peers as plant
import peers
import pytest
from opcua_client import OpcUaClient, channel

BACK = 1.0
"""Seconds after a server is back within which values are Good again, plus the interval, plus what a loaded test
machine takes."""
INTERVAL, SLACK = 0.2, 2.0


@pytest.fixture
def keys(tmp_path: Path) -> plant.Keys:
    return plant.Keys.make(tmp_path)


def test_a_killed_server_is_bad_at_once_and_good_again_when_it_is_back(port: int, shm_name: str) -> None:
    with plant.open62541(port, "doubles=1") as server, \
            plant.Running(shm_name, plant.entry(port, plant.doubles(1))) as running:
        running.wait_quality("S/D1", "Good")
        first = running["S/D1"]
        os.kill(server.pid, signal.SIGKILL)
        assert running.wait_quality("S/D1", "BadCommunicationError") < INTERVAL + SLACK
        assert (running["S/D1"].value, running["S/D1"].source_time) == (first.value, first.source_time)
        running.wait(lambda: "server runs and listens there" in running.last_error())
        assert running["S/$connected"].value == 0
        time.sleep(1.0)  # a server takes a while to come back, and the pauses grow meanwhile
        with plant.open62541(port, "doubles=1"):
            assert running.wait_quality("S/D1", "Good") < BACK + INTERVAL + SLACK
            running.wait(lambda: running["S/$connected"].value == 1)


def test_a_server_that_is_down_at_start_is_bad_with_a_reason_and_comes_up(port: int, shm_name: str) -> None:
    with plant.Running(shm_name, plant.entry(port, plant.doubles(1))) as running:
        running.wait_quality("S/D1", "BadCommunicationError")
        running.wait(lambda: f"127.0.0.1:{port}" in running.last_error())
        with plant.open62541(port, "doubles=1"):
            assert running.wait_quality("S/D1", "Good") < BACK + INTERVAL + SLACK


@pytest.mark.parametrize("doubles", [1, 3500])
def test_a_hung_server_times_out_harms_nobody_and_is_good_when_it_goes_on(
    port: int, shm_name: str, doubles: int
) -> None:
    other = peers.free_port()
    arguments = f"doubles={doubles}", "moving=100"
    with plant.open62541(port, *arguments) as server, plant.open62541(other, "doubles=1", "moving=100"), plant.Running(
        shm_name, plant.entry(port, plant.doubles(doubles), timeout=1.0),
        plant.entry(other, plant.doubles(1), alias="Other"),
    ) as running:
        names = [f"S/D{i}" for i in (1, doubles)]
        for _ in range(2):
            for name in (*names, "Other/D1"):
                running.wait_quality(name, "Good")
            os.kill(server.pid, signal.SIGSTOP)
            try:
                for name in names:
                    assert running.wait_quality(name, "BadTimeout") < 1.0 + 2 * INTERVAL + SLACK
                before = running["Other/D1"].value
                time.sleep(1.0)
                assert running.quality("Other/D1") == "Good"
                assert running["Other/D1"].value != before
            finally:
                os.kill(server.pid, signal.SIGCONT)
            for name in names:
                assert running.wait_quality(name, "Good") < BACK + INTERVAL + SLACK


def test_a_namespace_that_moved_is_found_by_its_uri(port: int, shm_name: str) -> None:
    with plant.Running(shm_name, plant.entry(port, plant.doubles(1))) as running:
        for arguments in (["doubles=1"], ["doubles=1", "swap=1"]):
            with plant.open62541(port, *arguments):
                running.wait_quality("S/D1", "Good")
                assert running["S/D1"].value == 1.25
            running.wait_quality("S/D1", "BadCommunicationError")


def test_another_certificate_is_refused_until_the_file_names_it(port: int, keys: plant.Keys, tmp_path: Path,
                                                                shm_name: str) -> None:
    (tmp_path / "other").mkdir()
    other = plant.Keys.make(tmp_path / "other")
    shutil.copy(keys.folder / "client.der", other.folder / "client.der")
    with plant.Running(shm_name, keys.secure(plant.entry(port, plant.doubles(1), retry_interval=0.5))) as running:
        with plant.open62541(port, "doubles=1", *keys.server_arguments()):
            running.wait_quality("S/D1", "Good")
        with plant.open62541(port, "doubles=1", *other.server_arguments()):
            running.wait_quality("S/D1", "BadCertificateUntrusted")
            assert "put it into that file" in running.last_error()
            shutil.copy(other.folder / "server.der", keys.folder / "server.der")
            running.wait_quality("S/D1", "Good")


def test_a_file_that_is_not_there_is_named_and_is_used_once_it_is(port: int, keys: plant.Keys, tmp_path: Path,
                                                                  shm_name: str) -> None:
    aside = shutil.move(keys.folder / "client.pem", tmp_path / "aside.pem")
    server = keys.secure(plant.entry(port, plant.doubles(1), retry_interval=0.5))
    with plant.open62541(port, "doubles=1", *keys.server_arguments()), plant.Running(shm_name, server) as running:
        running.wait_quality("S/D1", "BadConfigurationError")
        assert "client.pem" in running.last_error()
        shutil.move(aside, keys.folder / "client.pem")
        running.wait_quality("S/D1", "Good")


def test_nothing_weaker_than_the_file_says_is_taken(port: int, keys: plant.Keys, shm_name: str) -> None:
    server = keys.secure(plant.entry(port, plant.doubles(1)))
    with plant.open62541(port, "doubles=1"), plant.Running(shm_name, server) as running:
        running.wait_quality("S/D1", "BadSecurityChecksFailed")
        assert "it offers None/None" in running.last_error()


def test_a_server_that_does_not_trust_us_is_told_as_such(port: int, keys: plant.Keys, tmp_path: Path,
                                                         shm_name: str) -> None:
    (tmp_path / "other").mkdir()
    stranger = plant.Keys.make(tmp_path / "other")
    server = replace(keys.secure(plant.entry(port, plant.doubles(1))),
                     client_certificate=stranger.folder / "client.der",
                     client_private_key=stranger.folder / "client.pem")
    with plant.open62541(port, "doubles=1", *keys.server_arguments()), plant.Running(shm_name, server) as running:
        running.wait(lambda: "trust our" in running.last_error())
        assert running.quality("S/D1").startswith("Bad")


def test_a_full_session_table_is_told_and_waited_for(port: int, shm_name: str) -> None:
    with plant.open62541(port, "doubles=1", "sessions=1"):
        holder = OpcUaClient(f"opc.tcp://127.0.0.1:{port}")
        holder.connect()
        with plant.Running(shm_name, plant.entry(port, plant.doubles(1), retry_interval=0.5)) as running:
            running.wait_quality("S/D1", "BadTooManySessions")
            holder.disconnect()
            running.wait_quality("S/D1", "Good")


def test_sessions_are_closed_on_stop_however_often(port: int, shm_name: str) -> None:
    with plant.open62541(port, "doubles=1", "sessions=5"):
        for _ in range(12):
            with plant.Running(shm_name, plant.entry(port, plant.doubles(1))) as running:
                running.wait_quality("S/D1", "Good")
                assert running.stop() < 2.0
        assert plant.sessions(port) == 1


def test_channels_are_renewed_and_quiet_sessions_kept_alive(
    port: int, keys: plant.Keys, shm_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "CHANNEL_LIFETIME_MS", 2_000)
    monkeypatch.setattr(channel, "SESSION_TIMEOUT_MS", 3_000)
    renewals: list[channel.Channel] = []
    renew = channel.Channel.renew

    async def counted(self: channel.Channel) -> None:
        renewals.append(self)
        await renew(self)

    monkeypatch.setattr(channel.Channel, "renew", counted)
    open_, secured = plant.entry(port, plant.doubles(1)), keys.secure(plant.entry(port, plant.doubles(1)))
    servers = [replace(open_, alias="Open"), replace(secured, alias="Secured"),
               replace(open_, alias="Rare", interval=6.0)]
    with plant.open62541(port, "doubles=1", "moving=50", *keys.server_arguments()), \
            plant.Running(shm_name, *servers) as running:
        for server in servers:
            running.wait_quality(f"{server.alias}/D1", "Good")
        running.wait(lambda: running["Rare/$requests"].value == 2)
        assert len(set(renewals)) == len(servers)
        assert len(renewals) >= 2 * len(servers)
        for server in servers:
            assert running.quality(f"{server.alias}/D1") == "Good"
            assert running[f"{server.alias}/$failures"].value == 0, running.last_error(server.alias)


class Misbehaving:
    """A TCP server that does one wrong thing to everybody who connects."""

    def __init__(self, behave: Callable[[socket.socket, threading.Event], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.accepted = 0
        self._behave, self._over = behave, threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        self._listener.settimeout(0.1)
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.accepted += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self._behave(connection, self._over)

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()


ACKNOWLEDGE = b"ACKF\x1c\0\0\0" + b"\0\0\0\0\xff\xff\0\0\xff\xff\0\0\0\0\0\0\0\0\0\0"


def silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


def closing(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(100)


def garbage(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(100)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20)
    over.wait(0.5)


def dripping(connection: socket.socket, over: threading.Event) -> None:
    """One byte of a huge message every 50 ms."""
    connection.recv(100)
    connection.sendall(ACKNOWLEDGE + b"OPNF\xff\xff\xff\x7f")
    while not over.wait(0.05):
        connection.sendall(b"\0")


def acknowledging(connection: socket.socket, over: threading.Event) -> None:
    """A hello is answered, then never anything again."""
    connection.recv(100)
    connection.sendall(ACKNOWLEDGE)
    over.wait()


@contextmanager
def misbehaving(behave: Callable[[socket.socket, threading.Event], None]) -> Iterator[Misbehaving]:
    server = Misbehaving(behave)
    try:
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("behave", [silent, closing, garbage, dripping, acknowledging])
def test_what_is_no_server_is_bad_and_its_neighbour_never(
    behave: Callable[[socket.socket, threading.Event], None], port: int, shm_name: str
) -> None:
    with misbehaving(behave) as bad, plant.open62541(port, "doubles=1", "moving=50"), plant.Running(
        shm_name, plant.entry(bad.port, plant.doubles(1), alias="Odd", timeout=0.5, retry_interval=1.0),
        plant.entry(port, plant.doubles(1)),
    ) as running:
        running.wait_quality("S/D1", "Good")
        running.wait(lambda: running.quality("Odd/D1") not in ("BadWaitingForInitialData",))
        qualities = set()
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            qualities.add(running.quality("S/D1"))
            time.sleep(0.02)
        assert qualities == {"Good"}
        assert running.quality("Odd/D1").startswith("Bad")
        assert running.last_error("Odd").startswith("Odd: ")
        assert bad.accepted < 20
        assert running.stop() < 2.0


def test_a_hung_server_does_not_hold_up_the_end(port: int, shm_name: str) -> None:
    with plant.open62541(port, "doubles=1") as server, \
            plant.Running(shm_name, plant.entry(port, plant.doubles(1), timeout=10.0)) as running:
        running.wait_quality("S/D1", "Good")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            time.sleep(2 * INTERVAL)
            assert running.stop() < 2.0
        finally:
            os.kill(server.pid, signal.SIGCONT)


def restarts(port: int, running: plant.Running, count: int) -> float:
    """Returns the longest time in seconds from a server that listens to a Good value."""
    slowest = 0.0
    for _ in range(count):
        with plant.open62541(port, "doubles=1") as server:
            slowest = max(slowest, running.wait_quality("S/D1", "Good", 15.0))
            os.kill(server.pid, signal.SIGKILL)
            running.wait_quality("S/D1", "BadCommunicationError")
    return slowest


def left_over() -> tuple[int, int]:
    """Open descriptors, and objects of Python that a leak of channels would multiply."""
    gc.collect()
    channels = sum(type(thing).__name__ in ("Channel", "Session", "UASocketProtocol", "Task") for thing in
                   gc.get_objects())
    return len(list(Path("/proc/self/fd").iterdir())), channels


def test_descriptors_and_channels_stay_flat_over_restarts(port: int, shm_name: str) -> None:
    with plant.Running(shm_name, plant.entry(port, plant.doubles(1))) as running:
        restarts(port, running, 2)
        before = left_over()
        restarts(port, running, 6)
        after = left_over()
        assert after[0] <= before[0] + 2
        assert after[1] <= before[1] + 4


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_memory_and_sessions_stay_flat_over_500_restarts(port: int, shm_name: str) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    slowest = 0.0
    with plant.Running(shm_name, plant.entry(port, plant.doubles(1))) as running:
        restarts(port, running, 50)
        before, objects = resident(), left_over()
        for _ in range(9):
            slowest = max(slowest, restarts(port, running, 49))
            with plant.open62541(port, "doubles=1"):
                running.wait_quality("S/D1", "Good", 15.0)
                assert plant.sessions(port) == 2  # the one that polls, and the one that asks
            running.wait_quality("S/D1", "BadCommunicationError")
        grown, after = resident() - before, left_over()
        print(f"500 restarts: memory grew by {grown / 1024:.0f} KiB, descriptors {objects[0]} -> {after[0]}, "
              f"objects {objects[1]} -> {after[1]}, Good at most {slowest:.2f} s after the server listened")
        assert grown < 8 << 20
        assert after[1] <= objects[1] + 4
