"""What a synchronous client can do beside reading: every function that writes or asks what the device is."""

from __future__ import annotations

import struct
import time
from collections.abc import Generator, Mapping, Sequence
from typing import NoReturn, TypeVar

from acquisition import Value, WriteResult
from endpoint_config.models import ModbusPoint
from modbus_frames import write_multiple_coils, write_multiple_registers, write_single_coil, write_single_register
from process_image.quality import BAD_COMMUNICATION_ERROR, BAD_TIMEOUT

from modbus_tcp_client.commands import unknown
from modbus_tcp_client.errors import ModbusConnectionError, ModbusError
from modbus_tcp_client.exchange import Job
from modbus_tcp_client.failure import Failure
from modbus_tcp_client.functions import (
    BASIC,
    Identity,
    Question,
    diagnostics,
    identification,
    mask_write,
    read_fifo_queue,
    read_write_registers,
    report_server_id,
)
from modbus_tcp_client.identify import identify
from modbus_tcp_client.write_steps import Order, Reply, Step, carry_out

Answer = TypeVar("Answer")


class Alone:
    """Nothing of a single client's answers waits to be decoded."""

    unsettled = False


class Functions:
    """Functions of the client; how requests travel is its own business (`_talk`)."""

    unit_id: int
    timeout: float
    serveralias: str
    _endpoints: Mapping[str, ModbusPoint]

    def _talk(self, job: Job) -> Failure | None:
        """Send once and wait for the answer; ModbusConnectionError where there is no connection to be had."""
        raise NotImplementedError

    def _raise(self, failure: Failure, job: Job) -> NoReturn:
        """Raise the exception for what the caller does next."""
        raise NotImplementedError

    # ------------------------------------------------------------ writing

    def fc05_write_single_coil(self, address: int, value: bool) -> None:
        """Write a single coil; the device's echo is checked."""
        self._ask(write_single_coil(address, bool(value)))

    def fc06_write_single_register(self, address: int, value: int) -> None:
        """Write a single register, 0 to 65535; the device's echo is checked."""
        self._ask(write_single_register(address, value))

    def fc15_write_multiple_coils(self, address: int, values: Sequence[bool]) -> None:
        """Write 1 to 1968 coils from `address` on."""
        self._ask(write_multiple_coils(address, values))

    def fc16_write_multiple_registers(self, address: int, values: Sequence[int]) -> None:
        """Write 1 to 123 registers, each 0 to 65535, from `address` on."""
        for value in values:
            if not 0 <= value <= 0xFFFF:
                raise ValueError(f"register value {value}; 0 to 65535 is allowed")
        self._ask(write_multiple_registers(address, struct.pack(f">{len(values)}H", *values)))

    write_05 = fc05_write_single_coil
    write_06 = fc06_write_single_register
    write_0f = fc15_write_multiple_coils
    write_10 = fc16_write_multiple_registers

    def fc22_mask_write_register(self, address: int, and_mask: int, or_mask: int) -> None:
        """Make a register (register AND and_mask) OR (or_mask AND NOT and_mask), in the device, at once."""
        self.ask(mask_write(address, and_mask, or_mask))

    def fc23_read_write_registers(self, address: int, count: int, write_address: int,
                                  values: Sequence[int]) -> list[int]:
        """Write 1 to 121 registers from `write_address` on, then read 1 to 125 from `address` on."""
        return self.ask(read_write_registers(address, count, write_address, values))

    # ------------------------------------------------------------ asking

    def fc08_diagnostics(self, subfunction: int = 0, data: bytes = b"\0\0") -> bytes:
        """The answer's data: 0 sends `data` back, 2 is the diagnostic register, 11 to 18 are counters."""
        return self.ask(diagnostics(subfunction, data))

    def fc17_report_server_id(self) -> tuple[bytes, bool | None]:
        """What the device says of itself, as bytes, and whether it runs (None: it does not say)."""
        return self.ask(report_server_id())

    def fc24_read_fifo_queue(self, address: int) -> list[int]:
        """The registers, up to 31, in the queue at a pointer address."""
        return self.ask(read_fifo_queue(address))

    def fc43_read_device_identification(self, code: int = BASIC) -> dict[int, bytes]:
        """All objects of a category, by object id: 1 basic, 2 regular, 3 extended."""
        found: dict[int, bytes] = {}
        first: int | None = 0
        while first is not None:
            answer = self.ask(identification(code, first))
            found.update(answer.objects)
            # a device that does not go on must not be asked for ever
            first = answer.following if answer.following is not None and answer.following > first else None
        return found

    def identify(self) -> Identity:
        """What the device is, by functions 43/14 and 17; a device that knows neither has no texts."""
        return self._drive(identify())

    def ask(self, question: Question[Answer]) -> Answer:
        """Send a request of `functions` and return what its answer means."""
        job = Job(unit=self.unit_id, pdu=question.pdu, owner=Alone, read=question.answer)
        failure = self._talk(job)
        if failure is not None:
            self._raise(failure, job)
        answer: Answer = job.value
        return answer

    # ------------------------------------------------------------ by point

    def write_point(self, name: str, value: Value, *, verify: bool = True, tolerance: float = 0.0,
                    deadline: float = 5.0) -> WriteResult:
        """Write a configured endpoint in engineering units, once, and read it back; see acquisition.Writing.

        Never raises for what the device does or the value is: the result says it. The value before is read only where
        the endpoint has a `max_step`.
        """
        point = self._endpoints.get(name)
        if point is None:
            return unknown(f"{self.serveralias}/{name}")
        present = self._read_point(point) if point.max_step is not None else None
        order = Order(device=self.serveralias, point=point, value=value, verify=verify, tolerance=tolerance,
                      previous=present, present=present)
        return self._drive(carry_out(order), time.monotonic() + deadline)

    def _read_point(self, point: ModbusPoint) -> Value | None:
        """The value of an endpoint as it is now, None where the device gives none."""
        raise NotImplementedError

    def _ask(self, question: bytes) -> bytes:
        """Send a PDU and wait for its answer; returns the data of a read, b"" for a write."""
        raise NotImplementedError

    def _drive(self, steps: Generator[Step, Reply, Answer], deadline: float = float("inf")) -> Answer:
        """Carry steps out, one request after the other, until they return."""
        reply: Reply | None = None
        while True:
            try:
                step = next(steps) if reply is None else steps.send(reply)
            except StopIteration as end:
                answer: Answer = end.value
                return answer
            reply = self._carry(step, deadline)

    def _carry(self, step: Step, deadline: float) -> Reply:
        if step.pause:
            time.sleep(max(0.0, min(step.pause, deadline - time.monotonic())))
        left = deadline - time.monotonic()
        if left <= 0:
            return Reply(failure=Failure(quality=BAD_TIMEOUT, what="its deadline passed before it could be sent",
                                         todo="give it more time"), sent=False)
        data = bytearray(step.data_bytes)
        job = Job(unit=self.unit_id, pdu=step.pdu, owner=Alone, read=step.read,
                  target=memoryview(data) if data else None)
        patience, self.timeout = self.timeout, min(self.timeout, left)
        try:
            failure = self._talk(job)
        except ModbusConnectionError as error:
            return Reply(failure=_as_failure(error), sent=bool(job.sent))
        finally:
            self.timeout = patience
        return Reply(data=bytes(data), failure=failure, value=job.value, sent=bool(job.sent))


def _as_failure(error: ModbusError) -> Failure:
    return Failure(quality=BAD_COMMUNICATION_ERROR, what=error.what, todo=error.todo)
