"""Where simulated Modbus devices listen: TCP, TLS, UDP, RTU over TCP, and serial lines."""

from __future__ import annotations

import asyncio
import os
import pty
import socket
import ssl
import struct
import tty
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from endpoint_config.models import ModbusServer
from endpoint_config.transports import SerialLine, TlsSettings, Transport
from modbus_tcp_client.failure import ChannelError
from modbus_tcp_client.serial_port import SerialChannel, open_line

from cpc.simulators.modbus_bus import Bus
from cpc.simulators.modbus_talk import Talk, framing_of

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing resets the connection."""
LOOK_AGAIN = 0.02
"""Seconds between looks whether somebody has opened the other end of a pseudo terminal."""
UDP_CLIENTS = 256
"""Clients that a UDP listener remembers."""


class Listener(Protocol):
    """One place with the units behind it."""

    bus: Bus

    @property
    def listening(self) -> bool:
        """Whether clients are taken."""

    async def open(self, port: int) -> None:
        """Listen, 0 = at any free port; OSError where that can't be had."""

    async def close(self, *, reset: bool = False) -> None:
        """Close it and its connections; harmless when it is closed."""

    def entry(self, server: ModbusServer) -> ModbusServer:
        """The entry by which a client reaches a unit."""


def end(transport: asyncio.Transport, *, reset: bool) -> None:
    """End a connection at once, on wish with a reset."""
    connection = transport.get_extra_info("socket")
    if reset and connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    transport.abort()


class StreamListener:
    """TCP, TLS and RTU over TCP."""

    def __init__(self, bus: Bus, first: ModbusServer, host: str, *, security: ssl.SSLContext | None = None,
                 client_side: TlsSettings | None = None) -> None:
        """`client_side` is what a client of the TLS listener must use."""
        self.bus = bus
        self.first = first
        self._host = host
        self._security = security
        self._client_side = client_side
        self._server: asyncio.Server | None = None
        self.connections: set[asyncio.Transport] = set()

    @property
    def listening(self) -> bool:
        """See Listener."""
        return self._server is not None

    async def open(self, port: int) -> None:
        """See Listener."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self._host, port, ssl=self._security)
        self.bus.host, self.bus.port = self._server.sockets[0].getsockname()[:2]

    async def close(self, *, reset: bool = False) -> None:
        """See Listener."""
        if self._server is None:
            return
        self._server.close()
        for transport in list(self.connections):
            end(transport, reset=reset)
        await self._server.wait_closed()
        self._server = None

    def entry(self, server: ModbusServer) -> ModbusServer:
        """See Listener."""
        return replace(server, ipaddr=self.bus.host, port=self.bus.port, tls=self._client_side)


class _Connection(asyncio.Protocol):
    """One client of a stream."""

    def __init__(self, listener: StreamListener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._talk: Talk | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        self._talk = Talk(self._listener.bus, framing_of(self._listener.first), f"{host}:{port}",
                          write=transport.write, end=self._end, hold=self._hold, user=_role(transport))
        self._listener.connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class's signature
        """End."""
        if self._transport is not None:
            self._listener.connections.discard(self._transport)
        if self._talk is not None:
            self._talk.close()

    def data_received(self, data: bytes) -> None:
        """Something came."""
        assert self._talk is not None
        self._talk.hear(data)

    def _end(self, reset: bool) -> None:
        assert self._transport is not None
        if reset:
            end(self._transport, reset=True)
        else:
            self._transport.close()

    def _hold(self, yes: bool) -> None:
        assert self._transport is not None
        if yes:
            self._transport.pause_reading()
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The client does not read: take no more from it, so that answers do not pile up."""
        if self._talk is not None:
            self._talk.hold("writing", True)

    def resume_writing(self) -> None:
        """It reads again."""
        if self._talk is not None:
            self._talk.hold("writing", False)


def _role(transport: asyncio.BaseTransport) -> str:
    """Who a TLS client is: the common name of its certificate, with its role behind it; else empty."""
    secured = transport.get_extra_info("ssl_object")
    content = secured.getpeercert(binary_form=True) if secured is not None else None
    if not content:
        return ""
    from cpc.simulators.modbus_tls import who

    return who(content)


