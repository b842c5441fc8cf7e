"""What must be true of an engine's events: of each one beside those that came before it.

Rule: an event is judged at the moment it is published, by the events so far, the fake driver's truth and the policies
that were in force, and never by the state that it tells of.
"""

import attrs

from reconciler.core import event
from reconciler.core.backoff import START_ERROR_FLOOR
from reconciler.core.event import CATALOGUE, Event
from reconciler.core.spec import Backoff, StartLimit
from reconciler.engine import Engine
from reconciler.testing.driver import FakeDriver, Process
from reconciler.testing.invariants import require

_RUNNING = {event.WORKER_STARTED, event.WORKER_READY, event.WORKER_NOT_READY, event.WORKER_UNHEALTHY}
_ENDING = {event.WORKER_DRAINING, event.WORKER_DRAINED, event.WORKER_STOPPING, event.WORKER_KILLING}
_FIRST = {event.WORKER_STARTING}
_OVER = {event.WORKER_EXITED, event.WORKER_START_FAILED}
_PREDECESSORS = {
    event.WORKER_STARTED: _FIRST | _ENDING,
    event.WORKER_READY: {event.WORKER_STARTED, event.WORKER_NOT_READY},
    event.WORKER_NOT_READY: _RUNNING,
    event.WORKER_UNHEALTHY: _RUNNING - {event.WORKER_UNHEALTHY},
    event.WORKER_DRAINING: _RUNNING,
    event.WORKER_DRAINED: {event.WORKER_DRAINING},
    event.WORKER_STOPPING: _FIRST | _RUNNING | {event.WORKER_DRAINING, event.WORKER_DRAINED},
    event.WORKER_KILLING: _FIRST | _ENDING | {event.WORKER_STARTED},
    event.WORKER_EXITED: _FIRST | _RUNNING | _ENDING,
    event.WORKER_START_FAILED: _FIRST | _ENDING,
    event.WORKER_BACKOFF: _OVER,
    event.WORKER_SUCCEEDED: {event.WORKER_EXITED},
    event.WORKER_FAILED: _OVER,
    event.WORKER_STOPPED: _OVER | {event.WORKER_BACKOFF},
    event.WORKER_FORGOTTEN: {event.WORKER_SUCCEEDED, event.WORKER_FAILED},
}
"""The events of one incarnation: which may directly follow which."""

_LASTS = {
    "Restarted": _OVER | {event.WORKER_BACKOFF},
    "Resumed": {event.WORKER_STOPPED},
    "Retried": {event.WORKER_SUCCEEDED, event.WORKER_FAILED},
}
"""The last event of the predecessor, by the reason of a start."""


@attrs.define
class Life:
    """One incarnation as its events tell it.

    `asked` says that it was asked to end, but not because it was `ailing`; `failures` are those of its line since the
    history was clear, and `starts` those since the start limit changed; a successor is `due` at that time, infinity for
    never; `generation` is that of the set when it ended.
    """

    name: str
    key: str
    digest: object
    last: str = event.WORKER_STARTING
    began: bool = False
    asked: bool = False
    ailing: bool = False
    failures: int = 0
    limit: StartLimit | None = None
    starts: tuple[float, ...] = ()
    pid: int | None = None
    started_at: float | None = None
    due: float = 0.0
    generation: int = 0


