"""`cpc dnp3`: points to DNP3 points, qualities to flags, who may connect, and what a bad peer can't do."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import ssl
import struct
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consumers import context, plant, step_until
from dnp3_outstation import Command, CommandStatus, Flag, Kind, Operation, Outstation, PointConfig
from dnp3_rig import frame, some_points, split
from endpoint_config import Dnp3Consumer as Settings
from endpoint_config import Dnp3Map, Dnp3MapPoint, Dnp3Master, Dnp3Serial, Dnp3Tls
from process_image import Point
from process_image.quality import quality_name

from cpc.consumers.dnp3 import Dnp3Consumer
from cpc.consumers.dnp3.consumer import session_settings
from cpc.consumers.dnp3.controls import Controls
from cpc.consumers.dnp3.indexes import keep_indexes, load_indexes
from cpc.consumers.dnp3.links import SLICE, allowed
from cpc.consumers.dnp3.mapping import Indexes, Served, map_points
from cpc.consumers.dnp3.profile import as_csv, device_profile
from cpc.consumers.dnp3.qualities import TABLE, flags_of
from cpc.consumers.dnp3.server import Server

ROOT = Path(__file__).resolve().parents[3]
POINTS = [Point(name="on", device="A", type="bool", writable=True), Point(name="x", device="A", type="float32"),
          Point(name="y", device="A", type="int16", writable=True, range=(0.0, 10.0)),
          Point(name="t", device="A", type="string"), Point(name="$connected", device="A", type="uint8")]


def mapped(
    mapping: Dnp3Map, points: list[Point] = POINTS, indexes: Indexes | None = None,
) -> dict[tuple[int, int], str]:
    found = map_points({"s": points}, mapping, indexes or Indexes())
    return {(int(s.config.kind), s.config.index): s.point for s in found.served}


def test_points_are_mapped_automatically_by_their_types():
    assert mapped(Dnp3Map()) == {(1, 0): "A/on", (10, 0): "A/on", (30, 0): "A/x", (30, 1): "A/y", (40, 0): "A/y",
                                 (110, 0): "A/t"}


def test_the_map_goes_before_the_automatic_types():
    mapping = Dnp3Map(points=(Dnp3MapPoint(name="A/x", type="counter", index=7, event_class=1),
                              Dnp3MapPoint(name="A/t", type="none"), Dnp3MapPoint(name="A/on", event_class=3)))
    assert mapped(mapping) == {(1, 0): "A/on", (10, 0): "A/on", (20, 7): "A/x", (30, 0): "A/y", (40, 0): "A/y"}


def test_an_entry_that_speaks_of_nothing_is_told():
    found = map_points({"s": POINTS}, Dnp3Map(points=(Dnp3MapPoint(name="B/*", type="counter", line=4),)), Indexes())
    assert found.warnings == [".:4: no point 'B/*' in the segments; the full name of a point, or a pattern"]


def test_an_index_once_given_stays_and_is_never_given_to_another(tmp_path):
    indexes = Indexes()
    before = mapped(Dnp3Map(), POINTS, indexes)
    keep_indexes(tmp_path / "points.json", indexes)
    again = load_indexes(tmp_path / "points.json")
    more = [Point(name="new", device="A", type="bool"), *POINTS[1:]]
    after = mapped(Dnp3Map(), more, again)
    assert (1, 0) not in after and after[1, 1] == "A/new"
    assert {key: name for key, name in after.items() if name != "A/new"} == {
        key: name for key, name in before.items() if name != "A/on"}
    (tmp_path / "points.json").write_text("{")
    assert load_indexes(tmp_path / "points.json").known == {}


def test_the_reference_has_the_table_of_qualities_as_the_code_has_it():
    text = (ROOT / "docs" / "reference" / "dnp3.md").read_text()
    section = text[text.index("## Quality and flags") : text.index("## Events and times")]
    told: dict[str, set[str]] = {}
    for names, flags in re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.M):
        for name in re.findall(r"`(\w+)`", names):
            told[name] = set(re.findall(r"[A-Z_]{4,}", flags))
    names = ("ONLINE", "RESTART", "COMM_LOST", "REMOTE_FORCED", "LOCAL_FORCED", "OVER_RANGE", "REFERENCE_ERR")
    assert told == {quality_name(code): {name for name in names if flags & Flag[name]} for code, flags in TABLE.items()}


def test_flags_are_only_those_that_the_type_has():
    codes = np.array([0, 0x40940000, 0x80020000, 0x800A0123], np.uint32)
    assert flags_of(codes, Kind.ANALOG_INPUT).tolist() == [1, 0x21, 0, 4]
    assert flags_of(codes, Kind.BINARY_INPUT).tolist() == [1, 1, 0, 4]


class Gate:
    def __init__(self) -> None:
        self.open: list[Any] = []

    def submit(self, point: str, value: Any, done: Any) -> bool:
        self.open.append((point, value, done))
        return True


def control(kind: Kind = Kind.ANALOG_OUTPUT, index: int = 0, value: float = 5.0) -> Command:
    return Command(kind=kind, index=index, value=value, operation=Operation.LATCH_ON)


def outputs() -> dict[tuple[Kind, int], Served]:
    served = Served(segment="s", point="A/y", config=PointConfig(kind=Kind.ANALOG_OUTPUT, index=0), scale=2.0,
                    writable=True, range=(0.0, 10.0))
    return {(Kind.ANALOG_OUTPUT, 0): served}


def test_a_control_that_is_to_be_executed_no_times_is_not():
    gate, relay = Gate(), (Kind.BINARY_OUTPUT, 0)
    ready = Controls({relay: replace(outputs()[Kind.ANALOG_OUTPUT, 0], config=PointConfig(kind=relay[0], index=0))},
                     gate=gate)
    never = replace(control(*relay, value=1.0), count=0)
    assert ready.select([never]) == ready.operate([never], 1) == [CommandStatus.NOT_SUPPORTED]
    assert gate.open == []
    assert ready.operate([replace(never, count=1)], 2) is None and len(gate.open) == 1


def test_controls_are_refused_with_the_status_that_says_why():
    gate = Gate()
    assert Controls(outputs()).select([control()]) == [CommandStatus.NOT_AUTHORIZED]
    assert Controls(outputs(), local=True, gate=gate).select([control()]) == [CommandStatus.LOCAL]
    ready = Controls(outputs(), gate=gate)
    assert ready.select([control(index=3)]) == [CommandStatus.NOT_SUPPORTED]
    assert ready.select([control(value=21.0)]) == [CommandStatus.OUT_OF_RANGE]
    assert ready.operate([control()], 1) is None
    assert ready.select([control()]) == [CommandStatus.ALREADY_ACTIVE]
    gate.open[0][2](CommandStatus.HARDWARE_ERROR)
    assert gate.open[0][:2] == ("A/y", 2.5)
    assert ready.finished == [(1, [CommandStatus.HARDWARE_ERROR])]
    assert ready.select([control()]) == [CommandStatus.SUCCESS]


def test_masters_may_connect_from_their_networks_alone():
    master = Dnp3Master(allow=("10.1.0.0/16", "::1/128"))
    assert allowed("10.1.2.3", master) and allowed("::1", master) and allowed("::ffff:10.1.2.3", master)
    assert not allowed("10.2.0.1", master) and not allowed("127.0.0.1", master) and not allowed("x", master)


class Running:
    """A consumer on a small plant, stepped by a thread."""

    def __init__(self, consumer: Dnp3Consumer) -> None:
        self.consumer = consumer
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            self.consumer.step(0.05)

    def __enter__(self) -> Dnp3Consumer:
        self.consumer.start()
        step_until(self.consumer, lambda: self.consumer.outstation is not None)
        self.consumer.step(0.0)
        self._thread.start()
        return self.consumer

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        self.consumer.stop()


@pytest.fixture
def running(tmp_path, shm_name):
    made: list[Any] = []

    def start(**settings: Any) -> Dnp3Consumer:
        writer = plant(shm_name, POINTS)
        made.append(writer)
        writer.__enter__().set({"A/x": 1.5})
        settings.setdefault("masters", (Dnp3Master(unsolicited=False),))
        run = Running(Dnp3Consumer(context(tmp_path, shm_name, settings=Settings(
            kind="dnp3", name="d", port=0, **settings))))
        made.append(run)
        return run.__enter__()

    yield start
    for item in reversed(made):
        item.__exit__(None, None, None)


def ask(sock: Any, octets: bytes = b"") -> list[Any]:
    """Send octets (a read of analog inputs) and wait for one frame."""
    sock.sendall(octets or frame(0xC4, bytes([0xC0, 0xC1, 1, 30, 0, 6])))
    data = b""
    while len(data) < 12:
        part = sock.recv(4096)
        if not part:
            return []
        data += part
    return split(data)


def test_a_port_scan_and_a_flood_do_not_keep_the_master_out(running):
    consumer = running()
    where = ("127.0.0.1", consumer.server.port)
    idlers = [socket.create_connection(where) for _ in range(40)]
    for idler in idlers[:10]:
        idler.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
    with socket.create_connection(where, timeout=10) as master:
        assert ask(master)
    for idler in idlers:
        idler.close()


def test_a_master_that_reads_nothing_holds_up_nobody_and_stays_bounded(running):
    consumer = running(masters=(Dnp3Master(address=1, unsolicited=False), Dnp3Master(address=2, unsolicited=False)))
    where = ("127.0.0.1", consumer.server.port)
    with socket.create_connection(where) as greedy, socket.create_connection(where, timeout=10) as other:
        greedy.setblocking(False)
        request = frame(0xC9) * 2000
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            try:
                greedy.send(request)
            except BlockingIOError:
                select.select([], [greedy], [], 0.05)
        assert ask(other, frame(0xC4, bytes([0xC0, 0xC1, 1, 30, 0, 6]), source=2))
        assert all(len(c.output) < 1_000_000 for c in consumer.server.connections)


def test_a_flood_gets_no_larger_share_than_a_master_that_asks_once(monkeypatch):
    monkeypatch.setattr("cpc.consumers.dnp3.server.TURN_SECONDS", 0.0)
    masters = tuple(Dnp3Master(address=n, unsolicited=False) for n in (1, 2, 3))
    device, server = Outstation(some_points(4)), Server(Settings(kind="dnp3", name="d", port=0, masters=masters))
    sessions = [device.session(session_settings(server.settings, master)) for master in masters]
    server.serve(list(zip(masters, sessions, strict=True)))
    server.turn()
    request = bytes([0xC0, 0xC1, 1, 60, 1, 6])
    with contextlib.ExitStack() as stack:
        good, *floods = (stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
                         for _ in masters)
        stack.callback(server.close)
        for flood, source in zip(floods, (2, 3), strict=True):
            flood.sendall(frame(0xC4, request, source=source) * 700)
        good.sendall(frame(0xC4, request))
        while not sessions[0].counters.responses:
            server.turn()
        for _ in range(20):
            before = sessions[1].counters.requests + sessions[2].counters.requests
            good.sendall(frame(0xC4, request))
            answered = sessions[0].counters.responses
            while sessions[0].counters.responses == answered:
                server.turn()
            after = sessions[1].counters.requests + sessions[2].counters.requests
            assert after - before <= 2 * 2 * (SLICE // 18 + 1)  # two turns of two floods
        assert sessions[1].counters.requests > 0 < sessions[2].counters.requests


def test_a_newer_connection_of_a_master_replaces_the_older_one(running):
    consumer = running()
    where = ("127.0.0.1", consumer.server.port)
    with socket.create_connection(where, timeout=10) as old:
        assert ask(old)
        with socket.create_connection(where, timeout=10) as new:
            assert ask(new)
            assert old.recv(10) == b""


def certificates(folder: Path) -> tuple[Path, Path]:
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


def secured(where: tuple[str, int], tls: ssl.SSLContext | None) -> list[Any]:
    """What comes back over TLS, or without it; nothing where the connection ends."""
    with socket.create_connection(where, timeout=10) as plain:
        try:
            if tls is None:
                return ask(plain)
            with tls.wrap_socket(plain, server_hostname="localhost") as wrapped:
                return ask(wrapped)
        except OSError:
            return []


def test_tls_serves_who_shows_a_certificate_and_nobody_else(running, tmp_path):
    cert, key = certificates(tmp_path)
    consumer = running(tls=Dnp3Tls(certificate=cert, key=key, ca=cert))
    where = ("127.0.0.1", consumer.server.port)
    good = ssl.create_default_context(cafile=str(cert))
    good.load_cert_chain(cert, key)
    stranger = ssl.create_default_context(cafile=str(cert))
    assert secured(where, good)
    assert not secured(where, stranger)
    assert not secured(where, None)
    until = time.monotonic() + 10
    while consumer.server.refused < 2:  # who finds no way in finds it in the status
        assert time.monotonic() < until
        time.sleep(0.01)



def test_one_who_is_gone_before_tls_begins_is_refused_and_stops_nothing(tmp_path, shm_name):
    cert, key = certificates(tmp_path)
    tls = Dnp3Tls(certificate=cert, key=key, ca=cert)
    with plant(shm_name, POINTS):
        consumer = Dnp3Consumer(context(tmp_path, shm_name, settings=Settings(
            kind="dnp3", name="d", port=0, tls=tls, masters=(Dnp3Master(unsolicited=False),))))
        consumer.start()
        consumer.step(0.0)
        for words in (b"", b"GET"):
            gone = socket.create_connection(("127.0.0.1", consumer.server.port), timeout=10)
            gone.sendall(words)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, as scanners do
            gone.close()
        consumer.step(0.0)
        consumer.step(0.0)
        assert consumer.server.refused == 2 and not consumer.server.connections
        consumer.stop()


def test_a_serial_line_is_served(running):
    ours, theirs = os.openpty()
    consumer = running(serial=Dnp3Serial(device=os.ttyname(theirs)))
    step = time.monotonic() + 10
    while not consumer.server.connections and time.monotonic() < step:
        time.sleep(0.01)
    os.write(ours, frame(0xC9))
    assert select.select([ours], [], [], 10)[0]
    assert split(os.read(ours, 100))[0].control == 0x0B
    os.close(ours)
    os.close(theirs)


def test_the_outstation_connects_where_it_is_told_to(running):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        running(masters=(Dnp3Master(connect=listener.getsockname()[:2], unsolicited=False),))
        master, _ = listener.accept()
        with master:
            master.settimeout(10)
            assert ask(master)


def test_a_writer_that_is_gone_makes_its_points_lost(tmp_path, shm_name):
    with plant(shm_name, POINTS) as writer:
        writer.set({"A/x": 1.5})
        consumer = Dnp3Consumer(context(tmp_path, shm_name, settings=Settings(kind="dnp3", name="d", port=0)))
        consumer.start()
        step_until(consumer, lambda: consumer.outstation is not None)
        table = consumer.outstation.database[Kind.ANALOG_INPUT]
        assert table.flags[0] == Flag.ONLINE
        writer.writer.close(unlink=False)
        step_until(consumer, lambda: table.flags[0] == Flag.COMM_LOST)
        assert table.value[0] == 1.5
        consumer.stop()


def test_the_profile_lists_every_point(tmp_path):
    found = map_points({"s": POINTS}, Dnp3Map(), Indexes()).served
    text = as_csv(found)
    assert text.splitlines()[0].startswith("type,group,index,point") and len(text.splitlines()) == 7
    assert ("Outstation address", "10") in device_profile(Settings(kind="dnp3", name="d"), found)
