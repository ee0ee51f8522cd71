"""Point tables: Modbus endpoint files as CSV and back, because engineers live in spreadsheets.

One row is one endpoint; the settings of its server stand in every row, so that rows can be sorted and filtered. What
a cell may hold is decided where XML is read: a table is turned into an endpoint file, loaded, and each fault is led
back to its row and column.
"""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from endpoint_config import Datatype, Fault, ModbusPoint, ModbusServer, load
from endpoint_config.endpoint import FUNCTIONS
from endpoint_config.values import escape
from endpoint_config.writing import transport_texts

TRANSPORT_COLUMNS = (
    "transport", "device", "baudrate", "parity", "stopbits", "databits", "interframe_delay", "turnaround_delay",
    "rs485", "echo", "ca_certificate", "client_certificate", "client_private_key", "server_name",
)
SERVER_COLUMNS = (
    "serveralias", "ipaddr", "port", *TRANSPORT_COLUMNS,
    "unit_id", "server_interval", "timeout", "retries", "retry_interval", "delay", "max_registers", "max_gap",
    "in_flight", "accept_unit_id", "accept_transaction_zero", "identify", "server_description",
)
"""Columns that say something of the server; `server_` tells two of them from an endpoint's."""
POINT_COLUMNS = (
    "name", "function", "address", "quantity", "offset", "datatype", "order", "scale", "valueoffset", "scalefactor",
    "unit", "minimum", "maximum", "invalid", "enum", "interval", "bits",
    "verify", "allow_rmw", "step", "max_step", "moves", "description",
)
"""Columns of an endpoint, called as its elements."""
COLUMNS = SERVER_COLUMNS + POINT_COLUMNS
IMPORT_ONLY = ("addressing", "type")
"""Columns that an import takes too; a model does not keep them."""
REQUIRED = ("serveralias", "name", "function", "address")
PLACES = ("ipaddr", "device")
"""Columns of which a table needs at least one."""
DELIMITERS = ",;\t"
"""What may stand between cells; the header row tells which."""

_FUNCTION_NAMES = {codes: name for name, codes in reversed(FUNCTIONS.items())}
_REQUIRED_ELEMENTS = {"port": "502", "quantity": "1", "offset": "-1", "type": "", "description": ""}
"""Elements of the first generation, with what an empty cell means."""
_OWN_NAMES = {"server_interval": "interval", "server_description": "description"}
"""Elements of a server whose columns are called otherwise."""
_SERVER_HEAD = ("ipaddr", "port", "serveralias")
_POINT_HEAD = ("name", "function", "address", "quantity", "offset", "type", "description")
_SETTINGS = (*SERVER_COLUMNS[1:], "addressing")
"""Columns that must not differ between the rows of a device."""
_FORMULA = ("=", "+", "-", "@", "'")
"""How a text begins that a spreadsheet takes for a formula, or that is marked for not being one."""
_ON_LINE = re.compile(r"on line (\d+)")
_TEXTS = frozenset(["serveralias", "server_description", "name", "unit", "enum", "description"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """What a table says; `line` of the faults and warnings is the row in the spreadsheet, the header being row 1."""

    servers: tuple[ModbusServer, ...] = ()
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()


# ---------------------------------------------------------------- out


def to_csv(servers: Iterable[ModbusServer]) -> str:
    """The table of these servers: a header and one row a point. Cells that would say the default stay empty.

    A text that a spreadsheet would take for a formula gets an apostrophe before it, which the import takes away.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for server in servers:
        head = _server_cells(server)
        for point in server.points:
            cells = head | _point_cells(point)
            writer.writerow({
                column: f"'{text}" if column in _TEXTS and text.startswith(_FORMULA) else text
                for column, text in cells.items()
            })
    return out.getvalue()


def _server_cells(server: ModbusServer) -> dict[str, str]:
    return {
        "serveralias": server.alias,
        "ipaddr": escape(server.ipaddr),
        "port": str(server.port or ""),
        **transport_texts(server),
        "unit_id": str(server.unit_id),
        "server_interval": _number(server.interval),
        "timeout": _unless(1.0, server.timeout),
        "retries": _unless(0, server.retries),
        "retry_interval": _unless(30.0, server.retry_interval),
        "delay": _unless(0.0, server.delay),
        "max_registers": _unless(125, server.max_registers),
        "max_gap": _unless(0, server.max_gap),
        "in_flight": _unless(1, server.in_flight),
        "accept_unit_id": "any" if server.accept_any_unit_id else "",
        "accept_transaction_zero": "true" if server.accept_transaction_zero else "",
        "identify": "true" if server.identify else "",
        "server_description": server.description,
    }


def _point_cells(point: ModbusPoint) -> dict[str, str]:
    return {
        # Reading puts a `$` before a name that begins with one.
        "name": point.name.removeprefix("$") if point.name.startswith("$$") else point.name,
        "function": _FUNCTION_NAMES[point.read_function, point.write_function],
        "address": str(point.address),
        "quantity": str(point.registers),
        "offset": "" if point.bit is None else str(point.bit),
        "datatype": point.datatype.value,
        "order": _unless("ABCD", point.order),
        "scale": _unless(1.0, point.scale),
        "valueoffset": _unless(0.0, point.valueoffset),
        "scalefactor": "" if point.scalefactor is None else str(point.scalefactor),
        "unit": point.unit,
        "minimum": _number(point.minimum),
        "maximum": _number(point.maximum),
        "invalid": " ".join([f"{bits:#x}" for bits in point.invalid] + ["NaN"] * point.invalid_nan),
        "enum": "; ".join(f"{value}={_protected(text)}" for value, text in point.enum),
        "interval": _number(point.interval),
        "bits": str(point.bits) if point.datatype is Datatype.BITFIELD else "",
        "verify": "" if point.verify else "none",
        "allow_rmw": "true" if point.allow_rmw else "",
        "step": _number(point.step),
        "max_step": _number(point.max_step),
        "moves": point.moves,
        "description": point.description,
    }


def _number(value: float | None) -> str:
    """A number that reads back as the same double, without exponent; empty for None."""
    if value is None:
        return ""
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _unless(default: object, value: float | str) -> str:
    if value == default:
        return ""
    return value if isinstance(value, str) else _number(value)


def _protected(text: str) -> str:
    """A text of an enumeration with what separates texts marked."""
    return text.replace("\\", "\\\\").replace(";", "\\;")


# ---------------------------------------------------------------- in


def from_csv(path: Path) -> Imported:
    """The servers of a table; what is wrong names row and column, never raises for what the file holds."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        return _refused(path, 0, f"can't be read: {error.strerror or error}; a readable CSV file")
    except UnicodeDecodeError as error:
        row = error.object[: error.start].count(b"\n") + 1
        return _refused(path, row, "characters are not UTF-8; save the table as CSV UTF-8")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True))
    except csv.Error as error:
        return _refused(path, 0, f"is no CSV table: {error}; cells in quotes where they hold quotes or line breaks")
    table = _Table(path, rows)
    return table.read()


