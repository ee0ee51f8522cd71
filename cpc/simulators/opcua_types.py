"""Values of every built-in type of OPC UA, made from a number that moves or from what an order says."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from opcua_client import kind_of

from cpc.simulators.faults import OrderError

types: Any = ua
"""The library's types for values: its aliases of Python's own are strangers to a type checker."""


def variant_type(datatype: str) -> ua.VariantType:
    """The built-in type of a file's type name; what is no built-in type moves as the type it is stored as."""
    name = datatype.strip().rpartition(":")[2].lower()
    types = {kind.name.lower(): kind for kind in _MAKERS}
    return types.get(name) or types[kind_of(datatype).name.lower()]


@dataclass(frozen=True, slots=True)
class Sample:
    """Where a curve stands."""

    number: float
    """Between low and high."""
    share: float
    """Between 0 and 1."""

    def whole(self, low: int, high: int) -> int:
        """The number as an integer that its type holds."""
        return max(low, min(high, round(self.number)))


def value_of(kind: ua.VariantType, number: float, share: float) -> Any:
    """A value of a type that stands for a number, `share` of the way from low to high."""
    return _MAKERS[kind](Sample(number, share))


_MAKERS: dict[ua.VariantType, Callable[[Sample], Any]] = {
    ua.VariantType.Boolean: lambda sample: sample.share >= 0.5,
    ua.VariantType.SByte: lambda sample: sample.whole(-(2**7), 2**7 - 1),
    ua.VariantType.Byte: lambda sample: sample.whole(0, 2**8 - 1),
    ua.VariantType.Int16: lambda sample: sample.whole(-(2**15), 2**15 - 1),
    ua.VariantType.UInt16: lambda sample: sample.whole(0, 2**16 - 1),
    ua.VariantType.Int32: lambda sample: sample.whole(-(2**31), 2**31 - 1),
    ua.VariantType.UInt32: lambda sample: sample.whole(0, 2**32 - 1),
    ua.VariantType.Int64: lambda sample: sample.whole(-(2**63), 2**63 - 1),
    ua.VariantType.UInt64: lambda sample: sample.whole(0, 2**64 - 1),
    ua.VariantType.Float: lambda sample: sample.number,
    ua.VariantType.Double: lambda sample: sample.number,
    ua.VariantType.String: lambda sample: f"{sample.number:.1f}",
    ua.VariantType.XmlElement: lambda sample: types.XmlElement(f"<value>{sample.number:.1f}</value>"),
    ua.VariantType.DateTime: lambda sample: datetime.now(UTC),  # noqa: ARG005
    ua.VariantType.Guid: lambda sample: uuid.UUID(int=round(sample.share * 1e6)),
    ua.VariantType.ByteString: lambda sample: round(sample.share * 1e6).to_bytes(4, "big"),
    ua.VariantType.NodeId: lambda sample: types.NodeId(round(sample.share * 1e4), 2),
    ua.VariantType.ExpandedNodeId: lambda sample: types.ExpandedNodeId(round(sample.share * 1e4), 2),
    ua.VariantType.StatusCode: lambda sample: types.StatusCode(0),  # noqa: ARG005
    ua.VariantType.QualifiedName: lambda sample: types.QualifiedName(f"{sample.number:.1f}", 2),
    ua.VariantType.LocalizedText: lambda sample: types.LocalizedText(f"{sample.number:.1f}"),
}


def value_from(kind: ua.VariantType, given: Any) -> Any:
    """A value of a type as an order gives it; OrderError where it is none. Lists are arrays."""
    if isinstance(given, list):
        return [value_from(kind, item) for item in given]
    try:
        return _READERS.get(kind, _number)(given)
    except (TypeError, ValueError, OverflowError) as error:
        raise OrderError(f"{given!r} is no {kind.name}; {error}") from error


def _number(_given: Any) -> Any:
    raise ValueError("such values can't be ordered")


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def read(given: Any) -> int:
        value = round(float(given)) if not isinstance(given, int) else int(given)
        if not low <= value <= high:
            raise ValueError(f"{low} to {high}")
        return value
    return read


def _truth(given: Any) -> bool:
    if given in (True, False, 0, 1):
        return bool(given)
    raise ValueError("true or false")


_READERS: dict[ua.VariantType, Callable[[Any], Any]] = {
    ua.VariantType.Boolean: _truth,
    ua.VariantType.SByte: _whole(-(2**7), 2**7 - 1),
    ua.VariantType.Byte: _whole(0, 2**8 - 1),
    ua.VariantType.Int16: _whole(-(2**15), 2**15 - 1),
    ua.VariantType.UInt16: _whole(0, 2**16 - 1),
    ua.VariantType.Int32: _whole(-(2**31), 2**31 - 1),
    ua.VariantType.UInt32: _whole(0, 2**32 - 1),
    ua.VariantType.Int64: _whole(-(2**63), 2**63 - 1),
    ua.VariantType.UInt64: _whole(0, 2**64 - 1),
    ua.VariantType.Float: float,
    ua.VariantType.Double: float,
    ua.VariantType.String: str,
    ua.VariantType.DateTime: lambda given: datetime.fromisoformat(str(given)),
    ua.VariantType.Guid: lambda given: uuid.UUID(str(given)),
    ua.VariantType.ByteString: lambda given: bytes.fromhex(str(given)),
    ua.VariantType.LocalizedText: lambda given: types.LocalizedText(str(given)),
}

WHOLE = frozenset([
    ua.VariantType.SByte, ua.VariantType.Byte, ua.VariantType.Int16, ua.VariantType.UInt16, ua.VariantType.Int32,
    ua.VariantType.UInt32, ua.VariantType.Int64, ua.VariantType.UInt64,
])
NUMBERS = WHOLE | {ua.VariantType.Float, ua.VariantType.Double}


def status_of(text: str) -> ua.StatusCode:
    """A status by its name in Part 6, annex A, or as a number; OrderError for neither."""
    number = getattr(types.StatusCodes, text, None)
    if number is None:
        try:
            number = int(text, 0)
        except ValueError as error:
            raise OrderError(f"no status {text!r}; a name such as BadDeviceFailure, or a number") from error
    return ua.StatusCode(ua.UInt32(number))
