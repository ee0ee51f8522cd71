"""An address space walked along its hierarchical references, and what its variables are (OPC UA Part 4, 5.8.2)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from endpoint_config import OpcUaNode
from endpoint_config.node_id import identifier_fault
from process_image.quality import is_bad, quality_name

from opcua_client.cursor import Sample
from opcua_client.datatypes import Described, Wire, shown_id
from opcua_client.encoding import NodeId
from opcua_client.errors import Refused
from opcua_client.qualities import SESSION_GONE
from opcua_client.services import (
    FORWARD,
    HAS_PROPERTY,
    HIERARCHICAL,
    OBJECT_CLASS,
    VARIABLE_CLASS,
    Browsing,
    Reference,
    browse,
    read_attributes,
)
from opcua_client.session import Session
from opcua_client.typesystem import known, looked_up
from opcua_client.units import describe

OBJECTS = NodeId(namespace=0, identifier=85)
SERVER = NodeId(namespace=0, identifier=2253)
"""The Server object: its diagnostics come and go with sessions."""
ROOT_CLASSES = {1: "Object", 2: "Variable", 4: "Method", 8: "ObjectType", 16: "VariableType", 32: "ReferenceType",
                64: "DataType", 128: "View"}
"""NodeClass by number (Part 3, clause 8.29)."""
MOST_PER_BROWSE, MOST_PER_READ = 100, 500
"""Nodes in one request, where the server's own limits are not lower."""
MOST_NODES = 200_000
"""Nodes after which a walk ends: an address space may be without end."""
MOST_NODES_PER_BROWSE = NodeId(namespace=0, identifier=11710)
NODE_CLASS, BROWSE_NAME, DISPLAY_NAME, DESCRIPTION = 2, 3, 4, 5
VALUE, DATA_TYPE, VALUE_RANK, USER_ACCESS = 13, 14, 15, 18
"""Attribute ids (Part 6, annex A.1)."""
READABLE, WRITABLE = 1, 2
"""Bits of UserAccessLevel (Part 3, clause 8.57)."""


@dataclass(slots=True, eq=False)
class Found:
    """One node of the walk."""

    node: NodeId
    browse_name: str
    display_name: str
    node_class: int
    is_property: bool = False
    """Whether a HasProperty reference led to it."""
    children: list[Found] = field(default_factory=list)
    again: bool = False
    """Whether it stands elsewhere in the tree with what lies below it."""
    more: bool = False
    """Whether there is more below that the depth left out."""
    refused: int = 0
    """StatusCode where the server does not say what lies below, 0 = it does."""
    facts: Facts | None = None
    """Of a variable, once asked for."""

    def walk(self) -> Iterator[Found]:
        """It and all that lies below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a server says of a variable."""

    status: int
    """StatusCode of its value."""
    exists: bool
    """Whether the server knows the node, and as a variable."""
    wire: Wire | None
    """Built-in type of the value, None where nobody knows."""
    type_name: str
    """Name of the DataType where it is not that of the built-in type, else empty."""
    array: bool
    length: int
    """Elements of the array that there are now."""
    has_value: bool
    access: int
    """UserAccessLevel."""
    description: str

    @property
    def spelled(self) -> str:
        """The type for people: `Double`, `Int32[4]`, `Int32 (PumpState)`."""
        name = self.wire.spelled if self.wire is not None else "?"
        array = f"[{self.length or ''}]" if self.array else ""
        return f"{name}{array} ({self.type_name})" if self.type_name else f"{name}{array}"

    @property
    def letters(self) -> str:
        """`rw`, `r-`, `-w` or `--`."""
        return ("r" if self.access & READABLE else "-") + ("w" if self.access & WRITABLE else "-")


async def tree(session: Session, roots: Sequence[NodeId], *, depth: int | None = None,
               timeout: float = 10.0) -> list[Found]:
    """The nodes at and below `roots`, `depth` levels of them (None = all); each once with what lies below it."""
    tops = await _tops(session, roots, timeout)
    seen = {top.node for top in tops}
    level, number = list(tops), 0
    most = await _limit(session, timeout)
    how = Browsing(direction=FORWARD, kind=HIERARCHICAL)
    while level and (depth is None or number < depth) and len(seen) < MOST_NODES:
        following: list[Found] = []
        for begin in range(0, len(level), most):
            part = level[begin : begin + most]
            results = await _browsed(session, [p.node for p in part], how, timeout)
            for parent, (status, references) in zip(part, results, strict=True):
                parent.refused = status if is_bad(status) else 0
                following += _children(parent, references, seen)
        level, number = following, number + 1
    for left in level:
        left.more = True
    return tops


async def _browsed(session: Session, nodes: Sequence[NodeId], how: Browsing,
                   timeout: float) -> list[tuple[int, list[Reference]]]:
    """As `browse`; a node over which the server stumbles has its status for itself, and the others are had."""
    try:
        return await browse(session.channel, nodes, how, timeout)
    except Refused as error:
        if error.quality in SESSION_GONE:
            raise
        if len(nodes) == 1:
            return [(error.quality, [])]
    middle = len(nodes) // 2
    return [*await _browsed(session, nodes[:middle], how, timeout),
            *await _browsed(session, nodes[middle:], how, timeout)]


