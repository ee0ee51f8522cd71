"""The schemas: understood by both validators, documented, and one with the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from endpoint_config import Datatype, SecurityMode, schema_path
from endpoint_config.endpoint import FUNCTIONS
from lxml import etree

ROOT = Path(__file__).resolve().parents[3]
KINDS = ["dnp3", "dnp3-map", "modbus", "mqtt", "opcua", "partition", "rules"]
XS = "{http://www.w3.org/2001/XMLSchema}"


def schema_of(kind: str) -> Any:
    return xmlschema.XMLSchema10(str(schema_path(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_both_validators_accept_schema_and_sample(kind: str) -> None:
    sample = schema_path(kind).with_suffix(".xml")
    tree = etree.parse(str(sample))
    etree.XMLSchema(etree.parse(str(schema_path(kind)))).assertValid(tree)
    assert schema_of(kind).is_valid(str(sample))


@pytest.mark.parametrize("kind", KINDS)
def test_every_element_and_type_says_what_it_means(kind: str) -> None:
    root = etree.parse(str(schema_path(kind))).getroot()
    for tag in ("element", "attribute", "simpleType"):
        for declaration in root.iter(XS + tag):
            text = declaration.findtext(f"{XS}annotation/{XS}documentation")
            assert text and text.strip(), f"{tag} {declaration.get('name')} has no documentation"


def test_the_schema_lists_the_types_functions_and_modes_of_the_code() -> None:
    types = schema_of("modbus").types
    assert list(types["Datatype"].enumeration) == [d.value for d in Datatype]
    assert list(types["Function"].enumeration) == list(FUNCTIONS)
    assert list(schema_of("opcua").types["Mode"].enumeration) == [m.value for m in SecurityMode]


@pytest.mark.parametrize("kind", KINDS)
def test_an_enumeration_and_its_documentation_agree(kind: str) -> None:
    for simple in schema_of(kind).types.values():
        if not simple.is_simple() or not getattr(simple, "enumeration", None):
            continue
        words = str(simple.annotation.documentation[0].text)
        for value in simple.enumeration:
            assert str(value) in words, f"{simple.local_name}: {value}"


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(KeyError):
        schema_path("can")


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_names_every_element_and_every_allowed_word(kind: str) -> None:
    pages = {"partition": "partition-file.md", "rules": "command-rules.md", "dnp3-map": "dnp3.md", "mqtt": "mqtt.md",
             "dnp3": "dnp3.md"}
    page = pages.get(kind, "endpoint-files.md")
    words = set(re.findall(r"[\w-]+", (ROOT / "docs" / "reference" / page).read_text()))
    root = etree.parse(str(schema_path(kind))).getroot()
    names = {str(e.get("name")) for tag in ("element", "attribute") for e in root.iter(XS + tag)}
    values = {word for e in root.iter(f"{XS}enumeration") for word in re.findall(r"[\w-]+", str(e.get("value")))}
    assert not (names | values) - words
