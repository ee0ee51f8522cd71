"""One value to one node, once: in the node's own type, read back, told as what it is (OPC UA Part 4, clause 5.10.4)."""

from __future__ import annotations

import asyncio
import math
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from acquisition import WriteOutcome, WriteResult
from process_image.quality import BAD_NOT_SUPPORTED, is_bad, quality_name

from opcua_client.channel import Channel
from opcua_client.cursor import Cursor, Localized, Sample, Value, answer
from opcua_client.datatypes import Kind, Wire
from opcua_client.encoding import VALUE_ATTRIBUTE, NodeId
from opcua_client.errors import Malformed, OpcUaError, Refused, Unanswered, Unreachable
from opcua_client.qualities import BAD_INDEX_RANGE_NO_DATA, BAD_OUT_OF_RANGE, BAD_TYPE_MISMATCH
from opcua_client.services import read_attributes, settled, write_body, write_status
from opcua_client.skipping import HAS_DIMENSIONS
from opcua_client.typesystem import known, looked_up
from opcua_client.variants import Unfit, encode_scalar, encode_variant, imaged, plain

DATA_TYPE, VALUE_RANK = 14, 15
"""Attribute ids (Part 6, annex A.1)."""
SETTLE_SECONDS = 1.0
"""How long a value may take to be what was written: servers hand it to a controller that has a cycle of its own."""
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.2
"""Seconds between two read-backs."""
GOOD_CLAMPED = 0x0030_0000
NOT_READABLE = frozenset([0x803A0000, 0x801F0000, 0x803E0000])
"""BadNotReadable, BadUserAccessDenied, BadNotFound on reading: there is nothing to compare with."""
_WRITE = 673
_ANY_SCALAR = frozenset([-1, -2, -3])
"""ValueRanks that take a scalar: Scalar, Any, ScalarOrOneDimension (Part 3, clause 5.6.2)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What is to be written, and where."""

    node: NodeId
    value: Any
    label: str
    """`device: write node`, with which every message begins."""
    index: int | None = None
    """Element of an array, None = the whole value."""
    array: bool = False
    """Whether `value` is a list, for the whole array."""
    kind: Kind | None = None
    """What the file says of the type, where the server does not know it itself."""
    verify: bool = True
    tolerance: float = 0.0
    deadline: float = math.inf
    """Monotonic time at which everything ends; what has not been sent by then never is."""
    timeout: float = 4.0
    """Seconds for each request."""
    on_send: Callable[[], None] = lambda: None
    """Called right before the write leaves."""

    def left(self) -> float:
        """Seconds for the next request."""
        return min(self.timeout, self.deadline - time.monotonic())

    def message(self, what: str, advice: str = "") -> str:
        """A message of the form that all have."""
        return f"{self.label}: {what}; {advice}" if advice else f"{self.label}: {what}"

    def refused(self, what: str, quality: int) -> WriteResult:
        """Not sent, because the node can't take it."""
        return WriteResult(outcome=WriteOutcome.REFUSED, message=self.message(what), quality=quality)

    def failed(self, error: OpcUaError) -> WriteResult:
        """Not sent, because the way is not there."""
        return WriteResult(outcome=WriteOutcome.FAILED, message=self.message(str(error)), quality=error.quality)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Target:
    """What the node is now."""

    wire: Wire
    sample: Sample

    index: int | None = None
    """Element that is written, None = the whole value."""

    @property
    def previous(self) -> bool | int | float | str | bytes | None:
        """The last good value."""
        return None if is_bad(self.sample.status) else imaged(element(self.sample.value, self.index))

    @property
    def length(self) -> int:
        """Elements that the array had."""
        return _length(self.sample.value)

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Lengths of a matrix; none where they do not fit its elements, which would lead to another one."""
        found = self.sample.value.dimensions if self.sample.value is not None else ()
        return found if math.prod(found) == self.length and min(found, default=0) >= 0 else ()

    def index_range(self) -> str:
        """The element as a NumericRange (Part 4, clause 7.22): one index for each dimension, the last the fastest."""
        rest, steps = self.index, []
        if rest is None:
            return ""
        for size in reversed(self.dimensions):
            rest, step = divmod(rest, size)
            steps.append(step)
        return ",".join(map(str, reversed(steps or [rest])))

    def encode(self, value: Any, *, array: bool) -> bytes:
        """The Variant to be sent: an element goes as an array of one, of as many dimensions as the node has."""
        if self.index is None:
            return encode_variant(self.wire, value, array=array)
        held = self.sample.value
        if self.wire is Wire.BYTESTRING and held is not None and not held.array:  # as an array of Byte (Part 3, 8.8)
            return bytes([Wire.BYTESTRING]) + struct.pack("<i", 1) + encode_scalar(Wire.BYTE, value)
        made = encode_variant(self.wire, [value], array=True)
        dimensions = self.dimensions
        if not dimensions:
            return made
        ones = struct.pack(f"<i{len(dimensions)}i", len(dimensions), *[1] * len(dimensions))
        return bytes([made[0] | HAS_DIMENSIONS]) + made[1:] + ones


async def write_node(channel: Channel, setting: Setting) -> WriteResult:
    """Look at the node, write once, read back; every failure is in the result, none is raised."""
    try:
        target = await _look(channel, setting)
    except OpcUaError as error:
        return setting.failed(error)
    if isinstance(target, WriteResult):
        return target
    try:
        variant = target.encode(_kept(setting, target), array=setting.array)
    except Unfit as error:
        return setting.refused(str(error), BAD_OUT_OF_RANGE if _is_number(setting.value) else BAD_TYPE_MISMATCH)
    if setting.left() <= 0:
        return setting.failed(Unanswered("look", "the deadline is over; nothing was written"))
    return await _send(channel, setting, target, variant)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kept(setting: Setting, target: _Target) -> Any:
    """The value to be encoded: a text keeps its locale."""
    value, old = setting.value, element(target.sample.value, setting.index)
    if target.wire is Wire.LOCALIZEDTEXT and isinstance(value, str) and old is not None \
            and isinstance(old.value, Localized):
        value = Localized(text=value, locale=old.value.locale)
    return value


async def _look(channel: Channel, setting: Setting) -> _Target | WriteResult:
    """The node's type and what it holds."""
    wanted = [(setting.node, attribute) for attribute in (VALUE_ATTRIBUTE, DATA_TYPE, VALUE_RANK)]
    value, datatype, rank = await read_attributes(channel, wanted, setting.left())
    if datatype.value is None:
        return setting.failed(Refused("look", datatype.status or BAD_NOT_SUPPORTED,
                                      "compare the node with the server's address space"))
    ranks = rank.value.value if rank.value is not None else -2
    wants_array = setting.array or setting.index is not None
    is_array = value.value.array if value.value is not None else ranks not in _ANY_SCALAR
    octets = setting.index is not None and value.value is not None and value.value.wire is Wire.BYTESTRING
    if is_array != wants_array and not (setting.array and ranks in (-2, -3)) and not octets:
        return setting.refused("the node is an array; a list, or one of its elements" if is_array
                               else "the node is no array; a single value", BAD_TYPE_MISMATCH)
    wire = await _wire(channel, setting, datatype.value.value, value.value)
    if wire is None or wire in (Wire.NULL, Wire.EXTENSIONOBJECT, Wire.VARIANT, Wire.DATAVALUE, Wire.DIAGNOSTICINFO):
        name = wire.spelled if wire is not None else "unknown"
        return setting.refused(f"its type is {name}, which can't be written; a built-in type without structure",
                               BAD_NOT_SUPPORTED)
    target = _Target(wire=wire, sample=value, index=setting.index)
    if setting.index is not None and setting.index >= target.length:
        return setting.refused(f"the array has {target.length} elements now; an element that is there",
                               BAD_INDEX_RANGE_NO_DATA)
    return target


