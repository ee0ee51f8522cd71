"""Register maps: a table of what stands at which address, for a simulated unit whose points nobody has named yet.

Columns `table` (coils, discrete, holding, input), `address` (zero-based) and, all of them optional, `value` (one, or
several for the following addresses with blanks between), `count` (as many addresses), `access` (`r` or `rw`), `moves`
(a movement), `unit` and `device`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from endpoint_config import Fault, ModbusPoint, ModbusServer
from endpoint_config.models import ReadFunction, WriteFunction

from cpc.simulators.faults import OrderError
from cpc.simulators.movements import parse_movement
from cpc.simulators.orders import Order

_TABLES: Mapping[str, tuple[ReadFunction, WriteFunction | None]] = {
    "coils": (ReadFunction.COILS, WriteFunction.SINGLE_COIL),
    "discrete": (ReadFunction.DISCRETE_INPUTS, None),
    "holding": (ReadFunction.HOLDING_REGISTERS, WriteFunction.SINGLE_REGISTER),
    "input": (ReadFunction.INPUT_REGISTERS, None),
}
COLUMNS = ("table", "address", "value", "count", "access", "moves", "unit", "device")


class _RowError(ValueError):
    """What is wrong in a row; what is allowed."""


@dataclass(slots=True)
class _Unit:
    points: dict[str, ModbusPoint] = field(default_factory=dict)
    line: int = 0
    place: str = ""
    """Units with the same one share a listener."""


def is_register_map(text: str) -> bool:
    """Whether a table is one of these and no point table."""
    head = [cell.strip().lower() for cell in next(iter(_reader(text)), [])]
    return "table" in head and "address" in head and "function" not in head


def read_register_map(text: str, file: Path) -> tuple[list[ModbusServer], list[Order], list[Fault]]:
    """The units of a map, the orders that give them their values, and what is wrong, by row.

    A unit is called as `device` says, else as the file, with its id behind where `unit` stands; a point is called
    `holding 40`.
    """
    lines = list(_reader(text))
    head = [cell.strip().lower() for cell in lines[0]]
    units: dict[tuple[str, int], _Unit] = {}
    orders: list[Order] = []
    faults = [Fault(file=file, line=1, message=f"column {name!r} is not known; {', '.join(COLUMNS)}")
              for name in head if name not in COLUMNS]
    for number, cells in enumerate(lines[1:], 2):
        row = {name: cell.strip() for name, cell in zip(head, cells, strict=False)}
        if any(row.values()):
            try:
                _row(row, number, file.stem, units, orders)
            except (_RowError, OrderError) as error:
                faults.append(Fault(file=file, line=number, message=str(error)))
    servers = [
        ModbusServer(alias=name, ipaddr=u.place, unit_id=unit, points=tuple(u.points.values()), file=file, line=u.line)
        for (name, unit), u in units.items()
    ]
    if not servers and not faults:
        faults.append(Fault(file=file, line=1, message="no row; one for each address at least"))
    return servers, orders, faults


def _reader(text: str) -> list[list[str]]:
    head = text.partition("\n")[0]
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count)))


def _row(row: Mapping[str, str], line: int, stem: str, units: dict[tuple[str, int], _Unit],
         orders: list[Order]) -> None:
    table = row.get("table", "").lower()
    if table not in _TABLES:
        raise _RowError(f"column table: {table!r}; {', '.join(_TABLES)}")
    read, write = _TABLES[table]
    writable = _writable(row, write is not None)
    address, unit = _whole(row, "address", 65535), _whole(row, "unit", 255, 1)
    values = [_value(word, is_bits=read.is_bits) for word in row.get("value", "").split()]
    count = _whole(row, "count", 65536 - address, max(len(values), 1))
    values += [values[-1] if values else 0] * (count - len(values))
    base = row.get("device") or stem
    alias = f"{base} {unit}" if row.get("unit") else base
    owner = units.setdefault((alias, unit), _Unit(line=line, place=base))
    moves = row.get("moves", "")
    if moves:
        parse_movement(moves)
    for place, value in enumerate(values, address):
        name = f"{table} {place}"
        if name in owner.points:
            raise _RowError(f"{name} stands twice for unit {unit}; once")
        owner.points[name] = ModbusPoint(name=name, read_function=read, address=place, line=line,
                                         write_function=write if writable else None)
        orders.append(Order("move", {"point": f"{alias}/{name}", "as": moves}) if moves
                      else Order("set", {"point": f"{alias}/{name}", "value": value}))


def _writable(row: Mapping[str, str], possible: bool) -> bool:
    access = row.get("access", "").lower() or ("rw" if possible and not row.get("moves") else "r")
    if access not in ("r", "rw") or (access == "rw" and not possible):
        raise _RowError(f"column access: {access!r}; r{', rw' if possible else ' for this table'}")
    return access == "rw"


def _whole(row: Mapping[str, str], name: str, highest: int, default: int | None = None) -> int:
    text = row.get(name, "")
    if not text and default is not None:
        return default
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= highest:
        raise _RowError(f"column {name}: {text!r}; 0 to {highest}")
    return value


def _value(word: str, *, is_bits: bool) -> int:
    try:
        value = int(word, 0)
    except ValueError:
        value = 1 << 16
    if not -(0 if is_bits else 0x8000) <= value <= (1 if is_bits else 0xFFFF):
        raise _RowError(f"column value: {word!r}; {'0 or 1' if is_bits else '-32768 to 65535'}")
    return value & 0xFFFF
