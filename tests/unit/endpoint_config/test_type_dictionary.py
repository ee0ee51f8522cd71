"""Type dictionaries of older servers: fields, arrays, optional fields, unions; hostile XML is refused."""

from __future__ import annotations

import pytest
from endpoint_config import DictionaryError, read_type_dictionary

HEAD = b"""<opc:TypeDictionary xmlns:opc="http://opcfoundation.org/BinarySchema/" xmlns:tns="urn:plant"
  xmlns:ua="http://opcfoundation.org/UA/" TargetNamespace="urn:plant" DefaultByteOrder="LittleEndian">
  <opc:Import Namespace="http://opcfoundation.org/UA/"/>
  <opc:EnumeratedType Name="Mode" LengthInBits="32"><opc:EnumeratedValue Name="Off" Value="0"/></opc:EnumeratedType>
  <opc:StructuredType Name="Motor" BaseType="ua:ExtensionObject">
    <opc:Field Name="Speed" TypeName="opc:Double"/><opc:Field Name="Name" TypeName="opc:CharArray"/>
  </opc:StructuredType>
"""
TAIL = b"</opc:TypeDictionary>"


def fields(inner: str, name: str = "S") -> tuple[str, list[tuple[str, str, bool, bool]]]:
    body = f'<opc:StructuredType Name="{name}">{inner}</opc:StructuredType>'.encode()
    found = read_type_dictionary(HEAD + body + TAIL).structure(f"tns:{name}")
    return found.layout, [(f.name, f.type, f.is_array, f.optional) for f in found.fields]


def field(name: str, kind: str, more: str = "") -> str:
    return f'<opc:Field Name="{name}" TypeName="{kind}" {more}/>'


def test_fields_arrays_enumerations_and_nested_structures() -> None:
    inner = (field("Motor", "tns:Motor") + field("Mode", "tns:Mode") + field("NoOfValues", "opc:Int32")
             + field("Values", "opc:UInt16", 'LengthField="NoOfValues"') + field("Text", "ua:LocalizedText"))
    assert fields(inner) == ("plain", [("Motor", "Motor", False, False), ("Mode", "Int32", False, False),
                                       ("Values", "UInt16", True, False), ("Text", "LocalizedText", False, False)])
    assert read_type_dictionary(HEAD + TAIL + b"\0\0").structure("Motor").fields[1].type == "String"


def test_a_mask_of_bits_makes_fields_optional() -> None:
    inner = (field("ASpecified", "opc:Bit") + field("BSpecified", "opc:Bit") + field("Rest", "opc:Bit", 'Length="30"')
             + field("Always", "opc:Byte") + field("A", "opc:Int32", 'SwitchField="ASpecified"')
             + field("B", "opc:Double", 'SwitchField="BSpecified"'))
    assert fields(inner) == ("optional", [("Always", "Byte", False, False), ("A", "Int32", False, True),
                                          ("B", "Double", False, True)])
    with pytest.raises(DictionaryError, match="no mask"):
        fields(field("A", "opc:Bit"))


def test_a_switch_makes_a_union() -> None:
    inner = (field("SwitchField", "opc:UInt32") + field("A", "opc:Int32", 'SwitchField="SwitchField" SwitchValue="1"')
             + field("B", "opc:Double", 'SwitchField="SwitchField" SwitchValue="2"'))
    layout, found = fields(inner)
    assert (layout, [name for name, *_ in found]) == ("union", ["A", "B"])


@pytest.mark.parametrize("data", [
    b"", b"no xml", b"<a/>", HEAD, b'<!DOCTYPE a [<!ENTITY b "c">]>' + HEAD + TAIL,
    HEAD + b'<opc:StructuredType Name="S">&b;</opc:StructuredType>' + TAIL, b"x" * (9 << 20),
])
def test_what_is_no_dictionary_is_refused(data: bytes) -> None:
    with pytest.raises(DictionaryError):
        read_type_dictionary(data).structure("S")


def test_a_structure_or_type_that_is_not_there_is_named() -> None:
    with pytest.raises(DictionaryError, match="no structure 'Nothing'"):
        read_type_dictionary(HEAD + TAIL).structure("Nothing")
    with pytest.raises(DictionaryError, match="'Elsewhere', which is in another dictionary"):
        fields(field("A", "other:Elsewhere"))
