"""What must be true of an engine's state at every moment, whatever the world does.

Rule: each check derives its answer anew, from the state and from the fake driver's truth, by other means than the code
that it checks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from reconciler.core import dependencies
from reconciler.core.action import Action, BeginDrain, Start, Stop
from reconciler.core.actual import Actual
from reconciler.core.actual_set import ActualSet
from reconciler.core.event import Event
from reconciler.core.reconcile import reconcile
from reconciler.core.rollout import Tally
from reconciler.core.spec import WorkerSet, WorkerSpec, is_same_version
from reconciler.core.worker import Phase, Worker
from reconciler.engine import Engine
from reconciler.testing.driver import FakeDriver, Process

_COUNTED = tuple(field.name for field in attrs.fields(Tally))[1:]


class BrokenError(AssertionError):
    """An invariant does not hold."""


def require(holds: object, *what: object) -> None:
    """Raise `BrokenError` with these words if `holds` is false."""
    if not holds:
        raise BrokenError(" ".join(str(word) for word in what))


class WatchedActual(Actual):
    """Actual state that shows each plan to its judge before taking it in."""

    def __init__(self, run: str, invariants: "Invariants") -> None:
        super().__init__(run)
        self._invariants = invariants

    def commit(self, actions: Sequence[Action], now: float) -> list[Event]:  # type: ignore[override]
        """See `Actual`."""
        self._invariants.judge_plan(actions)
        return super().commit(actions, now)


class Invariants:
    """The judge of one engine that acts on one fake driver. `everywhere` has, by the names of sets, the digest of what
    last ran on all of their workers, and may come from the judge of an earlier engine.
    """

    def __init__(self, engine: Engine, driver: FakeDriver, everywhere: dict[str, Any]) -> None:
        self._engine = engine
        self._driver = driver
        self._started_at: dict[str, float] = {}
        self._surge_allowed_at: dict[str, float] = {}
        self._seen: Mapping[str, WorkerSet] = {}
        self._stalled: set[str] = set()  # when the plan was made
        self._row: dict[tuple[str, Any], Any] = {}
        self._digests: dict[tuple[str, Any], list[Any]] = {}
        self._everywhere = everywhere
        engine.actual = WatchedActual(engine.actual.run, self)

    # ------------------------------------------------------------------------------------------- plans

    def judge_plan(self, actions: Sequence[Action]) -> None:
        """Starts in key order, stops in reverse, nothing started that is not wanted, and the budget kept."""
        if self._seen is not self._engine.desired:
            self._seen = self._engine.desired
            self._row |= {(name, key): key for name, wanted in self._seen.items() for key in wanted.workers}
        self._stalled = {name for name, known in self._engine.actual.sets.items() if known.progress.stalled}
        starts = [self._place(action) for action in actions if isinstance(action, Start)]
        stops = [self._place(action) for action in actions if isinstance(action, Stop | BeginDrain)]
        require(starts == sorted(starts), "starts out of order:", starts)
        require(stops == sorted(stops, reverse=True), "stops out of order:", stops)
        lost: dict[str, int] = {}
        for action in actions:
            if isinstance(action, Start):
                require(self._may_start(action.set_name, action.spec), "not wanted:", action)
                known = self._engine.actual.sets[action.set_name]
                recreates = known.wanted.policy.rollout.strategy == "recreate" and not known.wanted.paused
                waits = recreates and recount(known).outdated
                require(not waits, "does not wait for all outdated ones to end:", action)
            elif isinstance(action, Stop | BeginDrain) and self._takes_away(action):
                lost[action.set_name] = lost.get(action.set_name, 0) + 1
        for name, number in lost.items():
            self._judge_budget(name, number)
        self._judge_breathless([one for one in actions if isinstance(one, Stop | BeginDrain)])

    def _place(self, action: Start | Stop | BeginDrain) -> Any:
        """The worker's key as it was last wanted: an edit may have moved it to another place in the row."""
        return self._row[action.set_name, action.key]

    def _takes_away(self, stop: Stop | BeginDrain) -> bool:
        """Whether a wanted worker no longer serves because of this stop."""
        worker = self._engine.actual.workers[stop.uid]
        spec = self._wanted(stop.set_name, stop.key)
        if spec is None or not worker.ready or worker.health.ailment is not None:
            return False
        known = self._engine.actual.sets[stop.set_name]
        others = known.by_key[stop.key]
        asked = stop.reason == "RestartAsked"
        require(stop.key not in known.held or len(others) > 1 or asked, "is held by the partition:", stop)
        spec = known.meant(stop.key) or spec
        done = Phase.SUCCEEDED
        if any(o.ready or (o.phase is done and o.spec.digest == spec.digest) for o in others if o is not worker):
            return False
        require(worker.spec.digest != spec.digest, "stops what is wanted and serves:", stop)
        return True

    def _judge_budget(self, name: str, lost: int) -> None:
        """A rollout may take away so many that serve, and no more."""
        known = self._engine.actual.sets[name]
        rollout = known.wanted.policy.rollout
        require(_rolls(known), name, "may only be replaced when it ends by itself")
        if rollout.strategy == "recreate":
            return
        require(not known.progress.stalled, "a stalled rollout takes workers away:", name)
        tally = recount(known)
        surge = rollout.max_surge.of(tally.replicas, round_up=True)
        unavailable = rollout.max_unavailable.of(tally.replicas, round_up=False) or (0 if surge else 1)
        left = tally.available + tally.completed - lost
        require(left >= tally.replicas - unavailable, "only", left, "of", tally.replicas, "are left of", name)

    def _judge_breathless(self, stops: Sequence[Stop | BeginDrain]) -> None:
        """Who served and serves no longer may be out of breath: it is replaced only where few others are missing."""
        gone = {stop.uid for stop in stops}
        for stop in stops:
            known, worker = self._engine.actual.sets[stop.set_name], self._engine.actual.workers[stop.uid]
            spec, rollout = known.meant(stop.key), known.wanted.policy.rollout
            rolls = rollout.strategy == "rolling" and worker.served and worker.phase is Phase.RUNNING
            if spec is None or worker.ready or worker.ailing or not rolls or worker.spec.digest == spec.digest:
                continue
            if any(o.ready or o.phase is Phase.SUCCEEDED for o in known.by_key[stop.key] if o is not worker):
                continue
            require(not known.progress.stalled, "a stalled rollout takes one that served away:", stop)
            surge = rollout.max_surge.of(len(known.wanted.workers), round_up=True)
            unavailable = rollout.max_unavailable.of(len(known.wanted.workers), round_up=False) or (0 if surge else 1)
            kept = [
                any(_has_breath(one) and one.uid not in gone - {stop.uid} for one in known.by_key.get(key, ()))
                for key in known.wanted.workers
                if key != stop.key
            ]
            require(kept.count(False) < unavailable, "takes one that served from", stop.set_name, stop)

    def judge_start(self, process: Process, now: float) -> None:
        """At most one incarnation of a worker lives, or two where surging was allowed since the first was started."""
        name, key = process.set_name, process.spec.key
        require(self._may_start(name, process.spec), "not wanted:", process)
        twins = [p for p in self._driver.processes.values() if p.set_name == name and p.spec.key == key]
        if len(twins) > 1:
            known = self._engine.actual.sets[name]
            if _surges(known):
                self._surge_allowed_at[name] = now
            allowed = self._surge_allowed_at.get(name, -1.0) >= self._started_at[twins[0].uid]
            require(len(twins) == 2 and allowed, "twins:", twins)  # noqa: PLR2004  the limit itself
        self._started_at[process.uid] = now
        self._digests.setdefault((name, key), []).append(process.spec.digest)

    # ------------------------------------------------------------------------------------------- state

    def judge_state(self, wake_at: float, now: float) -> None:
        """After a turn: the books are right, nothing is forgotten, and nothing is left to be done."""
        actual = self._engine.actual
        listed = {w.uid: w for known in actual.sets.values() for ws in known.by_key.values() for w in ws}
        require(listed == actual.workers, "by key", sorted(listed), "by uid", sorted(actual.workers))
        for name, known in actual.sets.items():
            self._note_everywhere(name, known)
            counted, is_there = known.tally, recount(known)
            require(counted == is_there, name, "is counted as", counted, "and is", is_there)
            waits = next(dependencies.unmet(actual.sets, known), None) is not None
            patient = known.wanted.paused or known.wanted.policy.job or waits
            due = None if patient else known.progress.deadline(known.wanted.policy.rollout)
            require(due is None or now < due, name, "should have stalled at", due)
            require(due is None or wake_at <= due, name, "sleeps through its progress deadline", due)
            unconverged = name in actual.unconverged
            require(unconverged != counted.converged, name, "is believed unconverged:", unconverged)
            held = known.progress.stalled or known.removed
            if _surges(known) and not held:
                self._surge_allowed_at[name] = now
        for worker in actual.workers.values():
            if worker.reason == "Remembered" and (worker.set_name, worker.key) not in self._digests:
                self._digests[worker.set_name, worker.key] = [worker.spec.digest]
            self._judge_deadline(worker, wake_at, now)
        self._judge_completeness(now)

    def _note_everywhere(self, name: str, known: ActualSet) -> None:
        wanted = known.wanted.workers
        for key, spec in wanted.items():
            workers = known.by_key.get(key, ())
            serves = len(workers) == 1 and (workers[0].ready or workers[0].phase is Phase.SUCCEEDED)
            if not serves or not is_same_version(workers[0].spec.digest, spec.digest):
                return
        if wanted and wanted.keys() == known.by_key.keys() and not known.wanted.down & known.held:
            self._everywhere[name] = next(iter(wanted.values())).digest

    def _judge_deadline(self, worker: Worker, wake_at: float, now: float) -> None:
        if worker.phase is Phase.RUNNING and worker.deadline is not None and worker.able_since is not None:
            policy = self._engine.actual.sets[worker.set_name].wanted.policy
            waits = max(policy.min_ready, policy.trial) if worker.trial else policy.min_ready
            require(worker.deadline == worker.able_since + waits, "counts as ready after an outdated time:", worker)
        if worker.quit_at is not None and worker.phase is Phase.STOPPING:
            require(worker.quit_at > now and wake_at <= worker.quit_at, "should have been asked to end:", worker)
        if worker.deadline is None:
            require(worker.phase not in (Phase.STARTING, Phase.STOPPING), "may hang for ever:", worker)
        elif worker.deadline > now:
            require(wake_at <= worker.deadline, "sleeps until", wake_at, "through the deadline of", worker)
        else:
            require(worker.phase is Phase.BACKOFF, "is overdue:", worker)

    def _judge_completeness(self, now: float) -> None:
        """A look at everything finds nothing to do that the look at what changed did not find."""
        actual = self._engine.actual
        require(not actual.dirty, "left dirty:", actual.dirty)
        for name, known in actual.sets.items():
            actual.dirty.add(name)
            known.dirty.update(known.by_key, known.wanted.workers)
        plan = reconcile(self._engine.desired, actual, now)
        for known in actual.sets.values():
            known.dirty.clear()
        actual.dirty.clear()
        require(not plan.actions, "a full look finds more to do:", plan.actions)

    def _may_start(self, name: str, spec: WorkerSpec) -> bool:
        """Whether it is what is wanted, or what a worker ran before that is paused, held by the partition, or kept as
        it was by a stalled rollout; or what all ran before.
        """
        wanted, known = self._wanted(name, spec.key), self._engine.actual.sets.get(name)
        held, paused = known is not None and spec.key in known.held, self._engine.desired[name].paused
        if wanted is None or not (held or name in self._stalled or paused):
            return wanted == spec
        before = list(self._digests.get((name, spec.key), ()))
        before += [self._everywhere.get(name)] if held or (paused and not before) else []
        return wanted == spec or any(is_same_version(spec.digest, digest) for digest in before)

    def _wanted(self, name: str, key: Any) -> WorkerSpec | None:
        wanted = self._engine.desired.get(name)
        return None if wanted is None else wanted.workers.get(key)


