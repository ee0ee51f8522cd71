"""Which image type a node gets, decided from the file before any server is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from endpoint_config import Mode, OpcUaNode, OpcUaPoint, OpcUaServer
from process_image import Point

TEXT_BYTES = 64
"""Width of a text slot."""
UNIT_FROM_SERVER, RANGE_FROM_SERVER = ("unit_from", "server"), ("range_from", "server")
"""In a point's `extra`: the endpoint file leaves it open, the server gave it."""


Key = tuple[str, str]
"""A point's name within its device, and the node that it comes from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """What a server says of one variable; empty and open where it says nothing."""

    unit: str = ""
    range: tuple[float | None, float | None] = (None, None)
    """EURange: the values to be expected, for display; it never changes a quality."""


class Wire(IntEnum):
    """Built-in types as a Variant names them (OPC UA Part 6, clause 5.1.2)."""

    NULL = 0
    BOOLEAN = 1
    SBYTE = 2
    BYTE = 3
    INT16 = 4
    UINT16 = 5
    INT32 = 6
    UINT32 = 7
    INT64 = 8
    UINT64 = 9
    FLOAT = 10
    DOUBLE = 11
    STRING = 12
    DATETIME = 13
    GUID = 14
    BYTESTRING = 15
    XMLELEMENT = 16
    NODEID = 17
    EXPANDEDNODEID = 18
    STATUSCODE = 19
    QUALIFIEDNAME = 20
    LOCALIZEDTEXT = 21
    EXTENSIONOBJECT = 22
    DATAVALUE = 23
    VARIANT = 24
    DIAGNOSTICINFO = 25

    @property
    def spelled(self) -> str:
        """The name as the standard spells it."""
        return _SPELLED[self]

    @classmethod
    def of(cls, code: int) -> Wire:
        """The type in a Variant's encoding byte; the unknown ones are ByteStrings (Part 6, clause 5.2.2.16)."""
        kind = code & 0x3F
        return cls(kind) if kind <= cls.DIAGNOSTICINFO else cls.BYTESTRING


