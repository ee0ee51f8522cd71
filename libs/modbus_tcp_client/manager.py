"""ModbusClientManager: endpoint files in, polled devices in the segments out."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from acquisition import (
    Health,
    Publisher,
    WritablePoint,
    WriteRequest,
    WriteResult,
    identity_point,
    service_points,
    system_points,
    tls_point,
)
from endpoint_config.models import ConfigError, Fault, ModbusServer
from endpoint_config.transports import Transport
from process_image import Point, Writer

from modbus_tcp_client.client import ModbusTCPClient
from modbus_tcp_client.commands import Ordered, not_polling
from modbus_tcp_client.engine import Engine
from modbus_tcp_client.identities import Identities, ask_all, remembered
from modbus_tcp_client.packets import NO_PACKETS, Listener, Packets
from modbus_tcp_client.plan import PlanError, plan
from modbus_tcp_client.points import image_points
from modbus_tcp_client.write_rules import writable_point

StrPath = str | Path
LONGEST_DEADLINE = 86400.0
"""Seconds; a write that is wanted later than that is another write."""
IDENTITY_SECONDS = 1.0
"""How long devices are asked what they are before the segments are made."""
SPARE_DESCRIPTORS = 256
"""File descriptors left for everything that is no connection."""

_log = logging.getLogger("modbus")


class ModbusClientManager:
    """All Modbus devices of one service; a Producer (see acquisition).

    Order of calls: `load_endpoints_from_xml`, then `points` is complete; `create_clients`, `start_clients`,
    `periodic_read` (blocks), `stop_clients`. A device that is down is no error anywhere: its points are Bad, with the
    reason in `$last_error`, and it comes up by itself.
    """

    service = "modbus"

    def __init__(self, xml_config_path: StrPath | Sequence[StrPath], xsd_path: StrPath | None = None, *,
                 interval: float = 1.0) -> None:
        """Name the endpoint files, one path or several, and the schema (None = the shipped one).

        `interval` (s) is the scan class that the image shows for points whose file names none; give it where
        `periodic_read` will be called with another than 1.0.
        """
        paths = [xml_config_path] if isinstance(xml_config_path, str | Path) else xml_config_path
        self._paths = [Path(path) for path in paths]
        self._xsd = None if xsd_path is None else Path(xsd_path)
        self._label = interval
        self.servers: tuple[ModbusServer, ...] = ()
        """What the files say, after `load_endpoints_from_xml`."""
        self.clients: dict[str, ModbusTCPClient] = {}
        """A synchronous client for each device by alias, not connected, for use beside the polling."""
        self._points: tuple[Point, ...] = ()
        self._engine: Engine | None = None
        self._stopped = False
        self._packets = NO_PACKETS
        self._identities: Identities = {}

    @classmethod
    def from_servers(cls, servers: Sequence[ModbusServer], *, interval: float = 1.0) -> ModbusClientManager:
        """A manager for devices that stand in no file; as if loaded."""
        manager = cls((), interval=interval)
        manager._take(servers)
        return manager

    def load_endpoints_from_xml(self) -> None:
        """Read and check the endpoint files; ConfigError with file and line of every fault."""
        from endpoint_config import load_modbus

        self._take(load_modbus(self._paths, self._xsd))

    def _take(self, servers: Sequence[ModbusServer]) -> None:
        for server in servers:
            try:
                plan(server.points, max_registers=server.max_registers, max_gap=server.max_gap)
            except PlanError as error:
                raise ConfigError((Fault(file=server.file, line=server.line, message=str(error)),)) from error
        self.servers = tuple(servers)
        points: list[Point] = []
        for server in self.servers:
            points += image_points(server, self._label)
            points += system_points(server.alias)
            if server.identify:
                said = self._identities.get(server.alias, ())
                points.append(replace(identity_point(server.alias), extra=said))
            if server.transport is Transport.TLS:
                points.append(tls_point(server.alias, _role(server)))
        points += service_points()
        self._points = tuple(points)

    def learn_identities(self, known: Iterable[Point] = (), seconds: float = IDENTITY_SECONDS) -> None:
        """Ask the devices with `identify` what they are, before the segments are made; it stands in the schema then.

        `known` are the points of the segment of an earlier life, if there is one: who is named there is not asked.
        Takes `seconds` at most; a device that is down is asked at a later start.
        """
        wanted = [server for server in self.servers if server.identify]
        earlier = remembered(known)
        asked = ask_all([server for server in wanted if server.alias not in earlier], seconds)
        self._identities = {**earlier, **asked}
        self._take(self.servers)

    @property
    def points(self) -> Sequence[Point]:
        """Every point that will be published, system points included; empty before loading."""
        return self._points

    def create_clients(self) -> None:
        """Make the clients of all devices; nothing is connected yet."""
        self.clients = {server.alias: ModbusTCPClient.of(server) for server in self.servers}

    def start_clients(self) -> None:
        """Get ready to poll; the connections are made by `periodic_read`, without waiting for any of them."""
        self._stopped = False
        _allow_descriptors(len({s.connection for s in self.servers}) + SPARE_DESCRIPTORS)

    def periodic_read(self, interval: float, shm_list: Sequence[Writer], semaphore_list: Sequence[Any] = ()) -> None:
        """Poll and publish until `stop_clients`; in any thread.

        `interval` (s, 0 = back to back) is for points whose file names none; `semaphore_list` guards the writers of
        `shm_list` pair by pair. ValueError where a writer holds points that are not polled.
        """
        if self._stopped:
            return
        publisher = Publisher(self._points, shm_list, semaphore_list)
        self._engine = Engine(self.servers, publisher, interval=interval, label=self._label,
                              packets=self._packets)
        try:
            if not self._stopped:  # a stop between the two lines above would have found no engine
                self._engine.run()
        finally:
            self._engine = None

    def health(self) -> Health:
        """How the devices are; from any thread."""
        engine = self._engine
        if engine is None:
            return Health(devices=len(self.servers), connected=0, running=False)
        statuses = [unit.status for unit in engine.units]
        silent = [unit.status.last_error for unit in engine.units if not unit.status.connected]
        return Health(
            devices=len(statuses), connected=sum(s.connected for s in statuses), running=True,
            message=next((text for text in silent if text), ""),
        )

    def listen(self, listener: Listener | None, devices: Iterable[str] = ()) -> None:
        """Have `listener` called with each Packet sent or received, of these devices or of all; None ends it.

        Takes effect with the next `periodic_read`. The listener is called in the polling thread and holds it up.
        ValueError for an alias that no device has.
        """
        chosen = frozenset(devices)
        unknown = chosen - {server.alias for server in self.servers}
        if unknown:
            raise ValueError(f"no device {min(unknown)!r}; there are {', '.join(s.alias for s in self.servers)}")
        self._packets = Packets(listener=listener, devices=chosen)

    def writable_points(self) -> tuple[WritablePoint, ...]:
        """Every point that its file marks as writable, with the range that it takes."""
        return tuple(writable_point(s.alias, point) for s in self.servers for point in s.points if point.writable)

    def submit_write(self, request: WriteRequest, done: Callable[[WriteResult], None]) -> None:
        """Have a value written between polls, see acquisition.Writing; from any thread, never blocks.

        `done` is called once, from the polling thread; where nothing is polled, from this one.
        """
        seconds = min(request.deadline, LONGEST_DEADLINE) if request.deadline > 0 else 0.0  # NaN is no time at all
        deadline = time.monotonic_ns() + round(seconds * 1e9)
        engine = self._engine
        if engine is None or not engine.order(Ordered(request, done, deadline)):
            done(not_polling(request.point))

    def stop_clients(self) -> None:
        """End `periodic_read`, from any thread or signal handler; harmless when nothing runs."""
        self._stopped = True
        engine = self._engine
        if engine is not None:
            engine.stop()
        for client in self.clients.values():
            client.close()


def _role(server: ModbusServer) -> str:
    """The role in our certificate for a device."""
    from modbus_tcp_client.tls import role_of

    certificate = server.tls.client_certificate if server.tls is not None else None
    return role_of(certificate) if certificate is not None else ""


def _allow_descriptors(needed: int) -> None:
    """Raise the soft limit of open files where the connections need it; no part of this library uses select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        highest = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, highest), hard))
        if highest < needed:
            _log.warning("not every device may get a connection: this process may open %d files and needs up to %d; "
                         "raise the limit (ulimit -n, systemd: LimitNOFILE)", highest, needed)
