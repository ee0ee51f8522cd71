"""The server's half of the protocol: one request in, one answer out, on whatever holds the data."""

from __future__ import annotations

from typing import Protocol

from modbus_frames import pdu as p
from modbus_frames.errors import ExceptionResponse


class Unit(Protocol):
    """What a server serves. Both methods raise ExceptionResponse to refuse (02 for an address that is not there)."""

    def read(self, request: p.Request) -> bytes:
        """The data asked for: registers big-endian, or packed bits, exactly `data_bytes` of it."""

    def write(self, request: p.Request) -> None:
        """Take `request.data`; a coil of function 5 is on where the data is COIL_ON."""


def answer(pdu: bytes | memoryview, unit: Unit) -> bytes:
    """The PDU that answers `pdu`: data, confirmation or exception; FrameError only for an empty PDU."""
    try:
        request = p.parse_request(pdu)
        if request.function in p.READ_FUNCTIONS:
            return p.read_response(request.function, unit.read(request))
        unit.write(request)
        return p.write_response(request)
    except ExceptionResponse as refusal:
        return p.exception_response(refusal.function, refusal.code)
