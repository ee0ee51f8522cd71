"""The MQTT publisher beside bare paho-mqtt, in one run: messages a second, and what 10,000 points at 1 Hz take.

    python bench/mqtt.py [--json] [--only rates|points|outage]... [--rounds N] [--messages N]     or     cpc bench mqtt

rates: for QoS 0, 1 and 2 the same messages (topics and payloads) through mosquitto on loopback, in turns: the publisher
from journal to acknowledgement, JSON made on the way; paho as it is mostly used (`loop_start`, its own thread, the same
number in flight), payloads ready made; and paho driven by one loop of our own. points: 100 devices of 100 points that
all change each second, published by `cpc mqtt` as a process, as one message each and as compact arrays: processor time,
bytes, and the time from the publish into the segment to mosquitto_sub. outage: how late 25 simulated devices with 20
points are polled, each ten times a second, while the broker is away and all goes to the disk, beside turns with it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import select
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
from _mqtt_outage import outage
from _turns import machine, percentile
from brokers import mosquitto, subscriber
from consumers import plant
from endpoint_config import MqttRule
from mqtt_link import Message
from mqtt_rig import process, publisher, settings
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from process_image import Point

WINDOW = 500
IN_FLIGHT = WINDOW * 3 // 4
POINTS = 100
Figures = dict[str, Any]


def bare_client(port: int) -> Client:
    """paho, connected, with as much in flight as the publisher allows itself."""
    client = Client(CallbackAPIVersion.VERSION2, client_id=f"bare-{secrets.token_hex(4)}",
                    protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(IN_FLIGHT)
    client.connect("127.0.0.1", port)
    return client


def bare_thread(port: int, messages: list[Message]) -> float:
    """Seconds for all messages with `loop_start`: from the first publish to the broker's last acknowledgement."""
    client = bare_client(port)
    client.loop_start()
    while not client.is_connected():
        time.sleep(0.005)
    began = time.perf_counter()
    infos = [client.publish(m.topic, m.payload, m.qos) for m in messages]
    infos.append(client.publish("marker", b"", 1))
    for info in infos:
        info.wait_for_publish(60)
    spent = time.perf_counter() - began
    client.disconnect()
    client.loop_stop()
    return spent