async def _read(session: Session, wanted: Sequence[tuple[NodeId, int]], timeout: float) -> list[Sample]:
    """As `read_attributes`; an attribute over which the server stumbles has its status for itself."""
    try:
        return await read_attributes(session.channel, wanted, timeout)
    except Refused as error:
        if error.quality in SESSION_GONE:
            raise
        if len(wanted) == 1:
            return [Sample(value=None, status=error.quality)]
    middle = len(wanted) // 2
    return [*await _read(session, wanted[:middle], timeout), *await _read(session, wanted[middle:], timeout)]


def _children(parent: Found, references: Sequence[Reference], seen: set[NodeId]) -> list[Found]:
    """Hang the targets of references below their parent; returns those that are met for the first time."""
    new: list[Found] = []
    here: set[NodeId] = set()
    for reference in references:
        if reference.node in here:
            continue
        here.add(reference.node)
        name = reference.display_name.strip() or reference.browse_name.name.strip() or str(reference.node)
        child = Found(reference.node, str(reference.browse_name), name, reference.node_class,
                      is_property=reference.kind == HAS_PROPERTY)
        child.again = reference.node in seen
        parent.children.append(child)
        if not child.again:
            seen.add(reference.node)
            new.append(child)
    return new


async def _tops(session: Session, roots: Sequence[NodeId], timeout: float) -> list[Found]:
    wanted = [(node, attribute) for node in roots for attribute in (NODE_CLASS, BROWSE_NAME, DISPLAY_NAME)]
    samples = await read_attributes(session.channel, wanted, timeout)
    tops = []
    for place, node in enumerate(roots):
        kind, name, shown = (s.value.value if s.value is not None else None for s in samples[3 * place : 3 * place + 3])
        tops.append(Found(node, str(name or ""), (shown.text if shown is not None else "") or str(name or node),
                          kind if isinstance(kind, int) else 0))
    return tops


async def _limit(session: Session, timeout: float) -> int:
    (sample,) = await read_attributes(session.channel, [(MOST_NODES_PER_BROWSE, VALUE)], timeout)
    given = sample.value.value if sample.value is not None and not is_bad(sample.status) else 0
    return min(given, MOST_PER_BROWSE) if isinstance(given, int) and given > 0 else MOST_PER_BROWSE


