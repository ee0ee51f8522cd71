"""Raw values in a file: numbers as a type reads them, or bits in hexadecimal."""

from __future__ import annotations

import struct

from .models import Datatype

_FLOATS = {Datatype.FLOAT16: "e", Datatype.FLOAT32: "f", Datatype.FLOAT64: "d"}
_BCD_DIGITS = {Datatype.BCD16: 4, Datatype.BCD32: 8}
TEXTS = frozenset([Datatype.STRING, Datatype.BYTES])
FLOATS = frozenset(_FLOATS)


class RawValueError(ValueError):
    """A raw value that the type can't hold; the text says what it can."""


def width(datatype: Datatype, bits: int = 1) -> int:
    """Bits of one raw value; 0 for texts."""
    if datatype in TEXTS:
        return 0
    if datatype in (Datatype.BOOL, Datatype.BITFIELD):
        return bits
    return 8 if datatype.value.startswith(("int8", "uint8")) else 16 * datatype.registers


def is_signed(datatype: Datatype) -> bool:
    """Whether the type is a two's complement number."""
    return datatype.value.startswith("int")


def pattern(text: str, datatype: Datatype, bits: int = 1) -> int:
    """The bits that a text names: `0x...` are bits, another number is one as the type reads it.

    A number over a signed type's range is taken as bits as well (65535 for int16 is 0xFFFF). Raises RawValueError.
    """
    if datatype in TEXTS:
        raise RawValueError(f"a {datatype} has no raw number; leave it out")
    wide = width(datatype, bits)
    if text[:2].lower() == "0x":
        return _within(int(text, 16), 0, wide, text, datatype)
    if datatype in _FLOATS:
        try:
            return int.from_bytes(struct.pack(">" + _FLOATS[datatype], float(text)), "big")
        except (OverflowError, ValueError):
            raise RawValueError(f"{text} is not a {datatype}; a number in its range, or its bits as 0x...") from None
    try:
        number = int(text)
    except ValueError:
        raise RawValueError(f"{text} is not a whole number; {datatype} takes whole numbers, or bits as 0x...") from None
    if datatype in _BCD_DIGITS:
        digits = _BCD_DIGITS[datatype]
        if not 0 <= number < 10**digits:
            raise RawValueError(f"{text} does not fit {datatype}; 0 to {10**digits - 1}, or bits as 0x...")
        return int(str(number), 16)
    lowest = -(1 << (wide - 1)) if is_signed(datatype) else 0
    return _within(number, lowest, wide, text, datatype) & ((1 << wide) - 1)


def number(text: str, datatype: Datatype, bits: int = 1) -> int:
    """The raw number that a text names, as the type reads it: sign and all. Raises RawValueError."""
    if datatype in _FLOATS:
        raise RawValueError(f"a {datatype} has no texts of values; integers, bcd, bool and bitfield have")
    found = pattern(text, datatype, bits)
    if datatype in _BCD_DIGITS:
        digits = f"{found:x}"
        if not digits.isdecimal():
            raise RawValueError(f"{text} is no BCD number; hexadecimal digits 0 to 9")
        return int(digits)
    wide = width(datatype, bits)
    return found - (1 << wide) if is_signed(datatype) and found >> (wide - 1) else found


def _within(found: int, lowest: int, wide: int, text: str, datatype: Datatype) -> int:
    highest = (1 << wide) - 1
    if not lowest <= found <= highest:
        raise RawValueError(f"{text} does not fit {datatype}; {lowest} to {highest}, or 0x0 to {highest:#x}")
    return found
