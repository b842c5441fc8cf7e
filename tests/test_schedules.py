"""When a job is due: the next time and the last, in each zone."""

import os
import subprocess
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import schedules

ROME = "Europe/Rome"
DAY = 86400.0


def at(text: str, zone: str = ROME, fold: int = 0) -> float:
    """A wall-clock time of a zone in seconds since the epoch; `fold` is 1 for the second of two equal times."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def due(expression: str, after: float, count: int, zone: str = ROME) -> list[float]:
    """The next times."""
    times = []
    for _ in range(count):
        after = schedules.next_after(expression, zone, after)
        times.append(after)
    return times


def test_next_and_last() -> None:
    """The next time is after the moment and the last one before it, even where the moment is such a time itself."""
    noon = at("2026-11-23 12:00")
    assert schedules.next_after("*/5 * * * *", ROME, noon) == noon + 300
    assert schedules.last_before("*/5 * * * *", ROME, noon) == noon - 300
    assert schedules.next_after("*/5 * * * *", ROME, noon - 0.5) == noon
    assert schedules.last_before("*/5 * * * *", ROME, noon + 0.5) == noon
    assert schedules.next_after("0 0 1 1 *", "UTC", at("2026-01-01", "UTC")) == at("2027-01-01", "UTC")


def test_seconds() -> None:
    """A sixth field, the first, is for seconds."""
    noon = at("2026-11-23 12:00")
    assert due("*/20 * * * * *", noon, 3) == [noon + 20, noon + 40, noon + 60]


def test_zones() -> None:
    """The same expression is due at the same time of day in each zone."""
    moment = at("2026-07-01", "UTC")
    assert schedules.next_after("0 12 * * *", "UTC", moment) == at("2026-07-01 12:00", "UTC")
    assert schedules.next_after("0 12 * * *", ROME, moment) == at("2026-07-01 12:00")


def test_a_time_that_is_left_out() -> None:
    """When the clocks go forward a daily job of the hour that is left out runs as soon as they have."""
    assert due("30 2 * * *", at("2026-03-28 12:00"), 2) == [at("2026-03-29 03:00"), at("2026-03-30 02:30")]


def test_a_time_that_comes_twice() -> None:
    """When the clocks go back a daily job of the hour that comes twice runs once, the first time."""
    assert due("30 2 * * *", at("2026-10-24 12:00"), 2) == [at("2026-10-25 02:30"), at("2026-10-26 02:30")]
    assert schedules.next_after("30 2 * * *", ROME, at("2026-10-25 02:10", fold=1)) == at("2026-10-26 02:30")


def test_intervals_go_by_the_time_that_passes() -> None:
    """A job of every half hour is due every half hour, whatever the clocks do."""
    for day in ("2026-03-29", "2026-10-25"):
        start = at(day)
        assert due("*/30 * * * *", start, 10) == [start + 1800 * count for count in range(1, 11)]


@given(
    st.sampled_from(["*/5 * * * *", "30 2 * * *", "15 */3 * * *", "0 0 1 * MON", "45 1,2 * * *"]),
    st.sampled_from([ROME, "UTC", "local", "Australia/Lord_Howe"]),
    st.sampled_from(["2026-03-29", "2026-10-25", "2026-04-05", "2026-06-15"]),
    st.floats(-2 * DAY, 2 * DAY),
)
def test_strictly_after_and_before(expression: str, zone: str, day: str, offset: float) -> None:
    """The next time is always later and the last one earlier, and there is none between the moment and either."""
    moment = at(day, "UTC") + offset
    after = schedules.next_after(expression, zone, moment)
    before = schedules.last_before(expression, zone, moment)
    assert before < moment < after
    assert schedules.last_before(expression, zone, after + 0.5) == after
    assert schedules.next_after(expression, zone, before) in (moment, after)


@given(st.text("0123456789*/,-#LW MONJA", max_size=40) | st.text(max_size=60), st.sampled_from(["UTC", ROME]))
def test_whatever_is_written(expression: str, zone: str) -> None:
    """Whatever an expression says, it is a schedule or is refused with the form that is expected."""
    wrong = schedules.problem(expression, zone)
    if wrong is None:
        assert schedules.next_after(expression, zone, 0.0) > 0
    else:
        assert "expected minute" in wrong or "never comes" in wrong


@pytest.mark.parametrize("zone", ["Mars", "Europe", "", "../x", "/etc/passwd", "a\0", "europe/rome\n", "x" * 300])
def test_unknown_zones(zone: str) -> None:
    """What is no time zone is refused with the remedy."""
    assert 'write one like "Europe/Rome", "UTC", or "local"' in schedules.problem("* * * * *", zone)


LOCAL = """
from reconciler import schedules
for start in (1774650000.0, 1792790000.0):
    for expression in ("30 2 * * *", "*/30 * * * *", "30 * * * *"):
        moments = [start + 701.0 * count for count in range(300)]
        for look in (schedules.next_after, schedules.last_before):
            assert [look(expression, "local", at) for at in moments] == [look(expression, ZONE, at) for at in moments]
"""


def test_local_is_the_machines_zone() -> None:
    """The zone "local" is that of the machine, with its changes of the clocks."""
    environment = {**os.environ, "TZ": ROME}
    program = LOCAL.replace("ZONE", repr(ROME))
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0


def test_no_import_without_a_schedule() -> None:
    """A file without a schedule imports neither the library nor time zones."""
    program = (
        "import sys; from reconciler.sources.loading import load; load('a', 'a.json', b'{\"command\": \"true\"}', '/');"
        "assert not {'cronsim', 'zoneinfo', 'reconciler.schedules'} & sys.modules.keys()"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
