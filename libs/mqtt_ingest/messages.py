"""A message's bytes as a reading, or the reason why not. No sockets, no points: pure checks of hostile input."""

from __future__ import annotations

import calendar
import json
import math
import re
import time
from dataclasses import dataclass
from typing import Any

REASONS = ("oversize", "invalid_json", "unknown_unit", "unknown_point", "wrong_type", "invalid_time", "stale_time")
"""Why a message is not taken, in the order in which that is looked for."""
AHEAD = 3600.0
"""Seconds that a time may lie ahead of ours."""
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?"
                      r"(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII)
_INTEGERS = {f"{sign}int{bits}": (0 if sign else -(1 << bits - 1), (1 << bits) - 1 if sign else (1 << bits - 1) - 1)
             for sign in ("", "u") for bits in (8, 16, 32, 64)}
_LARGEST = {"float32": 3.4028235677973366e38, "float64": math.inf}


class RefusedMessage(Exception):
    """A message that is not taken; `reason` is one of REASONS, the text says more."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a message says, its form checked, its unit and type not yet."""

    unit_id: str
    sensor_type: str
    value: Any
    time: int
    """ns since the Unix epoch."""
    quality: int = 0


def parse(payload: bytes, max_bytes: int) -> Reading:
    """The reading of a payload; raises RefusedMessage, and nothing else, whatever the bytes are."""
    if len(payload) > max_bytes:
        raise RefusedMessage("oversize", f"{len(payload)} bytes; at most {max_bytes}")
    try:
        found = json.loads(payload.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedMessage("invalid_json", f"no JSON: {error}"[:200]) from None
    if not isinstance(found, dict):
        raise RefusedMessage("invalid_json", "a JSON object with unit_id, sensor_type, value and timestamp is needed")
    missing = [key for key in ("unit_id", "sensor_type", "value", "timestamp") if key not in found]
    if missing:
        raise RefusedMessage("invalid_json", f"{missing[0]} is missing")
    unit_id, sensor_type, quality = found["unit_id"], found["sensor_type"], found.get("quality", 0)
    if not isinstance(unit_id, str) or not isinstance(sensor_type, str):
        raise RefusedMessage("invalid_json", "unit_id and sensor_type must be texts")
    if not _is_integer(quality) or not 0 <= quality < 1 << 32:
        raise RefusedMessage("wrong_type", "quality must be a status code, 0 to 4294967295")
    return Reading(unit_id=unit_id, sensor_type=sensor_type, value=found["value"], time=_time(found["timestamp"]),
                   quality=quality)


def _no_constant(name: str) -> None:
    """NaN and Infinity are no JSON."""
    raise ValueError(f"{name} is no JSON")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _time(stamp: object) -> int:
    """RFC 3339 with a zone, or milliseconds since the epoch; as ns."""
    if isinstance(stamp, str):
        match = _RFC3339.fullmatch(stamp)
        made = None if match is None else _from_match(match)
        if made is not None:
            return made
    elif isinstance(stamp, (int, float)) and not isinstance(stamp, bool) and abs(stamp) < 1e15:
        return round(stamp * 1_000_000) if isinstance(stamp, float) else stamp * 1_000_000
    raise RefusedMessage("invalid_time", "timestamp must be RFC 3339 with zone, or milliseconds since 1970")


def _from_match(match: re.Match[str]) -> int | None:
    year, month, day, hour, minute, second = (int(match[n]) for n in range(1, 7))
    if not (1970 <= year < 2262 and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]):
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    ahead = 0
    if match[9]:
        hours, minutes = int(match[10]), int(match[11])
        if hours > 23 or minutes > 59:
            return None
        ahead = (hours * 3600 + minutes * 60) * (1 if match[9] == "+" else -1)
    seconds = calendar.timegm((year, month, day, hour, minute, second)) - ahead
    return seconds * 1_000_000_000 + int((match[7] or "0").ljust(9, "0"))


def check_time(moment: int, max_age: float, latest: int) -> None:
    """Refuse what is too old, too far ahead, or older than what stands there already (`latest`, ns)."""
    now = time.time_ns()
    if moment < now - int(max_age * 1e9):
        raise RefusedMessage("stale_time", f"{(now - moment) / 1e9:.0f} s old; at most {max_age:.0f}")
    if moment > now + int(AHEAD * 1e9):
        raise RefusedMessage("stale_time", f"{(moment - now) / 1e9:.0f} s ahead; is a clock wrong?")
    if moment < latest:
        raise RefusedMessage("stale_time", "older than the value that is there")


def check_type(value: object, datatype: str) -> None:
    """Refuse a value that a point of this type can't hold exactly as it was meant."""
    if datatype == "bool":
        fits = isinstance(value, bool)
    elif datatype in _INTEGERS:
        low, high = _INTEGERS[datatype]
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    elif datatype == "string":
        fits = isinstance(value, str)
    else:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and _fits_float(value, datatype)
    if not fits:
        raise RefusedMessage("wrong_type", f"the value is no {datatype}, or out of its range")


def _fits_float(value: float, datatype: str) -> bool:
    try:
        made = float(value)
    except OverflowError:
        return False
    return math.isfinite(made) and abs(made) <= _LARGEST[datatype]
