"""The live table: what it chooses, and that keys and mouse do what they say."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from process_image import Point, quality

from cpc.commandline.watch_app import PointTable, WatchApp
from cpc.commandline.watch_view import AGE, POINT, QUALITY, VALUE, View


class FakeFeed:
    """Points with values of our choice."""

    def __init__(self, count: int = 6) -> None:
        self.version = 1
        self.points = [Point(name=f"p{i:05d}", device="Zähler" if i % 2 else "meter", unit="kW" if i % 3 else "V",
                             description="Total energy" if i == 4 else "") for i in range(count)]
        self.number = np.array([(i * 7) % count for i in range(count)], float)
        self.quality = np.zeros(count, np.uint32)
        self.quality[1] = quality.BAD_TIMEOUT
        self.age = np.linspace(0, 1, count)
        self.stale = np.zeros(count, bool)
        self.stale[2] = True
        self.refreshed = 0

    def refresh(self) -> None:
        self.refreshed += 1

    def value(self, row: int) -> object:
        return float(self.number[row])

    def states(self) -> list[str]:
        return []


@pytest.fixture
def view() -> View:
    made = View(FakeFeed())
    made.update()
    return made


def names(view: View) -> list[int]:
    return view.order.tolist()


def test_all_points_are_shown_in_the_segments_order(view):
    assert names(view) == [0, 1, 2, 3, 4, 5]


def test_a_filter_takes_words_of_name_unit_and_description_in_any_case(view):
    view.filter = "zähler KW"
    view.update()
    assert names(view) == [1, 5]
    view.filter = "ENERGY"
    view.update()
    assert names(view) == [4]


def test_only_bad_shows_what_is_not_good_or_stale(view):
    view.only_bad = True
    view.update()
    assert names(view) == [1, 2]
    view.feed.quality[:] = quality.GOOD
    view.update()
    assert names(view) == [2]


@pytest.mark.parametrize(("column", "expected"), [
    (POINT, [0, 2, 4, 1, 3, 5]), (VALUE, [0, 1, 2, 3, 4, 5]), (QUALITY, [0, 2, 3, 4, 5, 1]), (AGE, [0, 1, 2, 3, 4, 5]),
])
def test_a_column_sorts_up_then_down_then_not_at_all(view, column, expected):
    view.sort_by(column)
    assert names(view) == expected
    view.sort_by(column)
    assert names(view) == expected[::-1]
    view.sort_by(column)
    assert names(view) == [0, 1, 2, 3, 4, 5]


def test_new_points_replace_the_old_ones(view):
    view.filter = "p00001"
    view.update()
    view.feed.points = [Point(name="p00001x", device="new"), *view.feed.points[1:]]
    view.feed.version += 1
    view.update()
    assert names(view) == [0, 1]


def test_stale_goes_before_quality_in_tone_and_text(view):
    assert [view.tone(row) for row in range(3)] == ["good", "bad", "stale"]
    assert view.cells(2)[QUALITY] == "stale, was Good"
    assert view.summary() == "6 points, 2 not good"


def drive(app: WatchApp, *steps) -> None:
    """Run the app without a terminal; a step is a key or a function to call."""
    async def play() -> None:
        async with app.run_test(size=(120, 20)) as pilot:
            for step in steps:
                if callable(step):
                    step()
                else:
                    await pilot.press(step)
                    await pilot.pause()
    asyncio.run(play())


def lines(app: WatchApp) -> list[str]:
    table = app.query_one(PointTable)
    return [table.render_line(y).text for y in range(table.size.height)]


def test_keys_filter_sort_and_show_only_bad():
    app = WatchApp(FakeFeed())
    seen = []
    look = lambda: seen.append(names(app.view))  # noqa: E731
    drive(app, look, "b", look, "b", "1", look, "r", look, "1", "slash", "v", look, "escape", look)
    assert seen == [[0, 1, 2, 3, 4, 5], [1, 2], [0, 2, 4, 1, 3, 5], [5, 3, 1, 4, 2, 0], [0, 3], [0, 1, 2, 3, 4, 5]]


def test_ten_thousand_points_draw_their_window_alone():
    app = WatchApp(FakeFeed(10_000))
    drawn = []
    drive(app, lambda: drawn.append(lines(app)), "end", lambda: drawn.append(lines(app)))
    assert "meter/p00000" in drawn[0][1]
    assert "p09999" in drawn[1][-1]


def test_q_ends_the_app():
    app = WatchApp(FakeFeed())
    drive(app, "q")
    assert not app.is_running