def bare_loop(port: int, messages: list[Message]) -> float:
    """The same in one thread: publish while there is room, read what is acknowledged."""
    client = bare_client(port)
    under_way = 0
    marker = -1
    over = False

    def done(_client: Any, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        nonlocal under_way, over
        under_way -= 1
        over = over or mid == marker

    while not client.is_connected():
        client.loop(0.1)
    client.on_publish = done
    sock = client.socket()
    assert sock is not None
    began = time.perf_counter()
    left = iter([*messages, Message(topic="marker", payload=b"", qos=1)])
    message = next(left, None)
    while not over:
        while message is not None and under_way < IN_FLIGHT and not client.want_write():
            under_way += 1
            info = client.publish(message.topic, message.payload, message.qos)
            message = next(left, None)
            if message is None:
                marker = info.mid
        readable, writable, _ = select.select([sock], [sock] if client.want_write() else [], [], 1.0)
        if readable:
            client.loop_read()
        if writable:
            client.loop_write()
    spent = time.perf_counter() - began
    client.disconnect()
    return spent


class Ours:
    """The publisher with a journal that is filled before the clock starts."""

    def __init__(self, folder: Path, prefix: str, port: int, qos: int, count: int) -> None:
        self._count, self._value = count, 0
        self._plant = plant(f"{prefix}_{qos}_shm", [Point(name=f"P{n}", device="D", unit="kW") for n in range(POINTS)],
                            journal_entries=1 << 17)
        self.source = self._plant.__enter__()
        made = settings(port, rules=(MqttRule(qos=qos),), window=WINDOW, client_id=f"ours-{qos}")
        self.consumer = publisher(folder / f"q{qos}", f"{prefix}_{qos}_shm", made)
        self._until(lambda: self.consumer.link.up and not self.consumer.outbox.in_flight)

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            self.consumer.step(0.01)
            assert time.monotonic() < deadline, self.consumer.health()

    def once(self) -> float:
        """Seconds for all messages, from the journal to the broker's last acknowledgement."""
        for _ in range(self._count // POINTS):
            self._value += 1
            self.source.set({f"D/P{n}": self._value + n / 8 for n in range(POINTS)})
        counts = self.consumer.outbox.counts
        wanted = counts.acknowledged + self._count
        began = time.perf_counter()
        self._until(lambda: counts.acknowledged >= wanted)
        assert self.consumer.outbox.announce(Message(topic="marker", payload=b"", qos=1))
        self._until(lambda: self.consumer.outbox.room == IN_FLIGHT)
        return time.perf_counter() - began

    def close(self) -> None:
        """End publisher and segment."""
        self.consumer.stop()
        self._plant.__exit__(None, None, None)


def rates(args: argparse.Namespace) -> Figures:
    """Messages a second of the three sides, for each QoS."""
    found: Figures = {}
    count = args.messages // POINTS * POINTS
    prefix = f"b{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as name, mosquitto(Path(name)) as broker:
        for qos in (0, 1, 2):
            payload = (b'{"unit_id":"D","sensor_type":"P42","value":1234.125,'
                       b'"timestamp":"2026-01-31T12:00:00.123456789Z","quality":0,"unit":"kW"}')
            messages = [Message(topic=f"devices/D/P{n % POINTS}", payload=payload, qos=qos) for n in range(count)]
            ours = Ours(Path(name), prefix, broker.port, qos, count)
            sides: dict[str, Callable[[], float]] = {
                "ours": ours.once, "paho, its thread": lambda m=messages: bare_thread(broker.port, m),
                "paho, one loop": lambda m=messages: bare_loop(broker.port, m)}
            spent: dict[str, list[float]] = {side: [] for side in sides}
            for _ in range(args.rounds):
                for side, once in sides.items():
                    spent[side].append(count / once())
            ours.close()
            medians = {side: statistics.median(values) for side, values in spent.items()}
            found[f"QoS {qos}"] = {
                **{f"{side}, messages/s": round(value) for side, value in medians.items()},
                **{f"ours / {side}": round(statistics.median(
                    mine / theirs for mine, theirs in zip(spent["ours"], spent[side], strict=True)), 2)
                   for side in sides if side != "ours"}}
    return found


def processor_seconds(pid: int) -> float:
    """User and system time of a process."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def points(args: argparse.Namespace) -> Figures:
    """10,000 points at 1 Hz, as single messages and as compact arrays."""
    return {form: one_form(form, max(5, int(args.seconds))) for form in ("json", "compact")}


def one_form(form: str, seconds: int) -> Figures:
    """One run of the process."""
    prefix = f"b{secrets.token_hex(4)}"
    described = [Point(name=f"P{n}", device=f"D{d}", unit="kW") for d in range(100) for n in range(100)]
    with tempfile.TemporaryDirectory() as name, mosquitto(Path(name)) as broker, \
            subscriber(broker.port, "devices/#", more=["-F", "%U\t%l\t%p"], ready=False) as witness, \
            plant(f"{prefix}_modbus_shm", described, journal_entries=1 << 17) as source:
        config = Path(name) / "partition.xml"
        config.write_text(
            f"<partition><namespace>{prefix}</namespace><state>state</state><mqtt><segment>modbus_shm</segment><broker>"
            f"127.0.0.1:{broker.port}</broker><rule><format>{form}</format></rule></mqtt></partition>")
        with process(config) as running:
            time.sleep(1.0)
            began, before = time.monotonic(), processor_seconds(running.pid)
            for cycle in range(seconds):
                time.sleep(max(0.0, began + cycle - time.monotonic()))
                publish_all(source, cycle)
            time.sleep(1.5)
            spent = processor_seconds(running.pid) - before
        for left in [*Path("/dev/shm").glob(f"{prefix}_status_*"), *Path("/dev/shm").glob(f"sem.{prefix}_status_*")]:
            left.unlink()  # the process was killed
        return weigh(witness.peer.output, seconds, spent)


def publish_all(source: Any, cycle: int) -> None:
    """Every point another value, in one publish."""
    records = source.writer.records
    now = time.time_ns()
    records["value"] = np.arange(len(records)) + cycle / 8
    records["raw"] = records["value"].view("u8")
    records["quality"], records["source_time"], records["received_time"] = 0, now, now
    blocks = len(source.writer.blocks)
    source.writer.publish(list(range(blocks)), next_due=[time.monotonic_ns() + int(5e9)] * blocks)
    source.writer.heartbeat()


def weigh(text: str, seconds: int, spent: float) -> Figures:
    """What mosquitto_sub has seen."""
    delays: list[float] = []
    size = values = messages = 0
    for line in text.splitlines():
        parts = line.split("\t")
        if len(parts) != 3 or '"value"' not in parts[2]:
            continue
        made = json.loads(parts[2])
        many = made["value"] if isinstance(made["value"], list) else [made["value"]]
        stamp = np.datetime64(made["timestamp"].rstrip("Z"), "ns").astype("i8")
        if many[0] is None:
            continue
        delays.append(float(parts[0]) - float(stamp) / 1e9)
        messages, values, size = messages + 1, values + len(many), size + int(parts[1])
    return {"messages/s": round(messages / seconds), "values/s": round(values / seconds),
            "payload bytes/s": round(size / seconds), "processor": round(spent / seconds, 3),
            "latency ms p50": round(percentile(delays, 0.5) * 1e3, 1),
            "latency ms p99": round(percentile(delays, 0.99) * 1e3, 1)}


SCENARIOS: dict[str, Callable[[argparse.Namespace], Figures]] = {"rates": rates, "points": points, "outage": outage}


def main() -> int:
    """Run the scenarios that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="one scenario; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default 3)")
    parser.add_argument("--messages", type=int, default=5000, help="messages of a turn (default 5000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of points, and of a turn of outage")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    found: Figures = {"machine": machine("paho-mqtt", "numpy")}
    for name in args.only or SCENARIOS:
        found[name] = SCENARIOS[name](args)
    if args.json:
        print(json.dumps(found))
    else:
        for name, figures in found.items():
            print(f"\n{name}")
            for key, value in figures.items():
                text = "  ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
                print(f"  {key:12} {text}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
