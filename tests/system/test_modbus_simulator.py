"""The simulated Modbus devices, seen by clients of other libraries and by raw sockets."""

from __future__ import annotations

import asyncio
import itertools
import math
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import peers
import pytest
from endpoint_config.models import Datatype, ModbusPoint, ModbusServer, ReadFunction, WriteFunction
from hypothesis import given, settings
from hypothesis import strategies as st
from modbus_frames import Splitter, answer, encode_adu, read_request
from modbus_tcp_client.decode import DecodePlan
from modbus_tcp_client.encode import number_limits
from modbus_tcp_client.plan import plan
from pymodbus.client import AsyncModbusTcpClient

from cpc.simulators.modbus import ModbusSimulator
from cpc.simulators.modbus_curves import curve_of
from cpc.simulators.modbus_unit import SimulatedUnit

H, IR = ReadFunction.HOLDING_REGISTERS, ReadFunction.INPUT_REGISTERS
COILS, INPUTS = ReadFunction.COILS, ReadFunction.DISCRETE_INPUTS
RECORD = np.dtype(
    [("source_time", "i8"), ("received_time", "i8"), ("value", "f8"), ("raw", "u8"), ("quality", "u4"),
     ("sequence", "u4")]
)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run one test's coroutine, bounded."""
    asyncio.run(asyncio.wait_for(test(), 30))


@asynccontextmanager
async def simulated(
    *servers: ModbusServer, **more: float
) -> AsyncIterator[tuple[ModbusSimulator, dict[str, tuple[str, int]]]]:
    simulator = ModbusSimulator(servers, **more)  # type: ignore[arg-type]
    entries = await simulator.start()
    try:
        yield simulator, {alias: (entry.ipaddr, entry.port) for alias, entry in entries.items()}
    finally:
        await simulator.stop()


@asynccontextmanager
async def pymodbus(place: tuple[str, int]) -> AsyncIterator[AsyncModbusTcpClient]:
    client = AsyncModbusTcpClient(place[0], port=place[1], timeout=5, retries=0)
    assert await client.connect()
    try:
        yield client
    finally:
        client.close()


def point(name: str, address: int, function: ReadFunction = H, **more: object) -> ModbusPoint:
    datatype = more.get("datatype", Datatype.UINT16)
    assert isinstance(datatype, Datatype)
    more.setdefault("registers", datatype.registers)
    return ModbusPoint(name=name, read_function=function, address=address, **more)  # type: ignore[arg-type]


PUMP = ModbusServer(
    alias="Pump", ipaddr="192.0.2.1", points=(
        point("Speed", 10, scale=0.1, minimum=0.0, maximum=50.0, unit="Hz"),
        point("Flow", 11, datatype=Datatype.FLOAT32, order="CDAB", minimum=2.0, maximum=3.0),
        point("Hours", 13, datatype=Datatype.UINT64),
        point("Model", 20, datatype=Datatype.STRING, registers=4),
        point("Setpoint", 30, minimum=10, maximum=20, write_function=WriteFunction.SINGLE_REGISTER),
        point("Running", 3, COILS),
        point("Enable", 5, COILS, write_function=WriteFunction.SINGLE_COIL),
        point("Alarm", 100, INPUTS),
        point("Temperature", 7, IR, datatype=Datatype.INT16, minimum=-20, maximum=-10),
    ),
)


def test_pymodbus_reads_every_table() -> None:
    async def body() -> None:
        async with simulated(PUMP) as (_, places), pymodbus(places["Pump"]) as client:
            registers = (await client.read_holding_registers(10, count=7, device_id=1)).registers
            assert 0 <= registers[0] <= 500
            flow = client.convert_from_registers(registers[1:3], client.DATATYPE.FLOAT32, word_order="little")
            assert 2.0 <= flow <= 3.0  # type: ignore[operator]
            text = (await client.read_holding_registers(20, count=4, device_id=1)).registers
            assert client.convert_from_registers(text, client.DATATYPE.STRING) == "Model"
            assert len((await client.read_coils(3, count=1, device_id=1)).bits) == 8
            assert not (await client.read_discrete_inputs(100, count=1, device_id=1)).isError()
            (low,) = (await client.read_input_registers(7, count=1, device_id=1)).registers
            assert -20 <= low - 65536 <= -10

    run(body)


def test_what_is_written_by_pymodbus_reads_back_and_stays() -> None:
    async def body() -> None:
        async with simulated(PUMP, update_interval=0.0) as (_, places), pymodbus(places["Pump"]) as client:
            before = (await client.read_holding_registers(30, count=1, device_id=1)).registers
            assert 10 <= before[0] <= 20
            assert not (await client.write_register(30, 77, device_id=1)).isError()
            assert (await client.read_holding_registers(30, count=1, device_id=1)).registers == [77]
            assert not (await client.write_registers(30, [78], device_id=1)).isError()
            assert (await client.read_holding_registers(30, count=1, device_id=1)).registers == [78]
            for on in (True, False):
                assert not (await client.write_coil(5, on, device_id=1)).isError()
                assert (await client.read_coils(5, count=1, device_id=1)).bits[0] is on
                assert not (await client.write_coils(5, [not on], device_id=1)).isError()
                assert (await client.read_coils(5, count=1, device_id=1)).bits[0] is not on

    run(body)


