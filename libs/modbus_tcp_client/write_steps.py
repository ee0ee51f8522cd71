"""A write from its check to its answer, as steps without sockets: what to send next, given what became of the last.

`carry_out` is a generator that yields each request and is sent its Reply. Client and poll engine drive it in their
own ways; no driver may send a step again, so nothing is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from acquisition import Value, WriteOutcome, WriteResult
from endpoint_config.models import ModbusPoint, WriteFunction
from modbus_frames import data_bytes, read_request, write_multiple_coils, write_multiple_registers, write_single_coil
from modbus_frames import write_single_register as write_register
from modbus_frames.pdu import READ_FUNCTIONS
from process_image import quality

from modbus_tcp_client.encode import Slot, encode, is_part
from modbus_tcp_client.failure import OPERATIONS, Failure
from modbus_tcp_client.scaling import FACTOR_NOT_AVAILABLE, MAX_FACTOR
from modbus_tcp_client.single import SinglePoint, factor_of, single
from modbus_tcp_client.write_rules import refusal

READ_AGAIN = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Pauses (s) before each reading back: many devices take a new value over with their next cycle only."""
NOT_KNOWN, ACKNOWLEDGED, NO_ANSWER_BEHIND = 0x01, 0x05, 0x0B
"""Exceptions that need thought: illegal function; accepted and still at work; a gateway's word for a timeout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The next request."""

    pdu: bytes
    read: Callable[[bytes], Any] | None = None
    """For functions outside the poll loop: see exchange.Job."""
    pause: float = 0.0
    """Seconds to wait before it is sent."""

    @property
    def data_bytes(self) -> int:
        """Bytes of data that the answer to a read brings; 0 for everything else."""
        if self.pdu[0] not in READ_FUNCTIONS:
            return 0
        return data_bytes(self.pdu[0], int.from_bytes(self.pdu[3:5], "big"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What became of a step."""

    data: bytes = b""
    """Data of a read."""
    value: Any = None
    """What `Step.read` made of the answer."""
    failure: Failure | None = None
    sent: bool = True
    """Whether it left for the device."""


@dataclass(kw_only=True, slots=True)
class Order:
    """A write to one point."""

    device: str
    point: ModbusPoint
    value: Value
    verify: bool = True
    tolerance: float = 0.0
    previous: Value | None = None
    """The last good value, for the answer."""
    present: Value | None = None
    """The value as it is now, None where it is not Good; for `max_step`."""
    masks: bool = True
    """Whether function 22 is worth trying; becomes False when the device says that it does not know it."""


Steps = Generator[Step, Reply, WriteResult]


def carry_out(order: Order) -> Steps:
    """Check, write and read back; returns the one definite answer."""
    writer = _Write(order)
    refused = refusal(order.point, order.value, order.present)
    if refused is not None:
        return writer.result(WriteOutcome.REFUSED, refused.what, refused.todo, refused.quality)
    return (yield from writer.run())


class _Write:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._point = order.point
        self._single: SinglePoint = single(order.point)
        self._factor = 0
        self._sent = False
        self._content = b""

    def result(self, outcome: WriteOutcome, what: str = "", todo: str = "", status: int = 0,
               read: Value | None = None) -> WriteResult:
        """The answer; the message names device, operation, address and point."""
        message = ""
        if what:
            point = self._point
            operation = OPERATIONS[point.write_function or point.read_function]
            named = what if what.startswith(f"{point.name}: ") else f"{point.name}: {what}"
            message = f"{self._order.device}: {operation} {point.address}: {named}; {todo}"
        return WriteResult(outcome=outcome, message=message, quality=status, previous=self._order.previous, read=read,
                           sent=self._sent)

    def run(self) -> Steps:
        """All but the checks that need no device."""
        if self._point.scalefactor is not None:
            failed = yield from self._read_factor(self._point.scalefactor)
            if failed is not None:
                return failed
        try:
            self._content = encode(self._point, self._order.value, factor=self._factor)
            failure = yield from self._write()
        except (ValueError, OverflowError) as error:  # EncodeError, and what a PDU or a float can't hold
            what, _, todo = str(error).partition("; ")
            return self.result(WriteOutcome.REFUSED, what, todo or "see its endpoint file", quality.BAD_OUT_OF_RANGE)
        if failure is not None and not (self._sent and failure.exception == ACKNOWLEDGED):
            return (yield from self._failed(failure))
        if not (self._order.verify and self._point.verify):
            return self._unverified(failure)
        return (yield from self._verify(failure))

    # ------------------------------------------------------------ writing

    def _read_factor(self, address: int) -> Generator[Step, Reply, WriteResult | None]:
        """The scale factor as the device has it now; a result where there is none."""
        reply = yield Step(pdu=read_request(self._point.read_function, address, 1))
        if reply.failure is not None:
            failure = reply.failure
            return self.result(WriteOutcome.FAILED, f"its scale factor could not be read: {failure.what}",
                               failure.todo, failure.quality)
        self._factor = factor_of(self._point, reply.data)
        if self._factor == FACTOR_NOT_AVAILABLE or abs(self._factor) > MAX_FACTOR:
            return self.result(WriteOutcome.FAILED, f"its scale factor register {address} holds {self._factor}",
                               "the device has no such value now; look at the device", quality.BAD_SENSOR_FAILURE)
        return None

    def _write(self) -> Generator[Step, Reply, Failure | None]:
        """Send the value once, by whatever function; None where the device confirmed it."""
        point = self._point
        if not is_part(point):
            return (yield from self._send(Step(pdu=self._pdu(self._content))))
        failure: Failure | None = None
        if self._order.masks:
            failure = yield from self._send(self._mask())
            if failure is None or failure.exception != NOT_KNOWN:
                return failure
            self._order.masks = False
        if not point.allow_rmw:
            return _no_mask(failure)
        return (yield from self._read_modify_write())

    def _mask(self) -> Step:
        """Function 22: the bits of the point, whatever the others are."""
        from modbus_tcp_client.functions import mask_write

        keep = bytearray(b"\xff\xff")
        Slot(self._point).put(0, keep)
        question = mask_write(self._point.address, int.from_bytes(keep, "big"), int.from_bytes(self._content, "big"))
        return Step(pdu=question.pdu, read=question.answer)

    def _read_modify_write(self) -> Generator[Step, Reply, Failure | None]:
        self._sent = False  # the device has refused what was sent so far
        reply = yield Step(pdu=read_request(self._point.read_function, self._point.address, 1))
        if reply.failure is not None:
            return reply.failure
        whole = encode(self._point, self._order.value, current=reply.data, factor=self._factor)
        return (yield from self._send(Step(pdu=self._pdu(whole))))

    def _send(self, step: Step) -> Generator[Step, Reply, Failure | None]:
        reply = yield step
        self._sent = self._sent or reply.sent
        return reply.failure

    def _pdu(self, content: bytes) -> bytes:
        address = self._point.address
        match self._point.write_function:
            case WriteFunction.SINGLE_COIL:
                return write_single_coil(address, bool(content[0]))
            case WriteFunction.MULTIPLE_COILS:
                return write_multiple_coils(address, [content[0]])
            case WriteFunction.SINGLE_REGISTER if len(content) == 2:
                return write_register(address, int.from_bytes(content, "big"))
        return write_multiple_registers(address, content)

    # ------------------------------------------------------------ answering

    def _failed(self, failure: Failure) -> Steps:
        """Not done for sure, or not known; then a look at the point may help whoever asked."""
        if not self._sent or (failure.exception and failure.exception != NO_ANSWER_BEHIND):
            return self.result(WriteOutcome.FAILED, failure.what, failure.todo, failure.quality)
        seen, what = None, f"{failure.what}, so whether it acted is unknown"
        if self._order.verify and self._point.verify:
            seen = yield from self._read()
            if seen is not None:
                what += f"; {seen!r} was read afterwards"
        return self.result(WriteOutcome.TIMED_OUT, what, "it is not sent again; look at the device", failure.quality,
                           seen)

    def _unverified(self, failure: Failure | None) -> WriteResult:
        if failure is None:
            return self.result(WriteOutcome.WRITTEN)
        return self.result(WriteOutcome.TIMED_OUT, failure.what, "the device is still at it; look at the device",
                           failure.quality)

    def _verify(self, failure: Failure | None) -> Steps:
        """Read until the value is there, or the patience is over."""
        wanted = self._single.as_read(self._content, self._factor)
        seen: Value | None = None
        for pause in READ_AGAIN:
            found = yield from self._read(pause)
            if found is None:
                break
            seen = found
            if same(wanted, seen, self._order.tolerance):
                return self.result(WriteOutcome.VERIFIED, read=seen)
        status = 0 if failure is None else failure.quality
        if seen is None:
            return self.result(WriteOutcome.NOT_VERIFIED, "the device confirmed it, but it could not be read back",
                               "set verify to none for a point that can't be read", status)
        return self.result(WriteOutcome.NOT_VERIFIED, f"{wanted!r} was written and {seen!r} is read back",
                           "look at the device's limits and operating mode, or set verify to none for a pulse",
                           status, seen)

    def _read(self, pause: float = 0.0) -> Generator[Step, Reply, Value | None]:
        """The point's value as the device has it now, None where it gives none."""
        answers = []
        for question in self._single.questions:
            reply = yield Step(pdu=question, pause=pause)
            if reply.failure is not None:
                return None
            answers.append(reply.data)
            pause = 0.0
        return self._single.value(answers)


def _no_mask(refused: Failure | None) -> Failure:
    what = "the device does not know function 22, which changes a part of a register"
    return Failure(quality=quality.BAD_NOT_SUPPORTED, what=what, exception=NOT_KNOWN if refused else 0,
                   todo="set allow_rmw to true for it, if nothing else writes this register")


def same(wanted: Value | None, seen: Value, tolerance: float = 0.0) -> bool:
    """Whether what was read is what was written, as the encoding rounded it."""
    if wanted == seen:
        return True
    if wanted is None or isinstance(wanted, str | bytes | bool) or isinstance(seen, str | bytes | bool):
        return False
    return abs(wanted - seen) <= tolerance
