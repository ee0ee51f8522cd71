"""The smaller commands as processes: version, init, certs, simulate, demo, bench, completion, and wrong usage."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from peers import free_port, wait_until
from plant import CPC, SHM, cpc, modbus_file, opcua_file, running

import cpc as package


def test_the_version_is_the_packages():
    done = cpc("--version")
    assert (done.returncode, done.stdout) == (0, f"cpc {package.__version__}\n")


def test_the_installed_command_and_the_module_are_the_same():
    command = Path(sys.executable).parent / "cpc"
    done = subprocess.run([command, "--version"], check=False, capture_output=True, text=True, timeout=60)
    assert done.stdout == cpc("--version").stdout


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["read"], ["check"], ["run", "--interv", "1"], ["certs"],
                                       ["simulate", "x.xml", "--port", "70000"]])
def test_wrong_usage_exits_with_two(arguments):
    done = cpc(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage" in done.stderr


@pytest.mark.parametrize("command", ["check", "run", "read", "segments", "watch", "simulate", "init", "health", "demo",
                                     "certs", "bench", "completion"])
def test_every_command_has_help(command):
    done = cpc(command, "--help")
    assert done.returncode == 0
    assert command in done.stdout


def test_debug_shows_a_traceback_of_cpc_itself_and_otherwise_one_line(tmp_path):
    """A fault in cpc, made by a module that shadows the command's."""
    code = ("import sys, cpc.commandline.init as i; i.samples = lambda: 1 / 0\n"
            "from cpc.cli import main; sys.exit(main(sys.argv[1:]))")
    plain, debug = (
        subprocess.run([sys.executable, "-c", code, *option, "init", str(tmp_path)], check=False,
                       capture_output=True, text=True, timeout=60)
        for option in ([], ["--debug"])
    )
    assert plain.returncode == 1
    assert len(plain.stderr.splitlines()) == 1
    assert "ZeroDivisionError" in plain.stderr
    assert "Traceback" in debug.stderr


def test_init_writes_files_that_check_finds_sound_and_keeps_what_is_there(tmp_path):
    folder = tmp_path / "new" / "config"
    done = cpc("init", folder)
    assert done.returncode == 0
    assert {p.name for p in folder.iterdir()} >= {"partition.xml", "partition.xsd"}
    assert cpc("check", folder / "partition.xml").returncode == 0
    (folder / "partition.xml").write_text("mine")
    done = cpc("init", folder)
    assert done.returncode == 1
    assert "--force" in done.stderr
    assert (folder / "partition.xml").read_text() == "mine"
    assert cpc("init", folder, "--force").returncode == 0
    assert (folder / "partition.xml").read_text() != "mine"


def test_init_into_a_place_that_can_not_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = cpc("init", tmp_path / "file" / "x")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_certs_make_writes_a_pair_and_never_overwrites_a_key_unasked(tmp_path):
    done = cpc("certs", "make", tmp_path, "--name", "mine", "--uri", "urn:test:mine", "--host", "plc", "--host", "::1")
    assert done.returncode == 0
    assert "urn:test:mine" in done.stdout
    key = tmp_path / "mine.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    again = cpc("certs", "make", tmp_path, "--name", "mine")
    assert again.returncode == 1
    assert key.read_bytes() == before
    from opcua_client import load_identity

    load_identity(tmp_path / "mine.der", key)


def test_simulate_says_where_each_device_listens_and_answers_there(tmp_path):
    from modbus_tcp_client import ModbusTCPClient

    modbus, opcua = modbus_file(tmp_path / "m.xml", devices=["Zähler 1"]), opcua_file(tmp_path / "o.xml")
    with running("simulate", modbus, opcua, ready=r"PLC +opc.tcp://127.0.0.1:\d+") as simulator:
        port = int(simulator.wait_for(r"Zähler 1 +modbus-tcp://127.0.0.1:(\d+) unit 1").group(1))
        with ModbusTCPClient("127.0.0.1", port) as client:
            assert len(client.fc03_read_holding_registers(0, 5)) == 5
        simulator.process.send_signal(signal.SIGINT)
        assert simulator.process.wait(10) == 0
        assert "Traceback" not in simulator.output


def test_simulate_on_a_port_that_is_taken_is_one_line(tmp_path):
    file = modbus_file(tmp_path / "m.xml", devices=["A"])
    port = free_port()
    with running("simulate", file, "--port", port, ready=f":{port}"):
        done = cpc("simulate", file, "--port", port)
        assert done.returncode == 1
        assert str(port) in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_demo_prints_tables_without_a_terminal_and_ends_by_itself():
    done = cpc("demo", "--duration", "6")
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+ points, \d+ not good", done.stdout)
    assert "POINT" in done.stdout
    assert not list(SHM.glob("*demo*_shm"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_and_all_it_started(number):
    with running("demo", ready="running service=modbus ", timeout=60) as demo:
        namespace = f"demo{demo.pid}"
        assert list(SHM.glob(f"{namespace}*"))
        demo.process.send_signal(number)
        assert demo.process.wait(10) == 0
        assert "Traceback" not in demo.output
        wait_until(lambda: not list(SHM.glob(f"*{namespace}*[!e]")), what="nothing left")


def test_the_demo_takes_all_with_it_when_it_is_killed():
    with running("demo", ready="running service=modbus ", timeout=60) as demo:
        namespace = f"demo{demo.pid}"
        os.kill(demo.pid, signal.SIGKILL)
        wait_until(lambda: not _mentioning(namespace), what="no process of the demo")
    for path in [*SHM.glob(f"{namespace}*"), *SHM.glob(f"sem.{namespace}*")]:
        path.unlink()


def _mentioning(text: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_bench_names_what_there_is():
    done = cpc("bench", "no-such-benchmark")
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell):
    done = cpc("completion", shell)
    assert done.returncode == 0
    assert "cpc" in done.stdout


def complete(line: str, cwd: Path) -> list[str]:
    """What argcomplete offers for a command line, asked as a shell asks."""
    answers = cwd / "answers"
    environment = {**os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)),
                   "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(answers)}
    answers.write_text("")
    subprocess.run([Path(sys.executable).parent / "cpc"], check=False, env=environment, cwd=cwd, timeout=60,
                   capture_output=True)
    return [word.strip() for word in answers.read_text().split("\n")]


def test_the_shell_completes_commands_options_files_and_segments(tmp_path, shm_prefix):
    import process_image

    modbus_file(tmp_path / "plant.xml")
    (tmp_path / "note.txt").write_text("")
    assert "segments" in complete("cpc se", tmp_path)
    assert "--namespace" in complete("cpc run --name", tmp_path)
    assert complete("cpc check p", tmp_path) == ["plant.xml"]
    with process_image.create(f"{shm_prefix}_shm", ["some point"]) as writer:
        assert complete(f"cpc read {shm_prefix}", tmp_path) == [writer.name]


def test_stdout_that_is_closed_is_no_fault(tmp_path):
    command = " ".join(CPC)
    done = subprocess.run(f"{command} check {modbus_file(tmp_path / 'm.xml')} >&-", check=False, shell=True,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "fault of cpc" not in done.stderr


def test_a_disk_that_takes_nothing_is_said_in_a_line_and_is_no_fault_of_cpc():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "cpc", "completion", "bash"], stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "cpc completion: No space left on device; look at disk, rights and limits of this machine"]
