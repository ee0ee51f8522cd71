"""ModbusTCPClient: one device, one question at a time, for scripts, tests and commissioning."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Sequence
from types import TracebackType
from typing import overload

import numpy as np
from endpoint_config.models import ModbusPoint
from modbus_frames import (
    pdu,
    read_request,
    unpack_bits,
    write_multiple_coils,
    write_multiple_registers,
    write_single_coil,
    write_single_register,
)
from process_image import RECORD

from modbus_tcp_client.decode import DecodePlan
from modbus_tcp_client.errors import (
    ModbusConnectionError,
    ModbusExceptionError,
    ModbusMalformedError,
    ModbusTimeout,
)
from modbus_tcp_client.exchange import Exchange, Job
from modbus_tcp_client.failure import OPERATIONS, Failure, malformed, no_connection, timed_out
from modbus_tcp_client.plan import plan
from modbus_tcp_client.points import effective_datatype, image_type

Value = bool | int | float | str | bytes | None
BAD = 0x80000000


class _Owner:
    """Nothing of a single client's answers waits to be decoded."""

    unsettled = False


class ModbusTCPClient:
    """A synchronous Modbus TCP client; not for several threads at once.

    Connects with the first question, or by `retry_connection`. Every failure is a ModbusError that names device,
    operation and address. After a timeout the connection stays: an answer that comes too late carries an old
    transaction id and is dropped.
    """

    def __init__(self, ipaddr: str, port: int = 502, serveralias: str = "", endpoints: Sequence[ModbusPoint] = (), *,
                 unit_id: int = 1, timeout: float = 1.0) -> None:
        """`endpoints` can be read by name; `timeout` (s) is for connecting and for each answer."""
        self.ipaddr, self.port, self.unit_id, self.timeout = ipaddr, port, unit_id, timeout
        self.serveralias = serveralias or f"{ipaddr}:{port}"
        self._endpoints = {point.name: point for point in endpoints}
        self._exchange = Exchange()
        self._socket: socket.socket | None = None

    def __enter__(self) -> ModbusTCPClient:
        """Connect."""
        self.retry_connection()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Close."""
        self.close()

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._socket is not None

    def retry_connection(self) -> None:
        """Close what there is and connect anew; ModbusConnectionError where that fails."""
        self.close()
        where = f"{self.ipaddr}:{self.port}"
        try:
            self._socket = socket.create_connection((self.ipaddr, self.port), timeout=self.timeout)
        except TimeoutError:
            raise self._error(no_connection(f"no connection within {self.timeout:g} s"), "connect", where) from None
        except OSError as fault:
            reason = (fault.strerror or str(fault)).lower()
            raise self._error(no_connection(reason), "connect", where) from fault
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._exchange = Exchange(random.randrange(1, 0x10000))  # noqa: S311 - to differ from the connection before

    def close(self) -> None:
        """Close the connection; harmless where there is none."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # ------------------------------------------------------------ reading

    @overload
    def fc01_read_coil_status(self, address: int, count: int = 1) -> list[bool]: ...
    @overload
    def fc01_read_coil_status(self, address: str) -> tuple[Value, str]: ...
    def fc01_read_coil_status(self, address: int | str, count: int = 1) -> list[bool] | tuple[Value, str]:
        """Read coils: `count` bits from `address` on, or an endpoint by name as (value, datatype)."""
        return self._bits(pdu.READ_COILS, address, count)

    @overload
    def fc02_read_discrete_inputs(self, address: int, count: int = 1) -> list[bool]: ...
    @overload
    def fc02_read_discrete_inputs(self, address: str) -> tuple[Value, str]: ...
    def fc02_read_discrete_inputs(self, address: int | str, count: int = 1) -> list[bool] | tuple[Value, str]:
        """Read discrete inputs: `count` bits from `address` on, or an endpoint by name as (value, datatype)."""
        return self._bits(pdu.READ_DISCRETE_INPUTS, address, count)

    @overload
    def fc03_read_holding_registers(self, address: int, count: int = 1) -> list[int]: ...
    @overload
    def fc03_read_holding_registers(self, address: str) -> tuple[Value, str]: ...
    def fc03_read_holding_registers(self, address: int | str, count: int = 1) -> list[int] | tuple[Value, str]:
        """Read holding registers: `count` from `address` on, or an endpoint by name as (value, datatype)."""
        return self._registers(pdu.READ_HOLDING_REGISTERS, address, count)

    @overload
    def fc04_read_input_registers(self, address: int, count: int = 1) -> list[int]: ...
    @overload
    def fc04_read_input_registers(self, address: str) -> tuple[Value, str]: ...
    def fc04_read_input_registers(self, address: int | str, count: int = 1) -> list[int] | tuple[Value, str]:
        """Read input registers: `count` from `address` on, or an endpoint by name as (value, datatype)."""
        return self._registers(pdu.READ_INPUT_REGISTERS, address, count)

    read_01 = fc01_read_coil_status
    read_02 = fc02_read_discrete_inputs
    read_03 = fc03_read_holding_registers
    read_04 = fc04_read_input_registers

    # ------------------------------------------------------------ writing

    def write_05(self, address: int, value: bool) -> None:
        """Write a single coil; the device's echo is checked."""
        self._ask(write_single_coil(address, bool(value)))

    def write_06(self, address: int, value: int) -> None:
        """Write a single register, 0 to 65535; the device's echo is checked."""
        self._ask(write_single_register(address, value))

    def write_0f(self, address: int, values: Sequence[bool]) -> None:
        """Write 1 to 1968 coils from `address` on."""
        self._ask(write_multiple_coils(address, values))

    def write_10(self, address: int, values: Sequence[int]) -> None:
        """Write 1 to 123 registers, each 0 to 65535, from `address` on."""
        for value in values:
            if not 0 <= value <= 0xFFFF:
                raise ValueError(f"register value {value}; 0 to 65535 is allowed")
        self._ask(write_multiple_registers(address, struct.pack(f">{len(values)}H", *values)))

    # ------------------------------------------------------------ inside

    def _bits(self, function: int, address: int | str, count: int) -> list[bool] | tuple[Value, str]:
        if isinstance(address, str):
            return self._endpoint(function, address)
        return unpack_bits(self._ask(read_request(function, address, count)), count)

    def _registers(self, function: int, address: int | str, count: int) -> list[int] | tuple[Value, str]:
        if isinstance(address, str):
            return self._endpoint(function, address)
        data = self._ask(read_request(function, address, count))
        return list(struct.unpack(f">{count}H", data))

    def _endpoint(self, function: int, name: str) -> tuple[Value, str]:
        """Read a configured endpoint; the value is None where the device says that it has none."""
        point = self._endpoints.get(name)
        if point is None:
            raise ValueError(f"{self.serveralias}: no endpoint {name!r}; there are: {', '.join(self._endpoints)}")
        if point.read_function != function:
            right = OPERATIONS[point.read_function]
            raise ValueError(f"{self.serveralias}/{name}: is read by {right}, not by {OPERATIONS[function]}")
        requests = plan([point])
        decode = DecodePlan([point], requests)
        row = np.zeros(decode.width, np.uint8)
        for offset, request in zip(decode.offsets, requests, strict=True):
            data = self._ask(read_request(request.function, request.address, request.count))
            row[offset : offset + len(data)] = np.frombuffer(data, np.uint8)
        return _value(point, decode, row), effective_datatype(point).value

    def _ask(self, question: bytes) -> bytes:
        """Send a PDU and wait for its answer; returns the data of a read, b"" for a write."""
        if self._socket is None:
            self.retry_connection()
        assert self._socket is not None
        function, address = question[0], int.from_bytes(question[1:3], "big")
        size = pdu.data_bytes(function, int.from_bytes(question[3:5], "big")) if function in pdu.READ_FUNCTIONS else 0
        data = bytearray(size)
        job = Job(unit=self.unit_id, pdu=question, target=memoryview(data) if size else None, owner=_Owner)
        deadline = time.monotonic() + self.timeout
        try:
            self._socket.settimeout(self.timeout)
            self._socket.sendall(self._exchange.open(job))
            answered = self._wait(job, deadline)
        except OSError as fault:
            self.close()
            reason = (fault.strerror or str(fault)).lower()
            raise self._error(no_connection(reason), OPERATIONS[function], address) from fault
        if not answered:
            job.failure = self._unanswered(job)
        if job.failure is not None:
            raise self._error(job.failure, OPERATIONS[function], address)
        return bytes(data)

    def _wait(self, job: Job, deadline: float) -> bool:
        """Receive until the job is answered; False where the time is over or the stream is broken."""
        assert self._socket is not None
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                received = self._socket.recv(4096)
            except TimeoutError:
                return False
            if not received:
                raise ConnectionResetError(None, "the device closed the connection")
            if job in self._exchange.receive(memoryview(received)):
                return True
            if self._exchange.broken is not None:
                return False
        return False

    def _unanswered(self, job: Job) -> Failure:
        broken = self._exchange.broken
        if broken is not None:
            self.close()
            return malformed(str(broken))
        if self._exchange.partial:  # the rest of it would swallow the beginning of the next answer
            self.close()
        self._exchange.cancel(job.owner)
        return timed_out(self.timeout, job.stray)

    def _error(self, failure: Failure, operation: str, address: int | str) -> Exception:
        """The exception for what the caller does next."""
        words = {"device": self.serveralias, "operation": operation, "address": address,
                 "what": failure.what, "todo": failure.todo}
        if failure.exception:
            return ModbusExceptionError(**words, code=failure.exception)  # type: ignore[arg-type]
        if operation == "connect" or (self._socket is None and not failure.silent and not self._exchange.broken):
            return ModbusConnectionError(**words)  # type: ignore[arg-type]
        if failure.silent:
            return ModbusTimeout(**words)  # type: ignore[arg-type]
        return ModbusMalformedError(**words)  # type: ignore[arg-type]


def _value(point: ModbusPoint, decode: DecodePlan, row: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> Value:
    """One decoded value in the type that the image would give it."""
    records = np.zeros((1, 1), RECORD)
    decode.decode(row.reshape(1, -1), records)
    record = records[0, 0]
    if int(record["quality"]) >= BAD:
        return None
    texts = decode.texts(row)
    if texts:
        return texts[0][1]
    kind = image_type(point)
    if kind == "bool":
        return bool(record["value"])
    if kind.startswith("float"):
        return float(record["value"])
    raw = int(record["raw"])
    return raw - (1 << 64) if kind.startswith("int") and raw >> 63 else raw
