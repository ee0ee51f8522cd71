"""The manager against servers that are not ours: what stands in the segment is what the device holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import peers
import pytest
from endpoint_config.models import Datatype, ModbusPoint, ReadFunction
from modbus_rig import LyingDevice, Partition, black_hole, device, holding
from modbus_servers import libmodbus_device
from modbus_tcp_client import ModbusClientManager, ModbusTCPClient
from process_image import create
from process_image.quality import BAD_COMMUNICATION_ERROR, BAD_NODE_ID_UNKNOWN, BAD_WAITING_FOR_INITIAL_DATA


@pytest.fixture(scope="module")
def libmodbus() -> Iterator[int]:
    with libmodbus_device() as plc:
        yield plc.port


def test_values_of_a_libmodbus_server_stand_in_the_segment(libmodbus: int, shm_name: str) -> None:
    points = [holding(f"h{a}", a) for a in range(300)]
    points += [ModbusPoint(name=f"i{a}", read_function=ReadFunction.INPUT_REGISTERS, address=a) for a in range(50)]
    points += [ModbusPoint(name=f"c{a}", read_function=ReadFunction.COILS, address=a) for a in range(40)]
    points += [ModbusPoint(name=f"d{a}", read_function=ReadFunction.DISCRETE_INPUTS, address=a) for a in range(40)]
    points += [holding("long", 400, registers=4, datatype=Datatype.UINT64)]
    points += [holding("text", 500, registers=3, datatype=Datatype.BYTES)]
    with Partition(shm_name, [device("plc", libmodbus, points)]) as running:
        running.until_good("plc/h0", "plc/long", "plc/text", "plc/d39")
        snapshot = running.image.snapshot()
        assert [snapshot[f"plc/h{a}"].value for a in range(300)] == [3 * a + 7 for a in range(300)]
        assert [snapshot[f"plc/i{a}"].value for a in range(50)] == [60000 - a for a in range(50)]
        assert [snapshot[f"plc/c{a}"].value for a in range(40)] == [a % 3 == 0 for a in range(40)]
        assert [snapshot[f"plc/d{a}"].value for a in range(40)] == [a % 5 == 0 for a in range(40)]
        words = [3 * a + 7 for a in range(400, 404)]
        assert snapshot["plc/long"].value == sum(w << 16 * (3 - i) for i, w in enumerate(words))
        assert snapshot["plc/text"].value == b"".join((3 * a + 7).to_bytes(2, "big") for a in range(500, 503))
        assert snapshot["plc/$connected"].value == 1
        assert not snapshot.stale


def test_a_write_of_another_client_is_seen_with_a_later_time(libmodbus: int, shm_name: str) -> None:
    with (
        Partition(shm_name, [device("plc", libmodbus, [holding("a", 600)])]) as running,
        ModbusTCPClient("127.0.0.1", libmodbus) as other,
    ):
        running.until_good("plc/a")
        first = running["plc/a"]
        other.write_06(600, 4711)
        running.until(lambda r: r["plc/a"].value == 4711)
        second = running["plc/a"]
        assert second.sequence > first.sequence
        assert second.source_time > first.source_time
        assert second.source_time == second.received_time


def test_scan_classes_of_one_device_are_polled_at_their_own_intervals(libmodbus: int, shm_name: str) -> None:
    points = [holding("fast", 0, interval=0.05), holding("slow", 10, interval=30.0)]
    with Partition(shm_name, [device("plc", libmodbus, points)]) as running:
        running.until_good("plc/fast", "plc/slow")
        slow = running["plc/slow"].received_time
        fast = running["plc/fast"].received_time
        running.until(lambda r: r["plc/fast"].received_time > fast + 200_000_000)
        assert running["plc/slow"].received_time == slow


def test_back_to_back_polling_never_pauses(libmodbus: int, shm_name: str) -> None:
    with Partition(shm_name, [device("plc", libmodbus, interval=0.0)]) as running:
        running.until(lambda r: r.count("plc") > 500)


def test_several_units_share_one_connection(shm_name: str) -> None:
    with LyingDevice() as gateway:
        units = [device(f"u{n}", gateway.port, unit_id=n) for n in range(1, 6)]
        with Partition(shm_name, units) as running:
            running.until_good(*(f"u{n}/b" for n in range(1, 6)))
            assert gateway.connections == 1
            assert {entry[0] for entry in gateway.log} == {1, 2, 3, 4, 5}


def test_requests_in_flight_are_as_many_as_allowed(shm_name: str) -> None:
    waiting: list[int] = []
    most: list[int] = []

    def note(request: bytes, answer: bytes) -> list[tuple[float, bytes]]:
        waiting.append(1)
        most.append(len(gateway.log) - answered[0])
        answered[0] += 1
        return [(0.03, answer)]

    answered = [0]
    points = [holding(f"p{n}", 10 * n) for n in range(12)]
    with LyingDevice(fault=note) as gateway:
        server = device("plc", gateway.port, points, in_flight=4, interval=0.0)
        with Partition(shm_name, [server]) as running:
            running.until_good("plc/p11")
    assert max(most) <= 4
    assert max(most) > 1


def test_a_device_that_is_down_at_start_is_bad_with_a_reason_and_comes_up_by_itself(shm_name: str) -> None:
    with LyingDevice() as plc:
        plc.refuse()
        with Partition(shm_name, [device("plc", plc.port)]) as running:
            running.until_quality("plc/a", BAD_COMMUNICATION_ERROR)
            running.until(lambda r: "connection refused" in str(r["plc/$last_error"].value))
            assert str(running["plc/$last_error"].value).startswith(f"plc: connect 127.0.0.1:{plc.port}: ")
            assert running["plc/$connected"].value == 0
            plc.listen()
            running.until_good("plc/a")
            assert running["plc/a"].value == 1000
            running.until(lambda r: r["plc/$connected"].value == 1)


def test_a_port_that_swallows_everything_delays_nobody(shm_name: str) -> None:
    with black_hole() as hole, LyingDevice() as plc:
        servers = [device("plc", plc.port), *(device(f"hole{n}", hole, unit_id=n) for n in range(3))]
        with Partition(shm_name, servers) as running:
            running.until_good("plc/a", timeout=2.0)
            running.until_quality("hole1/a", BAD_COMMUNICATION_ERROR)
            assert "no connection within 0.3 s" in str(running["hole1/$last_error"].value)
            before = running.count("plc")
            running.until(lambda r: r.count("plc") > before + 10, timeout=3.0)


def test_a_host_name_that_nobody_knows_is_a_bad_quality(shm_name: str) -> None:
    server = device("lost", 502)
    object.__setattr__(server, "ipaddr", "no-such-host.invalid")
    with Partition(shm_name, [server]) as running:
        running.until_quality("lost/a", BAD_COMMUNICATION_ERROR, timeout=15.0)
        assert "no-such-host.invalid is not known" in str(running["lost/$last_error"].value)


def test_a_register_that_does_not_exist_is_bad_alone(shm_name: str) -> None:
    registers = {a: a for a in range(100) if a != 61}
    points = [holding(f"p{a}", a) for a in range(100)]
    with LyingDevice(registers=registers) as plc, Partition(shm_name, [device("plc", plc.port, points)]) as running:
        running.until_good(*(f"plc/p{a}" for a in range(100) if a != 61))
        bad = running["plc/p61"]
        assert bad.quality == BAD_NODE_ID_UNKNOWN
        plc.log.clear()
        running.until(lambda _: len(plc.log) >= 6)
        # Two requests around the hole are the fewest; the bad one rests.
        assert {entry[2:] for entry in plc.log} == {(0, 61), (62, 38)}


def test_a_register_that_appears_later_is_found_again(shm_name: str) -> None:
    registers = {a: a for a in range(10) if a != 4}
    points = [holding(f"p{a}", a) for a in range(10)]
    server = device("plc", 0, points, retry_interval=1.0)
    with LyingDevice(registers=registers) as plc:
        object.__setattr__(server, "port", plc.port)
        with Partition(shm_name, [server]) as running:
            running.until_good("plc/p9")
            running.until_quality("plc/p4", BAD_NODE_ID_UNKNOWN)
            registers[4] = 4
            running.until_good("plc/p4")
            plc.log.clear()
            running.until(lambda _: len(plc.log) >= 3)
            assert {entry[2:] for entry in plc.log[1:]} == {(0, 10)}, "the block is whole again"


def test_a_device_that_takes_fewer_registers_than_it_was_said_is_read_in_parts(shm_name: str) -> None:
    def limit(request: bytes, answer: bytes) -> list[tuple[float, bytes]] | None:
        if int.from_bytes(request[10:12], "big") <= 40:
            return None
        return [(0.0, request[:2] + b"\0\0\0\3" + request[6:7] + b"\x83\x03")]

    points = [holding(f"p{a}", a) for a in range(120)]
    with LyingDevice(fault=limit) as plc, Partition(shm_name, [device("plc", plc.port, points)]) as running:
        running.until_good("plc/p0", "plc/p119")
        before = running.count("plc", "$failures")
        plc.log.clear()
        running.until(lambda _: len(plc.log) > 12)
        assert running.count("plc", "$failures") == before


def test_periodic_read_ends_at_once_when_stopped_before(shm_name: str) -> None:
    manager = ModbusClientManager.from_servers([device("plc", 1)])
    manager.start_clients()
    with create(shm_name, manager.points) as writer:
        manager.stop_clients()
        manager.periodic_read(0.1, [writer], [])
        writer.close(unlink=True)


def test_stopping_takes_less_than_two_seconds_whatever_the_devices_do(shm_name: str) -> None:
    with black_hole() as hole, LyingDevice(silent_units={1}) as mute:
        servers = [device("hole", hole, timeout=30.0), device("mute", mute.port, timeout=30.0)]
        with Partition(shm_name, servers) as running:
            running.until(lambda _: mute.log)
            began = time.monotonic()
        assert time.monotonic() - began < 2.0


def test_points_wait_for_their_first_poll(shm_name: str) -> None:
    manager = ModbusClientManager.from_servers([device("plc", 1)])
    with create(shm_name, manager.points) as writer:
        assert set(writer.records["quality"].tolist()) <= {BAD_WAITING_FOR_INITIAL_DATA}
        writer.close(unlink=True)


def test_the_manager_can_poll_again_after_a_stop(libmodbus: int, shm_prefix: str) -> None:
    manager = ModbusClientManager.from_servers([device("plc", libmodbus)])
    for life in range(2):
        manager.start_clients()
        with create(f"{shm_prefix}{life}", manager.points) as writer:
            thread = threading.Thread(target=manager.periodic_read, args=(0.1, [writer], []))
            thread.start()
            peers.wait_until(lambda: manager.health().connected == 1)
            assert manager.health().running
            manager.stop_clients()
            thread.join(2.0)
            assert not thread.is_alive()
            writer.close(unlink=True)


