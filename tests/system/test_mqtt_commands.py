"""Commands over MQTT: mosquitto between a publisher of the field and the gate, a simulated device as the witness."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from brokers import Broker, Subscriber, mosquitto, publish, subscriber
from gate_rig import RULES, GatePlant, gate_plant
from peers import wait_until

MORE = """<device alias="PLC" id="plc-1"/><device alias="UA" id="ua-1"/>
<mqtt_commands><broker>127.0.0.1:{port}</broker><forward topic="field/level" point="PLC/Mode"/></mqtt_commands>"""


@dataclass
class Field:
    """What stands between the broker and the device."""

    plant: GatePlant
    broker: Broker
    answers: Subscriber

    def ask(self, point: str, value: Any, *, expires: float = 20.0, device: str = "plc-1", **more: Any) -> str:
        """Publish a command; its request_id."""
        request_id = more.pop("request_id", secrets.token_hex(6))
        when = (datetime.now(UTC) + timedelta(seconds=expires)).isoformat()
        document = {"request_id": request_id, "value": value, "expires": when} | more
        publish(self.broker.port, f"devices/{device}/{point}/set", json.dumps(document))
        return request_id

    def said(self, request_id: str) -> list[dict[str, Any]]:
        """Answers to one command, in order."""
        found = [json.loads(payload) for _, _, _, payload in self.answers.messages("/result$")]
        return [document for document in found if document.get("request_id") == request_id]

    def final(self, request_id: str) -> dict[str, Any]:
        """Its last answer, waited for."""
        wait_until(lambda: any(d["status"] != "accepted" for d in self.said(request_id)))
        return self.said(request_id)[-1]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with mosquitto(tmp_path_factory.mktemp("broker")) as broker, \
            subscriber(broker.port, "devices/#") as answers, \
            gate_plant(f"t{secrets.token_hex(4)}", more=MORE.format(port=broker.port),
                       rules=RULES.format(user="*", deadline=2.0)) as plant:
        made = Field(plant, broker, answers)
        opened = [""]

        def is_open() -> bool:
            if not made.said(opened[-1]):
                opened.append(made.ask("Mode", 1))
            return any(made.said(request_id) for request_id in opened)

        wait_until(is_open, 30.0, interval=0.2)
        yield made


@pytest.mark.parametrize(("point", "value"), [("Setpoint", 47.5), ("Mode", 9), ("Pump", True), ("Bit", True),
                                              ("Speed", 321.5)])
def test_a_command_over_mqtt_is_verified_and_stands_in_the_device_s_log_once(field: Field, point: str,
                                                                             value: Any) -> None:
    before = len(field.plant.writes())
    request_id = field.ask(point, value, device="ua-1" if point == "Speed" else "plc-1")
    answer = field.final(request_id)
    assert (answer["status"], answer["value"]) == ("verified", value)
    assert [d["status"] for d in field.said(request_id)] == ["accepted", "verified"]
    wait_until(lambda: len(field.plant.writes()) > before)
    assert len(field.plant.writes()) == before + 1


def test_a_command_that_comes_twice_is_carried_out_once(field: Field) -> None:
    request_id = field.ask("Mode", 11)
    assert field.final(request_id)["status"] == "verified"
    before = len(field.plant.writes())
    field.ask("Mode", 11, request_id=request_id)
    wait_until(lambda: len(field.said(request_id)) == 3)
    last = field.said(request_id)[-1]
    assert last["status"] == "refused" and "was used before" in last["message"]
    assert len(field.plant.writes()) == before


@pytest.mark.parametrize(("point", "payload", "says"), [
    ("Mode", b"nonsense", "no JSON"),
    ("Mode", b"[1]", "no JSON object"),
    ("Mode", b'{"request_id":"a1","value":1}', "no expires"),
    ("Mode", b'{"request_id":"a2","expires":"2026-01-31T12:00:00Z"}', "no value"),
    ("Mode", b'{"value":1,"expires":99999999999}', "request_id"),
    ("Mode", b'{"request_id":"a3","value":1,"expires":"2020-01-31T12:00:00Z"}', "expired"),
    ("Mode", b'{"request_id":"a4","value":1,"expires":"soon"}', "RFC 3339"),
    ("Mode", b'{"request_id":"a5","value":1,"expires":1,"user":"root"}', "is not known"),
    ("Mode", b'{"request_id":"a6","value":1,"expires":1,"mode":"now"}', "mode 'now'"),
    ("Mode", b'{"request_id":"' + b"x" * 9000 + b'"}', "up to 8192"),
    ("Level", b'{"request_id":"a7","value":1,"expires":1}', "not writable"),
    ("Nothing", b'{"request_id":"a8","value":1,"expires":1}', "no such point"),
])
def test_what_is_no_command_gets_its_reason_and_writes_nothing(field: Field, point: str, payload: bytes,
                                                              says: str) -> None:
    before, answers = len(field.plant.writes()), len(field.answers.messages("/result$"))
    publish(field.broker.port, f"devices/plc-1/{point}/set", payload)
    wait_until(lambda: len(field.answers.messages("/result$")) > answers)
    document = json.loads(field.answers.messages("/result$")[-1][3])
    assert document["status"] == "refused" and says in document["message"]
    if point == "Nothing":
        assert document["request_id"] == "a8", "its sender could not tell which command was refused"
    assert len(field.plant.writes()) == before


def test_a_retained_command_is_refused(field: Field, tmp_path: Path) -> None:
    """It would be carried out again at each new subscription."""
    with mosquitto(tmp_path) as broker:
        document = {"request_id": "kept", "value": 5, "expires": time.time() + 20.0}
        publish(broker.port, "devices/plc-1/Mode/set", json.dumps(document), "-r")
        with subscriber(broker.port, "devices/#") as answers, \
                gate_plant(f"t{secrets.token_hex(4)}", more=MORE.format(port=broker.port)) as plant:
            wait_until(lambda: any("without retain" in m[3] or "no such point" in m[3]
                                   for m in answers.messages("/result$")), 30.0)
            assert not plant.writes()


def test_a_value_of_another_topic_is_written_to_a_point_and_its_rule_decides(field: Field) -> None:
    publish(field.broker.port, "field/level", b'{"unit_id":"tank","value":654,"timestamp":1}')
    wait_until(lambda: {"PLC/Mode": 654} in [entry.get("values") for entry in field.plant.writes()])
    before = len(field.plant.writes())
    publish(field.broker.port, "field/level", b'{"value":70000}')
    publish(field.broker.port, "field/level", b"nonsense")
    assert field.final(field.ask("Pump", False))["status"] == "verified"
    assert len(field.plant.writes()) == before + 1


def test_while_the_gate_is_away_commands_are_refused_and_afterwards_taken_again(field: Field) -> None:
    field.plant.kill_gate()
    wait_until(lambda: field.final(field.ask("Mode", 21))["status"] == "verified")
