"""Type dictionaries of older OPC UA servers: which fields a structure has (OPC UA Part 5, annex D; OPC Binary).

They come from a server over the network and are XML: hostile input, read as carefully as any file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from .document import parse
from .faults import Report

MOST_BYTES = 8 << 20
"""Largest dictionary that is looked at."""
_BINARY = "{http://opcfoundation.org/BinarySchema/}"
_BUILT_IN = frozenset([
    "Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double", "String",
    "DateTime", "Guid", "ByteString", "XmlElement", "NodeId", "ExpandedNodeId", "StatusCode", "QualifiedName",
    "LocalizedText", "ExtensionObject", "DataValue", "Variant", "DiagnosticInfo",
])
_SAME = {"CharArray": "String", "Char": "Byte", "WideString": "String", "Duration": "Double", "UtcTime": "DateTime"}
_BITS = {8: "Byte", 16: "UInt16", 32: "Int32", 64: "Int64"}
"""Integers of enumerations by their width."""


class DictionaryError(ValueError):
    """A type dictionary can't be read, or does not hold what is asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DictionaryField:
    """One field of a structure, in the order on the wire."""

    name: str
    type: str
    """A built-in type as the standard spells it, or a structure of the same dictionary."""
    built_in: bool
    is_array: bool = False
    optional: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class DictionaryStructure:
    """One structure."""

    layout: str
    """`plain`, `optional` (a mask of 32 bits stands first) or `union` (a switch stands first)."""
    fields: tuple[DictionaryField, ...]


@dataclass(frozen=True, slots=True)
class TypeDictionary:
    """The structures of one dictionary, by name."""

    structures: Mapping[str, etree._Element]
    enumerations: Mapping[str, str]
    """Name, and the integer type that carries it."""

    def structure(self, name: str) -> DictionaryStructure:
        """A structure by its name in the dictionary; DictionaryError where it is not there or can't be understood."""
        element = self.structures.get(_local(name))
        if element is None:
            raise DictionaryError(f"the type dictionary has no structure {name!r}")
        fields = element.findall(f"{_BINARY}Field")
        counts = {field.get("LengthField") for field in fields}
        switches = {field.get("SwitchField") for field in fields} - {None}
        bits = [field for field in fields if _local(field.get("TypeName", "")) == "Bit"]
        valued = any(field.get("SwitchValue") for field in fields)
        skipped = counts | (switches if valued else set())
        found = [self._field(field) for field in fields if field not in bits and field.get("Name") not in skipped]
        if bits and sum(int(field.get("Length", "1")) for field in bits) != 32:
            raise DictionaryError(f"structure {name!r} has bits that are no mask of optional fields")
        return DictionaryStructure(layout="union" if valued else "optional" if bits else "plain", fields=tuple(found))

    def _field(self, field: etree._Element) -> DictionaryField:
        name, kind = _local(field.get("TypeName", "")), field.get("Name", "")
        name = self.enumerations.get(name) or _SAME.get(name, name)
        if name not in _BUILT_IN and name not in self.structures:
            raise DictionaryError(f"field {kind!r} is of type {name!r}, which is in another dictionary")
        return DictionaryField(name=kind, type=name, built_in=name not in self.structures,
                               is_array=field.get("LengthField") is not None,
                               optional=field.get("SwitchField") is not None)


def read_type_dictionary(data: bytes) -> TypeDictionary:
    """The structures of an OPC Binary dictionary; DictionaryError for anything that is none."""
    if len(data) > MOST_BYTES:
        raise DictionaryError(f"a type dictionary of over {MOST_BYTES >> 20} MiB")
    report = Report(Path("type dictionary"))
    root = parse(data.rstrip(b"\0"), report)
    if root is None or root.tag != f"{_BINARY}TypeDictionary":
        raise DictionaryError("the type dictionary is no OPC Binary dictionary"
                              + (f": {report.faults[0].message}" if report.faults else ""))
    structures = {element.get("Name", ""): element for element in root.iterchildren(f"{_BINARY}StructuredType")}
    enumerations = {
        element.get("Name", ""): _BITS.get(int(element.get("LengthInBits", "32")), "Int32")
        for element in root.iterchildren(f"{_BINARY}EnumeratedType") if element.get("LengthInBits", "32").isdigit()
    }
    return TypeDictionary(structures, enumerations)


def _local(name: str) -> str:
    return name.rpartition(":")[2]
