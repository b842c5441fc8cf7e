"""Why a worker is as it is: what the plan would do with it now, and which rule says so.

Rule: nothing is decided here. The actions are those of `reconcile` itself, asked about one key; where there are none,
the state says what is waited for.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs

from reconciler.core import dependencies
from reconciler.core.action import Ask, BeginDrain, Forget, Kill, Start, Stop
from reconciler.core.actual_set import ActualSet
from reconciler.core.lifecycle import own
from reconciler.core.reconcile import decisions
from reconciler.core.spec import Policy
from reconciler.core.status import View
from reconciler.core.worker import Phase, Worker

RULES: Mapping[str, str] = MappingProxyType(
    {
        "Created": "It is wanted, and was never started.",
        "Restarted": "It ended, its restart policy wants it back, and its wait is over.",
        "Updated": "Its spec changed, so that a new process is needed.",
        "Outdated": "Its spec changed; the rollout budget allows to stop it now, or it does not serve anyway.",
        "RestartAsked": "Somebody asked for a restart; the rollout budget allows it now.",
        "Replaced": "Another incarnation of the wanted spec serves in its place.",
        "Resumed": "It was stopped, and is wanted again.",
        "Retried": "It had ended for good, and its spec or policy changed since.",
        "Removed": "Its set is no longer wanted.",
        "ScaledDown": "Its set wants fewer workers.",
        "Suspended": "Its file says `suspend`.",
        "StopAsked": "Somebody asked for it to stay down; `start` takes that back.",
        "ControllerStopping": "The controller stops.",
        "StopTimeout": "It did not end within its stop timeout, and is killed.",
        "StartTimeout": "Nobody answered its start in time; it is killed and tried anew.",
        "Unkillable": "It was killed and is still there: something holds it in the kernel.",
        "CrashLoopBackOff": "It ended by itself again and again; the wait grows each time. `reset` ends it.",
        "StartError": "It could not be started; it is tried again after a wait. `describe` shows the error.",
        "StartLimitHit": "It was started too often within its start limit; an edit or `reset` is a new chance.",
        "Error": "It ended badly, and its restart policy does not want it back; an edit or `reset` is a new chance.",
        "Scheduled": "Its time has come.",
        "Remembered": "It ended well before this controller began; an edit or `restart` runs it again.",
        "Completed": "It ended well, and its restart policy asks for nothing more.",
        "ResetAsked": "Somebody asked that its failures be forgotten; it is tried now.",
        "Starting": "Its start was asked for, and the answer is awaited.",
        "Draining": "It will be asked to end, and drains before that.",
        "NotReadyInTime": "It did not say in time that it can serve; that counts as a failure.",
        "WatchdogTimeout": "It was not heard of in time; that counts as a failure.",
        "StartupFailed": "Its startup probe failed too often; that counts as a failure.",
        "LivenessFailed": "Its liveness probe failed too often; that counts as a failure.",
        "ReadinessFailed": "Its readiness probe failed too often; it runs on, and is asked again.",
        "StopsItself": "It said that it stops.",
        "StopsForTooLong": "It said that it stops, and did not within its stop timeout; that counts as a failure.",
        "NotStarted": "It runs, and its startup probe has not succeeded yet.",
        "NotAsked": "It runs, and its readiness probe has not succeeded yet.",
        "JobRuns": "It is a job that runs; it is done when it has ended well.",
        "Partition": "It is outdated; the rollout's partition lets it keep what it has.",
        "WaitsForDependency": "It starts when what its set depends on is there; `describe` says what that is.",
        "WaitsForNeeders": "It stops when the workers of those sets that depend on it are gone.",
        "MinReady": "It runs, and counts as ready once it did so for `min_ready`.",
        "NotNotified": "It runs, and has not yet said that it can serve.",
        "Paused": "It is outdated; `rollout resume` lets its replacement go on.",
        "ProgressDeadlineExceeded": "It is outdated; the rollout came no further within its progress deadline.",
        "OnDelete": "It is outdated; with the strategy `on_delete` it is replaced when it ends by itself.",
        "BudgetUsed": "It is outdated; the rollout budget (max_unavailable, max_surge) lets others go first.",
        "Surging": "It is outdated; it goes when its successor, which runs beside it, is ready.",
        "WaitsForOthers": "With the strategy `recreate` it starts when all outdated ones have ended.",
        "UpToDate": "It is as wanted.",
        "Unwanted": "It is not wanted, and does not run.",
    }
)
"""What each reason of an action, or of a wait, means."""


@attrs.frozen
class Explanation:
    """What would be done with one incarnation of a worker, or with the worker where it has none.

    `does` is what the plan would do: "start", "drain", "stop", "kill", "forget", or "nothing". `rule` is one of
    `RULES`, and `deadline` when that may change by itself (seconds, monotonic).
    """

    key: str
    uid: str | None
    phase: str
    does: str
    rule: str
    deadline: float | None = None

    @property
    def meaning(self) -> str:
        """The rule in a sentence."""
        return RULES.get(self.rule, "")


def explain(view: View, set_name: str, key: Any, now: float) -> tuple[Explanation, ...]:
    """All that there is to say of one key of a set that has been looked at, at `now`."""
    known = view.actual.sets[set_name]
    wanted = view.desired.get(set_name, known.wanted)
    asked = [one for one in decisions(view.desired, view.actual, set_name, key, now) if not isinstance(one, Ask)]
    rows = [_of_worker(view, worker, asked) for worker in known.by_key.get(key, ())]
    starts = [one for one in asked if isinstance(one, Start)]
    rows += [Explanation(str(key), None, "Pending", "start", start.reason) for start in starts]
    if not rows:
        needs = next(dependencies.unmet(view.actual.sets, known), None)
        waits = "WaitsForOthers" if needs is None else "WaitsForDependency"
        rule = "StopAsked" if key in wanted.down else waits if key in wanted.workers else "Unwanted"
        rows = [Explanation(str(key), None, "Stopped" if key in wanted.down else "Pending", "nothing", rule)]
    return tuple(rows)


_Told = Start | BeginDrain | Stop | Kill | Forget

_DOES: Mapping[type, str] = MappingProxyType({BeginDrain: "drain"})


def _of_worker(view: View, worker: Worker, asked: Sequence[_Told]) -> Explanation:
    mine = [one for one in asked if not isinstance(one, Start) and one.uid == worker.uid]
    does = _DOES.get(type(mine[0]), type(mine[0]).__name__.lower()) if mine else "nothing"
    rule = mine[0].reason if mine else next(_waits(view, worker))
    deadline = mine[0].deadline if mine and isinstance(mine[0], Stop) else worker.quit_at or worker.deadline
    return Explanation(str(worker.key), worker.uid, str(worker.phase), does, rule, deadline)


def _waits(view: View, worker: Worker) -> Iterator[str]:
    """Why nothing is done: the first is the answer."""
    known = view.actual.sets[worker.set_name]
    wanted = view.desired.get(worker.set_name, known.wanted)
    needs = next(dependencies.unmet(view.actual.sets, known), None) is not None
    if worker.phase is Phase.STARTING:
        yield "Starting"
    if worker.phase is Phase.STOPPING and worker.quit_at is not None:
        yield "Draining"
    if worker.phase is not Phase.RUNNING:
        if needs and not worker.live:
            yield "WaitsForDependency"
        yield worker.reason or "Unwanted"
    if known.removed:
        yield "WaitsForNeeders"
    spec = wanted.workers.get(worker.key)
    if spec is not None and spec.digest != worker.spec.digest:
        yield from _outdated(known, worker, needs=needs)
    if not worker.ready:
        yield why_not_ready(worker, own(worker, wanted.policy))
    yield "UpToDate"


def _outdated(known: ActualSet, worker: Worker, *, needs: bool) -> Iterator[str]:
    """Why one that runs from another spec is not replaced."""
    if known.wanted.paused:
        yield "Paused"
    if worker.key in known.held:
        yield "Partition"
    if needs:
        yield "WaitsForDependency"
    if known.progress.stalled:
        yield "ProgressDeadlineExceeded"
    if known.wanted.policy.rollout.strategy == "on_delete":
        yield "OnDelete"
    yield "Surging" if len(known.by_key[worker.key]) > 1 else "BudgetUsed"


def why_not_ready(worker: Worker, policy: Policy) -> str:
    """Why a worker that runs is not ready."""
    if policy.job:
        return "JobRuns"
    if worker.able_since is not None:
        return "MinReady"
    if worker.health.reason is not None:
        return worker.health.reason
    if policy.ready == "notify" and not worker.health.told:
        return "NotNotified"
    return "NotAsked" if worker.health.started else "NotStarted"
