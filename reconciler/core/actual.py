"""The workers that exist, and what must be known of each set without looking at all of its workers.

Rule: the state changes in four ways only: `want` (what is desired changed), `fold` (an observation), `elapse` (time)
and `commit` (a plan was decided). Each touches the keys it is about, marks them dirty for the next `reconcile`, and
returns its events. Everything else here, the tallies and the agenda of deadlines, follows from that, so that one exit
among ten thousand workers costs what it costs among ten.
"""

import heapq
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import attrs

from reconciler.core import backoff, dependencies, lifecycle, narrate, rollout
from reconciler.core.action import Action, Ask, BeginDrain, Forget, Kill, Start, Stop
from reconciler.core.actual_set import ActualSet
from reconciler.core.event import Event
from reconciler.core.observation import (
    DrainRequested,
    Elapsed,
    KillRequested,
    Lost,
    Observation,
    ProbeAsked,
    ResetAsked,
    Spawned,
    StopRequested,
)
from reconciler.core.remembered import Remembered
from reconciler.core.rollout import Progress
from reconciler.core.spec import WorkerSet
from reconciler.core.worker import History, Phase, Worker, changed


class Actual:
    """All workers of a controller. `run` begins every uid and differs between controllers. `dropped` counts the
    records that were let go, and what is `remembered` outlives the controller.
    """

    def __init__(self, run: str = "") -> None:
        self.run = run
        self.serial = 0
        self.sets: dict[str, ActualSet] = {}
        self.workers: dict[str, Worker] = {}
        self.strays: set[str] = set()
        self.dirty: set[str] = set()
        self.unconverged: set[str] = set()
        self.needers: dict[str, frozenset[str]] = {}
        self.hurried = False
        self.dropped = 0
        self.remembered = Remembered()
        self._stalled: list[str] = []
        self._regained: list[tuple[str, Any, str]] = []
        self._agenda: list[tuple[float, int, str, bool]] = []
        self._pushed = 0

    def uid(self, ahead: int) -> str:
        """The uid of the next incarnation but `ahead`."""
        return f"{self.run}{self.serial + ahead + 1}"

    def want(self, desired: Mapping[str, WorkerSet], now: float, removal: str = "Removed") -> list[Event]:
        """Take over what is desired. A set that is the same object as before costs nothing.

        `removal` is the reason that the workers of the sets which are gone are given. What a job has done is not done
        again.
        """
        events: list[Event] = []
        for name, wanted in desired.items():
            known = self.sets.get(name)
            if known is None:
                known = self.sets[name] = ActualSet(wanted, now)
                known.good = self.remembered.good.get(name)
                known.dirty.update(wanted.workers)
            elif not known.removed and (known.wanted is wanted or known.wanted == wanted):
                continue
            else:
                before = known.wanted
                known.want(wanted, now)
                events += self._adapt(known, before, now)
            if wanted.policy.job and not wanted.runs:
                events += self._recall(known, now)
            self.dirty.add(name)
        for name in [name for name in self.sets if name not in desired]:
            known = self.sets[name]
            if not known.removed:
                known.want(WorkerSet(name, {}, known.wanted.policy), now, removal)
                self.dirty.add(name)
        self._note_needs()
        return events

    def _recall(self, known: ActualSet, now: float) -> list[Event]:
        """The workers of a job that have done their work, and of which nothing else is known any more."""
        events, name, is_done = [], known.wanted.name, self.remembered.finished.is_done
        for key, wanted in known.wanted.workers.items():
            if key in known.by_key:
                continue
            spec = next((one for one in (wanted, known.meant(key)) if one and is_done(name, key, one.digest)), None)
            if spec is not None:
                worker = lifecycle.recalled(self.uid(0), name, spec, known.generation, now)
                self.serial += 1
                self.workers[worker.uid] = worker
                known.put(key, (worker,))
                events.append(narrate.recalled(worker))
        return events

    def take_stalled(self) -> Collection[str]:
        """The sets whose rollout stalled since the last time."""
        stalled, self._stalled = self._stalled, []
        return [name for name in stalled if name in self.sets]

    def take_regained(self) -> Collection[tuple[str, Any, str]]:
        """The workers that are to be restarted as what their set needs fell short and is there again: the set's name,
        the key, and the name of what it needs.
        """
        regained, self._regained = self._regained, []
        return regained

    def fold(self, observation: Observation, now: float) -> list[Event]:
        """Take in what was observed. A process that nobody knows is remembered as a stray, to be killed."""
        before = self.workers.get(observation.uid)
        if before is None:
            if isinstance(observation, Spawned):
                self.strays.add(observation.uid)
            return []
        known = self.sets[before.set_name]
        after = lifecycle.observe(before, observation, known.wanted.policy, now)
        if after is not before:
            if not after.live:
                after = changed(after, judged=known.generation)  # a later one is a new chance
                if after.phase is Phase.SUCCEEDED and known.wanted.policy.job and not known.wanted.runs:
                    self.remembered.finished.note(known.wanted.name, after.key, after.spec.digest)
            self._replace(known, before, after, now)
        return narrate.between(before, after, observation, now)

    def elapse(self, now: float) -> list[Event]:
        """Take in that it is `now`: what was due gets its turn."""
        events: list[Event] = []
        while self._agenda and self._agenda[0][0] <= now:
            _, _, name, is_set = heapq.heappop(self._agenda)
            if is_set:
                if name in self.sets:
                    self.dirty.add(name)
                continue
            worker = self.workers.get(name)
            due = None if worker is None else worker.wake_at
            if worker is not None and due is not None and due > now:
                self._schedule(due, name, is_set=False)
            elif worker is not None and due is not None:
                events += self.fold(Elapsed(name), now)
                self.sets[worker.set_name].dirty.add(worker.key)
                self.dirty.add(worker.set_name)
        return events

    def _adapt(self, known: ActualSet, before: WorkerSet, now: float) -> list[Event]:
        """Let an edit reach what exists: its place in the row, its probes, and waits that are shorter."""
        after = known.wanted
        events: list[Event] = []
        if _order(after) == _order(before) and after.policy == before.policy:
            return events
        for key, workers in list(known.by_key.items()):
            spec = after.workers.get(key)
            for worker in workers:
                current = spec is not None and worker.spec.digest == spec.digest
                adapted = lifecycle.adapted(worker, after.policy, now, current=current)
                if spec is not None:
                    adapted = changed(adapted, spec=attrs.evolve(worker.spec, key=spec.key))
                self._replace(known, worker, adapted, now)
                events += narrate.between(worker, adapted, Elapsed(worker.uid), now)
        return events

    def reset(self, name: str, keys: Collection[Any], now: float, *, anew: bool = False) -> list[Event]:
        """Forget the failures of these workers of a set, and give a stalled rollout its time anew. With `anew` those
        that succeeded run again, too.
        """
        events: list[Event] = []
        known = self.sets[name]
        for key in keys:
            for worker in known.by_key.get(key, ()):
                events += self.fold(ResetAsked(worker.uid, anew), now)
        if known.progress.stalled:
            known.progress = Progress(known.generation, now, announced=known.progress.announced)
            known.dirty.update(known.by_key)
        self.dirty.add(name)
        return events

    def relist(self, live: Collection[str], now: float) -> list[Event]:
        """Compare with the uids that the driver says are alive: whatever was lost on the way is found here."""
        events: list[Event] = []
        for worker in [worker for worker in self.workers.values() if worker.live and worker.uid not in live]:
            events += self.fold(Lost(worker.uid), now)
        self.strays.update(uid for uid in live if uid not in self.workers or not self.workers[uid].live)
        return events

    def hasten(self, now: float) -> list[Event]:
        """Let the deadlines of all that is stopping, and of all that will be, be now."""
        events: list[Event] = []
        self.hurried = True
        for name, known in self.sets.items():
            before = known.wanted
            at_once = attrs.evolve(before.policy.stop, timeout=0.0, drain=None)
            known.wanted = attrs.evolve(before, policy=attrs.evolve(before.policy, stop=at_once))
            events += self._adapt(known, before, now)
            known.dirty.update(known.by_key)
            self.dirty.add(name)
        return events + self.elapse(now)

    def commit(self, actions: Iterable[Action], now: float) -> list[Event]:
        """Take in what was decided, before it is asked of the driver.

        What was dirty has been looked at; what the actions change is looked at again.
        """
        events: list[Event] = []
        looked_at, self.dirty = self.dirty, set()
        for name in looked_at:
            self.sets[name].dirty.clear()
        for action in actions:
            if isinstance(action, Start):
                events.append(self._start(action, now))
            elif isinstance(action, Stop):
                asked = StopRequested(action.uid, action.signal, action.deadline, action.reason)
                events += self.fold(asked, now)
            elif isinstance(action, Ask):
                events += self.fold(ProbeAsked(action.uid, action.kind, action.deadline), now)
            elif isinstance(action, BeginDrain):
                drains = DrainRequested(action.uid, action.earliest, action.until, action.reason)
                events += self.fold(drains, now)
            elif isinstance(action, Kill):
                if action.uid in self.strays:
                    self.strays.discard(action.uid)
                    events.append(narrate.stray(action))
                events += self.fold(KillRequested(action.uid, action.reason), now)
            else:
                events += self._forget(action)
        events += self._advance(sorted(looked_at | self.dirty), now)
        return events

    def mark(self, actions: Iterable[Action]) -> None:
        """Look again, at the next reconcile, at the keys of actions that were decided and not committed."""
        for action in actions:
            self.sets[action.set_name].dirty.add(action.key)
            self.dirty.add(action.set_name)

    def wake_at(self) -> float | None:
        """The next deadline, without those that no longer matter."""
        agenda = self._agenda
        while agenda:
            when, _, name, is_set = agenda[0]
            if is_set:
                known = self.sets.get(name)
                if known is not None and known.due == when:
                    return when
            else:
                worker = self.workers.get(name)
                due = None if worker is None else worker.wake_at
                if due == when:
                    return when
                if due is not None and due > when:
                    self._pushed += 1
                    heapq.heapreplace(agenda, (due, self._pushed, name, False))
                    continue
            heapq.heappop(agenda)
        return None

    def _start(self, action: Start, now: float) -> Event:
        """A new incarnation takes the place of the ended ones of its key."""
        known = self.sets[action.set_name]
        kept, history, probes, served = [], History(), known.probes_of(action.spec), False
        for worker in known.by_key.get(action.key, ()):
            if worker.live:
                kept.append(worker)
            else:
                del self.workers[worker.uid]
                self.dropped += 1
                if worker.spec.digest == action.spec.digest and worker.phase in (Phase.BACKOFF, Phase.STOPPED):
                    restarts = worker.history.restarts + (worker.phase is Phase.BACKOFF)
                    history = History(worker.history.failures, restarts, worker.history.starts)
                    served = worker.served
        history = backoff.started(history, known.wanted.policy.restart.start_limit, now)
        if known.wanted.policy.job:
            self.remembered.finished.undo(action.set_name, action.key)
        begun = lifecycle.begin(action, known.generation, history, now, trial=known.is_rolling, probes=probes)
        begun = changed(begun, served=True) if served else begun
        self.serial += 1
        self.workers[begun.uid] = begun
        known.put(action.key, (*kept, begun))
        self._schedule(begun.deadline, begun.uid, is_set=False)
        self.dirty.add(action.set_name)
        return narrate.starting(begun, action.reason)

    def _forget(self, action: Forget) -> list[Event]:
        worker = self.workers.pop(action.uid)
        self.dropped += 1
        known = self.sets[action.set_name]
        known.put(action.key, tuple(other for other in known.by_key[action.key] if other.uid != action.uid))
        self.dirty.add(action.set_name)
        told = narrate.forgotten(worker, action.reason)
        return [] if told is None else [told]

    def _replace(self, known: ActualSet, before: Worker, after: Worker, now: float) -> None:
        self.workers[after.uid] = after
        key = after.key
        known.put(key, tuple(after if worker is before else worker for worker in known.by_key[key]))
        due, earlier = after.wake_at, before.wake_at
        # A later one is seen to when the earlier one comes, if that is still to come.
        if due is not None and (earlier is None or due < earlier or earlier <= now):
            self._schedule(due, after.uid, is_set=False)
        self.dirty.add(after.set_name)

    def _advance(self, names: Iterable[str], now: float) -> list[Event]:
        """The progress of these sets, and the end of those that are gone."""
        events: list[Event] = []
        for name in names:
            known = self.sets[name]
            known.trim()
            before, tally = known.progress, known.tally
            rules = known.wanted.policy.rollout
            self._note_waiting(known, now)
            known.progress = rollout.advance(known.progress, tally, rules, now, patient=known.is_patient)
            events += rollout.events(name, before, known.progress, tally)
            (self.unconverged.discard if tally.converged else self.unconverged.add)(name)
            due = known.due
            if due is not None and before is not known.progress:
                self._schedule(due, name, is_set=True)
            if known.progress.stalled != before.stalled:  # from now on ended workers come back otherwise
                known.dirty.update(known.by_key)
                self.dirty.add(name)
                self._stalled += [name] * known.progress.stalled
            self.remembered.note(known)
            if name in self.needers:
                self._tell_needers(name, known)
            if known.removed and not known.by_key:
                del self.sets[name]
                self.dirty.discard(name)
                if known.surplus_reason == "Removed":
                    self.remembered.forget(name)
                self._release(known)
        return events

    def _note_needs(self) -> None:
        """Who needs whom, of the sets that there are."""
        self.needers = dependencies.needers(self.sets)

    def _note_waiting(self, known: ActualSet, now: float) -> None:
        """Whether the set waits for others; what it waited does not count as time without progress."""
        waited = known.waiting
        known.waiting = next(dependencies.unmet(self.sets, known), None) is not None
        if waited and not known.waiting:
            known.progress = attrs.evolve(known.progress, since=now)

    def _tell_needers(self, name: str, known: ActualSet) -> None:
        """Those who need a set are looked at again when it has come further, or fallen back."""
        before, reached = known.reached, known.conditions()
        if reached == before:
            return
        gained, known.reached = reached & known.lost, reached
        known.lost |= before - reached
        known.lost -= reached
        for needer in self.needers[name]:
            other = self.sets[needer]
            if dependencies.restarts_with(other, name, known, gained):
                running = [key for key, workers in other.by_key.items() if any(one.live for one in workers)]
                self._regained += [(needer, key, name) for key in running]  # those that waited start anyway
            other.dirty.update(other.wanted.workers)
            self.dirty.add(needer)

    def _release(self, gone: ActualSet) -> None:
        """What was kept for a set that is gone may be stopped now."""
        for one in gone.wanted.policy.needed:
            other = self.sets.get(one.set)
            if other is not None:
                other.dirty.update(other.by_key)
                self.dirty.add(one.set)
        if gone.wanted.policy.needed:
            self._note_needs()

    def _schedule(self, when: float | None, name: str, *, is_set: bool) -> None:
        if when is not None:
            self._pushed += 1
            heapq.heappush(self._agenda, (when, self._pushed, name, is_set))


def _order(wanted: WorkerSet) -> int | None:
    return None if wanted.template is None else wanted.template.order
