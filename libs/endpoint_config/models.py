"""What files say, as frozen, typed models; all of them can be had from here.

Parsed once, at the edge: everything behind these models is checked, named, resolved (paths, secrets) and free of XML.
Times are seconds, addresses are zero-based protocol addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .dnp3_models import Dnp3Map, Dnp3Outstation
from .modbus_models import Datatype, ModbusPoint, ModbusServer, ReadFunction, WriteFunction
from .mqtt_models import MqttSource
from .opcua_models import OpcUaNode, OpcUaServer, SecurityMode
from .partition_models import Audience, Partition, Service
from .rule_models import CommandRules
from .secret import Secret

__all__ = [
    "Audience", "ConfigError", "Datatype", "EndpointFile", "Fault", "ModbusPoint", "ModbusServer", "OpcUaNode",
    "OpcUaServer", "Partition", "ReadFunction", "Secret", "SecurityMode", "Service", "WriteFunction",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something wrong (or worth a warning) in a file."""

    file: Path
    line: int
    """1-based; 0 where no line can be named."""
    message: str
    """`what is wrong; what is allowed`."""

    def __str__(self) -> str:
        """The form of every error on stderr: FILE:LINE: message."""
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointFile:
    """One file, read and checked."""

    file: Path
    kind: str
    """`modbus`, `opcua`, `partition`, `rules` or `dnp3-map`; empty where the root element does not tell."""
    modbus: tuple[ModbusServer, ...] = ()
    opcua: tuple[OpcUaServer, ...] = ()
    mqtt: tuple[MqttSource, ...] = ()
    partition: Partition | None = None
    rules: CommandRules | None = None
    dnp3_map: Dnp3Map | None = None
    dnp3: tuple[Dnp3Outstation, ...] = ()
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()

    @property
    def points(self) -> int:
        """Values acquired; neither system points nor `Object` nodes."""
        return (sum(len(s.points) for s in self.modbus) + sum(len(n.points) for s in self.opcua for n in s.nodes)
                + sum(len(u.points) for s in self.mqtt for u in s.units) + sum(len(one.points) for one in self.dnp3))


class ConfigError(Exception):
    """A file can't be used; `faults` says where and why, one line each in str()."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(str(f) for f in faults))
        self.faults = faults
