"""Engineering values: what scale, offset and scale factor mean, exactly."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction

MAX_FACTOR = 10
"""Scale factors are -10 to 10 (SunSpec Information Model Specification, type sunssf)."""
FACTOR_NOT_AVAILABLE = -0x8000
"""The scale factor register's way to say that there is none (the same clause)."""
_EXACT = 2**53
"""Whole numbers up to here are exact in float64."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear:
    """value = (raw * multiply + add) / divide.

    The three are whole numbers wherever the decimal numbers of the file allow it: 0.1 becomes a division by ten,
    and 3 * 0.1 + 0 becomes 0.3 and not 0.30000000000000004. One rounding happens, in the division.
    """

    multiply: float = 1.0
    add: float = 0.0
    divide: float = 1.0

    def apply(self, number: float | int, factor: int = 0) -> float:
        """The engineering value of a raw number, with a scale factor 10**factor on `scale`."""
        up, down = 10.0 ** max(factor, 0), 10.0 ** max(-factor, 0)
        return (float(number) * (self.multiply * up) + self.add * down) / (self.divide * down)

    def invert(self, value: float | int, factor: int = 0) -> Fraction:
        """The raw number, not yet rounded, whose engineering value is `value`, a float meaning its shortest decimal."""
        exact = Fraction(repr(value)) if isinstance(value, float) else Fraction(value)
        wanted = exact * Fraction(self.divide) - Fraction(self.add)
        return wanted / (Fraction(self.multiply) * Fraction(10) ** factor)


IDENTITY = Linear()
"""The value is the raw number."""


def plain(scale: float, valueoffset: float) -> Linear:
    """raw * scale + valueoffset as float64 computes it: for raw numbers so large that a multiple would overflow."""
    return Linear(multiply=scale, add=valueoffset)


@functools.lru_cache(maxsize=4096)
def linear(scale: float, valueoffset: float) -> Linear:
    """The exact form of raw * scale + valueoffset, taking both for the decimal numbers they are written as."""
    if not math.isfinite(scale) or not math.isfinite(valueoffset):
        return plain(scale, valueoffset)
    slope, shift = Fraction(repr(float(scale))), Fraction(repr(float(valueoffset)))
    divide = math.lcm(slope.denominator, shift.denominator)
    multiply, add = slope * divide, shift * divide
    if abs(multiply) >= _EXACT or abs(add) >= _EXACT or divide >= _EXACT:
        return plain(scale, valueoffset)
    return Linear(multiply=float(multiply), add=float(add), divide=float(divide))
