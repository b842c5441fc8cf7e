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

from reconciler.core import backoff, lifecycle, narrate, rollout
from reconciler.core.action import Action, Forget, Kill, Start, Stop
from reconciler.core.event import Event
from reconciler.core.observation import Elapsed, KillRequested, Lost, Observation, ResetAsked, Spawned, StopRequested
from reconciler.core.rollout import Progress, Tally
from reconciler.core.spec import WorkerSet
from reconciler.core.worker import History, Phase, Worker

_NO_FACTS = (0,) * 8
_OUTDATED = 2  # the place of `Tally.outdated` among the facts of a key


class ActualSet:
    """The workers of one set by key, oldest incarnation first, with the running totals of `Tally`."""

    __slots__ = (
        "by_key",
        "dirty",
        "facts",
        "generation",
        "progress",
        "queue",
        "removed",
        "surplus_reason",
        "totals",
        "wanted",
    )

    def __init__(self, wanted: WorkerSet, now: float) -> None:
        self.wanted = wanted
        self.removed = False
        self.surplus_reason = "Removed"
        self.generation = 1
        self.by_key: dict[Any, tuple[Worker, ...]] = {}
        self.facts: dict[Any, tuple[int, ...]] = {}
        self.totals = list(_NO_FACTS)
        self.dirty: set[Any] = set()
        self.queue: list[Any] = []
        self.progress = Progress(1, now)

    @property
    def tally(self) -> Tally:
        """The set's workers, counted."""
        return Tally(len(self.wanted.workers), *self.totals)

    @property
    def rests(self) -> bool:
        """Whether nothing more will be done of itself while all stays as it is."""
        if self.progress.stalled or self.tally.failed or rollout.is_reached(self.tally, self.wanted.policy.rollout):
            return True
        return self.wanted.paused and all(
            len(workers) == 1 and (workers[0].ready or workers[0].phase in (Phase.SUCCEEDED, Phase.FAILED))
            for workers in self.by_key.values()
        )

    @property
    def due(self) -> float | None:
        """When it counts as stalled, unless there is progress before; a paused rollout never does."""
        return None if self.wanted.paused else self.progress.deadline(self.wanted.policy.rollout)

    def want(self, wanted: WorkerSet, now: float, surplus_reason: str | None = None) -> None:
        """Another spec is wanted: everything of the set is looked at again.

        `surplus_reason` says that the set is gone altogether, and why.
        """
        self.wanted = wanted
        self.removed = surplus_reason is not None
        suspended = wanted.template is not None and wanted.template.suspend
        self.surplus_reason = surplus_reason or ("Suspended" if suspended else "ScaledDown")
        self.generation += 1
        unfinished = self.progress.announced and not self.progress.done
        self.progress = Progress(self.generation, now, announced=unfinished)
        self.dirty.update(wanted.workers, self.by_key)
        for key in self.dirty:
            self.count(key)
        self.queue = sorted(key for key in wanted.workers if self.outdated(key))

    def put(self, key: Any, workers: tuple[Worker, ...]) -> None:
        """Replace the incarnations of a key."""
        if workers:
            self.by_key[key] = workers
        else:
            self.by_key.pop(key, None)
        self.dirty.add(key)
        self.count(key)

    def outdated(self, key: Any) -> bool:
        """Whether a wanted key still has a live incarnation of another digest."""
        facts = self.facts.get(key)
        return facts is not None and facts[_OUTDATED] > 0

    def count(self, key: Any) -> None:
        """Bring the totals up to date with one key.

        When the last outdated worker of a set that is recreated has gone, all of its keys may start.
        """
        before = self.facts.get(key, _NO_FACTS)
        after = self._facts_of(key)
        if after == before:
            return
        totals = self.totals
        for position, (old, new) in enumerate(zip(before, after, strict=True)):
            totals[position] += new - old
        if after == _NO_FACTS:
            self.facts.pop(key, None)
        else:
            self.facts[key] = after
        if before[_OUTDATED] and not totals[_OUTDATED] and self.wanted.policy.rollout.strategy == "recreate":
            self.dirty.update(self.wanted.workers)

    def _facts_of(self, key: Any) -> tuple[int, ...]:
        """What the key adds to each field of `Tally` after the first."""
        workers = self.by_key.get(key, ())
        wanted = self.wanted.workers.get(key)
        if wanted is None:
            return (0, 0, 0, 0, 1, 0, 0, 0) if workers else _NO_FACTS
        available = updated = outdated = failed = completed = 0
        for worker in workers:
            current = worker.spec is wanted or worker.spec.digest == wanted.digest
            if worker.phase is Phase.RUNNING and worker.ready:
                available = 1
                updated |= current
            elif current and worker.phase is Phase.SUCCEEDED:
                updated = completed = 1
            elif current and worker.phase is Phase.FAILED:
                failed = 1
            if not current and worker.live:
                outdated += 1
        settled = int(updated and not outdated and len(workers) == 1)
        completed = int(completed and not available)
        return (available, int(updated), outdated, int(len(workers) > 1), 0, settled, failed, completed)

    def trim(self) -> None:
        """Drop the end of the queue of outdated keys that is done with."""
        while self.queue and not self.outdated(self.queue[-1]):
            self.queue.pop()


