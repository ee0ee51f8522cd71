"""The live table of `cpc watch` in a terminal.

The table draws the lines that are to be seen and no others, straight from the arrays of the snapshot, so 10,000
points cost as much as 50.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input, Static

from cpc.commandline.output import fit, printable, text_value
from cpc.commandline.watch_view import AGE, COLUMNS, QUALITY, VALUE, Feed, View

REFRESH = 0.5
"""Seconds between snapshots: what an eye can follow."""
_WIDE = (20, 8, 33, 6)
_NARROW = (12, 6, 18, 5)
"""Widths of value, unit, quality and age; the name gets the rest."""
_WIDE_FROM = 110
"""Columns of a terminal from which the wide ones are taken."""
_NAME = 16
"""Least width of the name."""
_STYLES = {
    "good": Style(color="green"),
    "uncertain": Style(color="yellow"),
    "bad": Style(color="red", bold=True),
    "stale": Style(color="magenta", bold=True),
}
_HEAD = Style(bold=True, reverse=True)
_PLAIN = Style()
_CURSOR = Style(reverse=True)


class PointTable(ScrollView, can_focus=True):
    """Lines of points below a head; the head sorts when clicked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "end(-1)", show=False),
        Binding("end", "end(1)", show=False),
    ]
    cursor = reactive(0)
    """Line under the cursor, counted in the view's order."""

    class Moved(Message):
        """The cursor stands elsewhere."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view

    def reload(self) -> None:
        """Draw again after the view was updated; the cursor stays on its line."""
        lines = len(self.view.order)
        self.virtual_size = Size(self.size.width, lines + 1)
        self.cursor = max(0, min(self.cursor, lines - 1))
        self.refresh()

    def row(self) -> int | None:
        """The feed's row under the cursor."""
        return int(self.view.order[self.cursor]) if len(self.view.order) else None

    def render_line(self, y: int) -> Strip:
        """One line of the window: the head, which stays, or a point."""
        widths = self._widths()
        if y == 0:
            return Strip([Segment(self._head(widths), _HEAD)])
        line = self.scroll_offset.y + y - 1
        if line >= len(self.view.order):
            return Strip.blank(self.size.width)
        row = int(self.view.order[line])
        tone = _STYLES[self.view.tone(row)]
        under = _CURSOR if line == self.cursor else _PLAIN
        segments = []
        for column, cell in enumerate(self.view.cells(row)):
            text = fit(cell, widths[column])
            if column in (VALUE, AGE):
                text = text.rstrip().rjust(widths[column]) if text.isascii() else text
            segments.append(Segment(text + " ", (tone if column in (VALUE, QUALITY) else _PLAIN) + under))
        return Strip(segments).crop(0, self.size.width)

    def watch_cursor(self, cursor: int) -> None:
        """Keep the cursor in the window, below the head."""
        top, height = self.scroll_offset.y, max(self.size.height - 1, 1)
        if cursor < top:
            self.scroll_to(y=cursor, animate=False)
        elif cursor >= top + height:
            self.scroll_to(y=cursor - height + 1, animate=False)
        self.refresh()
        self.post_message(self.Moved())

    def action_move(self, by: int) -> None:
        """Up or down by lines."""
        self.cursor = max(0, min(self.cursor + by, len(self.view.order) - 1))

    def action_page(self, by: int) -> None:
        """Up or down by windows."""
        self.action_move(by * max(self.size.height - 2, 1))

    def action_end(self, where: int) -> None:
        """To the first or the last line."""
        self.cursor = 0 if where < 0 else max(len(self.view.order) - 1, 0)

    def on_click(self, event: events.Click) -> None:
        """The head sorts by the column clicked, a line gets the cursor."""
        if event.y > 0:
            self.cursor = max(0, min(self.scroll_offset.y + event.y - 1, len(self.view.order) - 1))
            return
        edge = 0
        for column, width in enumerate(self._widths()):
            edge += width + 1
            if event.x < edge:
                self.view.sort_by(column)
                self.reload()
                return

    def _widths(self) -> list[int]:
        width = self.scrollable_content_region.width
        fixed = _WIDE if width >= _WIDE_FROM else _NARROW
        return [max(width - sum(fixed) - len(COLUMNS), _NAME), *fixed]

    def _head(self, widths: list[int]) -> str:
        mark = {self.view.sort: "▼" if self.view.descending else "▲"}
        cells = []
        for column, (name, size) in enumerate(zip(COLUMNS, widths, strict=True)):
            text = name + mark.get(column, "")
            cells.append(text.rjust(size) if column in (VALUE, AGE) else text.ljust(size))
        return fit(" ".join(cells), self.scrollable_content_region.width)


