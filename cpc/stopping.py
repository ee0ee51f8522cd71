"""Ends of services: asked for by a signal handler or any thread, and heard by whatever they wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

STOP_AGAIN = 0.1
"""Seconds between requests to a producer that has not yet ended."""
LOOK_AGAIN = 0.005
"""Seconds between looks for files that another process is about to write."""


class _Stoppable(Protocol):
    def stop_clients(self) -> None: ...


class Stop:
    """A request to end, from a signal handler or any thread.

    A producer may be asked before its loop has begun and would then forget it, so it is asked again until it ended.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._producers: list[_Stoppable] = []
        self._nag: threading.Thread | None = None

    @property
    def requested(self) -> bool:
        """Whether the end has been asked for."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the request; whether it has come."""
        return self._event.wait(timeout)

    def request(self) -> None:
        """Ask every producer to end; harmless when asked again."""
        self._event.set()
        self._start_asking()

    @contextmanager
    def ends(self, producer: _Stoppable) -> Iterator[None]:
        """While entered, a request ends this producer."""
        self._producers.append(producer)
        if self.requested:
            self._start_asking()
        try:
            yield
        finally:
            self._producers.remove(producer)

    def _start_asking(self) -> None:
        if self._nag is None or not self._nag.is_alive():
            self._nag = threading.Thread(target=self._ask, name="stop", daemon=True)
            self._nag.start()

    def _ask(self) -> None:
        while producers := list(self._producers):
            for producer in producers:
                producer.stop_clients()
            time.sleep(STOP_AGAIN)


def wait_for_files(files: Sequence[Path], seconds: float, stop: Stop) -> bool:
    """Wait until all files are there; False when the time is over or the end was asked for."""
    deadline = time.monotonic() + seconds
    while not all(file.exists() for file in files):
        if stop.wait(LOOK_AGAIN) or time.monotonic() > deadline:
            return False
    return not stop.requested
