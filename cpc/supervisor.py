"""Starts the processes of a partition, starts again what dies, and ends them all within two seconds.

It knows command lines and nothing else: no service is imported here, so a fault in one can't reach the others. The
loop sleeps in one `select` for signals, for the readiness of children, and for the next thing that is due.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType

from cpc.logs import event
from cpc.processes import REFUSED, describe_end, spawn

FIRST_PAUSE = 0.2
"""Seconds before the second restart; the first is at once, each further one waits twice as long."""
LONGEST_PAUSE = 30.0
"""Seconds."""
SETTLED = 30.0
"""A child that lived so long (s) is restarted at once when it dies."""
GRACE = 1.2
"""Seconds from SIGTERM to SIGKILL for services."""
HELPER_GRACE = 0.3
"""The same for helpers, which are asked when the services are gone. Both together stay below two seconds."""
TICK = 1.0
"""Seconds between calls of `on_tick`."""

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_log = logging.getLogger("supervisor")


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A process to keep running."""

    name: str
    argv: tuple[str, ...]
    """`--parent PID --notify-fd N` are put behind it."""
    helper: bool = False
    """Started first and ended last; its end is logged, and it is not started again."""
    consumer: bool = False
    """Nothing depends on it: where it can't run as told it is tried again later, and the others go on."""
    user: str = ""
    """User that it runs as; empty, or where we are not root: ours."""
    without: tuple[str, ...] = ()
    """Beginnings of environment variables that it does not get."""


@dataclass(slots=True)
class _Child:
    command: Command
    process: subprocess.Popen[bytes] | None = None
    pipe: int = -1
    """Read end of the notify pipe, -1 when closed."""
    started: float = 0.0
    ready: bool = False
    ever_ready: bool = False
    restarts: int = 0
    """Since it last lived for SETTLED seconds."""
    restart_at: float | None = None