@pytest.mark.parametrize(
    ("unit", "request_pdu", "answer_pdu"),
    [
        (1, "0300000001", "8302"),
        (1, "0300110001", "8302"),
        (1, "030000ffff", "8303"),
        (1, "0300000000", "8303"),
        (1, "03ffff0002", "8302"),
        (1, "0700", "8701"),
        (1, "2b0d0100", "ab01"),
        (1, "06000a0001", "8602"),
        (1, "050005aaaa", "8503"),
        (1, "0500030000", "8502"),
        (9, "03000a0001", "830b"),
        (0, "06001e0011", "06001e0011"),
        (255, "06001e0011", "06001e0011"),
    ],
)
def test_refusals_are_those_of_the_specification(unit: int, request_pdu: str, answer_pdu: str) -> None:
    async def body() -> None:
        async with simulated(PUMP) as (simulator, places):
            reader, writer = await asyncio.open_connection(*places["Pump"])
            writer.write(encode_adu(0xBEEF, unit, bytes.fromhex(request_pdu)))
            expected = encode_adu(0xBEEF, unit, bytes.fromhex(answer_pdu))
            assert await reader.readexactly(len(expected)) == expected
            writer.close()
            await writer.wait_closed()
            assert simulator.log[0].unit == unit
            assert simulator.log[0].function == int(request_pdu[:2], 16)
            assert simulator.log[0].exception == (int(answer_pdu[2:4], 16) if len(answer_pdu) == 4 else 0)

    run(body)


def test_units_of_one_gateway_share_a_listener_and_answer_apart() -> None:
    x, y = (point(name, 0, datatype=Datatype.STRING, registers=1) for name in "xy")
    one = ModbusServer(alias="A", ipaddr="192.0.2.5", unit_id=3, points=(x,))
    two = ModbusServer(alias="B", ipaddr="192.0.2.5", unit_id=4, points=(y,))
    other = ModbusServer(alias="C", ipaddr="192.0.2.6", unit_id=3, points=(point("z", 0),))

    async def body() -> None:
        async with simulated(one, two, other) as (_, places):
            assert places["A"] == places["B"] != places["C"]
            async with pymodbus(places["A"]) as client:
                for unit, name in ((3, b"x\0"), (4, b"y\0")):
                    (word,) = (await client.read_holding_registers(0, count=1, device_id=unit)).registers
                    assert struct.pack(">H", word) == name
                refused = await client.read_holding_registers(0, count=1, device_id=0)
                assert refused.exception_code == 0x0B

    run(body)


def test_a_first_port_is_counted_on_and_a_taken_one_leaves_nothing_listening(free_port: Callable[[], int]) -> None:
    async def body() -> None:
        port = free_port()
        async with simulated(PUMP, port=port) as (_, places):
            assert places["Pump"] == ("127.0.0.1", port)
            second = ModbusSimulator([PUMP], port=port)
            with pytest.raises(OSError):
                await second.start()
            await second.stop()

    run(body)


def test_requests_in_one_piece_in_bytes_and_many_in_flight_are_answered_in_order() -> None:
    async def body() -> None:
        async with simulated(PUMP) as (_, places):
            reader, writer = await asyncio.open_connection(*places["Pump"])
            stream = b"".join(encode_adu(i, 1, read_request(3, 20, 4)) for i in range(50))
            writer.write(stream)
            for i in range(len(stream)):
                writer.write(stream[i : i + 1])
                if i % 40 == 0:
                    await writer.drain()
                    await asyncio.sleep(0)
            splitter, frames = Splitter(), []
            while len(frames) < 100:
                frames += splitter.feed(await reader.read(4096))
            assert [f.transaction for f in frames] == [*range(50), *range(50)]
            assert {f.pdu for f in frames} == {b"\x03\x08Model\0\0\0"}
            writer.close()
            await writer.wait_closed()

    run(body)


def test_garbage_a_reset_and_a_client_that_never_reads_harm_nobody_else() -> None:
    async def body() -> None:
        async with simulated(PUMP) as (_, places):
            reader, writer = await asyncio.open_connection(*places["Pump"])
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            _, deaf = await asyncio.open_connection(*places["Pump"])
            request = encode_adu(1, 1, read_request(3, 10, 7))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    while True:
                        deaf.write(request * 2000)
                        await deaf.drain()
            async with pymodbus(places["Pump"]) as client:
                assert not (await client.read_holding_registers(10, count=7, device_id=1)).isError()
            deaf.transport.abort()
            async with pymodbus(places["Pump"]) as client:
                assert not (await client.read_holding_registers(10, count=7, device_id=1)).isError()

    run(body)


