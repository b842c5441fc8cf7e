"""What is shown of the state: an immutable snapshot of sets and workers.

Rule: a projection and nothing more; all of it follows from what is desired and what exists, at the moment it is taken.
"""

from collections.abc import Mapping

import attrs

from reconciler.core.actual import Actual, ActualSet
from reconciler.core.spec import WorkerSet
from reconciler.core.worker import Phase, Worker


@attrs.frozen
class WorkerStatus:
    """One incarnation. `phase` is "Pending" for a wanted worker that has none, or none but a stopped one.

    `restarts` are those since its spec was changed; `age` and `retry_in` are in seconds.
    """

    key: str
    name: str
    phase: str
    uid: str | None = None
    pid: int | None = None
    ready: bool = False
    up_to_date: bool = False
    reason: str | None = None
    restarts: int = 0
    generation: int | None = None
    age: float | None = None
    retry_in: float | None = None


@attrs.frozen
class SetStatus:
    """One worker set: how many are wanted, serve, run the wanted spec, failed for good; whether its rollout stalled."""

    name: str
    generation: int
    observed_generation: int
    replicas: int
    available: int
    updated: int
    failed: int
    stalled: bool
    converged: bool


@attrs.frozen
class Snapshot:
    """The controller's state at one moment: all sets by name and all workers in key order."""

    sets: tuple[SetStatus, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()
    converged: bool = False
    stopping: bool = False


def snapshot(
    desired: Mapping[str, WorkerSet], actual: Actual, now: float, *, stopping: bool = False, sourced: bool = True
) -> Snapshot:
    """The state at `now` (seconds, monotonic). Nothing has converged before a source was read (`sourced`)."""
    sets = tuple(_set_status(name, actual.sets[name]) for name in sorted(actual.sets))
    rows = []
    for name, known in actual.sets.items():
        wanted = desired[name].workers if name in desired else {}
        for key in {**wanted, **known.by_key}:
            workers = [worker for worker in known.by_key.get(key, ()) if worker.phase is not Phase.STOPPED]
            spec = wanted.get(key)
            rows += [(worker.key, _worker_status(worker, known, now)) for worker in workers]
            if spec is not None and not workers:
                rows.append((key, WorkerStatus(str(key), name, "Pending")))
    rows.sort(key=lambda row: row[0])
    converged = sourced and not actual.unconverged and not actual.strays
    return Snapshot(sets, tuple(row for _, row in rows), converged, stopping)


def _set_status(name: str, known: ActualSet) -> SetStatus:
    tally = known.tally
    return SetStatus(
        name=name,
        generation=known.generation,
        observed_generation=known.progress.generation,
        replicas=tally.replicas,
        available=tally.available,
        updated=tally.updated,
        failed=tally.failed,
        stalled=known.progress.stalled,
        converged=tally.converged,
    )


def _worker_status(worker: Worker, known: ActualSet, now: float) -> WorkerStatus:
    wanted = known.wanted.workers.get(worker.key)
    backing_off = not worker.live and worker.deadline is not None
    return WorkerStatus(
        key=str(worker.key),
        name=worker.set_name,
        phase=str(worker.phase),
        uid=worker.uid,
        pid=worker.pid if worker.live else None,
        ready=worker.ready,
        up_to_date=wanted is not None and worker.spec.digest == wanted.digest,
        reason=worker.reason,
        restarts=worker.history.restarts,
        generation=worker.generation,
        age=now - worker.since,
        retry_in=max(0.0, worker.deadline - now) if backing_off and worker.deadline is not None else None,
    )
