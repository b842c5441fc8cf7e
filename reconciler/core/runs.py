"""The runs of scheduled jobs: which there are, which are due, and which are kept for their history.

Rule: each run is a worker of its own, whose index is its time in seconds since the epoch, so that it is never started
twice. Times are those of the wall clock. A time that was missed is made up for by its latest run alone, within the
starting deadline; while a job is suspended nothing is missed. The words are those of Kubernetes' CronJob.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import attrs

from reconciler.core import event
from reconciler.core.actual_set import ActualSet
from reconciler.core.event import Event
from reconciler.core.spec import Key, SetSpec, WorkerSet, WorkerSpec
from reconciler.core.worker import Phase

FORGIVEN = 3600.0
"""Seconds by which the wall clock may go back without a time being run twice; a clock that was wrong by more was wrong
before, and is believed now."""

MOST_RUNS = 100
"""How many runs of one job go on at the same time at most: a job that hangs must not fill the machine."""


class Calendar(Protocol):
    """What knows when a schedule is due: seconds since the epoch, None for never."""

    def next_after(self, expression: str, zone: str, when: float) -> float | None:
        """The first time after `when`."""

    def last_before(self, expression: str, zone: str, when: float) -> float | None:
        """The last time before `when`."""


@attrs.frozen
class Course:
    """How far a schedule has come. All times up to `dealt_with` are over; `due` is a run that waits to be started, and
    `next` the time to look again. `runs` are those that are wanted, and `asked` the last restart that was taken as the
    wish for a run. It is that of the `rule`: an expression and a time zone.
    """

    dealt_with: float
    rule: tuple[str, str]
    due: float | None = None
    next: float | None = None
    runs: Mapping[Key, WorkerSpec] = MappingProxyType({})
    asked: int = 0


def advance(
    course: Course, wanted: WorkerSet, known: ActualSet | None, calendar: Calendar, wall: float
) -> tuple[Course, list[Event]]:
    """The course at `wall`, and what there is to tell. `wanted` is the set without its runs."""
    spec = wanted.template
    if spec is None or spec.schedule is None:
        return course, []
    events: list[Event] = []
    rule = (spec.schedule, spec.time_zone)
    if course.rule != rule:  # what the new one would have asked for before is not made up for
        course = attrs.evolve(course, rule=rule, dealt_with=max(course.dealt_with, wall), due=None, next=None)
    if course.dealt_with > wall + FORGIVEN:
        course = attrs.evolve(course, dealt_with=wall, due=None, next=None)
    course = _trimmed(course, spec, known)
    if course.next is None or wall >= course.next:
        course, events = _looked(course, spec, calendar, wall)
    if spec.suspend or wanted.stopped:
        return attrs.evolve(course, due=None, runs=course.runs if spec.suspend else {}), []
    if course.due is not None and spec.starting_deadline is not None and wall > course.due + spec.starting_deadline:
        events.append(_skipped(spec, course.due, "StartingDeadlineExceeded"))
        course = attrs.evolve(course, due=None)
    if course.due is not None:
        course = _started(course, spec, known, events)
    return course, events


def asked_for(course: Course, wanted: WorkerSet, serial: int, wall: float) -> Course:
    """Somebody asked for a restart: that is a run now, whatever the schedule and others say."""
    spec = wanted.template
    if spec is None or serial <= course.asked:
        return course
    return attrs.evolve(_with_run(course, spec, wall), asked=serial)


def _looked(course: Course, spec: SetSpec, calendar: Calendar, wall: float) -> tuple[Course, list[Event]]:
    """What has become due; of several times the last one."""
    expression, zone = spec.schedule or "", spec.time_zone
    upcoming = calendar.next_after(expression, zone, max(wall, course.dealt_with))
    latest = calendar.last_before(expression, zone, wall + 0.001)
    if latest is None or latest <= course.dealt_with:
        return attrs.evolve(course, next=upcoming), []
    events = [_skipped(spec, course.due, "ConcurrencyForbidden")] if course.due is not None else []
    return attrs.evolve(course, dealt_with=latest, due=latest, next=upcoming), events


def _started(course: Course, spec: SetSpec, known: ActualSet | None, events: list[Event]) -> Course:
    """The course with the run that is due, if it may begin; what there is to tell is added to the events."""
    live = [key for key in course.runs if not _is_over(known, key)]
    if len(live) >= MOST_RUNS:
        events.append(_skipped(spec, course.due or 0.0, "TooManyRuns"))
        return attrs.evolve(course, due=None)
    if live and spec.concurrency == "forbid":
        return course
    if live and spec.concurrency == "replace":  # first they end, then the new one begins
        return attrs.evolve(course, runs={key: run for key, run in course.runs.items() if key not in live})
    if spec.concurrency == "replace" and known is not None and _lives(known):
        return course
    return attrs.evolve(_with_run(course, spec, course.due or 0.0), due=None)


def _with_run(course: Course, spec: SetSpec, when: float) -> Course:
    key = Key(spec.order, spec.name, int(when))
    command = spec.process
    return attrs.evolve(course, runs={**course.runs, key: WorkerSpec(key, command, command)})


def _trimmed(course: Course, spec: SetSpec, known: ActualSet | None) -> Course:
    """The course without the runs that are beyond the history."""
    if known is None:
        return course
    over = {phase: _in_phase(course.runs, known, phase) for phase in (Phase.SUCCEEDED, Phase.FAILED)}
    gone = {*_beyond(over[Phase.SUCCEEDED], spec.successful_history), *_beyond(over[Phase.FAILED], spec.failed_history)}
    if not gone:
        return course
    return attrs.evolve(course, runs={key: run for key, run in course.runs.items() if key not in gone})


def _beyond(runs: list[Key], kept: int) -> list[Key]:
    return sorted(runs)[: max(0, len(runs) - kept)]


def _in_phase(runs: Iterable[Key], known: ActualSet, phase: Phase) -> list[Key]:
    return [key for key in runs if key in known.by_key and known.by_key[key][-1].phase is phase]


def _is_over(known: ActualSet | None, key: Key) -> bool:
    """Whether a run has ended for good; one that is not known yet has not even begun."""
    workers: tuple[Any, ...] = () if known is None else known.by_key.get(key, ())
    return bool(workers) and workers[-1].phase in (Phase.SUCCEEDED, Phase.FAILED)


def _lives(known: ActualSet) -> bool:
    return any(worker.live for workers in known.by_key.values() for worker in workers)


def _skipped(spec: SetSpec, when: float, reason: str) -> Event:
    return Event(event.SCHEDULE_SKIPPED, name=spec.name, reason=reason, extra={"scheduled": int(when)})
