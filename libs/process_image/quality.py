"""Qualities: OPC UA StatusCodes (Part 4, clause 7.39), the constants that the partition itself sets, and names.

The upper two bits are the severity (00 Good, 01 Uncertain, 10 Bad), the upper 16 the code, the lower 16 flags.
"""

from __future__ import annotations

from typing import Final

from process_image.status_codes import NAMES

GOOD: Final = 0x00000000
BAD_INTERNAL_ERROR: Final = 0x80020000
BAD_RESOURCE_UNAVAILABLE: Final = 0x80040000
BAD_COMMUNICATION_ERROR: Final = 0x80050000
BAD_DECODING_ERROR: Final = 0x80070000
BAD_TIMEOUT: Final = 0x800A0000
BAD_NO_COMMUNICATION: Final = 0x80310000
BAD_WAITING_FOR_INITIAL_DATA: Final = 0x80320000
BAD_NODE_ID_UNKNOWN: Final = 0x80340000
BAD_NOT_WRITABLE: Final = 0x803B0000
BAD_OUT_OF_RANGE: Final = 0x803C0000
BAD_NOT_SUPPORTED: Final = 0x803D0000
BAD_TYPE_MISMATCH: Final = 0x80740000
BAD_NOT_CONNECTED: Final = 0x808A0000
BAD_DEVICE_FAILURE: Final = 0x808B0000
BAD_SENSOR_FAILURE: Final = 0x808C0000
BAD_DATA_LOST: Final = 0x809D0000
BAD_INVALID_ARGUMENT: Final = 0x80AB0000
BAD_WAITING_FOR_RESPONSE: Final = 0x80B20000
UNCERTAIN_LAST_USABLE_VALUE: Final = 0x40900000
UNCERTAIN_ENGINEERING_UNITS_EXCEEDED: Final = 0x40940000

SEVERITY_MASK: Final = 0xC0000000
CODE_MASK: Final = 0xFFFF0000


def is_good(code: int) -> bool:
    """Whether the value may be used without a second thought."""
    return code & SEVERITY_MASK == 0


def is_uncertain(code: int) -> bool:
    """Whether the value may be used with care."""
    return code & SEVERITY_MASK == 0x40000000


def is_bad(code: int) -> bool:
    """Whether the value must not be used; the reserved severity 11 counts as Bad."""
    return code & 0x80000000 != 0


def quality_name(code: int) -> str:
    """The symbolic name, `BadTimeout`; the flags in the lower 16 bits do not matter.

    A code that the table lacks gets its severity and its number, `Bad_0x80FF0000`.
    """
    name = NAMES.get(int(code) & CODE_MASK)
    if name is not None:
        return name
    severity = "Good" if is_good(code) else "Uncertain" if is_uncertain(code) else "Bad"
    return f"{severity}_0x{int(code) & 0xFFFFFFFF:08X}"
