"""Modbus frames in both directions, as bytes: clients, simulators and servers share them. No sockets here."""

from modbus_frames import mbap, pdu
from modbus_frames.errors import ExceptionCode, ExceptionResponse, FrameError, ModbusFrameError, exception_name
from modbus_frames.mbap import HEADER_BYTES, MAX_ADU, MAX_PDU, Adu, Splitter, encode_adu
from modbus_frames.pdu import (
    Request,
    check_write_response,
    data_bytes,
    exception_response,
    pack_bits,
    parse_request,
    read_request,
    read_response,
    read_response_data,
    unpack_bits,
    write_multiple_coils,
    write_multiple_registers,
    write_response,
    write_single_coil,
    write_single_register,
)
from modbus_frames.server import Unit, answer

__all__ = [
    "HEADER_BYTES",
    "MAX_ADU",
    "MAX_PDU",
    "Adu",
    "ExceptionCode",
    "ExceptionResponse",
    "FrameError",
    "ModbusFrameError",
    "Request",
    "Splitter",
    "Unit",
    "answer",
    "check_write_response",
    "data_bytes",
    "encode_adu",
    "exception_name",
    "exception_response",
    "mbap",
    "pack_bits",
    "parse_request",
    "pdu",
    "read_request",
    "read_response",
    "read_response_data",
    "unpack_bits",
    "write_multiple_coils",
    "write_multiple_registers",
    "write_response",
    "write_single_coil",
    "write_single_register",
]
