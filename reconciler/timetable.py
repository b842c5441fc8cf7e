"""The schedules of all jobs: it adds to what is desired the runs that are due.

Rule: the steps are those of `core.runs`; here is only what must be kept between two turns, and what knows the calendar.
"""

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

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


@attrs.frozen
class Timing:
    """When the runs of a schedule are, in seconds since the epoch: the last one that began since this controller did or
    is kept, the next one, and one that is `due` and cannot begin yet. None where there is none.
    """

    last: float | None = None
    next: float | None = None
    due: float | None = None


class Timetable:
    """The courses of the schedules of one engine, by the names of their sets. `remembered` is how far each had come
    before this controller began: seconds since the epoch. Without a calendar it goes by cron.
    """

    def __init__(
        self, calendar: Calendar | None = None, remembered: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        self._calendar: Calendar = calendar or schedules
        self._remembered = dict(remembered)
        self._desired: Mapping[str, WorkerSet] = {}
        self._of: Mapping[str, WorkerSet] = {}
        self._courses: dict[str, Course] = {}
        self._filled: dict[str, WorkerSet] = {}
        self._last: dict[str, float] = {}

    def fill(
        self,
        wanted: Mapping[str, WorkerSet],
        overrides: Sequence[Override],
        sets: Mapping[str, ActualSet],
        wall: float,
    ) -> tuple[Mapping[str, WorkerSet], list[Event]]:
        """What is desired at `wall` (seconds since the epoch), with the runs, and what there is to tell.

        A set that has the same runs as before is the same object as before, and so is all of it.
        """
        before = dict(self._filled)
        filled, events = {}, []
        scheduled = [name for name, one in wanted.items() if one.runs]
        for name in scheduled:
            course, told = self._advanced(wanted[name], overrides, sets.get(name), wall)
            self._courses[name] = course
            if course.runs:
                self._last[name] = max(float(key.number) for key in course.runs)
            filled[name] = self._filled[name] = self._same(name, _with_runs(wanted[name], course))
            events += told
        for name in self._courses.keys() - set(scheduled):
            del self._courses[name], self._filled[name]
            self._last.pop(name, None)
            self._remembered.pop(name, None)
        if wanted is not self._of or any(before.get(name) is not one for name, one in filled.items()):
            self._of, self._desired = wanted, {**wanted, **filled}
        return self._desired, events

    @property
    def next_at(self) -> float | None:
        """When a run is due next, in seconds since the epoch."""
        return min((course.next for course in self._courses.values() if course.next is not None), default=None)

    def timing(self, name: str) -> Timing | None:
        """When the runs of a set are; None for one without a schedule. One that rests has no next run."""
        course, wanted = self._courses.get(name), self._filled.get(name)
        if course is None or wanted is None:
            return None
        rests = wanted.stopped or (wanted.template is not None and wanted.template.suspend)
        return Timing(self._last.get(name), None if rests else course.next, course.due)

    @property
    def dealt_with(self) -> Mapping[str, float]:
        """What the next controller must remember: how far each schedule has come, be its file bad at the moment."""
        return {**self._remembered, **{name: course.dealt_with for name, course in self._courses.items()}}

    def _advanced(
        self, wanted: WorkerSet, overrides: Sequence[Override], known: ActualSet | None, wall: float
    ) -> tuple[Course, list[Event]]:
        course = self._courses.get(wanted.name)
        if course is None:
            spec = wanted.template
            rule = ("", "") if spec is None else (spec.schedule or "", spec.time_zone)
            course = Course(self._remembered.get(wanted.name, wall), rule)
        stopped = {one.key for one in overrides if isinstance(one, StayDown) and one.set_name == wanted.name}
        if not stopped.isdisjoint(course.runs):  # those are over
            course = attrs.evolve(course, runs={key: run for key, run in course.runs.items() if key not in stopped})
        course, told = runs.advance(course, wanted, known, self._calendar, wall)
        asked = (one.serial for one in overrides if isinstance(one, RestartAsked) and one.set_name == wanted.name)
        return runs.asked_for(course, wanted, max(asked, default=0), wall), told

    def _same(self, name: str, wanted: WorkerSet) -> WorkerSet:
        before = self._filled.get(name)
        return before if before == wanted else wanted


def _with_runs(wanted: WorkerSet, course: Course) -> WorkerSet:
    return attrs.evolve(wanted, workers=dict(sorted(course.runs.items())), restarts=False, at_once=False)
