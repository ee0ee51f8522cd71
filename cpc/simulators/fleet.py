"""Simulated devices for the servers of endpoint files, of both kinds, on one event loop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from endpoint_config import ModbusServer, OpcUaServer, to_xml

from cpc.simulators.address_space import quick_address_space

if TYPE_CHECKING:
    from cpc.simulators.modbus import ModbusSimulator
    from cpc.simulators.opcua import OpcUaSimulator


@dataclass(slots=True, kw_only=True)
class Fleet:
    """A simulated device for each server."""

    modbus: Sequence[ModbusServer] = ()
    opcua: Sequence[OpcUaServer] = ()
    host: str = "127.0.0.1"
    port: int = 0
    """First port; 0 = any free ones."""
    update_interval: float = 1.0
    """Seconds between changes of the values."""
    folder: Path = Path()
    """Where certificates of simulated OPC UA servers go; should be private."""
    quick: bool = False
    """Whether simulated OPC UA servers may leave out what only a client that browses would miss."""
    _running: list[ModbusSimulator | OpcUaSimulator] = field(default_factory=list)

    async def start(self) -> tuple[ModbusServer | OpcUaServer, ...]:
        """Listen; returns the entries that a client must use instead of the files' own, in file order."""
        entries: list[ModbusServer | OpcUaServer] = []
        port = self.port
        if self.modbus:
            from cpc.simulators.modbus import ModbusSimulator

            units = ModbusSimulator(self.modbus, host=self.host, port=port, update_interval=self.update_interval)
            places = await units.start()
            self._running.append(units)
            entries += [
                replace(server, ipaddr=places[server.alias][0], port=places[server.alias][1])
                for server in self.modbus
            ]
            if port:
                port = max(place[1] for place in places.values()) + 1
        if self.opcua:
            from cpc.simulators.opcua import OpcUaSimulator

            servers = OpcUaSimulator(self.opcua, host=self.host, port=port, update_interval=self.update_interval,
                                     folder=self.folder)
            with quick_address_space() if self.quick else nullcontext():
                replaced = await servers.start()
            self._running.append(servers)
            entries += [replaced[server.alias] for server in self.opcua]
        return tuple(entries)

    async def stop(self) -> None:
        """Close every listener."""
        while self._running:
            await self._running.pop().stop()


def write_entries(entries: Sequence[ModbusServer | OpcUaServer], target: Path) -> None:
    """Write an endpoint file for the entries, readable by its owner alone (it may hold passwords), all at once.

    All must be of one kind.
    """
    modbus = [entry for entry in entries if isinstance(entry, ModbusServer)]
    opcua = [entry for entry in entries if isinstance(entry, OpcUaServer)]
    temporary = target.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_bytes(to_xml(modbus or opcua))
    temporary.replace(target)
