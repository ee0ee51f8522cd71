"""Values as JSON: exact, and quick, for each message is put together from parts that are made once."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import Any

from process_image import Point, is_bad
from process_image.snapshot import Value, typed

_SECOND = 1_000_000_000


class Clock:
    """Times as RFC 3339 in UTC with nanoseconds; the text of a second is made once."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, ns: int) -> str:
        """`2026-01-31T12:00:00.123456789Z`.

        >>> Clock().text(1769860800123456789)
        '2026-01-31T12:00:00.123456789Z'
        """
        second, part = divmod(ns, _SECOND)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{part:09d}Z"


def number(value: float, raw: int, kind: str) -> str:
    """The JSON text of a numeric record: integers to the last digit, doubles so that they read back the same; NaN and
    infinities, which JSON has not, as null."""
    made = typed(value, raw, kind)
    if isinstance(made, bool):
        return "true" if made else "false"
    if isinstance(made, float) and not math.isfinite(made):
        return "null"
    return repr(made)


def text(value: Value) -> str:
    """The JSON text of any value; bytes as hexadecimal digits."""
    if isinstance(value, bytes):
        return f'"{value.hex()}"'
    return json.dumps(value, ensure_ascii=False)


def time_of(source: int, received: int, quality: int) -> int:
    """The time that a message tells: of the value, or, where it is Bad, of the answer (or silence) that made it so."""
    return received if is_bad(quality) or not source else source


class Sensor:
    """One point as a message tells it."""

    __slots__ = ("head", "kind", "name", "tail", "topic")

    def __init__(self, point: Point, unit_id: str, topic: str) -> None:
        """`unit_id` is the id of its device."""
        self.topic, self.name, self.kind = topic, point.name, "" if point.is_text else point.type
        self.head = f'{{"unit_id":{_quoted(unit_id)},"sensor_type":{_quoted(point.name)},"value":'
        self.tail = f',"unit":{_quoted(point.unit)}}}'

    def message(self, value: str, stamp: str, quality: int) -> bytes:
        """One value; `value` is its JSON text."""
        made = f'{self.head}{value},"timestamp":"{stamp}","quality":{quality}{self.tail}'
        return made.encode("utf-8", "surrogatepass")


def _quoted(name: str) -> str:
    """A name as JSON; lone surrogates as escapes, for a text of UTF-8 can't hold them."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return json.dumps(name)
    return json.dumps(name, ensure_ascii=False)


def compact(unit_id: str, stamp: str, first: int, entries: Sequence[tuple[str, str, int, int]]) -> bytes:
    """Many values of one device: arrays of equal length; `entries` are (name, JSON value, time in ns, quality).

    `timestamp` is that of the first entry, `offset_ns` says how much later each one is.
    """
    columns = [
        ("sensor_type", [_quoted(name) for name, _, _, _ in entries]), ("value", [value for _, value, _, _ in entries]),
        ("offset_ns", [str(when - first) for _, _, when, _ in entries]),
        ("quality", [str(quality) for _, _, _, quality in entries]),
    ]
    arrays = ",".join(f'"{name}":[{",".join(values)}]' for name, values in columns)
    return f'{{"unit_id":{_quoted(unit_id)},"timestamp":"{stamp}",{arrays}}}'.encode()


def document(**members: Any) -> bytes:
    """A JSON object, for messages that are few."""
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
