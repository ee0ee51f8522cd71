"""What the supervisor logs and does about services that it sees through their segments."""

from __future__ import annotations

import logging
import time

import posix_ipc
import process_image
import pytest
from peers import wait_until
from process_image import Point

from cpc import monitor
from cpc.names import SHARED_MEMORY

POINTS = [
    Point(name=n, device=d, type=t)
    for d in ("A", "B") for n, t in (("$connected", "uint8"), ("$failures", "uint64"), ("$last_error", "string"))
]


@pytest.fixture
def writer(shm_name):
    with process_image.create(shm_name, POINTS) as made:
        yield made


@pytest.fixture
def watching(writer, caplog):
    caplog.set_level(logging.INFO, "monitor")
    made = monitor.Monitor({"modbus": (writer.name,)})
    yield made
    made.close()


def say(writer, **devices):
    for name, (connected, error) in devices.items():
        writer.set_value(f"{name}/$connected", connected)
        writer.set_value(f"{name}/$failures", int(bool(error)))
        writer.set_value(f"{name}/$last_error", error)
    writer.publish(next_due=time.monotonic_ns() + 10**12)
    writer.heartbeat()


def test_a_consumer_logs_itself_how_it_is(writer, caplog):
    caplog.set_level(logging.INFO, "monitor")
    watching = monitor.Monitor({"consumer:mqtt": (writer.name,)}, consumers={"consumer:mqtt"})
    say(writer, A=(0, "A: refused"), B=(1, ""))
    watching.tick()
    watching.close()
    assert caplog.messages == []


def test_devices_that_come_and_go_are_logged_once_each(writer, watching, caplog):
    say(writer, A=(0, ""), B=(0, ""))
    watching.tick()
    assert caplog.messages == [], "nothing was tried yet"
    say(writer, A=(1, ""), B=(0, "B: connect: refused; check it"))
    watching.tick()
    watching.tick()
    assert caplog.messages == [
        "first answers service=modbus connected=1 devices=2",
        'device does not answer device=B error="B: connect: refused; check it"',
    ]
    caplog.clear()
    say(writer, A=(0, "A: timeout"), B=(1, ""))
    watching.tick()
    assert caplog.messages == ['device does not answer device=A error="A: timeout"', "device answers device=B"]


def test_a_segment_that_is_not_there_yet_is_no_event(shm_name, caplog):
    watching = monitor.Monitor({"modbus": (shm_name,)})
    watching.tick()
    assert caplog.messages == []
    watching.close()


def test_a_service_that_hangs_is_started_again_and_one_that_is_down_is_not(writer, monkeypatch, caplog):
    monkeypatch.setattr(monitor, "HANGS_AFTER", 3)
    restarted, ready = [], [False]
    watching = monitor.Monitor({"modbus": (writer.name,)}, is_ready=lambda _: ready[0], restart=restarted.append)
    say(writer, A=(1, ""), B=(1, ""))
    watching.tick()
    with process_image.attach(writer.name) as image:
        wait_until(lambda: image.stale, what="a silent heartbeat")
    for _ in range(5):
        watching.tick()
    assert restarted == []
    ready[0] = True
    watching.tick()
    watching.tick()
    assert restarted == []
    watching.tick()
    assert restarted == ["modbus"]
    assert "heartbeat is silent" in caplog.text
    watching.close()


def test_a_heartbeat_in_between_starts_the_count_anew(writer, monkeypatch):
    monkeypatch.setattr(monitor, "HANGS_AFTER", 2)
    restarted = []
    watching = monitor.Monitor({"modbus": (writer.name,)}, restart=restarted.append)
    with process_image.attach(writer.name) as image:
        say(writer, A=(1, ""))
        wait_until(lambda: image.stale, what="a silent heartbeat")
        watching.tick()
        say(writer, A=(1, ""))
        watching.tick()
        wait_until(lambda: image.stale, what="a silent heartbeat")
        watching.tick()
    assert restarted == []
    watching.close()


def test_room_that_runs_short_is_warned_of_once_until_there_is_room_again(writer, watching, monkeypatch, caplog):
    used = iter([0.5, 0.95, 0.99, 0.88, 0.95, 0.5, 0.91])
    monkeypatch.setattr(monitor, "used_part", lambda _: next(used))
    for _ in range(7):
        watching.tick()
    warnings = [m for m in caplog.messages if "nearly full" in m]
    assert [m[-2:] for m in warnings] == ["95", "91"]


def test_removing_takes_all_of_a_segment_and_leaves_what_another_writer_holds(writer, shm_prefix, caplog):
    dead, unborn, longer = f"{shm_prefix}_dead", f"{shm_prefix}_unborn", f"{shm_prefix}_dead_longer"
    for name in (dead, longer):
        process_image.create(name, ["a"], semaphore=f"{name}_semaphore").close()
    for trace in (f"{unborn}.lease", f"{unborn}.new"):
        (SHARED_MEMORY / trace).touch(mode=0o600)
    posix_ipc.Semaphore(f"/{unborn}_semaphore", posix_ipc.O_CREX).close()
    monitor.remove_segments({name: f"{name}_semaphore" for name in (writer.name, dead, unborn, f"{shm_prefix}_never")})
    assert process_image.describe(writer.name) is not None
    assert f"segment stays segment={writer.name}" in caplog.text
    left = {p.name for p in SHARED_MEMORY.iterdir() if shm_prefix in p.name and not p.name.startswith(writer.name)}
    assert left == {longer, f"sem.{longer}_semaphore"}
    assert "unborn" not in caplog.text
