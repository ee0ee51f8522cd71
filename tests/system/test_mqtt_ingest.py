"""What others publish becomes points: right messages are written, all others counted by reason and nothing of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from acquisition import Producer, Publisher
from brokers import mosquitto, publish
from hypothesis import given
from hypothesis import strategies as st
from mqtt_ingest import REASONS, MqttIngestManager, Reading, RefusedMessage, parse
from mqtt_ingest.messages import check_type
from peers import free_port, wait_until
from plant import attach_when_there, running
from process_image import attach, create

FILE = """<mqtt-sources><source name="scada"><broker>127.0.0.1:{port}</broker><topic>plant/+/data</topic>
<retry_interval>0.3</retry_interval>
<unit id="tank-3" alias="Tank 3"><point name="Level"><unit>m</unit><minimum>0</minimum><maximum>12</maximum></point>
<point name="Count"><datatype>int64</datatype></point><point name="Runs"><datatype>bool</datatype></point>
<point name="Text"><datatype>string</datatype></point><point name="Small"><datatype>float32</datatype></point></unit>
</source></mqtt-sources>"""


def made(folder: Path, port: int) -> MqttIngestManager:
    path = folder / "sources.xml"
    path.write_text(FILE.format(port=port))
    manager = MqttIngestManager(path)
    manager.parse_clients()
    return manager


@contextmanager
def taking(folder: Path, port: int, shm_name: str) -> Iterator[Any]:
    """The producer in a thread, its image, connected."""
    manager = made(folder, port)
    assert isinstance(manager, Producer)
    with create(shm_name, manager.points) as writer, attach(shm_name) as image:
        manager.start_clients()
        thread = threading.Thread(target=manager.periodic_read, args=(1.0, [writer], [None]))
        thread.start()
        try:
            wait_until(lambda: manager.health().connected == 1)
            yield image
        finally:
            began = time.monotonic()
            manager.stop_clients()
            thread.join(5)
            assert time.monotonic() - began < 2.0
        writer.close(unlink=True)


def message(sensor: str = "Level", value: object = 1.5, *, unit: object = "tank-3", stamp: object = None) -> str:
    stamp = datetime.now(UTC).isoformat() if stamp is None else stamp
    return json.dumps({"unit_id": unit, "sensor_type": sensor, "value": value, "timestamp": stamp})


def count(image: Any, name: str) -> int:
    return int(image.snapshot()[f"scada/{name}"].value or 0)


def test_right_messages_become_points_with_their_own_time(tmp_path, shm_name):
    with mosquitto(tmp_path) as broker, taking(tmp_path, broker.port, shm_name) as image:
        milliseconds = int(time.time() * 1000) - 5000
        publish(broker.port, "plant/a/data", message("Level", 3.25, stamp=milliseconds))
        publish(broker.port, "plant/b/data", message("Count", 2**63 - 1), qos=2)
        publish(broker.port, "plant/b/data", message("Runs", True), qos=0)
        publish(broker.port, "plant/b/data", message("Text", "läuft"))
        wait_until(lambda: count(image, "accepted") == 4)
        snapshot = image.snapshot()
        values = {name: snapshot[f"Tank 3/{name}"].value for name in ("Level", "Count", "Runs", "Text")}
        assert values == {"Level": 3.25, "Count": 2**63 - 1, "Runs": True, "Text": "läuft"}
        assert snapshot["Tank 3/Level"].source_time == milliseconds * 1_000_000
        assert {snapshot[f"Tank 3/{name}"].quality for name in values} == {0}
        assert snapshot["Tank 3/Small"].value is None
        assert snapshot["Tank 3/$connected"].value == 1
        publish(broker.port, "plant/a/data", message("Level", 13))
        wait_until(lambda: image.snapshot()["Tank 3/Level"].quality == 0x40940000)


def test_each_wrong_message_is_counted_with_its_reason_and_writes_nothing(tmp_path, shm_name):
    old = "2020-01-01T00:00:00Z"
    wrong = [
        ("oversize", b"x" * 70_000), ("invalid_json", b"{"), ("invalid_json", b"\xff\xfe"), ("invalid_json", b"[1]"),
        ("invalid_json", b'{"unit_id":"tank-3","sensor_type":"Level","value":NaN,"timestamp":1}'),
        ("invalid_json", b"[" * 50_000), ("unknown_unit", message(unit="tank-4")), ("unknown_point", message("Lvl")),
        ("wrong_type", message(value="1.5")), ("wrong_type", message("Count", 1.5)),
        ("wrong_type", message("Count", 2**63)), ("wrong_type", message("Runs", 1)),
        ("wrong_type", message("Small", 1e39)), ("wrong_type", message("Level", True)),
        ("invalid_time", message(stamp="2026-01-31T12:00:00")), ("invalid_time", message(stamp="2026-02-30T12:00:00Z")),
        ("stale_time", message(stamp=old)), ("stale_time", message(stamp="2200-01-01T00:00:00+01:00")),
    ]
    expected = {reason: sum(r == reason for r, _ in wrong) for reason in REASONS}
    with mosquitto(tmp_path) as broker, taking(tmp_path, broker.port, shm_name) as image:
        for _, payload in wrong:
            publish(broker.port, "plant/x/data", payload)
        wait_until(lambda: {name: count(image, name) for name in REASONS} == expected, what=str(expected))
        snapshot = image.snapshot()
        assert all(snapshot[f"Tank 3/{name}"].value is None for name in ("Level", "Count", "Runs", "Text", "Small"))
        assert count(image, "accepted") == 0
        assert "Tank 3: message: " in snapshot["Tank 3/$last_error"].value


def test_without_its_broker_a_unit_is_bad_and_it_comes_back_with_its_subscription(tmp_path, shm_name):
    port = free_port()
    with mosquitto(tmp_path, port=port) as broker, taking(tmp_path, port, shm_name) as image:
        publish(port, "plant/a/data", message(value=2.0))
        wait_until(lambda: image.snapshot()["Tank 3/Level"].quality == 0)
        broker.kill()
        wait_until(lambda: image.snapshot()["Tank 3/Level"].quality == 0x80050000)
        assert image.snapshot()["Tank 3/Level"].value == 2.0
        assert image.snapshot()["Tank 3/$connected"].value == 0
        with mosquitto(tmp_path, port=port):
            wait_until(lambda: image.snapshot()["Tank 3/$connected"].value == 1)
            publish(port, "plant/a/data", message(value=4.0))
            wait_until(lambda: image.snapshot()["Tank 3/Level"].value == 4.0)


def test_a_partition_takes_messages_into_its_segment_and_publishes_them_again(tmp_path, shm_prefix):
    with mosquitto(tmp_path) as broker:
        (tmp_path / "sources.xml").write_text(FILE.format(port=broker.port))
        config = tmp_path / "partition.xml"
        config.write_text(f"<partition><namespace>{shm_prefix}</namespace><service kind='mqtt'><file>sources.xml"
                          "</file></service></partition>")
        with running("run", "--config", config, ready="polling service=mqtt"), \
                attach_when_there(f"{shm_prefix}_mqtt_shm") as image:
            assert image.semaphore_name.endswith(f"{shm_prefix}_mqtt_semaphore")
            wait_until(lambda: image.snapshot()["Tank 3/$connected"].value == 1)
            publish(broker.port, "plant/a/data", message(value=7.5))
            wait_until(lambda: image.snapshot()["Tank 3/Level"].value == 7.5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3), max_leaves=6)


@given(st.dictionaries(st.sampled_from(["unit_id", "sensor_type", "value", "timestamp", "quality", "x"]), JSON))
def test_any_json_is_a_reading_or_refused_with_a_known_reason(found):
    try:
        reading = parse(json.dumps(found).encode(), 65536)
    except RefusedMessage as refused:
        assert refused.reason in REASONS
    else:
        assert isinstance(reading, Reading)
        for kind in ("bool", "int8", "uint64", "float32", "float64", "string"):
            try:
                check_type(reading.value, kind)
            except RefusedMessage as refused:
                assert refused.reason == "wrong_type"


@pytest.mark.parametrize("size", [10_000, pytest.param(100_000, marks=pytest.mark.campaign)])
def test_random_payloads_crash_nothing_and_write_nothing_invalid(tmp_path, shm_name, size):
    """Bytes, and right messages with bytes changed, through the very code that takes them from the link."""
    from mqtt_ingest.manager import _Intake

    manager = made(tmp_path, free_port())
    rng = np.random.default_rng(7)
    with create(shm_name, manager.points) as writer:
        publisher = Publisher(manager.points, [writer], [None])
        intake = _Intake(manager.sources[0], publisher)
        rows = [row for row, p in enumerate(publisher.points) if p.device == "Tank 3" and not p.is_system]

        class Message:
            payload = b""

        for turn in range(size):
            right = message(rng.choice(["Level", "Count", "Runs", "Text", "Small"]), rng.choice([1, 2.5, "x"]).item())
            payload = bytearray(right.encode()) if turn % 2 else bytearray(rng.bytes(int(rng.integers(0, 200))))
            for _ in range(int(rng.integers(0, 4))):
                if payload:
                    payload[int(rng.integers(0, len(payload)))] = int(rng.integers(0, 256))
            Message.payload = bytes(payload)
            before, accepted = publisher.records.copy(), intake._counts["accepted"]
            intake._on_message(Message)
            if intake._counts["accepted"] == accepted:
                assert (publisher.records[rows] == before[rows]).all()
        assert sum(intake._counts.values()) == size
        assert intake._counts["accepted"] > 0
        writer.close(unlink=True)
