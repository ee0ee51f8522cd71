"""Serial lines in the poll engine: values, silences, silent units, noise, echoes, and adapters that are pulled out."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from endpoint_config.models import ModbusPoint, ReadFunction
from endpoint_config.transports import Transport
from modbus_frames import encode_rtu, read_response
from modbus_rig import Partition, holding
from modbus_tcp_client import ModbusTCPClient, feasibility
from modbus_tcp_client.serial_port import open_line
from modbus_tcp_client.unit import PROBE_SHARE
from process_image import quality
from serial_rig import Bus, Heard, on_line

TEN = [holding(f"r{a}", a) for a in range(10)]


@pytest.mark.parametrize("ascii_frames", [False, True], ids=["rtu", "ascii"])
def test_units_of_one_line_are_polled_one_after_the_other(ascii_frames: bool, shm_name: str) -> None:
    transport = Transport.ASCII if ascii_frames else Transport.RTU
    with Bus(baudrate=38400, ascii_frames=ascii_frames) as bus:
        line = {"baudrate": 38400, "databits": 7 if ascii_frames else 8}
        units = [on_line(f"u{u}", u, bus.path, TEN, transport=transport, line=line) for u in (1, 7, 247)]
        with Partition(shm_name, units) as running:
            running.until_good("u1/r9", "u7/r9", "u247/r9")
            for _ in range(20):
                snapshot = running.image.snapshot()
                for unit in (1, 7, 247):
                    assert [snapshot[f"u{unit}/r{a}"].value for a in range(10)] == [
                        (1000 * unit + a) & 0xFFFF for a in range(10)]
                time.sleep(0.02)
        assert not bus.collisions
        # What the pty shows is when the bytes came, which is never earlier than when they were sent.
        assert min(heard.quiet for heard in bus.heard[1:]) >= 0.00175


def test_silent_units_cost_the_others_no_more_than_their_budget(shm_name: str) -> None:
    """32 units at 19,200 baud, 3 of them silent: what is sent to those, and waited for, stays within its share."""
    silent = frozenset([5, 13, 29])
    with Bus(baudrate=19200, units=frozenset(range(1, 33)) - silent) as bus:
        units = [on_line(f"u{u}", u, bus.path, TEN, line={"baudrate": 19200}, interval=0.0, timeout=0.2)
                 for u in range(1, 33)]
        (load,) = feasibility([unit for unit in units if unit.unit_id not in silent], 0.0)
        with Partition(shm_name, units) as running:
            running.until_good(*(f"u{u}/r9" for u in range(1, 33) if u not in silent))
            for unit in silent:
                running.until_quality(f"u{unit}/r9", quality.BAD_NO_COMMUNICATION)
            begin = len(bus.heard)
            time.sleep(4.0)
            seen = bus.heard[begin:]
        probes = [following.when - one.when for one, following in itertools.pairwise(seen) if one.unit in silent]
        whole = seen[-1].when - seen[0].when
        asked = [heard.when for heard in seen if heard.unit == 1]
        cycle = statistics.median(b - a for a, b in itertools.pairwise(asked))
        print(f"cycle {cycle:.3f} s, computed {load.needed:.3f} s, silent units {sum(probes) / whole:.1%} of the time")
        # The latest probe, which takes 0.2 s and what the machine adds, is paid for after the window.
        assert sum(probes) <= PROBE_SHARE * whole + max(0.2, *probes[-1:])
        counts = [sum(heard.unit == unit for heard in seen) for unit in range(1, 33) if unit not in silent]
        assert max(counts) - min(counts) <= 1
        assert not bus.collisions


def test_a_unit_that_comes_back_is_polled_again(shm_name: str) -> None:
    bus = Bus(units=frozenset([1]))
    with bus, Partition(shm_name, [on_line(f"u{u}", u, bus.path) for u in (1, 2, 3)]) as running:
        running.until_good("u1/a")
        running.until_quality("u2/a", quality.BAD_NO_COMMUNICATION)
        running.until_quality("u3/a", quality.BAD_NO_COMMUNICATION)
        bus.units = frozenset([1, 2, 3])
        running.until_good("u2/a", "u3/a")
        assert "u2: " in running["u2/$last_error"].value


def test_a_line_on_which_nobody_answered_comes_back_as_a_whole(shm_name: str) -> None:
    with Bus(units=frozenset()) as bus:
        names = [f"u{u}" for u in range(1, 9)]
        with Partition(shm_name, [on_line(n, int(n[1:]), bus.path, timeout=0.1) for n in names]) as running:
            for name in names:
                running.until_quality(f"{name}/a", quality.BAD_NO_COMMUNICATION)
            bus.units = frozenset(range(1, 9))
            running.until_good(*(f"{name}/a" for name in names))


def test_a_line_on_which_nobody_answers_for_long_is_opened_anew(
    shm_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modbus_tcp_client.link.REOPEN_NS", 300_000_000)
    opened: list[object] = []
    monkeypatch.setattr("modbus_tcp_client.serial_port.open_line",
                        lambda line: opened.append(line) or open_line(line))  # type: ignore[func-returns-value]
    bus = Bus(units=frozenset())
    with bus, Partition(shm_name, [on_line(f"u{u}", u, bus.path, timeout=0.05) for u in (1, 2)]) as running:
        running.until(lambda _: len(opened) > 2)
        bus.units = frozenset([1, 2])
        running.until_good("u1/a", "u2/a")


def test_a_line_that_is_not_there_says_so_and_is_opened_when_it_comes(tmp_path: Path, shm_name: str) -> None:
    path = tmp_path / "ttyUSB0"
    with Partition(shm_name, [on_line("meter", 3, path)]) as running:
        running.until_quality("meter/a", quality.BAD_COMMUNICATION_ERROR)
        assert running["meter/$last_error"].value == (
            f"meter: connect {path}: there is no such device; plug the adapter in, or correct device")
        with Bus() as bus:
            path.symlink_to(bus.path)
            running.until_good("meter/a")
            bus.unplug()
            running.until_quality("meter/a", quality.BAD_COMMUNICATION_ERROR)
        path.unlink()
        with Bus() as bus:
            path.symlink_to(bus.path)
            running.until_good("meter/a")


def test_nobody_is_asked_by_broadcast() -> None:
    with Bus() as bus, ModbusTCPClient.at(f"rtu://{bus.path}", unit_id=0) as client:
        with pytest.raises(ValueError, match="unit 0 is the broadcast of a line"):
            client.fc03_read_holding_registers(0)
        assert not bus.heard


def test_a_line_in_use_is_not_shared(shm_name: str) -> None:
    with Bus() as bus, ModbusTCPClient.at(f"rtu://{bus.path}") as client:
        assert client.fc03_read_holding_registers(4, 2) == [1004, 1005]
        with Partition(shm_name, [on_line("meter", 3, bus.path)]) as running:
            running.until_quality("meter/a", quality.BAD_COMMUNICATION_ERROR)
            assert "it is in use by another program" in running["meter/$last_error"].value
            client.close()
            running.until_good("meter/a")


NOISES = ("noise before", "noise behind", "lost", "flipped", "glued", "twice", "echo", "gap", "other")
SILENCES = ("half", "late", "silent")


class Trouble:
    """What a bad line makes of answers: each call takes the next trouble, by a seed."""

    def __init__(self, seed: int, kinds: Sequence[str], late: float) -> None:
        self._dice = random.Random(seed)
        self._late = late
        self._kinds = [*["none"] * 6, *kinds]
        self.done: Counter[str] = Counter()

    def __call__(self, heard: Heard, frame: bytes) -> list[bytes | float]:
        dice = self._dice
        kind = dice.choice(self._kinds)
        self.done[kind] += 1
        noise = dice.randbytes(dice.randrange(1, 20))
        place = dice.randrange(len(frame))
        stranger = encode_rtu(dice.randrange(1, 5), read_response(3, dice.randbytes(4)))
        asked = encode_rtu(heard.unit, heard.pdu)
        made: dict[str, list[bytes | float]] = {
            "noise before": [noise + frame], "noise behind": [frame + noise],
            "lost": [frame[:place] + frame[place + 1 :]],
            "flipped": [frame[:place] + bytes((frame[place] ^ 1 << dice.randrange(8),)) + frame[place + 1 :]],
            "glued": [stranger[:-2] + frame], "twice": [frame + frame], "echo": [asked + frame],
            "half": [frame[:place]],
            "late": [self._late, frame], "silent": [], "gap": [frame[:place], 0.01, frame[place:]],
            "other": [encode_rtu(9, read_response(3, bytes(40))) + frame],
        }
        return made.get(kind, [frame])


@pytest.mark.parametrize(("seed", "kinds"), [(1, NOISES), (2, NOISES), (3, NOISES + SILENCES)])
def test_a_bad_line_makes_values_bad_and_never_wrong(seed: int, kinds: tuple[str, ...], shm_name: str) -> None:
    """All requests have one form, so that an answer taken for another's would look good; every change is looked at."""
    points = [holding(f"r{a}", a) for a in range(0, 60, 10)]
    truth = {f"u{u}/r{a}": 1000 * u + a for u in (1, 2, 3) for a in range(0, 60, 10)}
    trouble = Trouble(seed, kinds, late=0.25)
    bus = Bus(baudrate=115200, mangle=trouble)
    with bus, Partition(shm_name, [
        on_line(f"u{u}", u, bus.path, points, interval=0.0, timeout=0.2, retry_interval=0.2) for u in (1, 2, 3)
    ]) as running:
        cursor = running.image.cursor()
        deadline = time.monotonic() + 4.0
        seen: list[tuple[str, float, int]] = []
        while time.monotonic() < deadline:
            running.image.wait(timeout=0.1)
            for batch in running.image.changes(cursor):
                assert not batch.lost
                cursor = batch.cursor
                seen += [(batch.points[row].full_name, float(record["value"]), int(record["quality"]))
                         for row, record in zip(batch.rows.tolist(), batch.records, strict=True)]
        bus.mangle = None
        running.until_good(*truth)  # and the line is as good as new when the trouble ends
    good = [(name, value) for name, value, status in seen if name in truth and not status]
    bad = [name for name, _, status in seen if name in truth and status]
    wrong = [(name, value) for name, value in good if value != truth[name]]
    assert not wrong, f"seed {seed}: {wrong[:5]}"
    assert good
    assert bad
    assert len(trouble.done) > len(kinds) // 2, trouble.done


