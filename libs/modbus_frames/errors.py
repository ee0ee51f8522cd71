"""The errors of Modbus frames, drawn once.

    ModbusFrameError
    ├── FrameError          bytes that are no valid frame, or not the one that was asked for
    └── ExceptionResponse   the valid frame by which a server refuses
"""

from __future__ import annotations

from enum import IntEnum


class ExceptionCode(IntEnum):
    """Exception codes (MODBUS Application Protocol V1.1b3, clause 7)."""

    ILLEGAL_FUNCTION = 0x01
    ILLEGAL_DATA_ADDRESS = 0x02
    ILLEGAL_DATA_VALUE = 0x03
    SERVER_DEVICE_FAILURE = 0x04
    ACKNOWLEDGE = 0x05
    SERVER_DEVICE_BUSY = 0x06
    MEMORY_PARITY_ERROR = 0x08
    GATEWAY_PATH_UNAVAILABLE = 0x0A
    GATEWAY_TARGET_FAILED_TO_RESPOND = 0x0B


def exception_name(code: int) -> str:
    """Words for an exception code, also for one that the standard does not know."""
    try:
        return ExceptionCode(code).name.lower().replace("_", " ")
    except ValueError:
        return f"unknown exception {code:#04x}"


class ModbusFrameError(Exception):
    """Base of everything that a frame can do wrong."""


class FrameError(ModbusFrameError):
    """Bytes that are no valid frame, or a frame that does not answer what was asked."""


class ExceptionResponse(ModbusFrameError):
    """A server's refusal: on the client's side what it sent, on the server's side what to send."""

    def __init__(self, function: int, code: int) -> None:
        super().__init__(f"exception {code:02X} ({exception_name(code)}) to function {function:02X}")
        self.function = function
        """Function code of the request, without the exception bit."""
        self.code = code
        """Exception code, see ExceptionCode."""

    def __reduce__(self) -> tuple[type[ExceptionResponse], tuple[int, int]]:
        """Let it cross process borders with its fields."""
        return type(self), (self.function, self.code)
