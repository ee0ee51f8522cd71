"""The same registers in every type and order beside each other, for whoever has to find out what a device says.

They are decoded by the plan that polling uses, so what looks right here is right in an endpoint file.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from endpoint_config.models import Datatype, ModbusPoint, ReadFunction
from process_image import RECORD
from process_image.quality import is_bad

from modbus_tcp_client.decode import DecodePlan
from modbus_tcp_client.plan import Request
from modbus_tcp_client.single import typed

ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
ONE = (Datatype.UINT16, Datatype.INT16, Datatype.BCD16, Datatype.FLOAT16)
TWO = (Datatype.UINT32, Datatype.INT32, Datatype.FLOAT32, Datatype.BCD32)
FOUR = (Datatype.UINT64, Datatype.INT64, Datatype.FLOAT64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """What some registers would be in one type and order."""

    address: int
    """First register."""
    registers: int
    datatype: Datatype
    order: str
    value: int | float | None
    """None where the bits mean no number in this type."""


def meanings(address: int, words: Sequence[int]) -> list[Meaning]:
    """Every reading of `words` (0 to 65535 each), the first of which stands at `address`.

    Each register by itself, in both byte orders; each two and each four that follow each other from `address` on, in
    all four orders.
    """
    points = [
        ModbusPoint(name=str(number), read_function=ReadFunction.HOLDING_REGISTERS, address=start,
                    registers=kind.registers, datatype=kind, order=order)
        for number, (start, kind, order) in enumerate(_places(len(words)))
    ]
    if not points:
        return []
    everything = Request(function=3, address=0, count=len(words), points=tuple(range(len(points))))
    plan = DecodePlan(points, [everything])
    records = np.zeros((1, len(points)), RECORD)
    row = np.frombuffer(struct.pack(f">{len(words)}H", *words), np.uint8)
    plan.decode(row.reshape(1, -1), records)
    return [
        Meaning(address=address + point.address, registers=point.registers, datatype=point.datatype,
                order=point.order, value=None if is_bad(int(record["quality"])) else _number(typed(point, record)))
        for point, record in zip(points, records[0], strict=True)
    ]


def _number(value: object) -> int | float | None:
    """A NaN is no number, neither is an infinity."""
    number = value if isinstance(value, int | float) else None
    return number if number is not None and math.isfinite(number) else None


def _places(count: int) -> list[tuple[int, Datatype, str]]:
    found = [(at, kind, order) for at in range(count) for kind in ONE for order in ("ABCD", "BADC")]
    for kinds, size in ((TWO, 2), (FOUR, 4)):
        starts = range(0, count - size + 1, size)
        found += [(at, kind, order) for at in starts for kind in kinds for order in ORDERS]
    return found


def text(words: Sequence[int], *, swapped: bool = False) -> str:
    """The registers as ASCII, with dots for what can't be shown."""
    data = b"".join(word.to_bytes(2, "little" if swapped else "big") for word in words)
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
