"""Which nodes are read in which request: made anew for each session, split where a server can't take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from endpoint_config import OpcUaNode

from opcua_client.datatypes import kind_of
from opcua_client.encoding import NodeId, parse_node_id, read_body, read_value_id, split
from opcua_client.values import Converter


@dataclass(frozen=True, slots=True, eq=False)
class ReadPlan:
    """One request and where its values go."""

    nodes: tuple[OpcUaNode, ...]
    items: tuple[bytes, ...]
    """Each node's encoded ReadValueId."""
    rows: npt.NDArray[np.intp]
    """Row of each node in the staging records."""
    span: slice | npt.NDArray[np.intp]
    """The same rows as a slice where they follow each other."""
    body: bytes
    """Encoded request after its header."""
    converter: Converter

    def halves(self) -> tuple[ReadPlan, ...]:
        """Two requests with half of the nodes each; the request itself where it holds only one node."""
        if len(self.nodes) < 2:
            return (self,)
        middle = len(self.nodes) // 2
        return tuple(
            make_read(self.nodes[part], self.items[part], self.rows[part])
            for part in (slice(None, middle), slice(middle, None))
        )


@dataclass(frozen=True, slots=True, eq=False)
class GroupPlan:
    """All requests of one scan class of one server."""

    reads: list[ReadPlan]
    lost: tuple[tuple[int, OpcUaNode], ...]
    """Rows and nodes that can't be asked for, because the server lacks their namespace."""


def make_read(nodes: Sequence[OpcUaNode], items: Sequence[bytes], rows: npt.NDArray[np.intp]) -> ReadPlan:
    """Put ready parts together."""
    contiguous = len(rows) > 0 and bool((np.diff(rows) == 1).all())
    span = slice(int(rows[0]), int(rows[-1]) + 1) if contiguous else rows
    return ReadPlan(nodes=tuple(nodes), items=tuple(items), rows=rows, span=span, body=read_body(items),
                    converter=Converter([kind_of(n.datatype) for n in nodes], [(n.minimum, n.maximum) for n in nodes]))


def make_plan(nodes: Sequence[OpcUaNode], rows: Sequence[int], *, namespaces: Sequence[str], most_nodes: int,
              most_bytes: int) -> GroupPlan:
    """Plan the fewest requests that the limits allow; namespace URIs are looked up in the server's array.

    Nodes of variable length go into requests of their own, so that a text that grows does not move the numbers.
    """
    known: list[tuple[OpcUaNode, bytes, int]] = []
    lost: list[tuple[int, OpcUaNode]] = []
    for node, row in zip(nodes, rows, strict=True):
        index = namespace_index(node, namespaces)
        if index is None:
            lost.append((row, node))
        else:
            known.append((node, read_value_id(node_id_at(node, index)), row))
    reads: list[ReadPlan] = []
    for variable in (False, True):
        part = [entry for entry in known if (kind_of(entry[0].datatype).image in ("string", "bytes")) == variable]
        for run in split([item for _, item, _ in part], most_nodes, most_bytes):
            chosen = [part[i] for i in run]
            reads.append(make_read([n for n, _, _ in chosen], [item for _, item, _ in chosen],
                                   np.array([row for _, _, row in chosen], np.intp)))
    return GroupPlan(reads=reads, lost=tuple(lost))


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
