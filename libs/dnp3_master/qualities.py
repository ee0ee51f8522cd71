"""Flags of an outstation to quality."""

from __future__ import annotations

from process_image.quality import (
    BAD_NO_COMMUNICATION,
    BAD_NOT_CONNECTED,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    UNCERTAIN_ENGINEERING_UNITS_EXCEEDED,
)

_ANALOG = frozenset([30, 40])
GOOD_LOCAL_OVERRIDE = 0x00960000
UNCERTAIN_SENSOR_NOT_ACCURATE = 0x40930000


def quality_of(flags: int, group: int) -> int:
    """The status code for a flag octet of a point in that group."""
    if not flags & 0x01:
        if flags & 0x04:
            return BAD_NO_COMMUNICATION
        return BAD_WAITING_FOR_INITIAL_DATA if flags & 0x02 else BAD_NOT_CONNECTED
    if group in _ANALOG and flags & 0x60:
        return UNCERTAIN_ENGINEERING_UNITS_EXCEEDED if flags & 0x20 else UNCERTAIN_SENSOR_NOT_ACCURATE
    return GOOD_LOCAL_OVERRIDE if flags & 0x18 else GOOD
