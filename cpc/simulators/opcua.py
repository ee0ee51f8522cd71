"""Simulated OPC UA servers, made from the entries of an endpoint file: same nodes, same security, moving values."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from endpoint_config import OpcUaServer

from cpc.simulators.faults import FaultList, OrderError
from cpc.simulators.movements import Movement
from cpc.simulators.opcua_device import Device
from cpc.simulators.opcua_types import value_from
from cpc.simulators.opcua_variables import Variable
from cpc.simulators.request_log import RequestLog

_log = logging.getLogger("simulator")


class OpcUaSimulator:
    """One asyncua server for each entry, on ports of its own; `log` says what they were asked."""

    def __init__(self, servers: Sequence[OpcUaServer], *, host: str = "127.0.0.1", port: int = 0,
                 update_interval: float = 1.0, folder: Path, faults: FaultList | None = None,
                 log: RequestLog | None = None, nodesets: Sequence[Path] = ()) -> None:
        """`port` is the first server's, the following ones count on; 0 = any. `folder` gets certificates and keys.

        The nodes of `nodesets` come into the last of the servers.
        """
        self._update_interval = update_interval
        self.faults = FaultList() if faults is None else faults
        self.log = RequestLog() if log is None else log
        """Every request, in order."""
        self._devices = [
            Device(entry=entry, index=index, host=host, port=port + index if port else 0, folder=folder,
                   faults=self.faults, log=self.log, nodesets=nodesets if index == len(servers) - 1 else ())
            for index, entry in enumerate(servers)
        ]
        self._mover: asyncio.Task[None] | None = None
        self._began = 0.0

    async def start(self) -> dict[str, OpcUaServer]:
        """Start every server; returns for each alias the entry by which a client reaches it."""
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        try:
            entries = {device.alias: await device.start() for device in self._devices}
        except BaseException:
            await self.stop()
            raise
        self._began = asyncio.get_running_loop().time()
        self._mover = asyncio.create_task(self._move())
        self._mover.add_done_callback(_tell)
        return entries

    async def stop(self) -> None:
        """Stop every server; harmless when none runs."""
        if self._mover is not None:
            self._mover.cancel()
            with suppress(asyncio.CancelledError):
                await self._mover
            self._mover = None
        for device in self._devices:
            await device.stop()

    async def apply_faults(self) -> None:
        """Have states that faults order begin and end."""
        for device in self._devices:
            await device.apply_faults()

    def values(self) -> Iterator[tuple[str, Any]]:
        """Every node with its value, None while it is Bad or away."""
        for device in self._devices:
            for variable in device.variables.values():
                yield from ((f"{device.alias}/{name}", value) for name, value in variable.shown())

    async def set_value(self, name: str, value: Any) -> None:
        """Have a node hold a value; OrderError where it can't, or where there is no such node."""
        for device, variable in self._named(name):
            variable.last = variable.variant(value_from(variable.type, value))
            variable.curve = None
            await device.show(variable)

    async def set_movement(self, name: str, movement: Movement | None) -> None:
        """Have a node move so, None = as at the start; OrderError where there is no such node."""
        for device, variable in self._named(name):
            if movement is None:
                variable.begin(0)
            else:
                variable.follow(movement, 0)
            variable.last = variable.at(asyncio.get_running_loop().time() - self._began)
            await device.show(variable)

    def point_names(self) -> list[str]:
        """Full names of all nodes."""
        return [f"{device.alias}/{variable.name}" for device in self._devices
                for variable in device.variables.values()]

    def _named(self, name: str) -> Iterator[tuple[Device, Variable]]:
        found = [(d, v) for d in self._devices for v in d.variables.values() if f"{d.alias}/{v.name}" == name]
        if not found:
            raise OrderError(f"no node {name!r}")
        yield from found

    async def _move(self) -> None:
        while True:
            await asyncio.sleep(self._update_interval)
            seconds = asyncio.get_running_loop().time() - self._began
            for device in self._devices:
                if not self.faults.standing("freeze", device.alias):
                    for variable in list(device.variables.values()):
                        if variable.curve is not None:
                            variable.last = variable.at(seconds)
                            await device.show(variable)


def _tell(mover: asyncio.Task[None]) -> None:
    """Values that stand still for a fault of ours must not pass for a plant at rest."""
    if not mover.cancelled() and mover.exception() is not None:
        _log.error("values move no more", exc_info=mover.exception())
