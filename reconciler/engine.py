"""One turn of the controller: gather what happened, fold it in, reconcile, execute, publish.

Rule: this file holds values and calls the edges; no decision on a worker is taken here. Time is an argument, nothing
waits, and the same turn runs in production and in the simulated world. An event is published after what it tells of was
asked of the driver, in the order in which it came about.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from reconciler.core import consequence, dependencies, event, narrate
from reconciler.core.action import Action, Ask, BeginDrain, Forget, Kill, Start, Stop
from reconciler.core.actual import Actual
from reconciler.core.event import Event
from reconciler.core.override import Override, RestartAsked, added, apply, replaced, step_of, still_meant, stopped_by
from reconciler.core.reconcile import reconcile
from reconciler.core.remembered import Memory, Remembered
from reconciler.core.spec import SetSpec, WorkerSet
from reconciler.drivers import Driver
from reconciler.sources import Source

if TYPE_CHECKING:
    from reconciler.core.runs import Calendar
    from reconciler.core.status import Snapshot, View
    from reconciler.timetable import Timetable, Timing

RELIST = 25.0
"""Seconds after which the driver's list of the living is compared, where no reading of the source came before."""

STARTS_PER_TURN = 256
"""How many workers are started before signals and exits get their turn again."""


class Engine:
    """The controller's state and its one verb, `turn`. `run` begins the uids of all workers of this engine's life.

    `readings` counts how often the source wanted something else. With `replace_all` an urgent reading that has an
    answer replaces every worker, whether it differs or not. `clock_offset` is what must be added to monotonic time to
    have that of the wall clock, in seconds since the epoch (None: as this machine has it), and
    `calendar` what knows when schedules are due, instead of cron.
    """

    def __init__(
        self, source: Source, driver: Driver, publish: Callable[[Sequence[Event]], None], run: str = ""
    ) -> None:
        self.source = source
        self.driver = driver
        self.actual = Actual(run)
        self.desired: Mapping[str, WorkerSet] = {}
        self.overrides: tuple[Override, ...] = ()
        self.stopping = False
        self.replace_all = False
        self._publish = publish
        self._sourced: Mapping[str, WorkerSet] | None = None
        self.readings = 0
        self._failed = False
        self._read_at: float | None = None
        self._relist_at = 0.0
        self._serial = 0
        self._converged = False
        self._wanted: Mapping[str, WorkerSet] = {}
        self._timetable: Timetable | None = None
        self._schedules: Mapping[str, float] = {}
        self.clock_offset: float | None = None
        self.calendar: Calendar | None = None

    def turn(self, now: float, *, read: bool = False, urgent: bool = False) -> float:
        """Do what there is to do at `now`, and return when to come again at the latest (seconds, monotonic).

        `read` asks for a look at the source (its bell rang); `urgent` for one that does not wait for files to settle.
        """
        events: list[Event] = []
        try:
            if not self.stopping and (read or urgent or (self._read_at is not None and now >= self._read_at)):
                events += self._read(now, urgent=urgent)
            more = self._settle(events, now)
            while not more and (self._follow(events, now) or self._keep_time(events, now)):
                more = self._settle(events, now)
        finally:
            self._publish(events)
        if more:
            return now
        wake_at = reconcile(self.desired, self.actual, now).wake_at
        times = (wake_at, self._read_at, self._relist_at, self.driver.wake_at(), self._next_run())
        return min(at for at in times if at is not None)

    def stop(self, now: float, signal: str | None = None) -> None:
        """Want nothing any more. Asked again, let every deadline be now. Takes effect with the next turn.

        Workers are asked to end by `signal` (its name without SIG), or else by the one of their policy.
        """
        if self.stopping:
            self._publish(self.actual.hasten(now))
            return
        self.stopping = True
        self._read_at = None
        self._publish([Event(event.CONTROLLER_STOPPING, extra={"workers": len(self.actual.workers)})])
        if signal is not None:
            self.actual.want({name: stopped_by(wanted, signal) for name, wanted in self.desired.items()}, now)
        self.desired = self._wanted = {}
        self.actual.want({}, now, "ControllerStopping")

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop and nothing is left."""
        return self.stopping and not self.actual.workers

    @property
    def settled(self) -> bool:
        """Whether nothing more will come about by itself: each set has converged, or has given up."""
        sets = self.actual.sets
        given_up = (dependencies.rests(sets, sets[name]) for name in self.actual.unconverged if name in sets)
        return (self._sourced is not None or self._failed) and all(given_up)

    def override(self, overrides: Sequence[Override], now: float) -> None:
        """Lay these overrides, and no others, over what the source desires. Takes effect with the next turn."""
        self.overrides = tuple(overrides)
        if self._sourced is not None and not self.stopping:
            self._publish(self._want(self._sourced, now))

    def step(self, step: int, now: float) -> bool:
        """So many workers more or fewer, where there is just one set that can be scaled; whether there is."""
        scale = step_of(self.desired, step)
        if scale is not None:
            self.override(added(self.overrides, scale), now)
            told = Event(event.CONTROLLER_SCALED, name=scale.set_name, extra={"replicas": scale.replicas})
            self._publish([told])
        return scale is not None

    def next_serial(self) -> int:
        """A number for a restart that is asked for; each is greater than all before."""
        self._serial += 1
        return self._serial

    def timing(self, name: str) -> "Timing | None":
        """When the runs of a scheduled set are; None for any other."""
        return None if self._timetable is None else self._timetable.timing(name)

    def reset(self, name: str, keys: Collection[Any], now: float, *, anew: bool = False) -> None:
        """Forget the failures of these workers of a set; with `anew` run those that succeeded again, too. Takes effect
        with the next turn.
        """
        self._publish(self.actual.reset(name, keys, now, anew=anew))

    @property
    def sourced(self) -> Mapping[str, WorkerSet]:
        """What the source wants, before any override."""
        return self._sourced or {}

    def signal(self, uid: str, signal: str) -> None:
        """Send a signal (its name without SIG) to a worker that runs."""
        self.driver.signal(uid, signal)
        self._publish([narrate.signalled(self.actual.workers[uid], signal)])

    def view(self) -> "View":
        """The state as it is now, to take a snapshot of."""
        from reconciler.core.status import View  # noqa: PLC0415  the first workers must not wait for it

        return View(self._sourced, self.overrides, self.desired, self.actual, self.stopping)

    def status(self) -> "Snapshot":
        """The state at this moment."""
        from reconciler.core.status import snapshot  # noqa: PLC0415  the first workers must not wait for it

        return snapshot(self.view())

    def _read(self, now: float, *, urgent: bool) -> list[Event]:
        reading, known = self.source.read(now, urgent=urgent), self._sourced
        self._read_at = reading.wake_at
        self._failed = any(told.event == event.SOURCE_FAILED for told in reading.events)
        wanted: list[Event] = []
        if reading.sets is not None:
            self.readings += 1
            if self.readings == 1 and not any(told.event == event.SPEC_REJECTED for told in reading.events):
                self.actual.remembered.forget_others(reading.sets)
            self.overrides = still_meant(self.overrides, self._sourced or {}, reading.sets)
            wanted = self._want(reading.sets, now)
        if self.replace_all and urgent and reading.answered and known is not None:
            self.override(replaced(self.overrides, self._sourced or {}, self.next_serial()), now)
        self._relist_at = now
        return [*map(self._with_generation, reading.events), *wanted]

    def _want(self, sets: Mapping[str, WorkerSet], now: float) -> list[Event]:
        self._sourced = sets
        self._converged = False
        self._wanted = apply(sets, self.overrides) if self.overrides else sets
        if self._timetable is None and any(wanted.runs for wanted in sets.values()):
            from reconciler.timetable import Timetable  # noqa: PLC0415  only where there are schedules

            self._timetable = Timetable(self.calendar, self._schedules)
        return self._desire(now)

    def _desire(self, now: float) -> list[Event]:
        """Let what is wanted be desired, with the runs that are due."""
        events: list[Event] = []
        self.desired = self._wanted
        if self._timetable is not None:
            wall = now + self._offset()
            self.desired, events = self._timetable.fill(self._wanted, self.overrides, self.actual.sets, wall)
        return events + self.actual.want(self.desired, now)

    def _keep_time(self, events: list[Event], now: float) -> bool:
        """Look whether runs are due, or over; whether anything is desired otherwise because of that."""
        if self._timetable is None or self.stopping:
            return False
        before = self.desired
        events += self._desire(now)
        return self.desired is not before

    def _next_run(self) -> float | None:
        next_at = None if self._timetable is None or self.stopping else self._timetable.next_at
        return None if next_at is None else next_at - self._offset()

    def _offset(self) -> float:
        if self.clock_offset is not None:
            return self.clock_offset
        from reconciler.timetable import clock_offset  # noqa: PLC0415  only where there are schedules

        return clock_offset()

    def _follow(self, events: list[Event], now: float) -> bool:
        """What follows from what happened, as if somebody had asked for it; whether anything does."""
        if self.stopping:
            return False
        laid: list[Override] = []
        for name in self.actual.take_stalled():
            back = consequence.rollback(self.actual.sets[name], self.sourced, self.overrides)
            if back is not None:
                laid.append(back)
                extra = {"replicas": self.actual.sets[name].tally.replicas}
                events.append(Event(event.ROLLOUT_UNDONE, name=name, reason="ProgressDeadlineExceeded", extra=extra))
        regained = self.actual.take_regained()
        if regained:
            serial = self.next_serial()
            laid += [RestartAsked(name, serial, key) for name, key, _ in regained]
            for name, need in dict.fromkeys((name, need) for name, _, need in regained):
                events.append(Event(event.DEPENDENCY_RESTARTED, name=name, reason="RestartWith", extra={"needs": need}))
        if laid:
            self.overrides = added(self.overrides, *laid)
            events += self._want(self.sourced, now)
        return bool(laid)

    @property
    def memory_serial(self) -> tuple[int, Mapping[str, float], Mapping[str, SetSpec]]:
        """What differs when there is something new to remember."""
        remembered = self.actual.remembered
        return remembered.finished.serial, self._dealt_with(), dict(remembered.good)

    @property
    def memory(self) -> Memory:
        """What the next controller should know."""
        remembered = self.actual.remembered
        return Memory(remembered.finished.all(), self._dealt_with(), dict(remembered.good))

    def recall(self, memory: Memory) -> None:
        """Take up what an earlier controller knew. To be called before the first turn."""
        self.actual.remembered = Remembered(memory)
        self._schedules = memory.schedules

    def _dealt_with(self) -> Mapping[str, float]:
        return self._schedules if self._timetable is None else self._timetable.dealt_with

    def _with_generation(self, told: Event) -> Event:
        known = None if told.name is None else self.actual.sets.get(told.name)
        return told if known is None else attrs.evolve(told, generation=known.generation)

    def _settle(self, events: list[Event], now: float) -> bool:
        """Fold and act until nothing is left to do at `now`; True where workers are left to be started."""
        self._fold(events, now)
        if now >= self._relist_at:
            events += self.actual.relist(self.driver.live(), now)
            self._relist_at = now + RELIST
        events += self.actual.elapse(now)
        started = 0
        while self.actual.dirty or self.actual.strays:
            actions = reconcile(self.desired, self.actual, now).actions
            starts = [action for action in actions if isinstance(action, Start)]
            later = starts[max(0, STARTS_PER_TURN - started) :]
            started += len(starts) - len(later)
            chosen = actions[: len(actions) - len(later)]
            events += self.actual.commit(chosen, now)
            self._converged = self._converged and all(isinstance(action, Ask | Forget) for action in chosen)
            for action in chosen:
                self._execute(action)
            self._fold(events, now)
            events += self.actual.elapse(now)
            if later:
                self.actual.mark(later)
                return True
        self._note_convergence(events)
        return False

    def _fold(self, events: list[Event], now: float) -> None:
        for observation in self.driver.poll():
            events += self.actual.fold(observation, now)

    def _execute(self, action: Action) -> None:
        if isinstance(action, Start):
            self.driver.start(action.uid, action.set_name, action.spec)
        elif isinstance(action, Stop):
            self.driver.stop(action.uid, action.signal)
        elif isinstance(action, Kill):
            self.driver.kill(action.uid)
        elif isinstance(action, Ask):
            self.driver.probe(action.uid, action.set_name, action.spec, action.kind, action.probe)
        elif isinstance(action, BeginDrain) and action.drain.command:
            self.driver.drain(action.uid, action.set_name, action.spec, action.drain)

    def _note_convergence(self, events: list[Event]) -> None:
        converged = self._sourced is not None and not self.actual.unconverged and not self.stopping
        if converged and not self._converged:
            events.append(Event(event.CONTROLLER_CONVERGED, extra={"workers": len(self.actual.workers)}))
        self._converged = converged
