"""Values of commands beside what points take and what files say."""

from __future__ import annotations

import math

from command_channel import Value
from process_image import Point

_TEXTS = {"string": str, "bytes": bytes}
_WIDTHS = {f"{sign}int{bits}": (sign == "", bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}


def value_fault(value: Value, point: Point) -> str:
    """Why a point of this type can't take a value; empty where it can."""
    if point.type in _TEXTS:
        what = "bytes" if point.type == "bytes" else f"a {point.type}"
        return "" if isinstance(value, _TEXTS[point.type]) else f"{shown(value)} is not {what}"
    if point.type == "bool":
        return "" if isinstance(value, bool) or value in (0, 1) else f"{shown(value)} is no bool; true or false"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"{shown(value)} is no number; {point.type}"
    if not math.isfinite(value):
        return f"{value} is not finite; a finite number"
    return _width_fault(value, point.type) or range_fault(value, point.range[0], point.range[1], "of the point")


def _width_fault(value: float, kind: str) -> str:
    if kind not in _WIDTHS:
        return ""
    if value != int(value):
        return f"{shown(value)} is not whole; {kind}"
    signed, bits = _WIDTHS[kind]
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return "" if low <= value <= high else f"{shown(value)} does not fit {kind}; {low} to {high}"


def range_fault(value: float, low: float | None, high: float | None, whose: str) -> str:
    """Why a number is outside a range that may be open; empty where it is within."""
    if (low is not None and value < low) or (high is not None and value > high):
        text = f"{'-' if low is None else f'{low:g}'} to {'-' if high is None else f'{high:g}'}"
        return f"{shown(value)} is outside the range {whose}; {text}"
    return ""


def like(value: Value, text: str) -> Value | None:
    """A text of a file as a value of the same kind; None where it is none."""
    if isinstance(value, str):
        return text
    if isinstance(value, bytes):
        return text.encode()
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    for number in (lambda: int(lowered, 0), lambda: float(lowered)):
        try:
            return number()
        except ValueError:
            continue
    return None


def same(value: Value, text: str) -> bool:
    """Whether a text of a file means this value."""
    return like(value, text) == value


def shown(value: object) -> str:
    """A value as a message shows it: short, texts quoted."""
    return f"{value!r:.80}" if isinstance(value, (str, bytes)) else f"{value}"[:80]
