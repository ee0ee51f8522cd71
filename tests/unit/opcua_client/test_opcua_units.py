"""Units and ranges as servers send them, and what is remembered of them."""

from __future__ import annotations

import struct

import pytest
from endpoint_config import OpcUaNode, OpcUaServer
from opcua_client.cursor import Extension
from opcua_client.datatypes import Described, image_points, remembered
from opcua_client.encoding import NodeId, encode_string
from opcua_client.units import UNECE, common_code, lacks_description, limits_of, unit_text


def unit(text: str, number: int = 4_408_652, space: str = UNECE) -> Extension:
    body = encode_string(space) + struct.pack("<i", number) + b"\x02" + encode_string(text) + b"\x00"
    return Extension(kind=NodeId(namespace=0, identifier=889), body=body)


def limits(low: float, high: float) -> Extension:
    return Extension(kind=NodeId(namespace=0, identifier=886), body=struct.pack("<dd", low, high))


def test_the_display_text_goes_before_the_code() -> None:
    assert unit_text(unit(" °C \n")) == "°C"
    assert unit_text(unit("")) == "CEL"
    assert unit_text(unit("", space="urn:own")) == ""
    assert unit_text(None) == unit_text(limits(0, 1)) == ""
    assert unit_text(Extension(kind=NodeId(namespace=0, identifier=889), body=b"\xff\xff")) == ""


@pytest.mark.parametrize(("number", "code"), [
    (4_408_652, "CEL"), (4_937_544, "KWH"), (17_476, "DD"), (12_849, "21"), (-1, ""), (0, ""), (0x41424344, ""),
])
def test_unit_ids_are_common_codes(number: int, code: str) -> None:
    assert common_code(number) == code


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_range_that_says_nothing_is_none(low: float, high: float) -> None:
    assert limits_of(limits(low, high)) == (None, None)
    assert limits_of(limits(-1.0, 1.0)) == (-1.0, 1.0)


def test_what_a_server_said_is_read_back_from_the_points_that_show_it() -> None:
    server = OpcUaServer(alias="S", url="opc.tcp://127.0.0.1:1", nodes=(
        OpcUaNode(name="A", identifier="1", datatype="Double"),
        OpcUaNode(name="B", identifier="2", datatype="Double", unit="m", minimum=0.0),
        OpcUaNode(name="T", identifier="3", datatype="String"), OpcUaNode(name="L", identifier="4", length=2)))
    said = {(name, node): Described(unit="bar", range=(0.0, 9.0)) for name, node in (
        ("A", "ns=0;i=1"), ("B", "ns=0;i=2"), ("L[0]", "ns=0;i=4"), ("L[1]", "ns=0;i=4"))}
    points = image_points(server, 1.0, said)
    assert [(p.unit, p.range) for p in points] == [
        ("bar", (0.0, 9.0)), ("m", (0.0, None)), ("", (None, None)), ("bar", (0.0, 9.0)), ("bar", (0.0, 9.0))]
    again = remembered(points)["S"]
    assert image_points(server, 1.0, again) == points
    assert [lacks_description(node) for node in server.nodes] == [True, False, False, True]
