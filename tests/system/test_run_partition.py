"""cpc run as a user runs it: real processes, simulated or absent devices, signals and kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from peers import free_port, wait_until
from plant import (
    alive,
    attach_when_there,
    children,
    cpc,
    left_in_shm,
    modbus_file,
    opcua_file,
    qualities,
    read,
    running,
    wait_until_good,
)

POLLING = r"running service={}\b"


@pytest.fixture
def files(tmp_path: Path) -> list[object]:
    """Arguments that run a Modbus file of two devices and an OPC UA file of one, simulated."""
    return ["--modbus", modbus_file(tmp_path / "modbus.xml"), "--opcua", opcua_file(tmp_path / "opcua.xml"),
            "--simulate", "--interval", "0.1"]


def test_simulated_devices_of_both_kinds_become_good_and_a_signal_ends_all(files, shm_prefix):
    begin = time.monotonic()
    with running("run", *files, "--namespace", shm_prefix) as run:
        images = {kind: attach_when_there(f"{shm_prefix}_{kind}_shm") for kind in ("modbus", "opcua")}
        for kind, image in images.items():
            wait_until(lambda image=image: "Good" in qualities(image).values(), 20, what="a first good record")
            print(f"first good {kind} record {time.monotonic() - begin:.2f} s after the start of cpc run")
        for image in images.values():
            wait_until_good(image)
            values = image.snapshot().records["value"].copy()
            wait_until(lambda image=image, values=values: (image.snapshot().records["value"] != values).any(),
                       what="values that move")
            image.close()
        processes = children(run.pid)
        assert set(processes) == {"modbus", "opcua", "modbus-simulator", "opcua-simulator"}
        ending = time.monotonic()
        run.process.terminate()
        assert run.process.wait(10) == 0
        print(f"ended {time.monotonic() - ending:.2f} s after SIGTERM")
        assert "is killed" not in run.output
        assert not any(alive(pid) for pid in processes.values())
        assert "Traceback" not in run.output
    assert left_in_shm(shm_prefix) == []


def test_keep_leaves_the_segments_for_the_next_run_which_takes_them_over(files, shm_prefix):
    name = f"{shm_prefix}_modbus_shm"
    with running("run", *files, "--namespace", shm_prefix, "--keep") as run:
        with attach_when_there(name) as image:
            wait_until_good(image)
        run.process.terminate()
        assert run.process.wait(15) == 0
    first = read(name)
    assert first["stale"] is True
    assert first["writer"]["alive"] is False
    with running("run", *files, "--namespace", shm_prefix, ready=POLLING.format("modbus")):
        assert read(name)["epoch"] == first["epoch"]
    assert left_in_shm(shm_prefix) == []


def test_a_killed_service_comes_back_and_its_consumer_and_the_other_service_go_on(files, shm_prefix):
    with (
        running("run", *files, "--namespace", shm_prefix, ready=POLLING.format("opcua")) as run,
        attach_when_there(f"{shm_prefix}_modbus_shm") as image,
        attach_when_there(f"{shm_prefix}_opcua_shm") as other,
    ):
        wait_until_good(image)
        wait_until_good(other)
        before, epoch = children(run.pid), image.epoch
        killed = time.monotonic()
        os.kill(before["modbus"], signal.SIGKILL)
        run.wait_for('ended, is started again service=modbus status="killed by SIGKILL"')
        wait_until(lambda: children(run.pid).get("modbus", before["modbus"]) != before["modbus"], what="a new pid")
        wait_until(lambda: image.counters["take_overs"] == 1, what="the take-over")
        wait_until_good(image)
        print(f"good again {time.monotonic() - killed:.2f} s after SIGKILL of the service")
        assert (image.epoch, image.attachments) == (epoch, 1)
        assert children(run.pid)["opcua"] == before["opcua"]
        wait_until_good(other)


def test_a_killed_partition_is_started_again_and_its_consumer_goes_on(files, shm_prefix):
    name = f"{shm_prefix}_modbus_shm"
    with running("run", *files, "--namespace", shm_prefix, ready=POLLING.format("opcua")) as run:
        image = attach_when_there(name)
        wait_until_good(image)
        processes = children(run.pid)
        os.kill(run.pid, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in processes.values()), what="the end of the services")
    with image:
        epoch = image.epoch
        wait_until(lambda: image.snapshot().stale, what="staleness")
        assert set(qualities(image).values()) == {"UncertainLastUsableValue"}
        with running("run", *files, "--namespace", shm_prefix):
            wait_until_good(image)
            assert (image.epoch, image.attachments) == (epoch, 1)
    assert left_in_shm(shm_prefix) == []


def test_a_second_partition_with_the_same_names_says_who_holds_them_and_ends(files, shm_prefix):
    with running("run", *files, "--namespace", shm_prefix, ready=POLLING.format("opcua")) as run:
        run.wait_for(POLLING.format("modbus"))
        with attach_when_there(f"{shm_prefix}_modbus_shm") as image:
            wait_until_good(image)
            done = cpc("run", *files, "--namespace", shm_prefix)
            assert done.returncode == 1
            assert f"{shm_prefix}_" in done.stderr
            assert str(children(run.pid)["modbus"]) in done.stderr or str(children(run.pid)["opcua"]) in done.stderr
            assert "Traceback" not in done.stderr
            assert run.process.poll() is None
            assert not image.snapshot().stale
            assert "is started again" not in run.output


@pytest.mark.parametrize("content", ["", "<modbus-servers>", "<other/>"])
def test_an_invalid_file_ends_the_run_before_anything_is_made(content, tmp_path, shm_prefix):
    bad = tmp_path / "bad.xml"
    bad.write_text(content)
    good = modbus_file(tmp_path / "good.xml")
    done = cpc("run", "--modbus", good, bad, "--namespace", shm_prefix)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{bad}:")
    assert "started" not in done.stderr
    assert left_in_shm(shm_prefix) == []


def test_a_file_of_the_other_kind_is_a_fault(tmp_path, shm_prefix):
    done = cpc("run", "--opcua", modbus_file(tmp_path / "m.xml"), "--namespace", shm_prefix)
    assert done.returncode == 1
    assert f"{tmp_path / 'm.xml'}:" in done.stderr


def test_a_missing_partition_file_is_a_fault_in_one_line(tmp_path):
    done = cpc("run", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("config/partition.xml:")
    assert len(done.stderr.splitlines()) == 1


def test_a_device_that_is_down_at_the_start_says_why_and_comes_up_by_itself(tmp_path, shm_prefix):
    port = free_port()
    file = modbus_file(tmp_path / "m.xml", devices=["Late"], port=port)
    with (
        running("run", "--modbus", file, "--namespace", shm_prefix, "--interval", "0.1") as run,
        attach_when_there(f"{shm_prefix}_modbus_shm") as image,
    ):
        wait_until(lambda: set(qualities(image).values()) == {"BadCommunicationError"}, what="a reason")
        reason = image.snapshot()["Late/$last_error"].value
        assert "Late" in reason
        assert str(port) in reason
        run.wait_for("device does not answer device=Late")
        with running("simulate", file, "--port", port, ready=f":{port} unit 1"):
            print(f"good {wait_until_good(image):.2f} s after the device came up")
            run.wait_for("device answers device=Late|first answers")
        wait_until(lambda: "Good" not in qualities(image).values(), what="the device's end is seen")


def test_an_opcua_server_that_is_down_at_the_start_says_why_and_comes_up_by_itself(tmp_path, shm_prefix):
    port = free_port()
    file = opcua_file(tmp_path / "o.xml", alias="Late", url=f"opc.tcp://127.0.0.1:{port}")
    with (
        running("run", "--opcua", file, "--namespace", shm_prefix, "--interval", "0.1") as run,
        attach_when_there(f"{shm_prefix}_opcua_shm") as image,
    ):
        wait_until(lambda: set(qualities(image).values()) == {"BadCommunicationError"}, what="a reason")
        assert "Late" in image.snapshot()["Late/$last_error"].value
        run.wait_for("device does not answer device=Late")
        with running("simulate", file, "--port", port, ready=f":{port}"):
            print(f"good {wait_until_good(image):.2f} s after the server came up")
        wait_until(lambda: "Good" not in qualities(image).values(), what="the server's end is seen")


def test_a_stopped_consumer_changes_nothing_for_the_others(files, shm_prefix):
    name = f"{shm_prefix}_modbus_shm"
    code = ("import sys, process_image\nwith process_image.attach(sys.argv[1]) as image:\n"
            "    while True:\n        image.wait(1)\n        image.snapshot()\n        print('seen', flush=True)\n")
    with running("run", *files, "--namespace", shm_prefix, ready=POLLING.format("modbus")):
        image = attach_when_there(name)
        wait_until_good(image)
        stopped = subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE)
        try:
            assert stopped.stdout is not None
            stopped.stdout.readline()
            os.kill(stopped.pid, signal.SIGSTOP)
            before = image.generation
            for _ in range(20):
                assert image.wait(2.0)
                snapshot = image.snapshot()
                assert not snapshot.stale
            assert image.generation >= before + 19
            assert snapshot["Ecotec/$failures"].value == 0
            assert snapshot["Ecotec/$missed"].value == 0
        finally:
            stopped.kill()
            stopped.communicate()
            image.close()


def test_services_run_as_threads_of_one_process(files, shm_prefix):
    with running("run", *files, "--namespace", shm_prefix, "--threads") as run:
        for kind in ("modbus", "opcua"):
            with attach_when_there(f"{shm_prefix}_{kind}_shm") as image:
                wait_until_good(image)
            assert read(f"{shm_prefix}_{kind}_shm")["writer"]["pid"] == run.pid
        assert set(children(run.pid)) == {"modbus-simulator", "opcua-simulator"}
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(10) == 0
        assert "Traceback" not in run.output
    assert left_in_shm(shm_prefix) == []


def test_threads_that_can_not_run_end_with_one(tmp_path, shm_prefix):
    file = modbus_file(tmp_path / "m.xml")
    with running("run", "--modbus", file, "--namespace", shm_prefix, ready=POLLING.format("modbus")):
        done = cpc("run", "--modbus", file, "--namespace", shm_prefix, "--threads")
        assert done.returncode == 1
        assert f"{shm_prefix}_modbus_shm" in done.stderr


def test_a_partition_file_says_what_runs_and_who_gets_which_points(tmp_path, shm_prefix):
    modbus_file(tmp_path / "m.xml", devices=["A", "B"], points=3)
    config = tmp_path / "partition.xml"
    config.write_text(
        f"<partition><namespace>{shm_prefix}</namespace><interval>0.1</interval><service kind='modbus'>"
        "<file>m.xml</file><audience name='psmo'><mode>0600</mode><include>A/*</include><exclude>*/M2</exclude>"
        "</audience></service></partition>"
    )
    with running("run", "--config", config, "--simulate", ready=POLLING.format("modbus")):
        with (
            attach_when_there(f"{shm_prefix}_modbus_shm") as image,
            attach_when_there(f"{shm_prefix}_modbus_shm_psmo") as part,
        ):
            wait_until_good(image)
            wait_until_good(part)
            assert {"A/M0", "A/M2", "B/M0", "A/$connected"} <= set(image.snapshot())
            assert {name for name in part.snapshot() if "$" not in name} == {"A/M0", "A/M1"}
            assert "A/$connected" in part.snapshot()
            assert part.semaphore_name.endswith(f"{shm_prefix}_modbus_semaphore_psmo")
        assert Path("/dev/shm", f"{shm_prefix}_modbus_shm_psmo").stat().st_mode & 0o777 == 0o600
        done = cpc("health", "--config", config)
        assert (done.returncode, done.stderr) == (0, "")
    done = cpc("health", "--config", config)
    assert done.returncode == 3
    assert left_in_shm(shm_prefix) == []


def test_a_pattern_that_matches_no_point_is_refused(tmp_path, shm_prefix):
    modbus_file(tmp_path / "m.xml")
    config = tmp_path / "partition.xml"
    config.write_text(f"<partition><namespace>{shm_prefix}</namespace><service kind='modbus'><file>m.xml</file>"
                      "<audience name='x'><include>nothing/*</include></audience></service></partition>")
    done = cpc("run", "--config", config)
    assert done.returncode == 1
    assert "audience 'x'" in done.stderr
    assert left_in_shm(shm_prefix) == []


def test_too_little_shared_memory_is_refused_with_the_size_needed(tmp_path, shm_prefix):
    file = modbus_file(tmp_path / "m.xml", points=100)
    run = f"{sys.executable} -m cpc run --modbus {file} --duration 5"
    script = f"mount -t tmpfs -o size=64k none /dev/shm && exec {run}"
    probe = subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip("this machine gives no mount namespace to tests")
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], check=False, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 1
    assert "--shm-size" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--interval", "-1"], ["--interval", "nan"], ["--duration", "0"],
                                       ["--namespace", "a/b"], ["--config", "a", "--modbus", "b"], ["--bogus"]])
def test_wrong_usage_exits_with_two(arguments):
    done = cpc("run", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
