"""What every producer promises (acquisition.Producer), on every producer there is, with simulated devices."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import peers
import pytest
from acquisition import Producer
from brokers import mosquitto
from dnp3_master import Dnp3MasterManager
from dnp3_outstation import Kind as PointKind
from dnp3_outstation import Outstation, PointConfig
from endpoint_config import (
    ConfigError,
    Dnp3Master,
    Dnp3Outstation,
    Dnp3Point,
    ModbusPoint,
    ModbusServer,
    OpcUaNode,
    OpcUaServer,
    ReadFunction,
    outstations_to_xml,
    to_xml,
)
from endpoint_config import Dnp3Consumer as Dnp3Settings
from modbus_tcp_client import ModbusClientManager
from mqtt_ingest import MqttIngestManager
from opcua_client import OpcUaClientManager
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from process_image import attach, create
from process_image.quality import is_bad

from cpc.consumers.dnp3.consumer import session_settings
from cpc.consumers.dnp3.server import Server, now
from cpc.simulators.address_space import quick_address_space
from cpc.simulators.modbus import ModbusSimulator
from cpc.simulators.opcua import OpcUaSimulator

INTERVAL = 0.1
MODBUS = tuple(
    ModbusServer(alias=alias, ipaddr="127.0.0.1", port=1, timeout=5.0, retry_interval=1.0, points=(
        ModbusPoint(name="M1", read_function=ReadFunction.HOLDING_REGISTERS, address=10),
        ModbusPoint(name="M2", read_function=ReadFunction.HOLDING_REGISTERS, address=11, interval=0.3),
    )) for alias in ("Pump ä", "Fan")
)
OPCUA = tuple(
    OpcUaServer(alias=alias, url="opc.tcp://127.0.0.1:1", timeout=5.0, retry_interval=1.0, nodes=(
        OpcUaNode(name="M1", namespace_index=2, identifier="1", datatype="Double"),
        OpcUaNode(name="M2", namespace_index=2, identifier="2", datatype="Int16", interval=0.3),
    )) for alias in ("Pump ä", "Fan")
)

DNP3 = tuple(
    Dnp3Outstation(alias=alias, timeout=0.5, interval=0.1, points=(
        Dnp3Point(name="M1", type="analog input", index=0), Dnp3Point(name="M2", type="analog input", index=1),
    )) for alias in ("Pump ä", "Fan")
)


@dataclass(frozen=True)
class Feeder:
    """What publishes the values of one device to a broker."""

    alias: str
    port: int = 1


FEEDERS = (Feeder("Pump ä"), Feeder("Fan"))


def feeder_file(feeders: tuple[Feeder, ...]) -> bytes:
    """A source for each, so that each has a connection of its own."""
    sources = "".join(
        f"<source name='{f.alias} source'><broker>127.0.0.1:{f.port}</broker><topic>plant/+</topic>"
        f"<retry_interval>1</retry_interval><timeout>0.5</timeout><unit id='{f.alias}'><point name='M1'/>"
        "<point name='M2'/></unit></source>"
        for f in feeders)
    return f"<mqtt-sources>{sources}</mqtt-sources>".encode()


class Feed:
    """mosquitto, and a client that publishes both points of every feeder ten times a second."""

    def __init__(self, feeders: tuple[Feeder, ...], folder: Path) -> None:
        self._feeders, self._folder = feeders, folder
        self._stack = ExitStack()

    async def start(self) -> dict[str, Feeder]:
        """The feeders with the broker's port."""
        broker = self._stack.enter_context(mosquitto(self._folder))
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        self._task = asyncio.create_task(self._publish())
        return {feeder.alias: replace(feeder, port=broker.port) for feeder in self._feeders}

    async def _publish(self) -> None:
        for value in itertools.count():
            for feeder, name in itertools.product(self._feeders, ("M1", "M2")):
                message = {"unit_id": feeder.alias, "sensor_type": name, "value": value,
                           "timestamp": time.time_ns() // 1_000_000}
                self._client.publish("plant/x", json.dumps(message), 1)
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """End both."""
        self._task.cancel()
        self._client.disconnect()
        self._client.loop_stop()
        self._stack.close()


@dataclass(frozen=True)
class Kind:
    """One producer: its class, the devices that it polls, and how their simulation is started."""

    make: Callable[..., Any]
    load: Callable[[Any], None]
    devices: tuple[Any, ...]
    simulate: Callable[[tuple[Any, ...], Path], Any]
    places: Callable[[Any, dict[str, Any]], tuple[Any, ...]]
    moved: Callable[[Any, int], Any] = lambda device, port: replace(device, port=port)
    file: Callable[[Any], bytes] = to_xml
    says: str = "Pump ä: "
    """How the message of a device that is down begins."""


class Outstations:
    """Simulated outstations: the values of all points count up, ten times a second."""

    def __init__(self, devices: tuple[Dnp3Outstation, ...]) -> None:
        self._devices, self._over = devices, threading.Event()
        self._threads: list[threading.Thread] = []

    async def start(self) -> dict[str, Dnp3Outstation]:
        found = {}
        for device in self._devices:
            master = Dnp3Master(address=device.master)
            outstation = Outstation([PointConfig(kind=PointKind.ANALOG_INPUT, index=point.index, event_class=1)
                                     for point in device.points])
            server = Server(Dnp3Settings(kind="dnp3", name="simulated", port=0, outstation=device.address))
            server.serve([(master, outstation.session(session_settings(server.settings, master)))])
            server.turn()
            found[device.alias] = replace(device, port=server.port)
            self._threads.append(threading.Thread(target=self._serve, args=(outstation, server)))
            self._threads[-1].start()
        return found

    def _serve(self, outstation: Outstation, server: Server) -> None:
        turn, rows = 0, np.arange(len(outstation.database[PointKind.ANALOG_INPUT]))
        while not self._over.wait(0.01):
            turn += 1
            if turn % 10 == 1:
                moment = now()
                outstation.update(PointKind.ANALOG_INPUT, rows, rows + turn * 0.5, np.ones(len(rows), np.uint8),
                                  np.full(len(rows), moment.utc_ms), now=moment)
            server.turn()
        server.close()

    async def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(5)


def load_modbus(manager: ModbusClientManager) -> None:
    manager.load_endpoints_from_xml()
    manager.create_clients()


KINDS = {
    "modbus": Kind(
        ModbusClientManager, load_modbus, MODBUS, lambda devices, folder: ModbusSimulator(devices, update_interval=0.1),
        lambda devices, entries: tuple(entries[d.alias] for d in devices),
    ),
    "opcua": Kind(
        OpcUaClientManager, lambda manager: manager.parse_clients(), OPCUA,
        lambda devices, folder: OpcUaSimulator(devices, update_interval=0.1, folder=folder),
        lambda devices, entries: tuple(entries[d.alias] for d in devices),
        moved=lambda device, port: replace(device, url=f"opc.tcp://127.0.0.1:{port}"),
    ),
    "mqtt": Kind(
        MqttIngestManager, lambda manager: manager.parse_clients(), FEEDERS, Feed,
        lambda devices, entries: tuple(entries[d.alias] for d in devices), file=feeder_file, says="Pump ä source: ",
    ),
    "dnp3": Kind(
        Dnp3MasterManager, lambda manager: manager.parse_clients(), DNP3, lambda devices, folder: Outstations(devices),
        lambda devices, entries: tuple(entries[d.alias] for d in devices), file=outstations_to_xml,
    ),
}


@pytest.fixture(params=sorted(KINDS), scope="module")
def kind(request: pytest.FixtureRequest) -> Kind:
    if request.param == "dnp3":
        pytest.importorskip("opendnp3", reason="peer absent: yadnp3; `make test` installs it")
    return KINDS[request.param]


@contextmanager
def simulated(kind: Kind, folder: Path) -> Iterator[tuple[Any, ...]]:
    """The devices as simulations that listen, in a thread; gives the entries to poll them by."""
    ready, over, found = threading.Event(), threading.Event(), []

    async def serve() -> None:
        simulator = kind.simulate(kind.devices, folder)
        with quick_address_space():
            places = await simulator.start()
        found.append(kind.places(kind.devices, places))
        ready.set()
        while not over.is_set():
            await asyncio.sleep(0.02)
        await simulator.stop()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(peers.PATIENCE)
        yield found[0]
    finally:
        over.set()
        thread.join(10)


@pytest.fixture(scope="module")
def devices(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, ...]]:
    with simulated(kind, tmp_path_factory.mktemp("simulated")) as entries:
        yield entries


