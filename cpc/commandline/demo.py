"""`cpc demo`: simulated devices, a partition that polls them, and its points live; nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from process_image import list_segments

from cpc import processes
from cpc.commandline.errors import CommandError, Exit
from cpc.commandline.init import write_samples
from cpc.commandline.watch import on_terminal, show
from cpc.commandline.watch_feed import SegmentFeed
from cpc.private_folder import private_folder

START_SECONDS = 20.0
"""Longest wait for the first segment; it takes about one second."""
END_SECONDS = 3.0
"""Longest wait for the partition's end; it takes less than two."""


class _Ended(Exception):
    """SIGTERM came."""


def run(args: Namespace) -> int:
    """Show the live table (without a terminal: a table each second) until q, Ctrl-C, SIGTERM or the duration's end."""
    namespace = f"demo{os.getpid()}"
    plain = args.plain or not on_terminal()
    feed = SegmentFeed(lambda: [info.name for info in list_segments(f"{namespace}_")])
    with _sigterm_ends(), private_folder() as folder:
        with _partition(folder, namespace, quiet=not plain) as partition:
            with contextlib.suppress(_Ended, KeyboardInterrupt):
                _wait_for_segments(namespace, partition)
                show(feed, plain=plain, duration=args.duration, go_on=lambda: partition.poll() is None)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing may come between here and the end of it all
            feed.close()
            failed = partition.poll()
        if failed:
            log = folder / "log"
            raise CommandError((log.read_text() if log.exists() else "") + "cpc demo: the partition did not run; "
                               "its log above says why")
    return Exit.DONE


def _wait_for_segments(namespace: str, partition: subprocess.Popen[bytes]) -> None:
    """The duration counts from when there is something to see, also on a machine that is slow to start processes."""
    end = time.monotonic() + START_SECONDS
    while partition.poll() is None and time.monotonic() < end:
        if list_segments(f"{namespace}_"):
            return
        time.sleep(0.05)


@contextlib.contextmanager
def _partition(folder: Path, namespace: str, *, quiet: bool) -> Iterator[subprocess.Popen[bytes]]:
    """`cpc run --simulate` on the sample files; its log goes to a file where a live table has the terminal."""
    write_samples(folder / "config")
    argv = processes.python("cpc", "run", f"--config={folder / 'config' / 'partition.xml'}", "--simulate",
                            f"--namespace={namespace}", f"--parent={os.getpid()}")
    with (folder / "log").open("wb") as log:
        process = processes.spawn(argv, stderr=log if quiet else None)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            sys.stderr.flush()


@contextlib.contextmanager
def _sigterm_ends() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, and what it started with it."""
    def end(_number: int, _frame: FrameType | None) -> None:
        raise _Ended

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
