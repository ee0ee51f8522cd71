"""How sessions are kept when the way to the server, or the server, misbehaves: on its own, and without a flood."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import opcua_peers as plant
import peers
import pytest
from opcua_client import channel
from opcua_client.session import open_session
from opcua_proxy import Proxy

INTERVAL, BACK, SLACK = 0.2, 1.0, 2.0


def test_a_way_that_was_held_up_is_good_again_at_once_on_the_same_session(port: int, shm_name: str) -> None:
    with plant.open62541(port, "doubles=1", "moving=50"), Proxy(port) as proxy, plant.Running(
        shm_name, plant.entry(proxy.port, plant.doubles(1), timeout=0.8)
    ) as running:
        running.wait_quality("S/D1", "Good")
        accepted = proxy.accepted
        proxy.hold()
        assert running.wait_quality("S/D1", "BadTimeout") < 0.8 + 2 * INTERVAL + SLACK
        time.sleep(1.5)
        proxy.release()
        assert running.wait_quality("S/D1", "Good") < BACK + INTERVAL + SLACK
        time.sleep(0.5)
        assert running.quality("S/D1") == "Good"
        assert proxy.accepted - accepted < 8


def test_a_connection_lost_in_silence_is_replaced_when_the_server_greets_another(port: int, shm_name: str) -> None:
    with plant.open62541(port, "doubles=1", "moving=50"), Proxy(port) as proxy, plant.Running(
        shm_name, plant.entry(proxy.port, plant.doubles(1), timeout=0.5, retry_interval=60.0)
    ) as running:
        for _ in range(2):
            running.wait_quality("S/D1", "Good")
            proxy.lose()
            running.wait_quality("S/D1", "BadTimeout")
            assert running.wait_quality("S/D1", "Good") < 2 * 0.5 + BACK + INTERVAL + SLACK


def test_answers_that_take_longer_than_an_interval_are_taken_and_not_asked_for_twice(port: int, shm_name: str) -> None:
    with plant.open62541(port, "doubles=1", "moving=50"), Proxy(port) as proxy, plant.Running(
        shm_name, plant.entry(proxy.port, plant.doubles(1), timeout=2.0, interval=0.1)
    ) as running:
        running.wait_quality("S/D1", "Good")
        proxy.delay = 0.35
        time.sleep(1.0)
        before, requests = running["S/D1"].value, running["S/$requests"].value
        began, qualities = time.monotonic(), set()
        while time.monotonic() - began < 2.0:
            qualities.add(running.quality("S/D1"))
            time.sleep(0.02)
        assert qualities == {"Good"}
        assert running["S/D1"].value != before
        assert running["S/$requests"].value - requests <= 2.0 / 0.35 + 3
        assert running["S/$missed"].value > 0


def test_a_new_certificate_that_is_trusted_goes_on(port: int, tmp_path: Path, shm_name: str) -> None:
    sets = []
    store = tmp_path / "pki" / "trusted" / "certs"
    store.mkdir(parents=True)
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        sets.append(plant.Keys.make(folder))
        shutil.copy(folder / "server.der", store / f"{number}.der")
    shutil.copy(sets[0].folder / "client.der", sets[1].folder / "client.der")
    server = replace(sets[0].secure(plant.entry(port, plant.doubles(1))), server_certificate=None,
                     trust_folder=tmp_path / "pki")
    with plant.Running(shm_name, server) as running:
        for keys in sets:
            with plant.open62541(port, "doubles=1", *keys.server_arguments()):
                assert running.wait_quality("S/D1", "Good") < 5.0 + SLACK
            running.wait_quality("S/D1", "BadCommunicationError")


def test_what_a_killed_client_leaves_behind_is_gone_when_its_session_times_out(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "SESSION_TIMEOUT_MS", 2_000)

    async def vanish(count: int) -> None:
        server = plant.entry(port, ())
        for _ in range(count):
            session = await open_session(server, connect_timeout=2, patience=2)
            session.channel.abort()

    with plant.open62541(port, "doubles=1"):
        asyncio.run(vanish(5))
        assert plant.sessions(port) == 6
        peers.wait_until(lambda: plant.sessions(port) == 1, 15, interval=0.5)


def test_a_session_given_up_is_closed_at_a_server_that_hung(port: int) -> None:
    async def leave() -> None:
        session = await open_session(plant.entry(port, ()), connect_timeout=2, patience=2)
        os.kill(server.pid, signal.SIGSTOP)
        session.channel.leave()

    with plant.open62541(port, "doubles=1") as server:
        asyncio.run(leave())
        os.kill(server.pid, signal.SIGCONT)
        peers.wait_until(lambda: plant.sessions(port) == 1, 5, interval=0.2)


@pytest.mark.campaign
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", [3.0, 60.0])
def test_a_server_that_hung_is_good_again_within_a_second_of_going_on(
    port: int, shm_name: str, seconds: float
) -> None:
    with plant.open62541(port, "doubles=1", "moving=50") as server, \
            plant.Running(shm_name, plant.entry(port, plant.doubles(1), timeout=4.0)) as running:
        running.wait_quality("S/D1", "Good")
        os.kill(server.pid, signal.SIGSTOP)
        began = time.monotonic()
        if seconds > 4.0:
            running.wait_quality("S/D1", "BadTimeout", 6.0)
        time.sleep(seconds - (time.monotonic() - began))
        before = running["S/$requests"].value
        os.kill(server.pid, signal.SIGCONT)
        took = running.wait(lambda: running["S/$requests"].value > before and running.quality("S/D1") == "Good")
        print(f"hung for {seconds} s, Good again after {took:.2f} s")
        assert took < BACK + 1.0 + INTERVAL  # $requests goes out once a second
        time.sleep(1.0)
        assert plant.sessions(port) <= 3


def can_lose_packets() -> bool:
    """Whether this machine lets us have a network of our own with a queue that drops."""
    try:
        done = subprocess.run(["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1mbit",
                               "burst", "4k", "limit", "4k"], check=False, capture_output=True, timeout=10)
    except OSError:
        return False
    return done.returncode == 0


@pytest.mark.campaign
@pytest.mark.timeout(180)
def test_packets_that_the_kernel_drops_cost_time_and_no_value(shm_name: str) -> None:
    if not can_lose_packets():
        pytest.skip("needs root, unshare and tc with tbf")
    program = Path(__file__).parent.parent / "opcua_loss.py"
    done = subprocess.run(["unshare", "--net", sys.executable, program, shm_name], check=False, capture_output=True,
                          text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(f"packets dropped: {found}")
    assert found["lossy_drops"] > 100
    assert found["lossy_changes"] > 0
    for seconds, quality, back in found["back"]:
        assert quality == ("BadTimeout" if seconds > 1.0 + INTERVAL else "Good")
        assert back < BACK + INTERVAL + SLACK
