"""The live table on a terminal of its own: what a person sees, and that it leaves the terminal as it was."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from struct import pack

import process_image
import pytest
from plant import CPC, SHM

ENVIRONMENT = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
"""Without a size that would go before the terminal's own."""


class Terminal:
    """A command on a pseudo-terminal of 120 by 30."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, pack("HHHH", 30, 120, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen([*CPC, *arguments], stdin=slave, stdout=slave, stderr=slave,
                                        start_new_session=True, env={**ENVIRONMENT, "TERM": "xterm-256color"})
        self.seen = ""

    def wait_for(self, text: str, timeout: float = 40.0) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} not seen in {self.seen[-2000:]!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 65536).decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        """The exit status; output is read meanwhile, as a terminal does."""
        deadline = time.monotonic() + 20
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.seen[-2000:]
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
        return self.process.returncode


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    made = Terminal(*arguments)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()
        os.close(made.master)
        os.close(made.slave)


@pytest.mark.parametrize("how", ["q", "\x03", "/\x03", "SIGTERM"])
def test_watch_ends_in_order_and_leaves_the_terminal_as_it_was(how, shm_prefix):
    with process_image.create(f"{shm_prefix}_shm", ["Vorlauf"]) as writer, terminal("watch", writer.name) as shown:
        shown.wait_for("Vorlauf")
        shown.wait_for("quit")
        if how == "SIGTERM":
            shown.process.send_signal(signal.SIGTERM)
        else:
            for key in how:
                shown.type(key)
                time.sleep(0.2)  # a person's pace; keys typed at once are one paste
        assert shown.end() == 0
        assert "Traceback" not in shown.seen
        assert termios.tcgetattr(shown.slave) == shown.before


def test_the_demo_shows_a_live_table_and_ctrl_c_leaves_nothing():
    with terminal("demo") as shown:
        namespace = f"demo{shown.process.pid}"
        shown.wait_for("Ecotec")
        shown.type("\x03")
        assert shown.end() == 0
        assert not list(SHM.glob(f"{namespace}*_shm"))
        assert not list(SHM.glob(f"sem.{namespace}*"))
