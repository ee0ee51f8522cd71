"""One simulated OPC UA server: its nodes, its certificates, and the states that faults give it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.crypto.security_policies import SECURITY_POLICY_TYPE_MAP
from asyncua.server.server import Server
from endpoint_config import OpcUaServer
from opcua_client import make_certificate, save
from opcua_client.endpoints import MODES, NONE, POLICIES, POLICY_URI

from cpc.simulators.faults import FaultList
from cpc.simulators.opcua_nodesets import import_nodesets
from cpc.simulators.opcua_session import SimulatedBinaryServer, SimulatedInternals, SimulatedSession
from cpc.simulators.opcua_structures import Shape, make_type, name_apart, of_type, remove_type
from cpc.simulators.opcua_types import status_of, types, variant_type
from cpc.simulators.opcua_users import OnlyUser
from cpc.simulators.opcua_variables import Variable, variable_of
from cpc.simulators.opcua_written import with_elements, with_value
from cpc.simulators.request_log import RequestLog

SERVER_URI = "urn:cpc-partition:simulator"
NAMESPACE_URI = "urn:cpc-partition:simulator:{}"


@dataclass(frozen=True, slots=True)
class _State:
    """What the faults that hold now make of the server itself."""

    away: bool = False
    certificate: int = 0
    """Number of the fault that changed it, 0 = the first one."""
    shuffles: int = 0
    drops: int = 0
    """Highest number of a fault that dropped sessions."""


@dataclass(slots=True, kw_only=True)
class Device:
    """A server on asyncua; all methods belong to one event loop."""

    entry: OpcUaServer
    index: int
    host: str
    port: int
    """0 = any free one."""
    folder: Path
    faults: FaultList
    log: RequestLog
    nodesets: Sequence[Path] = ()
    hung: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while the server answers."""
    variables: dict[ua.NodeId, Variable] = field(default_factory=dict)
    _server: Server | None = None
    _listener: SimulatedBinaryServer | None = None
    _state: _State = field(default_factory=_State)
    _uris: list[str] = field(default_factory=list)

    @property
    def alias(self) -> str:
        """Of the entry."""
        return self.entry.alias

    # -- life

    async def start(self) -> OpcUaServer:
        """Listen; returns the entry by which a client reaches it. OSError where the port can't be had."""
        self.hung.set()
        internals = SimulatedInternals(user_manager=OnlyUser(self.entry))
        internals.owner = self
        server = self._server = Server(iserver=internals)
        await server.init()
        uri = f"{SERVER_URI}:{self.index}"
        await server.set_application_uri(uri)
        server.set_server_name(f"Simulated {self.alias}")
        client = await self._secure(server, uri)
        await self._add_nodes(server)
        await internals.start()
        await self._listen()
        shown = f"[{self.host}]" if ":" in self.host else self.host
        nodes = self.entry.nodes
        if self.nodesets:
            self.entry = client = replace(client, nodes=await import_nodesets(server, self.nodesets, self.variables))
            nodes = client.nodes
        return replace(client, url=f"opc.tcp://{shown}:{self.port}", nodes=nodes)

    async def stop(self) -> None:
        """End it; harmless when it does not run."""
        self.hung.set()
        await self._close()
        if self._server is not None:
            await self._server.iserver.stop()
            self._server = None

    async def _listen(self) -> None:
        server = self._server
        assert server is not None
        server.set_endpoint(f"opc.tcp://{self.host}:{self.port}")
        server.iserver.endpoints.clear()
        server._policies.clear()
        await server._setup_server_nodes()
        listener = SimulatedBinaryServer(server.iserver, self.host, self.port, server.limits)
        listener.answers = self.hung
        listener.set_policies(server._policies)
        await listener.start()
        self._listener = server.bserver = listener
        self.port = listener.port

    async def _close(self) -> None:
        """Close the listener with its connections, and forget every session and subscription, as a restart does."""
        listener, server = self._listener, self._server
        if listener is None or server is None:
            return
        self._listener = None
        for transport in list(server.iserver.asyncio_transports):
            transport.abort()
        await listener.stop()
        sessions = dict(server.iserver._external_sessions)
        for session in sessions.values():
            with suppress(asyncio.CancelledError):
                await session.close_session(True)
        server.iserver._external_sessions.clear()
        subscriptions = server.iserver.subscription_service
        await subscriptions.delete_subscriptions(list(subscriptions.subscriptions))

    # -- states that faults order

    async def apply_faults(self) -> None:
        """Have states begin and end as the faults that hold now say."""
        if self._server is None:
            return
        wanted = _State(
            away=bool(self.faults.standing("stop", self.alias)),
            certificate=max(self.faults.numbers("new_certificate", self.alias), default=0),
            shuffles=len(self.faults.standing("shuffle_namespaces", self.alias)),
            drops=max(self._state.drops, *self.faults.numbers("drop_sessions", self.alias), 0),
        )
        if wanted != self._state:
            await self._become(wanted)
        if self.faults.standing("hang", self.alias):
            self.hung.clear()
        else:
            self.hung.set()
        await self._apply_to_nodes()

    async def _become(self, wanted: _State) -> None:
        assert self._server is not None
        before, self._state = self._state, wanted
        await self._close()
        if wanted.certificate != before.certificate:
            name = f"server-{self.index}" + (f"-{wanted.certificate}" if wanted.certificate else "")
            await self._take_certificate(self._server, name)
        if wanted.shuffles != before.shuffles:
            await self._shuffle(wanted.shuffles)
        if not wanted.away:
            await self._listen()

    async def _apply_to_nodes(self) -> None:
        """Status, type and presence of nodes."""
        for variable in list(self.variables.values()):
            gone = any(f.means_point(variable.name) for f in self.faults.standing("remove_nodes", self.alias))
            bad = next((status_of(f.text("code")).value for f in self.faults.standing("bad_status", self.alias)
                        if f.means_point(variable.name)), 0)
            kind = next((variant_type(f.text("type")) for f in self.faults.standing("change_type", self.alias)
                         if f.means_point(variable.name)), None)
            if gone != variable.removed or kind != variable.retyped:
                variable.removed, variable.retyped = gone, kind
                await self._delete(variable)
                if not gone:
                    await self._add(variable)
            if bad != variable.status:
                variable.status = bad
            elif not gone and kind is None:
                continue
            await self.show(variable)

    async def show(self, variable: Variable) -> None:
        """Put what a variable is now into the address space."""
        if self._server is not None and not variable.removed:
            await self._server.write_attribute_value(variable.node_id, variable.data_value(variable.status))

    async def _shuffle(self, turns: int) -> None:
        """Give the server's own namespaces other indices, and the nodes with them."""
        assert self._server is not None
        own = self._uris[2:]
        order = own[-(turns % len(own)):] + own[: -(turns % len(own))] if own and turns % len(own) else own
        places = {2 + i: 2 + order.index(uri) for i, uri in enumerate(own)}
        present = await self._server.get_namespace_array()
        old = {uri: i for i, uri in enumerate(present)}
        moved = {old[uri]: places[2 + i] for i, uri in enumerate(own)}
        array = self._server.get_node(types.NodeId(types.ObjectIds.Server_NamespaceArray))
        await array.write_value(ua.Variant([*self._uris[:2], *order], ua.VariantType.String, is_array=True))
        for variable in self.variables.values():
            await self._delete(variable)
        for variable in self.variables.values():
            index = moved.get(variable.node_id.NamespaceIndex, variable.node_id.NamespaceIndex)
            variable.node_id = types.NodeId(variable.node_id.Identifier, index, variable.node_id.NodeIdType)
            if not variable.removed:
                await self._add(variable)
        self.variables = {variable.node_id: variable for variable in self.variables.values()}

    # -- what sessions ask (Owner)

    def pause(self, nodes: list[ua.NodeId]) -> float:
        """Seconds to wait before a request is answered."""
        if not self.faults:
            return 0.0
        names = [v.name for n in nodes if (v := self.variables.get(n)) is not None] or [""]
        fault = self.faults.used_by_any("delay", self.alias, names)
        if fault is None:
            return 0.0
        return fault.number("by") + self.faults.random.random() * fault.number("jitter")

    def note(self, operation: str, client: str, user: str, nodes: list[ua.NodeId], status: int) -> None:
        """Log a request that does not write."""
        self.log.note(protocol="opcua", device=self.alias, client=client, user=user, operation=operation,
                      host=self.host, port=self.port, quantity=len(nodes), exception=status)

    async def write(self, session: SimulatedSession, wanted: ua.WriteValue) -> ua.StatusCode:
        """Write one attribute for a client, as far as the faults let it, and log it."""
        item = wanted
        variable = self.variables.get(item.NodeId)
        is_value = variable is not None and item.AttributeId == types.AttributeIds.Value
        asked = item.Value.Value.Value if item.Value is not None and item.Value.Value is not None else None
        effect, met, status = "taken", "", ua.StatusCode(ua.UInt32(0))
        if wanted.IndexRange and variable is not None:
            item, status = with_elements(wanted, variable.last)
            if status.value:
                effect = "refused"
        if effect == "taken" and is_value and self.faults and variable is not None:
            item, effect, met, status = self._tampered(variable, item)
        if effect == "taken" or effect in ("clamped", "altered"):
            status = await session.write_through(item)
        if status.value:
            effect = "refused"
        elif effect != "ignored" and variable is not None and is_value:
            variable.curve = None  # what was written stays
            if item.Value is not None and item.Value.Value is not None:
                variable.last = item.Value.Value
        name = variable.name if variable is not None else item.NodeId.to_string()
        name += f"[{wanted.IndexRange}]" if wanted.IndexRange else ""
        self.log.note(protocol="opcua", device=self.alias, client=session.client, user=session.user_name,
                      operation="write", host=self.host, port=self.port, quantity=1, exception=status.value,
                      values=((f"{self.alias}/{name}", asked),), effect=effect, fault=met)
        return status

    def _tampered(self, variable: Variable, item: ua.WriteValue) -> tuple[ua.WriteValue, str, str, ua.StatusCode]:
        """The write as faults leave it, its effect, the kind of fault, and a status that refuses."""
        good = ua.StatusCode(ua.UInt32(0))
        fault = self.faults.used("refuse_writes", self.alias, variable.name)
        if fault is not None:
            return item, "refused", fault.kind, status_of(fault.text("code"))
        if self.faults.used("ignore_writes", self.alias, variable.name) is not None:
            return item, "ignored", "ignore_writes", good
        if item.Value is None or item.Value.Value is None:
            return item, "taken", "", good
        value = item.Value.Value.Value
        fault = self.faults.used("clamp_writes", self.alias, variable.name)
        if fault is not None:
            kept = variable.clamped(value, fault.limit("low"), fault.limit("high"))
            return with_value(item, kept), "clamped" if kept != value else "taken", fault.kind, good
        fault = self.faults.used("alter_writes", self.alias, variable.name)
        if fault is not None:
            other = variable.altered(value, fault.number("factor"), fault.number("add"))
            return with_value(item, other), "altered" if other != value else "taken", fault.kind, good
        return item, "taken", "", good

    # -- beginning

    async def _secure(self, server: Server, uri: str) -> OpcUaServer:
        """Give the server what the entry asks for; returns the entry with the client's side of it."""
        entry = self.entry
        wanted, mode = POLICY_URI + POLICIES[entry.security_policy], MODES[entry.security_mode]
        known: dict[ua.SecurityPolicyType, tuple[Any, Any, int]] = dict(SECURITY_POLICY_TYPE_MAP)  # type: ignore[arg-type]
        server.set_security_policy([
            kind for kind, (policy, its_mode, _) in known.items() if (policy.URI, its_mode) == (wanted, mode)
        ])
        token: Any = ua.AnonymousIdentityToken
        if entry.username:
            token = ua.UserNameIdentityToken
        elif entry.user_certificate is not None:
            token = ua.X509IdentityToken
        server.set_identity_tokens([token])
        if entry.user_certificate is not None:
            place = self._make(f"user-{self.index}", f"{SERVER_URI}:user:{self.index}", serves=False)
            entry = replace(entry, user_certificate=place.with_suffix(".der"),
                            user_private_key=place.with_suffix(".pem"))
            internals: Any = server.iserver.user_manager
            internals.certificate = place.with_suffix(".der").read_bytes()
        if POLICIES[entry.security_policy] == NONE:
            return replace(entry, server_certificate=None, client_certificate=None, client_private_key=None,
                           trust_folder=None)
        client_uri = entry.client_app_uri or f"{SERVER_URI}:client:{self.index}"
        own = await self._take_certificate(server, f"server-{self.index}", uri)
        other = self._make(f"client-{self.index}", client_uri, serves=False)
        return replace(entry, client_app_uri=client_uri, server_certificate=own.with_suffix(".der"),
                       client_certificate=other.with_suffix(".der"), client_private_key=other.with_suffix(".pem"),
                       trust_folder=None)

    async def _take_certificate(self, server: Server, name: str, uri: str | None = None) -> Path:
        """Have the server show a certificate of this name, made where there is none."""
        place = self.folder / name
        if not place.with_suffix(".der").exists():
            place = self._make(name, uri or f"{SERVER_URI}:{self.index}", serves=True)
        await server.load_certificate(place.with_suffix(".der"))
        await server.load_private_key(place.with_suffix(".pem"))
        return place

    def _make(self, name: str, uri: str, *, serves: bool) -> Path:
        identity = make_certificate(application_uri=uri, hosts=[self.host], server=serves, client=not serves,
                                    common_name=f"Simulated {self.alias}"[:64])
        place = self.folder / name
        save(identity, place.with_suffix(".der"), place.with_suffix(".pem"))
        return place

    async def _add_nodes(self, server: Server) -> None:
        highest = max((n.namespace_index for n in self.entry.nodes if not n.namespace_uri), default=0)
        for number in range(2, highest + 1):
            await server.register_namespace(NAMESPACE_URI.format(number))
        taken: set[str] = set()
        for place, node in enumerate(self.entry.nodes):
            index = node.namespace_index
            if node.namespace_uri:
                index = await server.register_namespace(node.namespace_uri)
            node_id = ua.NodeId.from_string(f"ns={index};{node.node_id.partition(';')[2]}")
            if node_id in server.iserver.aspace:
                continue  # the standard's own node, or the second entry for one node
            variable = variable_of(node, node_id, place)
            if variable.shape is not None:
                name_apart(variable.shape, taken)
            variable.begin(self.index)
            variable.last = variable.at(0.0)
            self.variables[node_id] = variable
            await self._add(variable)
        self._uris = list(await server.get_namespace_array())

    async def _add(self, variable: Variable) -> None:
        assert self._server is not None
        name = ua.QualifiedName(variable.name, variable.node_id.NamespaceIndex)
        kind = variable.retyped or variable.type
        datatype = None
        if variable.shape is not None and variable.retyped is None:
            await self._add_type(self._server, variable, variable.shape)
            datatype = variable.shape.datatype
        shown = variable.data_value().Value if variable.retyped else variable.last
        objects = self._server.nodes.objects
        made = await objects.add_variable(variable.node_id, name, shown, varianttype=kind, datatype=datatype)
        if variable.node is not None and variable.node.writable:
            await made.set_writable()

    async def _add_type(self, server: Server, variable: Variable, shape: Shape) -> None:
        """Give the server the type of a structure, in the namespace that its variable has now."""
        index = variable.node_id.NamespaceIndex
        if not shape.own or (shape.datatype in server.iserver.aspace and shape.datatype.NamespaceIndex == index):
            return
        await remove_type(server, shape)
        await make_type(server, shape, index)
        variable.last = of_type(shape, variable.last)

    async def _delete(self, variable: Variable) -> None:
        assert self._server is not None
        if variable.node_id in self._server.iserver.aspace:
            await self._server.delete_nodes([self._server.get_node(variable.node_id)])