def _rolls(known: ActualSet) -> bool:
    """Whether healthy workers may be replaced one after the other: also with `on_delete`, where restarts were asked."""
    strategy = known.wanted.policy.rollout.strategy
    return strategy != "on_delete" or known.wanted.restarts


def _surges(known: ActualSet) -> bool:
    """Whether a successor may be started beside a worker: by the budget, or where somebody asked for that."""
    return _rolls(known) and bool(known.wanted.policy.rollout.max_surge.amount or known.wanted.at_once)


def _has_breath(worker: Worker) -> bool:
    """Whether it serves, may serve again, or has done its work."""
    return (worker.phase is Phase.RUNNING and worker.served) or worker.phase is Phase.SUCCEEDED


def recount(known: ActualSet) -> Tally:
    """The tally of a set, from each of its workers."""
    counts = dict.fromkeys(_COUNTED, 0)
    for key in known.wanted.workers:
        workers = known.by_key.get(key, ())
        spec = known.meant(key)
        require(spec is not None, "nothing is meant by", key)
        if spec is None:
            continue
        current = {w.phase for w in workers if w.spec.digest == spec.digest and (w.ready or not w.live)}
        serves = any(w.phase is Phase.RUNNING and w.ready for w in workers)
        kept = known.wanted.runs and Phase.FAILED in current
        updated = Phase.RUNNING in current or Phase.SUCCEEDED in current or kept
        outdated = sum(w.live and w.spec.digest != spec.digest for w in workers)
        counts["available"] += serves
        counts["updated"] += updated
        counts["outdated"] += outdated
        counts["surging"] += len(workers) > 1
        served = any(w.served and w.phase is Phase.RUNNING and w.spec.digest != spec.digest for w in workers)
        counts["breathless"] += served and not serves and len(workers) == 1
        counts["settled"] += updated and not outdated and len(workers) == 1
        counts["failed"] += Phase.FAILED in current
        counts["started"] += any(w.phase is Phase.RUNNING for w in workers) or (
            Phase.SUCCEEDED in current and not serves
        )
        counts["completed"] += Phase.SUCCEEDED in current and not serves
    counts["surplus"] = sum(key not in known.wanted.workers for key in known.by_key)
    return Tally(replicas=len(known.wanted.workers), **counts)