_SPELLED = (
    "Null", "Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double",
    "String", "DateTime", "Guid", "ByteString", "XmlElement", "NodeId", "ExpandedNodeId", "StatusCode",
    "QualifiedName", "LocalizedText", "ExtensionObject", "DataValue", "Variant", "DiagnosticInfo",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What a point takes and how it stands in the image."""

    name: str
    """The built-in type that fits without conversion, as the standard spells it."""
    image: str
    """Type of the image point."""
    wire: frozenset[Wire]
    """Variant types that are stored as they come."""
    converts: bool = False
    """Whether another numeric type is taken where its value fits exactly."""


def _number(name: str, image: str, *wire: Wire) -> Kind:
    return Kind(name=name, image=image, wire=frozenset(wire), converts=True)


_TEXT = frozenset([Wire.STRING, Wire.XMLELEMENT, Wire.GUID, Wire.LOCALIZEDTEXT, Wire.QUALIFIEDNAME, Wire.NODEID,
                   Wire.EXPANDEDNODEID])

BOOLEAN = _number("Boolean", "bool", Wire.BOOLEAN)
INT32 = _number("Int32", "int32", Wire.INT32)
UINT32 = _number("UInt32", "uint32", Wire.UINT32, Wire.STATUSCODE)
INT64 = _number("Int64", "int64", Wire.INT64)
UINT64 = _number("UInt64", "uint64", Wire.UINT64)
DOUBLE = _number("Double", "float64", Wire.DOUBLE)
DATETIME = Kind(name="DateTime", image="int64", wire=frozenset([Wire.DATETIME]))
"""Nanoseconds since 1970-01-01 UTC: exact, sorts, and can be calculated with."""
STRING = Kind(name="String", image="string", wire=_TEXT)
BYTESTRING = Kind(name="ByteString", image="bytes", wire=frozenset([Wire.BYTESTRING]))

_KINDS: dict[str, Kind] = {
    "boolean": BOOLEAN,
    "sbyte": _number("SByte", "int8", Wire.SBYTE),
    "byte": _number("Byte", "uint8", Wire.BYTE),
    "int16": _number("Int16", "int16", Wire.INT16),
    "uint16": _number("UInt16", "uint16", Wire.UINT16),
    "int32": INT32,
    "uint32": UINT32,
    "int64": INT64,
    "uint64": UINT64,
    "float": _number("Float", "float32", Wire.FLOAT),
    "double": DOUBLE,
    "string": STRING,
    "datetime": DATETIME,
    "guid": STRING,
    "bytestring": BYTESTRING,
    "xmlelement": STRING,
    "nodeid": STRING,
    "expandednodeid": STRING,
    "statuscode": UINT32,
    "qualifiedname": STRING,
    "localizedtext": STRING,
    # Subtypes and abstract types of Part 3 and Part 5 that travel as one of the above.
    "bool": BOOLEAN,
    "enumeration": INT32,
    "integer": INT64,
    "uinteger": UINT64,
    "number": DOUBLE,
    "duration": DOUBLE,
    "utctime": DATETIME,
    "date": DATETIME,
    "counter": UINT32,
    "localeid": STRING,
    "numericrange": STRING,
    "normalizedstring": STRING,
    "decimalstring": STRING,
    "durationstring": STRING,
    "timestring": STRING,
    "datestring": STRING,
    "uristring": STRING,
    "image": BYTESTRING,
    "imagebmp": BYTESTRING,
    "imagegif": BYTESTRING,
    "imagejpg": BYTESTRING,
    "imagepng": BYTESTRING,
    "applicationinstancecertificate": BYTESTRING,
    "audiodatatype": BYTESTRING,
}


def kind_of(datatype: str) -> Kind:
    """The kind for a file's type name, whatever its case or prefix (`opc:Double`); unknown or empty = Double.

    Double takes every number that it holds exactly, so a type name of a plant's own still gives a value.
    """
    return _KINDS.get(datatype.strip().rpartition(":")[2].lower(), DOUBLE)


def image_point(point: OpcUaPoint, node: OpcUaNode, server: OpcUaServer, default_interval: float,
                described: Described = Described()) -> Point:
    """The image point of one point of a node; its scan class is the node's, else the server's, else the default.

    Unit and range that the file leaves open are those that the server gives; `extra` then says so.
    """
    kind = kind_of(point.datatype)
    extra = [("opcua_type", kind.name), ("node_id", shown_id(node))]
    unit, limits = point.unit, (point.minimum, point.maximum)
    if not unit and described.unit:
        unit = described.unit
        extra.append(UNIT_FROM_SERVER)
    if limits == (None, None) and described.range != (None, None):
        limits = described.range
        extra.append(RANGE_FROM_SERVER)
    return Point(
        name=point.name, device=server.alias, type=kind.image, extra=tuple(extra),
        unit=unit or ("ns" if kind is DATETIME else ""), range=limits, description=point.description,
        scan_class=interval_of(node, server, default_interval), writable=node.writable, size=TEXT_BYTES,
    )


def shown_id(node: OpcUaNode) -> str:
    """The node's id as the file gives it: with `nsu=` where it names the namespace by its URI (Part 6, 5.3.1.11)."""
    if not node.namespace_uri:
        return node.node_id
    return f"nsu={node.namespace_uri};{node.node_id.partition(';')[2]}"


def is_subscribed(node: OpcUaNode, server: OpcUaServer) -> bool:
    """Whether the server sends the node's values, and they are not polled."""
    return node.subscribing.within(server.subscribing).mode is Mode.SUBSCRIBE


def interval_of(node: OpcUaNode, server: OpcUaServer, default_interval: float) -> float:
    """A node's scan class: seconds between two polls, or between two notifications."""
    if is_subscribed(node, server):
        return publishing_interval(node, server, default_interval)
    return _poll_interval(node, server, default_interval)


def publishing_interval(node: OpcUaNode, server: OpcUaServer, default_interval: float) -> float:
    """Seconds between two notifications about a node: its own, else its server's, else what holds for polls."""
    found = node.subscribing.within(server.subscribing).publishing_interval
    return found if found is not None else _poll_interval(node, server, default_interval)


def _poll_interval(node: OpcUaNode, server: OpcUaServer, default_interval: float) -> float:
    if node.interval is not None:
        return node.interval
    return server.interval if server.interval is not None else default_interval


def image_points(server: OpcUaServer, default_interval: float,
                 described: Mapping[Key, Described] | None = None) -> list[Point]:
    """The image points of one server in file order; system points are not among them.

    `described` holds what the server says of them.
    """
    said = described or {}
    return [
        image_point(point, node, server, default_interval, said.get((point.name, shown_id(node)), Described()))
        for node in server.nodes for point in node.points
    ]


def remembered(points: Iterable[Point]) -> dict[str, dict[Key, Described]]:
    """What servers said, by device, as the points of an earlier segment tell it; also where it was nothing."""
    found: dict[str, dict[Key, Described]] = {}
    for point in points:
        extra = dict(point.extra)
        if "node_id" in extra:
            unit = point.unit if UNIT_FROM_SERVER in point.extra else ""
            limits = point.range if RANGE_FROM_SERVER in point.extra else (None, None)
            found.setdefault(point.device, {})[point.name, extra["node_id"]] = Described(unit=unit, range=limits)
    return found
