"""Protocol data units of functions 1 to 6, 15 and 16, in both directions.

Rules and numbers: MODBUS Application Protocol Specification V1.1b3, clauses 6.1 to 6.6, 6.11, 6.12 and 7.
Arguments that can't be sent raise ValueError; bytes that came from a peer raise FrameError or ExceptionResponse.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from modbus_frames.errors import ExceptionCode, ExceptionResponse, FrameError

READ_COILS = 1
READ_DISCRETE_INPUTS = 2
READ_HOLDING_REGISTERS = 3
READ_INPUT_REGISTERS = 4
WRITE_SINGLE_COIL = 5
WRITE_SINGLE_REGISTER = 6
WRITE_MULTIPLE_COILS = 15
WRITE_MULTIPLE_REGISTERS = 16

MAX_READ_BITS = 2000
MAX_READ_REGISTERS = 125
MAX_WRITE_BITS = 1968
MAX_WRITE_REGISTERS = 123

COIL_ON = b"\xff\x00"
COIL_OFF = b"\x00\x00"

_LIMITS = {
    READ_COILS: MAX_READ_BITS,
    READ_DISCRETE_INPUTS: MAX_READ_BITS,
    READ_HOLDING_REGISTERS: MAX_READ_REGISTERS,
    READ_INPUT_REGISTERS: MAX_READ_REGISTERS,
    WRITE_SINGLE_COIL: 1,
    WRITE_SINGLE_REGISTER: 1,
    WRITE_MULTIPLE_COILS: MAX_WRITE_BITS,
    WRITE_MULTIPLE_REGISTERS: MAX_WRITE_REGISTERS,
}
FUNCTIONS = frozenset(_LIMITS)
"""The function codes that this module knows."""
READ_FUNCTIONS = frozenset([READ_COILS, READ_DISCRETE_INPUTS, READ_HOLDING_REGISTERS, READ_INPUT_REGISTERS])
BIT_FUNCTIONS = frozenset([READ_COILS, READ_DISCRETE_INPUTS, WRITE_SINGLE_COIL, WRITE_MULTIPLE_COILS])

_FIVE = struct.Struct(">BHH")
_SIX = struct.Struct(">BHHB")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request as the server understood it: checked, inside the address space."""

    function: int
    address: int
    """First bit or register, 0 to 65535."""
    count: int
    """Bits or registers; 1 for functions 5 and 6."""
    data: bytes = b""
    """What to write: registers big-endian, bits packed with the first in the lowest bit of the first byte."""


def data_bytes(function: int, count: int) -> int:
    """Bytes that `count` bits or registers take on the wire."""
    return (count + 7) // 8 if function in BIT_FUNCTIONS else 2 * count