async def _wire(channel: Channel, setting: Setting, datatype: NodeId, value: Value | None) -> Wire | None:
    """The node's own type: what its DataType says, else its value, else its supertypes, else the file."""
    found = known(datatype)
    if found is not None:
        return found
    if value is not None and value.wire is not Wire.NULL:
        return value.wire
    found = await looked_up(channel, datatype, setting.left())
    if found is not None or setting.kind is None:
        return found
    return next((wire for wire in setting.kind.wire if wire.spelled == setting.kind.name), None)


async def _send(channel: Channel, setting: Setting, target: _Target, variant: bytes) -> WriteResult:
    """The write itself: sent once, whatever becomes of it."""
    body = write_body(setting.node, variant, target.index_range())
    timeout = setting.left()
    setting.on_send()
    try:
        sent = channel.request(_WRITE, body, timeout)
    except OpcUaError as error:
        return setting.failed(error)
    previous = target.previous
    try:
        status = answer(await settled(sent, timeout, "write"), _WRITE + 3, "write", write_status)
    except Refused as error:
        status = error.quality
    except (Unanswered, Unreachable, Malformed) as error:
        return WriteResult(
            outcome=WriteOutcome.TIMED_OUT, quality=error.quality, previous=previous, sent=True,
            message=setting.message(error.what, "whether the server acted is not known; look before you write again"),
        )
    if is_bad(status):
        return WriteResult(outcome=WriteOutcome.FAILED, quality=status, previous=previous, sent=True,
                           message=setting.message(f"the server answers {quality_name(status)}", _advice(status)))
    if not setting.verify:
        return WriteResult(outcome=WriteOutcome.WRITTEN, quality=status, previous=previous, sent=True)
    return await _verify(channel, setting, target, variant, status)


