"""The server's half of the functions outside the poll loop: 8, 17, 22, 23, 24 and 43/14.

MODBUS Application Protocol V1.1b3, clauses 6.8, 6.13, 6.16 to 6.18 and 6.21. Requests for all other functions go to
`modbus_frames.answer`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import modbus_frames
from modbus_frames import ExceptionCode, ExceptionResponse, Request

from cpc import __version__
from cpc.simulators.modbus_unit import SimulatedUnit

DIAGNOSTICS, REPORT_SERVER_ID, MASK_WRITE, READ_WRITE, READ_FIFO, ENCAPSULATED = 8, 17, 22, 23, 24, 43
RESTART = b"\x08\x00\x01"
"""How the request begins that ends listening only (clause 6.8, sub-function 1)."""
READ_DEVICE_ID = 14
"""MEI type of function 43."""
FIFO_REGISTERS = 31
"""Most registers of one queue."""
_COUNTERS = {11: "messages", 12: "bad_checksums", 13: "exceptions", 14: "own", 15: "unanswered"}
"""What the diagnostic sub-functions that count return; 16 to 18 are always 0 here."""


@dataclass(slots=True)
class Counters:
    """What function 8 tells."""

    messages: int = 0
    bad_checksums: int = 0
    exceptions: int = 0
    own: int = 0
    unanswered: int = 0
    listen_only: bool = False
    """Since sub-function 4: nothing is answered until sub-function 1."""

    def clear(self) -> None:
        """Sub-functions 1 and 10."""
        self.messages = self.bad_checksums = self.exceptions = self.own = self.unanswered = 0


@dataclass(frozen=True, slots=True)
class Device:
    """A unit with what it says of itself."""

    unit: SimulatedUnit
    identity: Mapping[int, str]
    """Objects of function 43/14: 0 to 2 basic, 3 to 6 regular, from 128 on extended."""
    counters: Counters = field(default_factory=Counters)

    def answer(self, pdu: bytes) -> bytes:
        """The PDU that answers; empty while it only listens."""
        counters = self.counters
        counters.messages += 1
        counters.own += 1
        if counters.listen_only:
            counters.unanswered += 1
            counters.listen_only = pdu[:3] != RESTART
            return b""
        serve = _SERVED.get(pdu[0])
        if serve is None:
            answer = modbus_frames.answer(pdu, self.unit)
        else:
            try:
                answer = serve(self, pdu)
            except ExceptionResponse as refusal:
                answer = modbus_frames.exception_response(refusal.function, refusal.code)
        if pdu[0] == DIAGNOSTICS and self.counters.listen_only:
            return b""
        counters.exceptions += answer[0] >= 0x80
        return answer


def identity_of(alias: str, description: str = "") -> dict[int, str]:
    """What a simulated device says of itself."""
    return {0: "CPC partition", 1: "simulator", 2: __version__, 4: "Simulated device", 5: description[:100] or alias,
            6: alias[:100]}


def _refuse(pdu: bytes, code: ExceptionCode) -> ExceptionResponse:
    return ExceptionResponse(pdu[0], code)


def _diagnostics(device: Device, pdu: bytes) -> bytes:
    if len(pdu) < 5 or len(pdu) % 2 == 0:
        raise _refuse(pdu, ExceptionCode.ILLEGAL_DATA_VALUE)
    number, word = struct.unpack_from(">HH", pdu, 1)
    counters = device.counters
    if number == 0:
        return pdu
    if number in (1, 4, 10, 20) or number in (2, *_COUNTERS, 16, 17, 18):
        if len(pdu) != 5 or word not in ((0, 0xFF00) if number == 1 else (0,)):
            raise _refuse(pdu, ExceptionCode.ILLEGAL_DATA_VALUE)
        if number in (1, 10):
            counters.clear()
        if number in (1, 4):
            counters.listen_only = number == 4
        if number in (1, 4, 10, 20):
            return pdu
        value = getattr(counters, _COUNTERS[number]) if number in _COUNTERS else 0
        return struct.pack(">BHH", pdu[0], number, value & 0xFFFF)
    raise _refuse(pdu, ExceptionCode.ILLEGAL_FUNCTION)


def _report_server_id(device: Device, pdu: bytes) -> bytes:
    if len(pdu) != 1:
        raise _refuse(pdu, ExceptionCode.ILLEGAL_DATA_VALUE)
    content = device.identity[6].encode()[:100] + b"\xff"
    return bytes((pdu[0], len(content))) + content


def _mask_write(device: Device, pdu: bytes) -> bytes:
    if len(pdu) != 7:
        raise _refuse(pdu, ExceptionCode.ILLEGAL_DATA_VALUE)
    address, keep, put = struct.unpack_from(">HHH", pdu, 1)
    try:
        (present,) = struct.unpack(">H", device.unit.read(Request(function=3, address=address, count=1)))
        value = present & keep | put & ~keep & 0xFFFF
        device.unit.write(Request(function=6, address=address, count=1, data=value.to_bytes(2, "big")))
    except ExceptionResponse as refusal:
        raise ExceptionResponse(pdu[0], refusal.code) from refusal
    return pdu


def _read_write(device: Device, pdu: bytes) -> bytes:
    if len(pdu) < 12:
        raise _refuse(pdu, ExceptionCode.ILLEGAL_DATA_VALUE)
    start, count, at, number, size = struct.unpack_from(">HHHHB", pdu, 1)
    data = pdu[10:]
    if not (1 <= count <= 125 and 1 <= number <= 121 and size == len(data) == 2 * number):
        raise _refuse(pdu, ExceptionCode.ILLEGAL_DATA_VALUE)
    if start + count > 0x10000 or at + number > 0x10000:
        raise _refuse(pdu, ExceptionCode.ILLEGAL_DATA_ADDRESS)
    read = Request(function=3, address=start, count=count)
    try:
        device.unit.read(read)  # so that nothing is written where the read would be refused
        device.unit.write(Request(function=16, address=at, count=number, data=data))
        found = device.unit.read(read)
    except ExceptionResponse as refusal:
        raise ExceptionResponse(pdu[0], refusal.code) from refusal
    return bytes((pdu[0], len(found))) + found


def _read_fifo(device: Device, pdu: bytes) -> bytes:
    """The register at the pointer holds the number of values in the queue, which stand behind it."""
    if len(pdu) != 3:
        raise _refuse(pdu, ExceptionCode.ILLEGAL_DATA_VALUE)
    (address,) = struct.unpack_from(">H", pdu, 1)
    try:
        (count,) = struct.unpack(">H", device.unit.read(Request(function=3, address=address, count=1)))
        if count > FIFO_REGISTERS:
            raise _refuse(pdu, ExceptionCode.ILLEGAL_DATA_VALUE)
        values = device.unit.read(Request(function=3, address=address + 1, count=count)) if count else b""
    except ExceptionResponse as refusal:
        raise ExceptionResponse(pdu[0], refusal.code) from refusal
    return struct.pack(">BHH", pdu[0], 2 + len(values), count) + values


def _encapsulated(device: Device, pdu: bytes) -> bytes:
    if len(pdu) != 4:
        raise _refuse(pdu, ExceptionCode.ILLEGAL_DATA_VALUE)
    kind, code, first = pdu[1:4]
    if kind != READ_DEVICE_ID:
        raise _refuse(pdu, ExceptionCode.ILLEGAL_FUNCTION)
    if code not in (1, 2, 3, 4):
        raise _refuse(pdu, ExceptionCode.ILLEGAL_DATA_VALUE)
    top = {1: 3, 2: 128, 3: 256, 4: 256}[code]
    known = {n: text.encode()[:240] for n, text in sorted(device.identity.items()) if n < top}
    if code == 4 and first not in known:
        raise _refuse(pdu, ExceptionCode.ILLEGAL_DATA_ADDRESS)
    begin = first if first in known else 0  # an unknown object means: from the beginning (clause 6.21)
    body, number, more, following = b"", 0, 0, 0
    for name, text in known.items():
        if name < begin or (code == 4 and name != begin):
            continue
        if 7 + len(body) + 2 + len(text) > modbus_frames.MAX_PDU:
            more, following = 0xFF, name
            break
        body += bytes((name, len(text))) + text
        number += 1
    return bytes((pdu[0], kind, code, 0x83, more, following, number)) + body


_SERVED: Mapping[int, Callable[[Device, bytes], bytes]] = {
    DIAGNOSTICS: _diagnostics, REPORT_SERVER_ID: _report_server_id, MASK_WRITE: _mask_write, READ_WRITE: _read_write,
    READ_FIFO: _read_fifo, ENCAPSULATED: _encapsulated,
}
