"""What is asked of a server besides values, now and then: attributes and references of nodes, through the library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncua import ua

from opcua_client.channel import Channel
from opcua_client.encoding import NodeId

DATA_TYPE, IS_ABSTRACT, VALUE, DATA_TYPE_DEFINITION = 14, 8, 13, 23
"""Attribute ids (Part 6, annex A.1)."""
HAS_ENCODING, HAS_DESCRIPTION, HAS_SUBTYPE, HAS_COMPONENT = 38, 39, 45, 47
"""Reference types of namespace 0."""

_NODE_ID: Any = ua.NodeId
_ATTRIBUTES: Any = vars(ua)["AttributeIds"]


async def read_attributes(channel: Channel, wanted: Sequence[tuple[NodeId, int]]) -> list[Any]:
    """The values of attributes in the library's types; None where the status is bad. OpcUaError where none came."""
    parameters = ua.ReadParameters()
    parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
    parameters.NodesToRead = [ua.ReadValueId(_theirs(node), _ATTRIBUTES(attribute)) for node, attribute in wanted]
    found = await channel.ask("read types", channel.service.read(parameters))
    return [
        value.Value.Value if value.Value is not None and (value.StatusCode is None or value.StatusCode.is_good())
        else None
        for value in found
    ]


async def follow(channel: Channel, node: NodeId, reference: int, *, forward: bool) -> list[NodeId]:
    """The nodes of the same server that references of one type (and its subtypes) lead to."""
    description = ua.BrowseDescription()
    description.NodeId = _theirs(node)
    description.BrowseDirection = ua.BrowseDirection.Forward if forward else ua.BrowseDirection.Inverse
    description.ReferenceTypeId = _theirs(NodeId(namespace=0, identifier=reference))
    parameters = ua.BrowseParameters()
    parameters.NodesToBrowse = [description]
    (result,) = await channel.ask("browse types", channel.service.browse(parameters))
    return [our_id(found.NodeId) for found in result.References or () if not getattr(found.NodeId, "ServerIndex", 0)]


def our_id(theirs: Any) -> NodeId:
    """A NodeId of the library as ours."""
    return NodeId(namespace=int(theirs.NamespaceIndex), identifier=theirs.Identifier)


def _theirs(node: NodeId) -> Any:
    return _NODE_ID(node.identifier, node.namespace)
