"""opendnp3's master (by yadnp3) as a user of `cpc dnp3`: everything that it reports equals the segment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dnp3_dissect
import pytest
from dnp3_served import COUNT, Served, served, values, wait_for
from endpoint_config import Dnp3Master

dnp3 = pytest.importorskip("opendnp3", reason="peer absent: yadnp3; `make test` installs it")

ONLINE = 1


@pytest.fixture(scope="module", autouse=True)
def dissected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with dnp3_dissect.recorded() as recorder:
        yield
    dnp3_dissect.dissect(recorder, tmp_path_factory.mktemp("dissected"))


class Seen(dnp3.ISOEHandler):
    """What the master reports: the last value of each point, and all events."""

    def __init__(self) -> None:
        super().__init__()
        self.static: dict[tuple[str, int], Any] = {}
        self.events: list[tuple[str, int, Any]] = []
        self.unsolicited = 0
        self.attributes: list[Any] = []

    def BeginFragment(self, info: Any) -> None:
        self.unsolicited += info.unsolicited

    def EndFragment(self, info: Any) -> None:
        pass

    def OnDeviceAttribute(self, *args: Any) -> None:
        self.attributes.append(args)

    def Process(self, info: Any, found: Any) -> None:
        for item in found:
            name, value = type(item.value).__name__, item.value
            if info.isEventVariation or info.gv.value >> 8 == 111:
                self.events.append((name, item.index, value))
            else:
                self.static[name, item.index] = value


class Application(dnp3.IMasterApplication):
    """Indications and finished tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.indications: list[int] = []
        self.tasks: list[tuple[str, str]] = []
        self.offset_ms = 0

    def OnReceiveIIN(self, iin: Any) -> None:
        self.indications.append(iin.LSB | iin.MSB << 8)

    def OnTaskComplete(self, info: Any) -> None:
        self.tasks.append((info.type.name, info.result.name))

    def Now(self) -> Any:
        return dnp3.UTCTimestamp(time.time_ns() // 1_000_000 + self.offset_ms)


class Listener(dnp3.IChannelListener):
    def OnStateChange(self, state: Any) -> None:
        pass


class Master:
    def __init__(self, port: int, *, address: int = 1, tls: Any = None, **params: Any) -> None:
        self.seen, self.application, self.listener = Seen(), Application(), Listener()
        self.application.offset_ms = params.pop("offset_ms", 0)
        self.manager = dnp3.DNP3Manager(1)
        retry = dnp3.ChannelRetry(dnp3.TimeDuration.Milliseconds(50), dnp3.TimeDuration.Milliseconds(500))
        where = [dnp3.IPEndpoint("127.0.0.1", port)]
        if tls is None:
            self.channel = self.manager.AddTCPClient("c", dnp3.LogLevels.none(), retry, where, "", self.listener)
        else:
            self.channel = self.manager.AddTLSClient("c", dnp3.LogLevels.none(), retry, where, "", tls, self.listener)
        config = dnp3.MasterStackConfig()
        config.link.LocalAddr, config.link.RemoteAddr = address, 10
        config.master.responseTimeout = dnp3.TimeDuration.Seconds(5)
        for name, value in params.items():
            setattr(config.master, name, value)
        self.master = self.channel.AddMaster("m", self.seen, self.application, config)
        self.master.Enable()

    def done(self, task: str) -> bool:
        return (task, "SUCCESS") in self.application.tasks

    def close(self) -> None:
        self.manager.Shutdown()


@pytest.fixture
def master(request: pytest.FixtureRequest, served_plant: Served) -> Iterator[Master]:
    made = Master(served_plant.port, **getattr(request, "param", {}))
    try:
        wait_for(lambda: made.done("STARTUP_INTEGRITY_POLL"), "the integrity poll")
        yield made
    finally:
        made.close()


@pytest.fixture
def served_plant(tmp_path: Path, shm_name: str) -> Iterator[Served]:
    with served(tmp_path, shm_name, masters=(Dnp3Master(hold_time=0.05),)) as made:
        yield made


NAMES = {"Binary": "bit", "DoubleBitBinary": "two", "Analog": "float", "Counter": "count",
         "BinaryOutputStatus": "relay", "AnalogOutputStatus": "set", "OctetString": "text"}
DOUBLE = ["INTERMEDIATE", "DETERMINED_OFF", "DETERMINED_ON", "INDETERMINATE"]


def plain(kind: str, value: Any) -> Any:
    """A value of opendnp3 as one of the plant."""
    if kind == "OctetString":
        return bytes(value.ToBytes()).decode()
    return DOUBLE.index(value.value.name) if kind == "DoubleBitBinary" else value.value


def flags(value: Any) -> int:
    return int(value.flags.value) & 0x3F


def assert_equals(found: dict[tuple[str, int], Any], turn: int) -> None:
    expected = values(turn=turn)
    for kind, name in NAMES.items():
        for index in range(COUNT):
            value = found[kind, index]
            assert plain(kind, value) == expected[f"P/{name}{index:04}"], (kind, index)
            if kind != "OctetString":
                assert flags(value) == ONLINE, (kind, index, flags(value))


def test_integrity_of_a_thousand_points_of_every_type(master: Master) -> None:
    assert_equals(master.seen.static, 0)
    assert master.application.indications[0] & 0x80
    wait_for(lambda: master.done("CLEAR_RESTART"), "the restart bit cleared")


def test_unsolicited_events_carry_every_change_with_flags_and_times(master: Master, served_plant: Served) -> None:
    wait_for(lambda: master.done("ENABLE_UNSOLICITED"), "unsolicited enabled")
    moment = 1_700_000_000_123
    served_plant.plant.set(values(turn=1), source_time=moment * 1_000_000)
    before, after = values(), values(turn=1)
    changed = {name for name, value in after.items() if before[name] != value}
    wait_for(lambda: len(master.seen.events) >= len(changed), "all events")
    assert len(master.seen.events) == len(changed)
    events = {(kind, index): value for kind, index, value in master.seen.events}
    for (kind, index), value in events.items():
        assert plain(kind, value) == after[f"P/{NAMES[kind]}{index:04}"]
        if kind != "OctetString":
            assert flags(value) == ONLINE
            assert value.time.value == moment
    assert master.seen.unsolicited


def test_classes_are_polled_and_lost_quality_becomes_flags(tmp_path: Path, shm_name: str) -> None:
    with served(tmp_path, shm_name, masters=(Dnp3Master(unsolicited=False),)) as plant:
        master = Master(plant.port, disableUnsolOnStartup=False)
        try:
            wait_for(lambda: master.done("STARTUP_INTEGRITY_POLL"), "the integrity poll")
            plant.plant.set({"P/float0007": 1.5, "P/bit0000": False}, quality=0x800A0000)
            wait_for(lambda: sum(plant.consumer.outstation.sessions[0].buffer.unsent) >= 2, "events")
            for cls in (1, 2, 3):
                field = dnp3.ClassField(False, cls == 1, cls == 2, cls == 3)
                before = len(master.seen.events)
                master.master.ScanClasses(field, master.seen)
                wait_for(lambda before=before, cls=cls: len(master.seen.events) > before or cls == 3, f"class {cls}")
            wait_for(lambda: ("Analog", 7) in {(k, i) for k, i, _ in master.seen.events}, "the analog event")
            found = {(kind, index): value for kind, index, value in master.seen.events}
            assert flags(found["Analog", 7]) == 0x04
            assert flags(found["Binary", 0]) == 0x04
        finally:
            master.close()


def test_controls_go_to_the_gate_and_the_answers_come_back(master: Master, served_plant: Served) -> None:
    results: list[Any] = []
    latch = dnp3.ControlRelayOutputBlock(dnp3.OperationType.LATCH_ON)
    master.master.SelectAndOperate(latch, 3, results.append)
    wait_for(lambda: len(results) == 1, "the first control")
    master.master.DirectOperate(dnp3.AnalogOutputDouble64(12.5), 4, results.append)
    wait_for(lambda: len(results) == 2, "the second control")
    master.master.DirectOperate(dnp3.AnalogOutputDouble64(12.5), 4000, results.append)
    wait_for(lambda: len(results) == 3, "the third control")
    statuses = [item.status.name for result in results for item in result.to_list()]
    assert statuses == ["SUCCESS", "SUCCESS", "NOT_SUPPORTED"]
    assert served_plant.writes.done == [("P/relay0003", True), ("P/set0004", 12.5)]


def test_counters_are_frozen_and_cleared(master: Master, served_plant: Served) -> None:
    master.master.Freeze(dnp3.FreezeType.FreezeAndClear, [dnp3.Header.AllObjects(20, 0)])
    frozen = served_plant.consumer.outstation.database
    from dnp3_outstation import Kind
    wait_for(lambda: frozen[Kind.FROZEN_COUNTER].value[999] == 999 * 4_000_000, "the freeze")
    master.master.ScanAllObjects(dnp3.GroupVariationID(21, 0), master.seen)
    master.master.ScanAllObjects(dnp3.GroupVariationID(20, 0), master.seen)
    wait_for(lambda: master.seen.static["Counter", 999].value == 0, "cleared counters")
    assert all(master.seen.static["FrozenCounter", i].value == i * 4_000_000 for i in range(COUNT))
    assert all(master.seen.static["Counter", i].value == 0 for i in range(COUNT))


@pytest.mark.parametrize("mode", ["LAN", "NonLAN"])
def test_time_is_synchronised_into_an_offset(tmp_path: Path, shm_name: str, mode: str) -> None:
    with served(tmp_path, shm_name, count=4, masters=(Dnp3Master(time_source="master"),)) as plant:
        master = Master(plant.port, timeSyncMode=getattr(dnp3.TimeSyncMode, mode), offset_ms=60_000)
        try:
            wait_for(lambda: any("TIME_SYNC" in name for name, how in master.application.tasks if how == "SUCCESS"),
                     "time synchronised")
            session = plant.consumer.outstation.sessions[0]
            wait_for(lambda: not session.executor.time.need_time, "NEED_TIME cleared")
            assert abs(session.detector.offset_ms - 60_000) < 5_000
        finally:
            master.close()


def test_attributes_deadbands_and_a_restart(master: Master, served_plant: Served) -> None:
    master.master.ScanAllObjects(dnp3.GroupVariationID(0, 252), master.seen)
    done: list[Any] = []
    deadband = dnp3.IndexedAnalogInputDeadband(dnp3.AnalogInputDeadband(2.5), 5)
    master.master.WriteDeadBands([deadband], done.append)
    session = served_plant.consumer.outstation.sessions[0]
    from dnp3_outstation import Kind
    wait_for(lambda: session.detector.deadbands(Kind.ANALOG_INPUT)[5] == 2.5, "the deadband")
    before = len(master.application.tasks)
    restarted = threading.Event()
    master.master.Restart(dnp3.RestartType.COLD, lambda result: restarted.set())
    assert restarted.wait(10)
    wait_for(lambda: ("CLEAR_RESTART", "SUCCESS") in master.application.tasks[before:], "the restart noticed")
    assert session.detector.deadbands(Kind.ANALOG_INPUT)[5] == 0.0


def test_link_status_is_answered(master: Master) -> None:
    answered = threading.Event()
    master.master.CheckLinkStatus(lambda *result: answered.set())
    assert answered.wait(10)


def test_two_masters_have_a_session_each(tmp_path: Path, shm_name: str) -> None:
    masters = (Dnp3Master(address=1, hold_time=0.05), Dnp3Master(address=2, hold_time=0.05))
    with served(tmp_path, shm_name, count=10, masters=masters) as plant:
        both = [Master(plant.port, address=address) for address in (1, 2)]
        try:
            for master in both:
                wait_for(lambda master=master: master.done("ENABLE_UNSOLICITED"), "both masters")
            plant.plant.set({"P/float0003": 77.0})
            for master in both:
                wait_for(lambda master=master: [v.value for k, i, v in master.seen.events if k == "Analog"] == [77.0])
        finally:
            for master in both:
                master.close()
