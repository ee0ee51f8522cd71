"""How values, times and tables print."""

from __future__ import annotations

import doctest
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpc import logs, names, supervisor
from cpc.commandline import output


@pytest.mark.parametrize("module", [output, names, supervisor])
def test_examples_in_the_documentation_are_true(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_times_keep_every_nanosecond(nanoseconds):
    text = output.rfc3339(nanoseconds)
    assert text is not None
    assert len(text) == 30
    assert int(text[20:29]) == nanoseconds % 10**9


@given(st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64), st.floats(), st.text(), st.binary()))
def test_every_value_is_valid_json(value):
    text = json.dumps(output.json_value(value), allow_nan=False)
    if isinstance(value, (bool, int, str)) or value is None:
        assert json.loads(text) == value


@given(st.text(), st.integers(min_value=2, max_value=40))
def test_a_fitted_text_takes_exactly_its_columns(text, columns):
    assert output.width(output.fit(text, columns)) == columns


@given(st.text())
def test_nothing_printed_can_move_the_cursor(text):
    assert output.printable(text).isprintable()


@given(st.text())
def test_a_log_event_is_one_line(text):
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (text,), None)
    assert len(logs._Line(traceback=False).format(record).split("\n")) == 1


def test_a_log_event_quotes_values_with_blanks(caplog):
    log = logging.getLogger("test.events")
    with caplog.at_level(logging.INFO, "test.events"):
        logs.event(log, logging.INFO, "ended", status="killed by SIGKILL", pid=1, none=None, empty="", mark="a=b")
    assert caplog.messages == ['ended status="killed by SIGKILL" pid=1 empty="" mark="a=b"']


def test_an_exception_is_named_in_its_line_also_without_a_traceback():
    try:
        raise ModuleNotFoundError("No module named 'x'")
    except ModuleNotFoundError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), (type(error), error, error.__traceback__))
    line = logs._Line(traceback=False).format(record)
    assert line.endswith("""ERROR x: failed error="ModuleNotFoundError: No module named 'x'\"""")
    assert logs._Line(traceback=True).format(record).startswith(line + "\nTraceback")


def test_a_long_text_widens_its_own_line_alone():
    made = output.table(["A", "B"], [("x", "1"), ("y" * 30, "2")], right=[1], widest={0: 4}).split("\n")
    assert made == ["A  B", "x  1", "y" * 30 + "  2"]
