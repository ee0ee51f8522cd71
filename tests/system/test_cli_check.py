"""cpc check as a process: forms, exit statuses, plans, and devices asked."""

from __future__ import annotations

import json

import pytest
from peers import free_port
from plant import SHM, cpc, modbus_file, opcua_file, running


def check(*args) -> dict:
    done = cpc("check", *args, "--json")
    made = json.loads(done.stdout)
    made["status"], made["stderr"] = done.returncode, done.stderr
    return made


def test_sound_files_of_each_kind_are_counted(tmp_path):
    modbus = modbus_file(tmp_path / "m.xml", devices=["A"], points=7)
    opcua = opcua_file(tmp_path / "o.xml", points=4)
    made = check(modbus, opcua)
    assert made["status"] == 0
    counted = [{k: f[k] for k in ("file", "kind", "devices", "points", "requests", "faults")} for f in made["files"]]
    assert counted == [
        {"file": str(modbus), "kind": "modbus", "devices": 1, "points": 7, "requests": 1, "faults": []},
        {"file": str(opcua), "kind": "opcua", "devices": 1, "points": 4, "requests": 1, "faults": []},
    ]


def test_a_fault_is_told_by_file_and_line_and_exits_with_one(tmp_path):
    file = modbus_file(tmp_path / "m.xml")
    lines = file.read_text().replace("<address>1</address>", "<address>70000</address>", 1)
    file.write_text(lines)
    line = next(n for n, text in enumerate(lines.splitlines(), 1) if "70000" in text)
    done = cpc("check", file)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{file}:{line}: ")
    assert "70000" in done.stderr
    assert "1 fault" in done.stdout
    made = check(file)
    assert [f["line"] for f in made["files"][0]["faults"]] == [line]
    assert made["files"][0]["requests"] == 0


def test_warnings_change_the_exit_with_strict_alone(tmp_path):
    file = opcua_file(tmp_path / "o.xml")
    plain, strict = check(file), check(file, "--strict")
    assert plain["status"] == 0
    assert plain["files"][0]["warnings"]
    assert not plain["files"][0]["faults"]
    assert strict["status"] == 1
    assert strict["files"][0]["faults"] == plain["files"][0]["warnings"]
    assert not strict["files"][0]["warnings"]


def test_the_plan_shows_every_request_with_its_points(tmp_path):
    file = modbus_file(tmp_path / "m.xml", devices=["A"], points=130)
    made = check(file, "--plan")["files"][0]
    assert [(p["operation"], p["address"], p["count"]) for p in made["plan"]] == [
        ("Read Holding Registers", 0, 125), ("Read Holding Registers", 125, 5)]
    assert made["requests"] == 2
    assert made["plan"][1]["points"] == [f"M{i}" for i in range(125, 130)]
    assert "A: default interval: Read Holding Registers 125..129 (5): M125" in cpc("check", file, "--plan").stdout


def test_the_plan_tells_the_shared_memory_that_a_run_would_take(tmp_path, shm_prefix):
    modbus_file(tmp_path / "m.xml", devices=["A"])
    opcua_file(tmp_path / "o.xml")
    config = tmp_path / "partition.xml"
    config.write_text(f"<partition><namespace>{shm_prefix}</namespace><service kind='modbus'><file>m.xml</file>"
                      "<journal_entries>1000</journal_entries><audience name='x'><include>A/M1</include></audience>"
                      "</service><service kind='opcua'><file>o.xml</file></service></partition>")
    told = check(config, "--plan")["files"][0]["memory"]
    with running("run", "--config", config, ready="running service=opcua") as run:
        run.wait_for("running service=modbus")
        taken = sum(p.stat().st_size for p in SHM.glob(f"{shm_prefix}*_shm*") if p.suffix != ".lease")
    assert told == taken


def test_a_poll_that_does_not_fit_is_warned_of_and_not_run_unless_forced(tmp_path, shm_prefix):
    file = modbus_file(tmp_path / "m.xml", devices=["A"], points=500)
    text = file.read_text().replace("</endpoints></server>", "</endpoints><interval>0.001</interval></server>")
    file.write_text(text)
    made = check(file)
    assert made["status"] == 0
    assert any("of every" in warning["message"] for warning in made["files"][0]["warnings"])
    done = cpc("run", "--modbus", file, "--namespace", shm_prefix)
    assert done.returncode == 1
    assert f"{file}:3: " in done.stderr
    assert "--force" in done.stderr
    with running("run", "--modbus", file, "--namespace", shm_prefix, "--force", ready="running service=modbus"):
        pass


