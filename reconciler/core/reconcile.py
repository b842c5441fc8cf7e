"""The difference between what is desired and what exists, as a plan of actions.

Rule: `reconcile` reads and decides, and changes nothing. It looks only at the keys that are dirty, decides for each by
what is true now and never by what happened, and gives each action its reason. Where a set's budget is involved, broken
outdated workers go first and cost nothing, so that a bad version can always be left again (Kubernetes' issue 67250 is
the warning), and healthy ones follow from the last key to the first, as in a StatefulSet.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from reconciler.core import dependencies, health
from reconciler.core.action import Action, Ask, BeginDrain, Forget, Kill, Start, Stop
from reconciler.core.actual import Actual
from reconciler.core.actual_set import ActualSet
from reconciler.core.lifecycle import KILLS, START_TIMEOUT, STOP_TIMEOUT, UNKILLABLE
from reconciler.core.spec import Again, WorkerSet, WorkerSpec, is_same_version
from reconciler.core.worker import Phase, Worker

RESTART_ASKED = "RestartAsked"

WATCHDOG_SIGNAL = "ABRT"
"""What ends a worker that is not heard of: it may leave a trace of where it hangs, as with systemd."""


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
        for action in _SetAtWork(desired.get(name, known.wanted), known, actual, now).actions():
            if isinstance(action, Start):
                starts.append(action)
            else:
                ends.append(action)
    if len(ends) > 1:
        ending = {action.uid for action in ends if not isinstance(action, Ask)}
        ends = [action for action in ends if not isinstance(action, Ask) or action.uid not in ending]
        ends.sort(key=lambda action: action.key, reverse=True)
    if len(starts) > 1:
        starts.sort(key=lambda start: start.spec.key)
    strays = [Kill(uid, "", None, "Stray") for uid in sorted(actual.strays)]
    numbered = [Start(actual.uid(ahead), one.set_name, one.spec, one.reason) for ahead, one in enumerate(starts)]
    return Plan((*strays, *ends, *numbered), actual.wake_at())


def decisions(desired: Mapping[str, WorkerSet], actual: Actual, name: str, key: Any, now: float) -> Iterator[Action]:
    """What would be done about one key of a set, whether it is dirty or not."""
    known = actual.sets[name]
    at_work = _SetAtWork(desired.get(name, known.wanted), known, actual, now)
    yield from at_work.about(key)
    if at_work.may_replace:
        yield from (action for action in at_work.rolling() if action.key == key)


class _SetAtWork:
    """One look at one set: its dirty keys one by one, then what the rollout's budget allows."""

    __slots__ = ("actual", "is_kept", "known", "now", "tally", "waits", "wanted")

    def __init__(self, wanted: WorkerSet, known: ActualSet, actual: Actual, now: float) -> None:
        self.wanted = wanted
        self.known = known
        self.actual = actual
        self.now = now
        self.tally = known.tally
        self.is_kept = self.is_needed()
        needed = wanted.policy.needed
        self.waits = bool(needed) and next(dependencies.unmet(actual.sets, known), None) is not None

    @property
    def may_replace(self) -> bool:
        """Whether healthy workers may be replaced: by a rollout, or with `on_delete` where restarts were asked."""
        held = self.wanted.paused or self.waits or self.known.progress.stalled
        strategy = self.wanted.policy.rollout.strategy
        return (
            bool(self.known.queue)
            and not held
            and (strategy == "rolling" or (strategy == "on_delete" and self.wanted.restarts))
        )

    def actions(self) -> Iterator[Action]:
        for key in self.known.dirty:
            yield from self.about(key)
        if self.may_replace:
            yield from self.rolling()

    def about(self, key: Any) -> Iterator[Action]:
        """What must be done about one key, whatever the others do."""
        workers = self.known.by_key.get(key, ())
        yield from self.overdue(workers)
        yield from self.asked(workers)
        if key in self.wanted.workers:
            yield from self.wanted_key(key, workers)
        else:
            yield from self.unwanted_key(workers)

    def overdue(self, workers: tuple[Worker, ...]) -> Iterator[Action]:
        """A driver that does not answer, or a process that does not end in time, meets KILL; one that is ailing, or has
        drained, is asked to end.
        """
        for worker in workers:
            if worker.ailing:
                yield self.end(worker, str(worker.health.ailment))
            elif worker.phase is Phase.STOPPING and worker.quit_at is not None and worker.quit_at <= self.now:
                yield self.end(worker, str(worker.reason))
            if worker.deadline is None or worker.deadline > self.now:
                continue
            if worker.phase is Phase.STARTING:
                yield self.kill(worker, START_TIMEOUT)
            elif worker.phase is Phase.STOPPING and worker.quit_at is None:
                yield self.kill(worker, UNKILLABLE if worker.reason in KILLS else STOP_TIMEOUT)

    def asked(self, workers: tuple[Worker, ...]) -> Iterator[Action]:
        """The probes that are due."""
        for worker in workers:
            if worker.phase is not Phase.RUNNING or worker.health is health.PLAIN:
                continue
            due = health.to_ask(worker.health, worker.probes, self.now)
            if due is not None:
                kind, probe = due
                deadline = self.now + probe.timeout + health.GRACE
                yield Ask(worker.uid, self.wanted.name, worker.spec, kind, probe, deadline)

    def unwanted_key(self, workers: tuple[Worker, ...]) -> Iterator[Action]:
        for worker in workers:
            reason = "StopAsked" if worker.key in self.wanted.down else self.known.surplus_reason
            if self.wanted.runs and not self.wanted.stopped:
                reason = "Replaced"
            if not worker.live:
                yield self.forget(worker, reason)
            elif not (self.is_kept or self.is_leaving(worker)):
                yield self.stop(worker, reason)

    def is_needed(self) -> bool:
        """Whether others that go, too, need this set until they are gone."""
        needing = self.actual.needers.get(self.wanted.name)
        return (
            self.known.removed
            and needing is not None
            and not self.actual.hurried
            and dependencies.keep_for(self.actual.sets, needing, self.wanted.name)
        )

    def wanted_key(self, key: Any, workers: tuple[Worker, ...]) -> Iterator[Action]:
        """One current incarnation should be there; while surging, an outdated one beside it until it serves.

        While the rollout is paused, or keeps this worker, what the youngest incarnation was started from counts as
        current.
        """
        spec = self.known.meant(key) or self.wanted.workers[key]
        if workers and self.wanted.paused:
            spec = workers[-1].spec
        lost = self.lost(spec, workers) if self.known.progress.stalled else None
        if lost is not None:
            if self.is_due(lost) and not self.waits:
                yield self.start(lost.spec, "Restarted")
            return
        going = [w for w in workers if w.live and not self.is_leaving(w)]
        current = [worker for worker in going if worker.spec is spec or worker.spec.digest == spec.digest]
        ended = [worker for worker in workers if not worker.live]
        if current:
            yield from self.beside_current(current, going, ended)
        elif going:
            yield from self.only_outdated(spec, going, ended)
        elif len(ended) == len(workers):
            yield from self.start_alone(spec, ended)

    def lost(self, spec: WorkerSpec, workers: tuple[Worker, ...]) -> Worker | None:
        """The outdated incarnation that served and ended while the rollout stands still: it comes back as it was, and
        not as what brought the rollout to its stand.
        """
        if self.wanted.policy.rollout.strategy != "rolling":
            return None
        ended = [one for one in workers if one.phase is Phase.BACKOFF and one.served]
        outdated = [one for one in ended if one.spec.digest != spec.digest]
        if not outdated or any(one.live and one.spec.digest == outdated[-1].spec.digest for one in workers):
            return None
        return outdated[-1]

    def beside_current(self, current: list[Worker], going: list[Worker], ended: list[Worker]) -> Iterator[Action]:
        """What is left beside an incarnation of the wanted spec goes; what served goes once that one serves, too."""
        chosen = next((worker for worker in current if worker.ready), current[-1])
        for worker in going:
            if worker is not chosen and (chosen.ready or not worker.served):
                yield self.stop(worker, "Replaced")
        for worker in ended:
            yield self.forget(worker, "Replaced")

    def only_outdated(self, spec: WorkerSpec, going: list[Worker], ended: list[Worker]) -> Iterator[Action]:
        """What never served goes at once, what served when the rollout says so or its successor has done its work."""
        kept = None
        if self.wanted.policy.rollout.strategy == "rolling" or self.waits:
            kept = next((worker for worker in reversed(going) if worker.ready), None)
            kept = kept or next((worker for worker in reversed(going) if worker.served), None)
        successor = next((worker for worker in reversed(ended) if worker.spec.digest == spec.digest), None)
        if successor is not None and successor.phase is Phase.SUCCEEDED and not self.is_worth_a_retry(successor):
            kept = None
        for worker in going:
            if worker is not kept and self.wanted.policy.rollout.strategy != "on_delete":
                yield self.stop(worker, self.outdated(worker, spec))
        for worker in ended:
            if worker is not successor or not self.may_stand_by(worker):
                yield self.forget(worker, "Replaced")
            elif self.waits:
                continue
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
        if self.waits:
            return
        recreated = self.wanted.policy.rollout.strategy == "recreate" and not self.wanted.paused
        if recreated and self.tally.outdated:
            return
        last = ended[-1] if ended else None
        if last is None:
            yield self.start(spec, "Scheduled" if self.wanted.runs else "Created")
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
        """A new spec is a new chance for what failed, but for a run of a schedule; what succeeded runs again only if
        the new policy says so.
        """
        return (worker.judged != self.known.generation and not self.wanted.runs) and (
            worker.phase is Phase.FAILED
            or (worker.phase is Phase.SUCCEEDED and self.wanted.policy.restart.policy == "always")
        )

    def rolling(self) -> Iterator[Action]:
        """Replace outdated workers that served, the last key first, as far as the budget goes.

        Of those that serve no longer none is missed; but a successor that does not serve either is one of the number
        that may be unavailable, so that a bad version gets no further while all others are out of breath.
        """
        rollout, tally = self.wanted.policy.rollout, self.tally
        surge_left = rollout.max_surge.of(tally.replicas, round_up=True) - tally.surging
        serving = tally.available + tally.completed - self.ailing()  # who has done its work is not missed
        spare = serving - (tally.replicas - self.most_unavailable())
        for key, worker, spec in self.replaceable():
            asked = type(spec.digest) is Again and is_same_version(worker.spec.digest, spec.digest)
            if asked and spec.digest.at_once:
                yield self.start(spec, RESTART_ASKED)
            elif rollout.strategy == "on_delete" and not asked:
                continue
            elif surge_left > 0:
                surge_left -= 1
                yield self.start(spec, self.updated(worker, spec))
            elif (spare > 0) if worker.ready else (self.most_unavailable() > self.missing(key)):
                spare -= worker.ready
                yield self.stop(worker, self.outdated(worker, spec))
                if not worker.ready:
                    return
            elif worker.ready and not (rollout.strategy == "on_delete" or self.wanted.at_once):
                return

    def most_unavailable(self) -> int:
        """How many may be unavailable; at least one where nothing can be started beside another one."""
        rollout, replicas = self.wanted.policy.rollout, self.tally.replicas
        least = 0 if rollout.max_surge.of(replicas, round_up=True) else 1
        return max(least, rollout.max_unavailable.of(replicas, round_up=False))

    def replaceable(self) -> Iterator[tuple[Any, Worker, WorkerSpec]]:
        """The outdated workers that served and stand alone, with what is wanted instead: first those that serve no
        longer, then the others, the last key first.
        """
        for breathless in (True, False) if self.tally.breathless else (False,):
            for key in reversed(self.known.queue):
                workers = self.known.by_key.get(key, ())
                spec = self.known.meant(key)
                if spec is None or len(workers) != 1 or not self.known.outdated(key):
                    continue
                worker = workers[0]
                serves = worker.served and worker.phase is Phase.RUNNING and not worker.ailing
                if serves and worker.ready is not breathless:
                    yield key, worker, spec

    def missing(self, but: Any) -> int:
        """How many keys have nothing that serves, and nothing outdated that served and runs; one key is left out."""
        missing = 0
        for key in self.wanted.workers:
            workers = self.known.by_key.get(key, ())
            old = any(one.served and one.phase is Phase.RUNNING for one in workers)
            missing += key != but and not old and not any(one.phase is Phase.SUCCEEDED for one in workers)
        return missing

    def ailing(self) -> int:
        """How many that count as serving are being ended in this very plan."""
        keys = (self.known.by_key.get(key, ()) for key in self.known.dirty)
        return sum(worker.ready and worker.ailing for workers in keys for worker in workers)

    def is_due(self, worker: Worker) -> bool:
        return worker.phase is Phase.BACKOFF and (worker.deadline is None or worker.deadline <= self.now)

    def is_leaving(self, worker: Worker) -> bool:
        """Whether an incarnation is being ended, or is in this very plan, whatever else is wanted."""
        if worker.phase is Phase.STARTING:
            return worker.deadline is not None and worker.deadline <= self.now
        return worker.phase is Phase.STOPPING or worker.ailing

    def updated(self, worker: Worker, spec: WorkerSpec) -> str:
        return RESTART_ASKED if is_same_version(worker.spec.digest, spec.digest) else "Updated"

    def outdated(self, worker: Worker, spec: WorkerSpec) -> str:
        return RESTART_ASKED if is_same_version(worker.spec.digest, spec.digest) else "Outdated"

    def start(self, spec: WorkerSpec, reason: str) -> Start:
        wanted = self.wanted.workers.get(spec.key)
        if wanted is not None and wanted.key is not spec.key:  # its place in the row may have been edited since
            spec = attrs.evolve(spec, key=wanted.key)
        return Start("", self.wanted.name, spec, reason)

    def stop(self, worker: Worker, reason: str) -> Action:
        """Ask it to end; let it drain before, if it runs and is to."""
        drain = self.wanted.policy.stop.drain
        if drain is None or worker.phase is not Phase.RUNNING or self.actual.hurried:
            return self.end(worker, reason)
        earliest, until = self.now + drain.delay, self.now + drain.longest
        return BeginDrain(worker.uid, self.wanted.name, worker.spec, drain, earliest, until, reason)

    def end(self, worker: Worker, reason: str) -> Stop:
        policy = self.wanted.policy.stop
        signal = WATCHDOG_SIGNAL if reason == health.WATCHDOG else policy.signal
        return Stop(worker.uid, self.wanted.name, worker.key, signal, self.now + policy.timeout, reason)

    def kill(self, worker: Worker, reason: str) -> Kill:
        return Kill(worker.uid, self.wanted.name, worker.key, reason)

    def forget(self, worker: Worker, reason: str) -> Forget:
        return Forget(worker.uid, self.wanted.name, worker.key, reason)
