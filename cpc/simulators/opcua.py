"""Simulated OPC UA servers, made from the entries of an endpoint file: same nodes, same security, moving values."""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.common.node import Node
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.crypto.security_policies import SECURITY_POLICY_TYPE_MAP
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager
from endpoint_config import OpcUaNode, OpcUaServer
from opcua_client import kind_of, make_certificate, save
from opcua_client.endpoints import MODES, NONE, POLICIES, POLICY_URI

from cpc.simulators.faults import FaultList
from cpc.simulators.movements import Movement
from cpc.simulators.request_log import RequestLog

_types: Any = ua
"""The library's types for values: its aliases of Python's own are strangers to a type checker."""
SERVER_URI = "urn:cpc-partition:simulator"
NAMESPACE_URI = "urn:cpc-partition:simulator:{}"
PERIOD = 60.0
"""Seconds of one round of the moving values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Variable:
    """One simulated node."""

    server: Server
    node_id: ua.NodeId
    type: ua.VariantType
    phase: float
    """Part of a round by which its curve is ahead."""
    low: float
    high: float


class OpcUaSimulator:
    """One asyncua server for each entry, on ports of its own; `log` says what happened."""

    def __init__(self, servers: Sequence[OpcUaServer], *, host: str = "127.0.0.1", port: int = 0,
                 update_interval: float = 1.0, folder: Path, faults: FaultList | None = None,
                 log: RequestLog | None = None) -> None:
        """`port` is the first server's, the following ones count on; 0 = any. `folder` gets certificates and keys."""
        self._entries = tuple(servers)
        self._host = host
        self._port = port
        self._update_interval = update_interval
        self._folder = folder
        self._servers: list[Server] = []
        self._variables: list[_Variable] = []
        self._mover: asyncio.Task[None] | None = None
        self.faults = FaultList() if faults is None else faults
        self.log = RequestLog() if log is None else log
        """Every request, in order."""

    async def start(self) -> dict[str, OpcUaServer]:
        """Start every server; returns for each alias the entry by which a client reaches it."""
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        entries: dict[str, OpcUaServer] = {}
        try:
            for index, entry in enumerate(self._entries):
                port = self._port + index if self._port else 0
                entries[entry.alias] = await self._start_one(index, entry, port)
        except BaseException:
            await self.stop()
            raise
        self._mover = asyncio.create_task(self._move())
        return entries

    async def stop(self) -> None:
        """Stop every server; harmless when none runs."""
        if self._mover is not None:
            self._mover.cancel()
            with suppress(asyncio.CancelledError):
                await self._mover
            self._mover = None
        for server in self._servers:
            await server.stop()
        self._servers.clear()
        self._variables.clear()

    async def apply_faults(self) -> None:
        """Have states that faults order begin and end."""

    def values(self) -> list[tuple[str, Any]]:
        """Every node with its value."""
        return []

    def set_value(self, name: str, value: Any) -> bool:
        """Have a node hold a value."""
        del name, value
        return False

    def set_movement(self, name: str, movement: Movement | None) -> bool:
        """Have a node move."""
        del name, movement
        return False

    def point_names(self) -> list[str]:
        """Full names."""
        return []

    async def _start_one(self, index: int, entry: OpcUaServer, port: int) -> OpcUaServer:
        server = Server(user_manager=_Users(entry))
        await server.init()
        uri = f"{SERVER_URI}:{index}"
        await server.set_application_uri(uri)
        server.set_server_name(f"Simulated {entry.alias}")
        server.set_endpoint(f"opc.tcp://{self._host}:{port}")
        client = await self._secure(server, index, entry, uri)
        await self._add_nodes(server, entry)
        await server.start()
        self._servers.append(server)
        assert server.bserver is not None
        bound = server.bserver.port
        shown = f"[{self._host}]" if ":" in self._host else self._host
        return replace(client, url=f"opc.tcp://{shown}:{bound}")

    async def _secure(self, server: Server, index: int, entry: OpcUaServer, uri: str) -> OpcUaServer:
        """Give the server what the entry asks for; returns the entry with the client's side of it."""
        wanted, mode = POLICY_URI + POLICIES[entry.security_policy], MODES[entry.security_mode]
        server.set_security_policy([
            kind for kind, (its_policy, its_mode, _) in _policies().items()
            if (its_policy.URI, its_mode) == (wanted, mode)
        ])
        token = ua.UserNameIdentityToken if entry.username else ua.AnonymousIdentityToken
        server.set_identity_tokens([token])
        if POLICIES[entry.security_policy] == NONE:
            return replace(entry, server_certificate=None, client_certificate=None, client_private_key=None,
                           trust_folder=None)
        hosts = [self._host]
        paths = [self._folder / f"{kind}-{index}" for kind in ("server", "client")]
        client_uri = entry.client_app_uri or f"{SERVER_URI}:client:{index}"
        for path, name, serves in zip(paths, (uri, client_uri), (True, False), strict=True):
            identity = make_certificate(application_uri=name, hosts=hosts, server=serves, client=not serves,
                                        common_name=f"Simulated {entry.alias}"[:64])
            save(identity, path.with_suffix(".der"), path.with_suffix(".pem"))
        own, other = paths
        await server.load_certificate(own.with_suffix(".der"))
        await server.load_private_key(own.with_suffix(".pem"))
        return replace(entry, client_app_uri=client_uri, server_certificate=own.with_suffix(".der"),
                       client_certificate=other.with_suffix(".der"), client_private_key=other.with_suffix(".pem"),
                       trust_folder=None)

    async def _add_nodes(self, server: Server, entry: OpcUaServer) -> None:
        highest = max((n.namespace_index for n in entry.nodes if not n.namespace_uri), default=0)
        for number in range(2, highest + 1):
            await server.register_namespace(NAMESPACE_URI.format(number))
        for place, node in enumerate(entry.nodes):
            index = node.namespace_index
            if node.namespace_uri:
                index = await server.register_namespace(node.namespace_uri)
            node_id = ua.NodeId.from_string(f"ns={index};{node.node_id.partition(';')[2]}")
            if node_id in server.iserver.aspace:
                continue  # the standard's own node, or the second entry for one node
            await self._add_one(server, node, node_id, place / max(len(entry.nodes), 1))

    async def _add_one(self, server: Server, node: OpcUaNode, node_id: ua.NodeId, phase: float) -> None:
        kind = _variant_type(node.datatype)
        low = 0.0 if node.minimum is None else node.minimum
        high = low + 100.0 if node.maximum is None else node.maximum
        variable = _Variable(server=server, node_id=node_id, type=kind, phase=phase, low=low, high=high)
        made: Node = await server.nodes.objects.add_variable(
            node_id, ua.QualifiedName(node.name, node_id.NamespaceIndex), _value(variable, phase), varianttype=kind
        )
        if node.writable:
            await made.set_writable()
        self._variables.append(variable)

    async def _move(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            await asyncio.sleep(self._update_interval)
            rounds = (loop.time() - began) / PERIOD
            now = datetime.now(UTC)
            for variable in self._variables:
                value = ua.Variant(_value(variable, rounds + variable.phase), variable.type)
                await variable.server.write_attribute_value(
                    variable.node_id, _types.DataValue(value, SourceTimestamp=now, ServerTimestamp=now)
                )


def _policies() -> dict[ua.SecurityPolicyType, tuple[Any, Any, int]]:
    """What the library calls each pair of policy and mode."""
    return dict(SECURITY_POLICY_TYPE_MAP)  # type: ignore[arg-type]


class _Users(UserManager):
    """Takes the user of the entry, and nobody else."""

    def __init__(self, entry: OpcUaServer) -> None:
        self._entry = entry

    def get_user(self, iserver: Any, username: str | None = None, password: str | bytes | None = None,
                 certificate: Any = None) -> User | None:
        """The user if name and password are the entry's (or it has none), None = refused."""
        del iserver, certificate
        user = User(role=UserRole.User, name=username)
        if not self._entry.username:
            return user
        wanted = self._entry.password.reveal() if self._entry.password is not None else ""
        given = password.decode() if isinstance(password, bytes) else password or ""
        return user if (username, given) == (self._entry.username, wanted) else None


def _variant_type(datatype: str) -> ua.VariantType:
    """The built-in type of a file's type name; what is no built-in type moves as the type it is stored as."""
    name = datatype.strip().rpartition(":")[2].lower()
    types = {kind.name.lower(): kind for kind in _MAKERS}
    return types.get(name) or types[kind_of(datatype).name.lower()]


@dataclass(frozen=True, slots=True)
class _Sample:
    """Where a curve stands."""

    number: float
    """Between low and high."""
    share: float
    """Between 0 and 1."""

    def whole(self, low: int, high: int) -> int:
        """The number as an integer that its type holds."""
        return max(low, min(high, round(self.number)))


def _value(variable: _Variable, rounds: float) -> Any:
    """The value of a variable: numbers on a sine between low and high, everything else derived from it."""
    share = 0.5 + 0.5 * math.sin(2 * math.pi * rounds)
    return _MAKERS[variable.type](_Sample(variable.low + (variable.high - variable.low) * share, share))


_MAKERS: dict[ua.VariantType, Callable[[_Sample], Any]] = {
    ua.VariantType.Boolean: lambda sample: sample.share >= 0.5,
    ua.VariantType.SByte: lambda sample: sample.whole(-(2**7), 2**7 - 1),
    ua.VariantType.Byte: lambda sample: sample.whole(0, 2**8 - 1),
    ua.VariantType.Int16: lambda sample: sample.whole(-(2**15), 2**15 - 1),
    ua.VariantType.UInt16: lambda sample: sample.whole(0, 2**16 - 1),
    ua.VariantType.Int32: lambda sample: sample.whole(-(2**31), 2**31 - 1),
    ua.VariantType.UInt32: lambda sample: sample.whole(0, 2**32 - 1),
    ua.VariantType.Int64: lambda sample: sample.whole(-(2**63), 2**63 - 1),
    ua.VariantType.UInt64: lambda sample: sample.whole(0, 2**64 - 1),
    ua.VariantType.Float: lambda sample: sample.number,
    ua.VariantType.Double: lambda sample: sample.number,
    ua.VariantType.String: lambda sample: f"{sample.number:.1f}",
    ua.VariantType.XmlElement: lambda sample: _types.XmlElement(f"<value>{sample.number:.1f}</value>"),
    ua.VariantType.DateTime: lambda sample: datetime.now(UTC),  # noqa: ARG005
    ua.VariantType.Guid: lambda sample: uuid.UUID(int=round(sample.share * 1e6)),
    ua.VariantType.ByteString: lambda sample: round(sample.share * 1e6).to_bytes(4, "big"),
    ua.VariantType.NodeId: lambda sample: _types.NodeId(round(sample.share * 1e4), 2),
    ua.VariantType.ExpandedNodeId: lambda sample: _types.ExpandedNodeId(round(sample.share * 1e4), 2),
    ua.VariantType.StatusCode: lambda sample: _types.StatusCode(0),  # noqa: ARG005
    ua.VariantType.QualifiedName: lambda sample: _types.QualifiedName(f"{sample.number:.1f}", 2),
    ua.VariantType.LocalizedText: lambda sample: _types.LocalizedText(f"{sample.number:.1f}"),
}
