"""Simulated Modbus devices, made from the entries of endpoint files; they answer as the specification says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from endpoint_config.models import ModbusPoint, ModbusServer
from modbus_tcp_client.encode import EncodeError, Value

from cpc.simulators.faults import FaultList, OrderError
from cpc.simulators.modbus_bus import Bus
from cpc.simulators.modbus_functions import Device
from cpc.simulators.modbus_listeners import Listener, listener_for
from cpc.simulators.movements import Movement
from cpc.simulators.request_log import RequestLog


class ModbusSimulator:
    """A listener for each ip:port or serial line of the entries, with a unit for each unit id behind it.

    Ids 0 and 255 reach the unit of a listener that has only one; other unknown ids are answered as a gateway does
    whose device is absent (exception 0B). All methods belong to the event loop that started it.
    """

    def __init__(
        self, servers: Sequence[ModbusServer], *, host: str = "127.0.0.1", port: int = 0, update_interval: float = 1.0,
        faults: FaultList | None = None, log: RequestLog | None = None, folder: Path | None = None,
        real_lines: bool = False, paced: bool = False,
    ) -> None:
        """`port` is the first listener's, the following count on; 0 = any free ones. `update_interval` in seconds.

        `folder` gets the certificates of TLS listeners. Serial lines are pseudo terminals, or with `real_lines` the
        devices that the entries name; `paced` has them answer no faster than their rate lets them.
        """
        self._servers = tuple(servers)
        self._host = host
        self._port = port
        self._update_interval = update_interval
        self._listeners: list[Listener] = []
        self._folder = folder
        self._lines = {"real_lines": real_lines, "paced": paced}
        self.faults = FaultList() if faults is None else faults
        self.log = RequestLog() if log is None else log
        """Every request, in order."""

    async def start(self) -> dict[str, ModbusServer]:
        """Listen; returns by alias the entry by which a client reaches the unit.

        OSError where a port or a line can't be had, with nothing left listening.
        """
        entries: dict[str, ModbusServer] = {}
        groups: dict[tuple[str, str], list[ModbusServer]] = {}
        for server in self._servers:
            groups.setdefault(server.connection[:2], []).append(server)
        port = self._port
        try:
            for members in groups.values():
                bus = Bus(members, len(self._listeners), self._update_interval, self.log, self.faults)
                listener = listener_for(members, bus, self._host, self._folder, **self._lines)
                await listener.open(port)
                self._listeners.append(listener)
                port += bool(port) and not members[0].transport.is_local
                entries.update({member.alias: listener.entry(member) for member in members})
        except BaseException:
            await self.stop()
            raise
        return entries

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
                await listener.open(listener.bus.port)

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
