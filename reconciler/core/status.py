"""What is shown of the state: an immutable snapshot of sets and workers.

Rule: a projection and nothing more; all of it follows from what is desired and what exists, at the moment it is taken.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from reconciler.core import dependencies, override
from reconciler.core.actual import Actual
from reconciler.core.actual_set import ActualSet
from reconciler.core.override import Override
from reconciler.core.spec import WorkerSet, WorkerSpec
from reconciler.core.worker import Phase, Worker


@attrs.frozen
class WorkerStatus:
    """One incarnation. `phase` is "Pending" for a wanted worker that has none, or none but a stopped one, and "Stopped"
    for one that somebody asked to stay down.

    `restarts` are those since its spec was changed. `since` is when it came into its phase and `started_at` when its
    process began, `retry_at` when it will be started again: seconds on the monotonic clock. `says` is what it told of
    itself for people (STATUS=).
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


@attrs.frozen
class SetStatus:
    """One worker set: how many are wanted, serve, run the wanted spec, failed for good; whether its rollout stalled or
    is paused; and in what it is run otherwise than its file says. It is `settled` when nothing more will be done of
    itself, be it because something failed for good. `since` is when one of its workers last came into another phase
    (seconds, monotonic).
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
    """One key of a set: the spec that is wanted for it, if any, its incarnations, and whether it must stay down.

    Two places with the same objects in them look the same.
    """

    key: Any
    set_name: str
    spec: WorkerSpec | None
    workers: tuple[Worker, ...]
    down: bool = False


def places(view: View, name: str) -> Iterator[Place]:
    """All keys of a set that has been looked at, in no order."""
    known = view.actual.sets[name]
    wanted = view.desired.get(name, known.wanted)
    for key in {**wanted.workers, **known.by_key}:
        yield Place(key, name, wanted.workers.get(key), known.by_key.get(key, ()), key in wanted.down)
    for key in wanted.down:
        if key not in known.by_key:
            yield Place(key, name, None, (), down=True)


def statuses(place: Place) -> Iterator[WorkerStatus]:
    """What is shown of a place: its incarnations but those that were stopped, or that there is none."""
    shown = [worker for worker in place.workers if worker.phase is not Phase.STOPPED]
    for worker in shown:
        yield _worker_status(worker, place.spec)
    if not shown and place.down:
        yield WorkerStatus(str(place.key), place.set_name, "Stopped", reason="StopAsked")
    elif not shown and place.spec is not None:
        yield WorkerStatus(str(place.key), place.set_name, "Pending")


def set_status(view: View, name: str) -> SetStatus:
    """One of the sets that have been looked at."""
    known: ActualSet = view.actual.sets[name]
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
        settled=tally.converged or dependencies.rests(view.actual.sets, known),
        paused=known.wanted.paused,
        drift=override.drift(name, view.overrides, view.sourced or {}),
        since=max((worker.since for workers in known.by_key.values() for worker in workers), default=None),
    )


def _worker_status(worker: Worker, wanted: WorkerSpec | None) -> WorkerStatus:
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
    )
