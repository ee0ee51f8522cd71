"""The rule of the public semaphore: try, wait once at most, count, repair, drain."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import numpy as np
import posix_ipc
import pytest
from image_tools import Script, leftovers
from process_image import attach, create, guarding
from process_image.guarding import Counters, SemaphoreRule
from process_image.semaphore import ForeignSemaphore, NamedSemaphore, make, remove


class Guard:
    """A semaphore that notes what is asked of it."""

    name = "fake"

    def __init__(self, value: int = 1) -> None:
        self.left = value
        self.waits = 0
        self.posts = 0

    def try_acquire(self) -> bool:
        if self.left > 0:
            self.left -= 1
            return True
        return False

    def acquire(self, seconds: float) -> bool:
        self.waits += 1
        return self.try_acquire()

    def release(self) -> None:
        self.posts += 1
        self.left += 1

    def value(self) -> int:
        return self.left


class Rule:
    """The rule over one block, with generations as publishing would count them."""

    def __init__(self, guard: Guard, blocks: int = 1, repair_after: float = 1000.0) -> None:
        self.counters = Counters()
        self.rule = SemaphoreRule(guard, self.counters, repair_after=repair_after, bound=0.002)
        self.generation = np.ones(blocks, np.uint64)

    def publish(self, *blocks: int) -> bool:
        index = np.array(blocks or (0,))
        held = self.rule.enter(index, self.generation)
        self.generation[index] += np.uint64(1)
        if held:
            self.rule.leave()
        return held


def test_a_free_semaphore_is_held_during_the_publish() -> None:
    guard = Guard()
    rule = Rule(guard)
    assert [rule.publish() for _ in range(10)] == [True] * 10
    assert (guard.left, guard.waits, rule.counters.semaphore_busy) == (1, 0, 0)


def test_three_publishes_go_past_a_holder_and_only_the_fourth_waits() -> None:
    guard = Guard(0)
    rule = Rule(guard)
    waits = []
    for _ in range(20):
        assert rule.publish() is False
        waits.append(guard.waits)
    assert waits == [0, 0, 0, *[1] * 17]
    assert (rule.counters.semaphore_busy, rule.counters.semaphore_waits) == (20, 1)


def test_after_it_was_seen_free_a_new_holder_may_cost_one_wait_again() -> None:
    guard = Guard(0)
    rule = Rule(guard)
    for _ in range(6):
        rule.publish()
    guard.left = 1
    assert rule.publish() is True
    guard.left = 0
    for _ in range(6):
        rule.publish()
    assert guard.waits == 2


def test_the_wait_depends_on_the_slots_of_the_blocks_that_are_published() -> None:
    guard = Guard(0)
    rule = Rule(guard, blocks=3)
    rule.publish(0)
    for block in (1, 1, 1, 2, 2, 2, 0, 0):
        rule.publish(block)
    assert guard.waits == 0  # no block came round to the slot that the holder may be reading
    rule.publish(1, 2)
    assert guard.waits == 1


def test_a_wait_that_succeeds_publishes_under_the_semaphore() -> None:
    guard = Guard(0)
    rule = Rule(guard)
    for _ in range(3):
        rule.publish()
    guard.try_acquire = lambda: False  # type: ignore[method-assign]
    guard.acquire = lambda seconds: True  # type: ignore[method-assign]
    assert rule.publish() is True
    assert (guard.posts, rule.counters.semaphore_waits) == (1, 1)


class Clock:
    """The clock of the rule, which a test puts forward; else it goes as ever."""

    def __init__(self) -> None:
        self.ahead = 0

    def monotonic_ns(self) -> int:
        return time.monotonic_ns() + self.ahead

    def forward(self, seconds: float) -> None:
        self.ahead += int(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(guarding, "time", made)
    return made


def test_a_wait_counts_as_over_the_bound_by_what_the_semaphore_took_and_not_the_scheduler(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Guard):
        def acquire(self, seconds: float) -> bool:
            clock.forward(took)
            return False

    queued = itertools.count(0, 5_000_000)
    monkeypatch.setattr(guarding, "queued_ns", lambda: next(queued))  # 5 ms without a processor, each time
    for wait, over in ((0.0, 0), (0.006, 0), (0.1, 1), (0.5, 1)):
        took = wait
        rule = Rule(Slow(0))
        for _ in range(4):
            rule.publish()
        assert (rule.counters.semaphore_waits, rule.counters.semaphore_overruns) == (1, over)


def test_the_time_without_a_processor_is_the_threads_own_and_grows() -> None:
    before = guarding.queued_ns()
    time.sleep(0.001)
    assert 0 <= before <= guarding.queued_ns()


def test_a_kernel_that_does_not_tell_the_time_without_a_processor_takes_nothing_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for text in (None, "", "1", "a b c"):
        path = tmp_path / "schedstat"
        if text is not None:
            path.write_text(text)
        monkeypatch.setattr(guarding, "_SCHEDULED", path)
        assert guarding.queued_ns() == 0


def test_a_dead_holder_is_repaired_once_for_each_period(clock: Clock) -> None:
    guard = Guard(0)
    rule = Rule(guard, repair_after=1000.0)
    rule.publish()
    rule.publish()
    assert guard.posts == 0
    clock.forward(1001.0)
    assert rule.publish() is True
    assert rule.counters.semaphore_repairs == 1
    assert guard.left == 1


def test_a_reader_that_takes_the_repaired_semaphore_gets_its_own_time(clock: Clock) -> None:
    guard = Guard(0)
    rule = Rule(guard, repair_after=1000.0)
    rule.publish()
    clock.forward(1001.0)
    guard.release = lambda: None  # type: ignore[method-assign]  # someone who waited was faster
    assert rule.publish() is False
    assert rule.publish() is False
    assert rule.counters.semaphore_repairs == 1


def test_a_value_above_one_is_drained() -> None:
    guard = Guard(5)
    assert Rule(guard).publish() is True
    assert guard.left == 1


def test_a_wait_never_takes_longer_than_the_bound(shm_prefix: str) -> None:
    name = shm_prefix + "_sem"
    make(name)
    guard = NamedSemaphore(name)
    assert guard.try_acquire()
    counters = Counters()
    rule = SemaphoreRule(guard, counters, repair_after=1000, bound=guarding.WAIT_BOUND)
    generation = np.ones(1, np.uint64)
    for _ in range(50):
        rule.enter(np.zeros(1, np.intp), generation)
        generation += np.uint64(1)
    assert counters.semaphore_waits == 1
    assert counters.semaphore_overruns == 0
    assert counters.semaphore_busy == 50
    guard.release()
    guard.close()
    remove(name)
    remove(name)


def test_a_holder_that_was_killed_does_not_stop_anyone(shm_name: str, clock: Clock) -> None:
    with create(shm_name, ["a"], semaphore=shm_name + "_sem", repair_after=1000.0) as writer, Script(
        """
        import posix_ipc
        posix_ipc.Semaphore("/" + name).acquire()
        say(held=True)
        time.sleep(60)
        """, name=shm_name + "_sem") as holder, attach(shm_name) as image:
        holder.hear()
        holder.kill()
        for number in range(8):
            writer.set_value("a", number)
            writer.publish()
            assert image.snapshot()["a"].value == number
        assert writer.counters.semaphore_busy == image.counters["semaphore_busy"] == 8
        assert writer.counters.semaphore_waits == 1
        clock.forward(1001.0)
        writer.publish()
        assert image.counters["semaphore_repairs"] == 1
        writer.publish()
        assert image.counters["semaphore_busy"] == 9
        guard = posix_ipc.Semaphore("/" + shm_name + "_sem")
        assert guard.value == 1
        guard.close()


def test_a_locking_reader_in_another_process_gets_whole_blocks(shm_name: str) -> None:
    """It takes the semaphore, copies the latest slot, gives it back; only a holder that loses the processor for longer
    than the writer's bound may be overtaken, and sees it by the sequence."""
    count = 2000
    with create(shm_name, [f"p{i}" for i in range(count)], semaphore=shm_name + "_sem") as writer, Script(
        """
        import posix_ipc
        from process_image.layout import RECORD
        guard, image = posix_ipc.Semaphore("/" + name + "_sem"), attach(name)
        memory, torn, overtaken = image._now.memory, 0, 0
        for number in range(3000):
            guard.acquire(10)
            generation = int(memory.generation[0])
            copied = memory.records[generation % 4].view(RECORD)["value"].copy()
            whole = int(memory.sequence[generation % 4, 0]) == 2 * generation
            guard.release()
            torn += whole and bool((copied != copied[0]).any())
            overtaken += not whole
        say(torn=torn, overtaken=overtaken)
        """, name=shm_name) as reader:
        number = 0
        while reader.process.poll() is None:
            number += 1
            writer.records["value"] = number
            writer.publish()
        heard = reader.hear()
        assert (heard["torn"], heard["overtaken"] <= writer.counters.semaphore_busy) == (0, True)


