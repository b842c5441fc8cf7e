"""What we ask of the world: the actions of a plan.

Rule: an action is a request with its reason; that it was done is only known by the observation which answers it.
"""

from typing import Any

import attrs

from reconciler.core.serving import Probe, ProbeKind
from reconciler.core.spec import Drain, WorkerSpec


@attrs.frozen
class _OfSpec:
    """A request about one incarnation that needs to know the spec it is of."""

    uid: str
    set_name: str
    spec: WorkerSpec

    @property
    def key(self) -> Any:
        """Which worker."""
        return self.spec.key


@attrs.frozen
class Start(_OfSpec):
    """Start a new incarnation, from this spec. Answered by `Spawned` or `SpawnFailed`."""

    reason: str


@attrs.frozen
class Ask(_OfSpec):
    """Ask a probe of an incarnation that runs. Answered by `Probed`; without an answer until `deadline` (seconds,
    monotonic) it has failed.
    """

    kind: ProbeKind
    probe: Probe
    deadline: float


@attrs.frozen
class BeginDrain(_OfSpec):
    """Let an incarnation drain before it is asked to end, until `until` at the latest and `earliest` at the soonest
    (seconds, monotonic). Answered by `Drained` if there is a command.
    """

    drain: Drain
    earliest: float
    until: float
    reason: str


@attrs.frozen
class Stop:
    """Ask an incarnation to end, with a signal; it is killed at `deadline` (seconds, monotonic)."""

    uid: str
    set_name: str
    key: Any
    signal: str
    deadline: float
    reason: str


@attrs.frozen
class Kill:
    """End an incarnation and what is left of its process group, now."""

    uid: str
    set_name: str
    key: Any
    reason: str


@attrs.frozen
class Forget:
    """Drop the record of an ended incarnation whose key is no longer wanted. Nothing is asked of a driver."""

    uid: str
    set_name: str
    key: Any
    reason: str


Action = Start | Ask | BeginDrain | Stop | Kill | Forget
