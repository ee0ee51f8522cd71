"""ModbusTCPClient: one device, one question at a time, for scripts, tests and commissioning."""

from __future__ import annotations

import random
import select
import struct
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NoReturn, Self, overload

from acquisition import Value
from endpoint_config.models import ModbusPoint, ModbusServer
from modbus_frames import BROADCAST, pdu, read_request, unpack_bits

from modbus_tcp_client.client_functions import Alone, Functions
from modbus_tcp_client.errors import (
    ModbusConnectionError,
    ModbusExceptionError,
    ModbusMalformedError,
    ModbusTimeout,
)
from modbus_tcp_client.exchange import Job
from modbus_tcp_client.failure import OPERATIONS, Failure, from_system, malformed, timed_out
from modbus_tcp_client.packets import Listener, Tap
from modbus_tcp_client.points import effective_datatype
from modbus_tcp_client.settling import settling_request
from modbus_tcp_client.single import single
from modbus_tcp_client.transport import Channel, way_to
from modbus_tcp_client.url import server_from_url

RECEIVE_BYTES = 16384
"""A whole TLS record."""


class ModbusTCPClient(Functions):
    """A synchronous Modbus client, over TCP unless made by `of` or `at`; not for several threads at once.

    Connects with the first question, or by `retry_connection`. Every failure is a ModbusError that names device,
    operation and address. After a timeout the connection stays: an answer that comes too late carries an old
    transaction id and is dropped.
    """

    def __init__(self, ipaddr: str, port: int = 502, serveralias: str = "", endpoints: Sequence[ModbusPoint] = (), *,
                 unit_id: int = 1, timeout: float = 1.0) -> None:
        """`endpoints` can be read by name; `timeout` (s) is for connecting and for each answer."""
        server = ModbusServer(alias=serveralias, ipaddr=ipaddr, port=port, unit_id=unit_id, timeout=timeout,
                              points=tuple(endpoints))
        self._set_up(server)

    @classmethod
    def of(cls, server: ModbusServer) -> Self:
        """The client of a configured device, whatever its transport."""
        client = cls.__new__(cls)
        client._set_up(server)
        return client

    @classmethod
    def at(cls, url: str, *, unit_id: int | None = None, timeout: float | None = None) -> Self:
        """The client of a device named on one line, such as `rtu:///dev/ttyUSB0?baudrate=9600`; see `server_from_url`.

        ValueError for a URL that names none.
        """
        given = {"unit_id": unit_id, "timeout": timeout}
        return cls.of(server_from_url(url, **{name: value for name, value in given.items() if value is not None}))

    def _set_up(self, server: ModbusServer) -> None:
        self.ipaddr, self.port = server.ipaddr, server.port
        self.unit_id, self.timeout = server.unit_id, server.timeout
        self.way = way_to(server)
        """Transport, and where to."""
        self.serveralias = server.alias or self.way.name
        self._endpoints = {point.name: point for point in server.points}
        self._exchange = self.way.framing.exchange(1)
        self._channel: Channel | None = None
        self._tap: Tap | None = None
        self._quiet_at = 0.0
        """When the line will have been silent long enough for the next request (monotonic s)."""

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
        return self._channel is not None

    def retry_connection(self) -> None:
        """Close what there is and connect anew; ModbusConnectionError where that fails."""
        self.close()
        try:
            self._channel = self.way.carrier.open(self.timeout)
        except OSError as fault:
            raise self._error(from_system(fault), "connect", self.way.name) from fault
        first = random.randrange(1, 0x10000)  # noqa: S311 - to differ from the connection before
        self._exchange = self.way.framing.exchange(first)
        self._quiet_at = time.monotonic() + self.way.framing.silence
        if self._tap is not None:
            self._tap.opened()

    def listen(self, listener: Listener | None) -> None:
        """Have `listener` called with each Packet sent or received; None ends it."""
        self._tap = None
        if listener is not None:
            self._tap = Tap(self.serveralias, self.way.transport, {self.unit_id: self.serveralias}, listener)

    def close(self) -> None:
        """Close the connection; harmless where there is none."""
        if self._channel is not None:
            self._exchange.abandon()
            self._channel.close()
            self._channel = None

    # ------------------------------------------------------------ reading

    @overload
    def fc01_read_coil_status(self, address: int, count: int = 1) -> list[bool]: ...
    @overload
    def fc01_read_coil_status(self, address: str) -> tuple[Value | None, str]: ...
    def fc01_read_coil_status(self, address: int | str, count: int = 1) -> list[bool] | tuple[Value | None, str]:
        """Read coils: `count` bits from `address` on, or an endpoint by name as (value, datatype)."""
        return self._bits(pdu.READ_COILS, address, count)

    @overload
    def fc02_read_discrete_inputs(self, address: int, count: int = 1) -> list[bool]: ...
    @overload
    def fc02_read_discrete_inputs(self, address: str) -> tuple[Value | None, str]: ...
    def fc02_read_discrete_inputs(self, address: int | str, count: int = 1) -> list[bool] | tuple[Value | None, str]:
        """Read discrete inputs: `count` bits from `address` on, or an endpoint by name as (value, datatype)."""
        return self._bits(pdu.READ_DISCRETE_INPUTS, address, count)

    @overload
    def fc03_read_holding_registers(self, address: int, count: int = 1) -> list[int]: ...
    @overload
    def fc03_read_holding_registers(self, address: str) -> tuple[Value | None, str]: ...
    def fc03_read_holding_registers(self, address: int | str, count: int = 1) -> list[int] | tuple[Value | None, str]:
        """Read holding registers: `count` from `address` on, or an endpoint by name as (value, datatype)."""
        return self._registers(pdu.READ_HOLDING_REGISTERS, address, count)

    @overload
    def fc04_read_input_registers(self, address: int, count: int = 1) -> list[int]: ...
    @overload
    def fc04_read_input_registers(self, address: str) -> tuple[Value | None, str]: ...
    def fc04_read_input_registers(self, address: int | str, count: int = 1) -> list[int] | tuple[Value | None, str]:
        """Read input registers: `count` from `address` on, or an endpoint by name as (value, datatype)."""
        return self._registers(pdu.READ_INPUT_REGISTERS, address, count)

    read_01 = fc01_read_coil_status
    read_02 = fc02_read_discrete_inputs
    read_03 = fc03_read_holding_registers
    read_04 = fc04_read_input_registers

    # ------------------------------------------------------------ inside

    def _bits(self, function: int, address: int | str, count: int) -> list[bool] | tuple[Value | None, str]:
        if isinstance(address, str):
            return self._endpoint(function, address)
        return unpack_bits(self._ask(read_request(function, address, count)), count)

    def _registers(self, function: int, address: int | str, count: int) -> list[int] | tuple[Value | None, str]:
        if isinstance(address, str):
            return self._endpoint(function, address)
        data = self._ask(read_request(function, address, count))
        return list(struct.unpack(f">{count}H", data))

    def _endpoint(self, function: int, name: str) -> tuple[Value | None, str]:
        """Read a configured endpoint; the value is None where the device says that it has none."""
        point = self._endpoints.get(name)
        if point is None:
            raise ValueError(f"{self.serveralias}: no endpoint {name!r}; there are: {', '.join(self._endpoints)}")
        if point.read_function != function:
            right = OPERATIONS[point.read_function]
            raise ValueError(f"{self.serveralias}/{name}: is read by {right}, not by {OPERATIONS[function]}")
        return self._read_point(point), effective_datatype(point).value

    def _read_point(self, point: ModbusPoint) -> Value | None:
        reading = single(point)
        return reading.value([self._ask(question) for question in reading.questions])

    def _ask(self, question: bytes) -> bytes:
        function = question[0]
        size = pdu.data_bytes(function, int.from_bytes(question[3:5], "big")) if function in pdu.READ_FUNCTIONS else 0
        data = bytearray(size)
        job = Job(unit=self.unit_id, pdu=question, target=memoryview(data) if size else None, owner=Alone)
        failure = self._talk(job)
        if failure is not None:
            self._raise(failure, job)
        return bytes(data)

    def _raise(self, failure: Failure, job: Job) -> NoReturn:
        raise self._error(failure, OPERATIONS[job.function], job.address)

    def _talk(self, job: Job) -> Failure | None:
        if job.unit == BROADCAST and self.way.transport.is_line:
            raise ValueError(f"{self.serveralias}: unit 0 is the broadcast of a line, which nobody answers; 1 to 247")
        if self._channel is None:
            self.retry_connection()
        job.patience = round(self.timeout * 1e9)
        if self._exchange.owes(job, time.monotonic_ns()):
            settling = Job(unit=job.unit, pdu=settling_request(), owner=Alone, patience=job.patience)
            self._exchange_one(settling)
            if settling.failure is not None and not settling.failure.exception:
                return settling.failure
        self._exchange_one(job)
        return job.failure

    def _exchange_one(self, job: Job) -> None:
        """Send one request and wait; its failure is in the job, that of the connection an exception."""
        assert self._channel is not None
        time.sleep(max(0.0, self._quiet_at - time.monotonic()))
        now = time.monotonic_ns()
        job.sent, job.deadline = now, now + job.patience + round(self.way.framing.line_time(job) * 1e9)
        try:
            frame = self._exchange.open(job)
            if self._tap is not None:
                self._tap.sent(frame, job.unit, job.pdu)
            if self._channel.send(frame) != len(frame):
                raise BlockingIOError(None, "the device takes no more data")
            answered = self._wait(job)
        except OSError as fault:
            self.close()
            raise self._error(from_system(fault), OPERATIONS[job.function], job.address) from fault
        if not answered:
            job.failure = self._unanswered(job)

    def _wait(self, job: Job) -> bool:
        """Receive until the job is answered; False where the time is over or the stream is broken."""
        assert self._channel is not None
        framing, exchange = self.way.framing, self._exchange
        buffer = memoryview(bytearray(RECEIVE_BYTES))
        waiter = select.poll()
        waiter.register(self._channel.fileno(), select.POLLIN)
        heard = 0.0
        while (left := job.deadline - time.monotonic_ns()) > 0:
            patience = framing.silence * 1e3 if heard and framing.silence else left * 1e-6
            if not waiter.poll(max(1.0, min(left * 1e-6, patience))):
                if job in exchange.silence():
                    return True
                if heard and time.monotonic() - heard > framing.stall and job in exchange.damaged():
                    return True
                continue
            try:
                count = self._channel.recv_into(buffer)
            except BlockingIOError:
                continue
            if not count:
                raise ConnectionResetError(None, "the device closed the connection")
            if self._tap is not None:
                self._tap.received(buffer[:count])
            done = exchange.receive(buffer[:count])
            heard = time.monotonic()
            self._quiet_at = heard + max(framing.pause, 0.0 if job in done else framing.silence)
            if job in done:
                return True
            if exchange.broken is not None:
                return False
        return False

    def _unanswered(self, job: Job) -> Failure:
        broken = self._exchange.broken
        if broken is not None:
            self.close()
            return malformed(str(broken))
        if self._exchange.cut:  # the rest of it would swallow the beginning of the next answer
            self.close()
        self._exchange.cancel(job.owner)
        return timed_out(self.timeout, job.stray)

    def _error(self, failure: Failure, operation: str, address: int | str) -> Exception:
        """The exception for what the caller does next."""
        words = {"device": self.serveralias, "operation": operation, "address": address,
                 "what": failure.what, "todo": failure.todo}
        if failure.exception:
            return ModbusExceptionError(**words, code=failure.exception)  # type: ignore[arg-type]
        if operation == "connect" or (self._channel is None and not failure.silent and not self._exchange.broken):
            return ModbusConnectionError(**words)  # type: ignore[arg-type]
        if failure.silent:
            return ModbusTimeout(**words)  # type: ignore[arg-type]
        return ModbusMalformedError(**words)  # type: ignore[arg-type]
