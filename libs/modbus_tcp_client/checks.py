"""What makes a decoded value less than Good: invalid patterns, wrong digits, scale factors, limits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from endpoint_config.models import ModbusPoint
from process_image.quality import BAD_DECODING_ERROR, BAD_SENSOR_FAILURE, UNCERTAIN_ENGINEERING_UNITS_EXCEEDED

from modbus_tcp_client.lanes import Kind, Lane
from modbus_tcp_client.scaling import FACTOR_NOT_AVAILABLE, MAX_FACTOR, linear

U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

_DIGITS = 8
_UP = np.array([10.0 ** max(n, 0) for n in range(-MAX_FACTOR, MAX_FACTOR + 1)])
_DOWN = np.array([10.0 ** max(-n, 0) for n in range(-MAX_FACTOR, MAX_FACTOR + 1)])


class Checks:
    """The qualities of a program's lanes; scale factors are applied here too, because they can be missing."""

    def __init__(self, points: Sequence[ModbusPoint], lanes: Sequence[Lane], factors: dict[int, Lane]) -> None:
        """`lanes` hold scale factors too, which are no points; `factors` says which of them a point needs."""
        mine = [(i, points[x.point]) for i, x in enumerate(lanes) if x.point >= 0]
        self._bcd = _places(x.kind is Kind.BCD for x in lanes)
        self._nan = np.array([i for i, p in mine if p.invalid_nan], dtype=np.intp)
        self._patterns = _patterns(mine, lanes)
        limited = [(i, p) for i, p in mine if p.minimum is not None or p.maximum is not None]
        self._limited = np.array([i for i, _ in limited], dtype=np.intp)
        self._lowest = _column(-np.inf if p.minimum is None else p.minimum for _, p in limited)
        self._highest = _column(np.inf if p.maximum is None else p.maximum for _, p in limited)
        self._set_factors(points, lanes, factors)
        self._any = bool(len(self._bcd) or len(self._nan) or self._patterns or limited or factors)

    def _set_factors(self, points: Sequence[ModbusPoint], lanes: Sequence[Lane], factors: dict[int, Lane]) -> None:
        row = {x.taken: i for i, x in enumerate(lanes) if x.point < 0}
        with_factor = [(i, x.point) for i, x in enumerate(lanes) if x.point in factors]
        self._factored = np.array([i for i, _ in with_factor], dtype=np.intp)
        self._factor_rows = np.array([row[factors[point].taken] for _, point in with_factor], dtype=np.intp)
        scales = [linear(points[point].scale, points[point].valueoffset) for _, point in with_factor]
        self._multiply = _column(s.multiply for s in scales)
        self._add = _column(s.add for s in scales)
        self._divide = _column(s.divide for s in scales)

    def __call__(self, raw: U64, value: F64) -> npt.NDArray[np.uint32] | None:
        """Qualities of the lanes (lanes, devices), None where all are Good; applies scale factors to `value`."""
        if not self._any:
            return None
        quality = np.zeros(raw.shape, dtype=np.uint32)
        if len(self._bcd):
            _set(quality, self._bcd, _wrong_digits(raw[self._bcd]), BAD_DECODING_ERROR)
        if len(self._factored):
            self._apply_factors(raw, value, quality)
        if len(self._limited):
            some = value[self._limited]
            # Written so that a NaN, which is nowhere between the limits, counts as outside.
            outside = ~((some >= self._lowest) & (some <= self._highest)) & (quality[self._limited] == 0)
            _set(quality, self._limited, outside, UNCERTAIN_ENGINEERING_UNITS_EXCEEDED)
        if len(self._nan):
            _set(quality, self._nan, np.isnan(value[self._nan]), BAD_SENSOR_FAILURE)
        for places, patterns in self._patterns:
            _set(quality, places, raw[places] == patterns, BAD_SENSOR_FAILURE)
        return quality

    def _apply_factors(self, raw: U64, value: F64, quality: npt.NDArray[np.uint32]) -> None:
        """Multiply by 10**factor: exact powers of ten above or below the line, one rounding."""
        factor = raw.view(np.int64)[self._factor_rows]
        known = np.clip(factor, -MAX_FACTOR, MAX_FACTOR) + MAX_FACTOR
        up, down = _UP[known], _DOWN[known]
        value[self._factored] = (value[self._factored] * (self._multiply * up) + self._add * down) / (
            self._divide * down
        )
        _set(quality, self._factored, np.abs(factor) > MAX_FACTOR, BAD_DECODING_ERROR)
        _set(quality, self._factored, factor == FACTOR_NOT_AVAILABLE, BAD_SENSOR_FAILURE)


def bcd_number(raw: U64) -> F64:
    """The number that four-bit decimal digits mean, most significant first; rubbish for digits over 9."""
    number = np.zeros(raw.shape)
    for digit in reversed(range(_DIGITS)):
        number = number * 10.0 + (raw >> np.uint64(4 * digit) & np.uint64(15))
    return number


def wrong_utf8(data: npt.NDArray[np.uint8], order: Places) -> npt.NDArray[np.uint32] | None:
    """Qualities (devices, 1) of a string: BadDecodingError where it is no UTF-8; None where all are Good."""
    content = data[:, order]
    if content.max(initial=0) < 0x80:
        return None
    bad = [not _is_utf8(row.tobytes().partition(b"\0")[0]) for row in content]
    return np.where(bad, np.uint32(BAD_DECODING_ERROR), np.uint32(0)).reshape(-1, 1)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _places(flags: object) -> Places:
    """Indices of the true flags."""
    return np.flatnonzero(list(flags)).astype(np.intp)  # type: ignore[call-overload]


def _column(numbers: object) -> F64:
    """Numbers as a column, one row a lane."""
    return np.array(list(numbers), dtype=np.float64).reshape(-1, 1)  # type: ignore[call-overload]


def _wrong_digits(raw: U64) -> npt.NDArray[np.bool_]:
    """Whether any four bits are over 9: the eight with the four or the two."""
    high: U64 = (raw >> np.uint64(3)) & (raw >> np.uint64(2) | raw >> np.uint64(1))
    wrong: npt.NDArray[np.bool_] = (high & np.uint64(0x1111111111111111)) != 0
    return wrong


def _patterns(mine: Sequence[tuple[int, ModbusPoint]], lanes: Sequence[Lane]) -> list[tuple[Places, U64]]:
    """The n-th invalid pattern of every lane that has so many, as (places, column), extended like the raw bits."""
    found: list[tuple[Places, U64]] = []
    for nth in range(max((len(p.invalid) for _, p in mine), default=0)):
        pairs = [(i, _extended(p.invalid[nth], lanes[i])) for i, p in mine if len(p.invalid) > nth]
        found.append((
            np.array([i for i, _ in pairs], dtype=np.intp),
            np.array([pattern for _, pattern in pairs], dtype=np.uint64).reshape(-1, 1),
        ))
    return found


def _extended(pattern: int, x: Lane) -> int:
    """A zero-extended pattern as the raw bits of a signed lane carry it: sign-extended."""
    if x.kind is Kind.SIGNED and pattern >> (x.width - 1) & 1:
        return pattern | ((1 << 64) - (1 << x.width))
    return pattern


def _set(quality: npt.NDArray[np.uint32], places: Places, where: npt.NDArray[np.bool_], code: int) -> None:
    """Give some lanes (and devices) a quality."""
    if where.any():
        some = quality[places]
        some[where] = code
        quality[places] = some