def _refused(path: Path, row: int, message: str) -> Imported:
    return Imported(faults=(Fault(file=path, line=row, message=message),))


def _delimiter(text: str) -> str:
    """The one that stands most often in the header row."""
    header = text.partition("\n")[0]
    return max(DELIMITERS, key=header.count)


class _Table:
    """One table on its way to servers."""

    def __init__(self, path: Path, rows: Sequence[Sequence[str]]) -> None:
        self._path = path
        self._header = [cell.strip() for cell in rows[0]] if rows else []
        self._body = [(number, row) for number, row in enumerate(rows[1:], 2) if any(cell.strip() for cell in row)]
        self._faults: list[Fault] = []

    def read(self) -> Imported:
        """Faults of the table itself first; only a sound one is read as endpoints."""
        self._check_header()
        devices: dict[str, _Device] = {}
        if not self._faults:
            for number, row in self._body:
                self._take(number, row, devices)
            for device in devices.values():
                if not any(column in device.settings for column in PLACES):
                    self._fault(device.rows[0][0], "ipaddr", "is empty in all rows of this device; an address, or a "
                                "serial line in column device, in one")
            if not self._body:
                self._fault(1, "", "the table has no rows; a row for each endpoint")
        if self._faults:
            return Imported(faults=tuple(self._faults))
        return self._load(list(devices.values()))

    def _fault(self, row: int, column: str, message: str) -> None:
        where = f"column {column}: " if column else ""
        self._faults.append(Fault(file=self._path, line=row, message=where + message))

    def _check_header(self) -> None:
        known = (*COLUMNS, *IMPORT_ONLY)
        for column in dict.fromkeys(self._header):
            if column not in known:
                self._fault(1, column or "''", f"no such column; {', '.join(known)}")
            elif self._header.count(column) > 1:
                self._fault(1, column, "stands twice; once at most")
        for column in REQUIRED:
            if column not in self._header:
                self._fault(1, column, f"is missing; needed are {', '.join(REQUIRED)}, and ipaddr or device")
        if not any(column in self._header for column in PLACES):
            self._fault(1, "ipaddr", f"is missing; needed are {', '.join(REQUIRED)}, and ipaddr or device")

    def _take(self, number: int, row: Sequence[str], devices: dict[str, _Device]) -> None:
        if any(cell.strip() for cell in row[len(self._header) :]):
            self._fault(number, "", f"has {len(row)} cells, the header {len(self._header)}; a text with a delimiter "
                        "in it needs quotes")
            return
        cells = {column: _cell(column, text) for column, text in zip(self._header, row, strict=False)}
        if not cells.get("serveralias"):
            self._fault(number, "serveralias", "is empty; the device's name in every row")
            return
        for column, text in cells.items():
            if wrong := next((c for c in text if c < " " and c not in "\t\r\n"), None):
                self._fault(number, column, f"holds the control character {wrong!r}; visible characters")
        device = devices.setdefault(cells["serveralias"], _Device())
        for column in _SETTINGS:
            self._agree(number, column, cells.get(column, ""), device)
        device.rows.append((number, cells))

    def _agree(self, number: int, column: str, text: str, device: _Device) -> None:
        """A setting of the server may be left out in all rows but one, and must not differ."""
        if not text:
            return
        row, first = device.settings.setdefault(column, (number, text))
        if first != text:
            self._fault(number, column, f"is {text!r}, but {first!r} in row {row} of the same device; the same in both")

    def _load(self, devices: Sequence[_Device]) -> Imported:
        """By way of a file, so that every rule of endpoint files holds."""
        lines, places = _as_xml(devices)
        with tempfile.TemporaryDirectory(prefix="cpc-import-") as folder:
            file = Path(folder) / "table.xml"
            file.write_text("\n".join(lines), encoding="utf-8", newline="")
            loaded = load(file)
        place = self._placed(places, file)
        return Imported(
            servers=() if loaded.faults else tuple(
                replace(server, file=self._path, line=_row(places, server.line),
                        points=tuple(replace(p, line=_row(places, p.line)) for p in server.points))
                for server in loaded.modbus
            ),
            faults=tuple(map(place, loaded.faults)), warnings=tuple(map(place, loaded.warnings)),
        )

    def _placed(self, places: dict[int, tuple[int, str]], file: Path) -> Callable[[Fault], Fault]:
        """A function that leads a fault of the file back to its row and column."""

        def place(fault: Fault) -> Fault:
            row, column = places.get(fault.line, (0, ""))
            message = _ON_LINE.sub(lambda m: f"in row {_row(places, int(m[1]))}", fault.message)
            where = f"column {column}: " if column else ""
            return replace(fault, file=self._path, line=row, message=where + message.replace(str(file), "the table"))

        return place


