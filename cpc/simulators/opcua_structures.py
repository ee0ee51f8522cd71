"""Simulated structures: how each lies on the wire, and values for its fields that move (OPC UA Part 6, clause 5.2.6).

A shape comes from the `field` elements of an endpoint file, from which a type is made for the server, or from the
DataTypeDefinition that a NodeSet brought (Part 3, clause 8.48). Values are encoded here: asyncua keeps its classes for
structures in one table for the whole process, where the types of two servers would meet.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from asyncua.common.manage_nodes import create_data_type, create_encoding
from asyncua.common.structures104 import new_struct_field
from asyncua.server.server import Server
from asyncua.ua.ua_binary import pack_uatype
from endpoint_config import OpcUaField, OpcUaNode
from endpoint_config.opcua_points import parse_path

from cpc.simulators.movements import wave
from cpc.simulators.opcua_types import types, value_of, variant_type

UNKNOWN_LENGTH = 3
"""Elements of an array whose length nobody says."""
APART = 5.0
"""Seconds by which the movement of each field is ahead of the one before it."""
Path = tuple[str | int, ...]
Number = Callable[["Leaf", float], float]
"""The number of a leaf that is so many seconds ahead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaf:
    """A field that holds a value of a built-in type."""

    kind: ua.VariantType
    low: float = 0.0
    high: float = 100.0
    datatype: ua.NodeId | None = None
    """Where it is a plant's own type, such as an enumeration."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One field of a structure."""

    name: str
    of: Leaf | Shape
    length: int = 0
    """Elements of an array, 0 = a single value."""
    optional: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Shape:
    """One structure."""

    name: str
    members: list[Member] = field(default_factory=list)
    layout: ua.StructureType = ua.StructureType.Structure
    datatype: ua.NodeId = field(default_factory=types.NodeId)
    encoding: ua.NodeId = field(default_factory=types.NodeId)
    own: bool = False
    """Whether its type was made for an endpoint file, and is not a NodeSet's."""

    @property
    def shown(self) -> Sequence[Member]:
        """The members that values have: all, or the first of a union."""
        return self.members[:1] if self.layout is ua.StructureType.Union else self.members

    def leaves(self, path: Path = ()) -> Iterator[tuple[Path, Leaf]]:
        """Every value in the structure in the order of the wire, with its path."""
        for member in self.shown:
            for place in range(member.length) if member.length else (None,):
                inner = (*path, member.name) if place is None else (*path, member.name, place)
                if isinstance(member.of, Shape):
                    yield from member.of.leaves(inner)
                else:
                    yield inner, member.of

    def value(self, seconds: float, number: Number | None = None) -> tuple[ua.ExtensionObject, dict[str, Any]]:
        """The structure at a time, and what it holds by path; `number` has its numbers move in another way."""
        said: list[Any] = []
        body, _ = self._encode(seconds, number or _moved, said)
        named = {shown_path(path): value for (path, _), value in zip(self.leaves(), said, strict=True)}
        return types.ExtensionObject(TypeId=self.encoding, Body=body), named

    def _encode(self, seconds: float, number: Number, said: list[Any]) -> tuple[bytes, float]:
        """The fields, and the time at which the next field stands."""
        parts = []
        if self.layout is ua.StructureType.Union:
            parts.append(struct.pack("<I", 1))
        elif self.layout is ua.StructureType.StructureWithOptionalFields:
            optional = sum(member.optional for member in self.members)
            parts.append(struct.pack("<I", (1 << optional) - 1))
        for member in self.shown:
            if member.length:
                parts.append(struct.pack("<i", member.length))
            for _ in range(member.length or 1):
                if isinstance(member.of, Shape):
                    made, seconds = member.of._encode(seconds, number, said)
                else:
                    made, seconds = _packed(member.of, seconds, number, said), seconds + APART
                parts.append(made)
        return b"".join(parts), seconds


