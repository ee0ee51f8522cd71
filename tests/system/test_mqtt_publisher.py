"""The MQTT publisher against mosquitto, with mosquitto's own clients as the witnesses."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from brokers import mosquitto, subscriber
from consumers import plant, step_until
from endpoint_config import MqttAggregate, MqttRule, Secret
from mqtt_rig import POINTS, payloads, process, publisher, publishing, settings
from peers import wait_until

VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


@VERSIONS
def test_values_arrive_exactly_with_every_quality_of_service(tmp_path: Path, shm_name: str, version: str) -> None:
    rules = (MqttRule(qos=0, include=("*/Power",)), MqttRule(qos=1, include=("*/State",)), MqttRule(qos=2))
    with mosquitto(tmp_path) as broker, subscriber(broker.port, "devices/#") as witness:
        made = settings(broker.port, rules=rules, version=version)
        with publishing(tmp_path, shm_name, made) as (consumer, plant):
            plant.set({"Pump 1/Power": 0.1 + 0.2, "Pump 1/Energy": 2**63 - 1, "Pump 1/State": 'läuft "gut"'})
            plant.set({"Pump 1/Power": float("nan"), "Pump 1/Energy": -(2**63)})
            plant.set({"Fan/Power": -1.5}, quality=0x800A0000, source_time=1_700_000_000_123_456_789)
            step_until(consumer, lambda: len(witness.messages("devices/.*/[A-Z]")) >= 6)
            consumer.step(0.1)
            assert consumer.health().counts["$refused"] == 0
        found = [(topic, qos, json.loads(text)) for topic, qos, _, text in witness.messages("devices/.*/[A-Z]")]
    by_topic = {topic: [m for t, _, m in found if t == topic] for topic, _, _ in found}
    assert {topic: {q for t, q, _ in found if t == topic} for topic in by_topic} == {
        "devices/Pump 1/Power": {0}, "devices/Pump 1/Energy": {2}, "devices/Pump 1/State": {1},
        "devices/fan-7/Power": {0}}
    assert [m["value"] for m in by_topic["devices/Pump 1/Power"]] == [0.1 + 0.2, None]
    assert [m["value"] for m in by_topic["devices/Pump 1/Energy"]] == [2**63 - 1, -(2**63)]
    (state,), (fan,) = by_topic["devices/Pump 1/State"], by_topic["devices/fan-7/Power"]
    assert list(state) == ["unit_id", "sensor_type", "value", "timestamp", "quality", "unit"]
    assert (state["unit_id"], state["sensor_type"], state["value"]) == ("Pump 1", "State", 'läuft "gut"')
    assert (fan["unit_id"], fan["quality"], fan["unit"]) == ("fan-7", 0x800A0000, "kW")
    assert fan["timestamp"] == "2023-11-14T22:13:20.123456789Z"


def test_what_could_never_be_read_is_told_as_bad_without_a_value(tmp_path: Path, shm_name: str) -> None:
    rules = (MqttRule(qos=1, include=("*/Power", "*/State")),)
    with mosquitto(tmp_path) as broker, subscriber(broker.port, "devices/#") as witness, \
            plant(shm_name, POINTS) as plant_:
        plant_.set({"Pump 1/Power": 0}, quality=0x80340000, source_time=0)  # before the publisher comes
        consumer = publisher(tmp_path, shm_name, settings(broker.port, rules=rules))
        step_until(consumer, lambda: len(witness.messages("devices/.*/Power")) >= 1)
        plant_.set({"Pump 1/State": ""}, quality=0x800A0000, source_time=0)
        step_until(consumer, lambda: len(witness.messages("devices/.*/State")) >= 1)
        consumer.stop()
        told = [json.loads(text) for _, _, _, text in witness.messages("devices/.*/(Power|State)")]
    assert [(m["sensor_type"], m["value"], m["quality"]) for m in told] == [
        ("Power", None, 0x80340000), ("State", None, 0x800A0000)]


@VERSIONS
def test_birth_farewell_and_will_stand_on_the_heartbeat_and_the_devices_states_are_retained(
    tmp_path: Path, shm_name: str, version: str,
) -> None:
    with mosquitto(tmp_path) as broker:
        made = settings(broker.port, version=version)
        with publishing(tmp_path, shm_name, made) as (consumer, plant), \
                subscriber(broker.port, "system/#", "devices/+/status") as early:
            plant.set({"Pump 1/$connected": 1, "Fan/$connected": 0})
            step_until(consumer, lambda: len(early.messages("status")) == 2)
            with subscriber(broker.port, "system/#", "devices/+/status") as late:
                wait_until(lambda: len(late.messages()) == 3)
                assert all(retained for _, _, retained, _ in late.messages())
                said = {topic: json.loads(text)["status"] for topic, _, _, text in late.messages()}
                assert said == {"system/heartbeat/n1": "online", "devices/Pump 1/status": "online",
                                "devices/fan-7/status": "offline"}
            plant.set({"Fan/$connected": 1})
            step_until(consumer, lambda: len(early.messages("fan-7/status")) == 2)
        with subscriber(broker.port, "system/#") as after:
            wait_until(after.messages)
            ((_, _, retained, text),) = after.messages()
            assert (retained, json.loads(text)["status"], json.loads(text)["reason"]) == (True, "offline", "stopped")


def test_the_broker_tells_of_a_publisher_that_was_killed(tmp_path: Path, shm_prefix: str) -> None:
    with mosquitto(tmp_path) as broker, subscriber(broker.port, "system/#") as witness:
        config = tmp_path / "partition.xml"
        config.write_text(f"<partition><namespace>{shm_prefix}</namespace><state>state</state><mqtt><broker>127.0.0.1:"
                          f"{broker.port}</broker><node>line 4/a</node></mqtt></partition>")
        with process(config) as peer:
            wait_until(witness.messages)
            peer.process.kill()
            wait_until(lambda: len(witness.messages()) == 2)
    topics = [topic for topic, _, _, _ in witness.messages()]
    assert topics == ["system/heartbeat/line 4%2Fa"] * 2
    assert [m["status"] for m in payloads(witness.messages())] == ["online", "offline"]
    assert payloads(witness.messages())[1]["reason"] == "connection lost"


@pytest.mark.parametrize("qos", [1, 2])
def test_a_refused_topic_is_told_counted_and_given_up(tmp_path: Path, shm_name: str, qos: int) -> None:
    (tmp_path / "acl").write_text("user line4\ntopic write devices/fan-7/#\ntopic write system/#\n")
    (tmp_path / "passwords").write_text("line4:" + mosquitto_password(tmp_path) + "\n")
    lines = (f"acl_file {tmp_path / 'acl'}", f"password_file {tmp_path / 'passwords'}", "user root")
    with mosquitto(tmp_path, *lines, anonymous=False) as broker:
        made = settings(broker.port, username="line4", password=Secret(value="secret"), rules=(MqttRule(qos=qos),))
        with publishing(tmp_path, shm_name, made) as (consumer, values):
            values.set({"Pump 1/Power": 5, "Fan/Power": 6})
            step_until(consumer, lambda: consumer.health().counts["$refused"] >= 1 and not consumer.outbox.in_flight)
            assert consumer.health().connected
            assert "devices/Pump 1/" in consumer.health().message
            assert "reason 0x87" in consumer.health().message


def test_a_wrong_password_is_refused_told_and_shown_nowhere(tmp_path: Path, shm_name: str) -> None:
    (tmp_path / "passwords").write_text("line4:" + mosquitto_password(tmp_path) + "\n")
    with mosquitto(tmp_path, f"password_file {tmp_path / 'passwords'}", "user root", anonymous=False) as broker:
        wrong = settings(broker.port, username="line4", password=Secret(value="guess"))
        assert "guess" not in repr(wrong)
        with plant(shm_name, POINTS):
            consumer = publisher(tmp_path, shm_name, wrong)
            try:
                step_until(consumer, lambda: consumer.health().message or consumer.link.up)
                assert not consumer.link.up
                assert "not authorized; check user, password" in consumer.health().message
                assert "guess" not in consumer.health().message
            finally:
                consumer.stop()


def mosquitto_password(folder: Path) -> str:
    """The hash of `secret`, as mosquitto_passwd makes it."""
    import subprocess

    from peers import require_program

    path = folder / "made"
    path.touch()
    subprocess.run([require_program("mosquitto_passwd"), "-b", str(path), "line4", "secret"], check=True,
                   capture_output=True)
    return path.read_text().strip().partition(":")[2]


def test_deadbands_silences_snapshots_and_compact_arrays_do_what_their_rules_say(tmp_path: Path, shm_name: str) -> None:
    rules = (
        MqttRule(qos=1, include=("Pump 1/Power",), deadband=1.0, maximum_silence=0.6),
        MqttRule(qos=1, include=("Pump 1/Energy",), deadband_percent=10.0),
        MqttRule(qos=1, include=("Fan/*",), every=0.3),
        MqttRule(qos=1, include=("Pump 1/State", "Pump 1/$connected"), format="compact", topic="c/{site}/{id}"),
    )
    with mosquitto(tmp_path) as broker, subscriber(broker.port, "devices/#", "c/#") as witness:
        with publishing(tmp_path, shm_name, settings(broker.port, rules=rules)) as (consumer, plant):
            began = time.monotonic()
            for value in (10.0, 10.9, 9.1, 11.0, 11.5, 30.0):
                plant.set({"Pump 1/Power": value, "Pump 1/Energy": int(value * 10), "Fan/Power": value})
            plant.set({"Pump 1/Power": 30.5}, quality=0x40000000)
            plant.set({"Pump 1/State": "on", "Pump 1/$connected": 1})
            step_until(consumer, lambda: len(witness.messages("Pump 1/Power")) >= 6)
            silence = time.monotonic() - began
        power = [(m["value"], m["quality"]) for m in payloads(witness.messages("Pump 1/Power"))]
        assert power[:4] == [(10.0, 0), (11.0, 0), (30.0, 0), (30.5, 0x40000000)]
        assert set(power[4:]) == {(30.5, 0x40000000)}
        assert silence > 1.0
        assert [m["value"] for m in payloads(witness.messages("Pump 1/Energy"))] == [100, 110, 300]
        assert 2 <= len(witness.messages("fan-7/Power")) <= 1 + silence / 0.3 + 2
        (together,) = payloads(witness.messages("c/Roof/Pump 1"))
        assert together["sensor_type"] == ["State", "$connected"]
        assert (together["value"], together["quality"]) == (["on", 1], [0, 0])
        assert len(together["offset_ns"]) == 2


def test_an_aggregate_has_the_worst_quality_of_its_parts_and_the_values_of_those_that_are_not_bad(
    tmp_path: Path, shm_name: str,
) -> None:
    aggregates = tuple(
        MqttAggregate(topic="sites/{site}/{name}", name=f, function=f, include=("*/Power",), interval=0.2)
        for f in ("sum", "mean", "minimum", "maximum"))
    with mosquitto(tmp_path) as broker, subscriber(broker.port, "sites/#") as witness:
        with publishing(tmp_path, shm_name, settings(broker.port, aggregates=aggregates)) as (consumer, plant):
            plant.set({"Pump 1/Power": 10.5, "Fan/Power": 2.0})
            step_until(consumer, lambda: '"value":12.5' in witness.peer.output and "maximum" in witness.peer.output)
            plant.set({"Fan/Power": 2.0}, quality=0x80050000)
            step_until(consumer, lambda: '"quality":2147811328' in witness.peer.output)
            step_until(consumer, lambda: payloads(witness.messages("maximum"))[-1]["quality"])
        good = {m["sensor_type"]: m for m in payloads(witness.messages()) if not m["quality"] and m["parts"] == 2}
        assert {name: m["value"] for name, m in good.items()} == {
            "sum": 12.5, "mean": 6.25, "minimum": 2.0, "maximum": 10.5}
        bad = payloads(witness.messages("sum"))[-1]
        assert (bad["value"], bad["quality"], bad["unit_id"], bad["unit"]) == (10.5, 0x80050000, "Roof", "kW")


def test_a_journal_that_came_round_is_counted_and_answered_by_the_values_as_they_stand(
    tmp_path: Path, shm_name: str,
) -> None:
    with mosquitto(tmp_path) as broker, subscriber(broker.port, "devices/#") as witness:
        with publishing(tmp_path, shm_name, settings(broker.port), entries=64) as (consumer, plant):
            plant.set({"Fan/Power": 7.0})
            step_until(consumer, lambda: witness.messages("fan-7"))
            for value in range(200):
                plant.set({"Pump 1/Power": value})
            step_until(consumer, lambda: payloads(witness.messages("Pump 1/Power"))[-1:] and
                       payloads(witness.messages("Pump 1/Power"))[-1]["value"] == 199)
            lost = sum(feed.lost for feed in consumer.feeds)
            arrived = [m["value"] for m in payloads(witness.messages("Pump 1/Power"))]
        assert lost > 0
        assert lost + len(arrived) == 200
        assert arrived == sorted(arrived)


def test_a_name_that_mqtt_forbids_arrives_encoded_and_its_own_system_points_only_when_asked_for(
    tmp_path: Path, shm_name: str,
) -> None:
    points = ["a+b/#1/%/ü", "a+b/$$x"]
    with mosquitto(tmp_path) as broker, subscriber(broker.port, "devices/#") as witness:
        with publishing(tmp_path, shm_name, settings(broker.port), points=points) as (consumer, plant):
            plant.set({"a+b/#1/%/ü": 1, "a+b/$$x": 2})
            step_until(consumer, lambda: len(witness.messages()) == 2)
        assert sorted(topic for topic, _, _, _ in witness.messages()) == [
            "devices/a%2Bb/%231%2F%25%2Fü", "devices/a%2Bb/%24$x"]
