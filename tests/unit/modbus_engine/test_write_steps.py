"""The steps of a write against a device that does anything: one definite answer, and never two writes."""

from __future__ import annotations

from typing import Any

import pytest
from acquisition import Value, WriteOutcome, WriteResult
from endpoint_config.models import Datatype, ModbusPoint, ReadFunction, WriteFunction
from hypothesis import given
from hypothesis import strategies as st
from modbus_frames import ExceptionResponse, FrameError, answer, read_response_data
from modbus_frames.pdu import COIL_ON, READ_FUNCTIONS, Request, pack_bits, unpack_bits
from modbus_tcp_client.failure import Failure, from_exception, malformed, no_connection, timed_out
from modbus_tcp_client.single import single
from modbus_tcp_client.write_steps import Order, Reply, carry_out

SIZE = 16
WRITES = frozenset([5, 6, 15, 16, 22])


class Device:
    """Registers and coils, and how many requests changed them."""

    def __init__(self, registers: list[int]) -> None:
        self.registers = list(registers)
        self.coils = [word & 1 for word in registers]
        self.asked = self.changed = 0

    def read(self, request: Request) -> bytes:
        if request.function <= 2:
            return pack_bits(self.coils[request.address : request.address + request.count])
        words = self.registers[request.address : request.address + request.count]
        return b"".join(word.to_bytes(2, "big") for word in words)

    def write(self, request: Request) -> None:
        self.changed += 1
        if request.function == 5:
            self.coils[request.address] = int(request.data == COIL_ON)
        elif request.function == 15:
            self.coils[request.address : request.address + request.count] = unpack_bits(request.data, request.count)
        else:
            for i in range(request.count):
                self.registers[request.address + i] = int.from_bytes(request.data[2 * i : 2 * i + 2], "big")

    def reply(self, pdu: bytes) -> bytes:
        self.asked += pdu[0] in WRITES
        if pdu[0] != 22:
            return answer(pdu, self)
        address, keep, change = (int.from_bytes(pdu[i : i + 2], "big") for i in (1, 3, 5))
        self.registers[address] = self.registers[address] & keep | change & ~keep & 0xFFFF
        self.changed += 1
        return pdu


def exchange(device: Device, step: Any, fault: str) -> Reply:
    """What a driver would tell of one step; `fault` is what happens to it."""
    if fault == "not sent":
        return Reply(failure=no_connection("connection refused"), sent=False)
    if fault.isdecimal():
        device.asked += step.pdu[0] in WRITES
        return Reply(failure=from_exception(int(fault)))
    pdu = device.reply(step.pdu) if fault != "lost request" else b""
    failure: Failure | None = {"lost request": timed_out(1.0), "lost answer": timed_out(1.0),
                               "reset": no_connection("connection reset by peer"),
                               "garbled": malformed("nonsense")}.get(fault)
    if failure is not None:
        return Reply(failure=failure)
    try:
        if step.read is not None:
            return Reply(value=step.read(pdu))
        if step.pdu[0] in READ_FUNCTIONS:
            count = int.from_bytes(step.pdu[3:5], "big")
            return Reply(data=bytes(read_response_data(pdu, step.pdu[0], count)))
    except ExceptionResponse as refusal:
        return Reply(failure=from_exception(refusal.code))
    except FrameError as error:
        return Reply(failure=malformed(str(error)))
    return Reply()


def drive(device: Device, order: Order, faults: list[str]) -> WriteResult:
    """Carry a write out; the n-th step meets the n-th fault, and later ones none."""
    steps = carry_out(order)
    met = iter(faults)
    reply: Reply | None = None
    for _ in range(40):
        try:
            step = next(steps) if reply is None else steps.send(reply)
        except StopIteration as end:
            result: WriteResult = end.value
            return result
        reply = exchange(device, step, next(met, ""))
    raise AssertionError("a write without end")