def shown_path(path: Path) -> str:
    """A path as a field element has it: `Axes[1].Speed`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]


def _moved(leaf: Leaf, seconds: float) -> float:
    return wave(seconds, leaf.low, leaf.high)


def _packed(leaf: Leaf, seconds: float, number: Number, said: list[Any]) -> bytes:
    found = number(leaf, seconds)
    share = min(max((found - leaf.low) / ((leaf.high - leaf.low) or 1.0), 0.0), 1.0)
    said.append(value_of(leaf.kind, found, share))
    return pack_uatype(leaf.kind, said[-1])


# -- from an endpoint file


def shape_of(node: OpcUaNode) -> Shape:
    """The structure that holds exactly the fields of an entry."""
    tree: dict[Path, OpcUaField] = {parse_path(entry.path): entry for entry in node.fields}
    name = node.datatype.strip().rpartition(":")[2] or node.name
    return _shape(name, tree)


def _shape(name: str, tree: dict[Path, OpcUaField]) -> Shape:
    shape = Shape(name=name, own=True)
    for first in dict.fromkeys(path[0] for path in tree):
        rest = {path[1:]: entry for path, entry in tree.items() if path[0] == first}
        places = [path[0] for path in rest if path and isinstance(path[0], int)]
        length = max(places) + 1 if places else 0
        if places:
            inner = {path[1:]: entry for path, entry in rest.items() if path and isinstance(path[0], int)}
        else:
            inner = rest
        deeper = {path: entry for path, entry in inner.items() if path and isinstance(path[0], str)}
        if deeper:
            shape.members.append(Member(name=str(first), of=_shape(f"{name}_{first}", deeper), length=length))
        else:
            entry = next(iter(inner.values()))
            shape.members.append(Member(name=str(first), of=_leaf(entry), length=length or entry.length))
    return shape


def _leaf(entry: OpcUaField) -> Leaf:
    low = 0.0 if entry.minimum is None else entry.minimum
    high = low + 100.0 if entry.maximum is None else entry.maximum
    return Leaf(kind=variant_type(entry.datatype), low=low, high=high)


def name_apart(shape: Shape, taken: set[str]) -> None:
    """Types of one server have names of their own: clients know them by these."""
    while shape.name in taken:
        shape.name += "_"
    taken.add(shape.name)
    for member in shape.members:
        if isinstance(member.of, Shape):
            name_apart(member.of, taken)


async def make_type(server: Server, shape: Shape, namespace: int) -> None:
    """Give the server the DataType of a shape, those of its inner structures first."""
    for member in shape.members:
        if isinstance(member.of, Shape):
            await make_type(server, member.of, namespace)
    fields = [new_struct_field(member.name, _datatype(member), array=bool(member.length)) for member in shape.members]
    for made in fields:
        made.ArrayDimensions = [types.UInt32(0)] if made.ArrayDimensions else None  # type: ignore[assignment]
    # Ids of their own kind: numbers that asyncua would choose may be those of variables to come.
    name = types.QualifiedName(shape.name, namespace)
    datatype = await create_data_type(server.nodes.base_structure_type, _id(f"type {shape.name}", namespace), name)
    encoding = await create_encoding(datatype, _id(f"encoding {shape.name}", namespace),
                                     types.QualifiedName("Default Binary", 0))
    shape.datatype, shape.encoding = datatype.nodeid, encoding.nodeid
    await datatype.write_data_type_definition(types.StructureDefinition(
        DefaultEncodingId=encoding.nodeid, BaseDataType=server.nodes.base_structure_type.nodeid,
        StructureType=ua.StructureType.Structure, Fields=fields))


def _id(text: str, namespace: int) -> ua.NodeId:
    return types.NodeId(f"cpc simulator {text}", namespace)  # type: ignore[no-any-return]


def of_type(shape: Shape, found: ua.Variant) -> ua.Variant:
    """A value of a structure whose type has got another NodeId."""
    def one(value: Any) -> Any:
        return types.ExtensionObject(TypeId=shape.encoding, Body=value.Body) if hasattr(value, "Body") else value

    many = isinstance(found.Value, list)
    value = [one(item) for item in found.Value] if many else one(found.Value)
    return types.Variant(value, found.VariantType, is_array=many or None)  # type: ignore[no-any-return]


def _datatype(member: Member) -> ua.NodeId | ua.VariantType:
    if isinstance(member.of, Shape):
        return member.of.datatype
    return member.of.datatype or member.of.kind


async def remove_type(server: Server, shape: Shape) -> None:
    """Take the DataType of a shape away again, with those of its inner structures."""
    nodes = [server.get_node(shape.encoding), server.get_node(shape.datatype)]
    await server.delete_nodes([node for node in nodes if node.nodeid in server.iserver.aspace])
    for member in shape.members:
        if isinstance(member.of, Shape):
            await remove_type(server, member.of)


def fields_of(shape: Shape) -> tuple[OpcUaField, ...]:
    """The entries for every value of a structure that a point can take."""
    return tuple(OpcUaField(path=shown_path(path), datatype=leaf.kind.name) for path, leaf in shape.leaves())
