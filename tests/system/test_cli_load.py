"""`cpc generate` and `cpc load`: files of any size, and what held when they were run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import peers
import pytest
from endpoint_config import load, load_modbus, load_opcua
from modbus_tcp_client.plan import plan
from process_image import list_segments


def cpc(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "cpc", *map(str, arguments)], capture_output=True, text=True,
                          timeout=100, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated") / "plant"
    cpc("generate", "--modbus", 7, "--opcua", 2, "--points", 23, "--interval", 0.2, "--output", folder)
    return folder


def test_generated_files_are_clean_and_have_the_size_asked_for(generated: Path) -> None:
    cpc("check", generated / "partition.xml", "--strict")
    modbus, opcua = load_modbus([generated / "modbus.xml"]), load_opcua([generated / "opcua.xml"])
    assert [len(s.points) for s in modbus] == [23] * 7
    assert [len(s.nodes) for s in opcua] == [23] * 2
    points = [p for s in modbus for p in s.points]
    assert len({p.datatype for p in points}) >= 5
    assert {p.unit for p in points} >= {"V", "kW.h", "bar"}
    assert any(p.writable for p in points) and any(p.enum for p in points)
    assert all(len(plan(s.points)) <= 5 for s in modbus)
    partition = load(generated / "partition.xml").partition
    assert partition is not None and partition.interval == 0.2


def test_the_same_seed_gives_the_same_files_and_another_others(generated: Path, tmp_path: Path) -> None:
    sizes = ("--modbus", 7, "--opcua", 2, "--points", 23, "--interval", 0.2)
    cpc("generate", *sizes, "--output", tmp_path / "same")
    cpc("generate", *sizes, "--output", tmp_path / "other", "--seed", 5)
    for name in ("modbus.xml", "opcua.xml", "partition.xml"):
        assert (tmp_path / "same" / name).read_bytes() == (generated / name).read_bytes()
    assert (tmp_path / "other" / "modbus.xml").read_bytes() != (generated / "modbus.xml").read_bytes()
    assert "--force" in cpc("generate", *sizes, "--output", tmp_path / "same", status=1).stderr
    assert "one device at least" in cpc("generate", "--modbus", 0, "--output", tmp_path / "x", status=2).stderr


def test_what_held_is_reported_for_both_services_and_nothing_stays(generated: Path) -> None:
    command = [sys.executable, "-m", "cpc", "load", str(generated), "--duration", "2", "--settle", "1", "--least", "50",
               "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        told = json.loads(running.communicate(timeout=100)[0])
    assert running.returncode == 0
    modbus, opcua = told["services"]
    assert (modbus["devices"], modbus["points"], opcua["devices"], opcua["points"]) == (7, 161, 2, 46)
    assert modbus["polls"] == pytest.approx(7 * 5 * 2, abs=4)
    assert modbus["requests_per_s"] > 35
    assert modbus["memory_mib"] > 10 and modbus["cpu_percent"] > 0 and modbus["simulators_cpu_percent"] > 0
    assert told["held"] is True and modbus["faults"] == []
    assert not list_segments(f"load{running.pid}_")


def test_what_did_not_hold_is_said_with_status_1() -> None:
    done = cpc("load", "--modbus", 2, "--points", 3, "--duration", 1, "--settle", 0, "--least", 101, status=1)
    assert "did not hold" in done.stdout and "at least 101 %" in done.stdout
    assert "MODBUS" not in done.stdout and "modbus" in done.stdout


def test_a_file_that_is_wrong_and_an_end_in_the_middle_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "partition.xml").write_text("<partition><interval>x</interval></partition>")
    assert "partition.xml:1:" in cpc("load", tmp_path, status=1).stderr
    command = [sys.executable, "-m", "cpc", "load", "--modbus", "2", "--points", "3", "--duration", "60"]
    with peers.Peer(command) as peer:
        name = f"load{peer.pid}_"
        peers.wait_until(lambda: list_segments(name), 60)
        peer.process.send_signal(signal.SIGTERM)
        assert peer.process.wait(20) == 130
        assert not list_segments(name)