@dataclass(slots=True)
class Supervisor:
    """Keeps commands running until a signal, a refusal or the end of the time given; used by the main thread."""

    commands: Sequence[Command]
    on_tick: Callable[[], None] = lambda: None
    """Called about once a second while the services run; must not raise, and not block for long."""
    _children: list[_Child] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _signals: int = 0
    """How many ending signals have come; the second kills without grace."""
    _signal_name: str = ""
    _refused: bool = False

    def run(self, duration: float | None = None) -> int:
        """Start everything, stay until the end, stop everything; returns the exit status (0, or 1 for a refusal)."""
        end = time.monotonic() + duration if duration else None
        with _Signals(self._note_signal) as wake:
            self._selector.register(wake, selectors.EVENT_READ, None)
            for command in self.commands:
                child = _Child(command)
                self._children.append(child)
                self._start(child)
            self._serve(end)
            self._stop_all()
        self._selector.close()
        return 1 if self._refused else 0

    def is_ready(self, name: str) -> bool:
        """Whether a service is alive and has reported that its work has begun."""
        return any(c.ready for c in self._children if c.command.name == name)

    def kill(self, name: str) -> None:
        """End a service that hangs; it is then started again like any that died."""
        for child in self._children:
            if child.command.name == name and child.process:
                child.process.kill()

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        if number in _ENDING:
            self._signals += 1
            self._signal_name = signal.Signals(number).name

    def _serve(self, end: float | None) -> None:
        tick = time.monotonic() + TICK
        while not self._signals and not self._refused:
            now = time.monotonic()
            if end is not None and now >= end:
                return
            if now >= tick:
                tick = now + TICK
                self.on_tick()
            due = [c.restart_at for c in self._children if c.restart_at is not None]
            self._wait(min([tick, *due, *([] if end is None else [end])]) - now)
            self._reap()
            self._restart_due()

    def _wait(self, seconds: float) -> None:
        for key, _ in self._selector.select(max(seconds, 0)):
            if key.data is None:
                os.read(key.fd, 4096)  # one byte for each signal: only the waking matters, the handler counted
            else:
                self._hear(key.data)

    def _hear(self, child: _Child) -> None:
        """Take what a child wrote to its notify pipe; its end closes the pipe."""
        if os.read(child.pipe, 64):
            child.ready = child.ever_ready = True
            event(_log, logging.INFO, "running", service=child.command.name,
                  pid=child.process.pid if child.process else None,
                  after=f"{time.monotonic() - child.started:.2f}s")
        self._close_pipe(child)

    def _start(self, child: _Child) -> None:
        child.restart_at = None
        child.ready = False
        child.started = time.monotonic()
        reading, writing = os.pipe()
        try:
            argv = [*child.command.argv, "--parent", str(os.getpid()), "--notify-fd", str(writing)]
            child.process = spawn(argv, keep=[writing], user=child.command.user, without=child.command.without)
        except OSError as error:  # a user who may not run the interpreter, or no memory for a process
            os.close(reading)
            if not child.command.consumer:
                raise
            child.restart_at = time.monotonic() + LONGEST_PAUSE
            event(_log, logging.ERROR, "can't be started, is tried again; the services go on",
                  consumer=child.command.name, user=child.command.user or None, error=error)
            return
        finally:
            os.close(writing)
        child.pipe = reading
        self._selector.register(reading, selectors.EVENT_READ, child)
        event(_log, logging.INFO, "started", service=child.command.name, pid=child.process.pid)

    def _close_pipe(self, child: _Child) -> None:
        if child.pipe >= 0:
            self._selector.unregister(child.pipe)
            os.close(child.pipe)
            child.pipe = -1

    def _reap(self) -> None:
        """Notice which children have ended, and decide what follows."""
        for child in self._children:
            status = child.process.poll() if child.process else None
            if status is None:
                continue
            if child.pipe >= 0:
                self._hear(child)
            child.process = None
            child.ready = False
            self._ended(child, status)

    def _ended(self, child: _Child, status: int) -> None:
        name = child.command.name
        refused = not child.ever_ready and status == REFUSED
        if child.command.consumer and refused:
            child.restart_at = time.monotonic() + LONGEST_PAUSE
            event(_log, logging.ERROR, "can't run as told, is tried again; the services go on", consumer=name,
                  pause=f"{LONGEST_PAUSE:.0f}s")
        elif refused or (not child.ever_ready and child.command.helper):
            self._refused = True
            event(_log, logging.ERROR, "can't run, so nothing does", service=name, status=describe_end(status))
        elif child.command.helper:
            event(_log, logging.ERROR, "ended and stays so until the next run", helper=name,
                  status=describe_end(status))
        else:
            now = time.monotonic()
            if now - child.started >= SETTLED:
                child.restarts = 0
            pause = restart_pause(child.restarts)
            child.restarts += 1
            child.restart_at = now + pause
            event(_log, logging.ERROR, "ended, is started again", service=name, status=describe_end(status),
                  pause=f"{pause:.1f}s")

    def _restart_due(self) -> None:
        if self._signals or self._refused:
            return
        now = time.monotonic()
        for child in self._children:
            if child.restart_at is not None and now >= child.restart_at:
                self._start(child)

    def _stop_all(self) -> None:
        """Services first, so that none of them sees its simulated devices go."""
        why = self._signal_name or ("refusal" if self._refused else "end of the time given")
        event(_log, logging.INFO, "stopping", reason=why)
        self._stop([c for c in self._children if not c.command.helper], GRACE)
        self._stop([c for c in self._children if c.command.helper], HELPER_GRACE)
        for child in self._children:
            self._close_pipe(child)
        event(_log, logging.INFO, "stopped")

    def _stop(self, children: list[_Child], grace: float) -> None:
        asked = self._signals
        for child in children:
            if child.process:
                child.process.terminate()
        deadline = time.monotonic() + grace
        while (left := deadline - time.monotonic()) > 0 and self._signals <= asked:
            if all(c.process is None or c.process.poll() is not None for c in children):
                break
            self._wait(min(left, 0.2))
        for child in children:
            if child.process and child.process.poll() is None:
                level = logging.DEBUG if child.command.helper else logging.WARNING
                event(_log, level, "did not end when asked, is killed", process=child.command.name)
                child.process.kill()
                child.process.wait()
            child.process = None


def restart_pause(restarts: int) -> float:
    """Seconds to wait before a restart, after so many that did not last.

    >>> [restart_pause(n) for n in (0, 1, 2, 3, 20)]
    [0.0, 0.2, 0.4, 0.8, 30.0]
    """
    return 0.0 if restarts == 0 else min(FIRST_PAUSE * 2.0 ** min(restarts - 1, 20), LONGEST_PAUSE)


class _Signals:
    """While entered: signals wake the loop through a pipe; an ignored SIGHUP (nohup) stays ignored."""

    def __init__(self, handler: Callable[[int, FrameType | None], None]) -> None:
        self._handler = handler
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        os.set_blocking(self._reading, False)

    def __enter__(self) -> int:
        self._before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._old = {
            number: signal.signal(number, self._handler)
            for number in (*_ENDING, signal.SIGCHLD)
            if not (number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN)
        }
        return self._reading

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._before)
        for number, old in self._old.items():
            signal.signal(number, old)
        os.close(self._reading)
        os.close(self._writing)
