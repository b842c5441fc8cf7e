"""What the world told us about one incarnation of a worker.

Rule: an observation names a uid, never a pid alone, and is safe to receive late, twice or not at all; `Lost` is how a
driver says that an incarnation does not run and never will again, without knowing how it ended.
"""

from typing import Any

import attrs


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
    | Exited
    | Lost
    | Adopted
    | StopRequested
    | KillRequested
    | ResetAsked
    | Elapsed
)

OBSERVATIONS: tuple[type[Any], ...] = Observation.__args__
