"""PDUs in both directions: round trips, the specification's examples and refusals, pymodbus as the oracle, garbage."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modbus_frames import (
    ExceptionResponse,
    FrameError,
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
from modbus_frames.pdu import FUNCTIONS
from pymodbus.pdu import DecodePDU

reads = st.tuples(st.integers(1, 4), st.integers(0, 0xFFFF), st.integers(1, 2000)).filter(
    lambda r: r[1] + r[2] <= 0x10000 and (r[0] < 3 or r[2] <= 125)
)


@given(reads)
def test_a_read_request_comes_back_as_it_was_meant(read: tuple[int, int, int]) -> None:
    assert parse_request(read_request(*read)) == Request(function=read[0], address=read[1], count=read[2])


@given(reads, st.data())
def test_a_read_answer_gives_the_data_and_nothing_else(read: tuple[int, int, int], data: st.DataObject) -> None:
    function, _, count = read
    size = data_bytes(function, count)
    content = data.draw(st.binary(min_size=size, max_size=size))
    answer = read_response(function, content)
    assert bytes(read_response_data(answer, function, count)) == content
    for wrong in (answer[:-1], answer + b"\0", bytes([answer[0], answer[1] ^ 1]) + answer[2:]):
        with pytest.raises(FrameError):
            read_response_data(wrong, function, count)


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.booleans())
def test_single_writes_are_confirmed_by_their_echo(address: int, value: int, on: bool) -> None:
    for pdu in (write_single_coil(address, on), write_single_register(address, value)):
        request = parse_request(pdu)
        assert (request.address, request.count) == (address, 1)
        assert write_response(request) == pdu
        check_write_response(pdu, pdu)
        with pytest.raises(FrameError):
            check_write_response(pdu[:-1] + bytes([pdu[-1] ^ 1]), pdu)


@given(st.integers(0, 60000), st.lists(st.booleans(), min_size=1, max_size=1968), st.binary(min_size=1, max_size=123))
def test_multiple_writes_carry_every_bit(address: int, bits: list[bool], half: bytes) -> None:
    request = parse_request(write_multiple_coils(address, bits))
    assert unpack_bits(request.data, request.count) == bits
    pdu = write_multiple_registers(address, half * 2)
    request = parse_request(pdu)
    assert (request.count, request.data) == (len(half), half * 2)
    check_write_response(write_response(request), pdu)
    with pytest.raises(FrameError):
        check_write_response(pdu, pdu)


@given(st.lists(st.booleans(), max_size=100))
def test_bits_are_packed_and_unpacked(bits: list[bool]) -> None:
    assert unpack_bits(pack_bits(bits), len(bits)) == bits


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        # The examples of V1.1b3, clauses 6.1, 6.3, 6.5, 6.6, 6.11 and 6.12.
        (read_request(1, 0x13, 0x13), "0100130013"),
        (read_request(3, 0x6B, 3), "03006b0003"),
        (write_single_coil(0xAC, True), "0500acff00"),
        (write_single_register(1, 3), "0600010003"),
        (write_multiple_coils(0x13, [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]), "0f0013000a02cd01"),
        (write_multiple_registers(1, b"\x00\x0a\x01\x02"), "100001000204000a0102"),
    ],
)
def test_the_examples_of_the_specification(built: bytes, expected: str) -> None:
    assert built.hex() == expected


@pytest.mark.parametrize(
    ("pdu", "function", "code"),
    [
        ("09", 9, 1),
        ("0900000001", 9, 1),
        ("00", 0, 1),
        ("2b0e0100", 0x2B, 1),
        ("8300000001", 3, 1),
        ("0300000000", 3, 3),
        ("030000007e", 3, 3),
        ("01000007d1", 1, 3),
        ("0300ff", 3, 3),
        ("030000000100", 3, 3),
        ("03ffff0002", 3, 2),
        ("03ff84007d", 3, 2),
        ("01fff0ffff", 1, 3),
        ("0500001234", 5, 3),
        ("0f0000000a01ff", 15, 3),
        ("0f000007b1f7" + "00" * 247, 15, 3),
        ("100000000203000000", 16, 3),
        ("100000000000", 16, 3),
        ("10ffff000204" + "00" * 4, 16, 2),
    ],
)
def test_requests_are_refused_with_the_function_and_the_code_of_the_specification(
    pdu: str, function: int, code: int
) -> None:
    with pytest.raises(ExceptionResponse) as refusal:
        parse_request(bytes.fromhex(pdu))
    assert (refusal.value.function, refusal.value.code) == (function, code)


def test_the_last_addresses_can_be_read() -> None:
    assert parse_request(bytes.fromhex("03ff83007d")).count == 125
    assert parse_request(bytes.fromhex("01ffff0001")).address == 0xFFFF


@given(st.integers(1, 255), st.sampled_from(sorted(FUNCTIONS)))
def test_an_exception_answer_is_raised_with_its_code(code: int, function: int) -> None:
    pdu = exception_response(function, code)
    assert pdu == bytes([function | 0x80, code])
    with pytest.raises(ExceptionResponse) as caught:
        read_response_data(pdu, function, 1)
    assert (caught.value.function, caught.value.code) == (function, code)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.function, copy.code, str(copy)) == (function, code, str(caught.value))


@pytest.mark.parametrize("pdu", ["", "03", "8300", "830200", "830102", "8402", "04020001"])
def test_an_answer_that_is_none_is_a_frame_error(pdu: str) -> None:
    with pytest.raises(FrameError):
        read_response_data(bytes.fromhex(pdu), 3, 1)


@given(st.binary(min_size=1, max_size=260), st.integers(1, 4), st.integers(1, 125))
def test_garbage_is_refused_by_our_own_errors_only(pdu: bytes, function: int, count: int) -> None:
    try:
        data = read_response_data(pdu, function, count)
    except (FrameError, ExceptionResponse):
        pass
    else:
        assert len(data) == data_bytes(function, count)
    try:
        request = parse_request(pdu)
    except ExceptionResponse as refusal:
        assert refusal.code in (1, 2, 3)
    else:
        assert 1 <= request.count <= 2000
        assert request.address + request.count <= 0x10000


@pytest.mark.parametrize(
    "build",
    [
        lambda: read_request(5, 0, 1),
        lambda: read_request(3, 0, 126),
        lambda: read_request(3, 0, 0),
        lambda: read_request(3, 65535, 2),
        lambda: read_request(3, -1, 2),
        lambda: write_single_register(0, 65536),
        lambda: write_multiple_registers(0, b"abc"),
        lambda: write_multiple_registers(0, bytes(248)),
        lambda: write_multiple_coils(0, []),
        lambda: exception_response(3, 0),
        lambda: read_response(3, b""),
        lambda: write_response(Request(function=3, address=0, count=1)),
        lambda: unpack_bits(b"\0", 9),
    ],
)
def test_what_can_not_be_sent_is_refused_before_it_is(build: object) -> None:
    with pytest.raises(ValueError):
        build()  # type: ignore[operator]


@given(reads)
def test_pymodbus_reads_our_requests_as_they_are_meant(read: tuple[int, int, int]) -> None:
    decoded = DecodePDU(is_server=True).decode(read_request(*read))
    assert decoded is not None
    assert (decoded.function_code, decoded.address, decoded.count) == read


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=123), st.lists(st.booleans(), min_size=1, max_size=100))
def test_pymodbus_reads_our_writes_and_answers(registers: list[int], bits: list[bool]) -> None:
    data = b"".join(r.to_bytes(2, "big") for r in registers)
    server, client = DecodePDU(is_server=True), DecodePDU(is_server=False)
    written = server.decode(write_multiple_registers(1, data))
    assert written is not None
    assert written.registers == registers
    coils = server.decode(write_multiple_coils(1, bits))
    assert coils is not None
    assert coils.bits[: len(bits)] == bits
    answer = client.decode(read_response(3, data))
    assert answer is not None
    assert answer.registers == registers
