"""The schemas: where they are, and compiled once for each of their two uses."""

from __future__ import annotations

import importlib.resources
from functools import lru_cache
from pathlib import Path
from typing import Any

from lxml import etree

FILES = {
    "modbus": "modbustcp-endpoints.xsd",
    "opcua": "opcua-endpoints.xsd",
    "mqtt": "mqtt-sources.xsd",
    "partition": "partition.xsd",
    "rules": "command-rules.xsd",
    "dnp3-map": "dnp3-map.xsd",
    "dnp3": "dnp3-endpoints.xsd",
}
"""Schema file of each kind of file."""

ROOTS = {"modbus-servers": "modbus", "opcua-servers": "opcua", "mqtt-sources": "mqtt",
         "partition": "partition", "command-rules": "rules", "dnp3-map": "dnp3-map",
         "dnp3-outstations": "dnp3"}
"""Kind of file by the name of its root element."""


class SchemaError(Exception):
    """A schema file that can't be read or is no XSD 1.0 schema."""


def schema_path(kind: str) -> Path:
    """File of the built-in schema of `modbus`, `opcua`, `mqtt`, `partition` or `rules`; KeyError for another kind."""
    return Path(str(importlib.resources.files("endpoint_config.schemas"))) / FILES[kind]


def compiled(path: Path) -> etree.XMLSchema:
    """The schema for lxml, which says quickly whether a file conforms; SchemaError where it is unusable."""
    try:
        status = path.stat()
    except OSError as error:
        raise SchemaError(f"schema can't be read: {error.strerror}; the path of an XSD 1.0 file") from error
    return _compiled(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _compiled(path: Path, _changed: int, _size: int) -> etree.XMLSchema:
    """Compile; time and size of the file stand in the key, so that an edited schema is read again."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        return etree.XMLSchema(etree.parse(str(path), parser))
    except OSError as error:
        raise SchemaError(f"schema can't be read: {error.strerror or error}; the path of an XSD 1.0 file") from error
    except etree.LxmlError as error:
        raise SchemaError(f"is not an XSD 1.0 schema ({error}); an XSD 1.0 file") from error


@lru_cache(maxsize=16)
def described(path: Path) -> Any:
    """The schema as xmlschema's objects, which tell what is allowed where; None where xmlschema refuses it.

    Imported and built only when a file has a fault: it takes a quarter of a second.
    """
    import xmlschema

    try:
        return xmlschema.XMLSchema10(str(path), allow="local", defuse="always")
    except (xmlschema.XMLSchemaException, OSError, ValueError):
        return None
