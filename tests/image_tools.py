"""What the tests of the process image share: small layouts, and writers and readers in processes of their own."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from process_image import Point

SHM = Path("/dev/shm")
PRELUDE = """
import json, os, signal, sys, time
import numpy as np
from image_tools import fleet, leftovers, mode_of, say
from process_image import *
"""


def fleet(devices: int = 4, points: int = 5, *, texts: bool = True, scan_class: float = 1.0) -> list[Point]:
    """Points of equal devices, each with a text point where `texts`; every third point is an int64."""
    made = []
    for number in range(devices):
        device = f"Device {number}"
        made += [Point(name=f"M{i}", device=device, type="int64" if i % 3 == 0 else "float64", unit="kW",
                       scan_class=scan_class) for i in range(points)]
        if texts:
            made.append(Point(name="$last_error", device=device, type="string", size=24))
    return made


def say(**values: Any) -> None:
    """One line of JSON on standard output, for the test that started this process."""
    print(json.dumps(values), flush=True)


def leftovers(prefix: str) -> list[str]:
    """Names in shared memory that belong to a test's segment: objects, locks, semaphores."""
    return sorted(p.name for p in SHM.iterdir() if prefix in p.name)


def mode_of(name: str) -> int:
    """Permission bits of an object in shared memory."""
    return stat.S_IMODE((SHM / name).stat().st_mode)


class Script:
    """Python code in a process of its own, with `process_image` imported; talks by lines of JSON (see `say`)."""

    def __init__(self, code: str, *, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None,
                 **values: Any) -> None:
        """`values` are put before the code as variables; `prefix` stands before the interpreter's command."""
        lines = "".join(f"{name} = {value!r}\n" for name, value in values.items())
        environment = {**os.environ, **(env or {}), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", PRELUDE + lines + textwrap.dedent(code)], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def hear(self) -> Any:
        """The next line that it says; AssertionError with its errors when it ended instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the process ended with {self.process.wait()}: {self.errors()}")
        return json.loads(line)

    def tell(self, word: str = "go") -> None:
        """Send it a line, which it reads by input()."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def errors(self) -> str:
        """What it wrote to standard error, once it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def wait(self, timeout: float = 60.0) -> int:
        """Its exit status, negative for a signal."""
        return self.process.wait(timeout)

    def kill(self) -> int:
        """End it by SIGKILL."""
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait(30)

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
