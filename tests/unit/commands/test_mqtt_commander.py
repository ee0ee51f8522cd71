"""Commands and values from a broker, as the consumer hands them to the gate: once each, whatever is delivered again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from brokers import mosquitto, publish, subscriber
from command_channel import UNDER_WAY, Mode, Status
from consumers import context, plant, step_until
from endpoint_config import CommandSettings, MqttCommands, MqttConnection, MqttForward, Partition, apart, load, overlap
from gate_far import Far, far_end
from hypothesis import given
from hypothesis import strategies as st
from mqtt_link import Message, matches
from paho.mqtt.client import MQTTMessage
from process_image import Point

from cpc.consumers.mqtt_answers import MOST_KEPT
from cpc.consumers.mqtt_commands import MqttCommander

SET = "devices/PLC/Mode/set"


@dataclass
class Bench:
    """A consumer between a broker and a gate that the test plays."""

    consumer: MqttCommander
    far: Far
    published: list[dict[str, Any]] = field(default_factory=list)

    def deliver(self, topic: str, payload: object, *, dup: bool = False, retain: bool = False) -> None:
        message = MQTTMessage(topic=topic.encode())
        message.payload = json.dumps(payload).encode()
        message.dup, message.retain = dup, retain
        self.consumer._take(message)

    def command(self, **more: Any) -> dict[str, Any]:
        return {"request_id": "r", "value": 7, "expires": 99_000_000_000} | more

    def step(self) -> None:
        self.consumer._gate.step()

    def statuses(self) -> list[str]:
        return [document["status"] for document in self.published]


@pytest.fixture
def bench(tmp_path: Path, shm_name: str) -> Iterator[Bench]:
    points = [Point(name="Mode", device="PLC", type="uint16", writable=True)]
    settings = MqttCommands(
        kind="mqtt_commands", name="field", node="n", segments=(shm_name,),
        connection=MqttConnection(brokers=(("127.0.0.1", 1),), client_id="x"),
        forwards=(MqttForward(topic="field/+", point="PLC/Mode"),
                  MqttForward(topic="field/level", point="PLC/Level", key="level")))
    with far_end() as far, plant(shm_name, points):
        partition = Partition(commands=CommandSettings(rules=Path("r"), directory=far.path.parent))
        consumer = MqttCommander(context(tmp_path, shm_name, settings=settings, partition=partition))
        for feed in consumer.feeds:
            feed.follow()
        made = Bench(consumer, far)

        def take(message: Message) -> int:
            made.published.append(json.loads(message.payload) | {"topic": message.topic})
            return len(made.published)

        consumer.link.up, consumer.link.publish = True, take  # type: ignore[method-assign]
        made.step()
        far.accept()
        yield made
        consumer.stop()


def test_a_command_that_is_given_again_while_it_is_under_way_has_one_answer(bench: Bench) -> None:
    bench.deliver(SET, bench.command())
    bench.deliver(SET, bench.command(), dup=True)  # by the broker
    bench.deliver(SET, bench.command())  # by the publisher
    assert bench.far.hear().request_id == "r" and bench.far.heard_nothing()
    bench.far.say("r", Status.VERIFIED)
    bench.step()
    assert bench.statuses() == ["verified"]


def test_another_command_with_the_id_of_one_under_way_is_refused(bench: Bench) -> None:
    bench.deliver(SET, bench.command())
    bench.deliver(SET, bench.command(value=8))
    assert bench.statuses() == ["refused"] and "is under way" in bench.published[0]["message"]
    assert bench.far.hear().value == 7 and bench.far.heard_nothing()


def test_one_that_the_broker_gives_again_after_a_restart_is_asked_for_first(bench: Bench) -> None:
    bench.deliver(SET, bench.command(), dup=True)
    assert bench.far.hear().mode is Mode.QUERY
    bench.far.say("r", Status.NOT_VERIFIED, "it reads 5")
    bench.step()
    assert bench.statuses() == ["not-verified"] and bench.far.heard_nothing()


def test_the_fate_of_a_command_can_be_asked_for_while_it_is_under_way(bench: Bench) -> None:
    bench.deliver(SET, bench.command())
    bench.deliver(SET, bench.command(mode="query"))
    assert [bench.far.hear().mode for _ in range(2)] == [Mode.DIRECT, Mode.QUERY]
    bench.far.say("r", Status.ACCEPTED, UNDER_WAY)
    bench.step()
    assert [(d["status"], d["message"]) for d in bench.published] == [("accepted", UNDER_WAY)]


def test_a_value_is_forwarded_once_to_each_point_and_what_is_given_again_to_none(bench: Bench) -> None:
    bench.deliver("field/level", {"value": 3, "level": 4})
    bench.deliver("field/level", {"value": 3, "level": 4}, dup=True)
    bench.deliver("field/level", {"value": 3, "level": 4}, retain=True)
    heard = [bench.far.hear() for _ in range(2)]
    assert [(c.point, c.value) for c in heard] == [("PLC/Mode", 3), ("PLC/Level", 4)] and bench.far.heard_nothing()


def test_values_to_forward_cost_no_look_at_the_points(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    for feed in bench.consumer.feeds:
        monkeypatch.setattr(feed, "snapshot", lambda: looks.append(1))
    for level in range(5):
        bench.deliver("field/level", {"value": level, "level": 4})
    assert not looks


def test_the_same_topic_is_subscribed_to_once(bench: Bench) -> None:
    assert bench.consumer.link._filters == {"devices/+/+/set": 1, "field/+": 0}


def test_a_value_that_the_gate_refuses_is_counted_and_told_now_and_then(
        bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        bench.deliver("field/x", {"value": 3})
        bench.far.say(bench.far.hear().request_id, Status.REFUSED, "no rule lets user cpc write it")
        bench.step()
    assert bench.consumer.health().counts["$refused"] == 5
    assert caplog.text.count("no rule lets user cpc") == 1 and bench.published == []


# ---------------------------------------------------------------- a broker that goes away


def test_an_answer_that_comes_while_the_broker_is_away_is_published_when_it_is_back(tmp_path: Path,
                                                                                  shm_name: str) -> None:
    points = [Point(name="Mode", device="PLC", type="uint16", writable=True)]
    with far_end() as far, plant(shm_name, points), mosquitto(tmp_path) as first:
        settings = MqttCommands(
            kind="mqtt_commands", name="field", node="n", segments=(shm_name,),
            connection=MqttConnection(brokers=(("127.0.0.1", first.port),), client_id="x", retry_interval=0.2))
        partition = Partition(commands=CommandSettings(rules=Path("r"), directory=far.path.parent))
        consumer = MqttCommander(context(tmp_path, shm_name, settings=settings, partition=partition))
        step_until(consumer, lambda: consumer.link.up and consumer._gate.connected)
        step_until(consumer, lambda: not consumer.link._subscribing)
        far.accept()
        publish(first.port, SET, json.dumps({"request_id": "r", "value": 7, "expires": 99_000_000_000}))
        step_until(consumer, lambda: consumer._gate.pending("r") is not None)
        first.kill()
        far.say("r", Status.VERIFIED)
        step_until(consumer, lambda: not consumer.link.up and consumer._gate.pending("r") is None)
        with mosquitto(tmp_path / "second", port=first.port) as second, subscriber(second.port, "devices/#") as witness:
            step_until(consumer, lambda: bool(witness.messages("/result$")))
            step_until(consumer, lambda: not consumer._answers._on_the_way)
            (answer,) = witness.messages("/result$")
            assert json.loads(answer[3])["status"] == "verified"
            consumer.stop()


def test_answers_that_nobody_takes_are_bounded(bench: Bench) -> None:
    bench.consumer.link.up = False
    for number in range(MOST_KEPT + 5):
        bench.consumer._answers.publish("t", json.dumps({"number": number}).encode())
    assert bench.consumer.health().counts["$answers_lost"] == 5
    bench.consumer.link.up = True
    bench.consumer._answers.step()
    assert bench.published[0]["number"] == 5


# ---------------------------------------------------------------- filters

LEVEL = st.sampled_from(["a", "b", "", "+"])
FILTER = st.builds(lambda levels, many: "/".join([*levels, *many]), st.lists(LEVEL, min_size=1, max_size=3),
                   st.sampled_from([[], ["#"]]))
TOPIC = st.lists(st.sampled_from(["a", "b", "", "c"]), min_size=1, max_size=4).map("/".join)


@given(st.lists(FILTER, max_size=4), TOPIC)
def test_filters_that_are_apart_deliver_each_wanted_topic_once(filters: list[str], topic: str) -> None:
    made = apart(filters)
    delivered = sum(matches(one, topic) for one in made)
    assert delivered <= 1
    assert delivered or not any(matches(one, topic) for one in filters)


@given(FILTER, FILTER, TOPIC)
def test_filters_overlap_where_a_topic_matches_both(one: str, other: str, topic: str) -> None:
    assert overlap(one, other) == overlap(other, one)
    assert overlap(one, other) or not (matches(one, topic) and matches(other, topic))


def test_a_forward_that_takes_commands_too_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "partition.xml"
    path.write_text("<partition>\n<commands><rules>r.xml</rules></commands>\n<mqtt_commands>\n"
                    "<forward topic='devices/#' point='PLC/Mode'/>\n</mqtt_commands></partition>")
    (tmp_path / "r.xml").write_text("<command-rules/>")
    assert any(fault.line == 4 and "takes commands of set_topic too" in fault.message for fault in load(path).faults)
