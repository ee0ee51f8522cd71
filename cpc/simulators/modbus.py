"""Simulated Modbus devices, made from the entries of endpoint files; they answer as the specification says."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress

from endpoint_config.models import ModbusPoint, ModbusServer
from modbus_frames import Adu, Splitter, encode_adu
from modbus_tcp_client.encode import EncodeError, Value

from cpc.simulators.faults import FaultList, OrderError
from cpc.simulators.modbus_bus import Bus
from cpc.simulators.modbus_functions import Device
from cpc.simulators.modbus_reply import Reply
from cpc.simulators.movements import Movement
from cpc.simulators.request_log import RequestLog

WAITING = 64
"""Answers that wait on one connection before nothing more is read from it."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing resets the connection."""


class ModbusSimulator:
    """A listener for each ip:port of the entries, with a unit for each unit id behind it.

    Ids 0 and 255 reach the unit of a listener that has only one; other unknown ids are answered as a gateway does
    whose device is absent (exception 0B). All methods belong to the event loop that started it.
    """

    def __init__(
        self, servers: Sequence[ModbusServer], *, host: str = "127.0.0.1", port: int = 0, update_interval: float = 1.0,
        faults: FaultList | None = None, log: RequestLog | None = None,
    ) -> None:
        """`port` is the first listener's, the following count on; 0 = any free ones. `update_interval` in seconds."""
        self._servers = tuple(servers)
        self._host = host
        self._port = port
        self._update_interval = update_interval
        self._listeners: list[_Listener] = []
        self.faults = FaultList() if faults is None else faults
        self.log = RequestLog() if log is None else log
        """Every request, in order."""

    async def start(self) -> dict[str, tuple[str, int]]:
        """Listen; returns (host, port) by alias. OSError where a port can't be had, with nothing left listening."""
        places: dict[str, tuple[str, int]] = {}
        groups: dict[tuple[str, int], list[ModbusServer]] = {}
        for server in self._servers:
            groups.setdefault((server.ipaddr, server.port), []).append(server)
        try:
            for number, members in enumerate(groups.values()):
                bus = Bus(members, len(self._listeners), self._update_interval, self.log, self.faults)
                listener = _Listener(bus)
                self._listeners.append(listener)
                await listener.open(self._host, self._port + number if self._port else 0)
                places.update({member.alias: (bus.host, bus.port) for member in members})
        except BaseException:
            await self.stop()
            raise
        return places

    async def stop(self) -> None:
        """Close every listener and connection; harmless when none is open."""
        while self._listeners:
            await self._listeners.pop().close()

    async def apply_faults(self) -> None:
        """Have every listener be there or not, as the faults that hold now say."""
        for listener in self._listeners:
            away = any(self.faults.standing("refuse", alias) for alias in listener.bus.all_aliases())
            if away and listener.listening:
                await listener.close(reset=True)
            elif not away and not listener.listening:
                await listener.open(listener.bus.host, listener.bus.port)

    def values(self) -> Iterator[tuple[str, Value | None]]:
        """Every point with what a client reads now, None where that is Bad."""
        for alias, device, point in self._points():
            yield f"{alias}/{point.name}", device.unit.value(point)

    async def set_value(self, name: str, value: Value) -> None:
        """Have a point hold a value; OrderError where it can't, or where there is no such point."""
        device, point = self._find(name)
        try:
            device.unit.set_value(point, value)
        except EncodeError as error:
            raise OrderError(f"{name}: {error}") from error

    async def set_movement(self, name: str, movement: Movement | None) -> None:
        """Have a point move so, None = as at the start; OrderError where there is no such point."""
        device, point = self._find(name)
        device.unit.set_movement(point, movement)

    def point_names(self) -> list[str]:
        """Full names of all points."""
        return [f"{server.alias}/{point.name}" for server in self._servers for point in server.points]

    def _find(self, name: str) -> tuple[Device, ModbusPoint]:
        for alias, device, point in self._points(move=False):
            if f"{alias}/{point.name}" == name:
                return device, point
        raise OrderError(f"no point {name!r}")

    def _points(self, *, move: bool = True) -> Iterator[tuple[str, Device, ModbusPoint]]:
        for listener in self._listeners:
            for unit, device in listener.bus.devices.items():
                if move:
                    listener.bus.move(device, listener.bus.aliases[unit])
                for server in device.unit.servers:
                    yield from ((server.alias, device, point) for point in server.points)


class _Listener:
    """One ip:port."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._server: asyncio.Server | None = None
        self.connections: set[asyncio.Transport] = set()

    @property
    def listening(self) -> bool:
        """Whether connections are taken."""
        return self._server is not None

    async def open(self, host: str, port: int) -> None:
        """Listen."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), host, port)
        self.bus.host, self.bus.port = self._server.sockets[0].getsockname()[:2]

    async def close(self, *, reset: bool = False) -> None:
        """Close the listener and its connections."""
        if self._server is None:
            return
        self._server.close()
        for transport in list(self.connections):
            end(transport, reset=reset)
        await self._server.wait_closed()
        self._server = None


def end(transport: asyncio.Transport, *, reset: bool) -> None:
    """End a connection at once, on wish with a reset."""
    connection = transport.get_extra_info("socket")
    if reset and connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    transport.abort()


def encode_tcp(reply: Reply) -> bytes:
    """The frame of Modbus TCP."""
    return encode_adu(reply.transaction, reply.unit, reply.pdu)


class _Connection(asyncio.Protocol):
    """One client; whatever it sends or does not read harms itself alone."""

    def __init__(self, listener: _Listener) -> None:
        self._listener = listener
        self._splitter = Splitter()
        self._transport: asyncio.Transport | None = None
        self._client = ""
        self._waiting: deque[Reply] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername") or ("", 0)
        self._client = f"{peer[0]}:{peer[1]}"
        self._listener.connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class's signature
        """End."""
        if self._transport is not None:
            self._listener.connections.discard(self._transport)
        if self._sender is not None:
            self._sender.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer what is complete, in order; hang up on what is no Modbus TCP."""
        assert self._transport is not None
        ready: list[bytes] = []
        for adu in self._splitter.feed(data):
            reply = self._answer(adu)
            if reply.plain and not self._waiting:
                ready.append(reply.frame(encode_tcp))
            else:
                self._waiting.append(reply)
        if ready:
            self._transport.write(b"".join(ready))
        if self._splitter.error is not None:
            self._transport.close()
        elif self._waiting:
            self._begin_sending()

    def _answer(self, adu: Adu) -> Reply:
        return self._listener.bus.answer(adu, self._client, encode_adu(*adu))

    def _begin_sending(self) -> None:
        assert self._transport is not None
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send())
        if len(self._waiting) > WAITING:
            self._full = True
            self._transport.pause_reading()

    async def _send(self) -> None:
        """Send what waits, one after the other, as a device that works on one request at a time."""
        assert self._transport is not None
        while self._waiting:
            reply = self._waiting[0]
            if reply.wait:
                await asyncio.sleep(reply.wait)
            frame = reply.frame(encode_tcp)
            for piece in [bytes((byte,)) for byte in frame] if reply.pause else [frame]:
                self._transport.write(piece)
                await asyncio.sleep(reply.pause)
            self._waiting.popleft()
            if reply.close == "reset":
                end(self._transport, reset=True)
            elif reply.close:
                self._transport.close()
            if self._full and len(self._waiting) <= WAITING // 2 and not self._transport.is_closing():
                self._full = False
                self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The client does not read: take no more from it, so that answers do not pile up."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        if self._transport is not None and not self._full and not self._transport.is_closing():
            self._transport.resume_reading()
