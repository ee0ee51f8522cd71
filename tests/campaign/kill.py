"""The kill campaign: writers killed with SIGKILL at random instants and at stop points, one after the other.

    python -m tests.campaign.kill --kills 10000 [--seed N] [--json]

After each kill everything that readers may see is checked, the next writer takes over and publishes, and it is
checked again while that writer waits. A reader in Python and one in C run the whole time. Exit 1 where something did
not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # a process that forks must have one thread
sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

import process_image  # noqa: E402
from campaign.checking import Checker  # noqa: E402
from campaign.life import LANES, READY, STALE_AFTER, Lane, live, publish_number  # noqa: E402
from process_image import stops  # noqa: E402
from process_image.layout import Word  # noqa: E402

SHM = Path("/dev/shm")
HERE = Path(__file__).resolve().parent
STOP_SHARE = 0.4
"""Part of the kills that happens at an armed stop point."""
BURSTS = 0.04
"""Part of the stop points that are armed in several lives one after the other."""
PATIENCE = 20.0
"""Seconds after which a writer that does not publish counts as stuck."""


@dataclass
class Tally:
    """What happened, over all lanes."""

    kills: Counter[str] = field(default_factory=Counter)
    """By the place of the kill: a stop point, or `random`."""
    left: Counter[str] = field(default_factory=Counter)
    """What kills left half done: an odd sequence, reserved entries, the semaphore taken, a state that is not READY."""
    take_overs: list[float] = field(default_factory=list)
    """Seconds from the start of create to the end of the first publish, where the layout was the same."""
    replaced: int = 0
    """Lives that made a new object."""
    readers: list[dict[str, object]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Arena:
    """One lane at work."""

    def __init__(self, lane: Lane, chance: random.Random, tally: Tally) -> None:
        self.lane, self.chance, self.tally = lane, chance, tally
        self.name = f"kill{secrets.token_hex(4)}_{lane.name}"
        self.number = 1
        self.pid = 0
        self._checker: Checker | None = None
        self._again: list[str] = []

    def run(self, kills: int) -> None:
        """Kill that many writers, then end in order and look at what is left."""
        try:
            self._begin("", other=False)
            with self._readers():
                self._end_life(killed=True)
                done = 0
                while done < kills:
                    done += self._one_kill()
                self._last_life()
            self._check_names(set())
        finally:
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            for path in [*SHM.glob(f"{self.name}*"), *SHM.glob(f"sem.{self.name}*")]:
                path.unlink(missing_ok=True)

    def _one_kill(self) -> int:
        """One life and its end; 1 when it was killed, 0 when an armed stop point was never reached."""
        stop = self._again.pop() if self._again else ""
        if not stop and self.chance.random() < STOP_SHARE:
            stop = self._choose_stop()
        other = stop.startswith("create.") or self.chance.random() < 0.03
        early = not stop and self.chance.random() < 0.3
        if early:  # somewhere in the take-over, or soon after it
            self._begin("", other=other, answer=False)
            self._sleep(0.006)
            killed = self._end_life(killed=True)
        else:
            ready = self._begin(stop, other=other)
            if not stop:
                self._sleep(self.lane.run)
            killed = self._end_life(killed=not stop, ready=ready)
        if killed:
            self.tally.kills[stop.partition(":")[0] or ("random, early" if early else "random")] += 1
        self._check_dead()
        return int(killed)

    def _choose_stop(self) -> str:
        name = self.chance.choice([n for n in stops.NAMES if n != "publish.long" or self.lane.name != "wide"])
        if self.chance.random() < BURSTS:  # the first publish of a life is that of its take-over
            self._again = [f"{name}:1"] * self.chance.randint(2, 6)
        return f"{name}:{self.chance.randint(1, 12) if name.startswith('publish.') else 1}"

    def _sleep(self, longest: float) -> None:
        until = time.perf_counter() + self.chance.random() * longest
        time.sleep(max(0.0, until - time.perf_counter()))

    def _begin(self, stop: str, *, other: bool, answer: bool = True) -> bool:
        """Start a life; with `answer`, wait until it has published, check at rest, and let it go on."""
        self.number += 1 << 20
        self._out, out = os.pipe()
        gate, self._gate = os.pipe()
        seed = self.chance.getrandbits(32)
        self.pid = os.fork()
        if not self.pid:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(self._out)
            os.close(self._gate)
            live(self.name, self.lane, base=self.number, seed=seed, stop=stop, other=other, out=out, gate=gate)
        os.close(out)
        os.close(gate)
        return answer and self._check_at_rest()

    def _check_at_rest(self) -> bool:
        ready, _, _ = select.select([self._out], [], [], PATIENCE)
        if not ready:
            self.tally.faults.append(f"{self.name}: a new writer did not publish within {PATIENCE} s")
        told = os.read(self._out, READY.size) if ready else b""
        if len(told) == READY.size:
            _, whole, _ = READY.unpack(told)
            checker = self._attach()
            before = checker.epochs
            checker.at_rest(self.number)
            if checker.epochs == before:
                self.tally.take_overs.append(whole)
            else:
                self.tally.replaced += 1
        with contextlib.suppress(BrokenPipeError):
            os.write(self._gate, b"x")
        return len(told) == READY.size

    def _attach(self) -> Checker:
        if self._checker is None:
            self._checker = Checker(process_image.attach(self.name, timeout=PATIENCE))
        return self._checker

    def _end_life(self, *, killed: bool, ready: bool = True) -> bool:
        """Kill the writer, or wait until it killed itself; whether it was SIGKILL that ended it."""
        if killed:
            os.kill(self.pid, signal.SIGKILL)
        else:
            self._await_end()
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        os.close(self._out)
        os.close(self._gate)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            return True
        if status:
            self.tally.faults.append(f"{self.name}: a writer ended with status {status:#x} ({ready=})")
        return False

    def _await_end(self) -> None:
        """Its end of the pipe closes when it dies."""
        ready, _, _ = select.select([self._out], [], [], PATIENCE)
        if not ready:
            self.tally.faults.append(f"{self.name}: a writer with an armed stop point lives on")
            os.kill(self.pid, signal.SIGKILL)

    def _check_dead(self) -> None:
        """Between two writers: names, and what readers see of a segment whose writer is dead."""
        self._check_names({self.name, f"{self.name}.lease", f"sem.{self.name}_sem", f"{self.name}.new"})
        checker = self._attach()
        checker.snapshot()
        checker.journal()
        memory = checker.image._now.memory
        left = self.tally.left
        left["an odd sequence"] += bool((memory.sequence & 1).any())
        left["reserved, not committed"] += memory.read(Word.JOURNAL_RESERVED) > memory.read(Word.JOURNAL_COMMITTED)
        left["semaphore held"] += bool(memory.read(Word.SEMAPHORE_HELD))
        left["not READY"] += memory.read(Word.STATE) != process_image.layout.State.READY
        if len(checker.faults) > 20:
            raise SystemExit(f"{self.name}: given up:\n" + "\n".join(checker.faults))

    def _check_names(self, allowed: set[str]) -> None:
        there = {path.name for path in SHM.iterdir() if self.name in path.name}
        if there - allowed:
            self.tally.faults.append(f"leaked names: {sorted(there - allowed)}")

    def _last_life(self) -> None:
        """A writer that ends in order, when readers and semaphore must have found their way."""
        with process_image.create(self.name, self.lane.points, semaphore=f"{self.name}_sem", repair_after=0.01,
                                  stale_after=STALE_AFTER, journal_entries=self.lane.journal_entries,
                                  long_bytes=self.lane.long_bytes) as writer:
            until = time.monotonic() + 5
            while writer.semaphore.value() != 1 and time.monotonic() < until:
                writer.publish()
                time.sleep(0.005)
            if writer.semaphore.value() != 1:
                self.tally.faults.append(f"the semaphore stands at {writer.semaphore.value()}")
            self.number += 1 << 20
            publish_number(writer, list(range(len(writer.blocks))), self.number)
            self._attach().at_rest(self.number)
            self.tally.faults += self._checker.faults if self._checker else []
            self._mark.unlink()
            self._collect(writer)
            writer.close(unlink=True)

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > until:
                raise SystemExit(f"{self.name}: {what} did not come within {PATIENCE} s")
            time.sleep(0.01)

    @contextlib.contextmanager
    def _readers(self) -> Iterator[None]:
        """A reader in Python and one in C, for as long as the mark is there."""
        with tempfile.TemporaryDirectory() as folder:
            self._mark = Path(folder, "mark")
            self._mark.touch()
            coherence = build_c_reader()
            commands = {"python": [sys.executable, str(HERE / "reader.py"), self.name, str(self._mark)]}
            if coherence:
                commands["c"] = [str(coherence), self.name, "1e9", str(self._mark)]
            self._processes = {  # they take what is left of the processors, or the campaign would be theirs
                kind: subprocess.Popen(["nice", "-n", "10", *command], stdout=subprocess.PIPE, text=True)
                for kind, command in commands.items()}
            try:
                self._await(lambda: all(Path(f"{self._mark}.{kind}").exists() for kind in commands), "the readers")
                yield
            finally:
                self._mark.unlink(missing_ok=True)
                for process in self._processes.values():
                    process.kill()
                    process.communicate()

    def _collect(self, writer: process_image.Writer) -> None:
        """Each reader must end by itself, without a fault, having seen the last number."""
        for kind, process in self._processes.items():
            with contextlib.suppress(subprocess.TimeoutExpired):
                while process.poll() is None:
                    writer.heartbeat()
                    process.wait(0.2)
            try:
                output, _ = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                self.tally.faults.append(f"{self.name}: the {kind} reader is stuck")
                continue
            seen = json.loads(output) if output.startswith("{") else {"output": output}
            self.tally.readers.append({"lane": self.lane.name, "reader": kind, **seen})
            if process.returncode or seen.get("highest") != float(self.number):
                self.tally.faults.append(f"{self.name}: the {kind} reader ended with {process.returncode}: {output}")


def build_c_reader() -> Path | None:
    """The coherence checker in C; None without a compiler."""
    import image_c
    import peers

    if not peers.find_program("gcc"):
        return None
    return image_c.build(peers.SOURCES / "image_coherence.c", "-O2")


def report(tally: Tally, seconds: float) -> dict[str, object]:
    """The tally in plain types."""
    at_stops = sum(count for place, count in tally.kills.items() if not place.startswith("random"))
    times = sorted(tally.take_overs) or [0.0]
    return {
        "kills": sum(tally.kills.values()), "at_stop_points": at_stops, "by_place": dict(sorted(tally.kills.items())),
        "left_half_done": dict(tally.left), "objects_replaced": tally.replaced, "take_overs": len(tally.take_overs),
        "take_over_ms": {label: round(times[int(len(times) * part)] * 1e3, 2) for label, part in
                         (("median", 0.5), ("p99", 0.99))},
        "seconds": round(seconds, 1), "readers": tally.readers, "faults": tally.faults[:20],
    }


def main() -> int:
    """Run every lane."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else secrets.randbits(32)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    tally, before = Tally(), time.monotonic()
    print(f"seed {seed}", file=sys.stderr)
    for lane in LANES:
        Arena(lane, random.Random(f"{seed}{lane.name}"), tally).run(round(arguments.kills * lane.share))
    result = {"seed": seed, **report(tally, time.monotonic() - before)}
    print(json.dumps(result, indent=None if arguments.json else 2))
    return bool(tally.faults)


if __name__ == "__main__":
    sys.exit(main())
