"""How far a worker set has come towards the spec that is wanted, and since when it has come no further.

Rule: progress is counted in one direction only. What was reached and lost again, as by a worker that crashes whenever
it has become ready, is not progress when it is reached anew. The deadline is that of Kubernetes' Deployment; unlike
there it also stops the rollout, so that what still serves is left alone.
"""

import attrs

from reconciler.core import event
from reconciler.core.event import Event
from reconciler.core.spec import Rollout


@attrs.frozen
class Tally:
    """The workers of a set, counted by key.

    `available` serve, whatever their spec; `updated` serve, or ended well, from the wanted spec; `outdated` counts each
    incarnation that still lives from another one; `surging` have two incarnations; `surplus` exist and are not wanted;
    `settled` are updated and alone; `failed` ended for good, and `completed` ended well, without one that serves beside
    them; `started` have a process that runs, or ended well; `breathless` are outdated, alone, and serve no longer.
    """

    replicas: int
    available: int
    updated: int
    outdated: int
    surging: int
    surplus: int
    settled: int
    failed: int
    completed: int
    started: int
    breathless: int

    @property
    def converged(self) -> bool:
        """Whether each wanted worker is settled and nothing else is left."""
        return self.settled == self.replicas and self.surplus == 0


@attrs.frozen
class Progress:
    """How far one generation has come. `since` is the time of the last progress, in seconds, monotonic."""

    generation: int
    since: float
    best: tuple[int, int] | None = None
    announced: bool = False
    done: bool = False
    stalled: bool = False

    def deadline(self, rollout: Rollout) -> float | None:
        """When it counts as stalled, unless there is progress before."""
        return None if self.done or self.stalled else self.since + rollout.progress_deadline


def is_reached(tally: Tally, rollout: Rollout) -> bool:
    """Whether nothing more is left to be done: with `on_delete`, what serves is outdated for as long as it likes."""
    serving = tally.available + tally.completed
    return tally.converged or (rollout.strategy == "on_delete" and serving == tally.replicas and not tally.surplus)


def advance(progress: Progress, tally: Tally, rollout: Rollout, now: float, *, patient: bool = False) -> Progress:
    """The progress with what the tally shows at `now`. A `patient` one does not stall."""
    if progress.done:
        return progress
    if is_reached(tally, rollout):
        return attrs.evolve(progress, done=True, stalled=False)
    announced = progress.announced or (
        tally.outdated > 0 and progress.generation > 1 and rollout.strategy != "on_delete"
    )
    standing = (tally.outdated + tally.surplus, tally.replicas - tally.updated)
    if progress.best is None:
        return attrs.evolve(progress, announced=announced, best=standing)
    if standing < progress.best:
        return attrs.evolve(progress, announced=announced, best=standing, since=now, stalled=False)
    if not progress.stalled and not patient and now >= progress.since + rollout.progress_deadline:
        return attrs.evolve(progress, announced=announced, stalled=True)
    return progress if announced == progress.announced else attrs.evolve(progress, announced=announced)


def events(name: str, before: Progress, after: Progress, tally: Tally) -> list[Event]:
    """The events of the step from `before` to `after`."""
    if before is after:
        return []
    told = []
    if after.announced and not before.announced:
        told.append(_about(name, after, event.ROLLOUT_STARTED, outdated=tally.outdated, replicas=tally.replicas))
    if after.done and not before.done and after.announced:
        told.append(_about(name, after, event.ROLLOUT_COMPLETED, replicas=tally.replicas))
    elif after.stalled != before.stalled:
        kind = event.ROLLOUT_STALLED if after.stalled else event.ROLLOUT_RESUMED
        told.append(_about(name, after, kind, updated=tally.updated, replicas=tally.replicas))
    return told


def _about(name: str, progress: Progress, kind: str, **extra: int) -> Event:
    reason = "ProgressDeadlineExceeded" if kind == event.ROLLOUT_STALLED else None
    return Event(kind, name=name, generation=progress.generation, reason=reason, extra=extra)
