"""Simulated Modbus TCP devices, made from the entries of endpoint files; they answer as the specification says."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import modbus_frames
from endpoint_config.models import ModbusServer
from modbus_frames import Adu, ExceptionCode, ExceptionResponse, FrameError, Splitter

from cpc.simulators.modbus_values import SimulatedUnit

LOG_ENTRIES = 100_000
"""Requests that the log keeps; older ones go."""
WHOLE_DEVICE = (0, 255)
"""Unit ids that mean the device itself (Modbus Messaging on TCP/IP V1.0b, clause 4.4.2)."""


class Served(NamedTuple):
    """One request of the log."""

    time: float
    """Monotonic seconds."""
    host: str
    port: int
    """The listener."""
    unit: int
    """Unit id as asked."""
    function: int
    """Function code as asked."""
    address: int
    """-1 where the request was malformed."""
    quantity: int
    exception: int
    """Exception code answered, 0 for none."""


class ModbusSimulator:
    """A listener for each ip:port of the entries, with a unit for each unit id behind it.

    Ids 0 and 255 reach the unit of a listener that has only one; other unknown ids are answered as a gateway does
    whose device is absent (exception 0B).
    """

    def __init__(
        self, servers: Sequence[ModbusServer], *, host: str = "127.0.0.1", port: int = 0, update_interval: float = 1.0
    ) -> None:
        """`port` is the first listener's, the following count on; 0 = any free ones. `update_interval` in seconds."""
        self._servers = tuple(servers)
        self._host = host
        self._port = port
        self._update_interval = update_interval
        self._listeners: list[_Listener] = []
        self.log: deque[Served] = deque(maxlen=LOG_ENTRIES)
        """Every request answered, in order, the newest LOG_ENTRIES of them."""

    async def start(self) -> dict[str, tuple[str, int]]:
        """Listen; returns (host, port) by alias. OSError where a port can't be had, with nothing left listening."""
        places: dict[str, tuple[str, int]] = {}
        groups: dict[tuple[str, int], list[ModbusServer]] = {}
        for server in self._servers:
            groups.setdefault((server.ipaddr, server.port), []).append(server)
        try:
            for number, members in enumerate(groups.values()):
                listener = _Listener(members, len(self._listeners), self._update_interval, self.log)
                self._listeners.append(listener)
                await listener.open(self._host, self._port + number if self._port else 0)
                places.update({member.alias: (listener.host, listener.port) for member in members})
        except BaseException:
            await self.stop()
            raise
        return places

    async def stop(self) -> None:
        """Close every listener and connection; harmless when none is open."""
        while self._listeners:
            await self._listeners.pop().close()


class _Listener:
    """One ip:port."""

    def __init__(
        self, members: Sequence[ModbusServer], number: int, update_interval: float, log: deque[Served]
    ) -> None:
        by_unit: dict[int, list[ModbusServer]] = {}
        for member in members:
            by_unit.setdefault(member.unit_id, []).append(member)
        self._units = {
            unit: SimulatedUnit(entries, number + i) for i, (unit, entries) in enumerate(by_unit.items())
        }
        self._update_interval = update_interval
        self._log = log
        self._began = time.monotonic()
        self._server: asyncio.Server | None = None
        self.connections: set[asyncio.Transport] = set()
        self.host = ""
        self.port = 0

    async def open(self, host: str, port: int) -> None:
        """Listen."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), host, port)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]

    async def close(self) -> None:
        """Close the listener and its connections."""
        if self._server is None:
            return
        self._server.close()
        for transport in list(self.connections):
            transport.abort()
        await self._server.wait_closed()
        self._server = None

    def answer(self, adu: Adu) -> bytes:
        """The answer frame. Values move when somebody looks, in steps of the update interval."""
        unit = self._units.get(adu.unit)
        if unit is None and adu.unit in WHOLE_DEVICE and len(self._units) == 1:
            (unit,) = self._units.values()
        if unit is None:
            pdu = modbus_frames.exception_response(adu.pdu[0], ExceptionCode.GATEWAY_TARGET_FAILED_TO_RESPOND)
        else:
            now = time.monotonic() - self._began
            unit.move(now // self._update_interval * self._update_interval if self._update_interval > 0 else now)
            pdu = modbus_frames.answer(adu.pdu, unit)
        self._note(adu, pdu)
        return modbus_frames.encode_adu(adu.transaction, adu.unit, pdu)

    def _note(self, adu: Adu, pdu: bytes) -> None:
        address, count = -1, 0
        try:
            request = modbus_frames.parse_request(adu.pdu)
            address, count = request.address, request.count
        except (ExceptionResponse, FrameError):
            pass  # Malformed: the log shows its function and what was answered.
        exception = pdu[1] if pdu[0] & 0x80 else 0
        self._log.append(
            Served(time.monotonic(), self.host, self.port, adu.unit, adu.pdu[0], address, count, exception)
        )


class _Connection(asyncio.Protocol):
    """One client; whatever it sends or does not read harms itself alone."""

    def __init__(self, listener: _Listener) -> None:
        self._listener = listener
        self._splitter = Splitter()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._listener.connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class's signature
        """End."""
        if self._transport is not None:
            self._listener.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        """Answer what is complete, in order; hang up on what is no Modbus TCP."""
        assert self._transport is not None
        answers = [self._listener.answer(adu) for adu in self._splitter.feed(data)]
        if answers:
            self._transport.write(b"".join(answers))
        if self._splitter.error is not None:
            self._transport.close()

    def pause_writing(self) -> None:
        """The client does not read: take no more from it, so that answers do not pile up."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
