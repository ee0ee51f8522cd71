"""Values written to servers that are not ours, and what those servers do with them; another client says what stands."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import opcua_peers as plant
import peers
import pytest
from acquisition import WriteOutcome, WriteRequest, WriteResult, Writing
from endpoint_config import OpcUaField
from opcua_client import OpcUaClient, OpcUaError

VALUES: dict[str, Any] = {
    "Boolean": False, "SByte": 127, "Byte": 17, "Int16": 32767, "UInt16": 1, "Int32": -5, "UInt32": 4294967295,
    "Int64": -9007199254740993, "UInt64": 18446744073709551615, "Float": 0.1, "Double": 2.0 / 3.0,
    "String": "Läuft ✓", "DateTime": 1_700_000_000_123_000_000, "Guid": "12345678-1234-5678-1234-567812345678",
    "ByteString": b"\x00\xff\x10", "LocalizedText": "Störung", "QualifiedName": "2:Neu", "NodeId": "ns=2;s=Pumpe",
    "StatusCode": 0x80320000,
}


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    port = peers.free_port()
    with plant.open62541(port, "doubles=2"):
        yield port


def write(running: plant.Running, point: str, value: Any, **settings: Any) -> WriteResult:
    """One write through the manager, from another thread than the one that polls."""
    results: list[WriteResult] = []
    done = threading.Event()

    def take(result: WriteResult) -> None:
        results.append(result)
        done.set()

    running.manager.submit_write(WriteRequest(point=point, value=value, **settings), take)
    assert done.wait(20)
    assert len(results) == 1
    return results[0]


def near(found: Any, wanted: Any) -> bool:
    """The same, but for what a Float rounds."""
    return bool(found == wanted or (isinstance(wanted, float) and abs(found - wanted) < 1e-7))


def writable(name: str, datatype: str = "Double", **settings: Any) -> Any:
    return replace(plant.named(name, datatype), writable=True, **settings)


@pytest.mark.parametrize("peer", ["open62541", "node-opcua"])
def test_every_type_is_written_and_another_client_reads_it(peer: str, request: pytest.FixtureRequest,
                                                           shm_name: str) -> None:
    port = request.getfixturevalue("server" if peer == "open62541" else "node_server")
    url = f"opc.tcp://127.0.0.1:{port}"
    with OpcUaClient(url) as client:
        types = [t for t in VALUES if client.read_value(plant.named(t)).datatype != "Null"]
    assert len(types) >= 15
    with plant.Running(shm_name, plant.entry(port, [writable(t, t) for t in types])) as running:
        assert isinstance(running.manager, Writing)
        assert [point.point for point in running.manager.writable_points()] == [f"S/{t}" for t in types]
        running.wait(lambda: (running["S/$requests"].value or 0) > 1)
        for name in types:
            result = write(running, f"S/{name}", VALUES[name])
            assert (result.outcome, result.message, result.quality) == (WriteOutcome.VERIFIED, "", 0), (name, result)
            assert result.sent
            assert near(result.read, VALUES[name]), (name, result)
        for name, other in zip(types, plant.read_by_node(url, [f"ns=2;s={t}" for t in types]), strict=True):
            ours = VALUES[name] if name != "Float" else other["value"]
            assert other["status"] == 0, name
            assert plant.same(ours, other), (name, other)
            running.wait(lambda name=name: near(running[f"S/{name}"].value, VALUES[name]))


ELEMENTS: dict[str, tuple[int, str, Any]] = {  # place and value; the file says Double for all of them but texts
    "Numbers": (2, "Double", 7.25), "Words": (1, "Double", 65535.0), "Flags": (0, "Boolean", False),
    "Texts": (2, "String", "Störung"), "Matrix": (4, "Double", -5.0),
}
LENGTHS = {"Numbers": 4, "Words": 3, "Flags": 3, "Texts": 3, "Matrix": 6}


@pytest.mark.parametrize("peer", ["open62541", "node-opcua"])
def test_one_element_of_an_array_is_written_and_the_others_stay(peer: str, request: pytest.FixtureRequest,
                                                                shm_name: str) -> None:
    port = request.getfixturevalue("server" if peer == "open62541" else "node_server")
    url = f"opc.tcp://127.0.0.1:{port}"
    nodes = [writable(name, ELEMENTS[name][1], length=length, maximum=70000.0 if name == "Words" else None)
             for name, length in LENGTHS.items()]
    before = plant.read_by_asyncua(url, [f"ns=2;s={n}" for n in LENGTHS])
    with plant.Running(shm_name, plant.entry(port, nodes)) as running:
        assert len(running.manager.writable_points()) == sum(node.length for node in nodes)
        running.wait_quality("S/Matrix[5]", "Good")
        for name, (place, _, value) in ELEMENTS.items():
            old = running[f"S/{name}[{place}]"].value
            result = write(running, f"S/{name}[{place}]", value)
            assert (result.outcome, result.message, result.previous) == (WriteOutcome.VERIFIED, "", old), (name, result)
            assert result.read == value
            running.wait(lambda name=name, place=place, value=value: running[f"S/{name}[{place}]"].value == value)
        for name, old, other in zip(LENGTHS, before, plant.read_by_asyncua(url, [f"ns=2;s={n}" for n in LENGTHS]),
                                    strict=True):
            place, _, value = ELEMENTS[name]
            wanted = list(np.array(old).ravel())
            wanted[place] = value
            assert (list(np.array(other).ravel()), np.shape(other)) == (wanted, np.shape(old)), name
        wide = write(running, "S/Words[0]", 65536.0)
        assert (wide.outcome, wide.sent) == (WriteOutcome.REFUSED, False)
        assert "Words[0]: 65536.0 does not fit UInt16" in wide.message
        assert "out of range; -inf to 70000" in write(running, "S/Words[0]", 70001.0).message


def test_an_element_is_not_written_where_it_can_not_be(server: int, shm_name: str) -> None:
    nodes = [writable("Numbers", length=5), writable("Rangeless", length=3), writable("Whole", length=3),
             writable("ByteString", "Byte", length=4), writable("Double", length=2), writable("None", length=1),
             replace(plant.named("Drive", "DriveState"), writable=True,
                     fields=(OpcUaField(path="Motor.Speed", datatype="Double"),))]
    with plant.Running(shm_name, plant.entry(server, nodes)) as running:
        running.wait_quality("S/Whole[2]", "Good")
        assert "S/Drive.Motor.Speed" not in {point.point for point in running.manager.writable_points()}
        for point, words in (("Numbers[4]", "Numbers[4]: the array has 4 elements now"),
                             ("None[0]", "the array has 0 elements now"), ("Double[1]", "no array; a single value"),
                             ("Drive.Motor.Speed", "a field of a structure, which can't be written by itself")):
            result = write(running, f"S/{point}", 1.0)
            assert (result.outcome, result.sent) == (WriteOutcome.REFUSED, False), (point, result)
            assert words in result.message
        refused = write(running, "S/Rangeless[1]", 9.0)
        assert (refused.outcome, refused.quality) == (WriteOutcome.FAILED, 0x80730000)
        assert "such as one to an element" in refused.message
        # No server at hand takes an IndexRange of a ByteString.
        octets = write(running, "S/ByteString[1]", 17)
        assert (octets.outcome, octets.quality) == (WriteOutcome.FAILED, 0x80370000)
        taken = write(running, "S/Whole[0]", 9.0)  # right at its place, and the others are gone
        assert taken.outcome is WriteOutcome.NOT_VERIFIED
        assert "took the element for the whole array, which had 3 elements and has 1" in taken.message


def test_the_type_is_the_servers_whatever_the_file_says(server: int, shm_name: str) -> None:
    with plant.Running(shm_name, plant.entry(server, [writable("Int16", "Double")])) as running:
        running.wait(lambda: running["S/Int16"].quality == 0)
        assert write(running, "S/Int16", 7.0).outcome is WriteOutcome.VERIFIED
        result = write(running, "S/Int16", 7.5)
        assert (result.outcome, result.sent) == (WriteOutcome.REFUSED, False)
        assert result.message.startswith("S: write nsu=urn:cpc:test:plant;s=Int16: 7.5 is not whole")
        assert "from -32768 to 32767" in write(running, "S/Int16", 40000).message
        assert write(running, "S/Int16", "seven").outcome is WriteOutcome.REFUSED
        assert write(running, "S/Int16", True).outcome is WriteOutcome.REFUSED


def test_refused_clamped_and_ignored_writes_are_told_apart(server: int, shm_name: str) -> None:
    nodes = [writable("Clamped"), writable("Ignored"), replace(plant.doubles(1)[0], writable=True),
             writable("Array"), writable("Missing"), writable("Forbidden"), writable("Structure")]
    with plant.Running(shm_name, plant.entry(server, nodes)) as running:
        running.wait(lambda: running["S/Clamped"].quality == 0)
        good = write(running, "S/Clamped", 30.0)
        assert (good.outcome, good.previous, good.read) == (WriteOutcome.VERIFIED, 10.0, 30.0)
        clamped = write(running, "S/Clamped", 80.0)
        assert (clamped.outcome, clamped.read, clamped.previous) == (WriteOutcome.NOT_VERIFIED, 50.0, 30.0)
        assert clamped.quality == 0x00300000
        assert "clamped the value to 50.0" in clamped.message
        refused = write(running, "S/Clamped", -200.0)
        assert (refused.outcome, refused.quality, refused.sent) == (WriteOutcome.FAILED, 0x803C0000, True)
        assert "BadOutOfRange" in refused.message
        ignored = write(running, "S/Ignored", 21.0)
        assert (ignored.outcome, ignored.read, ignored.quality) == (WriteOutcome.NOT_VERIFIED, 20.0, 0)
        assert "ignored" in ignored.message
        assert write(running, "S/Ignored", 21.0, verify=False).outcome is WriteOutcome.WRITTEN
        assert write(running, "S/Ignored", 21.0, tolerance=2.0).outcome is WriteOutcome.VERIFIED
        protected = write(running, "S/D1", 1.0)
        assert (protected.outcome, protected.quality) == (WriteOutcome.FAILED, 0x803B0000)
        assert "BadNotWritable" in protected.message
        assert write(running, "S/Array", 1.0).message.endswith("the node is an array; a list, or one of its elements")
        missing = write(running, "S/Missing", 1.0)
        assert (missing.outcome, missing.sent, missing.quality) == (WriteOutcome.FAILED, False, 0x80340000)
        blind = write(running, "S/Forbidden", 1.0)
        assert blind.outcome is WriteOutcome.WRITTEN
        assert "BadNotReadable" in blind.message or "BadUserAccessDenied" in blind.message
        assert "ExtensionObject" in write(running, "S/Structure", 1.0).message


def test_what_the_file_does_not_allow_is_never_sent(server: int, shm_name: str) -> None:
    nodes = [writable("Double", minimum=0.0, maximum=100.0, unit="kW"), plant.named("Float", "Float")]
    with plant.Running(shm_name, plant.entry(server, nodes)) as running:
        running.wait(lambda: running["S/Float"].quality == 0)
        (point,) = running.manager.writable_points()
        assert (point.point, point.type, point.minimum, point.maximum, point.unit) == (
            "S/Double", "float64", 0.0, 100.0, "kW")
        for value, words in ((100.5, "100.5 is out of range; 0 to 100 kW"), (float("nan"), "no set point"),
                             ("x", "no number")):
            result = write(running, "S/Double", value)
            assert (result.outcome, result.sent) == (WriteOutcome.REFUSED, False)
            assert words in result.message
        assert "does not mark it as writable" in write(running, "S/Float", 1.0).message
        assert "no such point" in write(running, "S/Nothing", 1.0).message


def test_a_write_that_is_not_answered_is_unknown_and_never_repeated(shm_name: str) -> None:
    port = peers.free_port()
    with plant.open62541(port) as server, \
            plant.Running(shm_name, plant.entry(port, [writable("Double")], timeout=1.0)) as running:
        running.wait_quality("S/Double", "Good")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            result = write(running, "S/Double", 5.0, deadline=0.5)
            assert result.outcome is WriteOutcome.FAILED  # the look before it was not answered
            assert not result.sent
        finally:
            os.kill(server.pid, signal.SIGCONT)
        running.wait_quality("S/Double", "Good")
        assert write(running, "S/Double", 6.0).outcome is WriteOutcome.VERIFIED
        os.kill(server.pid, signal.SIGKILL)
        running.wait_quality("S/Double", "BadCommunicationError")
        down = write(running, "S/Double", 7.0)
        assert (down.outcome, down.sent) == (WriteOutcome.FAILED, False)
        with plant.open62541(port):
            running.wait_quality("S/Double", "Good")
            assert running["S/Double"].value != 7.0


@pytest.mark.parametrize("peer", ["open62541", "node-opcua"])
def test_a_write_that_a_hanging_server_took_is_unknown_done_once_and_then_seen(peer: str, tmp_path: Path,
                                                                               shm_name: str) -> None:
    port = peers.free_port()
    process = plant.open62541(port) if peer == "open62541" else plant.node_opcua(port, tmp_path)
    entry = plant.entry(port, [writable("Double")], timeout=1.5)
    with process as server, plant.Running(shm_name, entry) as running:
        running.wait(lambda: running["S/Double"].source_time)

        def stop(sent: Callable[[], None]) -> None:
            sent()
            os.kill(server.pid, signal.SIGSTOP)

        with note_sent_of(running, stop):
            result = write(running, "S/Double", 5.0, deadline=10.0)
        assert (result.outcome, result.sent, result.quality) == (WriteOutcome.TIMED_OUT, True, 0x800A0000), result
        assert "no answer within 1.5 s; whether the server acted is not known" in result.message
        os.kill(server.pid, signal.SIGCONT)
        running.wait(lambda: running["S/Double"].value == 5.0)  # it was in its socket and was done after all
        assert write(running, "S/Double", 6.0).outcome is WriteOutcome.VERIFIED


@contextmanager
def note_sent_of(running: plant.Running, wrapped: Callable[[Callable[[], None]], None]) -> Iterator[None]:
    """Have something happen in the instant in which the next write leaves."""
    keeper = running.manager._pollers[0].keeper
    original = keeper.note_sent
    with pytest.MonkeyPatch.context() as patch:
        def once() -> None:
            if sys._getframe(1).f_code.co_name == "on_send":
                patch.undo()
                wrapped(original)
            else:
                original()

        patch.setattr(keeper, "note_sent", once)
        yield


def test_many_writes_are_bounded_and_each_is_answered_once_even_at_the_end(server: int, shm_name: str) -> None:
    answers: list[tuple[int, WriteResult]] = []
    threads: set[str] = set()

    def take(number: int, result: WriteResult) -> None:
        threads.add(threading.current_thread().name)
        answers.append((number, result))

    with plant.Running(shm_name, plant.entry(server, [writable("Double"), plant.named("Float", "Float")])) as running:
        running.wait_quality("S/Double", "Good")
        before = running["S/$requests"].value
        for number in range(300):
            running.manager.submit_write(WriteRequest(point="S/Double", value=float(number)),
                                         lambda result, number=number: take(number, result))
        running.wait(lambda: len(answers) > 240)
        running.wait(lambda: running["S/$requests"].value > before + 1)  # polls go on meanwhile
        assert running["S/$late"].value == 0
        running.stop()
        assert sorted(number for number, _ in answers) == list(range(300))
        assert len(threads) == 1
        outcomes = {result.outcome for _, result in answers}
        assert WriteOutcome.VERIFIED in outcomes
        assert WriteOutcome.FAILED in outcomes  # more than may wait
        begin = len(answers)
        running.manager.submit_write(WriteRequest(point="S/Double", value=1.0), lambda result: take(-1, result))
        assert len(answers) == begin + 1
        assert "no server is polled" in answers[-1][1].message


def test_the_client_writes_by_hand_and_calls_methods_with_typed_arguments(server: int) -> None:
    url = f"opc.tcp://127.0.0.1:{server}"
    with OpcUaClient(url, alias="S") as client:
        assert client.write_value("ns=2;s=Float", 0.5).outcome is WriteOutcome.VERIFIED
        assert client.read_value("ns=2;s=Float").value == 0.5
        assert client.write_value("ns=2;s=Double", float("nan")).outcome is WriteOutcome.VERIFIED
        failed = client.write_value("ns=2;i=1", 1.0)
        assert failed.message == ("S: write ns=2;i=1: the server answers BadNotWritable; the node can't be written by "
                                  "anybody; take writable out of the file")
        assert client.call_method("i=85", "ns=2;s=Add", 1.5, [2, 3]) == [6.5]
        with pytest.raises(OpcUaError, match="1 arguments instead of 2; it takes first, others"):
            client.call_method("i=85", "ns=2;s=Add", 1.5)
        with pytest.raises(OpcUaError, match=r"argument others: 2\.5 is not whole"):
            client.call_method("i=85", "ns=2;s=Add", 1.5, [2.5])
        with pytest.raises(OpcUaError, match="BadOutOfRange"):
            client.call_method("i=85", "ns=2;s=Add", 1e6, [])
        with pytest.raises(OpcUaError, match=r"BadMethodInvalid|BadNodeIdUnknown"):
            client.call_method("i=85", "ns=2;s=Nothing")


def test_a_write_does_not_wait_for_a_long_interval(server: int, shm_name: str) -> None:
    with plant.Running(shm_name, plant.entry(server, [writable("Double")], interval=60.0)) as running:
        running.wait_quality("S/Double", "Good")
        began = time.monotonic()
        assert write(running, "S/Double", 3.0).outcome is WriteOutcome.VERIFIED
        assert time.monotonic() - began < 10