class WatchApp(App[None]):
    """Filter above, table, details and keys below."""

    TITLE = "cpc watch"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #states { height: auto; max-height: 4; background: $error-darken-2; color: $text; display: none; }
    #states.some { display: block; }
    #filter { border: none; height: 1; padding: 0 1; background: $surface; }
    #filter:focus { background: $boost; }
    PointTable { height: 1fr; overflow-x: hidden; }
    #details { height: 3; background: $panel; padding: 0 1; }
    #keys { height: 1; background: $primary-darken-2; color: $text; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("slash", "filter", "filter"),
        Binding("escape", "leave_filter", "clear"),
        Binding("b", "only_bad", "only bad"),
        Binding("s", "next_sort", "sort"),
        Binding("r", "reverse", "reverse"),
        *(Binding(str(n + 1), f"sort({n})", show=False) for n in range(len(COLUMNS))),
    ]

    def __init__(
        self, feed: Feed, *, duration: float | None = None, go_on: Callable[[], bool] = lambda: True
    ) -> None:
        """Ends with q or Ctrl-C, after `duration` (s), or when `go_on()` is no longer true."""
        super().__init__()
        self._go_on = go_on
        self.feed = feed
        self.view = View(feed)
        self._duration = duration

    def compose(self) -> ComposeResult:
        """States (only when there is trouble), filter, table, details, keys."""
        yield Static(id="states", markup=False)
        yield Input(placeholder="/ to filter: words in name, unit or description", id="filter", compact=True)
        yield PointTable(self.view)
        yield Static(id="details", markup=False)
        yield Static(id="keys", markup=False)

    def on_mount(self) -> None:
        """Begin with a first snapshot."""
        self._obey_signals()
        self.query_one(PointTable).focus()
        self.tick()
        self.set_interval(REFRESH, self.tick)
        if self._duration is not None:
            self.set_timer(self._duration, self.exit)

    def _obey_signals(self) -> None:
        """SIGTERM and a closed terminal end the app in order: a killed one would leave the terminal unusable."""
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self.exit)

    def tick(self) -> None:
        """A new snapshot on the screen."""
        if not self._go_on():
            self.exit()
            return
        self.feed.refresh()
        self.show()

    def show(self) -> None:
        """Draw what the view now chooses."""
        self.view.update()
        table = self.query_one(PointTable)
        table.reload()
        states = self.feed.states()
        box = self.query_one("#states", Static)
        box.set_class(bool(states), "some")
        box.update("\n".join(states))
        self.show_details()
        only = "b all" if self.view.only_bad else "b only bad"
        self.query_one("#keys", Static).update(
            f" {self.view.summary()} │ / filter  {only}  1-5 sort  r reverse  q quit")

    def show_details(self) -> None:
        """What the line under the cursor has besides its cells."""
        row = self.query_one(PointTable).row()
        if row is None:
            self.query_one("#details", Static).update("")
            return
        point = self.feed.points[row]
        low, high = point.range
        span = "" if low is None and high is None else f"  range {text_value(low)}..{text_value(high)}"
        every = f"every {point.scan_class:g} s" if point.scan_class else "back to back or by event"
        self.query_one("#details", Static).update(
            f"{printable(point.full_name)} = {text_value(self.feed.value(row))} {printable(point.unit)}\n"
            f"{point.type}, {every}{span}{'  writable' if point.writable else ''}\n{printable(point.description)}"
        )

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        self.view.filter = event.value
        self.show()

    def on_input_submitted(self) -> None:
        """Enter goes to the table."""
        self.query_one(PointTable).focus()

    def on_point_table_moved(self) -> None:
        """The details follow the cursor."""
        self.show_details()

    def action_filter(self) -> None:
        """Type into the filter."""
        self.query_one("#filter", Input).focus()

    def action_leave_filter(self) -> None:
        """Clear the filter and go to the table."""
        self.query_one("#filter", Input).value = ""
        self.query_one(PointTable).focus()

    def action_only_bad(self) -> None:
        """Show all, or what is not good."""
        self.view.only_bad = not self.view.only_bad
        self.show()

    def action_sort(self, column: int) -> None:
        """Sort by a column: up, down, not."""
        self.view.sort_by(column)
        self.show()

    def action_next_sort(self) -> None:
        """Sort by the next column."""
        column = -1 if self.view.sort is None else self.view.sort
        self.view.sort = column + 1 if column + 1 < len(COLUMNS) else None
        self.view.descending = False
        self.show()

    def action_reverse(self) -> None:
        """The other way round."""
        self.view.descending = not self.view.descending
        self.show()
