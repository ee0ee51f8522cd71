"""Object headers of requests (clause 4.2.2.7): octets to frozen models, or the indication that says what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dnp3_outstation.codes import IIN, Qualifier

SIZES: Final[dict[tuple[int, int], int]] = {
    (12, 1): 11, (34, 1): 2, (34, 2): 4, (34, 3): 4, (41, 1): 5, (41, 2): 3, (41, 3): 5, (41, 4): 9,
    (50, 1): 6, (50, 3): 6,
}
"""Octets of each object that a request may carry. g80v1 is packed bits."""


class BadRequest(Exception):
    """A request that can't be understood; the answer carries `indication` and no objects."""

    def __init__(self, indication: IIN) -> None:
        super().__init__(indication.name)
        self.indication = indication


@dataclass(frozen=True, slots=True)
class ObjectHeader:
    """One object header and the objects behind it."""

    group: int
    variation: int
    qualifier: Qualifier
    start: int = 0
    """First index of a range."""
    stop: int = -1
    """Last index of a range."""
    count: int = 0
    """Number of objects: of the range, of the prefix list, or the limit of a read; -1 = all."""
    indexes: npt.NDArray[np.int64] | None = None
    """Indexes of a prefix list."""
    objects: bytes = b""
    """Octets of the objects, without index prefixes, one after the other."""
    raw: bytes = b""
    """Header and objects as they came, for answers that repeat them."""

    @property
    def is_range(self) -> bool:
        """Qualifiers 00 and 01."""
        return self.qualifier in (Qualifier.RANGE_8, Qualifier.RANGE_16)

    @property
    def is_list(self) -> bool:
        """Qualifiers 17 and 28."""
        return self.qualifier in (Qualifier.INDEX_8, Qualifier.INDEX_16)

    @property
    def is_count(self) -> bool:
        """Qualifiers 07 and 08."""
        return self.qualifier in (Qualifier.COUNT_8, Qualifier.COUNT_16)

    @property
    def limit(self) -> int | None:
        """Most objects that are wanted, None = all; for qualifiers 06, 07 and 08."""
        return self.count if self.is_count else None


class _Octets:
    """Takes octets one after the other; a request that ends too early is a parameter error."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, count: int) -> bytes:
        end = self.place + count
        if end > len(self.data):
            raise BadRequest(IIN.PARAMETER_ERROR)
        part = self.data[self.place : end]
        self.place = end
        return part

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets), "little")


def parse_headers(data: bytes, *, objects: bool) -> list[ObjectHeader]:
    """The object headers of a request; `objects` says whether the function brings objects with them.

    Raises BadRequest: PARAMETER_ERROR for an unknown qualifier, a range that runs backwards and octets that are
    missing; OBJECT_UNKNOWN for objects whose size is not known.
    """
    octets = _Octets(data)
    headers = []
    while octets.place < len(data):
        headers.append(_header(octets, objects=objects))
    return headers


def _header(octets: _Octets, *, objects: bool) -> ObjectHeader:
    begin = octets.place
    group, variation, code = octets.take(3)
    try:
        qualifier = Qualifier(code)
    except ValueError:
        raise BadRequest(IIN.PARAMETER_ERROR) from None
    start, stop, count = _specifier(octets, qualifier)
    size = _object_size(group, variation, qualifier, count) if objects and count else 0
    indexes = None
    if qualifier in (Qualifier.INDEX_8, Qualifier.INDEX_16):
        indexes, body = _prefixed(octets, 1 if qualifier == Qualifier.INDEX_8 else 2, count, size)
    else:
        body = octets.take(size if group == 80 else size * max(count, 0))
    raw = octets.data[begin : octets.place]
    return ObjectHeader(group, variation, qualifier, start, stop, count, indexes, body, raw)


def _specifier(octets: _Octets, qualifier: Qualifier) -> tuple[int, int, int]:
    """Start, stop and count of a range specifier."""
    width = 2 if qualifier in (Qualifier.RANGE_16, Qualifier.COUNT_16, Qualifier.INDEX_16) else 1
    if qualifier == Qualifier.ALL:
        return 0, -1, -1
    if qualifier in (Qualifier.RANGE_8, Qualifier.RANGE_16):
        start, stop = octets.number(width), octets.number(width)
        if stop < start:
            raise BadRequest(IIN.PARAMETER_ERROR)
        return start, stop, stop - start + 1
    return 0, -1, octets.number(width)


def _object_size(group: int, variation: int, qualifier: Qualifier, count: int) -> int:
    """Octets of one object (of all of them for packed bits)."""
    if qualifier == Qualifier.ALL:
        return 0  # a header alone, as in `assign class`
    if group == 80 and variation == 1:
        return -(-count // 8)
    size = SIZES.get((group, variation))
    if size is None:
        raise BadRequest(IIN.OBJECT_UNKNOWN)
    return size


def _prefixed(octets: _Octets, width: int, count: int, size: int) -> tuple[npt.NDArray[np.int64], bytes]:
    """Indexes and joined objects of a list with index prefixes."""
    step = width + size
    rows = np.frombuffer(octets.take(count * step), np.uint8).reshape(count, step)
    indexes = rows[:, 0].astype(np.int64)
    if width == 2:
        indexes |= rows[:, 1].astype(np.int64) << 8
    return indexes, rows[:, width:].tobytes()
