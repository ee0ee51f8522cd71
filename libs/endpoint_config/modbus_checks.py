"""What is likely not meant in a Modbus file, seen over several endpoints or units."""

from __future__ import annotations

from collections.abc import Iterable

from .address import TABLES
from .faults import Report, shown
from .models import Fault, ModbusPoint, ModbusServer, ReadFunction


def same_units(servers: Iterable[ModbusServer], *, across_files: bool = False) -> list[Fault]:
    """A warning for each device that is the same unit as an earlier one, of another file only where asked so."""
    first: dict[tuple[object, ...], ModbusServer] = {}
    found: list[Fault] = []
    for server in servers:
        key = (*server.connection[:2], server.unit_id)
        other = first.setdefault(key, server)
        if other is server or (across_files and other.file == server.file):
            continue
        place = f"on line {other.line}" if other.file == server.file else f"in {other.file}:{other.line}"
        found.append(Fault(file=server.file, line=server.line, message=(
            f"device {shown(server.alias)} is unit {server.unit_id} at {server.place}, as is "
            f"{shown(other.alias)} {place}; a unit_id or address of its own for each")))
    return found


def check_points(points: Iterable[ModbusPoint], report: Report) -> None:
    """Warn of writable points that share a register or bit: writing one changes the other."""
    tables: dict[ReadFunction, list[ModbusPoint]] = {}
    for point in points:
        if point.write_function is not None:
            tables.setdefault(point.read_function, []).append(point)
    for table, members in tables.items():
        members.sort(key=lambda p: (p.address, p.line))
        _overlaps(TABLES[table], members, report)


def _overlaps(table: str, points: list[ModbusPoint], report: Report) -> None:
    """Sweep over points by address; each is held against those that have not ended yet."""
    open_points: list[ModbusPoint] = []
    for point in points:
        open_points = [p for p in open_points if p.address + p.registers > point.address]
        other = next((p for p in open_points if _mask(p) & _mask(point)), None)
        if other is not None:
            report.warn(point.line, f"writable point {shown(point.name)} shares {table} {point.address} with "
                        f"{shown(other.name)} on line {other.line}; writing one changes the other")
        if len(open_points) < 64:
            # More at one place would be found again and again: the first of them say it all.
            open_points.append(point)


def _mask(point: ModbusPoint) -> int:
    """Bits of the register that a point writes."""
    if point.bit is None:
        return 0xFFFF
    return ((1 << point.bits) - 1) << point.bit