def test_a_line_that_echoes_gives_the_same_values_with_and_without_being_told(shm_name: str) -> None:
    with Bus(baudrate=115200, echo=True) as bus:
        for number, told in enumerate((True, False)):
            coils = [ModbusPoint(name=f"c{a}", read_function=ReadFunction.COILS, address=0x300 + a) for a in range(20)]
            plc = on_line("plc", 1, bus.path, [*TEN, *coils], line={"echo": told})
            with Partition(f"{shm_name}{number}", [plc]) as running:
                running.until_good("plc/r9", "plc/c19")
                assert running["plc/r9"].value == 1009
                assert [running[f"plc/c{a}"].value for a in range(20)] == [a % 2 == 0 for a in range(20)]


def test_another_master_on_the_line_is_not_listened_to(shm_name: str) -> None:
    bus = Bus(baudrate=115200)
    with bus, Partition(shm_name, [on_line("plc", 1, bus.path, TEN)]) as running:
        running.until_good("plc/r9")
        for _ in range(30):
            bus.inject(encode_rtu(2, read_response(3, b"\xee" * 20)))
            time.sleep(0.01)
            assert running["plc/r9"].value == 1009
        running.until_good("plc/r9")


def test_a_unit_that_is_always_late_does_not_hold_the_others_up(shm_name: str) -> None:
    """Its answers come, but after its timeout: it is bad and demoted, and its neighbour polled as if alone."""
    bus = Bus(baudrate=115200, mangle=lambda heard, frame: [0.13, frame] if heard.unit == 2 else [frame])
    with bus:
        units = [on_line(f"u{u}", u, bus.path, interval=0.0, timeout=0.1) for u in (1, 2)]
        with Partition(shm_name, units) as running:
            running.until_good("u1/a")
            running.until_quality("u2/a", quality.BAD_NO_COMMUNICATION)
            begin = len(bus.heard)
            running.until(lambda _: len(bus.heard) > begin + 100)
            asked = [heard.unit for heard in bus.heard[begin:]]
            assert asked.count(2) < 15
            assert all(sample.quality or sample.value == 2000 + a for a, sample in enumerate(
                [running["u2/a"], running["u2/b"]]))


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_many_bad_lines_never_make_a_wrong_value(shm_name: str) -> None:
    for seed in range(100, 130):
        kinds = NOISES if seed % 2 else NOISES + SILENCES
        test_a_bad_line_makes_values_bad_and_never_wrong(seed, kinds, f"{shm_name}{seed}")
