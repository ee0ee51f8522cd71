"""What polling an endpoint file takes: its read requests, and whether they fit into their time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from endpoint_config import EndpointFile, Fault, ModbusPoint, ModbusServer, OpcUaNode, OpcUaServer

from cpc.commandline.output import printable

_SHOWN = 6
"""Names of points shown for one request."""

_OPERATIONS = {1: "Read Coils", 2: "Read Discrete Input", 3: "Read Holding Registers", 4: "Read Input Registers"}
"""Function codes in the words of the endpoint files."""

_Point = TypeVar("_Point", ModbusPoint, OpcUaNode)


@dataclass(frozen=True, slots=True)
class Planned:
    """One read request of a round."""

    device: str
    interval: float | None
    """Seconds; None = the run's default."""
    operation: str
    """`Read Holding Registers`, `Read`."""
    address: int | None
    """First register or bit; None for OPC UA."""
    count: int
    points: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As `cpc check --plan --json` shows it."""
        return {"device": self.device, "interval": self.interval, "operation": self.operation,
                "address": self.address, "count": self.count, "points": list(self.points)}

    def __str__(self) -> str:
        """One line for people."""
        every = "default interval" if self.interval is None else f"every {self.interval:g} s"
        where = "" if self.address is None else f" {self.address}..{self.address + self.count - 1}"
        names = ", ".join(printable(name) for name in self.points[:_SHOWN])
        more = f", and {len(self.points) - _SHOWN} more" if len(self.points) > _SHOWN else ""
        return f"{printable(self.device)}: {every}: {self.operation}{where} ({self.count}): {names}{more}"


def requests(file: EndpointFile) -> tuple[list[Planned], list[Fault]]:
    """Every read request of a round of all devices, in file order, by scan class; and faults that allow no plan."""
    planned: list[Planned] = []
    faults: list[Fault] = []
    if file.modbus:
        from modbus_tcp_client.plan import PlanError

        for server in file.modbus:
            try:
                planned += _modbus(server)
            except PlanError as error:
                faults.append(Fault(file=server.file, line=server.line, message=str(error)))
    for opcua in file.opcua:
        planned += _opcua(opcua)
    return planned, faults


def _modbus(server: ModbusServer) -> list[Planned]:
    from modbus_tcp_client.plan import plan

    return [
        Planned(server.alias, interval, _OPERATIONS[request.function], request.address, request.count,
                tuple(points[i].name for i in request.points))
        for interval, points in _by_interval(server.points, server.interval)
        for request in plan(points, max_registers=server.max_registers, max_gap=server.max_gap)
    ]


def _opcua(server: OpcUaServer) -> Iterator[Planned]:
    for interval, nodes in _by_interval(server.nodes, server.interval):
        for start in range(0, len(nodes), server.chunk):
            part = nodes[start : start + server.chunk]
            names = tuple(point.name for node in part for point in node.points)
            yield Planned(server.alias, interval, "Read", None, len(part), names)


def _by_interval(
    points: Iterable[_Point], default: float | None
) -> list[tuple[float | None, list[_Point]]]:
    classes: dict[float | None, list[_Point]] = {}
    for point in points:
        classes.setdefault(default if point.interval is None else point.interval, []).append(point)
    return list(classes.items())


def feasibility(file: EndpointFile, default_interval: float = 1.0) -> list[Fault]:
    """Warnings for connections that can't be polled in the time given, or hardly."""
    if not file.modbus:
        return []
    from modbus_tcp_client import feasibility as loads

    return [
        Fault(file=load.servers[0].file, line=load.servers[0].line, message=str(load))
        for load in loads(file.modbus, default_interval) if load.is_tight
    ]


def feasibility_together(files: Iterable[EndpointFile], default_interval: float = 1.0) -> list[Fault]:
    """The same for connections and lines that several files of a service share."""
    from modbus_tcp_client import feasibility as loads

    servers = [server for file in files for server in file.modbus]
    return [
        Fault(file=load.servers[0].file, line=load.servers[0].line, message=f"{load} (units of several files)")
        for load in loads(servers, default_interval)
        if load.is_tight and len({server.file for server in load.servers}) > 1
    ]


def tls_files(file: EndpointFile) -> list[Fault]:
    """Warnings for certificates and keys of Modbus over TLS that can't be used, or not for long; each file once."""
    found: dict[str, Fault] = {}
    for server in file.modbus:
        if server.tls is not None:
            from modbus_tcp_client.tls import troubles

            for text in troubles(server.tls):
                found.setdefault(text, Fault(file=server.file, line=server.line, message=f"{server.alias}: {text}"))
    return list(found.values())
