"""`cpc run` with consumers: real processes, killed, refusing, as another user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import mosquitto, subscriber
from everybodys_python import everybodys_python
from peers import Peer, wait_until
from plant import CPC, alive, attach_when_there, cpc, left_in_shm, modbus_file

MODULE = """
import os, pathlib
from cpc.consumers import Base, Refused

class Teller(Base):
    def start(self):
        super().start()
        secrets = [name for name in os.environ if name.startswith("OPCUA_")]
        (self.context.state / "told").write_text(f"{os.getpid()} {os.getuid()} {secrets}")

    def take(self, segment, changes):
        (self.context.state / "took").write_text(segment)

class Refusing(Base):
    def start(self):
        raise Refused("test: it will not")

class Hanging(Base):
    def step(self, timeout):
        import time
        time.sleep(3600)
"""


def partition(folder: Path, prefix: str, consumers: str) -> Path:
    modbus_file(folder / "m.xml")
    (folder / "told_by_test.py").write_text(MODULE)
    config = folder / "partition.xml"
    config.write_text(f"<partition><namespace>{prefix}</namespace><interval>0.1</interval><state>state</state>"
                      f"<service kind='modbus'><file>m.xml</file></service>{consumers}</partition>")
    return config


def run(config: Path, ready: str, **env: str) -> Peer:
    return Peer([*CPC, "run", "--config", str(config), "--simulate"], ready=ready,
                env={"PYTHONPATH": str(config.parent), **env})


def told(folder: Path, prefix: str, name: str) -> list[str]:
    path = folder / "state" / prefix / name / "told"
    wait_until(lambda: path.exists() and path.read_text(), what="a consumer that tells")
    return path.read_text().split(maxsplit=2)


def test_a_consumer_that_is_killed_comes_back_and_the_service_does_not_notice(tmp_path, shm_prefix):
    config = partition(tmp_path, shm_prefix, "<consumer name='teller' module='told_by_test:Teller'/>")
    with run(config, "running service=consumer:teller") as peer:
        with attach_when_there(f"{shm_prefix}_modbus_shm") as image:
            pid = int(told(tmp_path, shm_prefix, "teller")[0])
            attached = image.attachments
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: int(told(tmp_path, shm_prefix, "teller")[0]) != pid, what="another process")
            assert not image.snapshot().stale
            assert image.attachments == attached
        with attach_when_there(f"{shm_prefix}_status_shm_teller") as status:
            wait_until(lambda: status.snapshot()["teller/$connected"].value == 1)
        done = cpc("health", "--config", config)
        assert (done.returncode, done.stderr) == (0, "")
        again = int(told(tmp_path, shm_prefix, "teller")[0])
        assert peer.stop() == 0
        assert not alive(again)
    assert left_in_shm(shm_prefix) == []


def test_a_consumer_that_can_not_run_leaves_the_services_alone(tmp_path, shm_prefix):
    config = partition(tmp_path, shm_prefix, "<consumer name='no' module='told_by_test:Refusing'/>"
                       "<consumer name='nowhere' module='not_there_at_all:X'/>"
                       "<consumer name='teller' module='told_by_test:Teller'/>")
    with run(config, "running service=consumer:teller") as peer:
        peer.wait_for("test: it will not")
        peer.wait_for("not_there_at_all:X: can't be imported")
        peer.wait_for("consumer=consumer:no .*pause=30s")
        with attach_when_there(f"{shm_prefix}_modbus_shm") as image:
            assert image.wait(5.0)
        assert peer.stop() == 0


def nobody_runs_python() -> bool:
    try:
        return subprocess.run([CPC[0], "-c", ""], user="nobody", check=False, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts processes of other users")
def test_a_consumer_whose_user_may_not_run_the_interpreter_is_no_end_of_the_run(tmp_path, shm_prefix):
    if nobody_runs_python():
        pytest.skip("every user may run this interpreter")
    config = partition(tmp_path, shm_prefix, "<consumer name='teller' user='nobody' module='told_by_test:Teller'/>")
    with run(config, "running service=modbus") as peer:
        peer.wait_for("can't be started.*consumer=consumer:teller.*Permission denied")
        assert peer.stop() == 0


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter; pytest closes its own ones to them."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts processes of other users")
def test_consumers_run_as_the_users_that_the_file_names_and_without_the_secrets_of_services(open_folder, shm_prefix):
    python, env = everybodys_python(open_folder)
    for folder in ("", shm_prefix, f"{shm_prefix}/teller", f"{shm_prefix}/mqtt"):
        (open_folder / "state" / folder).mkdir()
    for name in ("teller", "mqtt"):
        shutil.chown(open_folder / "state" / shm_prefix / name, "nobody")
    with mosquitto(open_folder / "broker") as broker, subscriber(broker.port, "devices/#") as witness:
        config = partition(
            open_folder, shm_prefix, "<consumer name='teller' user='nobody' module='told_by_test:Teller'/>"
            f"<mqtt user='nobody'><broker>127.0.0.1:{broker.port}</broker></mqtt>")
        config.write_text(config.read_text().replace("</file>", "</file><group>nogroup</group>"))
        env["PYTHONPATH"] += os.pathsep + str(open_folder)
        command = [python, "-m", "cpc", "run", "--config", str(config), "--simulate"]
        env["OPCUA_PASSWORD"] = "not for you"
        with Peer(command, ready="running service=consumer:teller", env=env) as peer:
            _, uid, secrets = told(open_folder, shm_prefix, "teller")
            assert int(uid) != 0
            assert secrets == "[]"
            wait_until(lambda: len(witness.messages()) >= 10, what="messages of another user's publisher")
            listed = json.loads(cpc("segments", "--prefix", f"{shm_prefix}_status", "--json").stdout)["segments"]
            assert [s["owner"] for s in listed] == ["nobody", "nobody"]
            assert peer.stop() == 0
    assert left_in_shm(shm_prefix) == []


def test_an_unknown_user_is_refused_before_anything_runs(tmp_path, shm_prefix):
    config = partition(tmp_path, shm_prefix, "<consumer name='t' user='no-such-user' module='told_by_test:Teller'/>")
    done = cpc("run", "--config", config, "--duration", "0.5", "--simulate")
    if os.geteuid() == 0:
        assert done.returncode == 1
        assert "user no-such-user is not known" in done.stderr
    assert "no-such-user" in cpc("check", config).stderr


def test_a_consumer_runs_alone_and_waits_for_the_segment(tmp_path, shm_prefix):
    config = partition(tmp_path, shm_prefix, "<consumer name='teller' module='told_by_test:Teller'/>")
    (tmp_path / "m.xml").rename(tmp_path / "elsewhere.xml")
    alone = ["-P", "-m", "cpc.consumers", "teller", f"--config={config}"]
    with Peer([CPC[0], *alone], ready="running consumer=teller", env={"PYTHONPATH": str(tmp_path)}) as peer:
        peer.wait_for("SegmentNotFound|is not there|no segment")
        (tmp_path / "elsewhere.xml").rename(tmp_path / "m.xml")
        with run(tmp_path / "partition.xml", "polling service=modbus"):
            wait_until((tmp_path / "state" / shm_prefix / "teller" / "took").exists)
        assert peer.stop() == 0