def write(kind: Kind, path: Path, servers: tuple[Any, ...]) -> Path:
    path.write_bytes(kind.file(servers))
    return path


@pytest.fixture
def manager(kind: Kind, devices: tuple[Any, ...], tmp_path: Path) -> Any:
    """A producer that has read its file."""
    made = kind.make(write(kind, tmp_path / "devices.xml", devices), None, interval=INTERVAL)
    kind.load(made)
    return made


@contextmanager
def polling(manager: Any, *writers: Any) -> Iterator[threading.Thread]:
    """`periodic_read` in a thread; stopped in the end."""
    manager.start_clients()
    thread = threading.Thread(target=manager.periodic_read, args=(INTERVAL, list(writers), [None] * len(writers)))
    thread.start()
    try:
        yield thread
    finally:
        manager.stop_clients()
        thread.join(5)
        assert not thread.is_alive()


def test_it_has_every_member_of_the_contract(manager: Any) -> None:
    assert isinstance(manager, Producer)
    assert manager.service in KINDS


def test_points_are_complete_before_anything_is_polled(manager: Any, kind: Kind) -> None:
    names = [point.full_name for point in manager.points]
    assert len(names) == len(set(names))
    for device in kind.devices:
        assert {f"{device.alias}/M1", f"{device.alias}/M2", f"{device.alias}/$connected"} <= set(names)


