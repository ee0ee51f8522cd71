"""How the points of simulated Modbus units move by themselves, in numbers before scaling."""

from __future__ import annotations

import math
from collections.abc import Callable

from endpoint_config.models import Datatype, ModbusPoint
from modbus_tcp_client.encode import encode, number_limits
from modbus_tcp_client.points import effective_datatype
from modbus_tcp_client.scaling import linear

from cpc.simulators.movements import PERIOD, Movement, Walk, wave

FACTOR = -1
"""What every scale factor register holds."""
DEFAULT_RANGE = (0.0, 100.0)
"""Engineering range of a point whose file gives none, as far as its type carries it."""


def curve_of(point: ModbusPoint, phase: float) -> Callable[[float], int | float]:
    """How a point moves: texts of an enumeration in turn, bits on and off, counters up, else as its place decides.

    `phase` is the seconds by which it is ahead; sines, random walks and ramps take turns with it.
    """
    if point.enum:
        states = [raw for raw, _ in point.enum if raw not in point.invalid] or [point.enum[0][0]]
        return lambda t: states[int((t + phase) // 5.0) % len(states)]
    limits = number_limits(point)
    if limits == (0, 1):
        return lambda t: int((t + phase) // 4.0) % 2
    turn = round(phase) % 3
    return _analogue(point, phase, turn) if limits is None else _whole(point, phase, turn)


def _analogue(point: ModbusPoint, phase: float, turn: int) -> Callable[[float], float]:
    low, high = _range(point)
    # The outermost hundredth is left out: in fewer bits than float64 the end itself may lie beyond it.
    margin = (high - low) / 100.0
    low, high = low + margin, high - margin
    if turn == 1:
        return Walk(low, high, step=(high - low) / 50.0, seed=int(phase * 1000))
    return lambda t: wave(t + phase, low, high)


def _whole(point: ModbusPoint, phase: float, turn: int) -> Callable[[float], int]:
    low, high = _range(point)
    bottom, top = int(low), int(high)
    limits = number_limits(point)
    open_ended = point.minimum is None and point.maximum is None
    if open_ended and limits is not None and limits[0] == 0 and point.registers > 1:
        start = int(phase * 1000.0)
        return lambda t: start + int(t * 10.0)
    if turn == 0:
        return lambda t: bottom + int(((t + phase) % PERIOD) / PERIOD * (top - bottom + 1))
    number = (Walk(bottom, top, step=max((top - bottom) / 50.0, 1.0), seed=int(phase * 1000)) if turn == 1
              else lambda t: wave(t + phase, bottom, top))
    return lambda t: min(max(round(number(t)), bottom), top)


def ordered_curve(point: ModbusPoint, movement: Movement, factor: int, seed: int) -> Callable[[float], int | float]:
    """A curve in engineering units as one before scaling, kept within what the type carries."""
    curve = movement.curve(seed=seed)
    scale = linear(point.scale, point.valueoffset)
    limits = number_limits(point)
    if limits is None:
        return lambda t: float(scale.invert(curve(t), factor))
    bottom, top = limits
    return lambda t: min(max(round(scale.invert(curve(t), factor)), bottom), top)


def _range(point: ModbusPoint) -> tuple[float, float]:
    """Lowest and highest number before scaling that keep the engineering value within minimum and maximum.

    Where the type can't carry any such number, twice the nearest that it can.
    """
    scale = linear(point.scale, point.valueoffset)
    factor = FACTOR if point.scalefactor is not None else 0
    low, high = sorted(scale.invert(end, factor) for end in _engineering_range(point))
    limits = number_limits(point)
    if limits is None:
        return float(low), float(high)
    bottom, top = max(limits[0], math.ceil(low)), min(limits[1], math.floor(high))
    if top - bottom < 1 and point.minimum is None and point.maximum is None:
        return limits[0], min(limits[1], limits[0] + 1000)
    if bottom > top:
        bottom = top = min(max(round((low + high) / 2), limits[0]), limits[1])
    return bottom, top


def _engineering_range(point: ModbusPoint) -> tuple[float, float]:
    """Minimum and maximum; an open end is put a hundred steps of the raw number beside the given one, or 100."""
    low, high = point.minimum, point.maximum
    wide = 100.0 * max(1.0, abs(point.scale))
    if low is None:
        return DEFAULT_RANGE if high is None else (high - wide, high)
    return low, low + wide if high is None else high


def text_of(point: ModbusPoint) -> bytes:
    """A constant text: the name, as far as it fits; for bytes, counting."""
    size = 2 * point.registers
    if effective_datatype(point) is Datatype.BYTES:
        return encode(point, bytes(i % 256 for i in range(size)))
    name = point.name
    while len(name.encode()) > size:
        name = name[:-1]
    return encode(point, name)
