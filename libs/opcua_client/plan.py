"""Which nodes are read in which request: made anew for each session, split where a server can't take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from endpoint_config import OpcUaNode, OpcUaPoint

from opcua_client.datatypes import kind_of
from opcua_client.encoding import NodeId, parse_node_id, read_body, read_value_id, split
from opcua_client.structures import Item, Types, make_item
from opcua_client.values import Converter


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """One node at this server, and the points that its value fills."""

    node: OpcUaNode
    points: tuple[OpcUaPoint, ...]
    rows: tuple[int, ...]
    """Row of each point in the staging records."""
    node_id: NodeId
    """With the index that its namespace has at this server."""
    item: bytes
    """Encoded ReadValueId."""

    @property
    def is_composite(self) -> bool:
        """Whether it is an array or a structure."""
        return bool(self.node.length or self.node.fields)

    @property
    def is_variable(self) -> bool:
        """Whether its length may change from answer to answer."""
        return self.is_composite or kind_of(self.node.datatype).image in ("string", "bytes")


@dataclass(frozen=True, slots=True, eq=False)
class ReadPlan:
    """One request and where its values go."""

    targets: tuple[Target, ...]
    points: tuple[OpcUaPoint, ...]
    """The points of all targets, one after the other: the rows of an answer's batch."""
    rows: npt.NDArray[np.intp]
    """Row of each point in the staging records."""
    span: slice | npt.NDArray[np.intp]
    """The same rows as a slice where they follow each other."""
    body: bytes
    """Encoded request after its header."""
    converter: Converter
    types: Types

    def halves(self) -> tuple[ReadPlan, ...]:
        """Two requests with half of the nodes each; the request itself where it holds only one node."""
        if len(self.targets) < 2:
            return (self,)
        middle = len(self.targets) // 2
        return make_read(self.targets[:middle], self.types), make_read(self.targets[middle:], self.types)


@dataclass(frozen=True, slots=True, eq=False)
class GroupPlan:
    """All requests of one scan class of one server."""

    reads: list[ReadPlan]
    lost: tuple[tuple[tuple[int, ...], OpcUaNode], ...]
    """Rows and nodes that can't be asked for, because the server lacks their namespace."""
    types: Types
    """What is known of the server's structures."""


def make_read(targets: Sequence[Target], types: Types) -> ReadPlan:
    """Put ready parts together."""
    points = tuple(point for target in targets for point in target.points)
    rows = np.array([row for target in targets for row in target.rows], np.intp)
    contiguous = len(rows) > 0 and bool((np.diff(rows) == 1).all())
    span = slice(int(rows[0]), int(rows[-1]) + 1) if contiguous else rows
    converter = Converter([kind_of(p.datatype) for p in points], [(p.minimum, p.maximum) for p in points],
                          items=make_items(targets), types=types)
    return ReadPlan(targets=tuple(targets), points=points, rows=rows, span=span, converter=converter, types=types,
                    body=read_body([target.item for target in targets]))


def make_items(targets: Sequence[Target]) -> list[Item]:
    """What each node's value fills; empty where every node is a single value."""
    if not any(target.is_composite for target in targets):
        return []
    items: list[Item] = []
    first = 0
    for target in targets:
        items.append(make_item(target.node_id, [point.path for point in target.points], first))
        first += len(target.points)
    return items


def make_plan(nodes: Sequence[OpcUaNode], rows: Sequence[Sequence[int]], *, namespaces: Sequence[str], most_nodes: int,
              most_bytes: int, types: Types | None = None) -> GroupPlan:
    """Plan the fewest requests that the limits allow; namespace URIs are looked up in the server's array.

    `rows[i]` holds the rows of the i-th node's points. Nodes of variable length go into requests of their own, so
    that a text that grows does not move the numbers.
    """
    types = types if types is not None else Types()
    known: list[Target] = []
    lost: list[tuple[tuple[int, ...], OpcUaNode]] = []
    for node, own in zip(nodes, rows, strict=True):
        index = namespace_index(node, namespaces)
        if index is None:
            lost.append((tuple(own), node))
        else:
            node_id = node_id_at(node, index)
            known.append(Target(node, node.points, tuple(own), node_id, read_value_id(node_id)))
    reads: list[ReadPlan] = []
    for variable in (False, True):
        part = [target for target in known if target.is_variable == variable]
        for run in split([target.item for target in part], most_nodes, most_bytes):
            reads.append(make_read([part[i] for i in run], types))
    return GroupPlan(reads=reads, lost=tuple(lost), types=types)


def namespace_index(node: OpcUaNode, namespaces: Sequence[str]) -> int | None:
    """Index of a node's namespace at this server, None where the server does not have it."""
    if not node.namespace_uri:
        return node.namespace_index
    try:
        return list(namespaces).index(node.namespace_uri)
    except ValueError:
        return None


def node_id_at(node: OpcUaNode, namespace: int) -> NodeId:
    """The node's id with the index that its namespace has at this server."""
    return NodeId(namespace=namespace, identifier=parse_node_id(node.node_id).identifier)
