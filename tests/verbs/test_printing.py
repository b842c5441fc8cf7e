"""How verbs print: tables, colours, data and lengths of time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from reconciler.verbs.printing import (
    Cell,
    Column,
    Screen,
    Sheet,
    as_yaml,
    cut,
    duration,
    painted,
    shown,
    size,
    wrapped,
)

COLUMNS = (
    Column("KEY", lambda row: row["key"]),
    Column("PHASE", lambda row: Cell(row["phase"], "red")),
    Column("UID", lambda row: "7", wide=True),
)

ROWS = [{"key": "payments-10", "phase": "CrashLoopBackOff (next try in 12s)"}, {"key": "web-0", "phase": "Running"}]


def bare(line):
    """A line without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


@pytest.mark.parametrize("width", [24, 30, 47, 80])
def test_a_table_fits_its_terminal(width):
    """No line is longer than the terminal is wide, and the first column is never cut."""
    lines = Sheet("table", COLUMNS).lines(ROWS, Screen(colours=True, width=width))

    assert max(len(bare(line)) for line in lines) <= width
    assert [bare(line).split()[0] for line in lines] == ["KEY", "payments-10", "web-0"]


def test_a_wide_table_shows_all():
    """A table is as wide as it needs to be in a pipe, and with `wide` on any screen; that has more columns."""
    pipe = Sheet("table", COLUMNS).lines(ROWS, Screen())
    wide = Sheet("wide", COLUMNS).lines(ROWS, Screen(width=20))

    assert pipe[1] == "payments-10  CrashLoopBackOff (next try in 12s)"
    assert wide[1] == "payments-10  CrashLoopBackOff (next try in 12s)  7"


def test_colours_are_only_where_they_are_wanted():
    """Without colours there is no escape in a table."""
    assert "\x1b" not in "".join(Sheet("table", COLUMNS).lines(ROWS, Screen(width=80)))
    assert "\x1b[31mRunning\x1b[0m" in Sheet("table", COLUMNS).lines(ROWS, Screen(colours=True))[2]


def test_a_sheet_keeps_its_columns():
    """Lines that are added to a table stand in the columns that it had."""
    sheet = Sheet("table", COLUMNS)
    first = sheet.lines(ROWS[:1], Screen())
    (second,) = sheet.lines(ROWS[1:], Screen(), head=False)

    assert first[1].index("Crash") == second.index("Running")


@given(st.text())
def test_nothing_shown_can_command_a_terminal(text):
    """Whatever a text has in it, it is shown as one line of printable characters."""
    assert shown(text).isprintable()
    assert text.isprintable() <= (shown(text) == text)


@given(st.text("abc", max_size=20), st.text("xyz", max_size=20), st.integers(1, 30))
def test_a_cut_line_has_its_width(plain, coloured, width):
    """A line is cut to the width, in which colours take no place and end where they were to end."""
    line = cut(plain + painted(coloured, "red", True), width)

    assert bare(line) == cut(plain + coloured, width)
    assert len(bare(line)) <= width
    assert line.count("\x1b[31m") == line.count("\x1b[0m")


@given(st.lists(st.text("abc=", min_size=1, max_size=30)), st.integers(10, 60))
def test_a_wrapped_text_loses_nothing(words, width):
    """A text is broken between words only, and all of it is there."""
    lines = list(wrapped("head", " ".join(words), width, 2))

    assert " ".join(lines).split() == ["head", *words]
    assert all(len(line) <= width or len(line.split()) <= 2 for line in lines)


def test_yaml_says_what_json_says():
    """YAML keeps the order of the members and the values, texts that look like something else included."""
    value = {"b": "1", "a": ["null", None, 1.5, "é\x1b[31m"], "c": {"x": "true", "y": []}}
    text = as_yaml(value)

    assert text.isascii()
    assert "\x1b" not in text
    assert YAML(typ="safe", pure=True).load(text) == value
    assert text.index("b:") < text.index("a:")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m"), (125, "2m5s"), (3600, "1h"), (3605, "1h"), (788400, "9d3h")],
)
def test_durations(seconds, text):
    """A length of time is shown in its two largest units."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0K"), (4096, "4K"), (1 << 20, "1.0M"), (38 << 20, "38M"), (1000 << 20, "1.0G"), (5 << 40, "5.0T")],
)
def test_sizes(count, text):
    """Memory is shown in the unit that fits."""
    assert size(count) == text
