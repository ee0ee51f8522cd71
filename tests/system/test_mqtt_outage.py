"""Days without a broker, killed publishers, brokers that die: a third party counts what arrives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from brokers import Broker, mosquitto, publish, subscriber
from consumers import Plant, plant, step_until
from endpoint_config import MqttStore
from mqtt_rig import process, publisher, publishing, settings
from peers import Peer, free_port, require_program, wait_for_port, wait_until

WINDOW = 200
MINUTE = 60_000_000_000


@dataclass
class Course:
    """One outage: the plant goes on for hours of its own time while the broker is away and the publisher dies."""

    folder: Path
    prefix: str
    points: list[str]
    port: int = field(default_factory=free_port)
    written: int = 0
    plant: Plant | None = None
    lateness: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    @property
    def segment(self) -> str:
        return f"{self.prefix}_modbus_shm"

    def config(self) -> Path:
        path = self.folder / "partition.xml"
        path.write_text(
            f"<partition><namespace>{self.prefix}</namespace><state>state</state><mqtt><segment>modbus_shm</segment>"
            f"<broker>127.0.0.1:{self.port}</broker><retry_interval>0.5</retry_interval><window>{WINDOW}</window>"
            "<rule><qos>1</qos></rule><store><drain_rate>4000</drain_rate></store></mqtt></partition>")
        return path

    @contextmanager
    def broker(self) -> Iterator[Broker]:
        """With a memory, so that the witness misses nothing while it is away itself."""
        lines = ("persistence true", f"persistence_location {self.folder}/", "user root")
        with mosquitto(self.folder, *lines, port=self.port) as broker:
            yield broker

    def write(self, count: int, pause: float) -> None:
        """So many minutes of the plant's time, each point once a minute; a cycle each `pause` seconds."""
        assert self.plant is not None
        due = time.monotonic()
        for _ in range(count):
            self.written += 1
            self.plant.set(dict.fromkeys(self.points, self.written), source_time=self.written * MINUTE)
            self.lateness.append(time.monotonic() - due)
            due = max(due + pause, time.monotonic() - 0.01)
            time.sleep(max(0.0, due - time.monotonic()))


