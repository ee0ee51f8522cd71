"""Read responses as OPC UA Part 6 writes them, for tests of the decoder."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from asyncua import ua
from asyncua.ua.ua_binary import variant_to_binary

HEADER = b"\x01\x00\x7a\x02" + struct.pack("<qII", 0, 7, 0) + b"\x00" + struct.pack("<i", 0) + b"\x00\x00\x00"


@dataclass(frozen=True)
class Value:
    """A DataValue as Part 6, clause 5.2.2.17, writes it."""

    variant: bytes | None = None
    status: int | None = None
    source: int | None = None
    source_pico: int | None = None
    server: int | None = None
    server_pico: int | None = None

    def encode(self) -> bytes:
        parts = [(self.variant, 1, None), (self.status, 2, "<I"), (self.source, 4, "<q"),
                 (self.source_pico, 16, "<H"), (self.server, 8, "<q"), (self.server_pico, 32, "<H")]
        mask = sum(bit for part, bit, _ in parts if part is not None)
        body = b"".join(part if isinstance(part, bytes) else struct.pack(form or "", part)
                        for part, _, form in parts if part is not None)
        return bytes([mask]) + body


def response(values: list[Value]) -> bytes:
    return HEADER + struct.pack("<i", len(values)) + b"".join(v.encode() for v in values) + struct.pack("<i", -1)


def variant(value: object, kind: ua.VariantType) -> bytes:
    return variant_to_binary(ua.Variant(value, kind))  # type: ignore[arg-type]
