"""Arrays and structures of real servers, laid out by what each server says of its types, become points."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import opcua_peers as plant
import peers
import pytest
from asyncua import ua
from asyncua.common.type_dictionary_builder import DataTypeDictionaryBuilder
from asyncua.server.server import Server
from endpoint_config import OpcUaField, OpcUaNode

STATUS = OpcUaNode(name="Status", identifier="2256", datatype="ServerStatusDataType", fields=(
    OpcUaField(path="State", datatype="Int32"), OpcUaField(path="BuildInfo.ProductUri", datatype="String"),
    OpcUaField(path="StartTime", datatype="DateTime"), OpcUaField(path="SecondsTillShutdown", datatype="UInt32"),
    OpcUaField(path="ShutdownReason", datatype="LocalizedText")))
ALONE = tuple(OpcUaNode(name=name, identifier=str(number), datatype=kind) for name, number, kind in (
    ("State", 2259, "Int32"), ("ProductUri", 2262, "String"), ("StartTime", 2257, "DateTime")))


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    port = peers.free_port()
    with plant.open62541(port, "doubles=2"):
        yield port


def field(path: str, datatype: str, length: int = 0) -> OpcUaField:
    return OpcUaField(path=path, datatype=datatype, length=length)


def drive() -> OpcUaNode:
    return replace(plant.named("Drive", "DriveState"), fields=(
        field("Label", "String"), field("Motor.Speed", "Double"), field("Motor.On", "Boolean"), field("Mode", "Int32"),
        field("Phases", "Float", 4), field("Axes[1].Speed", "Double"), field("Counter", "UInt64"),
        field("Nothing", "Double")))


@pytest.mark.parametrize("peer", ["open62541", "node-opcua"])
def test_the_server_status_equals_its_parts(peer: str, request: pytest.FixtureRequest, shm_name: str) -> None:
    port = request.getfixturevalue("server" if peer == "open62541" else "node_server")
    with plant.Running(shm_name, plant.entry(port, [STATUS, *ALONE])) as running:
        running.wait_quality("S/Status.SecondsTillShutdown", "Good")
        for path, name in (("State", "State"), ("BuildInfo.ProductUri", "ProductUri"), ("StartTime", "StartTime")):
            assert running[f"S/Status.{path}"].value == running[f"S/{name}"].value
            assert running[f"S/{name}"].value not in (None, "")
        assert running.quality("S/Status.ShutdownReason") == "Good"


def test_a_structure_of_the_plant_becomes_its_fields(server: int, shm_name: str) -> None:
    drives = replace(drive(), name="All", identifier="Drives", length=3, fields=(field("Counter", "UInt64"),))
    odd = replace(drive(), name="Odd", identifier="Double")
    with plant.Running(shm_name, plant.entry(server, [drive(), drives, odd, *plant.doubles(1)])) as running:
        running.wait_quality("S/Drive.Label", "Good")
        values = {path: running[f"S/Drive.{path}"].value for path in (
            "Label", "Motor.Speed", "Motor.On", "Mode", "Phases[0]", "Phases[2]", "Axes[1].Speed")}
        assert values == {"Label": "Lüfter", "Motor.Speed": 1480.25, "Motor.On": True, "Mode": 2, "Phases[0]": 1.5,
                          "Phases[2]": 3.5, "Axes[1].Speed": 1e-3}
        assert running.quality("S/Drive.Phases[3]") == "BadIndexRangeNoData"
        assert running.quality("S/Drive.Counter") == "BadNoData"
        assert running.quality("S/Drive.Nothing") == "BadNotFound"
        assert running["S/All[1].Counter"].value == 2**64 - 1
        assert running.quality("S/All[2].Counter") == "BadIndexRangeNoData"
        assert {running.quality(f"S/Odd.{path}") for path in ("Label", "Motor.Speed")} == {"BadTypeMismatch"}
        assert running.quality("S/D1") == "Good"


def test_elements_of_arrays_are_points_and_a_wrong_length_harms_only_itself(server: int, shm_name: str) -> None:
    nodes = [replace(plant.named("Array"), length=6), replace(plant.named("Text", "Int32"), identifier="Double",
                                                             length=2), *plant.doubles(2)]
    with plant.Running(shm_name, plant.entry(server, nodes)) as running:
        running.wait_quality("S/Array[0]", "Good")
        assert [running[f"S/Array[{i}]"].value for i in range(4)] == [1.0, 2.0, 3.0, 4.0]
        assert running.quality("S/Array[4]") == running.quality("S/Array[5]") == "BadIndexRangeNoData"
        assert running.quality("S/Text[0]") == "BadTypeMismatch"
        assert "Array[4]: the array is shorter" in running.last_error()
        assert running.quality("S/D2") == "Good"


def test_types_are_learned_again_from_a_server_that_came_back_with_another_namespace_order(shm_name: str) -> None:
    port = peers.free_port()
    with plant.Running(shm_name, plant.entry(port, [drive()])) as running:
        for arguments in ([], ["swap=1"]):
            with plant.open62541(port, *arguments) as server:
                running.wait_quality("S/Drive.Motor.Speed", "Good")
                os.kill(server.pid, signal.SIGKILL)
                running.wait_quality("S/Drive.Motor.Speed", "BadCommunicationError")


async def old_structure(server: Server, space: int) -> None:
    """A structure that stands in a type dictionary alone."""
    builder = DataTypeDictionaryBuilder(server, space, "urn:cpc:test:dictionary", "Dictionary")
    await builder.init()
    inner = await builder.create_data_type("Inner")
    inner.add_field("Speed", ua.VariantType.Double)  # type: ignore[arg-type]
    outer = await builder.create_data_type("Outer")
    outer.add_field("Label", ua.VariantType.String)  # type: ignore[arg-type]
    outer.add_field("Motor", inner)
    outer.add_field("Counts", ua.VariantType.UInt16, is_array=True)  # type: ignore[arg-type]
    await builder.set_dict_byte_string()
    body = b"\x02\0\0\0M1" + b"\0\0\0\0\0\0\xf8\x3f" + b"\x02\0\0\0\x07\0\x08\0"
    value: Any = ua.ExtensionObject(TypeId=outer.node_ids[-1], Body=body)
    await server.nodes.objects.add_variable(ua.NodeId("Old", space), "Old", value,  # type: ignore[arg-type]
                                            varianttype=ua.VariantType.ExtensionObject, datatype=outer.data_type)


def test_a_server_without_definitions_is_understood_by_its_type_dictionary(shm_name: str) -> None:
    node = replace(plant.named("Old", "Outer"), fields=(
        field("Label", "String"), field("Motor.Speed", "Double"), field("Counts", "UInt16", 2)))
    with plant.asyncua_server(old_structure) as port, plant.Running(shm_name, plant.entry(port, [node])) as running:
        running.wait_quality("S/Old.Label", "Good")
        assert [running[f"S/Old.{path}"].value for path in ("Label", "Motor.Speed", "Counts[0]", "Counts[1]")] == [
            "M1", 1.5, 7, 8]
