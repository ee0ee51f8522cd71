"""cpc read, segments, health and watch as processes, on segments that this process writes."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import process_image
import pytest
from peers import Peer, wait_until
from process_image import Point, quality

POINTS = [
    Point(name="Leistung", device="Zähler 1", unit="kW", range=(0, 100), description="Wirkleistung"),
    Point(name="count", device="Zähler 1", type="int64"),
    Point(name="on", device="Zähler 1", type="bool"),
    Point(name="text", device="Zähler 1", type="string"),
    Point(name="blob", device="Zähler 1", type="bytes", size=8),
    Point(name="odd", device="Zähler 1", type="float64"),
    Point(name="never", device="Zähler 1"),
    Point(name="$connected", device="Zähler 1", type="uint8"),
    Point(name="a/b", device="plain", type="uint16"),
    Point(name="$connected", device="plain", type="uint8"),
]
NOW = 1_700_000_000_123_456_789


def run(command, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, **{"capture_output": True, "text": True, "timeout": 60, **more})


def cpc(*args: str, **more) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "cpc", *args], **more)


@pytest.fixture
def writer(shm_prefix: str) -> Iterator[process_image.Writer]:
    made = process_image.create(f"{shm_prefix}_modbus_shm", POINTS, semaphore=f"{shm_prefix}_modbus_semaphore")
    values = {"Zähler 1/Leistung": 12.5, "Zähler 1/count": -(2**63), "Zähler 1/on": True,
              "Zähler 1/text": "grün\n", "Zähler 1/blob": b"\x00\xff", "Zähler 1/odd": math.nan,
              "Zähler 1/$connected": 1, "plain/a/b": 65535, "plain/$connected": 0}
    for name, value in values.items():
        made.set_value(name, value, source_time=NOW, received_time=NOW + 1)
    made.publish(next_due=time.monotonic_ns() + 3600 * 10**9)
    with beating(made):
        yield made
    made.close(unlink=True)


@contextmanager
def beating(writer: process_image.Writer) -> Iterator[None]:
    """The sign of life that a writer's loop gives: without it the segment is stale before a slow command has looked."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.05):
            writer.heartbeat()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def read_json(*args: str) -> dict:
    done = cpc("read", *args, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_read_gives_exact_values_and_times_as_json(writer):
    read = read_json(writer.name)
    assert read["segment"] == writer.name
    assert read["writer"] == {"pid": os.getpid(), "alive": True}
    assert read["generation"] == writer.generation
    assert read["epoch"] == writer.epoch
    points = {p["point"]: p for p in read["points"]}
    assert set(points) == {p.full_name for p in POINTS}
    power = points["Zähler 1/Leistung"]
    assert (power["name"], power["device"], power["value"], power["unit"], power["type"]) == (
        "Leistung", "Zähler 1", 12.5, "kW", "float64")
    assert power["quality"] == quality.GOOD
    assert read["stale"] is False
    assert power["source_time"] == "2023-11-14T22:13:20.123456789Z"
    assert power["received_time"] == "2023-11-14T22:13:20.123456790Z"
    assert power["age_ms"] > 0
    assert power["sequence"] == 1
    assert points["Zähler 1/count"]["value"] == -(2**63)
    assert points["Zähler 1/on"]["value"] is True
    assert points["Zähler 1/text"]["value"] == "grün\n"
    assert points["Zähler 1/blob"]["value"] == "00ff"
    assert points["Zähler 1/odd"]["value"] is None
    assert points["plain/a/b"]["value"] == 65535


def test_a_point_that_was_never_read_has_no_value_and_no_times(writer):
    [never] = read_json(writer.name, "--point", "Zähler 1/never")["points"]
    assert (never["value"], never["source_time"], never["received_time"]) == (None, None, None)
    assert never["quality_name"] == "BadWaitingForInitialData"


def test_points_come_device_by_device_with_system_points_last(writer):
    assert [p["point"] for p in read_json(writer.name)["points"]] == [p.full_name for p in POINTS]


def test_points_named_come_in_the_order_of_their_naming(writer):
    read = read_json(writer.name, "--point", "plain/a/b", "--point", "Zähler 1/on")
    assert [p["point"] for p in read["points"]] == ["plain/a/b", "Zähler 1/on"]


def test_a_point_that_is_not_there_exits_with_three_and_shows_near_names(writer):
    done = cpc("read", writer.name, "--point", "Zähler 1/Leistun")
    assert done.returncode == 3
    assert done.stdout == ""
    assert "'Zähler 1/Leistung'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_segment_that_is_not_there_exits_with_three(shm_prefix):
    done = cpc("read", f"{shm_prefix}_shm")
    assert done.returncode == 3
    assert f"{shm_prefix}_shm" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 300])
def test_a_name_that_no_segment_can_have_is_answered_in_one_line(name):
    done = cpc("read", name)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


def test_an_object_of_another_program_is_named_and_not_read(shm_prefix):
    path = Path("/dev/shm", f"{shm_prefix}_foreign")
    path.write_bytes(b"something else" * 1000)
    done = cpc("read", path.name)
    assert done.returncode == 1
    assert path.name in done.stderr
    assert "Traceback" not in done.stderr


