"""Registers in every type and order, and frames in words."""

from __future__ import annotations

import struct

import pytest
from endpoint_config.models import Datatype, ModbusServer
from endpoint_config.transports import Transport
from hypothesis import given
from hypothesis import strategies as st
from modbus_frames import encode_adu, encode_rtu, read_request
from modbus_tcp_client.encode import encode
from modbus_tcp_client.interpret import ModbusPoint, ReadFunction, meanings, text
from modbus_tcp_client.packets import RECEIVED, SENT, Packet, Packets, Tap, explain_answer, explain_request, tap_for


@given(words=st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=12), address=st.integers(0, 65000))
def test_what_is_shown_would_be_written_as_the_same_registers(words: list[int], address: int) -> None:
    data = struct.pack(f">{len(words)}H", *words)
    found = meanings(address, words)
    assert len([m for m in found if m.registers == 2]) == len(words) // 2 * 16
    for meaning in found:
        if meaning.value is None or meaning.datatype.value.startswith("float"):
            continue
        place = 2 * (meaning.address - address)
        point = ModbusPoint(name="x", read_function=ReadFunction.HOLDING_REGISTERS, address=0,
                            registers=meaning.registers, datatype=meaning.datatype, order=meaning.order)
        assert encode(point, meaning.value) == data[place : place + 2 * meaning.registers]


def test_a_float_is_found_in_its_order() -> None:
    (here,) = [m for m in meanings(7, [0x0000, 0x41AC]) if (m.datatype, m.order) == (Datatype.FLOAT32, "CDAB")]
    assert (here.address, here.value) == (7, 21.5)
    assert meanings(0, []) == []
    assert [m.value for m in meanings(0, [0x42A8]) if m.datatype is Datatype.BCD16] == [None, None]
    assert [m.value for m in meanings(0, [0x4248]) if m.datatype is Datatype.BCD16] == [4248, 4842]
    assert text([0x4142, 0x0043]) == "AB.C"


@pytest.mark.parametrize(("pdu", "words"), [
    (read_request(3, 10, 2), "read holding registers 10 to 11"),
    (read_request(1, 3, 1), "read coils 3"),
    (bytes.fromhex("050003ff00"), "write single coil 3 = on"),
    (bytes.fromhex("0600030102"), "write single register 3 = 258"),
    (bytes.fromhex("0f000a0009020d01"), "write multiple coils 10 to 18 = 1 0 1 1 0 0 0 0 1"),
    (bytes.fromhex("10000a0002040001ffff"), "write multiple registers 10 to 11 = 1 65535"),
    (bytes.fromhex("16000400f20025"), "mask write register 4 and 00f2 or 0025"),
    (bytes.fromhex("1700030001000e0001020007"), "read registers 3, write 14 = 7"),
    (bytes.fromhex("2b0e0100"), "read device identification 0e 01 00"),
    (bytes.fromhex("63aa"), "function 99 aa"),
    (bytes.fromhex("0300"), "function 3: 00"),
])
def test_requests_in_words(pdu: bytes, words: str) -> None:
    assert explain_request(pdu) == words


def test_answers_in_words() -> None:
    assert explain_answer(bytes.fromhex("030400010002"), read_request(3, 7, 2)) == "read holding registers 7: 1 2"
    assert explain_answer(bytes.fromhex("01010d"), read_request(1, 7, 4)) == "read coils 7: 1 0 1 1"
    assert explain_answer(bytes.fromhex("8302")) == "read holding registers: exception 02 (illegal data address)"
    assert explain_answer(bytes.fromhex("0600030102")) == "write single register 3: confirmed"
    assert explain_answer(bytes.fromhex("0302000a")) == "read holding registers: 02 00 0a"


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=12))
def test_no_bytes_have_no_words(pdu: bytes, request: bytes) -> None:
    assert explain_request(pdu).isprintable()
    assert explain_answer(pdu, request).isprintable()


SERVERS = [ModbusServer(alias=f"u{n}", ipaddr="h", unit_id=n) for n in (1, 2)]


def listening(only: frozenset[str] = frozenset(), transport: Transport = Transport.TCP) -> tuple[Tap, list[Packet]]:
    seen: list[Packet] = []
    wanted = {server.unit_id: server.alias for server in SERVERS if not only or server.alias in only}
    return Tap("h:502", transport, wanted, seen.append, strangers=not only), seen


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_a_packet_for_each_frame_however_the_bytes_come(step: int) -> None:
    tap, seen = listening()
    for number in (1, 2):
        pdu = read_request(3, 10 * number, 1)
        tap.sent(encode_adu(number, number, pdu), number, pdu)
    answers = encode_adu(2, 2, b"\x03\x02\x00\x05") + encode_adu(1, 1, b"\x83\x02")
    for at in range(0, len(answers), step):
        tap.received(answers[at : at + step])
    assert [(p.device, p.direction, p.meaning) for p in seen] == [
        ("u1", SENT, "read holding registers 10"), ("u2", SENT, "read holding registers 20"),
        ("u2", RECEIVED, "read holding registers 20: 5"),
        ("u1", RECEIVED, "read holding registers: exception 02 (illegal data address)"),
    ]
    assert seen[3].line() == "u1  <  00 01 00 00 00 03 01 83 02  " + seen[3].meaning
    assert seen[3].line("raw").endswith("83 02")


def test_only_the_wanted_devices_are_shown_and_garbage_is() -> None:
    tap, seen = listening(frozenset(["u2"]))
    for number in (1, 2, 3):
        tap.received(encode_adu(number, number, b"\x03\x02\x00\x05"))
    assert [p.device for p in seen] == ["u2"]
    tap.received(b"HTTP/1.0 400 no")
    assert (seen[-1].device, seen[-1].frame, seen[-1].meaning) == ("h:502", b"HTTP/1.0 400 no", "no frame")
    assert tap_for(SERVERS, "h:502", Packets()) is None
    assert tap_for(SERVERS, "h:502", Packets(listener=print, devices=frozenset(["other"]))) is None


def test_frames_of_a_line_with_noise_before_them() -> None:
    tap, seen = listening(transport=Transport.RTU)
    pdu = read_request(3, 10, 1)
    tap.sent(encode_rtu(1, pdu), 1, pdu)
    answer = b"\xff" + encode_rtu(1, b"\x03\x02\x00\x05")
    for byte in answer:
        tap.received(bytes((byte,)))
    tap.received(b"\x01\x03")
    tap.sent(encode_rtu(2, pdu), 2, pdu)
    assert [(p.device, p.frame) for p in seen] == [
        ("u1", encode_rtu(1, pdu)), ("u1", answer), ("h:502", b"\x01\x03"), ("u2", encode_rtu(2, pdu))]


def test_a_listener_that_fails_harms_nobody() -> None:
    def fail(_packet: Packet) -> None:
        raise RuntimeError

    Tap("h", Transport.TCP, {1: "u"}, fail).sent(encode_adu(1, 1, b"\x03"), 1, b"\x03")
