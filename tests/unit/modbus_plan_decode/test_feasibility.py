"""What polling needs of a connection, computed by hand beside it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from endpoint_config.models import ModbusPoint, ModbusServer, ReadFunction
from endpoint_config.transports import SerialLine, Transport
from modbus_tcp_client.feasibility import Load, feasibility

H = ReadFunction.HOLDING_REGISTERS


def server(alias: str = "A", count: int = 1, *, step: int = 1, **more: object) -> ModbusServer:
    points = tuple(ModbusPoint(name=f"p{i}", read_function=H, address=i * step) for i in range(count))
    return ModbusServer(alias=alias, ipaddr="192.0.2.1", points=points, **more)  # type: ignore[arg-type]


def only(*servers: ModbusServer, interval: float = 1.0) -> Load:
    (load,) = feasibility(servers, interval, turnaround=0.0, bytes_per_second=1e12)
    return load


def test_one_request_takes_its_bytes_and_the_turnaround() -> None:
    (load,) = feasibility([server(count=125)], 0.5)
    size = (12 + 78) + (9 + 250 + 78)
    assert load.requests == 1
    assert load.needed == pytest.approx(size / 1_250_000 + 0.001)
    assert load.available == 0.5
    assert load.share == pytest.approx(load.needed / 0.5)
    assert load.bytes_per_second == pytest.approx(size * 2)
    assert not load.is_tight


def test_delays_add_up_and_over_the_whole_time_is_impossible() -> None:
    load = only(server(count=17, step=10, delay=0.1))
    assert load.needed == pytest.approx(1.7)
    assert load.is_tight
    assert load.is_impossible
    assert str(load).startswith("polling A at 192.0.2.1:502 needs 1.7 s of every 1 s (17 requests); ")
    assert not only(server(count=17, step=10, delay=0.1), interval=2.0).is_impossible
    assert only(server(count=17, step=10, delay=0.1), interval=2.0).is_tight
    assert not only(server(count=17, step=10, delay=0.1, max_gap=9)).is_tight


def test_units_behind_one_address_share_its_time_and_others_do_not() -> None:
    loads = feasibility(
        [server("A", delay=0.3), server("B", delay=0.3, unit_id=2), server("C", delay=0.3, port=503)], 1.0
    )
    assert [(x.devices, round(x.share, 1)) for x in loads] == [(("A", "B"), 0.6), (("C",), 0.3)]


def test_every_scan_class_counts_by_its_own_interval() -> None:
    base = server(count=2, step=10, delay=0.2)
    points = (base.points[0], dataclasses.replace(base.points[1], interval=10.0))
    load = only(dataclasses.replace(base, points=points, interval=0.5))
    assert load.share == pytest.approx(0.2 / 0.5 + 0.2 / 10)
    assert load.available == 0.5
    assert load.needed == pytest.approx(0.21)


def test_back_to_back_can_not_be_late() -> None:
    load = only(server(delay=3.0), interval=0.0)
    assert (load.needed, load.available, load.share) == (pytest.approx(3.0), 0.0, 0.0)


def test_requests_in_flight_share_the_turnaround() -> None:
    (one,) = feasibility([server(count=8, step=10)], 1.0, turnaround=0.1, bytes_per_second=1e12)
    (four,) = feasibility([server(count=8, step=10, in_flight=4)], 1.0, turnaround=0.1, bytes_per_second=1e12)
    assert (one.needed, four.needed) == (pytest.approx(0.8), pytest.approx(0.2))


def test_what_no_request_can_read_is_left_to_the_other_checks() -> None:
    long = ModbusPoint(name="long", read_function=H, address=0, registers=200)
    assert only(dataclasses.replace(server(), points=(long,))).requests == 0


def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert only(dataclasses.replace(server(), ipaddr="2001:db8::1")).connection == "[2001:db8::1]:502"


def on_a_line(unit: int, transport: Transport = Transport.RTU, **line: object) -> ModbusServer:
    serial = SerialLine(device=Path("/dev/ttyS9"), **line)  # type: ignore[arg-type]
    return dataclasses.replace(server(f"U{unit}", count=10), ipaddr="", port=0, unit_id=unit, transport=transport,
                               serial=serial)


def test_a_line_takes_characters_and_silences_of_all_its_units_together() -> None:
    """32 units at 19,200 baud, 8E1: 11 bits a character, 8 of a request, 25 of an answer with ten registers."""
    load = only(*(on_a_line(unit) for unit in range(1, 33)))
    character = 11 / 19200
    each = (8 + 25) * character + 2 * 3.5 * character
    assert load.requests == 32
    assert load.needed == pytest.approx(32 * each)
    assert load.connection == "/dev/ttyS9 (19200 baud)"
    assert not load.is_tight
    assert only(*(on_a_line(unit) for unit in range(1, 33)), interval=0.7).is_impossible


def test_fast_lines_have_a_fixed_silence_and_slow_turnarounds_count_once() -> None:
    fast = only(on_a_line(1, baudrate=115200))
    assert fast.needed == pytest.approx(33 * 11 / 115200 + 2 * 0.00175)
    slow = only(on_a_line(1, baudrate=115200, turnaround_delay=0.05))
    assert slow.needed == pytest.approx(33 * 11 / 115200 + 0.00175 + 0.05)
    delayed = only(dataclasses.replace(on_a_line(1, baudrate=115200), delay=0.2))
    assert delayed.needed == pytest.approx(33 * 11 / 115200 + 0.00175 + 0.2)


def test_ascii_takes_two_characters_a_byte_and_no_silence_before_the_answer() -> None:
    load = only(on_a_line(1, Transport.ASCII, databits=7, baudrate=9600))
    characters = (1 + 2 * 7 + 2) + (1 + 2 * 24 + 2)
    assert load.needed == pytest.approx((characters + 3.5) * 10 / 9600)


def test_advice_for_a_line_speaks_of_its_rate() -> None:
    load = only(*(on_a_line(unit, baudrate=1200) for unit in range(1, 9)))
    assert load.is_impossible
    assert "a higher baudrate" in str(load)