def test_read_into_a_pipe_that_closes_early_ends_quietly(writer):
    done = run(f"{sys.executable} -m cpc read {writer.name} | head -1; echo ${{PIPESTATUS[0]}}",
               shell=True, executable="/bin/bash")
    assert done.stderr == ""
    assert done.stdout.splitlines()[1] == "0"


def test_text_for_people_hides_no_control_characters(writer):
    done = cpc("read", writer.name)
    assert done.returncode == 0
    assert "grün\\n" in done.stdout
    assert "12.5" in done.stdout


def test_names_print_in_a_locale_without_them(writer):
    done = cpc("read", writer.name, text=False, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert rb"Z\xe4hler" in done.stdout


def test_segments_lists_writer_mode_and_size(writer):
    done = cpc("segments", "--json")
    assert done.returncode == 0
    [mine] = [s for s in json.loads(done.stdout)["segments"] if s["name"] == writer.name]
    assert mine["writer"] == {"pid": os.getpid(), "alive": True}
    assert mine["points"] == len(POINTS)
    assert mine["mode"] == "0640"
    assert mine["size"] == Path("/dev/shm", writer.name).stat().st_size
    assert 0 <= mine["used_percent"] <= 100
    assert mine["enforced"] in (True, False)
    assert writer.name in cpc("segments").stdout


def test_segments_clean_leaves_a_living_writer_alone_and_removes_a_dead_ones(writer, shm_prefix):
    dead = f"{shm_prefix}_dead"
    code = (f"import process_image, os, signal; w = process_image.create({dead!r}, ['a']); w.publish(); "
            "os.kill(os.getpid(), signal.SIGKILL)")
    run([sys.executable, "-c", code])
    assert Path("/dev/shm", dead).exists()
    done = cpc("segments", "--clean", "--json", "--prefix", shm_prefix)
    assert done.returncode == 0
    cleaned = {c["name"]: c["removed"] for c in json.loads(done.stdout)["cleaned"]}
    assert cleaned[dead] is True
    assert cleaned[writer.name] is False
    assert not Path("/dev/shm", dead).exists()
    assert Path("/dev/shm", writer.name).exists()


def test_health_tells_fresh_from_silent_from_missing(writer, shm_prefix, tmp_path):
    done = cpc("health", "--namespace", shm_prefix, "--max-age", "60", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = cpc("health", "--namespace", shm_prefix, "--max-age", "0.001", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["healthy"] is False
    done = cpc("health", "--namespace", f"{shm_prefix}x", cwd=tmp_path)
    assert done.returncode == 3


def test_watch_without_a_terminal_prints_tables_until_its_duration(writer):
    done = cpc("watch", writer.name, "--interval", "1", "--duration", "2.5")
    assert done.returncode == 0
    assert done.stdout.count("Zähler 1/Leistung") == 3
    assert f"{len(POINTS)} points" in done.stdout


def test_watch_follows_a_writer_that_is_killed_and_comes_back(shm_prefix):
    name = f"{shm_prefix}_shm"
    code = """
import process_image, sys, time
writer = process_image.create(sys.argv[1], ["a"])
while True:
    writer.set_value("a", float(sys.argv[2]))
    writer.publish(next_due=time.monotonic_ns() + 10**9)
    writer.heartbeat()
    print("published", flush=True)
    time.sleep(0.05)
"""
    command = [sys.executable, "-m", "cpc", "watch", name, "--interval", "0.1"]
    with (
        Peer([sys.executable, "-c", code, name, "111"], ready="published") as first,
        Peer(command, ready=r"a +111 .*Good") as watch,
    ):
        os.kill(first.pid, signal.SIGKILL)
        watch.wait_for(r"a +111 .*stale, was Good")
        with Peer([sys.executable, "-c", code, name, "222"], ready="published"):
            watch.wait_for(r"a +222 .*Good")
        watch.process.send_signal(signal.SIGINT)
        assert watch.process.wait(5) == 0
        assert "Traceback" not in watch.output


def test_watch_waits_for_segments_that_are_not_there_yet(shm_prefix):
    command = [sys.executable, "-m", "cpc", "watch", "--namespace", shm_prefix, "--interval", "0.1"]
    with (
        Peer(command, ready="no segment is there yet") as watch,
        process_image.create(f"{shm_prefix}_late_shm", ["a"]) as made,
    ):
        made.set_value("a", 5.0)
        made.publish(next_due=time.monotonic_ns() + 10**10)
        wait_until(lambda: made.heartbeat() or re.search(r"a +5 ", watch.output), what="the new segment's point")


def test_a_stale_segment_is_said_to_be_stale(shm_prefix):
    name = f"{shm_prefix}_shm"
    code = (f"import process_image, os; w = process_image.create({name!r}, ['a']); w.set_value('a', 1); w.publish(); "
            "os._exit(1)")
    run([sys.executable, "-c", code])
    wait_until(lambda: read_json(name)["stale"], what="staleness")
    read = read_json(name)
    assert read["writer"]["alive"] is False
    assert read["points"][0]["quality_name"] == "UncertainLastUsableValue"
    done = cpc("read", name)
    assert done.returncode == 0
    assert "stale" in done.stderr