class _Device:
    """The rows of one server, and what they say of it."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, str]]] = []
        self.settings: dict[str, tuple[int, str]] = {}
        """Row and text by column."""


def _row(places: dict[int, tuple[int, str]], line: int) -> int:
    return places.get(line, (0, ""))[0]


def _cell(column: str, text: str) -> str:
    """The text of a cell, without white space around it (a no-break space is none) and without our own mark."""
    text = text.strip(" \t\r\n")
    return text[1:] if column in _TEXTS and text.startswith("'") and text[1:].startswith(_FORMULA) else text


def _as_xml(devices: Sequence[_Device]) -> tuple[list[str], dict[int, tuple[int, str]]]:
    """The lines of an endpoint file with one cell a line, and row and column by line."""
    lines = ["<modbus-servers>"]
    places: dict[int, tuple[int, str]] = {}

    def add(text: str, row: int, column: str = "") -> None:
        lines.append(text)
        places[len(lines)] = row, column

    for device in devices:
        row, first = device.rows[0]
        settings = device.settings | {"serveralias": (row, first["serveralias"])}
        add("<server>", row)
        for column in _SERVER_HEAD:
            if column not in settings and ("device" in settings or ("transport" in settings and column == "port")):
                continue
            where, text = settings.get(column, (row, _REQUIRED_ELEMENTS.get(column, "")))
            add(_element(column, text), where, column)
        lines.append("<endpoints>")
        for number, cells in device.rows:
            add("<endpoint>", number)
            for column, element in _point_elements(cells):
                add(element, number, column)
            lines.append("</endpoint>")
        lines.append("</endpoints>")
        for column in settings:
            if column not in _SERVER_HEAD:
                where, text = settings[column]
                add(_element(_OWN_NAMES.get(column, column), text), where, column)
        lines.append("</server>")
    return [*lines, "</modbus-servers>", ""], places


def _point_elements(cells: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Column and element of one endpoint, in the order that the schema wants."""
    for column in _POINT_HEAD:
        yield column, _element(column, cells.get(column) or _REQUIRED_ELEMENTS.get(column, ""))
    for column in POINT_COLUMNS:
        text = cells.get(column, "")
        if column in _POINT_HEAD or not text:
            continue
        if column == "enum":
            for value, label in _enum(text):
                yield column, _element("enum", label, value)
        else:
            yield column, _element(column, text)


def _enum(text: str) -> Iterator[tuple[str, str]]:
    """`0=Off; 1=On` as pairs; a backslash keeps what follows it from separating."""
    parts = [""]
    marked = False
    for letter in text:
        if marked or letter not in "\\;":
            parts[-1] += letter
            marked = False
        elif letter == "\\":
            marked = True
        else:
            parts.append("")
    for part in parts:
        if part.strip():
            value, _, label = part.partition("=")
            yield value.strip(), label.strip()


def _element(name: str, text: str, value: str | None = None) -> str:
    """One element on one line."""
    attribute = "" if value is None else f' value="{_escaped(value)}"'
    return f"<{name}{attribute}>{_escaped(text)}</{name}>"


def _escaped(text: str) -> str:
    """Text for XML; line breaks as references, so that a cell stays one line."""
    marks: dict[str, Any] = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;", "\r": "&#13;",
                             "\t": "&#9;"}
    return "".join(marks.get(letter, letter) for letter in text)
