"""The mqtt element: what it says, what the environment says instead, and where each setting came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from endpoint_config import MqttSettings, default_mqtt, effective, load
from endpoint_config.overrides import MQTT_VARIABLES
from plant import cpc, modbus_file


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MQTT_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def read(folder: Path, inner: str, *, name: str = "mqtt") -> MqttSettings:
    path = folder / "partition.xml"
    path.write_text(f"<partition>\n{inner}\n</partition>")
    file = load(path)
    assert not file.faults, file.faults
    assert file.partition is not None
    (settings,) = [c for c in file.partition.consumers if c.name == name]
    assert isinstance(settings, MqttSettings)
    return settings


def faults(folder: Path, inner: str) -> str:
    path = folder / "partition.xml"
    path.write_text(f"<partition>\n{inner}\n</partition>")
    return "\n".join(f"{f.line}: {f.message}" for f in load(path).faults)


def test_an_empty_element_publishes_everything_to_this_machine(tmp_path: Path) -> None:
    settings = read(tmp_path, "<mqtt/>")
    assert settings.connection.brokers == (("127.0.0.1", 1883),)
    assert [(rule.kind, rule.qos, rule.include) for rule in settings.rules] == [("telemetry", 0, ())]


def test_kinds_of_rules_have_their_quality_of_service_and_may_be_told_another(tmp_path: Path) -> None:
    settings = read(tmp_path, "<mqtt><rule kind='billing'/><rule kind='status'/><rule/><rule kind='billing'>"
                    "<qos>1</qos></rule></mqtt>")
    assert [rule.qos for rule in settings.rules] == [2, 1, 0, 1]


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MQTT_BROKER_HOST": "broker.example", "MQTT_BROKER_PORT": "8884", "MQTT_USERNAME": "me",
                        "MQTT_PASSWORD": "secret", "MQTT_USE_TLS": "true", "MQTT_CA_CERTS": "/ca.pem"}.items():
        monkeypatch.setenv(name, value)
    settings = read(tmp_path, "<mqtt>\n<broker>other:1</broker>\n<username>you</username>\n"
                    "<keepalive>9</keepalive></mqtt>")
    connection = settings.connection
    assert connection.brokers == (("broker.example", 8884),)
    assert (connection.username, connection.password.reveal()) == ("me", "secret")
    assert connection.tls is not None
    assert str(connection.tls.ca) == "/ca.pem"
    shown = {s.name: (s.value, s.origin) for s in effective(settings)}
    assert shown["broker"] == ("broker.example:8884", "MQTT_BROKER_HOST and MQTT_BROKER_PORT")
    assert shown["password"] == ("***", "MQTT_PASSWORD")
    assert shown["keepalive"] == ("9", "line 5")
    assert shown["version"] == ("5", "default")
    assert "secret" not in repr(settings)


def test_tls_can_be_turned_off_and_files_turn_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_USE_TLS", "no")
    assert read(tmp_path, "<mqtt><tls/></mqtt>").connection.tls is None
    monkeypatch.setenv("MQTT_USE_TLS", "")
    monkeypatch.setenv("MQTT_CA_CERTS", "/ca.pem")
    assert read(tmp_path, "<mqtt/>").connection.brokers == (("127.0.0.1", 8883),)


def test_variables_that_make_no_sense_are_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BROKER_PORT", "99999")
    monkeypatch.setenv("MQTT_USE_TLS", "perhaps")
    monkeypatch.setenv("MQTT_BROKER_HOST", "a b")
    found = faults(tmp_path, "<mqtt/>")
    assert all(name in found for name in ("MQTT_BROKER_PORT", "MQTT_USE_TLS", "MQTT_BROKER_HOST"))


def test_several_publishers_are_not_overridden_and_a_warning_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MQTT_BROKER_HOST", "broker.example")
    inner = "<mqtt name='a'><broker>x</broker></mqtt><mqtt name='b'/>"
    assert read(tmp_path, inner, name="a").connection.brokers == (("x", 1883),)
    assert any("MQTT_BROKER_HOST" in w.message for w in load(tmp_path / "partition.xml").warnings)


def test_without_any_file_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_BROKER_HOST", "broker.example")
    (settings,) = default_mqtt().consumers
    assert isinstance(settings, MqttSettings)
    assert settings.connection.brokers == (("broker.example", 1883),)


@pytest.mark.parametrize(("inner", "line", "words"), [
    ("<mqtt>\n<broker>a:b</broker></mqtt>", 3, "is no address"),
    ("<mqtt>\n<broker>a</broker>\n<broker>a:1883</broker></mqtt>", 4, "stands twice"),
    ("<mqtt>\n<topic>devices/{who}</topic></mqtt>", 3, "{who} is not known"),
    ("<mqtt>\n<topic>devices/#</topic></mqtt>", 3, "is no topic"),
    ("<mqtt>\n<status_topic>$SYS/{id}</status_topic></mqtt>", 3, "is no topic"),
    ("<mqtt>\n<rule><qos>3</qos></rule></mqtt>", 3, "0, 1 or 2"),
    ("<mqtt>\n<rule><every>5</every><deadband>1</deadband></rule></mqtt>", 3, "every beside a deadband"),
    ("<mqtt>\n<aggregate><topic>a/{id}</topic><name>x</name></aggregate></mqtt>", 3, "holds {id}"),
    ("<mqtt>\n<aggregate><topic>a</topic></aggregate></mqtt>", 3, "without name"),
    ("<mqtt>\n<version>3.1.1</version><password>x</password></mqtt>", 3, "without username"),
    ("<mqtt>\n<store><order>later</order></store></mqtt>", 3, "strict or live"),
    ("<mqtt/>\n<mqtt/>", 3, "stands also on line 2"),
])
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, inner: str, line: int, words: str) -> None:
    found = faults(tmp_path, inner)
    assert words in found
    assert f"{line}: " in found


def test_check_shows_settings_with_their_origin_and_never_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "partition.xml"
    path.write_text("<partition><mqtt>\n<username>u</username><password>${PLANT_SECRET}</password></mqtt></partition>")
    import os

    env = {**os.environ, "PLANT_SECRET": "hunter2", "MQTT_BROKER_HOST": "b.example"}
    done = cpc("check", path, "--json", env=env)
    assert "hunter2" not in done.stdout + done.stderr
    (file,) = json.loads(done.stdout)["files"]
    found = {s["name"]: (s["value"], s["origin"]) for s in file["settings"]}
    assert found["password"] == ("***", "line 2")
    assert found["broker"] == ("b.example:1883", "MQTT_BROKER_HOST")
    text = cpc("check", path, env=env)
    assert "mqtt: broker = b.example:1883 (MQTT_BROKER_HOST)" in text.stdout
    assert "hunter2" not in text.stdout + text.stderr


def test_check_warns_of_attributes_for_a_device_that_is_not_there(tmp_path: Path) -> None:
    modbus_file(tmp_path / "m.xml", devices=["Meter 1"])
    path = tmp_path / "partition.xml"
    path.write_text("<partition><service kind='modbus'><file>m.xml</file></service>\n"
                    "<device alias='Meter *' site='x'/>\n<device alias='Metre 1' id='m'/></partition>")
    done = cpc("check", path)
    assert done.returncode == 0
    assert "partition.xml:3: warning: no device has the alias 'Metre 1'" in done.stderr
    assert ":2: warning" not in done.stderr
