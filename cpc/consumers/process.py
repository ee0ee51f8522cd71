"""One consumer as a process: `python -P -m cpc.consumers NAME --config FILE`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from endpoint_config import ConfigError

from cpc import logs, processes
from cpc.consumers.contract import STEP_SECONDS, Consumer, Context, Refused
from cpc.consumers.registry import make
from cpc.consumers.settings import context_for
from cpc.consumers.status import StatusBoard
from cpc.names import DEFAULT_CONFIG

_log = logging.getLogger("consumer")


def run(context: Context, stopping: threading.Event, *, namespace: str, unlink: bool = True, notify_fd: int = -1,
        duration: float | None = None) -> None:
    """Make the consumer and step it until `stopping` is set or `duration` (s) is over; raises Refused."""
    make_folder(context.state)
    consumer = make(context)
    consumer.start()
    board = StatusBoard(context.name, namespace, consumer, unlink=unlink)
    try:
        processes.notify_ready(notify_fd)
        logs.event(_log, logging.INFO, "running", consumer=context.name, segments=",".join(context.segments))
        _step(consumer, board, stopping, duration)
        consumer.stop()
    finally:
        board.close()


def _step(consumer: Consumer, board: StatusBoard, stopping: threading.Event, duration: float | None) -> None:
    until = None if duration is None else time.monotonic() + duration
    while not stopping.is_set() and (until is None or time.monotonic() < until):
        consumer.step(STEP_SECONDS)
        board.tick()


def make_folder(folder: Path) -> None:
    """The consumer's own folder, for its user alone; raises Refused."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Refused(f"{folder}: can't be made: {error.strerror}; name a folder in <state> that this user may "
                      "write") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Refused(f"{folder}: this user may not write there; give it to the user of the consumer")


@contextlib.contextmanager
def signals_set(stopping: threading.Event) -> Iterator[None]:
    """While entered, SIGTERM, SIGINT and SIGHUP set the event."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    old = {number: signal.signal(number, lambda *_: stopping.set()) for number in numbers
           if not (number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cpc.consumers", allow_abbrev=False, description=__doc__)
    parser.add_argument("name", help="name of the consumer in the partition file")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG)
    parser.add_argument("--namespace")
    parser.add_argument("--duration", type=float)
    parser.add_argument("--keep", action="store_true", help="leave the status segment at the end")
    parser.add_argument("--log-level", choices=list(logs.LEVELS), default="info")
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--notify-fd", type=int, default=-1)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """0 stopped, 1 can't run as told, 70 failed and worth another start."""
    args = _parse(argv)
    processes.die_with(args.parent)
    logs.set_up(args.log_level, traceback=args.debug)
    return run_named(args, args.name)


def run_named(args: argparse.Namespace, name: str) -> int:
    """Run the consumer `name` of `args.config` as this process; statuses as for `main`."""
    def context() -> Context:
        return context_for(args.config, name, namespace=args.namespace)

    return run_context(context, namespace=args.namespace, unlink=not args.keep, notify_fd=args.notify_fd,
                       duration=args.duration)


def run_context(make_context: Callable[[], Context], *, namespace: str | None, unlink: bool, notify_fd: int,
                duration: float | None) -> int:
    """Run one consumer until a signal; the context is made with the signals heard already."""
    stopping = threading.Event()
    with signals_set(stopping):
        try:
            context = make_context()
            space = context.partition.namespace if namespace is None else namespace
            run(context, stopping, namespace=space, unlink=unlink, notify_fd=notify_fd, duration=duration)
        except (ConfigError, Refused) as error:
            print(error, file=sys.stderr, flush=True)
            return processes.REFUSED
        except Exception:  # noqa: BLE001 - the process ends here; the supervisor starts another
            _log.exception("consumer failed")
            return processes.FAILED
    return 0
