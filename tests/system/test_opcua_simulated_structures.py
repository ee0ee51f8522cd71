"""Simulated structures and arrays, from endpoint files and from NodeSets: read by our client and by node-opcua's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import opcua_peers as plant
import pytest
from acquisition import WriteOutcome, WriteRequest, WriteResult
from endpoint_config import OpcUaField, OpcUaNode, OpcUaServer
from opcua_client import OpcUaClient

from cpc.simulators import ProtocolGatewaySimulator

FIELDS = (
    OpcUaField(path="Label", datatype="String"),
    OpcUaField(path="Motor.Speed", datatype="Double", minimum=10, maximum=20),
    OpcUaField(path="Motor.On", datatype="Boolean"), OpcUaField(path="Mode", datatype="Int32"),
    OpcUaField(path="Phases", datatype="Float", length=3), OpcUaField(path="Axes[1].Speed", datatype="Double"),
    OpcUaField(path="Since", datatype="DateTime"), OpcUaField(path="Name", datatype="LocalizedText"),
)
DRIVE = OpcUaNode(name="Drive", namespace_uri="urn:plant:drive", identifier_type="String", identifier="Drive",
                  datatype="DriveState", fields=FIELDS)
SPARE = OpcUaNode(name="Spare", namespace_uri="urn:plant:spare", identifier="7", datatype="DriveState", length=2,
                  fields=(OpcUaField(path="Motor.Speed", datatype="Int16"),))
ARRAY = OpcUaNode(name="Levels", namespace_uri="urn:plant:spare", identifier="8", datatype="Double", length=4,
                  minimum=0, maximum=8, writable=True)
ENTRY = OpcUaServer(alias="Plant", url="opc.tcp://plc:4840", nodes=(DRIVE, SPARE, ARRAY), interval=0.1)


@pytest.fixture(scope="module")
def served() -> Iterator[ProtocolGatewaySimulator]:
    with ProtocolGatewaySimulator(opcua=[ENTRY], update_interval=0.05) as simulator:
        yield simulator


def entry(simulator: ProtocolGatewaySimulator) -> OpcUaServer:
    (found,) = simulator.entries
    assert isinstance(found, OpcUaServer)
    return found


def all_good_and_moving(running: plant.Running, nodes: tuple[OpcUaNode, ...], still: set[str]) -> None:
    names = [point.name for node in nodes for point in node.points]
    alias = running.manager.points[0].device
    running.wait(lambda: {running.quality(f"{alias}/{name}") for name in names} == {"Good"},
                 what=str({name: running.quality(f"{alias}/{name}") for name in names}))
    first = {name: running[f"{alias}/{name}"].value for name in names}
    running.wait(lambda: still >= {n for n in names if running[f"{alias}/{n}"].value == first[n]},
                 what=str([n for n in names if running[f"{alias}/{n}"].value == first[n]]))


def test_the_fields_and_elements_of_an_endpoint_file_are_served_and_move(served: ProtocolGatewaySimulator,
                                                                         shm_name: str) -> None:
    with plant.Running(shm_name, entry(served)) as running:
        all_good_and_moving(running, ENTRY.nodes, {"Drive.Motor.On"} | {f"Spare[{i}].Motor.Speed" for i in (0, 1)}
                            | {"Drive.Mode"})
        assert 10 <= running["Plant/Drive.Motor.Speed"].value <= 20
        assert len({running[f"Plant/Levels[{i}]"].value for i in range(4)}) == 4
        said = served.values()
        assert {f"Plant/{p.name}" for node in (DRIVE, SPARE) for p in node.points} <= said.keys() | {
            "Plant/Drive.Axes[0].Speed"}
        served.order("move Plant/Drive constant 15")
        running.wait(lambda: running["Plant/Drive.Axes[1].Speed"].value == running["Plant/Drive.Phases[2]"].value == 15)
        served.order("fault shuffle_namespaces")
        running.wait(lambda: running["Plant/$connected"].value == 0)
        running.wait_quality("Plant/Spare[1].Motor.Speed", "Good")
        running.wait_quality("Plant/Drive.Since", "Good")
        served.order("clear")


def test_an_element_is_written_alone_and_logged_as_such(served: ProtocolGatewaySimulator, shm_name: str) -> None:
    with OpcUaClient.of(entry(served)) as client:
        client.write_value(ARRAY, [1.0, 2.0, 3.0, 4.0])
    results: list[WriteResult] = []
    with plant.Running(shm_name, entry(served)) as running:
        running.wait(lambda: running["Plant/Levels[2]"].value == 3.0)
        for point, value in (("Levels[2]", 7.5), ("Levels[3]", 99.0)):
            running.manager.submit_write(WriteRequest(point=f"Plant/{point}", value=value), results.append)
        running.wait(lambda: len(results) == 2)
        running.wait(lambda: [running[f"Plant/Levels[{i}]"].value for i in range(4)] == [1.0, 2.0, 7.5, 4.0])
    assert {result.outcome for result in results} == {WriteOutcome.VERIFIED, WriteOutcome.REFUSED}
    assert served.log.writes("Plant")[-1].values == (("Plant/Levels[2]", [7.5]),)


def test_node_opcua_takes_the_structures_apart_by_their_definitions(served: ProtocolGatewaySimulator) -> None:
    served.order("move Plant/Drive constant 12")
    with OpcUaClient.of(entry(served)) as client:
        spaces = client._session.namespaces  # type: ignore[union-attr]
    drive, spare = plant.read_by_node(entry(served).url, [
        f"ns={spaces.index('urn:plant:drive')};s=Drive", f"ns={spaces.index('urn:plant:spare')};i=7"])
    assert (drive["status"], drive["type"]) == (0, "ExtensionObject")
    value: dict[str, Any] = drive["value"]
    assert (value["motor"]["speed"], value["mode"], value["phases"]) == (12, 12, [12, 12, 12])
    assert [axis["speed"] for axis in value["axes"]] == [12, 12]
    assert len(spare["value"]) == 2
    assert isinstance(spare["value"][1]["motor"]["speed"], int)


NODESET = """<?xml version="1.0" encoding="utf-8"?>
<UANodeSet xmlns="http://opcfoundation.org/UA/2011/03/UANodeSet.xsd">
  <NamespaceUris><Uri>urn:x:press</Uri></NamespaceUris>
  <Aliases><Alias Alias="Double">i=11</Alias><Alias Alias="Organizes">i=35</Alias>
    <Alias Alias="HasComponent">i=47</Alias><Alias Alias="HasSubtype">i=45</Alias>
    <Alias Alias="HasEncoding">i=38</Alias>
    <Alias Alias="HasTypeDefinition">i=40</Alias></Aliases>
  <UADataType NodeId="ns=1;i=3001" BrowseName="1:Mode"><DisplayName>Mode</DisplayName><References>
    <Reference ReferenceType="HasSubtype" IsForward="false">i=29</Reference></References>
    <Definition Name="1:Mode"><Field Name="Off" Value="0"/><Field Name="Run" Value="1"/><Field Name="Jog" Value="2"/>
    </Definition></UADataType>
  <UADataType NodeId="ns=1;i=3002" BrowseName="1:Base"><DisplayName>Base</DisplayName><References>
    <Reference ReferenceType="HasEncoding">ns=1;i=3012</Reference>
    <Reference ReferenceType="HasSubtype" IsForward="false">i=22</Reference></References>
    <Definition Name="1:Base"><Field Name="Id" DataType="i=7"/><Field Name="Mode" DataType="ns=1;i=3001"/></Definition>
  </UADataType>
  <UAObject NodeId="ns=1;i=3012" BrowseName="Default Binary" SymbolicName="DefaultBinary">
    <DisplayName>Default Binary</DisplayName><References>
    <Reference ReferenceType="HasEncoding" IsForward="false">ns=1;i=3002</Reference>
    <Reference ReferenceType="HasTypeDefinition">i=76</Reference></References></UAObject>
  <UADataType NodeId="ns=1;i=3003" BrowseName="1:Press"><DisplayName>Press</DisplayName><References>
    <Reference ReferenceType="HasEncoding">ns=1;i=3013</Reference>
    <Reference ReferenceType="HasSubtype" IsForward="false">ns=1;i=3002</Reference></References>
    <Definition Name="1:Press"><Field Name="Force" DataType="Double"/><Field Name="Unit" DataType="i=887"/>
    <Field Name="Sides" DataType="i=10" ValueRank="1" ArrayDimensions="2"/>
    </Definition></UADataType>
  <UADataType NodeId="ns=1;i=3004" BrowseName="1:Side"><DisplayName>Side</DisplayName><References>
    <Reference ReferenceType="HasEncoding">ns=1;i=3014</Reference>
    <Reference ReferenceType="HasSubtype" IsForward="false">i=22</Reference></References>
    <Definition Name="1:Side"><Field Name="Id" DataType="i=7"/>
    <Field Name="Spare" DataType="Double" IsOptional="true"/></Definition></UADataType>
  <UAObject NodeId="ns=1;i=3014" BrowseName="Default Binary" SymbolicName="DefaultBinary">
    <DisplayName>Default Binary</DisplayName>
    <References><Reference ReferenceType="HasEncoding" IsForward="false">ns=1;i=3004</Reference>
    <Reference ReferenceType="HasTypeDefinition">i=76</Reference></References></UAObject>
  <UAObject NodeId="ns=1;i=3013" BrowseName="Default Binary" SymbolicName="DefaultBinary">
    <DisplayName>Default Binary</DisplayName><References>
    <Reference ReferenceType="HasEncoding" IsForward="false">ns=1;i=3003</Reference>
    <Reference ReferenceType="HasTypeDefinition">i=76</Reference></References></UAObject>
  <UAObject NodeId="ns=1;i=1" BrowseName="1:Line"><DisplayName>Line</DisplayName><References>
    <Reference ReferenceType="Organizes" IsForward="false">i=85</Reference>
    <Reference ReferenceType="HasTypeDefinition">i=58</Reference></References></UAObject>
  <UAVariable NodeId="ns=1;i=2" BrowseName="1:Press" DataType="ns=1;i=3003"><DisplayName>Press</DisplayName><References>
    <Reference ReferenceType="HasComponent" IsForward="false">ns=1;i=1</Reference>
    <Reference ReferenceType="HasTypeDefinition">i=63</Reference></References></UAVariable>
  <UAVariable NodeId="ns=1;i=4" BrowseName="1:Presses" DataType="ns=1;i=3004" ValueRank="1" ArrayDimensions="2">
    <DisplayName>Presses</DisplayName><References>
    <Reference ReferenceType="HasComponent" IsForward="false">ns=1;i=1</Reference>
    <Reference ReferenceType="HasTypeDefinition">i=63</Reference></References></UAVariable>
  <UAVariable NodeId="ns=1;i=5" BrowseName="1:Mode" DataType="ns=1;i=3001"><DisplayName>Mode</DisplayName><References>
    <Reference ReferenceType="HasComponent" IsForward="false">ns=1;i=1</Reference>
    <Reference ReferenceType="HasTypeDefinition">i=63</Reference></References></UAVariable>
  <UAVariable NodeId="ns=1;i=6" BrowseName="1:Row" DataType="Double" ValueRank="1" ArrayDimensions="3">
    <DisplayName>Row</DisplayName><References>
    <Reference ReferenceType="HasComponent" IsForward="false">ns=1;i=1</Reference>
    <Reference ReferenceType="HasTypeDefinition">i=63</Reference></References></UAVariable>
