"""When a job is due: cron expressions in a time zone, as seconds since the epoch.

Rule: pure but for the time zones of the machine. The library is imported where a schedule is, and nowhere else.

Daylight saving is as cron has it. A job of a fixed time (neither minute nor hour begins with a star) runs once on a day
on which its time comes twice, the first time; where its time is left out it runs as soon as the clock goes on. All
other jobs go by the time that passes: every quarter of an hour is so on these days, too.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cronsim import CronSim

MISSING = 'schedules need the library cronsim, which is not installed: pip install "worker-reconciler[cron]"'

LONGEST = 500
"""How many characters an expression may have."""

_REMEMBERED = 1024
_ROUNDING = 0.001  # seconds; a datetime has whole microseconds, which must not hide a time that is due
_FORM = 'expected minute, hour, day of the month, month and day of the week, like "*/5 * * * *"'


def problem(expression: str, zone: str) -> str | None:
    """What is wrong with a schedule, with the remedy, or None. Five fields, or six with the seconds first."""
    if wrong := zone_problem(zone):
        return wrong
    try:
        from cronsim import CronSimError  # noqa: PLC0415  see the top of the file
    except ImportError:
        return MISSING
    if len(expression) > LONGEST:
        return f"longer than {LONGEST} characters; {_FORM}"
    try:
        when = next_after(expression, zone, 0.0)
    except (CronSimError, ValueError) as error:
        what = str(error) if isinstance(error, CronSimError) else "Bad number"
        return f"{expression!r} is no schedule: {what[0].lower()}{what[1:]}; {_FORM}"
    return f"{expression!r} never comes; choose a day that there is" if when is None else None


def zone_problem(zone: str) -> str | None:
    """What is wrong with the name of a time zone, with the remedy, or None."""
    try:
        _zone(zone)
    except (KeyError, ValueError, OSError):
        return f'this machine knows no time zone {zone[:60]!r}; write one like "Europe/Rome", "UTC", or "local"'
    return None


@lru_cache(_REMEMBERED)
def next_after(expression: str, zone: str, when: float) -> float | None:
    """The first time after `when` at which it is due; both in seconds since the epoch. None if it never is again.

    Raises ValueError or the library's error for what `problem` refuses.
    """
    times = _parsed(expression, _moment(when - _ROUNDING, zone))
    return next((due for due in _dues(times) if due > when), None)


@lru_cache(_REMEMBERED)
def last_before(expression: str, zone: str, when: float) -> float | None:
    """The last time before `when` at which it was due; likewise."""
    times = _parsed(expression, _moment(when + _ROUNDING, zone), reverse=True)
    return next((due for due in _dues(times) if due < when), None)


def _moment(when: float, zone: str) -> datetime:
    return datetime.fromtimestamp(when, UTC).astimezone(_zone(zone))


def _parsed(expression: str, moment: datetime, *, reverse: bool = False) -> "CronSim":
    from cronsim import CronSim  # noqa: PLC0415  see the top of the file

    return CronSim(expression, moment, reverse=reverse)


def _dues(times: "CronSim") -> Iterator[float]:
    return (time.timestamp() for time in times)


@lru_cache(_REMEMBERED)
def _zone(name: str) -> tzinfo:
    """A time zone by its name. Raises KeyError, ValueError or OSError where there is none."""
    if name == "UTC":
        return UTC
    if name == "local":
        return _Local()
    from zoneinfo import ZoneInfo  # noqa: PLC0415  few schedules have one

    return ZoneInfo(name)


class _Local(tzinfo):
    """The machine's own time zone, on each day as it is then."""

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        if when is None:
            return None
        naive = when.replace(tzinfo=None)
        return naive - datetime.fromtimestamp(naive.timestamp(), UTC).replace(tzinfo=None, fold=naive.fold)

    def dst(self, when: datetime | None) -> timedelta | None:  # noqa: ARG002  nobody asks how it is made up
        return None

    def tzname(self, when: datetime | None) -> str:  # noqa: ARG002
        return "local"

    def fromutc(self, when: datetime) -> datetime:
        return datetime.fromtimestamp(when.replace(tzinfo=UTC).timestamp()).replace(tzinfo=self)  # noqa: DTZ006
