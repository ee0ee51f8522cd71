"""The producer `dnp3`: what an outstation says stands in dnp3_shm, and a dead one turns Bad and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from dnp3_served import served, values, wait_for
from endpoint_config import Dnp3Outstation, Dnp3Point, load, outstations_to_xml
from process_image import ImageError, attach, create

pytest.importorskip("opendnp3", reason="peer absent: yadnp3; `make test` installs it")
from acquisition import Producer
from dnp3_master import Dnp3MasterManager

TYPES = [("bit", "binary input"), ("two", "double-bit input"), ("relay", "binary output"), ("count", "counter"),
         ("float", "analog input"), ("set", "analog output"), ("text", "octet string")]


def outstation(port: int, count: int = 10) -> Dnp3Outstation:
    points = [Dnp3Point(name=f"{name}{i:04}", type=kind, index=i) for name, kind in TYPES for i in range(count)]
    return Dnp3Outstation(alias="Feeder", port=port, timeout=1.0, interval=0.1, points=tuple(points))


@contextmanager
def polling(path: Path, name: str) -> Iterator[Any]:
    manager = Dnp3MasterManager(str(path), interval=0.1)
    manager.parse_clients()
    assert isinstance(manager, Producer)
    with create(name, manager.points, journal_entries=65536) as writer:
        manager.start_clients()
        thread = threading.Thread(target=manager.periodic_read, args=(0.1, [writer], [None]))
        thread.start()
        try:
            with attach(name) as image:
                yield image
        finally:
            manager.stop_clients()
            thread.join(10)
            assert not thread.is_alive()
            writer.close(unlink=True)


def test_the_file_goes_round(tmp_path):
    path = tmp_path / "dnp3.xml"
    path.write_bytes(outstations_to_xml([outstation(20001)]))
    file = load(path)
    assert file.faults == () and file.dnp3 == (outstation(20001),) and file.points == 70
    path.write_text(path.read_text().replace("bit0001", "bit0000"))
    assert "each name once" in load(path).faults[0].message


def test_values_changes_and_a_dead_outstation(tmp_path, shm_name):
    path = tmp_path / "dnp3.xml"
    with ExitStack() as stack:
        plant = stack.enter_context(served(tmp_path, shm_name, count=10))
        path.write_bytes(outstations_to_xml([outstation(plant.port)]))
        with polling(path, f"{shm_name}2") as image:
            wait_for(lambda: image.snapshot()["Feeder/float0003"].quality == 0, "good values")
            found = image.snapshot()
            for name, value in values(10).items():
                assert found["Feeder/" + name.partition("/")[2]].value == value, name
            wait_for(lambda: image.snapshot()["Feeder/$connected"].value == 1, "connected")
            see_every_change(plant, image)
            plant.plant.set({"P/float0004": 1.0}, quality=0x800A0000)
            wait_for(lambda: image.snapshot()["Feeder/float0004"].quality_name == "BadNoCommunication", "a lost point")
            stack.close()
            wait_for(lambda: image.snapshot()["Feeder/bit0000"].quality_name == "BadCommunicationError", "Bad")
            wait_for(lambda: image.snapshot()["Feeder/$connected"].value == 0, "not connected")
            assert "Feeder" in image.snapshot()["Feeder/$last_error"].value


def see_every_change(plant: Any, image: Any) -> None:
    cursor = image.cursor()
    moment = 1_700_000_000_123_000_000
    for value in range(20):
        plant.plant.set({"P/float0003": 100.5 + value}, source_time=moment + value * 1_000_000)
    wait_for(lambda: image.snapshot()["Feeder/float0003"].value == 119.5, "the last change")
    seen = [(c.value(i), int(c.records[i]["source_time"])) for c in image.changes(cursor) for i in range(len(c))
            if c.points[c.rows[i]].name == "float0003"]
    assert seen == [(100.5 + v, moment + v * 1_000_000) for v in range(20)]


def test_cpc_run_polls_an_outstation(tmp_path, shm_name, shm_prefix):
    with served(tmp_path, shm_name, count=10) as plant:
        (tmp_path / "dnp3.xml").write_bytes(outstations_to_xml([outstation(plant.port)]))
        (tmp_path / "partition.xml").write_text(
            '<partition><service kind="dnp3"><file>dnp3.xml</file></service></partition>')
        command = [sys.executable, "-m", "cpc", "run", "--config", str(tmp_path / "partition.xml"),
                   "--namespace", shm_prefix]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ})
        try:
            def good() -> bool:
                try:
                    with attach(f"{shm_prefix}_dnp3_shm") as image:
                        return image.snapshot()["Feeder/float0003"].quality == 0
                except ImageError:  # not there yet
                    return False
            wait_for(good, "good values", timeout=40.0)
        finally:
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=20)[1]
        assert process.returncode == 0, said
