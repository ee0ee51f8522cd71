"""Which built-in type a DataType is, also one that a plant has made (OPC UA Part 3, clause 5.8.3; Part 6, 5.1.2)."""

from __future__ import annotations

from opcua_client.channel import Channel
from opcua_client.datatypes import Wire
from opcua_client.encoding import NodeId
from opcua_client.services import HAS_SUBTYPE, INVERSE, Browsing, browse

ENUMERATION, STRUCTURE = 29, 22
ABSTRACT = frozenset([24, 26, 27, 28])
"""BaseDataType, Number, Integer, UInteger: a value says which of their types it is."""
MOST_LEVELS = 16
"""Supertypes that are followed."""

_KNOWN = {
    ENUMERATION: Wire.INT32, 30: Wire.BYTESTRING, 256: Wire.INT32, 288: Wire.UINT32, 289: Wire.UINT32,
    290: Wire.DOUBLE, 291: Wire.STRING, 293: Wire.DATETIME, 294: Wire.DATETIME, 295: Wire.STRING,
    311: Wire.BYTESTRING, 388: Wire.NODEID, 521: Wire.BYTESTRING, 852: Wire.INT32, 887: Wire.EXTENSIONOBJECT,
    12877: Wire.STRING, 12878: Wire.STRING, 12879: Wire.STRING, 12880: Wire.STRING, 12881: Wire.STRING,
    16307: Wire.BYTESTRING, 23751: Wire.STRING,
}
"""Subtypes of namespace 0 that servers use most; the others are looked up."""


def known(datatype: NodeId) -> Wire | None:
    """The built-in type of a DataType of namespace 0, None where it is abstract or must be looked up."""
    number = datatype.identifier
    if datatype.namespace or not isinstance(number, int):
        return None
    if 0 < number <= Wire.DIAGNOSTICINFO and number not in ABSTRACT:
        return Wire(number)
    return _KNOWN.get(number)


def abstract(datatype: NodeId) -> bool:
    """Whether only a value says the type."""
    return datatype.namespace == 0 and datatype.identifier in ABSTRACT


async def looked_up(channel: Channel, datatype: NodeId, timeout: float) -> Wire | None:
    """The same, following the supertypes at the server; None for what has none there."""
    how = Browsing(direction=INVERSE, kind=HAS_SUBTYPE)
    for _ in range(MOST_LEVELS):
        found = known(datatype)
        if found is not None:
            return found
        if abstract(datatype):
            return None
        ((_, references),) = await browse(channel, [datatype], how, timeout)
        if not references:
            return None
        datatype = references[0].node
    return None