@st.composite
def points(draw: st.DrawFn) -> ModbusPoint:
    if draw(st.integers(0, 5)) == 0:
        return ModbusPoint(name="p", read_function=ReadFunction.COILS, address=draw(st.integers(0, 9)),
                           datatype=Datatype.BOOL, verify=draw(st.booleans()),
                           write_function=draw(st.sampled_from([WriteFunction.SINGLE_COIL,
                                                                WriteFunction.MULTIPLE_COILS])))
    kind = draw(st.sampled_from(list(Datatype)))
    size = kind.registers or draw(st.integers(1, 6))
    more: dict[str, Any] = {}
    if kind is Datatype.BITFIELD:
        more = {"bit": draw(st.integers(0, 11)), "bits": draw(st.integers(1, 4))}
    elif kind is Datatype.BOOL:
        more = {"bit": draw(st.none() | st.integers(0, 15))}
    elif kind not in (Datatype.STRING, Datatype.BYTES):
        more = {"scale": draw(st.sampled_from([1.0, 0.1, -0.5, 1000.0])),
                "valueoffset": draw(st.sampled_from([0.0, -40.0])),
                "scalefactor": draw(st.sampled_from([None, None, 15])),
                "minimum": draw(st.sampled_from([None, -100.0])), "maximum": draw(st.sampled_from([None, 100.0])),
                "step": draw(st.sampled_from([None, 0.5])), "max_step": draw(st.sampled_from([None, 10.0]))}
    orders = ["ABCD", "CDAB", "BADC", "DCBA"] if size > 1 and kind.registers else ["ABCD", "BADC"]
    function = draw(st.sampled_from([WriteFunction.MULTIPLE_REGISTERS] + [WriteFunction.SINGLE_REGISTER] * (size == 1)))
    return ModbusPoint(name="p", read_function=ReadFunction.HOLDING_REGISTERS, address=draw(st.integers(0, 8)),
                       registers=size, datatype=kind, order=draw(st.sampled_from(orders)), write_function=function,
                       verify=draw(st.booleans()), allow_rmw=draw(st.booleans()), **more)


VALUES: st.SearchStrategy[Value] = (
    st.booleans() | st.integers(-200, 200) | st.integers() | st.floats() | st.sampled_from([10**400, -(10**400)])
    | st.text(max_size=6) | st.binary(max_size=6)
)
FAULTS = st.lists(st.sampled_from(["", "", "", "not sent", "lost request", "lost answer", "reset", "garbled", "1", "2",
                                   "4", "5", "6", "11"]), max_size=6)


@given(point=points(), value=VALUES, faults=FAULTS, masks=st.booleans(), present=st.none() | st.floats(-50, 50),
       registers=st.lists(st.integers(0, 0xFFFF), min_size=SIZE, max_size=SIZE))
def test_whatever_happens_there_is_one_answer_and_no_second_write(
    point: ModbusPoint, value: Value, faults: list[str], masks: bool, present: float | None, registers: list[int]
) -> None:
    device = Device([*registers[:-1], registers[-1] % 5])
    result = drive(device, Order(device="d", point=point, value=value, masks=masks, present=present), faults)
    assert device.changed <= 1
    assert device.asked <= 2  # function 22, refused, may be followed by a read-modify-write
    assert (result.outcome in (WriteOutcome.VERIFIED, WriteOutcome.WRITTEN)) == (result.message == "")
    assert result.sent or result.outcome in (WriteOutcome.REFUSED, WriteOutcome.FAILED)
    if result.outcome in (WriteOutcome.REFUSED, WriteOutcome.FAILED):
        assert device.changed == 0
    if result.outcome in (WriteOutcome.VERIFIED, WriteOutcome.WRITTEN, WriteOutcome.NOT_VERIFIED):
        assert device.changed == 1 or "5" in faults or "" in faults
    if result.outcome is WriteOutcome.VERIFIED and "5" not in faults:
        answers = [device.reply(question)[2:] for question in single(point).questions]
        assert single(point).value(answers) == result.read


@given(point=points(), registers=st.lists(st.integers(0, 0xFFFF), min_size=SIZE, max_size=SIZE), data=st.data())
def test_a_written_value_is_read_back_as_the_encoding_rounded_it(
    point: ModbusPoint, registers: list[int], data: st.DataObject
) -> None:
    device = Device([*registers[:-1], 2 if point.order in ("ABCD", "CDAB") else 0x200])
    before = list(device.registers)
    value = data.draw(st.booleans() if point.datatype is Datatype.BOOL else st.integers(-100, 100)
                      if point.datatype not in (Datatype.STRING, Datatype.BYTES)
                      else st.just("ab") if point.datatype is Datatype.STRING else st.just(b"ab"))
    result = drive(device, Order(device="d", point=point, value=value, present=value), [])
    if result.outcome is WriteOutcome.REFUSED:
        assert device.registers == before
        return
    assert result.outcome is (WriteOutcome.VERIFIED if point.verify else WriteOutcome.WRITTEN)
    touched = range(point.address, point.address + point.registers)
    if not point.read_function.is_bits:
        assert [w for a, w in enumerate(device.registers) if a not in touched] == [
            w for a, w in enumerate(before) if a not in touched]


@pytest.mark.parametrize("value", [[1], None, {"a": 1}, object()])
def test_what_is_no_value_is_refused(value: Any) -> None:
    for kind in (Datatype.INT16, Datatype.BOOL, Datatype.STRING, Datatype.BYTES):
        point = ModbusPoint(name="p", read_function=ReadFunction.HOLDING_REGISTERS, address=0, datatype=kind,
                            write_function=WriteFunction.MULTIPLE_REGISTERS)
        result = drive(Device([0] * SIZE), Order(device="d", point=point, value=value), [])
        assert result.outcome is WriteOutcome.REFUSED
