"""What every consumer promises (cpc.consumers.Consumer), on every consumer there is and on one of the base alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from consumers import Collector, Plant, context, plant, step_until
from endpoint_config import ConsumerSettings, Dnp3Consumer, MqttCommands, MqttConnection, MqttSettings, OwnConsumer
from peers import PATIENCE
from process_image import attach

from cpc.consumers import Consumer, Context
from cpc.consumers.process import run
from cpc.consumers.registry import KINDS, load

POINTS = ["A/M1", "A/M2", "B/M1"]


@dataclass(frozen=True)
class Kind:
    """One consumer and settings with which nothing outside is needed."""

    make: Callable[[Context], Consumer]
    settings: ConsumerSettings
    reads_journal: bool = True
    """False for one that needs to know which points there are, and no change of theirs."""


COLLECTOR = Kind(Collector, OwnConsumer(kind="consumer", name="c", module="consumers:Collector"))


def own_settings(kind: str) -> ConsumerSettings:
    """Settings of a kind of the partition's own, whose peer is not there."""
    if kind == "dnp3":
        return Dnp3Consumer(kind="dnp3", name="c", port=0)
    if kind == "mqtt":
        nobody = MqttConnection(client_id="nobody", brokers=(("127.0.0.1", 9),))
        return MqttSettings(kind="mqtt", name="mqtt", connection=nobody, node="test")
    if kind == "mqtt_commands":
        nobody = MqttConnection(client_id="nobody", brokers=(("127.0.0.1", 9),))
        return MqttCommands(kind=kind, name=kind, connection=nobody, node="test")
    raise AssertionError(f"{kind}: write down here settings with which its contract can be tested")


@pytest.fixture(params=["base", *sorted(KINDS)])
def kind(request: pytest.FixtureRequest) -> Kind:
    name = request.param
    if name == "base":
        return COLLECTOR
    return Kind(load(KINDS[name]), own_settings(name), reads_journal=name != "mqtt_commands")


def test_it_has_every_member_of_the_contract(kind: Kind, tmp_path: Path) -> None:
    consumer = kind.make(context(tmp_path, settings=kind.settings))
    assert isinstance(consumer, Consumer)
    for point in consumer.metrics:
        assert point.is_system
        assert not point.is_text
        assert point.description, point.name


def test_it_starts_without_segments_and_takes_them_when_they_come_and_come_again(
    kind: Kind, tmp_path: Path, shm_name: str,
) -> None:
    consumer = kind.make(context(tmp_path, shm_name, settings=kind.settings))
    consumer.start()
    consumer.step(0.01)
    assert not consumer.health().connected
    take_one_life(consumer, shm_name, POINTS, kind)
    take_one_life(consumer, shm_name, POINTS[:2], kind)
    consumer.stop()


def take_one_life(consumer: Any, shm_name: str, points: list[str], kind: Kind) -> None:
    with plant(shm_name, points) as plant_:
        feed = consumer.feeds[0]
        before = feed.read
        plant_.set({"A/M1": 1})
        step_until(consumer, lambda: feed.image and len(feed.image.points) == len(points))
        plant_.set({"A/M1": 2})
        step_until(consumer, lambda: feed.read > before or not kind.reads_journal)


def test_a_step_waits_no_longer_than_it_was_told_to(kind: Kind, tmp_path: Path, shm_name: str) -> None:
    consumer = kind.make(context(tmp_path, shm_name, settings=kind.settings))
    consumer.start()
    with plant(shm_name, POINTS):
        for _ in range(3):
            consumer.step(0.05)
        began = time.monotonic()
        consumer.step(0.2)
        assert time.monotonic() - began < 1.0
    consumer.stop()


def test_every_count_that_it_tells_is_a_metric_and_every_metric_is_told(kind: Kind, tmp_path: Path) -> None:
    consumer = kind.make(context(tmp_path, settings=kind.settings))
    consumer.start()
    consumer.step(0.01)
    assert set(consumer.health().counts) == {point.name for point in consumer.metrics}
    consumer.stop()