def test_it_reads_several_files_as_one_service(kind: Kind, devices: tuple[Any, ...], tmp_path: Path) -> None:
    paths = [str(write(kind, tmp_path / f"{i}.xml", (device,))) for i, device in enumerate(devices)]
    manager = kind.make(paths, None)
    kind.load(manager)
    sources = {f"{device.alias} source" for device in devices if isinstance(device, Feeder)}
    assert {point.device for point in manager.points if point.device} == {"Pump ä", "Fan"} | sources


def test_a_file_that_can_not_be_used_is_an_error_with_a_line(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "broken.xml"
    path.write_text("<modbus-servers>\n<server>\n</modbus-servers>")
    with pytest.raises(ConfigError) as caught:
        kind.load(kind.make(path, None))
    assert caught.value.faults[0].line > 0


def test_it_publishes_good_values_from_a_thread_and_says_how_it_is(manager: Any, kind: Kind, shm_name: str) -> None:
    with create(shm_name, manager.points) as writer, attach(shm_name) as image:
        with polling(manager, writer):
            for device in kind.devices:
                for name in ("M1", "M2", "$connected"):
                    point = f"{device.alias}/{name}"
                    peers.wait_until(lambda point=point: image.snapshot()[point].quality == 0, what=point)
            peers.wait_until(lambda: manager.health().connected == 2)
            health = manager.health()
            assert (health.devices, health.running, health.message) == (2, True, "")
            before = image.snapshot()["Fan/M1"]
            peers.wait_until(lambda: image.snapshot()["Fan/M1"].value != before.value, what="a value that moves")
            assert not image.snapshot().stale
        assert not manager.health().running
        writer.close(unlink=True)


def test_it_ends_within_two_seconds_of_a_stop_and_can_begin_again(manager: Any, shm_name: str) -> None:
    with create(shm_name, manager.points) as writer, attach(shm_name) as image:
        for _ in range(2):
            with polling(manager, writer) as thread:
                peers.wait_until(lambda: image.snapshot()["Fan/M1"].quality == 0)
                began = time.monotonic()
                manager.stop_clients()
                thread.join(5)
                assert time.monotonic() - began < 2.0
        writer.close(unlink=True)


def test_it_runs_in_the_main_thread_and_a_signal_handler_may_stop_it(manager: Any, shm_name: str) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: manager.stop_clients())
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        with create(shm_name, manager.points) as writer:
            manager.start_clients()
            timer.start()
            began = time.monotonic()
            manager.periodic_read(INTERVAL, [writer], [None])
            assert 0.4 < time.monotonic() - began < 3.0
            writer.close(unlink=True)
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_stop_is_harmless_when_nothing_runs_and_is_not_lost_before_it_runs(manager: Any, shm_name: str) -> None:
    manager.stop_clients()
    manager.stop_clients()
    manager.start_clients()
    manager.stop_clients()
    with create(shm_name, manager.points) as writer:
        manager.periodic_read(INTERVAL, [writer], [None])  # returns
        writer.close(unlink=True)


def test_a_device_that_is_down_is_bad_with_a_reason_and_harms_no_other(
    kind: Kind, devices: tuple[Any, ...], tmp_path: Path, shm_name: str
) -> None:
    ports = [peers.free_port() for _ in devices]
    down = tuple(kind.moved(device, port) for device, port in zip(devices, ports, strict=True))
    manager = kind.make(write(kind, tmp_path / "down.xml", (down[0], devices[1])), None, interval=INTERVAL)
    kind.load(manager)
    with create(shm_name, manager.points) as writer, attach(shm_name) as image:
        with polling(manager, writer):
            peers.wait_until(lambda: image.snapshot()["Fan/M1"].quality == 0)
            peers.wait_until(lambda: image.snapshot()["Pump ä/$last_error"].value)
            sample = image.snapshot()["Pump ä/M1"]
            assert is_bad(sample.quality)
            assert sample.value is None
            assert image.snapshot()["Fan/M1"].quality == 0
            peers.wait_until(lambda: manager.health().message.startswith(kind.says))
            assert (manager.health().connected, manager.health().devices) == (1, 2)
        writer.close(unlink=True)


def test_an_audience_gets_its_part_and_an_unknown_point_is_refused(manager: Any, shm_prefix: str) -> None:
    part = [point for point in manager.points if point.device == "Fan"]
    with create(f"{shm_prefix}_a", manager.points) as whole, create(f"{shm_prefix}_b", part) as some, \
            attach(f"{shm_prefix}_b") as image:
        with polling(manager, whole, some):
            peers.wait_until(lambda: image.snapshot()["Fan/M1"].quality == 0)
        assert "Pump ä/M1" not in image.snapshot()
        whole.close(unlink=True)
        some.close(unlink=True)
    with create(f"{shm_prefix}_c", ["Nobody/M1"]) as strange:
        manager.start_clients()
        with pytest.raises(ValueError, match="Nobody/M1"):
            manager.periodic_read(INTERVAL, [strange], [None])
        strange.close(unlink=True)
