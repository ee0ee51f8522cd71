"""The errors of the client, drawn once: one for each thing that the caller does next.

    ModbusError
    ├── ModbusConnectionError   no connection: check cable, address, power; `retry_connection`
    ├── ModbusTimeout           no answer in time: ask again
    ├── ModbusExceptionError    the device refused, `code` says why: ask for something else
    └── ModbusMalformedError    an answer that answers something else: never a value; the connection was closed
"""

from __future__ import annotations


class ModbusError(Exception):
    """Something that a Modbus device, or the way to it, did not do; str() says which, what, where and what to do."""

    def __init__(self, *, device: str, operation: str, address: int | str, what: str, todo: str) -> None:
        super().__init__(f"{device}: {operation} {address}: {what}; {todo}")
        self.device = device
        """Alias, or ip:port where there is none."""
        self.operation = operation
        """Such as `read holding registers` or `connect`."""
        self.address = address
        """First register or bit; ip:port for `connect`."""
        self.what = what
        """What went wrong."""
        self.todo = todo
        """What a person can do about it."""


class ModbusConnectionError(ModbusError):
    """There is no connection, or it broke."""


class ModbusTimeout(ModbusError):
    """No answer within the timeout."""


class ModbusExceptionError(ModbusError):
    """The device answered with an exception (MODBUS Application Protocol V1.1b3, clause 7)."""

    def __init__(self, *, device: str, operation: str, address: int | str, what: str, todo: str, code: int) -> None:
        super().__init__(device=device, operation=operation, address=address, what=what, todo=todo)
        self.code = code
        """The exception code, 1 to 255."""


class ModbusMalformedError(ModbusError):
    """The answer was no valid frame, or did not match the request."""
