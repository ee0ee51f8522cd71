"""A plant of 1,000 points of every DNP3 type behind `cpc dnp3` in a thread, for tests with masters of other makers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from consumers import Plant, context, plant
from dnp3_outstation import CommandStatus
from endpoint_config import Dnp3Consumer as Settings
from endpoint_config import Dnp3Map, Dnp3MapPoint
from peers import PATIENCE
from process_image import Point

from cpc.consumers.dnp3 import Dnp3Consumer

COUNT = 1000
MAP = Dnp3Map(automatic=False, points=(
    Dnp3MapPoint(name="P/bit*", type="binary input", index=0, event_class=1),
    Dnp3MapPoint(name="P/two*", type="double-bit input", index=0, event_class=1),
    Dnp3MapPoint(name="P/float*", type="analog input", index=0, event_class=2),
    Dnp3MapPoint(name="P/count*", type="counter", index=0, event_class=3, frozen_class=3),
    Dnp3MapPoint(name="P/relay*", type="binary output", index=0, event_class=1),
    Dnp3MapPoint(name="P/set*", type="analog output", index=0, event_class=2),
    Dnp3MapPoint(name="P/text*", type="octet string", index=0, event_class=3)))


class Writes:
    """A gate that allows everything and notes it."""

    def __init__(self) -> None:
        self.done: list[tuple[str, Any]] = []

    def submit(self, point: str, value: Any, done: Callable[[CommandStatus], None]) -> bool:
        self.done.append((point, value))
        done(CommandStatus.SUCCESS)
        return True


def points(count: int = COUNT) -> list[Point]:
    kinds = (("bit", "bool", False), ("two", "uint8", False), ("float", "float64", False), ("count", "uint32", False),
             ("relay", "bool", True), ("set", "float64", True), ("text", "string", False))
    return [Point(name=f"{name}{i:04}", device="P", type=kind, writable=writable)
            for name, kind, writable in kinds for i in range(count)]


def values(count: int = COUNT, turn: int = 0) -> dict[str, Any]:
    """A value for each point; another `turn`, other values."""
    made: dict[str, Any] = {}
    for i in range(count):
        made[f"P/bit{i:04}"] = bool((i + turn) % 3 == 0)
        made[f"P/two{i:04}"] = (i + turn) % 4
        made[f"P/float{i:04}"] = (i - 500) * 0.1 + turn
        made[f"P/count{i:04}"] = i * 4_000_000 + turn
        made[f"P/relay{i:04}"] = bool((i + turn) % 2)
        made[f"P/set{i:04}"] = i * 1.25 - turn
        made[f"P/text{i:04}"] = f"text {i} {turn}"
    return made


class Served:
    """The plant, the consumer, and the port to connect to."""

    def __init__(self, plant_: Plant, consumer: Dnp3Consumer, writes: Writes) -> None:
        self.plant, self.consumer, self.writes = plant_, consumer, writes
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failed: BaseException | None = None

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self.consumer.step(0.05)
        except BaseException as error:  # the test shows it
            self.failed = error
            raise

    def __enter__(self) -> Served:
        self.consumer.start()
        self._thread.start()
        wait_for(lambda: self.consumer.server.port and self.consumer.outstation is not None, "a listening outstation")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10)
        self.consumer.stop()
        assert self.failed is None

    @property
    def port(self) -> int:
        return self.consumer.server.port


def wait_for(condition: Callable[[], object], what: str = "", timeout: float = PATIENCE) -> None:
    """Wait for an event that another thread brings."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what or condition}"
        time.sleep(0.005)


@contextmanager
def served(
    tmp_path: Path, shm_name: str, *, gate: bool = True, count: int = COUNT, **settings: Any,
) -> Iterator[Served]:
    """A plant with values of turn 0, served on a free port."""
    settings.setdefault("map", MAP)
    writes = Writes()
    with plant(shm_name, points(count), journal_entries=65536) as plant_:
        plant_.set(values(count))
        told = context(tmp_path, shm_name, settings=Settings(kind="dnp3", name="dnp3", port=0, **settings))
        with Served(plant_, Dnp3Consumer(told, writes if gate else None), writes) as made:
            yield made


def float32(value: float) -> float:
    return float(np.float32(value))
