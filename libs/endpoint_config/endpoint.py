"""One endpoint of a Modbus unit as the points it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .address import HIGHEST, TABLES, modicon, zero_based
from .faults import Report, shown
from .models import Datatype, ModbusPoint, ReadFunction, WriteFunction
from .raw import FLOATS, TEXTS, RawValueError, number, pattern
from .values import Entry

FUNCTIONS: dict[str, tuple[ReadFunction, WriteFunction | None]] = {
    "Read Coils": (ReadFunction.COILS, None),
    "Read Coil Status": (ReadFunction.COILS, None),
    "Read Discrete Input": (ReadFunction.DISCRETE_INPUTS, None),
    "Read Holding Registers": (ReadFunction.HOLDING_REGISTERS, None),
    "Read Input Registers": (ReadFunction.INPUT_REGISTERS, None),
    "Write Single Coil": (ReadFunction.COILS, WriteFunction.SINGLE_COIL),
    "Write Multiple Coils": (ReadFunction.COILS, WriteFunction.MULTIPLE_COILS),
    "Write Single Register": (ReadFunction.HOLDING_REGISTERS, WriteFunction.SINGLE_REGISTER),
    "Write Multiple Holding Registers": (ReadFunction.HOLDING_REGISTERS, WriteFunction.MULTIPLE_REGISTERS),
}
"""What reads and what writes, by the name of the function in the file."""

_BITS_TYPES = frozenset([Datatype.BOOL, Datatype.BITFIELD])
_NO_NUMBER = frozenset([Datatype.BOOL, *TEXTS])
_REGISTER_ONLY = ("order", "scale", "valueoffset", "scalefactor", "minimum", "maximum", "bits")
_NUMBER_ONLY = ("scale", "valueoffset", "scalefactor", "minimum", "maximum")
_ONE_REGISTER_ORDER = {"CDAB": "ABCD", "DCBA": "BADC"}
REPEATABLE = frozenset(["enum"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """What the server's settings mean for its endpoints."""

    modicon: bool = False
    max_registers: int = 125


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """Where the values of an endpoint lie."""

    datatype: Datatype
    address: int
    registers: int
    count: int
    bit: int | None
    bits: int


