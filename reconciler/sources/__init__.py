"""Floor 1: sources say what is desired.

Rule: level, not edge. A doorbell only says that it may be worth looking; `read` looks again at everything and compares.
What cannot be read is not "nothing": a source then keeps its last good answer. A source imports `core` and no other
edge.
"""

from collections.abc import Mapping
from typing import Protocol

import attrs

from reconciler.core.event import Event
from reconciler.core.spec import WorkerSet


@attrs.frozen
class Reading:
    """What one look at a source gave.

    `sets` is the whole desired state by set name, or None where nothing changed since the last reading. `events` tell
    what was added, changed, removed, rejected, recovered or held. `wake_at` (seconds, monotonic) asks for another
    `read` then, without a ring. `answered` is False where the source had no answer: it failed, or said "no change".
    """

    sets: Mapping[str, WorkerSet] | None
    events: tuple[Event, ...] = ()
    wake_at: float | None = None
    answered: bool = True


class Source(Protocol):
    """What the controller asks of a source. No method raises for bad or missing input."""

    def read(self, now: float, *, urgent: bool = False) -> Reading:
        """Look, compare, and answer. `now` is in seconds, monotonic. `urgent` (start, HUP) takes files as they are,
        without waiting for them to settle.
        """

    def fileno(self) -> int | None:
        """A descriptor that is readable when the bell rang, or None where there is no bell. `read` empties it."""

    def close(self) -> None:
        """Free what the source holds."""
