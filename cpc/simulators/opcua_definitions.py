"""What the types of an imported NodeSet are on the wire, from their definitions in the address space of asyncua."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from asyncua import ua
from asyncua.server.server import Server

from cpc.simulators.opcua_structures import UNKNOWN_LENGTH, Leaf, Member, Shape
from cpc.simulators.opcua_types import types

DEEPEST = 8
"""Structures within structures; what lies deeper stands still."""
MOST_LEAVES = 500
"""Values of a structure; a larger one stands still."""
_BUILT_IN: dict[Any, Leaf | None] = {
    **{kind.value: Leaf(kind=kind) for kind in ua.VariantType if 1 <= kind.value <= ua.VariantType.LocalizedText.value},
    types.ObjectIds.Number: Leaf(kind=ua.VariantType.Double), types.ObjectIds.Integer: Leaf(kind=ua.VariantType.Int64),
    types.ObjectIds.UInteger: Leaf(kind=ua.VariantType.UInt64),
    types.ObjectIds.Enumeration: Leaf(kind=ua.VariantType.Int32, high=2.0),
    types.ObjectIds.Structure: None, types.ObjectIds.BaseDataType: None,
}
"""None: anything may stand there. A field of an abstract number would stand in a Variant, and is left out below."""
_ABSTRACT = frozenset(types.NodeId(n) for n in (types.ObjectIds.Number, types.ObjectIds.Integer,
                                                types.ObjectIds.UInteger))
_STANDARD: dict[Any, tuple[tuple[str, ua.VariantType], ...]] = {
    types.ObjectIds.Range: (("Low", ua.VariantType.Double), ("High", ua.VariantType.Double)),
    types.ObjectIds.EUInformation: (
        ("NamespaceUri", ua.VariantType.String), ("UnitId", ua.VariantType.Int32),
        ("DisplayName", ua.VariantType.LocalizedText), ("Description", ua.VariantType.LocalizedText)),
    types.ObjectIds.TimeZoneDataType: (("Offset", ua.VariantType.Int16),
                                       ("DaylightSavingInOffset", ua.VariantType.Boolean)),
    types.ObjectIds.ComplexNumberType: (("Real", ua.VariantType.Float), ("Imaginary", ua.VariantType.Float)),
}
"""Part 8, clause 5.6, and Part 3, clause 8: asyncua's address space has their nodes without definitions."""


