"""What a client writes to a simulated OPC UA server, changed or put into the array that it is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from asyncua import ua

from cpc.simulators.opcua_types import types


def with_value(item: ua.WriteValue, value: Any) -> ua.WriteValue:
    """The same write with another value of the same type."""
    assert item.Value.Value is not None
    variant = ua.Variant(value, item.Value.Value.VariantType)
    return ua.WriteValue(NodeId=item.NodeId, AttributeId=item.AttributeId, IndexRange=item.IndexRange,
                         Value=replace(item.Value, Value=variant))


def with_elements(item: ua.WriteValue, held: ua.Variant) -> tuple[ua.WriteValue, ua.StatusCode]:
    """The write of an IndexRange as one of the whole array, and whether it can be (Part 4, clauses 5.10.4 and 7.22).

    asyncua does not look at the IndexRange and would take the elements for the array.
    """
    first, colon, last = str(item.IndexRange).partition(":")
    if not isinstance(held.Value, list) or not first.isdecimal() or (colon and not last.isdecimal()):
        return item, types.StatusCode(types.StatusCodes.BadIndexRangeInvalid)
    given = item.Value.Value.Value if item.Value.Value is not None else None
    begin, end = int(first), int(last or first) + 1
    if end > len(held.Value) or not isinstance(given, list) or len(given) != end - begin:
        return item, types.StatusCode(types.StatusCodes.BadIndexRangeNoData)
    kind = item.Value.Value.VariantType if item.Value.Value is not None else held.VariantType
    if kind is not held.VariantType:
        return item, types.StatusCode(types.StatusCodes.BadTypeMismatch)
    whole = types.Variant([*held.Value[:begin], *given, *held.Value[end:]], kind, is_array=True)
    return (types.WriteValue(NodeId=item.NodeId, AttributeId=item.AttributeId, Value=replace(item.Value, Value=whole)),
            types.StatusCode(0))
