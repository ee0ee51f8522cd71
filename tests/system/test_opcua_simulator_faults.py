"""Faults of simulated OPC UA servers, seen by our client: each as ordered, and gone when cleared."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import opcua_peers
import pytest
from endpoint_config import OpcUaNode, OpcUaServer, Secret, SecurityMode
from opcua_client import OpcUaClient, OpcUaError
from peers import wait_until

from cpc.simulators import OrderError, ProtocolGatewaySimulator

NODES = (
    OpcUaNode(name="Level", namespace_uri="urn:plant:tank", identifier="1", datatype="Double", minimum=0, maximum=10),
    OpcUaNode(name="Set", namespace_uri="urn:plant:pump", identifier="1", datatype="Double", minimum=0, maximum=10,
              writable=True),
    OpcUaNode(name="Open", namespace_uri="urn:plant:pump", identifier="2", datatype="Boolean", writable=True),
    OpcUaNode(name="Count", namespace_uri="urn:plant:pump", identifier="3", datatype="Int16", length=3),
)
LEVEL, SET, OPEN, COUNT = NODES
TANK = OpcUaServer(alias="Tank", url="opc.tcp://plc:4840", nodes=NODES)
SAFE = OpcUaServer(alias="Safe", url="opc.tcp://plc:4841", nodes=NODES[:1], security_policy=opcua_peers.POLICIES[0],
                   security_mode=SecurityMode.SIGN_AND_ENCRYPT, username="operator", password=Secret(value="p"))


@pytest.fixture(scope="module")
def whole() -> Iterator[ProtocolGatewaySimulator]:
    with ProtocolGatewaySimulator(opcua=[TANK, SAFE], quick=True, update_interval=0.05) as plant:
        yield plant


@pytest.fixture
def plant(whole: ProtocolGatewaySimulator) -> ProtocolGatewaySimulator:
    whole.order("clear")
    for value in ("set Tank/Level 4.5", "set Tank/Set 5", "set Tank/Open false"):
        whole.order(value)
    whole.log.clear()
    return whole


def entry(plant: ProtocolGatewaySimulator, alias: str = "Tank", timeout: float = 20.0) -> OpcUaServer:
    """How to reach a server; `timeout` (s) is short only where no answer is to be seen."""
    (found,) = [e for e in plant.entries if e.alias == alias]
    assert isinstance(found, OpcUaServer)
    return replace(found, timeout=timeout)


def value(plant: ProtocolGatewaySimulator, node: OpcUaNode = LEVEL) -> object:
    """One node through a connection of its own."""
    with OpcUaClient.of(entry(plant)) as client:
        reading = client.read_value(node)
        return reading.value if not reading.quality >> 31 else reading.quality_name


def back(plant: ProtocolGatewaySimulator) -> bool:
    """Whether the server is there again."""
    try:
        value(plant)
    except OpcUaError:
        return False
    return True


def test_values_are_set_move_and_freeze(plant: ProtocolGatewaySimulator) -> None:
    assert value(plant) == 4.5
    plant.order("move Tank/Level counter 100 1000")
    assert value(plant) > 100  # type: ignore[operator]
    plant.order("fault freeze device=Tank")
    assert value(plant) == value(plant) == plant.values()["Tank/Level"]
    plant.order("move Tank/Open states 0,1 0.1")
    assert len(set(plant.values()["Tank/Count"])) == len(plant.values()["Tank/Count"]) == 3
    for wrong in ("set Tank/Open perhaps", "set Tank/Level high", "fault bad_status code=Bad_Luck"):
        with pytest.raises(OrderError):
            plant.order(wrong)


def test_bad_status_removal_and_another_type_come_and_go(plant: ProtocolGatewaySimulator) -> None:
    plant.order("fault bad_status points=Lev* code=BadSensorFailure")
    assert value(plant) == "BadSensorFailure"
    assert value(plant, SET) == 5.0
    assert plant.values()["Tank/Level"] is None
    plant.order("clear")
    assert value(plant) == 4.5
    plant.order("fault remove_nodes points=Level")
    assert value(plant) == "BadNodeIdUnknown"
    plant.order("clear")
    assert value(plant) == 4.5
    plant.order("fault change_type points=Level type=String")
    assert isinstance(value(plant), str)
    plant.order("clear")
    assert value(plant) == 4.5


def test_a_slow_server_answers_late_and_a_hanging_one_not_at_all(plant: ProtocolGatewaySimulator) -> None:
    with OpcUaClient.of(entry(plant)) as client:
        plant.order("fault delay by=0.3 points=Level")
        began = time.monotonic()
        assert client.read_value(LEVEL).value == 4.5
        assert time.monotonic() - began >= 0.3
        plant.order("clear")
    with OpcUaClient.of(entry(plant, timeout=2.0)) as client:
        plant.order("fault hang")
        with pytest.raises(OpcUaError):
            client.read_value(SET)
    with pytest.raises(OpcUaError):
        OpcUaClient.of(entry(plant, timeout=0.5)).connect()
    plant.order("clear")
    assert value(plant) == 4.5


def test_a_stopped_server_is_not_there_and_comes_back_without_its_sessions(plant: ProtocolGatewaySimulator) -> None:
    with OpcUaClient.of(entry(plant)) as client:
        plant.order("fault stop")
        with pytest.raises(OpcUaError):
            client.read_value(LEVEL)
    with pytest.raises(OpcUaError):
        OpcUaClient.of(entry(plant)).connect()
    plant.order("clear")
    wait_until(lambda: back(plant))
    plant.order("fault stop seconds=0.5")
    wait_until(lambda: not plant.order("faults")["faults"])
    wait_until(lambda: back(plant))
    assert value(plant) == 4.5
    plant.order("fault drop_sessions")
    assert value(plant) == 4.5


def test_shuffled_namespaces_are_found_by_their_uri(plant: ProtocolGatewaySimulator) -> None:
    plant.order("fault shuffle_namespaces")
    assert (value(plant), value(plant, SET)) == (4.5, 5.0)
    plant.order("fault shuffle_namespaces")
    assert (value(plant), value(plant, SET)) == (4.5, 5.0)
    plant.order("clear")
    assert (value(plant), value(plant, SET)) == (4.5, 5.0)


def test_another_certificate_is_refused_and_the_first_one_taken_again(plant: ProtocolGatewaySimulator) -> None:
    with OpcUaClient.of(entry(plant, "Safe")) as client:
        assert client.read_value(LEVEL).quality_name == "Good"
    plant.order("fault new_certificate device=Safe")
    with pytest.raises(OpcUaError):
        OpcUaClient.of(entry(plant, "Safe")).connect()
    plant.order("clear")
    with OpcUaClient.of(entry(plant, "Safe")) as client:
        assert client.read_value(LEVEL).quality_name == "Good"
    assert {e.user for e in plant.log.requests("Safe", "read")} == {"operator"}


def test_writes_are_taken_refused_ignored_clamped_and_altered_and_the_log_tells_who(
    plant: ProtocolGatewaySimulator,
) -> None:
    with OpcUaClient.of(entry(plant)) as client:
        client.write_value(SET, 6.0)
        assert value(plant, SET) == 6.0
        for order, sent, read in (
            ("fault refuse_writes code=BadNotWritable", 1.0, 6.0), ("fault ignore_writes", 2.0, 6.0),
            ("fault clamp_writes", 99.0, 10.0), ("fault clamp_writes low=3 high=4", 1.0, 3.0),
            ("fault alter_writes", 5.0, 6.0),
        ):
            plant.order(f"{order} count=1 points=Set")
            client.write_value(SET, sent)
            assert value(plant, SET) == read
            plant.order("clear")
        client.write_value(OPEN, True)
        client.write_value(LEVEL, 1.0)
    writes = plant.log.writes("Tank")
    assert [w.effect for w in writes] == ["taken", "refused", "ignored", "clamped", "clamped", "altered", "taken",
                                          "refused"]
    assert writes[1].exception == 0x803B0000
    assert writes[3].values == (("Tank/Set", 99.0),)
    assert all(w.client.startswith("127.0.0.1:") for w in writes)
    assert value(plant, OPEN) is True
    assert value(plant, LEVEL) == 4.5


def test_a_nodeset_is_served_browsed_and_moves(tmp_path: Path) -> None:
    nodeset = tmp_path / "Boiler.xml"
    nodeset.write_text(NODESET, encoding="utf-8")
    with ProtocolGatewaySimulator.of(nodeset, update_interval=0.05) as plant:
        (found,) = plant.entries
        assert isinstance(found, OpcUaServer)
        assert [n.name for n in found.nodes] == ["Boiler.Running", "Boiler.Temperature"]
        with OpcUaClient.of(found) as client:
            first = client.read_value(found.nodes[1])
            assert first.quality_name == "Good"
            wait_until(lambda: client.read_value(found.nodes[1]).value != first.value)
            client.write_value(found.nodes[1], 20.0)
            assert client.read_value(found.nodes[1]).value == 20.0
            assert client.read_value("ns=2;i=4").value == "°C"
    (tmp_path / "Other.xml").write_text(NODESET.replace("urn:x:boiler", "urn:x:other").replace(
        "<Aliases>", '<Models><Model ModelUri="urn:x:other"><RequiredModel ModelUri="urn:x:none"/></Model></Models>'
                     "<Aliases>"), encoding="utf-8")
    with pytest.raises(OrderError, match=r"Other\.xml: can't be imported"):
        ProtocolGatewaySimulator.of(tmp_path / "Other.xml").__enter__()


NODESET = """<?xml version="1.0" encoding="utf-8"?>
<UANodeSet xmlns="http://opcfoundation.org/UA/2011/03/UANodeSet.xsd">
  <NamespaceUris><Uri>urn:x:boiler</Uri></NamespaceUris>
  <Aliases><Alias Alias="Double">i=11</Alias><Alias Alias="Boolean">i=1</Alias><Alias Alias="String">i=12</Alias>
    <Alias Alias="Organizes">i=35</Alias><Alias Alias="HasComponent">i=47</Alias>
    <Alias Alias="HasProperty">i=46</Alias><Alias Alias="HasTypeDefinition">i=40</Alias></Aliases>
  <UAObject NodeId="ns=1;i=1" BrowseName="1:Boiler"><DisplayName>Boiler</DisplayName><References>
    <Reference ReferenceType="Organizes" IsForward="false">i=85</Reference>
    <Reference ReferenceType="HasTypeDefinition">i=58</Reference></References></UAObject>
  <UAVariable NodeId="ns=1;i=2" BrowseName="1:Temperature" DataType="Double" AccessLevel="3" UserAccessLevel="3">
    <DisplayName>Temperature</DisplayName><References>
    <Reference ReferenceType="HasComponent" IsForward="false">ns=1;i=1</Reference>
    <Reference ReferenceType="HasTypeDefinition">i=63</Reference></References></UAVariable>
  <UAVariable NodeId="ns=1;i=3" BrowseName="1:Running" DataType="Boolean">
    <DisplayName>Running</DisplayName><References>
    <Reference ReferenceType="HasComponent" IsForward="false">ns=1;i=1</Reference>
    <Reference ReferenceType="HasTypeDefinition">i=63</Reference></References></UAVariable>
  <UAVariable NodeId="ns=1;i=4" BrowseName="1:Unit" DataType="String">
    <DisplayName>Unit</DisplayName><References>
    <Reference ReferenceType="HasProperty" IsForward="false">ns=1;i=2</Reference>
    <Reference ReferenceType="HasTypeDefinition">i=68</Reference></References>
    <Value><String xmlns="http://opcfoundation.org/UA/2008/02/Types.xsd">°C</String></Value></UAVariable>
</UANodeSet>
"""
