"""Floor 1: drivers carry actions out. Only drivers touch processes (fork, spawn, kill, wait).

Rule: each call is a request and returns at once; what came of it is told by `poll`, so that a driver may as well live
in another process or on another machine. A driver imports `core` and no other edge.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from reconciler.core.observation import Observation
from reconciler.core.serving import Probe, ProbeKind
from reconciler.core.spec import Drain, WorkerSpec


class Driver(Protocol):
    """What the controller asks of a driver. No method raises for a failure of the world, and none blocks."""

    def start(self, uid: str, set_name: str, spec: WorkerSpec) -> None:
        """Start `spec` as the incarnation `uid`. Answered by `Spawned` or `SpawnFailed`, and by `Exited` at its end."""

    def stop(self, uid: str, signal: str) -> None:
        """Send a signal (its name without SIG), then CONT, to the incarnation's process group.

        For an incarnation that is still being started it applies once it runs. For one that is unknown the answer is
        `Lost`.
        """

    def kill(self, uid: str) -> None:
        """KILL the incarnation's process group. For an incarnation that is unknown the answer is `Lost`."""

    def signal(self, uid: str, signal: str) -> None:
        """Send a signal (its name without SIG) to the incarnation's own process, which means nothing to the plan. For
        an incarnation that is unknown nothing happens.
        """

    def probe(self, uid: str, set_name: str, spec: WorkerSpec, kind: ProbeKind, probe: Probe) -> None:
        """Ask a probe of an incarnation that runs, instead of any that still waits for its answer. Answered by
        `Probed`, also where it takes longer than the probe's timeout.
        """

    def drain(self, uid: str, set_name: str, spec: WorkerSpec, drain: Drain) -> None:
        """Run the command that comes before a stop, instead of any probe. Answered by `Drained`."""

    def wake_at(self) -> float | None:
        """When to call `poll` though nothing happened (seconds, monotonic): the timeout of a probe or of a drain."""

    def poll(self) -> Sequence[Observation]:
        """What happened since the last call, each thing once, in order."""

    def live(self) -> Collection[str]:
        """The uids that were started, or are being started, and have not ended. The truth against which lost
        observations are found.
        """

    def fileno(self) -> int | None:
        """A descriptor that is readable when `poll` has something to tell; None if `poll` must only be called after
        requests.
        """

    def close(self) -> None:
        """Free what the driver holds. Touches no worker."""
