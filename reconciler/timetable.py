"""The schedules of all jobs: it adds to what is desired the runs that are due.

Rule: the steps are those of `core.runs`; here is only what must be kept between two turns, and what knows the calendar.
"""

import time
from collections.abc import Iterable, Mapping, Sequence

import attrs

from reconciler import schedules
from reconciler.core import runs
from reconciler.core.actual_set import ActualSet
from reconciler.core.event import Event
from reconciler.core.override import Override, RestartAsked, StayDown
from reconciler.core.runs import Calendar, Course
from reconciler.core.spec import WorkerSet


def clock_offset() -> float:
    """What must be added to monotonic time to have that of the wall clock, in seconds since the epoch."""
    return time.time() - time.monotonic()


class Timetable:
    """The courses of the schedules of one engine, by the names of their sets. `remembered` is how far each had come
    before this controller began: seconds since the epoch. Without a calendar it goes by cron.
    """

    def __init__(self, calendar: Calendar | None = None) -> None:
        self._calendar: Calendar = calendar or schedules
        self.remembered: Mapping[str, float] = {}
        self._courses: dict[str, Course] = {}
        self._filled: dict[str, WorkerSet] = {}

    def fill(
        self,
        wanted: Mapping[str, WorkerSet],
        overrides: Sequence[Override],
        sets: Mapping[str, ActualSet],
        wall: float,
    ) -> tuple[Mapping[str, WorkerSet], list[Event]]:
        """What is desired at `wall` (seconds since the epoch), with the runs, and what there is to tell.

        A set that has the same runs as before is the same object as before.
        """
        filled, events = dict(wanted), []
        scheduled = [name for name, one in wanted.items() if one.runs]
        for name in scheduled:
            course, told = self._advanced(wanted[name], overrides, sets.get(name), wall)
            self._courses[name] = course
            filled[name] = self._filled[name] = self._same(name, _with_runs(wanted[name], overrides, course))
            events += told
        for name in self._courses.keys() - set(scheduled):
            del self._courses[name], self._filled[name]
        return filled, events

    @property
    def next_at(self) -> float | None:
        """When a run is due next, in seconds since the epoch."""
        return min((course.next for course in self._courses.values() if course.next is not None), default=None)

    @property
    def dealt_with(self) -> Mapping[str, float]:
        """What the next controller must remember: how far each schedule has come."""
        return {name: course.dealt_with for name, course in self._courses.items()}

    def _advanced(
        self, wanted: WorkerSet, overrides: Iterable[Override], known: ActualSet | None, wall: float
    ) -> tuple[Course, list[Event]]:
        course = self._courses.get(wanted.name)
        if course is None:
            spec = wanted.template
            rule = ("", "") if spec is None else (spec.schedule or "", spec.time_zone)
            course = Course(self.remembered.get(wanted.name, wall), rule)
        course, told = runs.advance(course, wanted, known, self._calendar, wall)
        asked = (one.serial for one in overrides if isinstance(one, RestartAsked) and one.set_name == wanted.name)
        return runs.asked_for(course, wanted, max(asked, default=0), wall), told

    def _same(self, name: str, wanted: WorkerSet) -> WorkerSet:
        before = self._filled.get(name)
        return before if before == wanted else wanted


def _with_runs(wanted: WorkerSet, overrides: Iterable[Override], course: Course) -> WorkerSet:
    down = {one.key for one in overrides if isinstance(one, StayDown) and one.set_name == wanted.name}
    keys = frozenset(key for key in course.runs if key in down)
    return attrs.evolve(
        wanted,
        workers={key: spec for key, spec in sorted(course.runs.items()) if key not in keys},
        down=keys,
        restarts=False,
        at_once=False,
    )
