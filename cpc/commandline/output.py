"""How commands print: one JSON object, plain tables, times, values. Nothing here knows a segment or a file."""

from __future__ import annotations

import json
import math
import sys
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

WIDEST_POINT, WIDEST_VALUE = 60, 24
"""Columns after which names and values of points, which may be long texts, no longer widen the table for all."""
NANOSECONDS = 1_000_000_000


def rfc3339(nanoseconds: int) -> str | None:
    """A time in nanoseconds since the Unix epoch as RFC 3339 in UTC with nine digits; None for 0 (no time).

    >>> rfc3339(1_700_000_000_000_000_001)
    '2023-11-14T22:13:20.000000001Z'
    """
    if not nanoseconds:
        return None
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    parts = time.gmtime(seconds)
    return f"{parts[0]:04d}-{parts[1]:02d}-{parts[2]:02d}T{parts[3]:02d}:{parts[4]:02d}:{parts[5]:02d}.{rest:09d}Z"


def json_value(value: object) -> bool | int | float | str | None:
    """A point's value as JSON can hold it: NaN and infinities are null, bytes are hexadecimal text.

    >>> json_value(b"\\x01\\xff"), json_value(float("nan")), json_value(2**63 - 1)
    ('01ff', None, 9223372036854775807)
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else None


def text_value(value: object) -> str:
    """A point's value for people: up to seven significant digits, control characters made visible.

    >>> text_value(230.12345678), text_value(True), text_value("a\\nb"), text_value(1e21)
    ('230.1235', 'true', 'a\\\\nb', '1e+21')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex(" ")
    return f"{float(value):.7g}"  # type: ignore[arg-type]


def printable(text: str) -> str:
    """The text with everything escaped that could move the cursor or hide something on a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def text_age(seconds: float) -> str:
    """An age for people, at most five characters.

    >>> [text_age(s) for s in (0.0123, 2.34, 75, 7300, 200000)]
    ['12ms', '2.3s', '75s', '2.0h', '2.3d']
    """
    if not math.isfinite(seconds):
        return "-"
    if seconds < 1:
        return f"{max(seconds, 0) * 1e3:.0f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 600:
        return f"{seconds:.0f}s"
    if seconds < 5940:
        return f"{seconds / 60:.0f}m"
    return f"{seconds / 3600:.1f}h" if seconds < 86400 else f"{seconds / 86400:.1f}d"


def width(text: str) -> int:
    """Columns that a text takes in a terminal (wide East Asian letters take two, combining marks none)."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, columns: int) -> str:
    """The text in exactly so many columns: padded, or cut with an ellipsis at its end."""
    taken = width(text)
    if taken <= columns:
        return text + " " * (columns - taken)
    kept = ""
    room = columns - 1
    for char in text:
        room -= width(char)
        if room < 0:
            break
        kept += char
    return kept + "…" + " " * (columns - 1 - width(kept))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = (),
          widest: Mapping[int, int] | None = None) -> str:
    """Columns as wide as their widest cell, two blanks between, those in `right` right-aligned.

    `widest` limits columns: a longer cell is shown whole and pushes the rest of its own line alone to the right.
    """
    lines = [tuple(heads), *(tuple(row) for row in rows)]
    widths = [max(width(line[i]) for line in lines) for i in range(len(heads))]
    for i, limit in (widest or {}).items():
        widths[i] = max((w for line in lines if (w := width(line[i])) <= limit), default=0)
    flush_right = frozenset(right)
    made = []
    for line in lines:
        cells = [
            " " * (widths[i] - width(cell)) + cell if i in flush_right else cell + " " * (widths[i] - width(cell))
            for i, cell in enumerate(line)
        ]
        made.append("  ".join(cells).rstrip())
    return "\n".join(made)


def print_json(value: Any) -> None:
    """One JSON object on stdout; text as it is (UTF-8), and never the non-JSON words NaN and Infinity."""
    json.dump(value, sys.stdout, ensure_ascii=False, allow_nan=False, indent=2)
    sys.stdout.write("\n")


def complain(line: str) -> None:
    """One line on stderr."""
    print(line, file=sys.stderr, flush=True)


def plural(count: int, noun: str) -> str:
    """`1 device`, `2 devices`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
