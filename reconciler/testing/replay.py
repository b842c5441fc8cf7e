"""Rebuilds the state of all workers from a run's events alone.

Rule: nothing is looked up anywhere else. As far as this succeeds, the log of a run tells all that there is to know.
"""

from collections.abc import Iterable
from typing import Any

import attrs

from reconciler.core import event
from reconciler.core.event import Event
from reconciler.core.status import WorkerStatus
from reconciler.core.worker import Phase

_ENDED = frozenset({Phase.BACKOFF, Phase.SUCCEEDED, Phase.FAILED})
_GONE = frozenset({event.WORKER_STOPPED, event.WORKER_FORGOTTEN})
_PHASES = {
    event.WORKER_STOPPING: Phase.STOPPING,
    event.WORKER_KILLING: Phase.STOPPING,
    event.WORKER_DRAINING: Phase.STOPPING,
    event.WORKER_DRAINED: Phase.STOPPING,
    event.WORKER_BACKOFF: Phase.BACKOFF,
    event.WORKER_SUCCEEDED: Phase.SUCCEEDED,
    event.WORKER_FAILED: Phase.FAILED,
    event.WORKER_RESET: Phase.BACKOFF,
}


class Replay:
    """The workers by uid, as far as the events that were taken in tell.

    What only desired state and clock can tell (`up_to_date`, the times, and which workers are Pending) is left
    out.
    """

    def __init__(self) -> None:
        self.workers: dict[str, WorkerStatus] = {}

    def take(self, told: Event) -> None:
        """Take in one more event."""
        if told.uid is None or told.key is None:
            return
        if told.event == event.WORKER_STARTING:
            self._begin(told, told.uid)
        elif told.event in _GONE:
            self.workers.pop(told.uid, None)
        elif told.event == event.WORKER_SUCCEEDED and told.uid not in self.workers:  # before this controller began
            self.workers[told.uid] = WorkerStatus(
                told.key,
                told.name or "",
                Phase.SUCCEEDED,
                told.uid,
                reason=told.reason,
                generation=told.generation,
            )
        elif told.uid in self.workers:
            row = self.workers[told.uid]
            self.workers[told.uid] = attrs.evolve(row, generation=told.generation, **_changes(row, told))

    def _begin(self, told: Event, uid: str) -> None:
        """A new incarnation takes the place of the ended ones of its worker."""
        for other in list(self.workers.values()):
            if (other.name, other.key) == (told.name, told.key) and other.phase in _ENDED:
                del self.workers[other.uid or ""]
        self.workers[uid] = WorkerStatus(
            told.key or "",
            told.name or "",
            Phase.STARTING,
            uid,
            restarts=told.extra["restarts"],
            generation=told.generation,
        )


def replay(events: Iterable[Event]) -> dict[str, WorkerStatus]:
    """The workers by uid after these events; see `Replay`."""
    rebuilt = Replay()
    for told in events:
        rebuilt.take(told)
    return rebuilt.workers


def recorded(rows: Iterable[WorkerStatus]) -> dict[str, WorkerStatus]:
    """The workers of a status by uid, without what a replay leaves out: what `replay` should give."""
    return {
        row.uid: WorkerStatus(
            row.key,
            row.name,
            row.phase,
            row.uid,
            row.pid,
            row.ready,
            reason=row.reason,
            restarts=row.restarts,
            generation=row.generation,
        )
        for row in rows
        if row.uid
    }


def _changes(row: WorkerStatus, told: Event) -> dict[str, Any]:
    if told.event in (event.WORKER_SIGNALLED, event.WORKER_UNHEALTHY) or (
        told.event == event.WORKER_RESET and row.phase not in _ENDED
    ):
        return {}
    if told.event in (event.WORKER_STARTED, event.WORKER_ADOPTED):
        running = Phase.RUNNING if row.phase == Phase.STARTING else row.phase
        return {"phase": running, "pid": told.pid, "reason": told.reason}
    if told.event == event.WORKER_READY:
        return {"ready": True, "reason": None}
    if told.event == event.WORKER_NOT_READY:
        return {"ready": False, "reason": told.reason}
    if told.event == event.WORKER_START_FAILED:
        return {"phase": Phase.BACKOFF, "reason": told.reason}
    if told.event == event.WORKER_EXITED:
        return {"phase": Phase.BACKOFF, "pid": None, "ready": False, "reason": "CrashLoopBackOff"}
    return {"phase": _PHASES[told.event], "ready": False, "reason": told.reason}
