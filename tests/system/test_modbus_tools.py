"""The tools of the engineer with the laptop: poke, scan, the packet log, against real devices."""

from __future__ import annotations

import itertools
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import peers
import pytest
from endpoint_config import to_xml
from endpoint_config.models import Datatype
from modbus_proxy import Proxy
from modbus_rig import LyingDevice, Partition, black_hole, device, holding
from modbus_servers import libmodbus_device, pymodbus_device
from modbus_tcp_client import ModbusTCPClient, Packet
from modbus_tcp_client.scan import Pace
from process_image import attach

from cpc.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cpc(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command: exit status, stdout, stderr."""
    def run(*words: object) -> tuple[int, str, str]:
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()
    return run


def asked(cpc: Run, *words: object) -> dict[str, Any]:
    """The JSON of `cpc poke modbus`; it must have gone well."""
    status, out, err = cpc("poke", "modbus", *words, "--json")
    assert (status, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_every_function_that_writes_is_seen_in_the_devices_own_memory(cpc: Run) -> None:
    with libmodbus_device() as plc:
        url = f"tcp://127.0.0.1:{plc.port}"
        registers, coils = plc.memory().registers, plc.memory().coils
        for words in (
            ("fc05", 3, "off"), ("fc06", 10, -1), ("fc15", 20, "on", "off", "1"), ("fc16", 30, "0x10", "0b11"),
            ("fc16", 40, "21.5", "--as", "float32", "--order", "CDAB"), ("fc16", 50, "Öl 7", "--as", "string"),
            ("fc22", 60, "0xFF00", "0x0012"), ("fc23", 30, 2, 70, 1, 2),
        ):
            status, _, err = cpc("poke", "modbus", url, *words)
            assert (status, "add --write" in err) == (2, True)
            assert asked(cpc, url, *words, "--write")["function"] == words[0]
        coils[3], coils[20:23] = False, [True, False, True]
        registers[10], registers[30:32], registers[40:42] = 0xFFFF, [0x10, 3], [0, 0x41AC]
        registers[50:53] = [0xC396, 0x6C20, 0x3700]
        registers[60] = registers[60] & 0xFF00 | 0x12
        registers[70:72] = [1, 2]
        assert (plc.memory().registers, plc.memory().coils) == (registers, coils)
        assert plc.memory().writes == 8


def test_every_function_that_asks_against_pymodbus(cpc: Run) -> None:
    with pymodbus_device() as plc:
        url = f"127.0.0.1:{plc.port}"
        assert asked(cpc, url, "fc01", 0, 5)["bits"] == [True, False, True, False, True]
        assert asked(cpc, url, "fc02", 0, 4)["bits"] == [True, False, False, True]
        assert asked(cpc, url, "fc03", 10, 3)["registers"] == [50, 55, 60]
        assert asked(cpc, url, "fc04", 10)["registers"] == [70]
        assert asked(cpc, url, "fc08", 0, "a537")["data"] == "a537"
        assert asked(cpc, url, "fc17")["running"] is True
        assert asked(cpc, url, "fc24", 5)["registers"] == [0, 1, 2, 3]
        assert set(asked(cpc, url, "fc43", "basic")["objects"]) <= {"vendor", "product", "revision"}


def test_the_same_registers_are_shown_in_every_type_and_order(cpc: Run) -> None:
    with LyingDevice(registers={10: 0x0000, 11: 0x41AC, 12: 0x4142, 13: 0xFFFF}) as plc:
        status, out, _ = cpc("poke", "modbus", f"127.0.0.1:{plc.port}", "fc03", 10, 4, "--unit", 7)
        assert status == 0
        assert f"127.0.0.1:{plc.port}, unit 7, fc03" in out
        assert re.search(r"^ +11  41AC +16812 +16812 +44097 +- .* 0100 0001 1010 1100  A\.$", out, re.MULTILINE)
        assert re.search(r"^ +float32 +2\.355863e-41 +21\.5 ", out, re.MULTILINE)
        assert "4 REGISTERS" in out
        assert plc.log == [(7, 3, 10, 4)]
        meanings = asked(cpc, f"127.0.0.1:{plc.port}", "fc03", 10, 2)["meanings"]
        assert {"address": 10, "type": "float32", "order": "CDAB", "value": 21.5} in meanings


@pytest.mark.parametrize(("words", "status", "message"), [
    (("fc99", "1"), 2, "function 'fc99'; one of fc01"),
    (("fc03",), 2, "usage: cpc poke modbus URL fc03 ADDRESS [COUNT]"),
    (("fc03", "x"), 2, "'x' is no number"),
    (("fc03", "0", "126"), 2, "1 to 125 is allowed"),
    (("fc06", "0", "65536", "--write"), 2, "does not fit 16 bits"),
    (("fc06", "0", "1.5", "--as", "float32", "--write"), 2, "fc06 writes one register"),
    (("fc05", "0", "maybe", "--write"), 2, "'maybe'; one of 1, on"),
    (("fc08", "4", "--write"), 2, "silence the device"),
    (("fc08", "0", "zz"), 2, "'zz'; hexadecimal digits"),
    (("fc16", "0", "x", "--as", "float32", "--write"), 2, "'x' is no number"),
    (("fc08", "1"), 2, "add --write"),
    (("fc03", "5000"), 1, "exception 02"),
    (("fc03", "40011"), 1, "(number 40011 in a manual is often the protocol address 10)"),
])
def test_faults_of_poke_say_what_and_what_to_do(words: tuple[str, ...], status: int, message: str, cpc: Run) -> None:
    with LyingDevice() as plc:
        ended, out, err = cpc("poke", "modbus", f"127.0.0.1:{plc.port}", *words)
        assert (ended, out) == (status, "")
        assert message in err


def test_a_device_that_is_not_there_is_status_3(cpc: Run, free_port: Callable[[], int]) -> None:
    assert cpc("poke", "modbus", f"127.0.0.1:{free_port()}", "fc03", 0)[0] == 3
    assert cpc("poke", "modbus", "ftp://x", "fc03", 0)[0] == 2
    assert cpc("scan", "modbus", f"127.0.0.1:{free_port()}", "--units", "1")[0] == 3
    with LyingDevice(silent_units={1}) as plc:
        status, _, err = cpc("poke", "modbus", f"127.0.0.1:{plc.port}", "fc03", 0, "--timeout", "0.1")
        assert (status, "no answer within 0.1 s" in err) == (3, True)


def test_poke_shows_the_frames(cpc: Run) -> None:
    with LyingDevice() as plc:
        _, _, err = cpc("poke", "modbus", f"127.0.0.1:{plc.port}", "fc03", 1, "--packets")
        assert re.search(r"^127.0.0.1:\d+  >  .. .. 00 00 00 06 01 03 00 01 00 01  read holding registers 1$", err,
                         re.MULTILINE)
        assert re.search(r"  <  .* 01 03 02 03 e9  read holding registers 1: 1001$", err, re.MULTILINE)


# ---------------------------------------------------------------- scan


def test_scan_finds_the_units_that_answer_in_whatever_way(cpc: Run) -> None:
    with LyingDevice(registers={0: 17}, silent_units={2, 3, 5}) as plc:
        status, out, _ = cpc("scan", "modbus", f"127.0.0.1:{plc.port}", "--units", "1-6", "--timeout", "0.1",
                             "--rate", "1000", "--quick", "--json")
        found = json.loads(out)
        assert (status, found["asked"]) == (0, 6)
        assert [(u["unit"], u["answer"]) for u in found["units"]] == [(n, "value 17") for n in (1, 4, 6)]
        assert [entry[0] for entry in plc.log] == [1, 2, 3, 4, 5, 6]  # each was asked once
        plc.silent_units = set(range(10))
        status, out, _ = cpc("scan", "modbus", f"127.0.0.1:{plc.port}", "--units", "1-2,6", "--timeout", "0.05")
        assert (status, "none of 3 units answers" in out) == (3, True)


def test_scan_says_what_a_device_is(cpc: Run) -> None:
    with libmodbus_device() as plc:
        status, out, _ = cpc("scan", "modbus", f"127.0.0.1:{plc.port}", "--units", "9", "--timeout", "3")
        assert status == 0
        assert re.search(r"^ +9 +[\d.]+  value 7 +LMB", out, re.MULTILINE)


def test_scan_tells_of_a_device_that_does_not_look_at_the_unit_id(cpc: Run) -> None:
    with LyingDevice(registers={0: 17}) as plc:
        _, out, _ = cpc("scan", "modbus", f"127.0.0.1:{plc.port}", "--units", "1-6", "--rate", "1000", "--quick")
        assert "All answer alike" in out


def test_scan_hears_units_that_are_too_slow_and_survives_those_that_hang_up(cpc: Run) -> None:
    with LyingDevice(registers={0: 17}) as plc:
        def behave(request: bytes, answer: bytes) -> list[tuple[float, bytes]] | None:
            if request[6] == 2:
                return [(0.15, answer)]
            if request[6] == 4:
                plc._reset_all()
                return []
            return None if request[6] in (1, 5) else []

        plc.fault = behave
        _, out, _ = cpc("scan", "modbus", f"127.0.0.1:{plc.port}", "--units", "1-5", "--timeout", "0.1", "--json",
                        "--rate", "1000", "--quick")
        answers = {unit["unit"]: unit["answer"] for unit in json.loads(out)["units"]}
        assert set(answers) == {1, 2, 5}
        assert answers[2].startswith("too late")


def test_the_rate_is_bounded() -> None:
    pace = Pace(200.0)
    began = time.monotonic()
    for _ in range(21):
        pace.wait()
    assert time.monotonic() - began >= 0.1


# ---------------------------------------------------------------- packet log


def test_the_manager_tells_every_frame_in_both_directions(shm_name: str) -> None:
    seen: list[Packet] = []
    with LyingDevice() as one, LyingDevice() as two:
        running = Partition(shm_name, [device("one", one.port, interval=0.0), device("two", two.port, interval=0.0)],
                            interval=0.0)
        running.manager.listen(seen.append, ["two"])
        with pytest.raises(ValueError, match="no device 'three'; there are one, two"):
            running.manager.listen(seen.append, ["three"])
        with running:
            running.until_good("one/a", "two/b")
            running.until(lambda r: r.count("two") > 20)
        sent = [packet for packet in seen if packet.direction == ">"]
        assert {packet.device for packet in seen} == {"two"}
        assert len(sent) >= 20
        assert abs(len(sent) - len(two.log)) <= 1
        assert {packet.meaning for packet in seen} == {
            "read holding registers 0 to 1", "read holding registers 0: 1000 1001"}
        assert all(a.time <= b.time for a, b in itertools.pairwise(seen))


def test_a_device_that_is_listened_to_leaves_the_fast_path_to_the_others(
    shm_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modbus_tcp_client.engine.FEWEST", 1)
    seen: list[Packet] = []
    with LyingDevice() as one, LyingDevice() as two:
        running = Partition(shm_name, [device("one", one.port, interval=0.0), device("two", two.port, interval=0.0)],
                            interval=0.0)
        running.manager.listen(seen.append, ["two"])
        with running:
            running.until_good("one/a", "two/b")
            engine = running.manager._engine
            assert engine is not None
            running.until(lambda _: [link.swept for link in engine.links] == [True, False])
            mark = len(seen)
            running.until(lambda _: len(seen) > mark + 10)


def test_the_client_tells_its_frames_too() -> None:
    seen: list[Packet] = []
    with libmodbus_device() as plc, Proxy(plc.port) as way:
        client = ModbusTCPClient("127.0.0.1", way.port, "plc")
        client.listen(seen.append)
        with client:
            client.fc03_read_holding_registers(5)
            client.listen(None)
            client.fc03_read_holding_registers(6)
    assert [packet.meaning for packet in seen] == ["read holding registers 5", "read holding registers 5: 22"]


def test_run_logs_packets(tmp_path: Path, shm_prefix: str) -> None:
    file = tmp_path / "one.xml"
    with LyingDevice() as plc, LyingDevice() as other:
        file.write_bytes(to_xml([device("Pump 1", plc.port, [holding("a", 7, datatype=Datatype.INT16)]),
                                 device("other", other.port)]))
        command = [Path(sys.executable).parent / "cpc", "run", "--modbus", file, "--namespace", shm_prefix,
                   "--log-packets", "interpreted", "--device", "Pump 1"]
        with peers.Peer(command) as run:
            run.wait_for(r"^[\d-]+T[\d:.]+Z  Pump 1  <  read holding registers 7: 1007$")
            run.wait_for(r"^[\d-]+T[\d:.]+Z  Pump 1  >  read holding registers 7$")
            assert "other  " not in run.output


def test_a_packet_log_that_is_not_written_fast_enough_counts_and_waits_for_nobody() -> None:
    from cpc.packet_log import MOST_WAITING, PacketLog

    class Slow:
        def __init__(self) -> None:
            self.text = ""
            self.go = threading.Event()

        def write(self, text: str) -> None:
            self.go.wait(10.0)
            self.text += text

        def flush(self) -> None:
            pass

    slow = Slow()
    log = PacketLog("raw", slow)  # type: ignore[arg-type]
    packet = Packet(time=1_700_000_000_123_456_789, device="d", direction=">", frame=b"\x01")
    for _ in range(3 * MOST_WAITING):
        log(packet)
    slow.go.set()
    log.close()
    lines = slow.text.splitlines()
    assert lines[0] == "2023-11-14T22:13:20.123456Z  d  >  01"
    lost = sum(int(line.split()[1]) for line in lines if "packets not shown" in line)
    assert lost > 0
    assert lost + sum("  d  " in line for line in lines) == 3 * MOST_WAITING


# ---------------------------------------------------------------- identification while polling


def test_a_device_is_asked_once_what_it_is_and_the_answer_is_a_point(shm_name: str) -> None:
    with pymodbus_device() as plc, Proxy(plc.port) as way:
        servers = [device("plc", way.port, identify=True), device("other", plc.port)]
        with Partition(shm_name, servers) as running:
            running.until_good("plc/a", "other/a", "plc/$identity", "plc/$connected", "other/$connected")
            asked = [pdu for pdu in way.requests if pdu[0] in (17, 43)]
            assert asked
            assert "other/$identity" not in {point.full_name for point in running.image.points}
            before = running.count("plc")
            running.until(lambda r: r.count("plc") > before + 10)
            assert [pdu for pdu in way.requests if pdu[0] in (17, 43)] == asked
            assert running.count("plc", "$failures") == 0
            assert not running["plc/$identity"].stale


def test_what_a_device_says_it_is_stands_in_the_image(shm_name: str) -> None:
    servers = [device("plc", 0, identify=True, timeout=2.0)]
    with libmodbus_device() as plc, Partition(shm_name, [replace(servers[0], port=plc.port)]) as running:
        running.until_good("plc/a", "plc/$identity")
        assert str(running["plc/$identity"].value).startswith("LMB")  # by function 17, for it does not know 43/14


@pytest.mark.parametrize("how", ["silence", "hanging up"])
def test_a_device_that_does_not_bear_the_question_is_not_asked_again(how: str, shm_name: str) -> None:
    def behave(proxy: Proxy, request: bytes, answer: bytes) -> bytes | None:
        if request[7] not in (17, 43):
            return answer
        if how == "hanging up":
            proxy.reset_all()
        return None

    with libmodbus_device() as plc, Proxy(plc.port, behave) as way, \
            Partition(shm_name, [device("plc", way.port, identify=True)]) as running:
        running.until(lambda _: any(pdu[0] == 43 for pdu in way.requests))
        before = running.count("plc")
        running.until(lambda r: r.count("plc") > before + 10)
        running.until_good("plc/a")
        way.refuse()
        running.until(lambda r: r["plc/a"].quality != 0)
        way.listen()
        running.until_good("plc/a")
        before = running.count("plc")
        running.until(lambda r: r.count("plc") > before + 10)
        assert sum(pdu[0] in (17, 43) for pdu in way.requests) == 1
        if how == "silence":
            assert "device identification" not in str(running["plc/$last_error"].value)


def test_what_is_known_at_the_start_stands_in_the_schema_and_is_not_asked_again(shm_name: str) -> None:
    with libmodbus_device() as plc, Proxy(plc.port) as way, black_hole() as hole:
        servers = [device("plc", way.port, identify=True, timeout=2.0), device("away", hole, identify=True),
                   device("unasked", plc.port)]
        running = Partition(shm_name, servers)
        running.manager.learn_identities(seconds=2.0)
        with running:
            points = running.image.points
            said = {point.device: dict(point.extra) for point in points if point.name == "$identity"}
            assert set(said) == {"plc", "away"}
            assert said["plc"]["server_id"].startswith("LMB")
            assert said["away"] == {}
        asked = len(way.requests)
        again = Partition(shm_name, servers)
        again.manager.learn_identities(points, seconds=0.2)
        assert [point.extra for point in again.manager.points] == [point.extra for point in running.manager.points]
        assert len(way.requests) == asked


def test_run_shows_what_the_devices_are(tmp_path: Path, shm_prefix: str) -> None:
    file = tmp_path / "one.xml"
    with libmodbus_device() as plc:
        file.write_bytes(to_xml([device("Pump", plc.port, identify=True, timeout=2.0)]))
        command = [Path(sys.executable).parent / "cpc", "run", "--modbus", file, "--namespace", shm_prefix]
        with peers.Peer(command, ready="running service=modbus"), \
                attach(f"{shm_prefix}_modbus_shm", timeout=9.0) as image:
            peers.wait_until(lambda: image.snapshot()["Pump/$identity"].quality == 0, what="$identity")
            sample = image.snapshot()["Pump/$identity"]
            assert dict(sample.point.extra)["server_id"] == sample.value
