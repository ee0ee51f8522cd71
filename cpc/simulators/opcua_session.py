"""How a simulated OPC UA server hears its clients: requests are noted, held up or refused, writes tampered with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession


class Owner(Protocol):
    """The device behind the sessions."""

    hung: asyncio.Event
    """Set while the server answers; cleared while it hangs."""

    def pause(self, nodes: list[ua.NodeId]) -> float:
        """Seconds to wait before such a request is answered."""

    def note(self, operation: str, client: str, user: str, nodes: list[ua.NodeId], status: int) -> None:
        """Log a request that does not write."""

    async def write(self, session: SimulatedSession, item: ua.WriteValue) -> ua.StatusCode:
        """Write one attribute for a session, and log it."""


class SimulatedSession(InternalSession):
    """One client's session."""

    owner: Owner | None = None

    @property
    def client(self) -> str:
        """host:port."""
        peer: Any = self.name  # asyncua names a session by its peer's address
        return f"{peer[0]}:{peer[1]}"

    @property
    def user_name(self) -> str:
        """Name that the client logged in with, empty for an anonymous one."""
        return str(getattr(self.user, "name", None) or "")

    async def _hold(self, nodes: list[ua.NodeId]) -> None:
        if self.owner is not None:
            seconds = self.owner.pause(nodes)
            if seconds:
                await asyncio.sleep(seconds)

    async def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        """Read, noted."""
        if self.owner is None:
            return await super().read(params)
        nodes = [item.NodeId for item in params.NodesToRead]
        await self._hold(nodes)
        results = await super().read(params)
        status = next((v.StatusCode.value for v in results if v.StatusCode is not None and v.StatusCode.value), 0)
        self.owner.note("read", self.client, self.user_name, nodes, status)
        return results

    async def write(self, params: ua.WriteParameters) -> list[ua.StatusCode]:
        """Write node by node, each noted."""
        if self.owner is None:
            return await super().write(params)
        await self._hold([item.NodeId for item in params.NodesToWrite])
        return [await self.owner.write(self, item) for item in params.NodesToWrite]

    async def write_through(self, item: ua.WriteValue) -> ua.StatusCode:
        """What asyncua does with a write."""
        (status,) = await super().write(ua.WriteParameters(NodesToWrite=[item]))
        return status

    async def browse(self, params: ua.BrowseParameters) -> list[ua.BrowseResult]:
        """Browse, noted."""
        nodes = [d.NodeId for d in params.NodesToBrowse]
        found: list[ua.BrowseResult] = await self._noted("browse", nodes, super().browse, params)
        return found

    async def call(self, params: list[ua.CallMethodRequest]) -> list[ua.CallMethodResult]:
        """Call methods, noted."""
        nodes = [p.MethodId for p in params]
        called: list[ua.CallMethodResult] = await self._noted("call", nodes, super().call, params)
        return called

    async def create_monitored_items(
        self, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        """Subscribe, noted."""
        nodes = [item.ItemToMonitor.NodeId for item in params.ItemsToCreate]
        made: list[ua.MonitoredItemCreateResult] = await self._noted("subscribe", nodes,
                                                                     super().create_monitored_items, params)
        return made

    async def _noted(self, operation: str, nodes: list[ua.NodeId], work: Callable[[Any], Any], params: Any) -> Any:
        await self._hold(nodes)
        results = await work(params)
        if self.owner is not None:
            bad = next((r.StatusCode.value for r in results if r.StatusCode is not None and r.StatusCode.value), 0)
            self.owner.note(operation, self.client, self.user_name, nodes, bad)
        return results


class SimulatedInternals(InternalServer):
    """asyncua's inner server, with sessions that know their device."""

    owner: Owner | None = None

    def create_session(self, name: str, user: User = User(role=UserRole.Anonymous),  # noqa: B008 - the base's
                       external: bool = False) -> SimulatedSession:
        """A session for a client."""
        session = SimulatedSession(self, self.aspace, self.subscription_service, name, user=user, external=external)
        session.owner = self.owner if external else None
        return session


class _Gate:
    """A transport whose writes wait while the server hangs, and go out afterwards as those of a stopped process do."""

    def __init__(self, transport: Any, hung: asyncio.Event) -> None:
        self._transport = transport
        self._answers = hung
        self._waiting: list[bytes] = []
        self._opener: asyncio.Task[None] | None = None

    def write(self, data: bytes) -> None:
        """Send, or keep for later."""
        if self._answers.is_set() and not self._waiting:
            self._transport.write(data)
            return
        self._waiting.append(data)
        if self._opener is None or self._opener.done():
            self._opener = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        await self._answers.wait()
        while self._waiting:
            self._transport.write(self._waiting.pop(0))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Protocol(OPCUAProtocol):
    """One connection; what comes in waits while the server hangs."""

    answers: asyncio.Event

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        gate: Any = _Gate(transport, self.answers)
        super().connection_made(gate)

    async def _process_one_msg(self, header: Any, buf: Any) -> bool:
        await self.answers.wait()
        return await super()._process_one_msg(header, buf)


class SimulatedBinaryServer(BinaryServer):
    """asyncua's listener, with connections that can hang."""

    answers: asyncio.Event

    def _make_protocol(self) -> OPCUAProtocol:
        made = _Protocol(iserver=self.iserver, policies=self._policies, clients=self.clients,
                         closing_tasks=self.closing_tasks, limits=self.limits)
        made.answers = self.answers
        return made