async def facts_of(session: Session, nodes: Sequence[NodeId], timeout: float = 10.0) -> list[Facts]:
    """Type, access, value's status and description of variables, in few requests."""
    most = max(1, min(session.max_nodes or MOST_PER_READ * 5, MOST_PER_READ * 5) // 5)
    asked = (VALUE, DATA_TYPE, VALUE_RANK, USER_ACCESS, DESCRIPTION)
    samples: list[Sample] = []
    for begin in range(0, len(nodes), most):
        wanted = [(node, attribute) for node in nodes[begin : begin + most] for attribute in asked]
        samples += await _read(session, wanted, timeout)
    types = _Types(session, timeout)
    return [await _facts(samples[5 * place : 5 * place + 5], types) for place in range(len(nodes))]


async def _facts(samples: Sequence[Sample], types: _Types) -> Facts:
    value, datatype, rank, access, description = samples
    type_id = datatype.value.value if datatype.value is not None else None
    held = value.value if value.value is not None and value.value.wire is not Wire.NULL else None
    found = await types.of(type_id) if isinstance(type_id, NodeId) else (None, "")
    ranks = rank.value.value if rank.value is not None else -1
    text = description.value.value if description.value is not None else None
    return Facts(
        status=value.status, exists=isinstance(type_id, NodeId), wire=held.wire if held is not None else found[0],
        type_name=found[1], array=held.array if held is not None else ranks >= 0,
        length=len(held.value) if held is not None and held.array else 0, has_value=held is not None,
        access=access.value.value if access.value is not None and isinstance(access.value.value, int) else 0,
        description=text.text if text is not None else "",
    )


class _Types:
    """Built-in type and name of DataTypes, each asked for once."""

    def __init__(self, session: Session, timeout: float) -> None:
        self._session, self._timeout = session, timeout
        self._found: dict[NodeId, tuple[Wire | None, str]] = {}

    async def of(self, datatype: NodeId) -> tuple[Wire | None, str]:
        """The built-in type, None where a value must tell; and the name, empty for built-in types themselves."""
        if datatype not in self._found:
            wire = known(datatype) or await looked_up(self._session.channel, datatype, self._timeout)
            if datatype.namespace == 0 and wire is not None and datatype.identifier == wire:
                name = ""
            else:
                (sample,) = await read_attributes(self._session.channel, [(datatype, BROWSE_NAME)], self._timeout)
                name = sample.value.value.name if sample.value is not None else ""
            self._found[datatype] = wire, name
        return self._found[datatype]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What was made of subtrees: nodes for an endpoint file, and what was left out of it."""

    nodes: tuple[OpcUaNode, ...]
    left_out: tuple[tuple[str, str], ...]
    """Path and reason."""


async def endpoint_nodes(session: Session, roots: Sequence[NodeId], *, everything: bool = False,
                         timeout: float = 10.0) -> Entry:
    """Nodes of an endpoint file for every variable at and below `roots`, with types, units and descriptions.

    Left out is what could not be polled Good: structures, and, unless `everything`, variables without a Good value.
    Properties of variables (units, ranges) are no points of their own, and the Server object counts only where it, or
    something in it, is chosen itself.
    """
    tops = await tree(session, roots, timeout=timeout)
    variables = [(path, found) for top in tops for path, found in _variables(top, (), prefixed=len(tops) > 1)]
    unique = list({found.node: (path, found) for path, found in reversed(variables)}.values())[::-1]
    facts = await facts_of(session, [found.node for _, found in unique], timeout)
    nodes, left_out = [], [(f.display_name, f"what lies below {f.node} is not told: {quality_name(f.refused)}")
                           for top in tops for f in top.walk() if f.refused]
    for (path, found), fact in zip(unique, facts, strict=True):
        name = ".".join(path)
        reason = _left_out(found.node, fact, everything=everything)
        if reason:
            left_out.append((name, reason))
        else:
            nodes.append(_node(session, name, found.node, fact))
    described = await describe(session, nodes, time.monotonic() + timeout)
    made = [_with_unit(node, described.get((node.points[0].name, shown_id(node)))) for node in nodes]
    return Entry(nodes=tuple(made), left_out=tuple(left_out))


def _variables(found: Found, path: tuple[str, ...], *, prefixed: bool) -> Iterator[tuple[tuple[str, ...], Found]]:
    """Variables with the names that lead to them from the chosen node."""
    here = (*path, found.display_name) if path or prefixed or found.node_class == VARIABLE_CLASS else path
    if found.node_class == VARIABLE_CLASS:
        yield here, found
    for child in found.children:
        of_variable = child.is_property and found.node_class == VARIABLE_CLASS
        if child.node_class in (OBJECT_CLASS, VARIABLE_CLASS) and not of_variable and child.node != SERVER:
            yield from _variables(child, here, prefixed=True)


def _left_out(node: NodeId, fact: Facts, *, everything: bool) -> str:
    """Why a variable is no point of the file, empty where it is one."""
    if fact.wire in (Wire.EXTENSIONOBJECT, Wire.VARIANT, Wire.DATAVALUE, Wire.DIAGNOSTICINFO):
        return f"{fact.spelled}: a structure; name its values as field elements"
    if isinstance(node.identifier, str) and not _fits_xml(node.identifier):
        return "its identifier can't stand in XML"
    return "" if everything else _not_good(fact)


def _not_good(fact: Facts) -> str:
    if is_bad(fact.status):
        return f"its value is {quality_name(fact.status)}"
    if not fact.has_value:
        return "it has no value"
    return "an array without elements" if fact.array and not fact.length else ""


def _fits_xml(text: str) -> bool:
    printable = all(ch in "\t\n" or ord(ch) >= 0x20 for ch in text)
    return printable and text == " ".join(text.split()) and bool(text) and not identifier_fault("String", text)


def _node(session: Session, name: str, node: NodeId, fact: Facts) -> OpcUaNode:
    kind, identifier = str(node).partition(";")[2].split("=", 1) if node.namespace else str(node).split("=", 1)
    uri = session.namespaces[node.namespace] if 0 < node.namespace < len(session.namespaces) else ""
    return OpcUaNode(
        name=" ".join(name.split()), namespace_index=node.namespace, namespace_uri=uri, identifier=identifier,
        identifier_type={"i": "Numeric", "s": "String", "g": "Guid", "b": "Opaque"}[kind],
        datatype=fact.wire.spelled if fact.wire is not None else "", description=" ".join(fact.description.split()),
        length=fact.length if fact.array else 0,
    )


def _with_unit(node: OpcUaNode, described: Described | None) -> OpcUaNode:
    return replace(node, unit=" ".join(described.unit.split())) if described is not None and described.unit else node


def matching(found: Found, text: str) -> Found | None:
    """The part of a tree in which `text` stands in names or NodeIds, with what leads there; None where it does not."""
    wanted = text.casefold()
    if wanted in f"{found.display_name}\n{found.browse_name}\n{found.node}".casefold():
        return found
    kept = [part for child in found.children if (part := matching(child, text)) is not None]
    if not kept:
        return None
    return Found(found.node, found.browse_name, found.display_name, found.node_class, found.is_property, kept,
                 found.again, found.more, found.refused, found.facts)


def variables_in(tops: Sequence[Found]) -> list[Found]:
    """The variables of trees, each once."""
    return [found for top in tops for found in top.walk() if found.node_class == VARIABLE_CLASS and not found.again]

