"""What exists: one incarnation of a worker, its phase, and the restart history that its successor inherits.

Rule: one exclusive phase per incarnation; whatever is orthogonal to it (ready, up to date) is a fact of its own with a
reason. "Pending" (wanted, no process yet) is derived where it is shown and never stored.
"""

from enum import StrEnum
from operator import attrgetter
from typing import Any

import attrs

from reconciler.core import health
from reconciler.core.health import Health
from reconciler.core.serving import Probes
from reconciler.core.spec import WorkerSpec


class Phase(StrEnum):
    """One word for where an incarnation is in its life."""

    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    BACKOFF = "Backoff"
    SUCCEEDED = "Succeeded"
    STOPPED = "Stopped"
    FAILED = "Failed"


LIVE = frozenset({Phase.STARTING, Phase.RUNNING, Phase.STOPPING})
"""The phases in which a process exists or may exist."""


@attrs.frozen
class History:
    """What is remembered of a worker's earlier incarnations.

    `failures` are the ends since the last long run, `restarts` the starts anew since the spec was changed, `starts` the
    times (seconds, monotonic) that the start limit counts; without a limit it stays empty.
    """

    failures: int = 0
    restarts: int = 0
    starts: tuple[float, ...] = ()


@attrs.frozen
class End:
    """How an incarnation ended: an exit code, or a signal's name, or neither where that is unknown."""

    exit_code: int | None = None
    signal: str | None = None


@attrs.frozen
class Worker:
    """One incarnation. Times are in seconds, monotonic.

    `deadline` is the next moment that matters to its phase: in Starting when an answer is overdue, in Running when it
    counts as ready, in Stopping when it is killed, in Backoff when it is tried again. `generation` is that of the set
    when it was started, `judged` that of the set when it ended. `able_since` is when it could serve, which it must do
    for a while to be ready.
    """

    uid: str
    set_name: str
    spec: WorkerSpec
    generation: int
    phase: Phase
    since: float
    history: History = History()
    pid: int | None = None
    started_at: float | None = None
    able_since: float | None = None
    ready: bool = False
    reason: str | None = None
    deadline: float | None = None
    end: End | None = None
    judged: int | None = None
    trial: bool = False
    health: Health = health.NONE
    probes: Probes = Probes()
    served: bool = False
    quit_at: float | None = None
    drains_until: float | None = None

    @property
    def key(self) -> Any:
        """Which worker this is an incarnation of."""
        return self.spec.key

    @property
    def wake_at(self) -> float | None:
        """When to look at it again though nothing happens."""
        if self.quit_at is not None and self.phase is Phase.STOPPING:
            return self.quit_at if self.deadline is None else min(self.quit_at, self.deadline)
        if self.phase is not Phase.RUNNING:
            return self.deadline
        due = health.due(self.health)
        if due is None or self.deadline is None:
            return self.deadline if due is None else due
        return min(due, self.deadline)

    @property
    def ailing(self) -> bool:
        """Whether it runs, and must be ended for what it does or does not do."""
        return self.phase is Phase.RUNNING and self.health.ailment is not None

    @property
    def live(self) -> bool:
        """Whether a process exists or may exist."""
        return self.phase in LIVE


def changed(worker: Worker, **facts: Any) -> Worker:
    """The same incarnation with other facts: `attrs.evolve` in half of the time, as each step in the life of each
    worker comes by here.
    """
    values = list(_facts(worker))
    for name, value in facts.items():
        values[_PLACES[name]] = value
    return Worker(*values)


_PLACES = {name: place for place, name in enumerate(attrs.fields_dict(Worker))}
_facts = attrgetter(*_PLACES)
