"""Where the elements of arrays and the fields of structures lie in an answer (OPC UA Part 6, clauses 5.2.2 and 5.2.6).

A Placer walks over one value after the other. For each point it notes an encoding byte, begin and end, as if the point
were a value of its own; what is not there gets one of the marks of ABSENCE in place of an encoding byte. The bytes on
which the places depend (lengths, masks, type ids) are noted as guards.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

from process_image.quality import BAD_DECODING_ERROR, BAD_WAITING_FOR_INITIAL_DATA

from opcua_client.datatypes import Wire
from opcua_client.encoding import NodeId, decode_node_id
from opcua_client.errors import Malformed
from opcua_client.qualities import (
    BAD_DATA_TYPE_ID_UNKNOWN,
    BAD_INDEX_RANGE_NO_DATA,
    BAD_NO_DATA,
    BAD_NOT_FOUND,
    BAD_TYPE_MISMATCH,
)
from opcua_client.skipping import (
    DEEPEST,
    HAS_DIMENSIONS,
    IS_ARRAY,
    LENGTH_PREFIXED,
    OPERATION,
    SIZES,
    bounded,
    localized_guards,
    skip_node_id,
    skip_payload,
    skip_string,
)
from opcua_client.structures import NOTHING, Item, Layout, StructField, StructType, Types, Want

NO_ELEMENT, NO_FIELD, NO_PATH, NO_TYPE, NO_FIT, NO_ARRAY, NO_STRUCTURE, NOT_YET, NO_SINGLE = range(
    0x20, 0x29)
ABSENCE: dict[int, tuple[int, str]] = {
    NO_ELEMENT: (BAD_INDEX_RANGE_NO_DATA, "the array is shorter"),
    NO_FIELD: (BAD_NO_DATA, "the optional field is absent"),
    NO_PATH: (BAD_NOT_FOUND, "the structure has no such field"),
    NO_TYPE: (BAD_DATA_TYPE_ID_UNKNOWN, "the structure's type is not known"),
    NOT_YET: (BAD_WAITING_FOR_INITIAL_DATA, "the structure's type is being learned"),
    NO_FIT: (BAD_DECODING_ERROR, "the value does not fit the structure's definition"),
    NO_ARRAY: (BAD_TYPE_MISMATCH, "not an array"),
    NO_STRUCTURE: (BAD_TYPE_MISMATCH, "not a structure"),
    NO_SINGLE: (BAD_TYPE_MISMATCH, "a Variant within a Variant"),
}
"""Marks that stand in place of an encoding byte, none of which a Variant can have; quality and reason."""
MOST_EMPTY = 1_000
"""Structures without a byte in one answer: nested definitions of a hostile server could make billions of them."""


@dataclass(slots=True)
class Placer:
    """Notes places for the points of one answer."""

    body: bytes
    types: Types
    codes: list[int]
    """By point: encoding byte or mark."""
    begins: list[int]
    ends: list[int]
    guards: list[int] = field(default_factory=list)
    reusable: bool = True
    """Whether the guards tell all that the places depend on."""
    _node: NodeId | None = None
    _empty: int = 0

    def value(self, at: int, code: int, item: Item) -> int:
        """The payload of an item's Variant with encoding byte `code`; returns where it ends."""
        self._node = item.node
        want = item.want
        if want.elements and code == Wire.BYTESTRING:  # the same as an array of Byte (Part 3, clause 8.8)
            end = self._guarded_string(at)
            self._elements(at + 4, end - at - 4, Wire.BYTE, want)
            return end
        return self._variant(at, code, want, 0)

    def lose(self, item: Item) -> None:
        """The item has no value."""
        self._mark(item.want, Wire.NULL)

    def _mark(self, want: Want, mark: int) -> None:
        for place in want.places():
            self.codes[place], self.begins[place], self.ends[place] = mark, len(self.body), len(self.body)

    def _note(self, want: Want, code: int, at: int, end: int) -> None:
        if want.place >= 0:
            self.codes[want.place], self.begins[want.place], self.ends[want.place] = code, at, end

    def _guard(self, at: int, size: int) -> None:
        self.guards.extend(range(at, at + size))

    def _guarded_string(self, at: int) -> int:
        self._guard(at, 4)
        return skip_string(self.body, at)

    def _variant(self, at: int, code: int, want: Want, depth: int) -> int:
        kind = code & 0x3F
        if kind > 31 or (code & HAS_DIMENSIONS and not code & IS_ARRAY):
            raise Malformed(OPERATION, f"Variant type {code:#x} at byte {at - 1}")
        if not code & IS_ARRAY:
            for inner in want.elements.values():
                self._mark(inner, NO_ARRAY)
            if kind == Wire.VARIANT:  # only elements of an array may be Variants themselves
                self._mark(want, NO_SINGLE)
                self.reusable = False
                return skip_payload(self.body, at, code, depth)
            return self._scalar(at, kind, want, depth)
        end = self._array(at, kind, want, depth)
        if code & HAS_DIMENSIONS:
            self._guard(end, 4)
            (dimensions,) = struct.unpack_from("<i", self.body, end)
            end = bounded(self.body, end + 4, max(dimensions, 0) * 4)
        self._note(want, code, at, end)
        for inner in want.fields.values():
            self._mark(inner, NO_STRUCTURE)
        return end

    def _array(self, at: int, kind: int | StructType, want: Want, depth: int) -> int:
        """An Int32 length and so many elements."""
        self._guard(at, 4)
        (length,) = struct.unpack_from("<i", self.body, at)
        return self._elements(at + 4, max(length, 0), kind, want, depth)

    def _elements(self, at: int, length: int, kind: int | StructType, want: Want, depth: int = 0) -> int:
        for place, inner in want.elements.items():
            if place >= length:
                self._mark(inner, NO_ELEMENT)
        bounded(self.body, at, length)  # each takes a byte at least, or is a Null that means nothing
        size = -1 if isinstance(kind, StructType) else SIZES[kind]
        if size >= 0:
            end = bounded(self.body, at, length * size)
            for place, inner in want.elements.items():
                if place < length:
                    self._scalar(at + place * size, int(kind), inner, depth)  # type: ignore[arg-type]
            return end
        for place in range(length):
            at = self._single(at, kind, want.elements.get(place, NOTHING), depth + 1)
        return at

    def _single(self, at: int, kind: int | StructType, want: Want, depth: int) -> int:
        if isinstance(kind, StructType):
            return self._structure(at, kind, want, depth)
        return self._scalar(at, kind, want, depth)

    def _scalar(self, at: int, kind: int, want: Want, depth: int) -> int:
        if depth > DEEPEST:
            raise Malformed(OPERATION, "nested too deep")
        if kind == Wire.VARIANT:
            self._guard(at, 1)
            return self._variant(at + 1, self.body[at], want, depth + 1)
        if kind == Wire.EXTENSIONOBJECT:
            return self._extension(at, want, depth)
        for inner in want.fields.values():
            self._mark(inner, NO_STRUCTURE)
        size = SIZES[kind]
        if size >= 0:
            end = bounded(self.body, at, size)
        elif kind in LENGTH_PREFIXED:
            end = self._guarded_string(at)
        else:
            end = skip_payload(self.body, at, kind, depth)
            if kind == Wire.LOCALIZEDTEXT:
                self.guards.extend(localized_guards(self.body, at))
            else:
                self.reusable = False
        self._note(want, kind, at, end)
        return end

    def _extension(self, at: int, want: Want, depth: int) -> int:
        """An ExtensionObject (clause 5.2.2.15): whatever is wrong inside harms only this one."""
        body = self.body
        begin, form_at = at, skip_node_id(body, at)
        form = body[form_at]
        if form > 2:
            raise Malformed(OPERATION, f"ExtensionObject form {form:#x} at byte {at}")
        end = self._guarded_string(form_at + 1) if form else form_at + 1
        self._guard(begin, form_at + 1 - begin)
        self._note(want, Wire.EXTENSIONOBJECT, begin, end)
        if not want.fields:
            return end
        encoding, _ = decode_node_id(body, begin)
        known = self.types.find(encoding, self._node or encoding) if form == 1 else None
        if known is None:
            unknown = NO_TYPE if encoding in self.types.hopeless else NOT_YET
            mark = (NO_FIELD, unknown, NO_FIT)[form]
            self._mark_fields(want, mark)
            return end
        try:
            if self._structure(form_at + 5, known, want, depth + 1) == end:
                return end
        except (IndexError, struct.error, Malformed):
            pass
        self._mark_fields(want, NO_FIT)
        self.reusable = False
        return end

    def _mark_fields(self, want: Want, mark: int) -> None:
        for inner in want.fields.values():
            self._mark(inner, mark)

    def _structure(self, at: int, kind: StructType, want: Want, depth: int) -> int:
        """The fields of a structure that stand here one after the other."""
        if depth > DEEPEST:
            raise Malformed(OPERATION, "nested too deep")
        begin, chosen = at, 0
        if kind.layout is not Layout.PLAIN:
            self._guard(at, 4)
            (chosen,) = struct.unpack_from("<I", self.body, at)
            at += 4
        bit = 1
        for number, inner in enumerate(kind.fields, 1):
            if kind.layout is Layout.UNION:
                there = chosen == number
            elif inner.optional and kind.layout is Layout.OPTIONAL:
                there, bit = bool(chosen & bit), bit << 1
            else:
                there = True
            wanted = want.fields.get(inner.name, NOTHING)
            if there:
                at = self._field(at, inner, wanted, depth)
            else:
                self._mark(wanted, NO_FIELD)
        if at == begin:
            self._empty += 1
            if self._empty > MOST_EMPTY:
                raise Malformed(OPERATION, "too many structures without content")
        self._note(want, Wire.EXTENSIONOBJECT, begin, at)
        missing = want.fields.keys() - {inner.name for inner in kind.fields}
        for name in missing:
            self._mark(want.fields[name], NO_PATH)
        return at

    def _field(self, at: int, inner: StructField, want: Want, depth: int) -> int:
        if inner.rank < 0:
            if inner.type is not Wire.VARIANT:
                for element in want.elements.values():
                    self._mark(element, NO_ARRAY)
            return self._single(at, inner.type, want, depth + 1)
        begin = at
        at = self._matrix(at, inner, want, depth) if inner.rank > 1 else self._array(at, inner.type, want, depth)
        code = Wire.EXTENSIONOBJECT if isinstance(inner.type, StructType) else inner.type
        self._note(want, code | IS_ARRAY, begin, at)
        for member in want.fields.values():
            self._mark(member, NO_STRUCTURE)
        return at

    def _matrix(self, at: int, inner: StructField, want: Want, depth: int) -> int:
        """Several dimensions: an array of their lengths, then all elements (clause 5.2.5)."""
        (count,) = struct.unpack_from("<i", self.body, at)
        end = bounded(self.body, at + 4, max(count, 0) * 4)
        self._guard(at, end - at)
        lengths = struct.unpack_from(f"<{max(count, 0)}i", self.body, at + 4)
        elements = math.prod(lengths) if lengths and min(lengths) > 0 else 0
        return self._elements(end, elements, inner.type, want, depth)
