"""What is shown of the state: an immutable snapshot of sets and workers.

Rule: a projection and nothing more; all of it follows from what is desired and what exists, at the moment it is taken.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from reconciler.core import dependencies, override
from reconciler.core.actual import Actual
from reconciler.core.actual_set import ActualSet
from reconciler.core.override import Override, RolledBack
from reconciler.core.spec import WorkerSet, WorkerSpec
from reconciler.core.worker import Phase, Worker


@attrs.frozen
class WorkerStatus:
    """One incarnation. `phase` is "Pending" for a wanted worker that has none, or none but a stopped one, and "Stopped"
    for one that somebody asked to stay down.

    `restarts` are those since its spec was changed. `since` is when it came into its phase and `started_at` when its
    process began, `retry_at` when it will be started again: seconds on the monotonic clock. `says` is what it told of
    itself for people (STATUS=). It belongs to a `job`, or serves. `waits_for` are the sets that must come further
    before it is started, `in_vain` where one of them will not of itself.
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
    since: float | None = None
    started_at: float | None = None
    retry_at: float | None = None
    says: str | None = None
    job: bool = False
    waits_for: tuple[str, ...] = ()
    in_vain: bool = False


@attrs.frozen
class SetStatus:
    """One worker set: how many are wanted, serve, run the wanted spec, failed for good; whether its rollout stalled or
    is paused; and in what it is run otherwise than its file says. It is `settled` when nothing more will be done of
    itself, be it because something failed for good. `since` is when one of its workers last came into another phase
    (seconds, monotonic).

    The workers of a `job` run to their end: so many are `active`, and so many have `completed`. `waits_for` are the
    sets that must come further before one of its workers is started, `in_vain` where one of them will not of itself. So
    many workers that are outdated are `kept` by the rollout's partition. It was `undone` if a rollout stalled and the
    set went back by itself.
    """

    name: str
    generation: int
    observed_generation: int
    replicas: int
    available: int
    updated: int
    failed: int
    stalled: bool
    converged: bool
    settled: bool = False
    paused: bool = False
    drift: tuple[str, ...] = ()
    since: float | None = None
    job: bool = False
    active: int = 0
    completed: int = 0
    waits_for: tuple[str, ...] = ()
    in_vain: bool = False
    kept: int = 0
    undone: bool = False
    suspended: bool = False