class UdpListener(asyncio.DatagramProtocol):
    """UDP: each datagram is one request."""

    def __init__(self, bus: Bus, first: ModbusServer, host: str) -> None:
        self.bus = bus
        self._first = first
        self._host = host
        self._transport: asyncio.DatagramTransport | None = None
        self._talks: dict[tuple[str, int], Talk] = {}

    @property
    def listening(self) -> bool:
        """See Listener."""
        return self._transport is not None

    async def open(self, port: int) -> None:
        """See Listener."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self._host, port))
        self._transport = transport
        self.bus.host, self.bus.port = transport.get_extra_info("sockname")[:2]

    async def close(self, *, reset: bool = False) -> None:
        """See Listener."""
        del reset
        for talk in self._talks.values():
            talk.close()
        self._talks.clear()
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def entry(self, server: ModbusServer) -> ModbusServer:
        """See Listener."""
        return replace(server, ipaddr=self.bus.host, port=self.bus.port)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer; a datagram that is no whole frame is nothing."""
        transport = self._transport
        if transport is None:
            return
        talk = self._talks.pop(addr, None)
        if talk is None:
            if len(self._talks) >= UDP_CLIENTS:
                self._talks.pop(next(iter(self._talks))).close()
            talk = Talk(self.bus, framing_of(self._first), f"{addr[0]}:{addr[1]}",
                        write=lambda content: transport.sendto(content, addr),
                        end=lambda _reset: self._forget(addr))
        self._talks[addr] = talk
        talk.hear(data)

    def _forget(self, addr: tuple[str, int]) -> None:
        self._talks.pop(addr, None)


class LineListener:
    """A serial line: a pseudo terminal made for it, or the device that the file names."""

    def __init__(self, bus: Bus, first: ModbusServer, *, real: bool, paced: bool) -> None:
        """`real` takes the file's device; `paced` answers no faster than the line's rate lets it."""
        assert first.serial is not None
        self.bus = bus
        self._first = first
        self._settings: SerialLine = first.serial
        self._real = real
        self._paced = paced
        self._descriptor = -1
        self._channel: SerialChannel | None = None
        self._talk: Talk | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._path = Path()

    @property
    def listening(self) -> bool:
        """See Listener."""
        return self._talk is not None

    async def open(self, port: int) -> None:
        """See Listener; a line has no port."""
        del port
        if self._descriptor < 0:
            self._open_device() if self._real else self._open_terminal()
        else:
            with suppress(OSError):  # what came while the cable was out was never heard
                while os.read(self._descriptor, 4096):
                    pass
        self.bus.host = str(self._path)
        self._talk = Talk(self.bus, framing_of(self._first), str(self._path), write=self._write,
                          end=lambda _reset: None,
                          character_time=self._settings.character_time if self._paced else 0.0)
        asyncio.get_running_loop().add_reader(self._descriptor, self._ready)

    async def close(self, *, reset: bool = False) -> None:
        """See Listener. With `reset` only the cable is out: the terminal stays, for a client must find it again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._talk is not None:
            self._talk.close()
            self._talk = None
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            if reset:
                return
            if self._channel is not None:
                self._channel.close()
                self._channel = None
            else:
                os.close(self._descriptor)
            self._descriptor = -1

    def entry(self, server: ModbusServer) -> ModbusServer:
        """See Listener."""
        assert server.serial is not None
        return replace(server, serial=replace(server.serial, device=self._path))

    def _open_terminal(self) -> None:
        """A pseudo terminal; only its master stays open here, for a client may want the other end for itself alone."""
        master, slave = pty.openpty()
        tty.setraw(slave)
        self._path = Path(os.ttyname(slave))
        os.close(slave)
        os.set_blocking(master, False)
        self._descriptor = master

    def _open_device(self) -> None:
        assert self._settings.device is not None
        self._path = self._settings.device
        try:
            self._channel = open_line(self._settings)
        except ChannelError as fault:
            raise OSError(None, f"{self._path}: {fault.failure.what}; {fault.failure.todo}") from fault
        self._descriptor = self._channel.fileno()

    def _write(self, content: bytes) -> None:
        """What does not fit is lost, as on a line that nobody reads."""
        with suppress(OSError):
            os.write(self._descriptor, content)

    def _ready(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            data = os.read(self._descriptor, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data and self._talk is not None:
            self._talk.hear(data)
        elif not data:
            # Nobody has the other end open: reading would fail at once for ever.
            loop.remove_reader(self._descriptor)
            self._timer = loop.call_later(LOOK_AGAIN, self._listen_again)

    def _listen_again(self) -> None:
        asyncio.get_running_loop().add_reader(self._descriptor, self._ready)


def listener_for(members: Sequence[ModbusServer], bus: Bus, host: str, folder: Path | None, *, real_lines: bool,
                 paced: bool) -> Listener:
    """What serves the entries of one place; `folder` gets the certificates of TLS listeners."""
    first = members[0]
    if first.transport.is_local:
        return LineListener(bus, first, real=real_lines, paced=paced)
    if first.transport is Transport.UDP:
        return UdpListener(bus, first, host)
    if first.transport is not Transport.TLS:
        return StreamListener(bus, first, host)
    from cpc.simulators.modbus_tls import Authority

    if folder is None:
        raise OSError(None, f"{first.alias}: transport tls needs a folder for certificates")
    authority = Authority.at(folder)
    return StreamListener(bus, first, host, security=authority.server_side(host),
                          client_side=authority.client_side())