def test_a_writer_killed_while_it_held_the_semaphore_leaves_it_free(shm_name: str) -> None:
    with Script(
        """
        from process_image import stops
        writer = create(name, ["a"], semaphore=name + "_sem")
        stops.arm("publish.even")
        writer.publish()
        """, name=shm_name) as script:
        assert script.wait() == -9
    guard = posix_ipc.Semaphore("/" + shm_name + "_sem")
    assert guard.value == 0
    with create(shm_name, ["a"], semaphore=shm_name + "_sem") as writer:
        assert guard.value == 1
        assert writer.counters.semaphore_repairs == 1
        writer.publish()
        assert writer.counters.semaphore_busy == 0
    guard.close()


def test_a_semaphore_without_a_name_of_its_own_works_as_an_object(shm_name: str) -> None:
    guard = posix_ipc.Semaphore("/" + shm_name + "_gone", posix_ipc.O_CREX, initial_value=1)
    guard.unlink()
    with create(shm_name, ["a"], semaphore=guard) as writer:
        assert isinstance(writer.semaphore, ForeignSemaphore)
        writer.publish()
        assert guard.value == 1
        guard.acquire()
        writer.publish()
        assert writer.counters.semaphore_busy == 1
    guard.close()


@pytest.mark.parametrize("name", ["", "/", "a/b", "x" * 300])
def test_impossible_names_of_semaphores_are_refused(shm_name: str, name: str) -> None:
    with pytest.raises(ValueError):
        create(shm_name, ["a"], semaphore=name)
    assert leftovers(shm_name) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_semaphore_of_another_user_is_refused_by_name(shm_name: str) -> None:
    name = shm_name + "_sem"
    make(name)
    with Script(
        """
        try:
            create(name, ["a"], semaphore=name + "_sem")
        except NotPermitted as fault:
            say(error=str(fault), left=[n for n in leftovers(name) if not n.startswith("sem.")])
        """, prefix=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], name=shm_name) as script:
        heard = script.hear()
        assert name in heard["error"]
        assert heard["left"] == []
