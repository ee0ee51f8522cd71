"""What the machine must have, and what is said where it lacks it."""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
import time

import pytest
from process_image import UnsupportedMachine, attach, create, fences, futex, quality


def test_x86_64_needs_no_fence() -> None:
    release, acquire = fences.make("x86_64")
    assert release() is None
    assert acquire() is None


def test_aarch64_takes_its_fences_from_libatomic_or_says_so() -> None:
    try:
        ctypes.PyDLL("libatomic.so.1")
    except OSError:
        with pytest.raises(UnsupportedMachine, match="libatomic"):
            fences.make("aarch64")
    else:
        release, acquire = fences.make("aarch64")
        release()
        acquire()


@pytest.mark.parametrize("machine", ["riscv64", "armv7l", "ppc64le", ""])
def test_other_machines_are_refused_by_name(machine: str) -> None:
    with pytest.raises(UnsupportedMachine, match=f"{machine!r}"):
        fences.make(machine)


def test_writer_and_reader_refuse_to_start_where_fences_lack(shm_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with create(shm_name, ["a"]):
        monkeypatch.setattr(platform, "machine", lambda: "riscv64")
        for start in (lambda: attach(shm_name), lambda: create(shm_name + "2", ["a"])):
            with pytest.raises(UnsupportedMachine, match="riscv64"):
                start()
        monkeypatch.undo()
        monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
        with pytest.raises(UnsupportedMachine, match="32-bit"):
            attach(shm_name)


def test_a_futex_wait_ends_by_wake_by_change_and_by_time() -> None:
    word = ctypes.c_uint32(5)
    address = ctypes.addressof(word)
    assert futex.wait(address, 4, 10.0) is True, "the word differs: no wait"
    assert futex.wait(address, 5, 0.01) is False
    assert futex.wait(address, 5, -1.0) is False
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(futex.wait(address, 5, 20.0)))
    thread.start()
    until = time.monotonic() + 20
    while not futex.wake(address, 1):
        assert time.monotonic() < until
        time.sleep(0.002)
    thread.join(20)
    assert done == [True]
    assert futex.wake(address, 1) == 0


def test_wakes_are_limited_and_the_last_one_is_made_up_for(shm_name: str) -> None:
    with create(shm_name, ["a"]) as writer:
        time.sleep(0.002)
        started = time.monotonic()
        for _ in range(500):
            writer.publish()
        took = time.monotonic() - started
        assert writer.counters.wakes <= took * 1000 + 2
        writer.publish()
        writer.publish()
        if writer.pending_wake:
            time.sleep(0.002)
            before = writer.counters.wakes
            writer.heartbeat()
            assert writer.counters.wakes == before + 1
        assert not writer.pending_wake


@pytest.mark.parametrize(("code", "name"), [
    (0x80320000, "BadWaitingForInitialData"), (0x800A0000, "BadTimeout"), (0x80050000, "BadCommunicationError"),
    (0x80070000, "BadDecodingError"), (0x80310000, "BadNoCommunication"), (0x803D0000, "BadNotSupported"),
    (0x80340000, "BadNodeIdUnknown"), (0x80AB0000, "BadInvalidArgument"), (0x808B0000, "BadDeviceFailure"),
    (0x80B20000, "BadWaitingForResponse"), (0x80040000, "BadResourceUnavailable"), (0x809D0000, "BadDataLost"),
    (0x808A0000, "BadNotConnected"), (0x80020000, "BadInternalError"), (0x808C0000, "BadSensorFailure"),
    (0x40940000, "UncertainEngineeringUnitsExceeded"), (0x40900000, "UncertainLastUsableValue"), (0, "Good"),
])
def test_qualities_have_the_names_of_the_standard(code: int, name: str) -> None:
    assert quality.quality_name(code) == name
    assert quality.quality_name(code | 0x0480) == name, "flags do not change the name"
    severity = {"B": (False, False, True), "U": (False, True, False), "G": (True, False, False)}[name[0]]
    assert (quality.is_good(code), quality.is_uncertain(code), quality.is_bad(code)) == severity


def test_unknown_qualities_show_severity_and_number() -> None:
    assert quality.quality_name(0x8FFF0000) == "Bad_0x8FFF0000"
    assert quality.quality_name(0x4FFF0001) == "Uncertain_0x4FFF0001"
    assert quality.quality_name(0x0FFF0000) == "Good_0x0FFF0000"


def test_constants_of_qualities_are_named_as_in_the_table() -> None:
    for constant, code in vars(quality).items():
        if constant.isupper() and isinstance(code, int) and not constant.endswith("_MASK"):
            assert quality.quality_name(code).lower() == constant.replace("_", "").lower()
