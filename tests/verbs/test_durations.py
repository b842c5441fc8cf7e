"""Lengths of time on the command line."""

import time

import click
import pytest

from reconciler.verbs.durations import Duration, ago


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("1.5", 1.5), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("500ms", 0.5)],
)
def test_lengths_of_time(text, seconds):
    """Numbers are seconds, and units are those of spec files."""
    assert Duration().convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "x", "-5", "10 m", "1h30", "m", "1e3", "nan", "99999999999h", "5s!"])
def test_what_is_no_length_of_time(text):
    """Anything else is refused."""
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


def test_ago():
    """A moment is counted back from now; no length is no moment."""
    assert time.time() - 61 < ago(60) <= time.time() - 60
    assert ago(None) is None
