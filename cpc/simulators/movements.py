"""How values move: ramps, sines, counters, random walks, states; chosen by a text such as `sine 10 20 60`."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cpc.simulators.faults import OrderError, scalar

PERIOD = 60.0
"""Seconds of one round where none is given."""
STEPS_AT_ONCE = 1000
"""Steps that a random walk makes up for when nobody looked for long."""

Curve = Callable[[float], float]
"""A number at a time in seconds."""

FORMS = {
    "constant": "constant VALUE",
    "ramp": "ramp LOW HIGH [PERIOD]",
    "sine": "sine LOW HIGH [PERIOD]",
    "square": "square LOW HIGH [PERIOD]",
    "counter": "counter [PER_SECOND [START]]",
    "walk": "walk LOW HIGH [STEP [EVERY]]",
    "states": "states VALUE,VALUE,... [SECONDS]",
}
"""How each kind is written; times in seconds, values in engineering units."""


@dataclass(frozen=True, slots=True)
class Movement:
    """A kind of movement with its numbers."""

    kind: str
    numbers: tuple[float, ...]
    """Those of FORMS; the values of `states` first, then the seconds."""

    def curve(self, phase: float = 0.0, seed: int = 0) -> Curve:
        """The curve, `phase` seconds ahead."""
        return _MAKERS[self.kind](self.numbers, phase, seed)


def _constant(n: tuple[float, ...], _phase: float, _seed: int) -> Curve:
    return lambda _t: n[0]


def _states(n: tuple[float, ...], phase: float, _seed: int) -> Curve:
    values, seconds = n[:-1], n[-1]
    return lambda t: values[int((t + phase) // seconds) % len(values)]


def _counter(n: tuple[float, ...], _phase: float, _seed: int) -> Curve:
    return lambda t: n[1] + n[0] * t


def _walk(n: tuple[float, ...], _phase: float, seed: int) -> Curve:
    return Walk(n[0], n[1], step=n[2], every=n[3], seed=seed)


def _ramp(n: tuple[float, ...], phase: float, _seed: int) -> Curve:
    return lambda t: n[0] + (n[1] - n[0]) * (((t + phase) / n[2]) % 1.0)


def _square(n: tuple[float, ...], phase: float, _seed: int) -> Curve:
    return lambda t: n[0] if ((t + phase) / n[2]) % 1.0 < 0.5 else n[1]


def _sine(n: tuple[float, ...], phase: float, _seed: int) -> Curve:
    return lambda t: wave(t + phase, n[0], n[1], n[2])


_MAKERS: Mapping[str, Callable[[tuple[float, ...], float, int], Curve]] = {
    "constant": _constant, "ramp": _ramp, "sine": _sine, "square": _square, "counter": _counter, "walk": _walk,
    "states": _states,
}
_DEFAULTS: Mapping[str, Sequence[float | None]] = {
    "constant": [None], "states": [5.0], "counter": [1.0, 0.0], "walk": [None, None, 0.0, 1.0],
    "ramp": [None, None, PERIOD], "sine": [None, None, PERIOD], "square": [None, None, PERIOD],
}
"""What the numbers are that need not be given; None = must be."""


def parse_movement(text: str) -> Movement:
    """A movement as FORMS shows it; OrderError says what is allowed."""
    kind, *words = text.split()
    if kind not in FORMS:
        raise OrderError(f"no movement {kind!r}; {'; '.join(FORMS.values())}")
    try:
        values = [float(_number(word)) for word in words[:1] for word in word.split(",")] if kind == "states" else []
        rest = [float(_number(word)) for word in words[1 if kind == "states" else 0:]]
    except OrderError as error:
        raise OrderError(f"{text!r}: {error}; {FORMS[kind]}") from error
    defaults = _DEFAULTS[kind]
    filled = [*rest, *defaults[len(rest):]]
    if len(rest) > len(defaults) or None in filled or (kind == "states" and not values):
        raise OrderError(f"{text!r}: {len(words)} words after {kind}; {FORMS[kind]}")
    numbers = [float(x) for x in filled if x is not None]
    if kind == "walk" and numbers[2] == 0.0:
        numbers[2] = abs(numbers[1] - numbers[0]) / 50.0
    if kind not in ("constant", "counter") and numbers[-1] <= 0:
        raise OrderError(f"{text!r}: a time of {numbers[-1]:g} s; more than 0")
    return Movement(kind, (*values, *numbers))


def _number(word: str) -> float:
    value = scalar(word)
    if isinstance(value, str) or value is None or not math.isfinite(value):
        raise OrderError(f"{word!r} is no number")
    return float(value)


class Walk:
    """A random walk that stays within its ends: drawn towards the middle, the same for the same seed."""

    def __init__(self, low: float, high: float, *, step: float, every: float = 1.0, seed: int = 0) -> None:
        self._low, self._high = min(low, high), max(low, high)
        self._step = step
        self._every = every
        self._random = random.Random(seed)  # noqa: S311 - chance, not secrets
        self._value = self._low + (self._high - self._low) * self._random.uniform(0.3, 0.7)
        self._number = 0

    def __call__(self, seconds: float) -> float:
        """The value at a time that is not before the last one asked for."""
        number = int(seconds // self._every)
        middle = (self._low + self._high) / 2.0
        for _ in range(min(number - self._number, STEPS_AT_ONCE)):
            pull = 0.1 * (middle - self._value) / ((self._high - self._low) or 1.0)
            self._value += self._step * (self._random.uniform(-1.0, 1.0) + pull)
            self._value = min(max(self._value, self._low), self._high)
        self._number = max(number, self._number)
        return self._value


def wave(t: float, low: float, high: float, period: float = PERIOD) -> float:
    """A sine that stays within its ends whatever the rounding."""
    return min(max(low + (high - low) * (0.5 + 0.5 * math.sin(t * math.tau / period)), low), high)
