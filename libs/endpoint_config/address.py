"""Addresses: zero-based protocol addresses, or the reference numbers that manuals print."""

from __future__ import annotations

from .models import ReadFunction
from .values import Entry

HIGHEST = 65535
TABLE_DIGIT = {
    ReadFunction.COILS: "0",
    ReadFunction.DISCRETE_INPUTS: "1",
    ReadFunction.INPUT_REGISTERS: "3",
    ReadFunction.HOLDING_REGISTERS: "4",
}
"""First digit of a reference number, as manuals have it for each table."""
TABLES = {
    ReadFunction.COILS: "coil",
    ReadFunction.DISCRETE_INPUTS: "discrete input",
    ReadFunction.INPUT_REGISTERS: "input register",
    ReadFunction.HOLDING_REGISTERS: "holding register",
}
_BY_DIGIT = {digit: function for function, digit in TABLE_DIGIT.items()}


def reference(text: str) -> tuple[ReadFunction, int] | None:
    """Table and zero-based address of a reference number (40001, 400001, 00001), None where it is none."""
    digits = text.lstrip("+").zfill(5)
    if len(digits) not in (5, 6) or not digits.isdecimal():
        return None
    table, element = _BY_DIGIT.get(digits[0]), int(digits[1:])
    if table is None or not 1 <= element <= 65536:
        return None
    return table, element - 1


def zero_based(entry: Entry, tag: str) -> int | None:
    """The address in `tag`, None and a fault where it is over 65535."""
    number = entry.integer(tag, -1)
    if 0 <= number <= HIGHEST:
        return number
    if number < 0:
        return None  # refused by the schema
    text = entry.texts[tag]
    meant = reference(text)
    if meant is None or len(text.lstrip("+")) != 6:
        entry.fault(tag, f"{tag} {text[:40]} is over 65535; a zero-based protocol address from 0 to 65535")
        return None
    table, address = meant
    entry.fault(tag, f"{tag} {text} is over 65535 and looks like the 40001 notation ({TABLES[table]} {address}); write "
                f"{address}, a zero-based protocol address from 0 to 65535, or <addressing>modicon</addressing>")
    return None


def modicon(entry: Entry, tag: str, read: ReadFunction) -> int | None:
    """The zero-based address of a reference number, None and a fault where it is none or of another table."""
    text = entry.texts.get(tag, "")
    meant = reference(text)
    example = f"{TABLE_DIGIT[read]}0001 is the first {TABLES[read]}"
    if meant is None:
        entry.fault(tag, f"{tag} {text[:40]} is no reference number (addressing is modicon); {example}")
        return None
    table, address = meant
    if table is not read:
        entry.fault(tag, f"{tag} {text} is a {TABLES[table]}, but function reads a {TABLES[read]}; {example}")
        return None
    return address
