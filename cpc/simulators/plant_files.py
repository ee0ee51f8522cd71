"""Which devices a simulated plant has: partition files, endpoint files, point tables and register maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from endpoint_config import ConfigError, Fault, ModbusServer, OpcUaServer, load, load_modbus, load_opcua

from cpc.point_tables import from_csv
from cpc.simulators.orders import Order
from cpc.simulators.register_map import is_register_map, read_register_map


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantFiles:
    """What the files of a plant hold."""

    modbus: tuple[ModbusServer, ...] = ()
    opcua: tuple[OpcUaServer, ...] = ()
    nodesets: tuple[Path, ...] = ()
    orders: tuple[Order, ...] = ()
    """What register maps say of values."""


def load_plant(paths: Sequence[Path]) -> PlantFiles:
    """The devices of all files together; ConfigError with every fault where there is one.

    Modbus aliases are unique over all files, and OPC UA aliases too.
    """
    found = _Found()
    for path in paths:
        found.add(path)
    if found.faults:
        raise ConfigError(tuple(found.faults))
    modbus = (*(load_modbus(found.modbus) if found.modbus else ()), *found.tables)
    opcua = load_opcua(found.opcua) if found.opcua else ()
    if not modbus and not opcua and not found.nodesets:
        fault = Fault(file=paths[0], line=0, message="names no device; name endpoint files in a <service>")
        raise ConfigError((fault,))
    twice = {s.alias: s for s in found.tables if [m.alias for m in modbus].count(s.alias) > 1}
    if twice:
        raise ConfigError(tuple(Fault(file=s.file, line=s.line, message=f"device {alias!r} stands in another file too; "
                                      "an alias of its own") for alias, s in twice.items()))
    return PlantFiles(modbus=modbus, opcua=opcua, nodesets=tuple(found.nodesets), orders=tuple(found.orders))


def is_nodeset(path: Path) -> bool:
    """Whether a file's root element is a UANodeSet; a DOCTYPE makes it none, as entities have no place here."""
    try:
        with path.open("rb") as file:
            head = file.read(65536)
    except OSError:
        return False
    return b"UANodeSet" in head and b"<!DOCTYPE" not in head and b"<!ENTITY" not in head


class _Found:
    """What was found so far."""

    def __init__(self) -> None:
        self.modbus: list[Path] = []
        self.opcua: list[Path] = []
        self.nodesets: list[Path] = []
        self.tables: list[ModbusServer] = []
        self.orders: list[Order] = []
        self.faults: list[Fault] = []

    def add(self, path: Path) -> None:
        """Take one file, by what stands in it."""
        if path.suffix.lower() == ".csv":
            self._add_table(path)
            return
        if is_nodeset(path):
            self.nodesets.append(path)
            return
        file = load(path)
        self.faults += file.faults
        if file.partition is not None:
            for service in file.partition.services:
                # Other producers have no simulated peers here.
                {"modbus": self.modbus, "opcua": self.opcua}.get(service.kind, []).extend(service.files)
        elif file.kind in ("modbus", "opcua"):
            (self.modbus if file.kind == "modbus" else self.opcua).append(path)

    def _add_table(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            what = error.strerror if isinstance(error, OSError) else "no UTF-8"
            self.faults.append(Fault(file=path, line=0, message=f"can't be read: {what}; a readable table in UTF-8"))
            return
        if is_register_map(text):
            servers, orders, faults = read_register_map(text, path)
            self.orders += orders
            self.tables += servers
            self.faults += faults
        else:
            table = from_csv(path)
            self.tables += table.servers
            self.faults += table.faults