def resident(pid: int) -> int:
    """Resident memory of a process, KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def kill(peer: Peer) -> None:
    os.kill(peer.pid, signal.SIGKILL)
    peer.process.wait()


@contextmanager
def witness(port: int, file: Path) -> Iterator[None]:
    """mosquitto_sub with a session that lasts, into a file; told to end by a signal."""
    command = [require_program("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(port), "-i", "witness", "-c", "-q", "1",
               "-t", "devices/#", "-F", "%t\t%p"]
    with file.open("w") as output:
        running = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: file.stat().st_size or publish(port, "devices/ready", "x"), what="it subscribes")
            yield
        finally:
            running.terminate()
            running.wait()


def arrived(file: Path) -> dict[str, list[int]]:
    """Values of each topic in the order in which they came."""
    found: dict[str, list[int]] = {}
    for line in file.read_text().splitlines():
        topic, _, text = line.partition("\t")
        if text.endswith("}") and not topic.endswith("/status"):
            value = json.loads(text)["value"]
            if value is not None:
                found.setdefault(topic, []).append(int(value))
    return found


def take(course: Course, minutes: int, pause: float) -> Path:
    """The whole course; returns what the witness wrote."""
    file, config = course.folder / "witness", course.config()
    with plant(course.segment, course.points) as course.plant:
        with course.broker(), witness(course.port, file), process(config):
            course.write(20, 0.01)
            wait_until(lambda: sum(map(len, arrived(file).values())) >= 20 * len(course.points))
        for _ in range(3):  # no broker; the publisher dies three times
            with process(config) as killed:
                course.memory.append(resident(killed.pid))
                course.write(minutes // 4, pause)
                course.memory.append(resident(killed.pid))
                kill(killed)
            course.write(10, pause)
        with process(config) as draining:
            course.write(minutes // 4, pause)
            wait_until(lambda: waiting(course) > 0)
            with course.broker(), witness(course.port, file_of(course, 2)):
                wait_until(lambda: drained(course) > 100)
                kill(draining)
                with process(config):
                    course.write(50, 0.01)
                    everything = len(course.points) * course.written
                    wait_until(lambda: len(seen(course)) >= everything, 240, 0.2, "every value arrives")
                    wait_until(lambda: waiting(course) == 0)
    return file


def file_of(course: Course, number: int) -> Path:
    return course.folder / f"witness{number}"


def seen(course: Course) -> set[tuple[str, int]]:
    files = [course.folder / "witness", file_of(course, 2)]
    return {(topic, v) for f in files if f.exists() for topic, values in arrived(f).items() for v in values}


def metric(course: Course, name: str) -> int:
    from process_image import ImageError, attach

    try:
        with attach(f"{course.prefix}_status_shm_mqtt") as image:
            return int(image.snapshot()[f"mqtt/{name}"].value or 0)
    except ImageError:
        return 0


def waiting(course: Course) -> int:
    return metric(course, "$waiting")


def drained(course: Course) -> int:
    return metric(course, "$drained")


def judge(course: Course) -> dict[str, float]:
    """Nothing lost, order kept for each point, duplicates within the windows of the kills."""
    values: dict[str, list[int]] = {}
    for file in (course.folder / "witness", file_of(course, 2)):
        for topic, found in arrived(file).items():
            values.setdefault(topic, []).extend(found)
    assert len(values) == len(course.points)
    duplicates = 0
    for topic, found in values.items():
        assert set(found) == set(range(1, course.written + 1)), topic
        first = list(dict.fromkeys(found))
        assert first == sorted(first), topic
        duplicates += len(found) - len(first)
    assert duplicates <= 5 * WINDOW
    late = sorted(course.lateness)
    return {"entries": course.written * len(course.points), "duplicates": duplicates,
            "lateness_p99_ms": late[int(len(late) * 0.99)] * 1e3, "memory_first_kib": course.memory[0],
            "memory_most_kib": max(course.memory)}


def test_hours_without_a_broker_and_four_kills_lose_nothing_and_keep_the_order(tmp_path, shm_prefix):
    course = Course(tmp_path, shm_prefix, [f"D{i}/V" for i in range(5)])
    take(course, minutes=400, pause=0.002)
    judge(course)


@pytest.mark.campaign
def test_three_days_without_a_broker(tmp_path, shm_prefix, capsys):
    course = Course(tmp_path, shm_prefix, [f"D{i}/V" for i in range(20)])
    take(course, minutes=72 * 60, pause=0.005)
    found = judge(course)
    with capsys.disabled():
        print(f"\noutage of 72 h: {found}")
    assert found["memory_most_kib"] < found["memory_first_kib"] + 40_000


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_fail_over_to_another_broker_loses_nothing_that_was_acknowledged(tmp_path, shm_name, version):
    with ExitStack() as stack:
        brokers = [stack.enter_context(mosquitto(tmp_path)) for _ in range(2)]
        # QoS 0: one that acknowledges loses what it has not read yet as soon as it writes to a broker that is dead
        witnesses = [stack.enter_context(subscriber(broker.port, "devices/#", qos=qos))
                     for broker, qos in zip(brokers, (0, 2), strict=True)]
        made = settings(brokers[0].port, brokers[1].port, version=version)
        with publishing(tmp_path, shm_name, made, ["D/V"]) as (consumer, plant_):
            for value in range(1, 600):
                plant_.set({"D/V": value})
                consumer.step(0.0)
                if value == 300:
                    brokers[0].kill()
            acknowledged = consumer.outbox.counts.acknowledged
            both = lambda: {int(json.loads(p)["value"]) for w in witnesses for _, _, _, p in w.messages()}  # noqa: E731
            step_until(consumer, lambda: len(both()) >= 599)
            assert both() == set(range(1, 600))
            assert acknowledged > 0
            second = [int(json.loads(p)["value"]) for _, _, _, p in witnesses[1].messages()]
            assert second == sorted(second)
            assert f":{brokers[1].port}" in consumer.link.broker


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_connection_that_breaks_over_and_over_loses_nothing_and_qos_2_repeats_nothing(
    tmp_path, shm_name, qos, version,
):
    from endpoint_config import MqttRule

    with mosquitto(tmp_path) as broker, relay(broker.port) as (port, cut), subscriber(broker.port, "devices/#") as wit:
        made = settings(port, version=version, rules=(MqttRule(qos=qos),), window=100)
        with publishing(tmp_path, shm_name, made, ["D/V"]) as (consumer, plant_):
            for value in range(1, 801):
                plant_.set({"D/V": value})
                consumer.step(0.0)
                if value % 200 == 150:
                    cut()
            step_until(consumer, lambda: len({p for _, _, _, p in wit.messages()}) >= 800)
            consumer.step(0.1)
            assert consumer.link.connects >= 2
        values = [int(json.loads(p)["value"]) for _, _, _, p in wit.messages()]
    first = list(dict.fromkeys(values))
    assert first == list(range(1, 801))
    if qos == 2:
        assert values == first


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_qos_2_repeats_nothing_when_connections_break_at_random_bytes_of_handshakes_and_messages(version):
    from campaign.mqtt_cuts import run

    found = run(60, version=version, seed=1)
    assert (found["lost"], found["repeated"], found["out of order"]) == (0, 0, 0), found


@pytest.mark.campaign
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_qos_2_repeats_nothing_in_thousands_of_cuts(version, capsys):
    from campaign.mqtt_cuts import run

    found = run(3000, version=version, seed=2)
    with capsys.disabled():
        print(f"\ncuts: {found}")
    assert (found["lost"], found["repeated"], found["out of order"]) == (0, 0, 0), found


@contextmanager
def relay(port: int) -> Iterator[tuple[int, object]]:
    """socat between publisher and broker; `cut` ends every connection through it."""
    own = free_port()
    command = [require_program("socat"), f"TCP-LISTEN:{own},bind=127.0.0.1,fork,reuseaddr", f"TCP:127.0.0.1:{port}"]
    with Peer(command) as peer:
        wait_for_port(own)

        def cut() -> None:
            for entry in Path(f"/proc/{peer.pid}/task/{peer.pid}/children").read_text().split():
                os.kill(int(entry), signal.SIGKILL)

        yield own, cut


def test_a_broker_that_takes_nothing_is_treated_like_one_that_is_away(tmp_path, shm_name):
    with mosquitto(tmp_path) as broker, subscriber(broker.port, "devices/#") as wit:
        with publishing(tmp_path, shm_name, settings(broker.port, window=50, keepalive=60), ["D/V"]) as (consumer, pl):
            os.kill(broker.peer.pid, signal.SIGSTOP)
            for value in range(1, 401):
                pl.set({"D/V": value})
            step_until(consumer, lambda: consumer.outbox.waiting >= 300)
            os.kill(broker.peer.pid, signal.SIGCONT)
            step_until(consumer, lambda: len({p for _, _, _, p in wit.messages()}) >= 400)
            assert consumer.outbox.counts.discarded == 0
        values = [int(json.loads(p)["value"]) for _, _, _, p in wit.messages()]
        assert values == list(range(1, 401))


def test_a_full_disk_raises_an_alarm_and_live_publishing_goes_on_and_all_is_well_when_there_is_room(
    tmp_path, shm_name, request,
):
    disk = tmp_path / "mqtt"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)], check=False,
                             capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine gives no mounts to tests")
    request.addfinalizer(lambda: subprocess.run(["umount", "-l", str(disk)], check=False))
    port = free_port()
    (disk / "ballast").write_bytes(b"x" * (1 << 20))
    made = settings(port, store=MqttStore(megabytes=8, drain_rate=5000))
    with plant(shm_name, ["D/V"], journal_entries=32768) as plant_:
        consumer = publisher(tmp_path, shm_name, made)
        value = 0
        began = time.monotonic()
        step_until(consumer, lambda: consumer.feeds[0].attached)
        while not consumer.health().counts["$alarm"]:
            for _ in range(500):
                value += 1
                plant_.set({"D/V": value})
            consumer.step(0.01)
            assert time.monotonic() - began < 60
        while not fill(disk):
            pass
        with mosquitto(tmp_path, port=port), subscriber(port, "devices/#") as wit:
            step_until(consumer, lambda: len(wit.messages()) >= 10)
            (disk / "ballast").unlink()
            for _ in range(50):
                value += 1
                plant_.set({"D/V": value})
            seen_ = lambda: {int(json.loads(p)["value"]) for _, _, _, p in wit.messages()}  # noqa: E731
            step_until(consumer, lambda: max(seen_(), default=0) == value, 60)
            step_until(consumer, lambda: not consumer.health().counts["$alarm"], 70)
            assert len(seen_()) + consumer.outbox.store.dropped + consumer.feeds[0].lost >= value
            consumer.stop()


def test_the_alarm_of_a_full_disk_ends_when_there_is_room_again_and_nothing_waits_to_be_kept(tmp_path, shm_name):
    with mosquitto(tmp_path) as broker, \
            publishing(tmp_path, shm_name, settings(broker.port), ["D/V"]) as (consumer, plant_):
        step_until(consumer, lambda: consumer.outbox.store is not None and consumer.health().connected)
        room, consumer.outbox.store.try_room = consumer.outbox.store.try_room, full_disk
        consumer.outbox.disk_fault = "No space left on device"  # as an outage left it
        plant_.set({"D/V": 1})
        step_until(consumer, lambda: consumer.health().counts["$alarm"] == 1)
        consumer.outbox.store.try_room = room
        step_until(consumer, lambda: not consumer.health().counts["$alarm"], 5)
        assert consumer.health().message == ""
        assert not (tmp_path / "mqtt" / "room").exists()


def full_disk() -> None:
    raise OSError(28, "No space left on device")


def fill(disk: Path) -> bool:
    """Take what room is left, as somebody else would."""
    try:
        with (disk / "ballast").open("ab") as file:
            file.write(b"x" * 65536)
    except OSError:
        return True
    return False


def test_live_publishing_needs_no_disk_at_all(tmp_path, shm_name):
    state = tmp_path / "mqtt"
    state.mkdir()
    (state / "store").write_text("a file where a folder should be")
    with mosquitto(tmp_path) as broker, subscriber(broker.port, "devices/#") as wit, \
            publishing(tmp_path, shm_name, settings(broker.port), ["D/V"]) as (consumer, plant_):
        for value in range(1, 50):
            plant_.set({"D/V": value})
        step_until(consumer, lambda: len(wit.messages()) >= 49)
        assert consumer.health().counts["$alarm"] == 1
        assert "store" in consumer.health().message
        (state / "store").unlink()
        step_until(consumer, lambda: not consumer.health().counts["$alarm"], 5)


def test_no_thread_is_left_behind(tmp_path, shm_name):
    before = threading.active_count()
    with mosquitto(tmp_path) as broker, publishing(tmp_path, shm_name, settings(broker.port)) as (consumer, _):
        consumer.step(0.1)
    wait_until(lambda: threading.active_count() <= before)