@attrs.frozen
class Snapshot:
    """The controller's state at one moment: all sets by name and all workers in key order."""

    sets: tuple[SetStatus, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()
    converged: bool = False
    stopping: bool = False


@attrs.frozen
class View:
    """What a snapshot is taken of: what the source says (None before it was read), what was asked of it, what is
    desired after that, and what exists.
    """

    sourced: Mapping[str, WorkerSet] | None
    overrides: Sequence[Override]
    desired: Mapping[str, WorkerSet]
    actual: Actual
    stopping: bool = False

    @property
    def converged(self) -> bool:
        """Whether all is as desired. Nothing has converged before a source was read."""
        return self.sourced is not None and not self.actual.unconverged and not self.actual.strays


def snapshot(view: View) -> Snapshot:
    """The state at this moment."""
    rows = [
        (place.key, status) for name in view.actual.sets for place in places(view, name) for status in statuses(place)
    ]
    rows.sort(key=lambda row: row[0])
    sets = tuple(set_status(view, name) for name in sorted(view.actual.sets))
    return Snapshot(sets, tuple(status for _, status in rows), view.converged, view.stopping)


@attrs.frozen
class Place:
    """One key of a set: the spec that is wanted for it, if any, its incarnations, and whether it must stay down. What
    its set waits for is said as in `WorkerStatus`.

    Two places with the same objects in them look the same.
    """

    key: Any
    set_name: str
    spec: WorkerSpec | None
    workers: tuple[Worker, ...]
    down: bool = False
    job: bool = False
    waits_for: tuple[str, ...] = ()
    in_vain: bool = False


def places(view: View, name: str) -> Iterator[Place]:
    """All keys of a set that has been looked at, in no order."""
    known = view.actual.sets[name]
    wanted = view.desired.get(name, known.wanted)
    job, waits_for = wanted.policy.job, waiting(view, name)
    hopeless = is_in_vain(view, waits_for)
    for key in {**wanted.workers, **known.by_key}:
        workers, down = known.by_key.get(key, ()), key in wanted.down
        yield Place(key, name, wanted.workers.get(key), workers, down, job, waits_for, hopeless)
    for key in wanted.down:
        if key not in known.by_key:
            yield Place(key, name, None, (), down=True, job=job)


def waiting(view: View, name: str) -> tuple[str, ...]:
    """The sets that must come further before a worker of this one is started."""
    return tuple(other for other, _ in dependencies.unmet(view.actual.sets, view.actual.sets[name]))


def is_in_vain(view: View, waits_for: Iterable[str]) -> bool:
    """Whether one of these sets will not come further of itself."""
    sets = view.actual.sets
    return any(name not in sets or dependencies.rests(sets, sets[name]) for name in waits_for)


def statuses(place: Place) -> Iterator[WorkerStatus]:
    """What is shown of a place: its incarnations but those that were stopped, or that there is none."""
    shown = [worker for worker in place.workers if worker.phase is not Phase.STOPPED]
    for worker in shown:
        yield _worker_status(worker, place)
    if not shown and place.down:
        yield WorkerStatus(str(place.key), place.set_name, "Stopped", reason="StopAsked", job=place.job)
    elif not shown and place.spec is not None:
        waits, job = place.waits_for, place.job
        reason = "WaitsForDependency" if waits else None
        pending = WorkerStatus(str(place.key), place.set_name, "Pending", reason=reason, job=job)
        yield attrs.evolve(pending, waits_for=waits, in_vain=place.in_vain)


def set_status(view: View, name: str) -> SetStatus:
    """One of the sets that have been looked at."""
    known: ActualSet = view.actual.sets[name]
    tally, kept, waits_for = known.tally, list(_kept(known)), waiting(view, name)
    template = known.wanted.template
    return SetStatus(
        name=name,
        generation=known.generation,
        observed_generation=known.progress.generation,
        replicas=tally.replicas,
        available=tally.available,
        updated=tally.updated - sum(kept),
        failed=tally.failed,
        stalled=known.progress.stalled,
        converged=tally.converged,
        settled=tally.converged or dependencies.rests(view.actual.sets, known),
        paused=known.wanted.paused,
        drift=override.drift(name, view.overrides, view.sourced or {}),
        since=max((worker.since for workers in known.by_key.values() for worker in workers), default=None),
        job=known.wanted.policy.job,
        active=tally.started - tally.completed,
        completed=tally.completed,
        waits_for=waits_for,
        in_vain=is_in_vain(view, waits_for),
        kept=len(kept),
        undone=any(
            isinstance(one, RolledBack) and one.set_name == name and one.revision is None for one in view.overrides
        ),
        suspended=template is not None and template.suspend,
    )


def _kept(known: ActualSet) -> Iterator[bool]:
    """Of each outdated worker that the partition keeps whether the tally takes it for updated, as it takes all that are
    as they are to be for now.
    """
    for key in known.held:
        workers, spec = known.by_key.get(key, ()), known.wanted.workers.get(key)
        if workers and spec is not None and workers[-1].spec.digest != spec.digest:
            yield any(worker.ready or worker.phase is Phase.SUCCEEDED for worker in workers)


def _worker_status(worker: Worker, place: Place) -> WorkerStatus:
    wanted, waits = place.spec, worker.phase is Phase.BACKOFF
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
        since=worker.since,
        started_at=worker.started_at,
        retry_at=worker.deadline if backing_off else None,
        says=worker.health.status,
        job=place.job,
        waits_for=place.waits_for if waits else (),
        in_vain=place.in_vain and waits,
    )
