"""Who gets which points, and which settings go before which."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest
from endpoint_config import Audience, Partition, Service
from modbus_tcp_client import ModbusClientManager
from peers import free_port
from plant import modbus_file
from process_image import Point

from cpc import names, service, service_segments, service_settings, stopping

POINTS = [Point(name=n, device=d) for d in ("A", "B") for n in ("M1", "M2", "$connected", "$last_error")]


def chosen(**audience) -> list[str]:
    return [p.full_name for p in service_segments.choose(POINTS, Audience(name="x", **audience))]


def test_an_audience_without_patterns_gets_all():
    assert len(chosen()) == len(POINTS)


def test_system_points_follow_the_points_of_their_device():
    assert chosen(include=("A/M1",)) == ["A/M1", "A/$connected", "A/$last_error"]


def test_a_pattern_excludes_points_and_system_points():
    assert chosen(exclude=("B/*", "*/$last_error")) == ["A/M1", "A/M2", "A/$connected"]


def test_letters_are_compared_as_they_are():
    assert chosen(include=("a/*",)) == []


@pytest.mark.parametrize(("arguments", "expected"), [
    (("modbus",), "modbus_shm"), (("opcua", "x"), "x_opcua_shm"), (("modbus", "x", "psmo"), "x_modbus_shm_psmo"),
])
def test_names_in_shared_memory(arguments, expected):
    assert names.segment_name(*arguments) == expected
    assert names.semaphore_name(*arguments) == expected.replace("_shm", "_semaphore")


def test_arguments_go_before_the_partition_file():
    partition = Partition(namespace="file", interval=5.0, services=(Service(kind="modbus", files=(Path("a"),)),))
    plain = service_settings.settings_for("modbus", (), None, partition=partition)
    assert (plain.namespace, plain.interval, plain.files) == ("file", 5.0, (Path("a"),))
    given = service_settings.settings_for("modbus", ["b"], None, partition=partition, namespace="", interval=0.0)
    assert (given.namespace, given.interval, given.files) == ("", 0.0, (Path("b"),))


def test_a_service_without_files_is_refused():
    with pytest.raises(service_settings.Refused, match="no opcua files"):
        service_settings.settings_for("opcua", (), None, partition=Partition())


class ForgetfulProducer:
    """Forgets a stop that comes before its loop, as a producer may."""

    def __init__(self) -> None:
        self.running = threading.Event()
        self.stopped = threading.Event()

    def stop_clients(self) -> None:
        if self.running.is_set():
            self.stopped.set()


def test_a_stop_that_comes_before_the_loop_is_not_lost():
    stop, producer = stopping.Stop(), ForgetfulProducer()
    with stop.ends(producer):
        stop.request()
        producer.running.set()
        assert producer.stopped.wait(10)
    assert stop.requested


def test_a_stop_asked_for_earlier_still_reaches_a_later_producer():
    stop, producer = stopping.Stop(), ForgetfulProducer()
    stop.request()
    producer.running.set()
    with stop.ends(producer):
        assert producer.stopped.wait(10)


def test_what_a_service_is_made_of_is_spared_by_the_collector_while_it_polls(tmp_path, shm_prefix, monkeypatch):
    """A full collection over 100,000 points held polling up for 0.1 s."""
    walked = []

    def look(self, *_):
        frozen = gc.get_freeze_count()
        walked.append((frozen, any(one is self for one in gc.get_objects())))

    monkeypatch.setattr(ModbusClientManager, "periodic_read", look)
    file = modbus_file(tmp_path / "m.xml", port=free_port())
    settings = service_settings.settings_for("modbus", [str(file)], None, partition=Partition(), namespace=shm_prefix)
    try:
        service.serve(settings, stopping.Stop())
    finally:
        gc.unfreeze()
    (frozen, is_walked), = walked
    assert frozen > 1000
    assert not is_walked