class Actual:
    """All workers of a controller. `run` begins every uid and differs between controllers."""

    def __init__(self, run: str = "") -> None:
        self.run = run
        self.serial = 0
        self.sets: dict[str, ActualSet] = {}
        self.workers: dict[str, Worker] = {}
        self.strays: set[str] = set()
        self.dirty: set[str] = set()
        self.unconverged: set[str] = set()
        self._agenda: list[tuple[float, int, str, bool]] = []
        self._pushed = 0

    def uid(self, ahead: int) -> str:
        """The uid of the next incarnation but `ahead`."""
        return f"{self.run}{self.serial + ahead + 1}"

    def want(self, desired: Mapping[str, WorkerSet], now: float, removal: str = "Removed") -> None:
        """Take over what is desired. A set that is the same object as before costs nothing.

        `removal` is the reason that the workers of the sets which are gone are given.
        """
        for name, wanted in desired.items():
            known = self.sets.get(name)
            if known is None:
                known = self.sets[name] = ActualSet(wanted, now)
                known.dirty.update(wanted.workers)
            elif not known.removed and (known.wanted is wanted or known.wanted == wanted):
                continue
            else:
                before = known.wanted
                known.want(wanted, now)
                self._adapt(known, before)
            self.dirty.add(name)
        for name in [name for name in self.sets if name not in desired]:
            known = self.sets[name]
            if not known.removed:
                known.want(WorkerSet(name, {}, known.wanted.policy), now, removal)
                self.dirty.add(name)

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
                after = attrs.evolve(after, judged=known.generation)  # a later one is a new chance
            self._replace(known, before, after)
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
            if worker is not None and worker.deadline is not None and worker.deadline <= now:
                events += self.fold(Elapsed(name), now)
                self.sets[worker.set_name].dirty.add(worker.key)
                self.dirty.add(worker.set_name)
        return events

    def _adapt(self, known: ActualSet, before: WorkerSet) -> None:
        """Let an edit reach what exists: its place in the row, when it counts as ready, and waits that are shorter."""
        after = known.wanted
        if _order(after) == _order(before) and after.policy == before.policy:
            return
        for key, workers in list(known.by_key.items()):
            spec = after.workers.get(key)
            for worker in workers:
                adapted = attrs.evolve(worker, deadline=lifecycle.deadline_under(worker, after.policy))
                if spec is not None:
                    adapted = attrs.evolve(adapted, spec=attrs.evolve(worker.spec, key=spec.key))
                self._replace(known, worker, adapted)

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
        for known in self.sets.values():
            before = known.wanted
            at_once = attrs.evolve(before.policy.stop, timeout=0.0)
            known.wanted = attrs.evolve(before, policy=attrs.evolve(before.policy, stop=at_once))
            self._adapt(known, before)
        return self.elapse(now)

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
                if worker is not None and worker.deadline == when:
                    return when
            heapq.heappop(agenda)
        return None

    def _start(self, action: Start, now: float) -> Event:
        """A new incarnation takes the place of the ended ones of its key."""
        known = self.sets[action.set_name]
        kept, history = [], History()
        for worker in known.by_key.get(action.key, ()):
            if worker.live:
                kept.append(worker)
            else:
                del self.workers[worker.uid]
                if worker.spec.digest == action.spec.digest and worker.phase in (Phase.BACKOFF, Phase.STOPPED):
                    restarts = worker.history.restarts + (worker.phase is Phase.BACKOFF)
                    history = attrs.evolve(worker.history, restarts=restarts)
        history = backoff.started(history, known.wanted.policy.restart.start_limit, now)
        begun = lifecycle.begin(action, known.generation, history, now)
        self.serial += 1
        self.workers[begun.uid] = begun
        known.put(action.key, (*kept, begun))
        self._schedule(begun.deadline, begun.uid, is_set=False)
        self.dirty.add(action.set_name)
        return narrate.starting(begun, action.reason)

    def _forget(self, action: Forget) -> list[Event]:
        worker = self.workers.pop(action.uid)
        known = self.sets[action.set_name]
        known.put(action.key, tuple(other for other in known.by_key[action.key] if other.uid != action.uid))
        self.dirty.add(action.set_name)
        told = narrate.forgotten(worker, action.reason)
        return [] if told is None else [told]

    def _replace(self, known: ActualSet, before: Worker, after: Worker) -> None:
        self.workers[after.uid] = after
        key = after.key
        known.put(key, tuple(after if worker is before else worker for worker in known.by_key[key]))
        if after.deadline is not None and after.deadline != before.deadline:
            self._schedule(after.deadline, after.uid, is_set=False)
        self.dirty.add(after.set_name)

    def _advance(self, names: Iterable[str], now: float) -> list[Event]:
        """The progress of these sets, and the end of those that are gone."""
        events: list[Event] = []
        for name in names:
            known = self.sets[name]
            known.trim()
            before, tally = known.progress, known.tally
            rules = known.wanted.policy.rollout
            known.progress = rollout.advance(before, tally, rules, now, paused=known.wanted.paused)
            events += rollout.events(name, before, known.progress, tally)
            (self.unconverged.discard if tally.converged else self.unconverged.add)(name)
            due = known.due
            if due is not None and before is not known.progress:
                self._schedule(due, name, is_set=True)
            if before.stalled and not known.progress.stalled:
                self.dirty.add(name)
            if known.removed and not known.by_key:
                del self.sets[name]
                self.dirty.discard(name)
        return events

    def _schedule(self, when: float | None, name: str, *, is_set: bool) -> None:
        if when is not None:
            self._pushed += 1
            heapq.heappush(self._agenda, (when, self._pushed, name, is_set))


def _order(wanted: WorkerSet) -> int | None:
    return None if wanted.template is None else wanted.template.order