class Definitions:
    """Reads the definitions of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._space: Any = server.iserver.aspace
        self._shapes: dict[ua.NodeId, Shape | None] = {}

    async def find(self, datatype: ua.NodeId, depth: int = 0) -> Leaf | Shape | None:
        """A built-in type or a structure; None for what can't be simulated."""
        if datatype in self._shapes or depth > DEEPEST:
            return self._shapes.get(datatype)
        if datatype.NamespaceIndex == 0 and datatype.Identifier in _BUILT_IN:
            return _BUILT_IN[datatype.Identifier]
        definition = await self._definition(datatype)
        if isinstance(definition, ua.StructureDefinition):
            self._shapes[datatype] = None  # of a structure that holds itself
            self._shapes[datatype] = await self._shape(datatype, definition, depth)
            return self._shapes[datatype]
        return await self._like_its_base(datatype, definition, depth)

    async def _like_its_base(self, datatype: ua.NodeId, definition: Any, depth: int) -> Leaf | None:
        """An enumeration, or another plant's name for a built-in type."""
        base = self._base(datatype)
        found = None if base is None else await self.find(base, depth + 1)
        if not isinstance(found, Leaf):
            return None
        high = found.high
        if isinstance(definition, ua.EnumDefinition) and definition.Fields:
            high = float(max(entry.Value for entry in definition.Fields))
        return replace(found, datatype=datatype, high=high)

    async def _shape(self, datatype: ua.NodeId, definition: ua.StructureDefinition, depth: int) -> Shape | None:
        shape = Shape(name=str(datatype.Identifier), datatype=datatype, layout=definition.StructureType,
                      encoding=self._encoding(datatype))
        if definition.StructureType not in (ua.StructureType.Structure, ua.StructureType.Union,
                                            ua.StructureType.StructureWithOptionalFields):
            return None
        for entry in definition.Fields:
            found = await self.find(entry.DataType, depth + 1)
            if found is None or int(entry.ValueRank) > 1 or entry.DataType in _ABSTRACT:
                return None
            length = _length(entry.ValueRank, entry.ArrayDimensions)
            shape.members.append(Member(name=str(entry.Name), of=found, length=length,
                                        optional=bool(entry.IsOptional)))
        return shape if sum(1 for _ in shape.leaves()) <= MOST_LEAVES else None

    async def _definition(self, datatype: ua.NodeId) -> Any:
        """The DataTypeDefinition; one of the standard's own that asyncua lacks is put into the server."""
        node = self._server.get_node(datatype)
        value = self._space.read_attribute_value(datatype, types.AttributeIds.DataTypeDefinition).Value
        definition = value.Value if value is not None else None
        if definition is None and datatype.NamespaceIndex == 0:
            definition = _standard(datatype)
            if definition is not None:
                definition.DefaultEncodingId = self._encoding(datatype)
                await node.write_data_type_definition(definition)
        elif isinstance(definition, ua.StructureDefinition):
            await self._inherit(node, datatype, definition)
        return definition

    async def _inherit(self, node: Any, datatype: ua.NodeId, definition: ua.StructureDefinition) -> None:
        """Put the fields of the base type first, which a definition holds and a NodeSet does not repeat."""
        base = self._base(datatype)
        outer = None if base is None or base.NamespaceIndex == 0 else await self._definition(base)
        if isinstance(outer, ua.StructureDefinition):
            own = {f.Name for f in definition.Fields}
            inherited = [f for f in outer.Fields if f.Name not in own]
            if inherited:
                definition.Fields = [*inherited, *definition.Fields]
                await node.write_data_type_definition(definition)

    def _base(self, datatype: ua.NodeId) -> ua.NodeId | None:
        return self._followed(datatype, types.ObjectIds.HasSubtype, forward=False)

    def _encoding(self, datatype: ua.NodeId) -> ua.NodeId:
        """The node of the binary encoding, by its name among all encodings."""
        references = self._space[datatype].references if datatype in self._space else ()
        for reference in references:
            if (reference.ReferenceTypeId.Identifier == types.ObjectIds.HasEncoding and reference.IsForward
                    and reference.BrowseName is not None and "Binary" in str(reference.BrowseName.Name)):
                return reference.NodeId  # type: ignore[no-any-return]
        return types.NodeId()  # type: ignore[no-any-return]

    def _followed(self, node: ua.NodeId, kind: int, *, forward: bool) -> ua.NodeId | None:
        references = self._space[node].references if node in self._space else ()
        return next((r.NodeId for r in references
                     if r.ReferenceTypeId.Identifier == kind and r.IsForward == forward), None)


def length_of(rank: Any, dimensions: Any) -> int:
    """Elements of a variable's array, 0 = a single value."""
    return _length(rank, dimensions)


def _length(rank: Any, dimensions: Any) -> int:
    if rank is None or int(rank) < 0:
        return 0
    return int(dimensions[0]) if dimensions and int(dimensions[0]) else UNKNOWN_LENGTH


def _standard(datatype: ua.NodeId) -> ua.StructureDefinition | None:
    """The definition of one of the standard's structures that plants put into their own."""
    fields = _STANDARD.get(datatype.Identifier)
    if fields is None:
        return None
    return types.StructureDefinition(  # type: ignore[no-any-return]
        StructureType=ua.StructureType.Structure, BaseDataType=types.NodeId(types.ObjectIds.Structure),
        Fields=[types.StructureField(Name=name, DataType=types.NodeId(kind.value), ValueRank=ua.ValueRank.Scalar,
                                     Description=types.LocalizedText("")) for name, kind in fields])
