"""Readers that are many, stopped, dead or hostile, and a second writer: the first one never notices."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import image_c
import numpy as np
import peers
import process_image
import pytest
from image_tools import Script, leftovers
from process_image import LeaseHeld
from process_image.writer import WAKE_WAITERS

SHM = Path("/dev/shm")


def test_no_publish_waits_longer_than_its_bound_for_16_readers_stopped_or_dead(root: Path) -> None:
    """The benchmark's readers, among them 5 stopped and 5 killed with the semaphore in their hands; counters alone."""
    command = [sys.executable, str(root / "bench" / "image.py"), "--json", "--only", "readers"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    states = json.loads(done.stdout)["readers"]
    assert {"none", "running", "stopped", "killed", "mixed"} <= set(states)
    for state, part in states.items():
        assert part["waits_over_bound"] == 0, (state, part)
        assert part["windows"] >= 30
    for state in ("killed", "mixed"):  # it was taken all the time, and waited for once for each repair at most
        assert states[state]["semaphore_busy"] > 0
        assert states[state]["semaphore_waits"] <= 1 + states[state]["semaphore_repairs"]


@contextlib.contextmanager
def thousand_waiters(name: str) -> Iterator[Callable[[], int]]:
    """A process with 1,000 threads that wait on the segment's futex word; the function counts wake-ups, and ends it."""
    program = image_c.build(peers.SOURCES / "image_waiters.c", "-O1", "-pthread")
    process = subprocess.Popen([program, name, "1000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None

    def finish() -> int:
        process.stdin.close()
        return int(process.stdout.readline())

    try:
        assert process.stdout.readline() == "waiting\n"
        yield finish
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_thousand_waiting_threads_are_woken_by_a_bounded_number_at_a_time(shm_name: str) -> None:
    with (process_image.create(shm_name, ["a"]) as writer, process_image.attach(shm_name) as image,
          thousand_waiters(shm_name) as finish):
        before = writer.counters.wakes
        for number in range(200):
            writer.set_value("a", float(number))
            writer.publish()
            time.sleep(0.001)
        calls = writer.counters.wakes - before
        assert image.wait(5.0), "a reader behind a crowd looks again by itself"
        assert image.snapshot()["a"].value == 199.0
        assert 0 < finish() <= calls * WAKE_WAITERS


def test_a_publish_without_wake_makes_no_call_for_waiters(shm_name: str) -> None:
    with process_image.create(shm_name, ["a"]) as writer, thousand_waiters(shm_name) as finish:
        before = writer.counters.wakes
        for _ in range(1000):
            writer.publish(wake=False)
        assert writer.counters.wakes == before
        assert finish() == 0


def test_the_first_writer_never_notices_a_second_of_the_same_name(shm_name: str) -> None:
    """A hundred tries by another process, with the same and with another layout, while the first one publishes."""
    with (process_image.create(shm_name, ["a", "b"], semaphore=shm_name + "_sem") as writer,
          process_image.attach(shm_name) as image, Script(
        """
        errors = set()
        for number in range(100):
            try:
                create(name, ["a", "b"][: 1 + number % 2], semaphore=name + "_sem")
            except LeaseHeld as fault:
                errors.add(str(fault))
        say(errors=sorted(errors))
        """, name=shm_name) as second):
        inode, names = (SHM / shm_name).stat().st_ino, leftovers(shm_name)
        number = 0
        while second.process.poll() is None:
            number += 1
            writer.records["value"] = number
            writer.records["quality"] = 0
            writer.publish()
            snapshot = image.snapshot()
            assert not snapshot.stale
            assert np.unique(snapshot.records["value"]).tolist() == [number]
        (error,) = second.hear()["errors"]
        assert f"pid {os.getpid()}" in error
        assert "stop that one, or give this partition another namespace" in error
        assert (image.epoch, image.attachments, image.counters["take_overs"]) == (writer.epoch, 1, 0)
        assert writer.counters.semaphore_busy == 0
        assert ((SHM / shm_name).stat().st_ino, leftovers(shm_name)) == (inode, names)
        with pytest.raises(LeaseHeld):
            process_image.unlink(shm_name)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_c_program_of_the_group_reads_waits_and_locks_and_one_outside_does_not(shm_name: str) -> None:
    group = 54321
    inside = ["setpriv", "--reuid=65534", "--regid=65534", f"--groups={group}"]
    outside = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with process_image.create(shm_name, ["a"], group=group, semaphore=shm_name + "_sem") as writer:
        with image_c.Driver(prefix=outside) as stranger:
            assert stranger.ask(f"attach {shm_name}")[0] == image_c.NOT_PERMITTED
        with image_c.Driver(prefix=inside) as member:
            assert member.ask(f"attach {shm_name}")[0] == image_c.OK
            member.tell("wait 20")
            writer.set_value("a", 2.5)
            writer.publish()
            assert member.answer()[0] == image_c.OK
            assert member.ask("lock 5")[0] == image_c.OK
            assert member.ask("rows")[1].endswith(":2.5")
            assert member.ask("unlock")[0] == image_c.OK
