"""One point by itself: the requests that read it, and its value in the type that the image gives it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from acquisition import Value
from endpoint_config.models import ModbusPoint
from modbus_frames import read_request
from process_image import RECORD
from process_image.quality import is_bad
from process_image.snapshot import typed as as_image

from modbus_tcp_client.decode import DecodePlan
from modbus_tcp_client.lanes import find
from modbus_tcp_client.plan import factor_span, plan, value_span
from modbus_tcp_client.points import image_type


class SinglePoint:
    """How one point is read by itself."""

    def __init__(self, point: ModbusPoint) -> None:
        self.point = point
        self.requests = plan([point])
        """One, or two where the scale factor lies apart."""
        self.questions = tuple(read_request(r.function, r.address, r.count) for r in self.requests)
        self._decode = DecodePlan([point], self.requests)

    def value(self, answers: Sequence[bytes]) -> Value | None:
        """The value that the data of all answers make; None where they mean that there is none."""
        row = np.zeros(self._decode.width, np.uint8)
        for offset, data in zip(self._decode.offsets, answers, strict=True):
            row[offset : offset + len(data)] = np.frombuffer(data, np.uint8)
        return self._take(row)

    def as_read(self, content: bytes, factor: int = 0) -> Value | None:
        """What the point reads as once `content` (see `encode`) stands in it."""
        row = np.zeros(self._decode.width, np.uint8)
        place = find(value_span(self.point), self.requests, self._decode.offsets)
        assert place is not None
        data = bytes((content[0] << place[2],)) if self.point.read_function.is_bits else content
        row[place[1] : place[1] + len(data)] = np.frombuffer(data, np.uint8)
        span = factor_span(self.point)
        other = None if span is None else find(span, self.requests, self._decode.offsets)
        if other is not None:
            row[other[1] : other[1] + 2] = np.frombuffer(factor_bytes(self.point, factor), np.uint8)
        return self._take(row)

    def _take(self, row: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> Value | None:
        records = np.zeros((1, 1), RECORD)
        self._decode.decode(row.reshape(1, -1), records)
        if is_bad(int(records[0, 0]["quality"])):
            return None
        texts = self._decode.texts(row)
        return texts[0][1] if texts else typed(self.point, records[0, 0])


single = functools.lru_cache(maxsize=1024)(SinglePoint)
"""The SinglePoint of a point, made once for those that are used again and again."""


def typed(point: ModbusPoint, record: Any) -> Value:
    """The number of a record in the type that the image gives the point."""
    return cast(Value, as_image(float(record["value"]), int(record["raw"]), image_type(point)))


def factor_bytes(point: ModbusPoint, factor: int) -> bytes:
    """A scale factor as its register holds it: an int16 in the point's byte order."""
    return (factor & 0xFFFF).to_bytes(2, "little" if point.order in ("BADC", "DCBA") else "big")


def factor_of(point: ModbusPoint, data: bytes) -> int:
    """The inverse of `factor_bytes`."""
    return int.from_bytes(data, "little" if point.order in ("BADC", "DCBA") else "big", signed=True)