class EndpointReader:
    """Reads one endpoint element; `points` is what it stands for, empty where it has a fault."""

    def __init__(self, element: Any, report: Report, unit: Unit) -> None:
        self.entry = Entry(element, report, REPEATABLE)
        self._unit = unit
        self._texts = self.entry.texts
        self.read, self.write = FUNCTIONS.get(self._texts.get("function", ""), (ReadFunction.COILS, None))

    def points(self, name: str) -> list[ModbusPoint]:
        """The points, named `name` or `name[0]` and on."""
        layout = self._layout()
        if layout is None:
            return []
        shared: dict[str, Any] = {
            "read_function": self.read, "write_function": self.write, "registers": layout.registers, "bit": layout.bit,
            "bits": layout.bits, "datatype": layout.datatype, "description": self._texts.get("description", ""),
            "line": self.entry.line(),
        }
        if len(self._texts) > 7 or self.entry.repeated:
            shared.update(self._newer(layout))
        if layout.count == 1:
            return [ModbusPoint(name=name, address=layout.address, **shared)]
        return [ModbusPoint(name=f"{name}[{i}]", address=layout.address + i * layout.registers, **shared)
                for i in range(layout.count)]

    # -- where the values lie

    def _layout(self) -> _Layout | None:
        address = self._address("address")
        offset = self.entry.integer("offset", -1)
        datatype = self._datatype(offset)
        if address is None or datatype is None:
            return None
        quantity = self.entry.integer("quantity", 1)
        bit = offset if datatype in _BITS_TYPES and offset >= 0 and not self.read.is_bits else None
        bits = self.entry.integer("bits", 1) if datatype is Datatype.BITFIELD else 1
        registers, count = self._extent(datatype, quantity)
        if not registers:
            return None
        if address + registers * count > HIGHEST + 1:
            what = "bits" if self.read.is_bits else "registers"
            self.entry.fault("quantity", f"address {address} and {registers * count} {what} end beyond 65535; "
                             f"at most {HIGHEST + 1 - address} from this address on")
            return None
        return _Layout(datatype=datatype, address=address, registers=registers, count=count, bit=bit, bits=bits)

    def _address(self, tag: str) -> int | None:
        return modicon(self.entry, tag, self.read) if self._unit.modicon else zero_based(self.entry, tag)

    def _datatype(self, offset: int) -> Datatype | None:
        """The data type, checked against function and bit offset."""
        text = self._texts.get("datatype")
        if self.read.is_bits:
            return self._bit_table(text, offset)
        if not -1 <= offset <= 15:
            self.entry.fault("offset", f"offset {offset} is no bit of a register; a bit from 0 to 15, or -1 for the "
                             "whole register")
            return None
        if text is None:
            return Datatype.UINT16 if offset < 0 else Datatype.BOOL
        datatype = Datatype(text) if text in list(Datatype) else Datatype.UINT16
        if offset >= 0 and datatype not in _BITS_TYPES:
            self.entry.fault("offset", f"offset {offset} names a bit, but datatype is {datatype}; -1 for the whole "
                             "register, or datatype bool or bitfield")
            return None
        if datatype is Datatype.BITFIELD and not self._bitfield(offset):
            return None
        return datatype

    def _bit_table(self, text: str | None, offset: int) -> Datatype | None:
        table = TABLES[self.read]
        if text not in (None, "bool"):
            self.entry.fault("datatype", f"datatype {shown(text)} does not fit a {table}; bool, or a register function")
            return None
        if offset > 0:
            self.entry.warn("offset", f"offset {offset} means nothing for a {table}; -1")
        return Datatype.BOOL

    def _bitfield(self, offset: int) -> bool:
        if "bits" not in self._texts or offset < 0:
            missing = "bits" if offset >= 0 else "a bit offset"
            self.entry.fault("datatype", f"bitfield without {missing}; offset names its first bit, bits its width")
            return False
        bits = self.entry.integer("bits", 1)
        if offset + bits > 16:
            self.entry.fault("bits", f"{bits} bits from bit {offset} on leave the register; at most {16 - offset}")
            return False
        return True

    def _extent(self, datatype: Datatype, quantity: int) -> tuple[int, int]:
        """Registers of a value and number of values; (0, 0) and a fault where the quantity fits neither."""
        if datatype in TEXTS:
            size, count = quantity, 1
        else:
            if "datatype" not in self._texts or self.read.is_bits:
                return 1, quantity
            size = datatype.registers
            if size == 1:
                return 1, quantity
            count = 1 if quantity in (1, size) else quantity // size
            if quantity != 1 and quantity % size:
                self.entry.fault("quantity", f"quantity {quantity} is not a multiple of the {size} registers of "
                                 f"{datatype}; {size} for one value, {2 * size} for two")
                return 0, 0
        if size > self._unit.max_registers:
            self.entry.fault("quantity", f"{datatype} of {size} registers does not fit one request; at most "
                             f"{self._unit.max_registers} (max_registers)")
            return 0, 0
        if size > 1 and self.write is WriteFunction.SINGLE_REGISTER:
            self.entry.fault("function", f"Write Single Register writes one register, {datatype} takes {size}; "
                             "Write Multiple Holding Registers")
            return 0, 0
        return size, count

    # -- what the newer elements say

    def _newer(self, layout: _Layout) -> dict[str, Any]:
        datatype, texts, entry = layout.datatype, self._texts, self.entry
        for tag in self._idle(datatype):
            kind = f"a {TABLES[self.read]}" if self.read.is_bits else f"datatype {datatype}"
            entry.fault(tag, f"{tag} does not fit {kind}; leave it out")
        if "moves" in texts and datatype in TEXTS:
            entry.fault("moves", f"moves does not fit datatype {datatype}, which stands still; leave it out")
        low, high = entry.limits()
        scale = entry.number("scale")
        if scale == 0:
            entry.fault("scale", "scale is 0; any other number")
        invalid, nan = self._invalid(layout)
        return {
            "order": self._order(layout),
            "scale": 1.0 if scale is None else scale,
            "valueoffset": entry.number("valueoffset") or 0.0,
            "scalefactor": self._address("scalefactor") if "scalefactor" in texts else None,
            "unit": texts.get("unit", ""),
            "minimum": low,
            "maximum": high,
            "invalid": invalid,
            "invalid_nan": nan,
            "enum": self._enum(layout),
            "interval": entry.interval(),
            "moves": " ".join(texts.get("moves", "").split()),
            **self._writing(datatype),
        }

    def _writing(self, datatype: Datatype) -> dict[str, Any]:
        """What the elements say that concern writing alone."""
        entry = self.entry
        for tag in ("verify", "allow_rmw", "step", "max_step"):
            if tag in self._texts and self.write is None:
                entry.fault(tag, f"{tag} concerns writing, and {shown(self._texts['function'])} only reads; a write "
                            "function, or leave it out")
        step, most = entry.number("step"), entry.number("max_step")
        for tag, value in (("step", step), ("max_step", most)):
            if value is not None and (datatype in _NO_NUMBER or self.read.is_bits):
                entry.fault(tag, f"{tag} does not fit {datatype}; leave it out")
            elif value is not None and value <= 0:
                entry.fault(tag, f"{tag} {shown(self._texts[tag])} is not above 0; a number above 0")
        return {"verify": self._texts.get("verify") != "none", "allow_rmw": entry.flag("allow_rmw"), "step": step,
                "max_step": most}

    def _idle(self, datatype: Datatype) -> list[str]:
        """Elements given that mean nothing for this type."""
        if self.read.is_bits:
            idle: tuple[str, ...] = _REGISTER_ONLY
        elif datatype in _NO_NUMBER:
            idle = (*_NUMBER_ONLY, "bits")
        else:
            idle = () if datatype is Datatype.BITFIELD else ("bits",)
        return [tag for tag in idle if tag in self._texts]

    def _order(self, layout: _Layout) -> str:
        order = self._texts.get("order") or "ABCD"
        # A text is a row of single registers: only the bytes within each can be swapped.
        if layout.registers == 1 or layout.datatype in TEXTS:
            same = _ONE_REGISTER_ORDER.get(order)
            if same:
                self.entry.warn("order", f"order {order} swaps registers, but {layout.datatype} is read register by "
                                f"register; taken as {same}; ABCD or BADC")
                return same
        return order

    def _invalid(self, layout: _Layout) -> tuple[tuple[int, ...], bool]:
        found: list[int] = []
        nan = False
        # A bool of a whole register is true for any bit: the raw value has sixteen.
        whole = layout.datatype is Datatype.BOOL and layout.bit is None and not self.read.is_bits
        bits = 16 if whole else layout.bits
        for text in self._texts.get("invalid", "").split():
            if text.lower() == "nan":
                nan = True
                if layout.datatype not in FLOATS:
                    self.entry.fault("invalid", f"invalid NaN does not fit {layout.datatype}; a floating type")
                continue
            try:
                found.append(pattern(text, layout.datatype, bits))
            except RawValueError as error:
                self.entry.fault("invalid", f"invalid {error}")
        return tuple(dict.fromkeys(found)), nan

    def _enum(self, layout: _Layout) -> tuple[tuple[int, str], ...]:
        texts: dict[int, str] = {}
        for element in self.entry.repeated.get("enum", ()):
            try:
                value = number(element.get("value", ""), layout.datatype, layout.bits)
            except RawValueError as error:
                self.entry.fault("enum", f"enum value {error}", element)
                continue
            if value in texts:
                self.entry.fault("enum", f"enum value {value} stands twice in this endpoint; once at most", element)
            texts.setdefault(value, (element.text or "").strip())
        return tuple(texts.items())
