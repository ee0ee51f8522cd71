"""Requests as bytes, against the library's own codec."""

from __future__ import annotations

import uuid

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import nodeid_from_binary, nodeid_to_binary, struct_from_binary
from hypothesis import given
from hypothesis import strategies as st
from opcua_client.encoding import (
    NodeId,
    decode_node_id,
    encode_string,
    parse_node_id,
    read_body,
    read_request,
    read_value_id,
    split,
)
from opcua_client.errors import Misconfigured

IDENTIFIERS = st.one_of(
    st.integers(0, 2**32 - 1), st.text(max_size=40), st.uuids(), st.binary(max_size=40)
)
NODES = st.builds(lambda n, i: NodeId(namespace=n, identifier=i), st.integers(0, 2**16 - 1), IDENTIFIERS)


@given(NODES)
def test_a_node_id_is_encoded_so_that_the_library_reads_the_same(node: NodeId) -> None:
    read = nodeid_from_binary(ua.utils.Buffer(node.encode()))
    assert (read.NamespaceIndex, read.Identifier) == (node.namespace, node.identifier)


@given(NODES)
def test_a_node_id_is_decoded_as_it_was_encoded(node: NodeId) -> None:
    data = b"\xaa" + node.encode()
    assert decode_node_id(data, 1) == (node, len(data))


@given(NODES)
def test_string_notation_round_trips(node: NodeId) -> None:
    assert parse_node_id(str(node)) == node


@pytest.mark.parametrize(("text", "node"), [
    ("i=2255", NodeId(namespace=0, identifier=2255)),
    ("ns=2;i=9", NodeId(namespace=2, identifier=9)),
    ("ns=1;s=a;b=c", NodeId(namespace=1, identifier="a;b=c")),
    ("ns=3;g=09087e75-8e5e-499b-954f-f2a9603db28a",
     NodeId(namespace=3, identifier=uuid.UUID("09087e75-8e5e-499b-954f-f2a9603db28a"))),
    ("ns=3;b=aGVsbG8=", NodeId(namespace=3, identifier=b"hello")),
])
def test_notations_of_the_standard_are_read(text: str, node: NodeId) -> None:
    assert parse_node_id(text) == node
    assert nodeid_from_binary(ua.utils.Buffer(node.encode())) == ua.NodeId.from_string(text)


@pytest.mark.parametrize("text", ["", "9", "ns=2", "ns=2;", "ns=x;i=1", "ns=70000;i=1", "i=-1", "i=4294967296",
                                  "q=1", "ns=1;g=nothing", "ns=1;b=*"])
def test_what_is_no_node_id_is_refused_with_the_forms_allowed(text: str) -> None:
    with pytest.raises(Misconfigured, match="ns=INDEX;i=NUMBER"):
        parse_node_id(text)


@given(st.lists(NODES, max_size=5), st.integers(1, 2**32 - 1), st.integers(0, 2**31 - 1))
def test_a_read_request_says_to_the_library_what_was_meant(nodes: list[NodeId], handle: int, timeout: int) -> None:
    token = nodeid_to_binary(ua.NodeId(5, 1))
    data = read_request(token, handle, timeout, read_body([read_value_id(n) for n in nodes]))
    request = struct_from_binary(ua.ReadRequest, ua.utils.Buffer(data))
    assert request.TypeId == ua.FourByteNodeId(ua.ObjectIds.ReadRequest_Encoding_DefaultBinary)
    assert (request.RequestHeader.RequestHandle, request.RequestHeader.TimeoutHint) == (handle, timeout)
    assert request.Parameters.MaxAge == 0
    assert request.Parameters.TimestampsToReturn == ua.TimestampsToReturn.Both
    assert [(r.NodeId.NamespaceIndex, r.NodeId.Identifier, r.AttributeId) for r in request.Parameters.NodesToRead] == [
        (n.namespace, n.identifier, ua.AttributeIds.Value) for n in nodes
    ]


def test_a_null_string_differs_from_an_empty_one() -> None:
    assert (encode_string(None), encode_string("")) == (b"\xff\xff\xff\xff", b"\0\0\0\0")


@given(st.lists(st.integers(1, 20), max_size=60), st.integers(0, 10), st.integers(0, 60))
def test_split_keeps_order_and_limits_and_loses_nothing(sizes: list[int], most: int, most_bytes: int) -> None:
    items = [bytes(size) for size in sizes]
    runs = split(items, most, most_bytes)
    assert [i for run in runs for i in run] == list(range(len(items)))
    for run in runs:
        assert len(run) >= 1
        assert not most or len(run) <= most
        assert not most_bytes or len(run) == 1 or sum(len(items[i]) for i in run) <= most_bytes
