"""The object library (clause 11 and Annex A): how the values of each group and variation stand on the wire.

A `Form` is one variation. Values are converted by whole columns; where an integer is too small the value is clamped
and OVER_RANGE set, and a float that single precision can't hold becomes infinite with OVER_RANGE.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from dnp3_outstation.codes import EventKind, Flag, Kind

Floats = npt.NDArray[np.float64]
Octets = npt.NDArray[np.uint8]
Times = npt.NDArray[np.int64]

_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)
_COUNTERS: Final = frozenset(
    [Kind.COUNTER, Kind.FROZEN_COUNTER, EventKind.COUNTER, EventKind.FROZEN_COUNTER])
STATE_SHIFT: Final[dict[int, int]] = {
    Kind.BINARY_INPUT: 7, Kind.BINARY_OUTPUT: 7, Kind.DOUBLE_BIT: 6,
    EventKind.BINARY_INPUT: 7, EventKind.BINARY_OUTPUT: 7, EventKind.DOUBLE_BIT: 6, EventKind.BINARY_COMMAND: 7,
}
"""Where the state stands in the flag octet of those groups that have it there."""


@dataclass(frozen=True, slots=True)
class Form:
    """One group and variation with values of fixed size."""

    group: int
    variation: int
    value: str = ""
    """numpy type of the value, empty where the state stands in the flag octet or in packed bits."""
    flags: bool = True
    time: int = 0
    """Octets of time behind it: 0, 6 (ms since 1970), 2 (ms after a common time of occurrence)."""
    bits: int = 0
    """Bits of one packed value, 0 = not packed."""
    flagged: int = 0
    """Variation that carries flags, for points that are not simply online; 0 where this one does."""
    plain: np.dtype[np.void] = field(init=False, repr=False)
    short: np.dtype[np.void] = field(init=False, repr=False)
    long: np.dtype[np.void] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Lay the octets out: without prefix, with an index of one octet and of two."""
        fields: list[tuple[str, str] | tuple[str, str, int]] = [("flags", "u1")] if self.flags else []
        if self.value:
            fields.append(("value", self.value))
        if self.time:
            fields.append(("time", "u1", self.time))
        object.__setattr__(self, "plain", np.dtype(fields))
        object.__setattr__(self, "short", np.dtype([("index", "u1"), *fields]))
        object.__setattr__(self, "long", np.dtype([("index", "<u2"), *fields]))

    def fill(self, out: npt.NDArray[np.void], values: Floats, flags: Octets, times: Times) -> None:
        """Write columns into records of one of the three layouts; `times` in ms (for 2 octets: ms after the base)."""
        if self.value:
            numbers, over = convert(values, self.value, counter=self.group in _COUNTERS)
            out["value"] = numbers
            if over is not None and self.group != EventKind.ANALOG_COMMAND:  # there the octet holds a status
                flags = np.where(over, flags | np.uint8(Flag.OVER_RANGE), flags)
        if self.flags:
            shift = STATE_SHIFT.get(self.group)
            out["flags"] = flags if shift is None else with_state(values, flags, shift)
        if self.time:
            octets = np.ascontiguousarray(times, "<i8").view(np.uint8).reshape(-1, 8)
            out["time"] = octets[:, : self.time]


def with_state(values: Floats, flags: Octets, shift: int) -> Octets:
    """Flag octets whose upper bits are the state: one bit (shift 7) or two (shift 6)."""
    kept = np.uint8((1 << shift) - 1)
    state = values.astype(np.uint8) if shift == 6 else (values != 0).astype(np.uint8)
    return (flags & kept) | (state << np.uint8(shift))


def convert(values: Floats, kind: str, *,
            counter: bool) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_] | None]:
    """Columns as they are sent, and where they did not fit (None: nowhere).

    Counters keep their lower bits, as a counter of that width would show; everything else is rounded and clamped.
    """
    if kind == "<f8":
        return values, None
    if kind == "<f4":
        over = np.abs(values) > _FLOAT32_MAX
        with np.errstate(over="ignore"):
            return values.astype(np.float32), over if over.any() else None
    info = np.iinfo(kind)
    lowest, highest = float(info.min), float(info.max)
    rounded = np.rint(values)
    fits = (rounded >= lowest) & (rounded <= highest)
    if fits.all():
        return rounded.astype(kind), None
    rounded = np.where(np.isnan(rounded), 0.0, rounded)
    if counter:
        finite = np.clip(rounded, -(2.0**53), 2.0**53).astype(np.int64)
        return (finite & np.int64(info.max)).astype(kind), None
    return np.clip(rounded, lowest, highest).astype(kind), ~fits