class Stream:
    """The judge of all events that one engine publishes."""

    def __init__(self, engine: Engine, driver: FakeDriver) -> None:
        self.lives: dict[str, Life] = {}
        self._engine = engine
        self._driver = driver

    def asked(self, process: Process) -> None:
        """A start was asked of the driver."""
        require(process.uid not in self.lives, "used twice:", process.uid)
        self.lives[process.uid] = Life(process.set_name, str(process.spec.key), process.spec.digest)

    def take(self, told: Event, now: float) -> None:
        """Judge one more event."""
        kind = CATALOGUE[told.event]
        require(set(told.extra) <= set(kind.fields), "fields that are not in the catalogue:", told)
        require(told.reason is None or (told.reason.isalnum() and told.reason[0].isupper()), "no CamelCase:", told)
        if told.event == event.ROLLOUT_UNDONE:
            self._undo(told.name)
        if told.uid is None or told.key is None:
            return
        if told.reason == "Remembered" and told.uid not in self.lives:  # it did its work before
            digest = self._engine.actual.workers[told.uid].spec.digest
            generation = told.generation or 0
            self.lives[told.uid] = Life(
                told.name or "", told.key, digest, event.WORKER_SUCCEEDED, began=True, generation=generation
            )
            return
        life = self.lives.get(told.uid)
        require(life is not None, "an event before the start was asked for:", told)
        if life is not None:
            self._follow(life, told, now)

    def finish(self) -> None:
        """Every incarnation that has ended was said to have ended."""
        for uid, life in self.lives.items():
            if uid not in self._driver.processes:
                require(life.last not in _FIRST | _RUNNING | _ENDING, "ended and was not told:", uid, life)

    def _follow(self, life: Life, told: Event, now: float) -> None:
        if told.event == event.WORKER_STARTING:
            require(not life.began, "started twice:", told)
            life.began = True
            self._begin(life, told, now)
            return
        if told.event == event.WORKER_RESET:
            life.failures, life.starts = 0, ()
            if life.last not in _FIRST | _RUNNING:
                life.last, life.due = event.WORKER_BACKOFF, now
            return
        require(life.last in _PREDECESSORS[told.event], told.event, "after", life.last, ":", told)
        if told.event == event.WORKER_STARTED:
            require(life.pid is None, "has a process already:", told)
            life.pid, life.started_at = told.pid, now
        elif told.event == event.WORKER_UNHEALTHY:
            life.ailing = True
        elif told.event in _ENDING:
            life.asked = not life.ailing
        elif told.event in _OVER:
            require(told.uid not in self._driver.processes, "lives:", told)
            self._end(life, told, now)
        require(told.pid == life.pid, "another pid than", life.pid, ":", told)
        life.last = told.event

    def _begin(self, life: Life, told: Event, now: float) -> None:
        """A start that follows an end comes no sooner than the policy allows, if it comes at all."""
        known = self._engine.actual.sets.get(life.name)
        life.limit = None if known is None else known.wanted.policy.restart.start_limit
        if told.reason in _LASTS:
            line = [other for other in self.lives.values() if other is not life and _of_one_line(other, life)]
            before = [other for other in line if other.last in _LASTS[told.reason]]
            require(before, "has no predecessor:", told)
            if told.reason == "Retried":
                require(told.generation != before[-1].generation, "tries again what has ended for good:", told)
            else:
                edited = told.generation != before[-1].generation  # which may shorten a wait
                require(edited or now >= before[-1].due, "starts before", before[-1].due, ":", told)
                life.failures = before[-1].failures
                life.starts = before[-1].starts if before[-1].limit == life.limit else ()
        life.starts = (*life.starts, now)

    def _undo(self, name: str | None) -> None:
        """The set has gone to another generation within the turn: what ended before ended in the one before that."""
        for life in self.lives.values():
            if life.name == name and life.generation == self._engine.actual.sets[life.name].generation:
                life.generation -= 1

    def _end(self, life: Life, told: Event, now: float) -> None:
        known = self._engine.actual.sets.get(life.name)
        if life.asked or known is None:
            return
        life.generation = known.generation
        restart = known.wanted.policy.restart
        lived = 0.0 if life.started_at is None else now - life.started_at
        if told.event == event.WORKER_START_FAILED:
            life.failures += 1
            life.due = now + max(START_ERROR_FLOOR, _shortest(restart.backoff, life.failures + 1))
        else:
            life.failures = 1 if lived >= restart.backoff.reset_after else life.failures + 1
            life.due = now + _shortest(restart.backoff, life.failures)
        well = not life.ailing and told.extra.get("exit_code") in restart.success_exit_codes
        limit = restart.start_limit if restart.start_limit == life.limit else None
        exhausted = limit and sum(at > now - limit.interval for at in life.starts) >= limit.burst
        if exhausted or restart.policy == "never" or (well and restart.policy == "on_failure"):
            life.due = float("inf")


def _of_one_line(one: Life, other: Life) -> bool:
    return (one.name, one.key, one.digest) == (other.name, other.key, other.digest)


def _shortest(policy: Backoff, failures: int) -> float:
    """Seconds that must pass after so many failures, without jitter."""
    wait = 0.0
    for number in range(2, failures + 1):
        wait = policy.initial if number == 2 else wait * policy.factor  # noqa: PLR2004  the second failure waits first
        if wait >= policy.max:
            break
    return min(wait, policy.max)