def test_a_partition_file_brings_its_endpoint_files(tmp_path):
    modbus_file(tmp_path / "m.xml", devices=["A"])
    opcua_file(tmp_path / "o.xml")
    config = tmp_path / "partition.xml"
    config.write_text("<partition><service kind='modbus'><file>m.xml</file></service>"
                      "<service kind='opcua'><file>o.xml</file></service></partition>")
    made = check(config)
    assert made["status"] == 0
    assert [f["kind"] for f in made["files"]] == ["partition", "modbus", "opcua"]


def test_a_partition_that_names_a_file_of_the_wrong_kind_or_none_is_at_fault(tmp_path):
    modbus_file(tmp_path / "m.xml", devices=["A"])
    config = tmp_path / "partition.xml"
    config.write_text("<partition><service kind='opcua'><file>m.xml</file></service></partition>")
    made = check(config)
    assert made["status"] == 1
    assert "opcua" in made["files"][1]["faults"][0]["message"]
    config.write_text("<partition><service kind='opcua'><file>none.xml</file></service></partition>")
    made = check(config)
    assert made["status"] == 1
    assert [f["line"] for f in made["files"][0]["faults"]] == [1]


def test_one_alias_in_two_files_of_a_service_is_warned_of(tmp_path):
    modbus_file(tmp_path / "a.xml", devices=["Same"], port=1)
    modbus_file(tmp_path / "b.xml", devices=["Same"], port=2)
    config = tmp_path / "partition.xml"
    config.write_text("<partition><service kind='modbus'><file>a.xml</file><file>b.xml</file></service></partition>")
    made = check(config)
    assert made["status"] == 0
    assert any("Same" in w["message"] for f in made["files"] for w in f["warnings"])


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "binary", "loop"])
def test_what_is_no_xml_file_is_one_fault_and_no_traceback(kind, tmp_path):
    path = tmp_path / "x.xml"
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind != "missing":
        path.write_bytes(b"" if kind == "empty" else bytes(range(256)))
    done = cpc("check", path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{path}:")
    assert len(done.stderr.splitlines()) == 1


def test_online_says_by_line_which_device_does_not_answer(tmp_path):
    file = modbus_file(tmp_path / "m.xml", devices=["Down"], port=free_port())
    done = cpc("check", file, "--online")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{file}:3: Down: connect 127.0.0.1:")


@pytest.mark.parametrize("kind", ["modbus", "opcua"])
def test_online_is_content_with_devices_that_have_every_point(kind, tmp_path):
    port = free_port()
    file = (modbus_file(tmp_path / "x.xml", devices=["Up"], port=port) if kind == "modbus"
            else opcua_file(tmp_path / "x.xml", url=f"opc.tcp://127.0.0.1:{port}"))
    with running("simulate", file, "--port", port, ready=f":{port}"):
        made = check(file, "--online")
        assert (made["status"], made["files"][0]["faults"]) == (0, [])


@pytest.mark.parametrize("kind", ["modbus", "opcua"])
def test_online_names_the_line_of_a_point_that_the_device_does_not_have(kind, tmp_path):
    port = free_port()
    make = modbus_file if kind == "modbus" else opcua_file
    where = {"port": port, "devices": ["Up"]} if kind == "modbus" else {"url": f"opc.tcp://127.0.0.1:{port}"}
    small, large = make(tmp_path / "small.xml", points=3, **where), make(tmp_path / "large.xml", points=4, **where)
    marker = ">M3<" if kind == "modbus" else ">N3<"
    line = next(n for n, text in enumerate(large.read_text().splitlines(), 1) if marker in text)
    with running("simulate", small, "--port", port, ready=f":{port}"):
        made = check(large, "--online")
    assert made["status"] == 1
    assert [f["line"] for f in made["files"][0]["faults"]] == [line]
