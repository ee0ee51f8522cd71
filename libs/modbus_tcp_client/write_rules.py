"""What a point takes, told before anything is sent: type, range, step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

from acquisition import Value, WritablePoint
from endpoint_config.models import Datatype, ModbusPoint
from process_image import quality

from modbus_tcp_client.encode import number_limits
from modbus_tcp_client.points import effective_datatype, image_type
from modbus_tcp_client.scaling import linear

LONGEST_SHOWN = 40
"""Characters of a value in a message."""
_STEP_SLACK = 1e-9
"""Part of a step by which a multiple may miss it: sums of decimal numbers in float64 do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why a value is not sent."""

    what: str
    todo: str
    quality: int


def refusal(point: ModbusPoint, value: Value, present: Value | None) -> Refusal | None:
    """Why the point can't take the value, None where it can; `present` is its good value now, None if unknown."""
    if point.write_function is None:
        return Refusal(what="is only read", todo="name a write function in its endpoint file",
                       quality=quality.BAD_NOT_WRITABLE)
    wrong = _wrong_type(point, value)
    if wrong:
        return Refusal(what=f"{_shown(value)} is {wrong[0]}", todo=wrong[1], quality=quality.BAD_TYPE_MISMATCH)
    if isinstance(value, str | bytes | bool):
        return None
    try:
        wrong = _out_of_range(point, value) or _wrong_step(point, value, present)
    except OverflowError:
        wrong = f"{_shown(value)} is too large for any number type", "a smaller number is allowed"
    return Refusal(what=wrong[0], todo=wrong[1], quality=quality.BAD_OUT_OF_RANGE) if wrong else None


def _wrong_type(point: ModbusPoint, value: Value) -> tuple[str, str] | None:
    """What is wrong with the type of a value, and which is taken."""
    datatype = effective_datatype(point)
    if datatype in (Datatype.STRING, Datatype.BYTES):
        right = str if datatype is Datatype.STRING else bytes
        return None if isinstance(value, right) else ("no text", f"a {datatype} is taken")
    if datatype is Datatype.BOOL:
        if isinstance(value, int | float) and value in (0, 1):
            return None
        return "neither true nor false", "true, false, 1 or 0 is taken"
    return _no_number(point, value)


def _no_number(point: ModbusPoint, value: Value) -> tuple[str, str] | None:
    if isinstance(value, str | bytes):
        return "a text", f"a {image_type(point)} is taken"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "no number", f"a {image_type(point)} is taken"
    if isinstance(value, float) and not math.isfinite(value):
        return "no number that a device should get", "a finite number is taken"
    if not point.scaled and number_limits(point) is not None and value != int(value):
        return "no whole number", f"{point.datatype} takes whole numbers"
    return None


def _shown(value: object) -> str:
    """A value for a message, however long it is."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


def _out_of_range(point: ModbusPoint, value: int | float) -> tuple[str, str] | None:
    low, high = point.minimum, point.maximum
    allowed = f"{'-∞' if low is None else f'{low:g}'} to {'∞' if high is None else f'{high:g}'} is allowed"
    if low is not None and value < low:
        return f"{_shown(value)} is below the minimum", allowed
    if high is not None and value > high:
        return f"{_shown(value)} is above the maximum", allowed
    return None


def _wrong_step(point: ModbusPoint, value: int | float, present: Value | None) -> tuple[str, str] | None:
    start = point.minimum or 0.0
    if point.step is not None:
        steps = (value - start) / point.step
        if abs(steps - round(steps)) > _STEP_SLACK * max(1.0, abs(steps)):
            near = start + math.floor(steps) * point.step
            return (f"{_shown(value)} is between two steps of {point.step:g}",
                    f"{near:g} or {near + point.step:g} is allowed")
    if point.max_step is None:
        return None
    if present is None:
        return "its present value is not known, and max_step limits the change", "read it first"
    here = cast(float, present)
    if abs(value - here) > point.max_step * (1 + _STEP_SLACK):
        return (f"from {here:g} to {_shown(value)} is more than the {point.max_step:g} that one write may change",
                f"{here - point.max_step:g} to {here + point.max_step:g} is allowed now")
    return None


def limits(point: ModbusPoint) -> tuple[float | None, float | None]:
    """Lowest and highest engineering value that can be written: the file's, narrowed to what the type can carry."""
    low, high = point.minimum, point.maximum
    numbers = number_limits(point)
    if numbers is None or point.scalefactor is not None:
        return low, high
    scale = linear(point.scale, point.valueoffset)
    ends = sorted(scale.apply(number) for number in numbers)
    return (ends[0] if low is None else max(low, ends[0])), (ends[1] if high is None else min(high, ends[1]))


def writable_point(alias: str, point: ModbusPoint) -> WritablePoint:
    """What a point takes, in the words of the contract."""
    low, high = limits(point)
    return WritablePoint(point=f"{alias}/{point.name}", type=image_type(point), unit=point.unit, minimum=low,
                         maximum=high)
