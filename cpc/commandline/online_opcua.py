"""`cpc check --online` for OPC UA: which nodes exist, their type and access, by line, in few requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from endpoint_config import Fault, OpcUaNode, OpcUaServer
from process_image.quality import is_bad, quality_name

if TYPE_CHECKING:
    from opcua_client.browsing import Facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What a server says of one node of a file."""

    server: OpcUaServer
    node: OpcUaNode
    node_id: str
    facts: Facts | None
    """None where the server lacks its namespace."""

    def __str__(self) -> str:
        """One line for people."""
        place = f"{self.server.file}:{self.node.line}: {self.server.alias}/{self.node.name}  {self.node_id}"
        if self.facts is None or not self.facts.exists:
            return f"{place}  not there"
        return f"{place}  {self.facts.spelled}  {self.facts.letters}  {quality_name(self.facts.status)}"

    def as_json(self) -> dict[str, Any]:
        """The same as data."""
        there = self.facts is not None and self.facts.exists
        made: dict[str, Any] = {"line": self.node.line, "point": f"{self.server.alias}/{self.node.name}",
                                "node_id": self.node_id, "exists": there, "datatype": None, "access": None,
                                "status": None}
        if self.facts is not None and there:
            made |= {"datatype": self.facts.spelled, "access": self.facts.letters,
                     "status": quality_name(self.facts.status)}
        return made

    def faults(self) -> Iterator[str]:
        """What is wrong: the node is not there, can't be read, is of another type, or can't be written."""
        what = f"{self.server.alias}: read {self.node_id}"
        advice = "compare the node with the server's address space"
        if self.facts is None:
            yield f"{what}: the server has no namespace {self.node.namespace_uri!r}; check NamespaceUri"
            return
        if is_bad(self.facts.status):
            yield f"{what}: {quality_name(self.facts.status)}; {advice}"
            if not self.facts.exists:
                return
        yield from self._type_fault(what)
        if self.node.writable and "w" not in self.facts.letters:
            yield (f"{self.server.alias}: write {self.node_id}: this user may not write it; writable false, or another "
                   "user")

    def _type_fault(self, what: str) -> Iterator[str]:
        from opcua_client.datatypes import kind_of
        from opcua_client.values import unfit

        facts = self.facts
        if facts is None or facts.wire is None or self.node.fields:
            return
        if facts.array != bool(self.node.length):
            yield (f"{what}: is {facts.spelled}; " + ("length, for its elements" if facts.array else "no length"))
        elif unfit(int(facts.wire), kind_of(self.node.datatype)):
            yield f"{what}: is {facts.spelled}, the file says {self.node.datatype or 'nothing'}; {facts.wire.spelled}"


def look(server: OpcUaServer) -> tuple[list[Seen], list[Fault]]:
    """What a server says of its nodes; one that can't be reached, or does not let us in, is one fault."""
    from opcua_client import OpcUaError

    try:
        seen = asyncio.run(_look(server))
    except OpcUaError as error:
        return [], [Fault(file=server.file, line=server.line, message=f"{server.alias}: {error}")]
    return seen, [Fault(file=server.file, line=one.node.line, message=text) for one in seen for text in one.faults()]


async def _look(server: OpcUaServer) -> list[Seen]:
    from opcua_client.browsing import facts_of
    from opcua_client.plan import namespace_index, node_id_at
    from opcua_client.session import open_session

    session = await open_session(server, connect_timeout=server.timeout, patience=server.timeout)
    try:
        places = [(node, namespace_index(node, session.namespaces)) for node in server.nodes]
        known = [(node, node_id_at(node, index)) for node, index in places if index is not None]
        facts = await facts_of(session, [node_id for _, node_id in known], server.timeout)
        found = {id(node): (str(node_id), fact) for (node, node_id), fact in zip(known, facts, strict=True)}
        return [_seen(server, node, found.get(id(node))) for node in server.nodes]
    finally:
        await session.close()


def _seen(server: OpcUaServer, node: OpcUaNode, found: tuple[str, Facts] | None) -> Seen:
    node_id, facts = found if found is not None else (node.node_id, None)
    return Seen(server=server, node=node, node_id=node_id, facts=facts)