def pack_bits(values: Floats, bits: int) -> bytes:
    """Packed values of one or two bits, least significant first, the last octet filled with zeros."""
    numbers = values.astype(np.uint8) if bits == 2 else (values != 0).astype(np.uint8)
    if bits == 2:
        numbers = np.stack([numbers & 1, (numbers >> 1) & 1], axis=1).reshape(-1)
    return np.packbits(numbers, bitorder="little").tobytes()


def _forms(*forms: Form) -> dict[tuple[int, int], Form]:
    return {(form.group, form.variation): form for form in forms}


def _analog_events(group: int) -> tuple[Form, ...]:
    return tuple(
        Form(group, variation, value, time=time)
        for variation, value, time in ((1, "<i4", 0), (2, "<i2", 0), (3, "<i4", 6), (4, "<i2", 6), (5, "<f4", 0),
                                       (6, "<f8", 0), (7, "<f4", 6), (8, "<f8", 6)))


STATIC: Final = _forms(
    Form(1, 1, flags=False, bits=1, flagged=2), Form(1, 2),
    Form(3, 1, flags=False, bits=2, flagged=2), Form(3, 2),
    Form(10, 1, flags=False, bits=1, flagged=2), Form(10, 2),
    Form(20, 1, "<u4"), Form(20, 2, "<u2"),
    Form(20, 5, "<u4", flags=False, flagged=1), Form(20, 6, "<u2", flags=False, flagged=2),
    Form(21, 1, "<u4"), Form(21, 2, "<u2"), Form(21, 5, "<u4", time=6), Form(21, 6, "<u2", time=6),
    Form(21, 9, "<u4", flags=False, flagged=1), Form(21, 10, "<u2", flags=False, flagged=2),
    Form(30, 1, "<i4"), Form(30, 2, "<i2"), Form(30, 3, "<i4", flags=False, flagged=1),
    Form(30, 4, "<i2", flags=False, flagged=2), Form(30, 5, "<f4"), Form(30, 6, "<f8"),
    Form(40, 1, "<i4"), Form(40, 2, "<i2"), Form(40, 3, "<f4"), Form(40, 4, "<f8"),
)
"""Static values. Octet strings (g110) are of no fixed size and stand apart."""
DEADBANDS: Final = _forms(
    Form(34, 1, "<u2", flags=False), Form(34, 2, "<u4", flags=False), Form(34, 3, "<f4", flags=False))
"""Analog input deadbands, read and written."""
EVENTS: Final = _forms(
    Form(2, 1), Form(2, 2, time=6), Form(2, 3, time=2),
    Form(4, 1), Form(4, 2, time=6), Form(4, 3, time=2),
    Form(11, 1), Form(11, 2, time=6), Form(13, 1), Form(13, 2, time=6),
    Form(22, 1, "<u4"), Form(22, 2, "<u2"), Form(22, 5, "<u4", time=6), Form(22, 6, "<u2", time=6),
    Form(23, 1, "<u4"), Form(23, 2, "<u2"), Form(23, 5, "<u4", time=6), Form(23, 6, "<u2", time=6),
    *_analog_events(32), *_analog_events(42), *_analog_events(43),
)
"""Events. Octet string events (g111) stand apart."""
DEFAULT_STATIC: Final[dict[int, int]] = {1: 2, 3: 2, 10: 2, 20: 1, 21: 1, 30: 5, 40: 3, 110: 0}
"""Variation for variation 0 where a point is configured with none."""
DEFAULT_EVENT: Final[dict[int, int]] = {2: 2, 4: 2, 11: 2, 13: 2, 22: 5, 23: 5, 32: 7, 42: 7, 43: 7, 111: 0}
"""The same for events."""
STATIC_GROUPS: Final = frozenset(int(kind) for kind in Kind)
EVENT_GROUPS: Final = frozenset(int(kind) for kind in EventKind)


def knows_static(group: int, variation: int) -> bool:
    """Whether static values can be asked for in that variation; 0 means the default."""
    return group in STATIC_GROUPS and (variation == 0 or group == Kind.OCTET_STRING or (group, variation) in STATIC)


def knows_event(group: int, variation: int) -> bool:
    """Whether events can be asked for in that variation; 0 means the default."""
    return group in EVENT_GROUPS and (variation == 0 or group == EventKind.OCTET_STRING or (group, variation) in EVENTS)


def event_form(group: int, variation: int) -> Form | None:
    """The form of an event; None for octet strings."""
    return EVENTS.get((group, variation))
