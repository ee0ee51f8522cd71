"""Services that are called now and then: write, call, browse, translate (OPC UA Part 4), as bytes there and back."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from opcua_client.channel import Answer, Channel
from opcua_client.cursor import Cursor, Qualified, Sample, Value, answer
from opcua_client.encoding import VALUE_ATTRIBUTE, NodeId, encode_string, read_body, read_value_id
from opcua_client.errors import Malformed, Unanswered

T = TypeVar("T")
FORWARD, INVERSE = 0, 1
"""BrowseDirection (Part 4, clause 7.5)."""
HIERARCHICAL, HAS_PROPERTY, HAS_SUBTYPE = (NodeId(namespace=0, identifier=n) for n in (33, 46, 45))
OBJECT_CLASS, VARIABLE_CLASS, METHOD_CLASS = 1, 2, 4
"""NodeClass (Part 3, clause 8.29); the same numbers are the bits of a browse's mask."""
MOST_HOPS = 10_000
"""BrowseNext calls for one node, after which a server that never ends is given up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """One ReferenceDescription (Part 4, clause 7.29)."""

    kind: NodeId
    forward: bool
    node: NodeId
    browse_name: Qualified
    display_name: str
    node_class: int
    type_definition: NodeId


@dataclass(frozen=True, kw_only=True, slots=True)
class CallResult:
    """One CallMethodResult (Part 4, clause 5.11.2)."""

    status: int
    arguments: tuple[int, ...]
    """StatusCode of each input argument, where the server tells."""
    outputs: tuple[Value, ...]


async def settled(sent: Answer, timeout: float, operation: str) -> bytes:
    """Wait for an answer; Unanswered after `timeout` seconds, and nothing is cancelled then."""
    await asyncio.wait({sent}, timeout=max(timeout, 0.0))
    if not sent.done():
        raise Unanswered(operation, f"no answer within {timeout:g} s", "the server may be overloaded")
    return sent.result()


async def ask(channel: Channel, kind: int, body: bytes, *, operation: str, parse: Callable[[Cursor], T],
              timeout: float) -> T:
    """One call of a service; the response's encoding id is the request's plus 3, as for all services."""
    return answer(await settled(channel.request(kind, body, timeout), timeout, operation), kind + 3, operation, parse)


def results(cursor: Cursor, element: Callable[[], T], count: int, operation: str) -> list[T]:
    """An array of `count` results and the diagnostics behind it; Malformed for another number."""
    found = cursor.array(element)
    if len(found) != count:
        raise Malformed(f"{operation} response", f"{len(found)} results instead of {count}")
    cursor.diagnostics()
    return found


def array(parts: Sequence[bytes]) -> bytes:
    """Encoded elements as an array."""
    return struct.pack("<i", len(parts)) + b"".join(parts)


async def read_attributes(channel: Channel, wanted: Sequence[tuple[NodeId, int]], timeout: float) -> list[Sample]:
    """Read some attributes in one request; a Sample for each (Part 4, clause 5.10.2)."""
    body = read_body([read_value_id(node, attribute) for node, attribute in wanted])
    return await ask(channel, 631, body, operation="read", timeout=timeout,
                     parse=lambda cursor: results(cursor, cursor.data_value, len(wanted), "read"))


def write_body(node: NodeId, variant: bytes, index_range: str = "") -> bytes:
    """The body of a WriteRequest for one value, without status and times: many servers refuse those (5.10.4)."""
    value = b"\x01" + variant
    return array([node.encode() + struct.pack("<I", VALUE_ATTRIBUTE) + encode_string(index_range or None) + value])


def write_status(cursor: Cursor) -> int:
    """The one result of a WriteResponse."""
    return int(results(cursor, lambda: cursor.number("<I"), 1, "write")[0])


def _reference(cursor: Cursor) -> Reference:
    return Reference(kind=cursor.node_id(), forward=bool(cursor.number("<B")), node=cursor.node_id(),
                     browse_name=cursor.qualified(), display_name=cursor.localized().text,
                     node_class=cursor.number("<I"), type_definition=cursor.node_id())


def _browse_result(cursor: Cursor) -> tuple[int, bytes, list[Reference]]:
    return cursor.number("<I"), cursor.octets() or b"", cursor.array(lambda: _reference(cursor))


@dataclass(frozen=True, kw_only=True, slots=True)
class Browsing:
    """What to follow from each node (BrowseDescription, Part 4, clause 5.8.2)."""

    direction: int = FORWARD
    kind: NodeId = HIERARCHICAL
    """Reference type; its subtypes are followed as well."""
    classes: int = 0
    """Mask of node classes, 0 = all."""

    def encode(self, node: NodeId) -> bytes:
        """One BrowseDescription, all fields of the result wanted."""
        return (node.encode() + struct.pack("<I", self.direction) + self.kind.encode()
                + struct.pack("<BII", 1, self.classes, 0x3F))


async def browse(channel: Channel, nodes: Sequence[NodeId], how: Browsing,
                 timeout: float) -> list[tuple[int, list[Reference]]]:
    """Status and references of each node, continued where the server hands them out in parts (clauses 5.8.2, 5.8.3)."""
    nothing = b"\x00\x00" + struct.pack("<qI", 0, 0)  # no view
    body = nothing + struct.pack("<I", 0) + array([how.encode(node) for node in nodes])
    found = await _browsed(channel, 527, body, len(nodes), timeout)
    results = [(status, references) for status, _, references in found]
    open_ = [(place, point) for place, (_, point, _) in enumerate(found) if point]
    for _ in range(MOST_HOPS):
        if not open_:
            break
        body = b"\0" + array([struct.pack("<i", len(point)) + point for _, point in open_])
        more = await _browsed(channel, 533, body, len(open_), timeout)
        for (place, _), (status, _, references) in zip(open_, more, strict=True):
            results[place] = (results[place][0] or status, [*results[place][1], *references])
        open_ = [(place, point) for (place, _), (_, point, _) in zip(open_, more, strict=True) if point]
    return results


async def _browsed(channel: Channel, kind: int, body: bytes, count: int,
                   timeout: float) -> list[tuple[int, bytes, list[Reference]]]:
    return await ask(channel, kind, body, operation="browse", timeout=timeout,
                     parse=lambda cursor: results(cursor, lambda: _browse_result(cursor), count, "browse"))


async def call(channel: Channel, object_: NodeId, method: NodeId, arguments: Sequence[bytes],
               timeout: float) -> CallResult:
    """Call a method once with encoded Variants (Part 4, clause 5.11.2)."""
    body = array([object_.encode() + method.encode() + array(arguments)])
    found = await ask(channel, 712, body, operation="call", timeout=timeout,
                      parse=lambda cursor: results(cursor, lambda: _call_result(cursor), 1, "call"))
    return found[0]


def _call_result(cursor: Cursor) -> CallResult:
    status = cursor.number("<I")
    arguments = cursor.array(lambda: int(cursor.number("<I")))
    cursor.diagnostics()
    return CallResult(status=status, arguments=tuple(arguments), outputs=tuple(cursor.array(cursor.variant)))
