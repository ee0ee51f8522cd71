"""Device attributes (g0, set 0): who this outstation is and what it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dnp3_outstation.codes import Kind
from dnp3_outstation.database import Database

ALL: Final = 254
LIST: Final = 255
_VSTR, _UINT, _INT, _LIST = 1, 2, 3, 254


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceInfo:
    """Texts that a master may read; an empty one is not reported."""

    manufacturer: str = "CPC partition"
    product: str = "dnp3_outstation"
    software: str = ""
    hardware: str = ""
    serial_number: str = ""
    identifier: str = ""
    """User-assigned code."""
    name: str = ""
    """User-assigned device name."""
    location: str = ""
    """User-assigned location."""
    subset: str = "2:2012"
    """Level and edition that are conformed to."""


def attributes(info: DeviceInfo, database: Database, sizes: tuple[int, int]) -> dict[int, bytes]:
    """Encoded attribute values by variation; `sizes` are the largest fragments sent and received."""
    texts = {252: info.manufacturer, 250: info.product, 242: info.software, 243: info.hardware,
             248: info.serial_number, 246: info.identifier, 247: info.name, 245: info.location, 249: info.subset}
    known = {variation: _text(text) for variation, text in texts.items() if text}
    known[240], known[241] = _unsigned(sizes[0]), _unsigned(sizes[1])
    for kind, (events, last, count) in _COUNTS.items():
        table = database[kind]
        known[count] = _unsigned(len(table))
        if len(table):
            known[last] = _unsigned(int(table.index[-1]))
            known[events] = _signed(1)
    if len(database[Kind.COUNTER]):
        known[225] = known[226] = _signed(1)
    return known


_COUNTS: Final = {
    Kind.BINARY_INPUT: (237, 238, 239), Kind.DOUBLE_BIT: (234, 235, 236), Kind.ANALOG_INPUT: (231, 232, 233),
    Kind.COUNTER: (227, 228, 229), Kind.BINARY_OUTPUT: (222, 223, 224), Kind.ANALOG_OUTPUT: (219, 220, 221),
}
"""Variations that say whether a type has events, its highest index, and its number of points."""


def _text(text: str) -> bytes:
    octets = text.encode("utf-8")[:255]
    return bytes([_VSTR, len(octets)]) + octets


def _unsigned(number: int) -> bytes:
    width = 1 if number < 0x100 else 2 if number < 0x10000 else 4
    return bytes([_UINT, width]) + number.to_bytes(width, "little")


def _signed(number: int) -> bytes:
    return bytes([_INT, 1]) + number.to_bytes(1, "little", signed=True)


def attribute_list(known: dict[int, bytes]) -> bytes:
    """The value of variation 255: each variation and its properties, none of which can be written."""
    pairs = b"".join(bytes([variation, 0]) for variation in sorted(known))
    return bytes([_LIST, len(pairs)]) + pairs
