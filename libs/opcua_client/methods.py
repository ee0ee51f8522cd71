"""Methods called with arguments in the types that they declare (OPC UA Part 4, clause 5.11; Part 3, clause 8.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from process_image.quality import is_bad, quality_name

from opcua_client.channel import Channel
from opcua_client.cursor import Cursor, Extension
from opcua_client.datatypes import Wire
from opcua_client.encoding import VALUE_ATTRIBUTE, NodeId
from opcua_client.errors import OpcUaError, Refused
from opcua_client.qualities import BAD_TYPE_MISMATCH
from opcua_client.services import HAS_PROPERTY, VARIABLE_CLASS, Browsing, browse, call, read_attributes
from opcua_client.typesystem import looked_up
from opcua_client.variants import Unfit, encode_variant, plain

BAD_ARGUMENTS_MISSING, BAD_TOO_MANY_ARGUMENTS = 0x80760000, 0x80E50000


@dataclass(frozen=True, kw_only=True, slots=True)
class Argument:
    """One argument that a method declares (Part 3, clause 8.6)."""

    name: str
    datatype: NodeId
    array: bool
    """Whether it takes a list (ValueRank of 0 and above)."""
    description: str = ""


async def input_arguments(channel: Channel, method: NodeId, timeout: float) -> tuple[Argument, ...]:
    """What a method declares to take; empty where it has no property InputArguments."""
    ((_, references),) = await browse(channel, [method], Browsing(kind=HAS_PROPERTY, classes=VARIABLE_CLASS), timeout)
    found = next((r.node for r in references if r.browse_name.name == "InputArguments"), None)
    if found is None:
        return ()
    (sample,) = await read_attributes(channel, [(found, VALUE_ATTRIBUTE)], timeout)
    if is_bad(sample.status):
        raise Refused("read InputArguments", sample.status)
    values = sample.value.value if sample.value is not None and sample.value.array else []
    return tuple(argument(item) for item in values if isinstance(item, Extension))


def argument(found: Extension) -> Argument:
    """An Argument structure taken apart; ValueError or struct.error for what is none."""
    cursor = Cursor(found.body)
    name, datatype, rank = cursor.text(), cursor.node_id(), cursor.number("<i")
    cursor.array(lambda: cursor.number("<I"))
    return Argument(name=name, datatype=datatype, array=rank >= 0, description=cursor.localized().text)


async def call_method(channel: Channel, object_: NodeId, method: NodeId, arguments: Sequence[Any],
                      timeout: float) -> list[Any]:
    """Call a method once; its output arguments. OpcUaError where the arguments do not fit or the server refuses."""
    wanted = await input_arguments(channel, method, timeout)
    if len(arguments) != len(wanted):
        names = ", ".join(a.name for a in wanted) or "none"
        few = len(arguments) < len(wanted)
        raise OpcUaError("call", f"{len(arguments)} arguments instead of {len(wanted)}", f"it takes {names}",
                         quality=BAD_ARGUMENTS_MISSING if few else BAD_TOO_MANY_ARGUMENTS)
    encoded = [await _encoded(channel, want, value, timeout) for want, value in zip(wanted, arguments, strict=True)]
    result = await call(channel, object_, method, encoded, timeout)
    if is_bad(result.status):
        bad = [f"{want.name}: {quality_name(code)}" for want, code in zip(wanted, result.arguments, strict=False)
               if is_bad(code)]
        raise Refused("call", result.status, ", ".join(bad))
    return [plain(value) for value in result.outputs]


async def _encoded(channel: Channel, want: Argument, value: Any, timeout: float) -> bytes:
    wire = await looked_up(channel, want.datatype, timeout)
    if wire is None:
        wire = _natural(value)
    try:
        return encode_variant(wire, value, array=want.array)
    except Unfit as error:
        raise OpcUaError("call", f"argument {want.name}: {error}", quality=BAD_TYPE_MISMATCH) from error


def _natural(value: Any) -> Wire:
    """The type of a value whose argument may be anything."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    for kind, wire in ((bool, Wire.BOOLEAN), (int, Wire.INT64), (float, Wire.DOUBLE), (bytes, Wire.BYTESTRING)):
        if isinstance(first, kind):
            return wire
    return Wire.STRING
