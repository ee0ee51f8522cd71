"""Engineering units and ranges that servers give for their variables (OPC UA Part 8, clauses 5.3.2 and 5.6.3).

They are properties of the variable: found by one TranslateBrowsePathsToNodeIds for many nodes, and read.
"""

from __future__ import annotations

import asyncio
import logging
import math
import struct
import time
from collections.abc import Sequence

from endpoint_config import OpcUaNode, OpcUaServer

from opcua_client.cursor import Cursor, Extension
from opcua_client.datatypes import Described, Key, kind_of, shown_id
from opcua_client.encoding import VALUE_ATTRIBUTE, NodeId, encode_string
from opcua_client.errors import Malformed, OpcUaError
from opcua_client.plan import namespace_index, node_id_at
from opcua_client.services import HAS_PROPERTY, ask, read_attributes
from opcua_client.session import Session, open_session

UNIT, RANGE = "EngineeringUnits", "EURange"
UNECE = "http://www.opcfoundation.org/UA/units/un/cefact"
"""Namespace of unit ids that are UN/ECE common codes (Part 8, clause 5.6.3.3)."""
MOST_NODES = 500
"""Nodes asked about in one request, where the server's own limit is not lower."""
CLOSE_SECONDS = 0.3
_TRANSLATE = 554
_EU_INFORMATION, _EU_RANGE = NodeId(namespace=0, identifier=889), NodeId(namespace=0, identifier=886)
"""Ids of their binary encodings."""

_log = logging.getLogger("opcua_client")


def lacks_description(node: OpcUaNode) -> bool:
    """Whether the file leaves a unit or range open that the server may give."""
    return not node.fields and kind_of(node.datatype).converts and (
        not node.unit or (node.minimum is None and node.maximum is None))


async def ask_all(servers: Sequence[OpcUaServer], seconds: float) -> dict[str, dict[Key, Described]]:
    """By alias and point what the servers say that answer within `seconds`; the others are left out."""
    tasks = {server.alias: asyncio.ensure_future(_ask_one(server, seconds)) for server in servers}
    if tasks:
        await asyncio.wait(tasks.values(), timeout=seconds)
    found: dict[str, dict[Key, Described]] = {}
    for alias, task in tasks.items():
        if not task.done():
            task.cancel()
        elif (described := task.result()) is not None:
            found[alias] = described
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    return found


async def _ask_one(server: OpcUaServer, seconds: float) -> dict[Key, Described] | None:
    deadline = time.monotonic() + seconds
    try:
        session = await open_session(server, connect_timeout=seconds, patience=seconds)
    except OpcUaError as error:
        _log.debug("%s: no units: %s", server.alias, error)
        return None
    try:
        return await describe(session, [node for node in server.nodes if lacks_description(node)], deadline)
    except OpcUaError as error:
        _log.info("%s: no units: %s", server.alias, error)
        return {}
    finally:
        await session.close(CLOSE_SECONDS)


async def describe(session: Session, nodes: Sequence[OpcUaNode], deadline: float) -> dict[Key, Described]:
    """What an open session's server says of these nodes' points; until `deadline` (monotonic seconds)."""
    found: dict[Key, Described] = {}
    most = min(MOST_NODES, session.max_nodes or MOST_NODES)
    for start in range(0, len(nodes), most):
        part = [(node, node_id_at(node, index)) for node in nodes[start : start + most]
                if (index := namespace_index(node, session.namespaces)) is not None]
        properties = await _properties(session, [node_id for _, node_id in part], deadline)
        values = await _values(session, [node_id for node_id in properties if node_id is not None], deadline)
        for number, (node, _) in enumerate(part):
            unit, limits = (values.get(place) if place is not None else None
                            for place in properties[2 * number : 2 * number + 2])
            described = Described(unit=unit_text(unit), range=limits_of(limits))
            if described != Described():
                found.update(((point.name, shown_id(node)), described) for point in node.points)
    return found


async def _properties(session: Session, nodes: Sequence[NodeId], deadline: float) -> list[NodeId | None]:
    """The ids of both properties of each node, one after the other (Part 4, clause 5.8.4)."""
    paths = [
        node.encode() + struct.pack("<i", 1) + HAS_PROPERTY.encode() + b"\0\1" + b"\0\0" + encode_string(name)
        for node in nodes for name in (UNIT, RANGE)
    ]

    def parse(cursor: Cursor) -> list[NodeId | None]:
        found = cursor.array(lambda: _target(cursor))
        cursor.diagnostics()
        if len(found) != len(paths):
            raise Malformed("translate response", f"{len(found)} paths instead of {len(paths)}")
        return found

    if not paths:
        return []
    return await ask(session.channel, _TRANSLATE, struct.pack("<i", len(paths)) + b"".join(paths), parse=parse,
                     operation="translate", timeout=deadline - time.monotonic())


def _target(cursor: Cursor) -> NodeId | None:
    """The first target of one path, None where there is none (Part 4, clause 7.6)."""
    status = cursor.number("<I")
    targets = cursor.array(lambda: (cursor.node_id(), cursor.number("<I"))[0])
    return targets[0] if targets and not status & 0x8000_0000 else None


async def _values(session: Session, nodes: Sequence[NodeId], deadline: float) -> dict[NodeId, Extension]:
    """The structures in the properties that can be read."""
    if not nodes:
        return {}
    most = session.max_nodes or len(nodes)
    found: dict[NodeId, Extension] = {}
    for start in range(0, len(nodes), most):
        part = nodes[start : start + most]
        samples = await read_attributes(session.channel, [(node, VALUE_ATTRIBUTE) for node in part],
                                        deadline - time.monotonic())
        for node, sample in zip(part, samples, strict=True):
            if sample.value is not None and isinstance(sample.value.value, Extension):
                found[node] = sample.value.value
    return found


def unit_text(extension: Extension | None) -> str:
    """The display text of an EUInformation, else its UN/ECE common code (Part 8, clause 5.6.3)."""
    if extension is None or extension.kind != _EU_INFORMATION:
        return ""
    cursor = Cursor(extension.body)
    try:
        space, number, text = cursor.text(), cursor.number("<i"), cursor.localized().text
    except (Malformed, IndexError, struct.error):
        return ""
    return " ".join(text.split()) or (common_code(number) if space == UNECE else "")


def common_code(number: int) -> str:
    """The UN/ECE common code that a unit id stands for, `CEL` for 4408652; empty for none."""
    octets = number.to_bytes(4, "big", signed=True).lstrip(b"\0")
    return octets.decode("ascii") if octets.isalnum() and octets.isascii() and len(octets) <= 3 else ""


def limits_of(extension: Extension | None) -> tuple[float | None, float | None]:
    """A Range that says something: finite, low below high (Part 8, clause 5.6.2)."""
    if extension is None or extension.kind != _EU_RANGE or len(extension.body) != 16:
        return None, None
    low, high = struct.unpack("<dd", extension.body)
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else (None, None)
