"""The difference between what is desired and what exists, as a plan of actions.

Rule: `reconcile` reads and decides, and changes nothing. It looks only at the keys that are dirty, decides for each by
what is true now and never by what happened, and gives each action its reason. Where a set's budget is involved, broken
outdated workers go first and cost nothing, so that a bad version can always be left again (Kubernetes' issue 67250 is
the warning), and healthy ones follow from the last key to the first, as in a StatefulSet.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from reconciler.core.action import Action, Forget, Kill, Start, Stop
from reconciler.core.actual import Actual, ActualSet
from reconciler.core.lifecycle import KILLS, START_TIMEOUT, STOP_TIMEOUT, UNKILLABLE
from reconciler.core.spec import Again, WorkerSet, WorkerSpec, is_same_version
from reconciler.core.worker import Phase, Worker

RESTART_ASKED = "RestartAsked"


@attrs.frozen
class Plan:
    """What to do now, and when to look again though nothing happened (seconds, monotonic; None: not at all).

    Stops come first, in reverse key order; starts come last, in key order.
    """

    actions: tuple[Action, ...] = ()
    wake_at: float | None = None


def reconcile(desired: Mapping[str, WorkerSet], actual: Actual, now: float) -> Plan:
    """What must be done at `now` so that `actual` becomes `desired`, which `actual.want` has been told of."""
    ends: list[Action] = []
    starts: list[Start] = []
    for name in actual.dirty:
        known = actual.sets[name]
        for action in _SetAtWork(desired.get(name, known.wanted), known, now).actions():
            if isinstance(action, Start):
                starts.append(action)
            else:
                ends.append(action)
    if len(ends) > 1:
        ends.sort(key=lambda action: action.key, reverse=True)
    if len(starts) > 1:
        starts.sort(key=lambda start: start.spec.key)
    strays = [Kill(uid, "", None, "Stray") for uid in sorted(actual.strays)]
    numbered = [attrs.evolve(start, uid=actual.uid(ahead)) for ahead, start in enumerate(starts)]
    return Plan((*strays, *ends, *numbered), actual.wake_at())


def decisions(wanted: WorkerSet, known: ActualSet, key: Any, now: float) -> Iterator[Action]:
    """What would be done about one key, whether it is dirty or not."""
    at_work = _SetAtWork(wanted, known, now)
    yield from at_work.about(key)
    if at_work.rolls:
        yield from (action for action in at_work.rolling() if action.key == key)


class _SetAtWork:
    """One look at one set: its dirty keys one by one, then what the rollout's budget allows."""

    __slots__ = ("known", "now", "tally", "wanted")

    def __init__(self, wanted: WorkerSet, known: ActualSet, now: float) -> None:
        self.wanted = wanted
        self.known = known
        self.now = now
        self.tally = known.tally

    @property
    def rolls(self) -> bool:
        """Whether healthy workers may be replaced: by a rollout, or with `on_delete` where restarts were asked."""
        held = self.wanted.paused or self.known.progress.stalled
        strategy = self.wanted.policy.rollout.strategy
        return (
            bool(self.known.queue)
            and not held
            and (strategy == "rolling" or (strategy == "on_delete" and self.wanted.restarts))
        )

    def actions(self) -> Iterator[Action]:
        for key in self.known.dirty:
            yield from self.about(key)
        if self.rolls:
            yield from self.rolling()

    def about(self, key: Any) -> Iterator[Action]:
        """What must be done about one key, whatever the others do."""
        workers = self.known.by_key.get(key, ())
        yield from self.overdue(workers)
        if key in self.wanted.workers:
            yield from self.wanted_key(self.wanted.workers[key], workers)
        else:
            yield from self.unwanted_key(workers)

    def overdue(self, workers: tuple[Worker, ...]) -> Iterator[Action]:
        """A driver that does not answer, or a process that does not end in time, meets KILL."""
        for worker in workers:
            if worker.deadline is None or worker.deadline > self.now:
                continue
            if worker.phase is Phase.STARTING:
                yield self.kill(worker, START_TIMEOUT)
            elif worker.phase is Phase.STOPPING:
                yield self.kill(worker, UNKILLABLE if worker.reason in KILLS else STOP_TIMEOUT)

    def unwanted_key(self, workers: tuple[Worker, ...]) -> Iterator[Action]:
        for worker in workers:
            reason = "StopAsked" if worker.key in self.wanted.down else self.known.surplus_reason
            if not worker.live:
                yield self.forget(worker, reason)
            elif worker.phase is not Phase.STOPPING and not self.is_overdue(worker):
                yield self.stop(worker, reason)

    def wanted_key(self, spec: WorkerSpec, workers: tuple[Worker, ...]) -> Iterator[Action]:
        """One current incarnation should be there; while surging, an outdated one beside it until it serves.

        While the rollout is paused, what the youngest incarnation was started from counts as current.
        """
        if self.wanted.paused and workers:
            spec = workers[-1].spec
        going = [w for w in workers if w.live and w.phase is not Phase.STOPPING and not self.is_overdue(w)]
        current = [worker for worker in going if worker.spec is spec or worker.spec.digest == spec.digest]
        ended = [worker for worker in workers if not worker.live]
        if current:
            yield from self.beside_current(current, going, ended)
        elif going:
            yield from self.only_outdated(spec, going, ended)
        elif len(ended) == len(workers):
            yield from self.start_alone(spec, ended)

    def beside_current(self, current: list[Worker], going: list[Worker], ended: list[Worker]) -> Iterator[Action]:
        """What is left beside an incarnation of the wanted spec goes, but what serves only once that one serves too."""
        chosen = next((worker for worker in current if worker.ready), current[-1])
        for worker in going:
            if worker is not chosen and (chosen.ready or not worker.ready):
                yield self.stop(worker, "Replaced")
        for worker in ended:
            yield self.forget(worker, "Replaced")

    def only_outdated(self, spec: WorkerSpec, going: list[Worker], ended: list[Worker]) -> Iterator[Action]:
        """What does not serve goes at once, what serves when the rollout says so or its successor has done its work."""
        kept = None
        if self.wanted.policy.rollout.strategy == "rolling":
            kept = next((worker for worker in reversed(going) if worker.ready), None)
        successor = next((worker for worker in reversed(ended) if worker.spec.digest == spec.digest), None)
        if successor is not None and successor.phase is Phase.SUCCEEDED and not self.is_worth_a_retry(successor):
            kept = None
        for worker in going:
            if worker is not kept and self.wanted.policy.rollout.strategy != "on_delete":
                yield self.stop(worker, self.outdated(worker, spec))
        for worker in ended:
            if worker is not successor or not self.may_stand_by(worker):
                yield self.forget(worker, "Replaced")
            elif kept is not None and worker.phase is Phase.STOPPED:
                yield self.start(spec, "Resumed")
            elif kept is not None and self.is_due(worker):
                yield self.start(spec, "Restarted")

    def may_stand_by(self, worker: Worker) -> bool:
        """Whether an ended incarnation of the wanted spec keeps its place beside an outdated one.

        Else it is forgotten, and the rollout begins anew with its key.
        """
        if worker.phase in (Phase.BACKOFF, Phase.STOPPED):
            return self.wanted.policy.rollout.strategy == "rolling"
        return not self.is_worth_a_retry(worker)

    def start_alone(self, spec: WorkerSpec, ended: list[Worker]) -> Iterator[Action]:
        """No process of this key is left: start one, if its past allows."""
        recreated = self.wanted.policy.rollout.strategy == "recreate" and not self.wanted.paused
        if recreated and self.tally.outdated:
            return
        last = ended[-1] if ended else None
        if last is None:
            yield self.start(spec, "Created")
        elif last.spec.digest != spec.digest:
            yield self.start(spec, self.updated(last, spec))
        elif last.phase is Phase.STOPPED:
            yield self.start(spec, "Resumed")
        elif self.is_due(last):
            yield self.start(spec, "Restarted")
        elif self.is_worth_a_retry(last):
            yield self.start(spec, "Retried")
        else:
            for worker in ended[:-1]:
                yield self.forget(worker, "Replaced")

    def is_worth_a_retry(self, worker: Worker) -> bool:
        """A new spec is a new chance for what failed; what succeeded runs again only if the new policy says so."""
        return worker.judged != self.known.generation and (
            worker.phase is Phase.FAILED
            or (worker.phase is Phase.SUCCEEDED and self.wanted.policy.restart.policy == "always")
        )

    def rolling(self) -> Iterator[Action]:
        """Replace healthy outdated workers, the last key first, as far as the budget goes."""
        rollout, tally = self.wanted.policy.rollout, self.tally
        surge = rollout.max_surge.of(tally.replicas, round_up=True)
        unavailable = rollout.max_unavailable.of(tally.replicas, round_up=False)
        surge_left = surge - tally.surging
        serving = tally.available + tally.completed  # who has done its work is not missed
        spare = serving - (tally.replicas - max(unavailable, 0 if surge else 1))
        waits = rollout.strategy == "on_delete"
        for key in reversed(self.known.queue):
            workers = self.known.by_key.get(key, ())
            if len(workers) != 1 or not workers[0].ready or not self.known.outdated(key):
                continue
            spec = self.wanted.workers[key]
            asked = type(spec.digest) is Again and is_same_version(workers[0].spec.digest, spec.digest)
            if asked and spec.digest.at_once:
                yield self.start(spec, RESTART_ASKED)
            elif waits and not asked:
                continue
            elif surge_left > 0:
                surge_left -= 1
                yield self.start(spec, self.updated(workers[0], spec))
            elif spare > 0:
                spare -= 1
                yield self.stop(workers[0], self.outdated(workers[0], spec))
            elif not (waits or self.wanted.at_once):
                return

    def is_due(self, worker: Worker) -> bool:
        return worker.phase is Phase.BACKOFF and (worker.deadline is None or worker.deadline <= self.now)

    def is_overdue(self, worker: Worker) -> bool:
        return worker.phase is Phase.STARTING and worker.deadline is not None and worker.deadline <= self.now

    def updated(self, worker: Worker, spec: WorkerSpec) -> str:
        return RESTART_ASKED if is_same_version(worker.spec.digest, spec.digest) else "Updated"

    def outdated(self, worker: Worker, spec: WorkerSpec) -> str:
        return RESTART_ASKED if is_same_version(worker.spec.digest, spec.digest) else "Outdated"

    def start(self, spec: WorkerSpec, reason: str) -> Start:
        return Start("", self.wanted.name, spec, reason)

    def stop(self, worker: Worker, reason: str) -> Stop:
        policy = self.wanted.policy.stop
        return Stop(worker.uid, self.wanted.name, worker.key, policy.signal, self.now + policy.timeout, reason)

    def kill(self, worker: Worker, reason: str) -> Kill:
        return Kill(worker.uid, self.wanted.name, worker.key, reason)

    def forget(self, worker: Worker, reason: str) -> Forget:
        return Forget(worker.uid, self.wanted.name, worker.key, reason)
