"""Structures learned from the server: by DataTypeDefinition, else by its type dictionary.

OPC UA Part 3, clauses 5.8.3 and 8.48; Part 5, annex D for the dictionaries of servers older than version 1.04.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from endpoint_config import DictionaryError, TypeDictionary, read_type_dictionary

from opcua_client.channel import Channel
from opcua_client.cursor import Cursor, Extension
from opcua_client.datatypes import Wire
from opcua_client.encoding import VALUE_ATTRIBUTE, NodeId
from opcua_client.errors import Malformed, OpcUaError, Unreachable
from opcua_client.services import FORWARD, HAS_SUBTYPE, INVERSE, Browsing, browse, read_attributes
from opcua_client.structures import Layout, StructField, StructType, Types

DATA_TYPE, IS_ABSTRACT, DATA_TYPE_DEFINITION = 14, 8, 23
"""Attribute ids (Part 6, annex A.1)."""
HAS_ENCODING, HAS_DESCRIPTION, HAS_COMPONENT = (NodeId(namespace=0, identifier=n) for n in (38, 39, 47))
_STRUCTURE_DEFINITION = NodeId(namespace=0, identifier=122)
"""Id of its binary encoding."""
DEEPEST_TYPE = 32
"""Steps from a type to its base, and of structures within each other."""
MOST_TYPES, MOST_FIELDS = 2_000, 2_000
"""Types asked for in one session, and fields of one structure: a server may not keep us busy for ever."""
_ABSTRACT = {26: Wire.VARIANT, 27: Wire.VARIANT, 28: Wire.VARIANT, 29: Wire.INT32}
"""Number, Integer, UInteger, Enumeration (Part 6, clause 5.1.5)."""
_LAYOUTS = {0: Layout.PLAIN, 1: Layout.OPTIONAL, 2: Layout.UNION, 3: Layout.PLAIN, 4: Layout.UNION}
_ANY_SUBTYPE = (3, 4)
"""StructureTypes whose optional fields are those that hold any subtype (Part 3, clause 8.49)."""

_log = logging.getLogger("opcua_client")


@dataclass(frozen=True, slots=True)
class _Declared:
    """The parts of a StructureField that matter (Part 3, clause 8.51)."""

    name: str
    datatype: NodeId
    rank: int
    optional: bool

    @classmethod
    def read(cls, cursor: Cursor) -> _Declared:
        name = cursor.text()
        cursor.localized()
        datatype, rank = cursor.node_id(), cursor.number("<i")
        cursor.array(lambda: cursor.number("<I"))  # lengths of the dimensions
        cursor.number("<I")  # longest text
        return cls(name, datatype, rank, cursor.number("<?"))


class Learner:
    """Answers what `types` wants, for one session."""

    def __init__(self, channel: Channel, types: Types) -> None:
        """Nothing is asked before `learn`."""
        self._channel = channel
        self._types = types
        self._seen: dict[NodeId, Wire | StructType] = {}
        self._dictionaries: dict[NodeId, TypeDictionary] = {}

    async def learn(self) -> list[str]:
        """Everything that is wanted; returns what could not be learned and why. Unreachable where the session ends."""
        problems: list[str] = []
        while self._types.wanted:
            encoding, node = next(iter(self._types.wanted.items()))
            try:
                self._types.learn(encoding, await self._structure(encoding, node))
            except Unreachable:
                raise
            except (OpcUaError, ValueError, IndexError, KeyError, struct.error) as error:
                _log.debug("type of %s", encoding, exc_info=True)
                self._types.give_up(encoding, str(error))
                problems.append(f"type with encoding {encoding}: {error}")
        return problems

    async def _structure(self, encoding: NodeId, node: NodeId) -> StructType:
        types = await self._follow(encoding, HAS_ENCODING, forward=False)
        if not types:  # servers that keep no inverse references
            (declared,) = await self._read([(node, DATA_TYPE)])
            types = [declared] if isinstance(declared, NodeId) else []
        for datatype in types:
            found = await self._resolve(datatype, 0)
            if isinstance(found, StructType):
                return found
        described = await self._described(encoding)
        if described is None:
            raise Malformed("read types", "the server describes this structure neither by a DataTypeDefinition nor "
                            "in a type dictionary")
        return described

    async def _resolve(self, datatype: NodeId, depth: int) -> Wire | StructType | None:
        """What a DataType is on the wire; None for a structure that the server does not define."""
        known = self._seen.get(datatype) or _built_in(datatype)
        if known is not None:
            return known
        if depth > DEEPEST_TYPE or len(self._seen) > MOST_TYPES:
            raise Malformed("read types", f"types nested too deep at {datatype}")
        definition, abstract = await self._read([(datatype, DATA_TYPE_DEFINITION), (datatype, IS_ABSTRACT)])
        described = isinstance(definition, Extension) and definition.kind == _STRUCTURE_DEFINITION
        if abstract is True and described:
            self._seen[datatype] = Wire.EXTENSIONOBJECT
        elif described:
            structure = StructType(str(datatype))
            self._seen[datatype] = structure  # before its fields: a structure may hold an array of itself
            await self._fill(structure, definition.body, depth)
        else:
            bases = await self._follow(datatype, HAS_SUBTYPE, forward=False)
            base = await self._resolve(bases[0], depth + 1) if bases else None
            if base is Wire.EXTENSIONOBJECT:
                return await self._by_dictionary(datatype)
            if base is None:
                return None
            self._seen[datatype] = base
        return self._seen[datatype]

    async def _fill(self, structure: StructType, definition: bytes, depth: int) -> None:
        """Take over the fields of an encoded StructureDefinition (Part 3, clause 8.48)."""
        cursor = Cursor(definition)
        cursor.node_id()  # of the encoding
        cursor.node_id()  # of the base
        kind = cursor.number("<i")
        structure.layout = _LAYOUTS[kind]
        fields = cursor.array(lambda: _Declared.read(cursor))
        if len(fields) > MOST_FIELDS:
            raise Malformed("read types", f"a structure of {len(fields)} fields")
        for field in fields:
            found = await self._resolve(field.datatype, depth + 1)
            if found is None:
                raise Malformed("read types", f"the type of field {field.name} is not known")
            if field.optional and kind in _ANY_SUBTYPE:
                found = Wire.EXTENSIONOBJECT if isinstance(found, StructType) else Wire.VARIANT
            structure.fields.append(StructField(name=field.name, type=found, optional=field.optional,
                                                rank=_rank(field.rank)))

    async def _by_dictionary(self, datatype: NodeId) -> StructType | None:
        for encoding in await self._follow(datatype, HAS_ENCODING, forward=True):
            found = await self._described(encoding)
            if found is not None:
                self._seen[datatype] = found
                return found
        return None

    async def _follow(self, node: NodeId, reference: NodeId, *, forward: bool) -> list[NodeId]:
        """The nodes that references of one type (and its subtypes) lead to."""
        how = Browsing(direction=FORWARD if forward else INVERSE, kind=reference)
        ((_, found),) = await browse(self._channel, [node], how, self._channel.patience)
        return [reference.node for reference in found]

    async def _read(self, wanted: Sequence[tuple[NodeId, int]]) -> list[Any]:
        """The values of attributes; None where there is none."""
        samples = await read_attributes(self._channel, wanted, self._channel.patience)
        return [sample.value.value if sample.value is not None and not sample.status & 0x8000_0000 else None
                for sample in samples]

    async def _described(self, encoding: NodeId) -> StructType | None:
        """The structure in the type dictionary of the server that describes this encoding, None without one."""
        for description in await self._follow(encoding, HAS_DESCRIPTION, forward=True):
            (name,) = await self._read([(description, VALUE_ATTRIBUTE)])
            for parent in await self._follow(description, HAS_COMPONENT, forward=False):
                if parent not in self._dictionaries:
                    (content,) = await self._read([(parent, VALUE_ATTRIBUTE)])
                    if isinstance(content, bytes):
                        self._dictionaries[parent] = read_type_dictionary(content)
                if parent in self._dictionaries and isinstance(name, str):
                    return _from_dictionary(self._dictionaries[parent], name, {}, 0)
        return None


def _built_in(datatype: NodeId) -> Wire | None:
    """Built-in types and the abstract ones above them; Structure itself stands for any of its subtypes."""
    number = datatype.identifier
    if datatype.namespace or not isinstance(number, int):
        return None
    return Wire(number) if 1 <= number <= Wire.DIAGNOSTICINFO else _ABSTRACT.get(number)


def _rank(value_rank: int) -> int:
    """ValueRank as `StructField.rank`: any number of dimensions (0) stands like one."""
    return max(value_rank, 1) if value_rank >= 0 else -1


def _from_dictionary(dictionary: TypeDictionary, name: str, seen: dict[str, StructType], depth: int) -> StructType:
    """A structure of a type dictionary; DictionaryError for what it does not hold."""
    if name in seen:
        return seen[name]
    if depth > DEEPEST_TYPE:
        raise DictionaryError(f"structures nested too deep at {name}")
    described = dictionary.structure(name)
    made = StructType(name, Layout(described.layout))
    seen[name] = made
    for field in described.fields:
        kind = _BY_NAME[field.type] if field.built_in else _from_dictionary(dictionary, field.type, seen, depth + 1)
        made.fields.append(StructField(name=field.name, type=kind, rank=1 if field.is_array else -1,
                                       optional=field.optional))
    return made


_BY_NAME = {wire.spelled: wire for wire in Wire}
