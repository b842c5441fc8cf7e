"""What we ask of the world: the actions of a plan.

Rule: an action is a request with its reason; that it was done is only known by the observation which answers it.
"""

from typing import Any

import attrs

from reconciler.core.spec import WorkerSpec


@attrs.frozen
class Start:
    """Start a new incarnation, from this spec. Answered by `Spawned` or `SpawnFailed`."""

    uid: str
    set_name: str
    spec: WorkerSpec
    reason: str

    @property
    def key(self) -> Any:
        """Which worker."""
        return self.spec.key


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


Action = Start | Stop | Kill | Forget