def test_it_runs_as_a_process_would_with_its_status_in_a_segment_and_ends_in_time(
    kind: Kind, tmp_path: Path, shm_prefix: str,
) -> None:
    told = context(tmp_path, f"{shm_prefix}_modbus_shm", settings=kind.settings)
    stopping = threading.Event()
    thread = threading.Thread(target=run, args=(told, stopping), kwargs={"namespace": shm_prefix})
    with plant(f"{shm_prefix}_modbus_shm", POINTS) as plant_:
        thread.start()
        try:
            image = wait_for_segment(f"{shm_prefix}_status_shm_{told.name}")
            entries = f"{told.name}/$entries"
            value, deadline = 0, time.monotonic() + PATIENCE
            while (seen := image.snapshot()[entries].value) is None or (kind.reads_journal and not seen):
                value += 1
                plant_.set({"A/M1": value})
                assert image.wait(2.0) or time.monotonic() < deadline
            assert image.snapshot()[f"{told.name}/$lost"].value == 0
            assert not image.snapshot().stale
        finally:
            stopping.set()
            began = time.monotonic()
            thread.join(5)
        assert time.monotonic() - began < 1.5
        assert not thread.is_alive()
        image.close()


def wait_for_segment(name: str) -> Any:
    from process_image import ImageError

    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return attach(name)
        except ImageError:
            assert time.monotonic() < deadline, name
            time.sleep(0.01)


def test_the_base_hands_on_every_change_once_and_goes_on_from_its_cursor_in_another_life(
    tmp_path: Path, shm_name: str,
) -> None:
    with plant(shm_name, POINTS) as plant_:
        first = Collector(context(tmp_path, shm_name))
        first.start()
        step_until(first, lambda: first.snapshots)
        feed(plant_, range(1, 50))
        step_until(first, lambda: len(first.values) >= 49)
        first.stop()
        feed(plant_, range(50, 100))
        second = Collector(context(tmp_path, shm_name))
        second.start()
        step_until(second, lambda: len(second.values) >= 50)
        feed(plant_, range(100, 110))
        step_until(second, lambda: len(second.values) >= 60)
        assert [v for _, v in first.values + second.values] == list(range(1, 110))
        assert second.snapshots == 0
        second.stop()


def feed(plant_: Plant, values: range) -> None:
    for value in values:
        plant_.set({"A/M1": value})


def test_the_base_counts_what_a_lapped_journal_lost_and_gives_a_snapshot(tmp_path: Path, shm_name: str) -> None:
    with plant(shm_name, POINTS, journal_entries=64) as plant_:
        consumer = Collector(context(tmp_path, shm_name))
        consumer.start()
        step_until(consumer, lambda: consumer.snapshots == 1)
        feed(plant_, range(1, 201))
        step_until(consumer, lambda: consumer.snapshots == 2)
        assert consumer.feeds[0].lost + len(consumer.values) == 200
        assert consumer.feeds[0].lost > 0
        consumer.stop()


def test_the_base_wakes_for_a_publish_and_not_by_polling(tmp_path: Path, shm_name: str) -> None:
    with plant(shm_name, POINTS) as plant_:
        consumer = Collector(context(tmp_path, shm_name))
        consumer.start()
        step_until(consumer, lambda: consumer.snapshots)
        consumer.step(0.3)  # the waker attaches
        timer = threading.Timer(0.1, plant_.set, ({"A/M1": 7},))
        timer.start()
        began = time.monotonic()
        consumer.wait(10.0)
        assert time.monotonic() - began < 5.0
        timer.join()
        step_until(consumer, lambda: consumer.values)
        consumer.stop()


def test_a_kept_cursor_that_makes_no_sense_begins_at_a_snapshot(tmp_path: Path, shm_name: str) -> None:
    with plant(shm_name, POINTS) as plant_:
        for text in ("{", '{"x": 1}', f'{{"{shm_name}": "{plant_.writer.epoch:016x}:99999999"}}'):
            (tmp_path / "test").mkdir(exist_ok=True)
            (tmp_path / "test" / "cursors.json").write_text(text)
            consumer = Collector(context(tmp_path, shm_name))
            consumer.start()
            step_until(consumer, lambda consumer=consumer: consumer.snapshots)
            consumer.stop()
