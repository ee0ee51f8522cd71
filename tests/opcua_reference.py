"""A second reader of read responses, written plainly from OPC UA Part 6, clause 5.2, to hold the fast one against."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

NUMBERS = {1: "<B", 2: "<b", 3: "<B", 4: "<h", 5: "<H", 6: "<i", 7: "<I", 8: "<q", 9: "<Q", 10: "<f", 11: "<d",
           13: "<q", 19: "<I"}
"""Built-in types that are one number: Boolean to Double, DateTime, StatusCode."""
DEEPEST = 40


class BrokenError(Exception):
    """The message is not what the standard allows."""


@dataclass(frozen=True)
class Read:
    """One DataValue."""

    status: int
    code: int
    """The Variant's encoding byte, -1 = no value."""
    value: Any
    """A number, bytes, a list of them, or (type id, content) of a structure."""


class Reference:
    """Reads one message from its begin to its end."""

    def __init__(self, body: bytes) -> None:
        self.body, self.at = body, 0

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.body):
            raise BrokenError(f"{size} bytes at {self.at}")
        self.at += size
        return self.body[self.at - size : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def octets(self) -> bytes:
        length = self.number("<i")
        if length < -1:
            raise BrokenError(f"length {length}")
        return self.take(max(length, 0))

    def node_id(self, *, expanded: bool = False) -> bytes:
        begin, form = self.at, self.number("<B")
        if form & 0xC0 and not expanded:
            raise BrokenError("flags in a NodeId")
        kind = form & 0x3F
        if kind > 5:
            raise BrokenError(f"NodeId form {kind}")
        if kind in (3, 5):
            self.take(2)
            self.octets()
        else:
            self.take((1, 3, 6, 0, 18)[kind])
        if form & 0x80:
            self.octets()
        if form & 0x40:
            self.take(4)
        return self.body[begin : self.at]

    def diagnostic(self, depth: int = 0) -> None:
        mask = self.number("<B")
        if mask > 0x7F or depth > DEEPEST:
            raise BrokenError("DiagnosticInfo")
        for bit in (1, 2, 4, 8):
            if mask & bit:
                self.take(4)
        if mask & 0x10:
            self.octets()
        if mask & 0x20:
            self.take(4)
        if mask & 0x40:
            self.diagnostic(depth + 1)

    def extension(self) -> tuple[bytes, bytes | None]:
        kind, form = self.node_id(), self.number("<B")
        if form > 2:
            raise BrokenError("ExtensionObject")
        content = self.octets() if form else None
        return kind, content if form == 1 else None

    def single(self, kind: int, depth: int) -> Any:  # noqa: C901 - one line for each type
        if depth > DEEPEST:
            raise BrokenError("nested too deep")
        if kind in NUMBERS:
            found = self.number(NUMBERS[kind])
            return bool(found) if kind == 1 else found
        if kind in (12, 15, 16) or 26 <= kind <= 31:
            return self.octets()
        if kind == 0:
            return None
        if kind == 14:
            return self.take(16)
        if kind in (17, 18):
            return self.node_id(expanded=kind == 18)
        if kind == 20:
            return self.take(2), self.octets()
        if kind == 21:
            mask = self.number("<B")
            if mask > 3:
                raise BrokenError("LocalizedText")
            locale = self.octets() if mask & 1 else b""
            return locale, self.octets() if mask & 2 else b""
        if kind == 22:
            return self.extension()
        if kind == 23:
            return self.data_value(depth + 1)
        if kind == 24:
            return self.variant(self.number("<B"), depth + 1)
        return self.diagnostic()

    def variant(self, code: int, depth: int) -> Any:
        kind = code & 0x3F
        if kind > 31 or code & 0xC0 == 0x40:
            raise BrokenError("Variant")
        if not code & 0x80:
            return self.single(kind, depth)
        length = self.number("<i")
        if length > len(self.body):
            raise BrokenError("array")
        found = [self.single(kind, depth + 1) for _ in range(length)]
        if code & 0x40:
            self.take(4 * max(self.number("<i"), 0))
        return found

    def data_value(self, depth: int = 0) -> Read:
        mask = self.number("<B")
        if mask > 0x3F:
            raise BrokenError("DataValue")
        code = self.number("<B") if mask & 1 else -1
        value = self.variant(code, depth) if mask & 1 else None
        status = self.number("<I") if mask & 2 else 0
        for bit, size in ((4, 8), (16, 2), (8, 8), (32, 2)):
            if mask & bit:
                self.take(size)
        return Read(status, code, value)


def read_response(body: bytes) -> list[Read]:
    """The values of a whole ReadResponse; BrokenError for anything else."""
    found = Reference(body)
    if found.node_id() not in (b"\x01\x00\x7a\x02", b"\x02\x00\x00\x7a\x02\x00\x00"):
        raise BrokenError("no ReadResponse")
    found.take(12)
    if found.number("<I") & 0x8000_0000:
        raise BrokenError("service result")
    found.diagnostic()
    for _ in range(_count(found)):
        found.octets()
    found.extension()
    values = [found.data_value() for _ in range(_count(found))]
    for _ in range(_count(found)):
        found.diagnostic()
    if found.at != len(body):
        raise BrokenError("bytes that do not fit")
    return values


def _count(found: Reference) -> int:
    count = int(found.number("<i"))
    if count > len(found.body):
        raise BrokenError("array")
    return count