def pack_bits(bits: Sequence[bool | int]) -> bytes:
    """Bits to bytes, the first in the lowest bit of the first byte, the last byte filled with zeros."""
    packed = bytearray((len(bits) + 7) // 8)
    for i, bit in enumerate(bits):
        if bit:
            packed[i >> 3] |= 1 << (i & 7)
    return bytes(packed)


def unpack_bits(data: bytes | memoryview, count: int) -> list[bool]:
    """The first `count` bits of packed bits; ValueError where there are not so many."""
    if not 0 <= count <= 8 * len(data):
        raise ValueError(f"{count} bits asked of {len(data)} bytes")
    return [bool(data[i >> 3] >> (i & 7) & 1) for i in range(count)]


# ---------------------------------------------------------------- client: requests out


def _check_range(function: int, address: int, count: int) -> None:
    limit = _LIMITS[function]
    if not 1 <= count <= limit:
        raise ValueError(f"function {function}: quantity {count}; 1 to {limit} is allowed")
    if not 0 <= address <= 0x10000 - count:
        raise ValueError(f"function {function}: address {address} with quantity {count} is outside 0 to 65535")


def read_request(function: int, address: int, count: int) -> bytes:
    """The PDU that reads `count` bits or registers (functions 1 to 4)."""
    if function not in READ_FUNCTIONS:
        raise ValueError(f"function {function} does not read; 1 to 4 do")
    _check_range(function, address, count)
    return _FIVE.pack(function, address, count)


def write_single_coil(address: int, on: bool) -> bytes:
    """The PDU of function 5."""
    _check_range(WRITE_SINGLE_COIL, address, 1)
    return struct.pack(">BH", WRITE_SINGLE_COIL, address) + (COIL_ON if on else COIL_OFF)


def write_single_register(address: int, value: int) -> bytes:
    """The PDU of function 6; `value` is the register's 16 bits, 0 to 65535."""
    _check_range(WRITE_SINGLE_REGISTER, address, 1)
    if not 0 <= value <= 0xFFFF:
        raise ValueError(f"register value {value}; 0 to 65535 is allowed")
    return _FIVE.pack(WRITE_SINGLE_REGISTER, address, value)


def write_multiple_coils(address: int, bits: Sequence[bool | int]) -> bytes:
    """The PDU of function 15."""
    _check_range(WRITE_MULTIPLE_COILS, address, len(bits))
    packed = pack_bits(bits)
    return _SIX.pack(WRITE_MULTIPLE_COILS, address, len(bits), len(packed)) + packed


def write_multiple_registers(address: int, data: bytes) -> bytes:
    """The PDU of function 16; `data` is the registers, big-endian."""
    if len(data) % 2:
        raise ValueError(f"{len(data)} bytes are no whole registers")
    _check_range(WRITE_MULTIPLE_REGISTERS, address, len(data) // 2)
    return _SIX.pack(WRITE_MULTIPLE_REGISTERS, address, len(data) // 2, len(data)) + data


# ---------------------------------------------------------------- client: answers in


def check_answer(pdu: bytes | memoryview, function: int) -> None:
    """See that a PDU answers `function`; FrameError for one that does not, ExceptionResponse for a refusal."""
    if len(pdu) < 2:
        raise FrameError(f"answer of {len(pdu)} bytes to function {function}; at least 2 expected")
    if pdu[0] == function | 0x80:
        if len(pdu) != 2 or pdu[1] == 0:
            raise FrameError(f"malformed exception answer to function {function}: {bytes(pdu[:8]).hex()}")
        raise ExceptionResponse(function, pdu[1])
    if pdu[0] != function:
        raise FrameError(f"answer with function {pdu[0]:#04x} to function {function:#04x}")


def read_response_data(pdu: bytes | memoryview, function: int, count: int) -> memoryview:
    """The data of the answer to a read of `count` bits or registers, without a copy.

    FrameError unless function, byte count and length are exactly those of the answer asked for; ExceptionResponse
    where the server refused. Filling bits of the last byte are not looked at: they carry no value.
    """
    check_answer(pdu, function)
    expected = data_bytes(function, count)
    if pdu[1] != expected or len(pdu) != 2 + expected:
        raise FrameError(
            f"answer to function {function} with byte count {pdu[1]} and {len(pdu) - 2} data bytes; {expected} expected"
        )
    return memoryview(pdu)[2:]


def check_write_response(pdu: bytes | memoryview, request: bytes) -> None:
    """See that an answer confirms the write that `request` (its PDU) asked for; FrameError or ExceptionResponse.

    Functions 5 and 6 are answered by the request itself, 15 and 16 by its first five bytes (address and quantity).
    """
    check_answer(pdu, request[0])
    if bytes(pdu) != request[:5]:
        raise FrameError(f"write answered by {bytes(pdu[:8]).hex()}; {request[:5].hex()} expected")


# ---------------------------------------------------------------- server: requests in


def parse_request(pdu: bytes | memoryview) -> Request:
    """What a client asks for; ExceptionResponse with the code that the specification's state diagrams demand.

    The order of the checks is theirs: function (01), quantity, length and value (03), address and quantity within
    the address space (02).
    """
    if not pdu:
        raise FrameError("empty PDU")
    function = pdu[0]
    if function not in FUNCTIONS:
        raise ExceptionResponse(function & 0x7F, ExceptionCode.ILLEGAL_FUNCTION)
    if len(pdu) < 5:
        raise ExceptionResponse(function, ExceptionCode.ILLEGAL_DATA_VALUE)
    _, address, word = _FIVE.unpack_from(pdu)
    count, data = (1, bytes(pdu[3:5])) if function in (WRITE_SINGLE_COIL, WRITE_SINGLE_REGISTER) else (word, b"")
    valid = 1 <= count <= _LIMITS[function]
    if function in (WRITE_MULTIPLE_COILS, WRITE_MULTIPLE_REGISTERS):
        data = bytes(pdu[6:])
        valid = valid and len(pdu) > 6 and pdu[5] == len(data) == data_bytes(function, count)
    else:
        valid = valid and len(pdu) == 5 and (function != WRITE_SINGLE_COIL or data in (COIL_ON, COIL_OFF))
    if not valid:
        raise ExceptionResponse(function, ExceptionCode.ILLEGAL_DATA_VALUE)
    if address + count > 0x10000:
        raise ExceptionResponse(function, ExceptionCode.ILLEGAL_DATA_ADDRESS)
    return Request(function=function, address=address, count=count, data=data)


# ---------------------------------------------------------------- server: answers out


def read_response(function: int, data: bytes) -> bytes:
    """The PDU that answers a read with its data (registers big-endian, or packed bits)."""
    if function not in READ_FUNCTIONS or not 0 < len(data) <= 250:
        raise ValueError(f"function {function} can't be answered by {len(data)} bytes of data")
    return bytes((function, len(data))) + data


def write_response(request: Request) -> bytes:
    """The PDU that confirms a write: its echo (5, 6), or address and quantity (15, 16)."""
    if request.function in (WRITE_SINGLE_COIL, WRITE_SINGLE_REGISTER):
        return struct.pack(">BH", request.function, request.address) + request.data
    if request.function in (WRITE_MULTIPLE_COILS, WRITE_MULTIPLE_REGISTERS):
        return _FIVE.pack(request.function, request.address, request.count)
    raise ValueError(f"function {request.function} does not write")


def exception_response(function: int, code: int) -> bytes:
    """The PDU that refuses a request of `function`."""
    if not 1 <= code <= 0xFF or not 0 <= function <= 0xFF:
        raise ValueError(f"exception {code} to function {function} can't be sent")
    return bytes((function | 0x80, code))
