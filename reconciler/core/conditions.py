"""Conditions: orthogonal facts about a set or a worker, each with a reason.

Rule: a projection of the state, as `status` is; a condition that is false says why by its reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs

from reconciler.core import dependencies
from reconciler.core.actual_set import ActualSet
from reconciler.core.explain import RULES, why_not_ready
from reconciler.core.lifecycle import own
from reconciler.core.spec import Policy, Socket
from reconciler.core.status import View, is_in_vain, set_status
from reconciler.core.worker import Phase, Worker

_UNLIKELY = " (which will not come by itself)"

GONE_BACK = "Its rollout came no further within its progress deadline; it runs what last ran everywhere until an edit."


@attrs.frozen
class Condition:
    """One fact. `since` is when it came about, in seconds on the monotonic clock, where that is known."""

    type: str
    status: bool
    reason: str
    message: str = ""
    since: float | None = None


def of_set(
    view: View, name: str, problems: Sequence[str] = (), unbound: Mapping[Socket, str] = MappingProxyType({})
) -> Iterator[Condition]:
    """The conditions of a set. `problems` are what is wrong with its file now, and `unbound` are the sockets that
    cannot be had now, each with the reason.
    """
    known = view.actual.sets[name]
    tally, wanted = known.tally, view.desired.get(name, known.wanted)
    if problems:
        yield Condition("SpecAccepted", False, "Rejected", problems[0])  # noqa: FBT003
    elif wanted.template is not None:
        yield Condition("SpecAccepted", True, "Accepted")  # noqa: FBT003
    if not wanted.runs:  # there they are its history
        yield _ready(known, job=wanted.policy.job)
    sockets = wanted.template.sockets if wanted.template is not None else ()
    if sockets:
        bad = [unbound[one] for one in sockets if one in unbound]
        yield Condition("SocketsBound", not bad, "NotBound" if bad else "Bound", "; ".join(bad))
    if wanted.policy.needed:
        message = awaited(view, name)
        yield Condition("DependenciesMet", not message, "Waiting" if message else "Met", message)
    row = set_status(view, name)
    updated = f"{row.updated} of {tally.replicas} run the wanted spec"
    if row.kept:
        updated += f"; the rollout's partition keeps {row.kept} as they were"
    yield Condition("UpToDate", tally.converged, "Converged" if tally.converged else "Outdated", updated)
    progress = known.progress
    if row.undone:
        yield Condition("Progressing", False, "RolledBack", GONE_BACK)  # noqa: FBT003
    elif progress.stalled:
        rule = "ProgressDeadlineExceeded"
        yield Condition("Progressing", False, rule, RULES[rule], progress.since)  # noqa: FBT003
    elif wanted.paused:
        yield Condition("Progressing", False, "Paused", RULES["Paused"])  # noqa: FBT003
    else:
        yield Condition("Progressing", True, "Completed" if progress.done else "Rolling", "", progress.since)  # noqa: FBT003


def of_worker(view: View, name: str, key: Any) -> Iterator[Condition]:
    """The conditions of a worker, by its youngest incarnation; none where it has none."""
    known = view.actual.sets[name]
    workers = known.by_key.get(key, ())
    if not workers:
        return
    worker, spec = workers[-1], view.desired.get(name, known.wanted).workers.get(key)
    ready = any(one.ready for one in workers)
    reason = "Serves" if ready else _why_not(worker, own(worker, known.wanted.policy))
    answer = "" if ready else worker.health.message or worker.health.readiness.message or worker.health.startup.message
    meaning = RULES.get(reason, "")
    message = f"{meaning} The last answer: {answer}" if answer else meaning
    yield Condition("Ready", ready, reason, message, worker.able_since if ready else worker.since)
    if worker.health.reloading:
        yield Condition("Reloading", True, "Told")  # noqa: FBT003
    current = spec is not None and worker.spec.digest == spec.digest
    yield Condition("UpToDate", current, "Current" if current else "Outdated" if spec is not None else "Unwanted")


def awaited(view: View, name: str) -> str:
    """What a set waits for, in words; nothing where it does not wait."""
    unmet = dict(dependencies.unmet(view.actual.sets, view.actual.sets[name]))
    said = (f"{other} must be {how}{_UNLIKELY * is_in_vain(view, [other])}" for other, how in unmet.items())
    return ", ".join(said)


def _ready(known: ActualSet, *, job: bool) -> Condition:
    """Whether enough of a set serve, or have done their work."""
    tally = known.tally
    enough = tally.available + tally.completed >= tally.replicas
    if job:
        reason = "Completed" if enough else "WorkersFailed" if tally.failed else "JobRuns"
        return Condition("Ready", enough, reason, f"{tally.completed} of {tally.replicas} have ended well")
    reason = "AllServe" if enough else "TooFew"
    return Condition("Ready", enough, reason, f"{tally.available} of {tally.replicas} serve")


def _why_not(worker: Worker, policy: Policy) -> str:
    if worker.phase is Phase.RUNNING:
        return worker.reason or why_not_ready(worker, policy)
    return worker.reason or str(worker.phase)
