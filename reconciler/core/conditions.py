"""Conditions: orthogonal facts about a set or a worker, each with a reason.

Rule: a projection of the state, as `status` is; a condition that is false says why by its reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs

from reconciler.core import dependencies
from reconciler.core.explain import RULES, why_not_ready
from reconciler.core.lifecycle import own
from reconciler.core.spec import Policy, Socket
from reconciler.core.status import View
from reconciler.core.worker import Phase, Worker


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
    serving = tally.available + tally.completed
    missing = f"{tally.available} of {tally.replicas} serve"
    yield Condition("Ready", serving >= tally.replicas, "AllServe" if serving >= tally.replicas else "TooFew", missing)
    sockets = wanted.template.sockets if wanted.template is not None else ()
    if sockets:
        bad = [unbound[one] for one in sockets if one in unbound]
        yield Condition("SocketsBound", not bad, "NotBound" if bad else "Bound", "; ".join(bad))
    if wanted.policy.needed:
        unmet = list(dependencies.unmet(view.actual.sets, known))
        awaited = ", ".join(f"{other} must be {how}" for other, how in unmet)
        yield Condition("DependenciesMet", not unmet, "Waiting" if unmet else "Met", awaited)
    updated = f"{tally.updated} of {tally.replicas} run the wanted spec"
    yield Condition("UpToDate", tally.converged, "Converged" if tally.converged else "Outdated", updated)
    progress = known.progress
    if progress.stalled:
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


def _why_not(worker: Worker, policy: Policy) -> str:
    if worker.phase is Phase.RUNNING:
        return worker.reason or why_not_ready(worker, policy)
    return worker.reason or str(worker.phase)
