"""Values from servers that are not ours, equal to what a client that is not ours reads from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import opcua_peers as plant
import peers
import pytest
from endpoint_config.models import OpcUaNode, Secret, SecurityMode
from opcua_client import OpcUaClient

ODD = ("Structure", "Array", "Forbidden", "Empty", "Bad", "Uncertain", "Picoseconds", "Old", "Ahead", "Missing")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> plant.Keys:
    return plant.Keys.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def server(keys: plant.Keys) -> Iterator[int]:
    port = peers.free_port()
    with plant.open62541(port, "doubles=2500", *keys.server_arguments()):
        yield port


@pytest.mark.parametrize("peer", ["open62541", "node-opcua"])
def test_values_equal_those_of_an_independent_client(peer: str, request: pytest.FixtureRequest, shm_name: str) -> None:
    port = request.getfixturevalue("server" if peer == "open62541" else "node_server")
    with OpcUaClient(f"opc.tcp://127.0.0.1:{port}") as client:
        types = [t for t in plant.TYPES if client.read_value(plant.named(t)).datatype != "Null"]
    assert len(types) >= 16
    theirs = plant.read_by_node(f"opc.tcp://127.0.0.1:{port}", [f"ns=2;s={name}" for name in types])
    nodes = [plant.named(t, t) for t in types]
    with plant.Running(shm_name, plant.entry(port, nodes)) as running:
        running.wait(lambda: (running["S/$requests"].value or 0) > 2)
        for name, other in zip(types, theirs, strict=True):
            sample = running[f"S/{name}"]
            assert sample.quality == other["status"], name
            if not other["status"] & 0x80000000:
                assert plant.same(sample.value, other), (name, sample, other)
                assert plant.same_time(sample.source_time, other), (name, sample, other)


@pytest.mark.parametrize("peer", ["open62541", "node-opcua"])
def test_mixed_values_statuses_and_times_equal_those_of_an_independent_client(
    peer: str, tmp_path: Path, shm_name: str
) -> None:
    port, count = peers.free_port(), 160
    types = plant.MIXED if peer == "open62541" else plant.NODE_MIXED
    server = plant.open62541(port, f"mixed={count}") if peer == "open62541" else plant.node_opcua(
        port, tmp_path, "0", str(count))
    with server, plant.Running(shm_name, plant.entry(port, plant.mixed(count, types))) as running:
        running.wait_quality("S/M0", "Good")
        theirs = plant.read_by_node(f"opc.tcp://127.0.0.1:{port}", [f"ns=2;i={100_000 + i}" for i in range(count)])
        assert {found["status"] >> 30 for found in theirs} == {0, 1, 2}
        for i, found in enumerate(theirs):
            sample = running[f"S/M{i}"]
            assert sample.quality == found["status"], i
            if not found["status"] & 0x80000000:
                assert plant.same(sample.value, found), (i, sample, found)
                assert plant.same_time(sample.source_time, found), (i, sample, found)
        fine = [running[f"S/M{i}"].source_time % 1_000_000 for i, f in enumerate(theirs) if f["picoseconds"]]
        assert len({time for time in fine if time % 100}) > 20, "picoseconds were sent and kept"


def test_oddities_harm_only_themselves_and_are_named(server: int, shm_name: str) -> None:
    nodes = [*(plant.named(name) for name in ODD), *plant.typed_nodes(),
             OpcUaNode(name="NoSpace", namespace_uri="urn:nobody", identifier="1"),
             OpcUaNode(name="ByGuid", namespace_uri=plant.PLANT, identifier_type="Guid",
                       identifier="09087e75-8e5e-499b-954f-f2a9603db28a"),
             OpcUaNode(name="Opaque", namespace_uri=plant.PLANT, identifier_type="Opaque", identifier="AQID")]
    with plant.Running(shm_name, plant.entry(server, nodes)) as running:
        running.wait_quality("S/Double", "Good")
        names = {name: running.quality(f"S/{name}") for name in (*ODD, *plant.TYPES, "NoSpace", "ByGuid", "Opaque")}
        assert {n for n, q in names.items() if q != "Good"} == {
            "Structure", "Array", "Forbidden", "Empty", "Bad", "Uncertain", "Missing", "NoSpace"}
        assert names["Structure"] == names["Array"] == names["Empty"] == "BadTypeMismatch"
        assert names["Missing"] == names["NoSpace"] == "BadNodeIdUnknown"
        assert (names["Bad"], names["Uncertain"]) == ("BadSensorFailure", "UncertainLastUsableValue")
        assert (running["S/ByGuid"].value, running["S/Opaque"].value) == (5.0, 5.0)
        text = running.last_error()
        assert "Structure: ExtensionObject instead of Double: BadTypeMismatch" in text
        assert "source time can't be right" in text


def test_times_are_exact_and_those_that_can_not_be_are_replaced(server: int, shm_name: str) -> None:
    exact = (133_497_000_001_234_567 - 116_444_736_000_000_000) * 100
    names = ("Uncertain", "Picoseconds", "Old", "Ahead", "Double")
    with plant.Running(shm_name, plant.entry(server, [plant.named(n) for n in names])) as running:
        running.wait_quality("S/Double", "Good")
        assert running["S/Uncertain"].source_time == exact
        assert running["S/Picoseconds"].source_time == exact + 98
        for name in ("Old", "Ahead"):
            assert running[f"S/{name}"].source_time == running[f"S/{name}"].received_time


def test_every_value_of_a_large_server_arrives_within_its_limit(keys: plant.Keys, shm_name: str) -> None:
    port = peers.free_port()
    with plant.open62541(port, "doubles=2500", "limit=300"), \
            plant.Running(shm_name, plant.entry(port, plant.doubles(2500))) as running:
        running.wait_quality("S/D2500", "Good")
        assert all(running[f"S/D{i}"].value == i + 0.25 for i in range(1, 2501))
        assert running["S/$failures"].value == 0


@pytest.mark.parametrize("policy", plant.POLICIES)
@pytest.mark.parametrize("mode", [SecurityMode.SIGN, SecurityMode.SIGN_AND_ENCRYPT])
def test_every_current_policy_and_mode_reads(server: int, keys: plant.Keys, policy: str, mode: SecurityMode,
                                             shm_name: str) -> None:
    secured = keys.secure(plant.entry(server, plant.doubles(1200)), policy, mode)
    with plant.Running(shm_name, secured) as running:
        running.wait_quality("S/D1200", "Good")
        assert running["S/D1200"].value == 1200.25


@pytest.mark.parametrize("secured", [False, True])
def test_user_and_password_are_taken_and_wrong_ones_are_told(keys: plant.Keys, shm_name: str, secured: bool) -> None:
    port = peers.free_port()
    right, wrong = Secret(value="Geheim ü"), Secret(value="wrong")
    servers = [plant.entry(port, plant.doubles(1), alias=alias, username="operator", password=password)
               for alias, password in (("right", right), ("wrong", wrong))]
    if secured:
        servers = [keys.secure(server) for server in servers]
    arguments = ["doubles=1", "user=operator", f"password={right.reveal()}", *keys.server_arguments()]
    with plant.open62541(port, *arguments), plant.Running(shm_name, *servers) as running:
        running.wait_quality("right/D1", "Good")
        running.wait(lambda: "password" in running.last_error("wrong"))
        assert running.quality("wrong/D1").startswith("Bad")
        assert running.quality("right/D1") == "Good"
        for text in (running.last_error("wrong"), running.last_error("right")):
            assert right.reveal() not in text
            assert wrong.reveal() not in text.replace("wrong: ", "")


def test_the_blocking_client_reads_one_value(server: int, keys: plant.Keys, tmp_path: Path) -> None:
    with OpcUaClient.of(keys.secure(plant.entry(server, ()))) as client:
        reading = client.read_value(plant.named("UInt64"))
        assert (reading.value, reading.quality_name, reading.datatype) == (2**64 - 1, "Good", "UInt64")
        assert client.read_value("i=2255").datatype == "String[]"
        assert client.read_value("ns=2;s=Missing").quality_name == "BadNodeIdUnknown"
