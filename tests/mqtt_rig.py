"""A plant, a broker, a publisher between them, and mosquitto_sub as the witness."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from consumers import Plant, context, plant, step_until
from endpoint_config import DeviceAttributes, MqttConnection, MqttRule, MqttSettings, Partition
from peers import Peer
from process_image import Point

from cpc.consumers.mqtt.publisher import MqttPublisher

POINTS = [
    Point(name="Power", device="Pump 1", unit="kW"), Point(name="Energy", device="Pump 1", type="int64", unit="kWh"),
    Point(name="State", device="Pump 1", type="string"), Point(name="$connected", device="Pump 1", type="uint8"),
    Point(name="Power", device="Fan", unit="kW"), Point(name="$connected", device="Fan", type="uint8"),
]
DEVICES = (DeviceAttributes(alias="*", site="Roof"), DeviceAttributes(alias="Fan", id="fan-7"))


def settings(*ports: int, **more: Any) -> MqttSettings:
    """Settings of a publisher to brokers on these ports; further ones by name, those of the connection too."""
    names = ("version", "username", "password", "token_file", "tls", "timeout", "retry_interval", "client_id",
             "keepalive")
    of_connection = {name: more.pop(name) for name in names if name in more}
    host = more.pop("host", "127.0.0.1")
    connection = MqttConnection(**{"client_id": "cpc-test", "retry_interval": 0.5, **of_connection},
                                brokers=tuple((host, port) for port in ports))
    rules = more.pop("rules", (MqttRule(qos=1),))
    return MqttSettings(kind="mqtt", name="mqtt", connection=connection, node="n1", rules=rules, **more)


def publisher(folder: Path, segment: str, made: MqttSettings) -> MqttPublisher:
    """A publisher that is started, in this process."""
    partition = Partition(file=folder / "partition.xml", devices=DEVICES)
    consumer = MqttPublisher(context(folder, segment, settings=made, partition=partition))
    consumer.start()
    return consumer


@contextmanager
def publishing(folder: Path, segment: str, made: MqttSettings, points: list[Any] = POINTS,
               entries: int = 65536) -> Iterator[tuple[MqttPublisher, Plant]]:
    """Plant and publisher, connected, with what stands in the plant at the beginning told."""
    with plant(segment, points, journal_entries=entries) as plant_:
        consumer = publisher(folder, segment, made)
        try:
            step_until(consumer, lambda: consumer.link.up)
            yield consumer, plant_
        finally:
            consumer.stop()


def payloads(messages: list[tuple[str, int, bool, str]]) -> list[dict[str, Any]]:
    """The JSON of each message."""
    return [json.loads(text) for _, _, _, text in messages]


def process(config: Path, name: str = "mqtt", ready: str = "running consumer") -> Peer:
    """A publisher as a process, by a partition file."""
    command = [sys.executable, "-P", "-m", "cpc.consumers", name, f"--config={config}", "--keep"]
    return Peer(command, ready=ready)
