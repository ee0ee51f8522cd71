"""`cpc watch`: the points live; a table in the terminal, or plain tables one after the other."""

from __future__ import annotations

import contextlib
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence

from process_image import list_segments

from cpc.commandline.errors import Exit
from cpc.commandline.output import WIDEST_POINT, WIDEST_VALUE, complain, table
from cpc.commandline.segment_access import open_segment
from cpc.commandline.watch_feed import SegmentFeed
from cpc.commandline.watch_view import AGE, COLUMNS, POINT, VALUE, View


def run(args: Namespace) -> int:
    """Show one segment, which must be there, or every segment (of a namespace), also those that come later."""
    if args.segment:
        open_segment(args.segment).close()
        names: Callable[[], Sequence[str]] = lambda: [args.segment]  # noqa: E731
    else:
        prefix = f"{args.namespace}_" if args.namespace else ""
        names = lambda: [info.name for info in list_segments(prefix)]  # noqa: E731
    feed = SegmentFeed(names)
    try:
        show(feed, plain=args.plain, interval=args.interval, duration=args.duration)
    finally:
        feed.close()
    return Exit.DONE


def show(
    feed: SegmentFeed, *, plain: bool, interval: float = 1.0, duration: float | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """The live table on a terminal, else a table each `interval` (s).

    Ends with q, Ctrl-C, after `duration` (s), or when `go_on()` is no longer true.
    """
    if plain or not on_terminal():
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how this ends
            print_tables(feed, interval=interval, duration=duration, go_on=go_on)
        return
    from cpc.commandline.watch_app import WatchApp

    WatchApp(feed, duration=duration, go_on=go_on).run()


def on_terminal() -> bool:
    """Whether a person looks: the live table reads keys from stdin and draws on stdout and stderr."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def print_tables(
    feed: SegmentFeed, *, interval: float, duration: float | None = None, go_on: Callable[[], bool] = lambda: True
) -> None:
    """A table each `interval` seconds, by the clock and not by pauses, so that it does not drift."""
    view = View(feed)
    said: list[str] = []
    begin = due = time.monotonic()
    while (duration is None or due - begin < duration) and go_on():
        time.sleep(max(due - time.monotonic(), 0))
        feed.refresh()
        view.update()
        for line in feed.states():
            if line not in said:
                complain(line)
        said = feed.states()
        rows = [view.cells(row) for row in view.order.tolist()]
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if rows:
            shown = table(COLUMNS, rows, right=[VALUE, AGE], widest={POINT: WIDEST_POINT, VALUE: WIDEST_VALUE})
            print(f"{stamp}  {view.summary()}\n{shown}\n", flush=True)
        due = max(due + interval, time.monotonic())
    if duration is not None and go_on():
        time.sleep(max(begin + duration - time.monotonic(), 0))
