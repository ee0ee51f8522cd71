"""The C reader of the process image in tests: compiled strictly, with sanitizers, and driven line by line."""

from __future__ import annotations

import hashlib
import select
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import peers

FOLDER = peers.ROOT / "libs" / "process_image" / "c"
HEADER = FOLDER / "process_image.h"
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wsign-conversion", "-Werror")
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

OK, TIMEOUT, NOT_FOUND, NOT_PERMITTED, FOREIGN, LAYOUT, NOT_READY, NO_MEMORY, ARGUMENT, SYSTEM = range(10)


def build(source: Path, *flags: str) -> Path:
    """The program made from a source that includes process_image.h; made again when the header changes."""
    mark = hashlib.sha256(HEADER.read_bytes()).hexdigest()[:12]
    return peers.compile_c(source, flags=(*STRICT, *flags, f"-I{FOLDER}", f"-DHEADER_IS_0x{mark}"))


class Driver:
    """image_driver.c as a process: `ask("take")` gives status and the rest of the answer."""

    def __init__(self, *, timeout: float = peers.PATIENCE, prefix: Sequence[str] = ()) -> None:
        """`prefix` stands before the command, as for another user."""
        self.timeout = timeout
        program = build(peers.SOURCES / "image_driver.c", *SANITIZED)
        self.process = subprocess.Popen([*prefix, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, bufsize=1)

    def tell(self, command: str) -> None:
        """Send a command and do not wait for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def answer(self) -> tuple[int, str]:
        """The next answer; AssertionError when the program died (with what it said) or none comes in time."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], self.timeout)
        assert ready, "the C reader does not answer"
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(5)
            assert self.process.stderr is not None
            raise AssertionError(f"the C reader died ({self.process.returncode}):\n{self.process.stderr.read()}")
        status, _, rest = line.rstrip("\n").partition(" ")
        return int(status), rest.strip()

    def ask(self, command: str) -> tuple[int, str]:
        """Send a command; its answer."""
        self.tell(command)
        return self.answer()

    def fields(self, command: str) -> dict[str, str]:
        """The answer of a command that must succeed, its words taken as pairs."""
        status, rest = self.ask(command)
        assert status == OK, (command, status, rest)
        words = rest.split()
        return dict(zip(words[::2], words[1::2], strict=False))

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None and self.process.stderr is not None
        self.process.stdin.close()
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        errors = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        if kind is None:
            assert code == 0, errors