def test_what_one_client_sends_at_once_is_answered_in_order_and_in_turns_with_the_others() -> None:
    """Forty thousand requests in one connection: another client's one is answered long before their end."""
    count = 40_000

    async def body() -> None:
        async with simulated(PUMP) as (_, places):
            reader, writer = await asyncio.open_connection(*places["Pump"])
            done: list[int] = []

            async def listen() -> None:
                splitter = Splitter()
                while len(done) < count:
                    done.extend(adu.transaction for adu in splitter.feed(await reader.read(1 << 16)))

            listening = asyncio.create_task(listen())
            for first in range(0, count, 10_000):
                writer.write(b"".join(encode_adu(i & 0xFFFF, 1, read_request(3, 20, 4))
                                      for i in range(first, first + 10_000)))
            async with pymodbus(places["Pump"]) as client:
                begun = len(done)
                assert not (await client.read_holding_registers(10, count=7, device_id=1)).isError()
                assert len(done) - begun < 5_000
            await listening
            assert done == [i & 0xFFFF for i in range(count)]
            writer.close()

    run(body)


def test_mbpoll_reads_the_same() -> None:
    mbpoll = peers.require_program("mbpoll")

    async def body() -> None:
        async with simulated(PUMP) as (_, places):
            host, port = places["Pump"]
            process = await asyncio.create_subprocess_exec(
                mbpoll, "-m", "tcp", "-p", str(port), "-a", "1", "-0", "-r", "30", "-c", "1", "-t", "4", "-1", host,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            output, _ = await process.communicate()
            assert process.returncode == 0, output
            (line,) = [x for x in output.decode().splitlines() if x.startswith("[30]")]
            assert 10 <= int(line.split(":")[1]) <= 20

    run(body)


def test_two_hundred_devices_are_served_at_once() -> None:
    servers = [
        ModbusServer(alias=f"D{i}", ipaddr=f"192.0.2.{i}", points=tuple(point(f"p{a}", a) for a in range(125)))
        for i in range(200)
    ]

    async def ask(place: tuple[str, int]) -> int:
        reader, writer = await asyncio.open_connection(*place)
        for i in range(5):
            writer.write(encode_adu(i, 1, read_request(3, 0, 125)))
            assert (await reader.readexactly(259))[:2] == struct.pack(">H", i)
        writer.close()
        await writer.wait_closed()
        return 5

    async def body() -> None:
        async with simulated(*servers) as (simulator, places):
            assert sum(await asyncio.gather(*(ask(place) for place in places.values()))) == 1000
            assert len(simulator.log) == 1000

    run(body)


numbers = [d for d in Datatype if d not in (Datatype.STRING, Datatype.BYTES, Datatype.BITFIELD, Datatype.FLOAT16)]


@settings(deadline=None)
@given(
    st.sampled_from(numbers), st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]),
    st.sampled_from([(1.0, 0.0), (0.1, 0.0), (-0.5, 20.0), (1000.0, 0.0)]), st.none() | st.integers(-50, 50),
    st.none() | st.integers(51, 120), st.booleans(), st.integers(0, 10**6),
)
def test_simulated_values_are_good_and_within_their_limits(
    kind: Datatype, order: str, scale: tuple[float, float], minimum: int | None, maximum: int | None, factor: bool,
    seconds: int,
) -> None:
    p = point(
        "p", 0, datatype=kind, order=order, scale=scale[0], valueoffset=scale[1], minimum=minimum, maximum=maximum,
        scalefactor=9 if factor else None, invalid=(3, 5),
    )
    unit = SimulatedUnit([ModbusServer(alias="a", ipaddr="h", points=(p,))])
    unit.move(float(seconds))
    dp = DecodePlan([p], plan([p]))
    data = np.zeros((1, dp.width), np.uint8)
    for request, offset in zip(dp.requests, dp.offsets, strict=True):
        pdu = answer(read_request(request.function, request.address, request.count), unit)
        data[0, offset : offset + request.data_bytes] = np.frombuffer(pdu[2:], np.uint8)
    records = np.zeros((1, 1), RECORD)
    dp.decode(data, records)
    low, high = number_limits(p) or (-(10**9), 10**9)
    # Whether any number that the type can carry lies within the limits at all.
    step = scale[0] * (0.1 if factor else 1.0)
    numbers_in = sorted((end - scale[1]) / step for end in (
        (-1e12 if minimum is None else minimum), (1e12 if maximum is None else maximum)))
    if max(low, math.ceil(numbers_in[0])) + 1 < min(high, math.floor(numbers_in[1])):
        assert records["quality"][0, 0] == 0
        assert minimum is None or records["value"][0, 0] >= minimum
        assert maximum is None or records["value"][0, 0] <= maximum


def test_values_move_with_time_counters_upwards_and_texts_not() -> None:
    for p in PUMP.points:
        if p.datatype is Datatype.STRING:
            continue
        curve = curve_of(p, 0.0)
        values = [curve(t * 1.0) for t in range(60)]
        assert len(set(values)) > 1
        if p.name == "Hours":
            assert all(a < b for a, b in itertools.pairwise(values))