</UANodeSet>
"""


def test_structures_of_a_nodeset_are_served_by_its_definitions(tmp_path: Path, shm_name: str) -> None:
    nodeset = tmp_path / "Press.xml"
    nodeset.write_text(NODESET, encoding="utf-8")
    with ProtocolGatewaySimulator.of(nodeset, update_interval=0.05) as simulator:
        found = entry(simulator)
        assert {node.name: len(node.points) for node in found.nodes} == {
            "Line.Mode": 1, "Line.Press": 9, "Line.Presses": 4, "Line.Row": 3}
        with plant.Running(shm_name, found) as running:
            names = {p.name for n in found.nodes for p in n.points}
            all_good_and_moving(running, found.nodes, {n for n in names if "Mode" in n or "Id" in n})
        for node in ("Press", "Presses"):
            simulator.order(f"move {found.alias}/Line.{node} constant 2")
        assert simulator.values()[f"{found.alias}/Line.Press.Sides[1]"] == 2
        press, sides = plant.read_by_node(found.url, ["ns=2;i=2", "ns=2;i=4"])
        assert {name: press["value"][name] for name in ("id", "mode", "force", "sides")} == {
            "id": 2, "mode": 2, "force": 2, "sides": [2, 2]}
        assert press["value"]["unit"]["unitId"] == 2
        assert sides["value"] == [{"id": 2, "spare": 2}] * 2
