"""What the world told us about one incarnation of a worker.

Rule: an observation names a uid, never a pid alone, and is safe to receive late, twice or not at all; `Lost` is how a
driver says that an incarnation does not run and never will again, without knowing how it ended.
"""

from typing import Any

import attrs

from reconciler.core.serving import ProbeKind


@attrs.frozen
class Spawned:
    """The process exists."""

    uid: str
    pid: int


@attrs.frozen
class SpawnFailed:
    """The process could not be started at all: at which stage (cwd, exec, fork, ...), and the error's number."""

    uid: str
    stage: str
    errno: int | None
    message: str


@attrs.frozen
class Ready:
    """The worker can serve."""

    uid: str


@attrs.frozen
class NotReady:
    """The worker runs but cannot serve."""

    uid: str
    reason: str


@attrs.frozen
class Notice:
    """What a worker told of itself beside that it can serve, by the protocol of systemd's sd_notify.

    It is `alive` (WATCHDOG=1), or asks to be taken as hung (`trigger`); it is `stopping` by itself, or `reloading`; it
    needs so many seconds more for what it does (`extend`), or wants another `watchdog` interval (seconds); `status` is
    for people.
    """

    uid: str
    alive: bool = False
    trigger: bool = False
    stopping: bool = False
    reloading: bool = False
    extend: float | None = None
    watchdog: float | None = None
    status: str | None = None


@attrs.frozen
class Probed:
    """What came of a probe: whether it succeeded, and if not, why, in a few words."""

    uid: str
    kind: ProbeKind
    success: bool
    message: str = ""


@attrs.frozen
class Drained:
    """The command that comes before the stop signal has ended, or could not be run; why, if it was no success."""

    uid: str
    message: str = ""


@attrs.frozen
class Exited:
    """The process ended, with an exit code or by a signal (its name without SIG), never both.

    `leftovers` counts the processes of its group that outlived it and were killed.
    """

    uid: str
    exit_code: int | None = None
    signal: str | None = None
    leftovers: int = 0


@attrs.frozen
class Lost:
    """The driver answers for it that this incarnation does not run and never will; how it ended is unknown."""

    uid: str


@attrs.frozen
class Adopted:
    """A process of an earlier controller was found alive and taken over."""

    uid: str
    pid: int


@attrs.frozen
class ProbeAsked:
    """We asked for a probe, whose answer must come until `deadline` (seconds, monotonic)."""

    uid: str
    kind: ProbeKind
    deadline: float


@attrs.frozen
class DrainRequested:
    """We decided to end it, and let it drain first; the stop signal comes at `until` at the latest, and not before
    `earliest` (seconds, monotonic).
    """

    uid: str
    earliest: float
    until: float
    reason: str


@attrs.frozen
class StopRequested:
    """We asked it to end, by a signal; it will be killed at `deadline` (seconds, monotonic)."""

    uid: str
    signal: str
    deadline: float
    reason: str


@attrs.frozen
class KillRequested:
    """We asked for its death."""

    uid: str
    reason: str


@attrs.frozen
class ResetAsked:
    """Somebody asked that its failures be forgotten, and that it be tried again now; `anew`, also if it succeeded."""

    uid: str
    anew: bool = False


@attrs.frozen
class Elapsed:
    """A deadline of the worker came; what it means is for its phase to say."""

    uid: str


Observation = (
    Spawned
    | SpawnFailed
    | Ready
    | NotReady
    | Notice
    | Probed
    | Drained
    | Exited
    | Lost
    | Adopted
    | ProbeAsked
    | DrainRequested
    | StopRequested
    | KillRequested
    | ResetAsked
    | Elapsed
)

OBSERVATIONS: tuple[type[Any], ...] = Observation.__args__