async def _verify(channel: Channel, setting: Setting, target: _Target, variant: bytes, status: int) -> WriteResult:
    """Read back until it is what was written; something else counts once it had its time."""
    end = min(time.monotonic() + SETTLE_SECONDS, setting.deadline)
    pause = FIRST_PAUSE
    previous = target.previous
    while True:
        try:
            (found,) = await read_attributes(channel, [(setting.node, VALUE_ATTRIBUTE)], max(setting.left(), 0.01))
        except OpcUaError as error:
            return WriteResult(outcome=WriteOutcome.NOT_VERIFIED, quality=status, previous=previous, sent=True,
                               message=setting.message(f"written, but not read back: {error}"))
        if found.status in NOT_READABLE:
            return WriteResult(outcome=WriteOutcome.WRITTEN, quality=status, previous=previous, sent=True,
                               message=setting.message(f"reading back gives {quality_name(found.status)}"))
        value = element(found.value, setting.index) if _same_length(target, found.value) else None
        if not is_bad(found.status) and _same(setting, target.wire, variant, value):
            return WriteResult(outcome=WriteOutcome.VERIFIED, quality=status, previous=previous, read=imaged(value),
                               sent=True)
        if time.monotonic() + pause >= end:
            break
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
    return WriteResult(outcome=WriteOutcome.NOT_VERIFIED, quality=status, previous=previous, read=imaged(value),
                       sent=True, message=setting.message(*_why(setting, target, status, found, value)))


def element(found: Value | None, index: int | None) -> Value | None:
    """One element of an array as a value of its own; the value itself where no index is given."""
    if index is None or found is None:
        return found
    octets = found.wire is Wire.BYTESTRING and not found.array
    if not isinstance(found.value, bytes if octets else list) or not 0 <= index < len(found.value):
        return None
    return Value(wire=Wire.BYTE if octets else found.wire, value=found.value[index])


def _length(found: Value | None) -> int:
    return len(found.value) if found is not None and isinstance(found.value, (list, bytes)) else 0


def _same_length(target: _Target, found: Value | None) -> bool:
    """Whether the other elements are still there: a server may take one element for the whole array."""
    return target.index is None or _length(found) == target.length


def _same(setting: Setting, wire: Wire, variant: bytes, found: Value | None) -> bool:
    if found is None:
        return False
    if setting.index is None and found.wire is wire and found.payload == variant[1:]:
        return True
    return _close(_sent(setting, variant), plain(found), setting.tolerance)


def _sent(setting: Setting, variant: bytes) -> Any:
    """The value as its encoding holds it."""
    return plain(element(Cursor(variant).variant(), None if setting.index is None else 0))


def _close(sent: Any, found: Any, tolerance: float) -> bool:
    if isinstance(sent, list) and isinstance(found, list):
        return len(sent) == len(found) and all(_close(a, b, tolerance) for a, b in zip(sent, found, strict=True))
    if _is_number(sent) and _is_number(found):
        return bool(sent == found or abs(sent - found) <= tolerance or (math.isnan(sent) and math.isnan(found)))
    return type(sent) is type(found) and bool(sent == found)


def _why(setting: Setting, target: _Target, status: int, found: Sample, value: Value | None) -> tuple[str, str]:
    """What the server did instead, and what to do."""
    if not is_bad(found.status) and not _same_length(target, found.value):
        return (f"the server took the element for the whole array, which had {target.length} elements and has "
                f"{_length(found.value)}", "restore the array; this server knows no IndexRange, so take writable out")
    if is_bad(found.status) or value is None:
        what = quality_name(found.status) if is_bad(found.status) else "no value"
        return f"the server confirmed, but {what} was read back", "look at the device"
    got = plain(value)
    if status == GOOD_CLAMPED:
        return f"the server clamped the value to {got!r}", "write a value within its limits"
    if not is_bad(target.sample.status) and _close(plain(element(target.sample.value, setting.index)), got, 0.0):
        return f"the server confirmed and ignored it: {got!r} stands as before", "look at the device's own permissions"
    return f"the server confirmed, but {got!r} was read back", "it may clamp, round, or write it itself"


def _advice(status: int) -> str:
    return {
        0x803B0000: "the node can't be written by anybody; take writable out of the file",  # BadNotWritable
        0x801F0000: "the user of this entry may not write it",  # BadUserAccessDenied
        0x80740000: "the node wants another type",  # BadTypeMismatch
        0x803C0000: "the server's limits are narrower",  # BadOutOfRange
        0x80730000: "the server takes no such write, such as one to an element of an array",  # BadWriteNotSupported
        0x80360000: "it takes no single elements; the whole array, or a node for each element",  # BadIndexRangeInvalid
        0x80370000: "it may take no single elements of this type; the whole value",  # BadIndexRangeNoData
        0x80340000: "compare the node with the server's address space",  # BadNodeIdUnknown
    }.get(status, "")
