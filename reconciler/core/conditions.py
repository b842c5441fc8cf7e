"""Conditions: orthogonal facts about a set or a worker, each with a reason.

Rule: a projection of the state, as `status` is; a condition that is false says why by its reason.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from reconciler.core.explain import RULES
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


def of_set(view: View, name: str, problems: Sequence[str] = ()) -> Iterator[Condition]:
    """The conditions of a set. `problems` are what is wrong with its file now."""
    known = view.actual.sets[name]
    tally, wanted = known.tally, view.desired.get(name, known.wanted)
    if problems:
        yield Condition("SpecAccepted", False, "Rejected", problems[0])  # noqa: FBT003
    elif wanted.template is not None:
        yield Condition("SpecAccepted", True, "Accepted")  # noqa: FBT003
    serving = tally.available + tally.completed
    missing = f"{tally.available} of {tally.replicas} serve"
    yield Condition("Ready", serving >= tally.replicas, "AllServe" if serving >= tally.replicas else "TooFew", missing)
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
    reason = "Serves" if ready else _why_not(worker)
    yield Condition("Ready", ready, reason, RULES.get(reason, ""), worker.able_since if ready else worker.since)
    current = spec is not None and worker.spec.digest == spec.digest
    yield Condition("UpToDate", current, "Current" if current else "Outdated" if spec is not None else "Unwanted")


def _why_not(worker: Worker) -> str:
    if worker.phase is Phase.RUNNING:
        return worker.reason or ("NotNotified" if worker.able_since is None else "MinReady")
    return worker.reason or str(worker.phase)
