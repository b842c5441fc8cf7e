"""An engine on a stage: the real decisions, and everything around them in the hand of the test.

Rule: nothing here waits, starts a process or reads a file; a simulated hour takes milliseconds.
"""

from collections.abc import Sequence

from reconciler.core import event
from reconciler.core.diff import diff
from reconciler.core.event import Event, spec_event
from reconciler.core.spec import SetSpec, WorkerSet, expand
from reconciler.core.status import Snapshot
from reconciler.engine import Engine
from reconciler.sources import Reading, Source
from reconciler.testing.clock import ManualClock
from reconciler.testing.driver import FakeDriver

_KINDS = {"added": event.SPEC_ADDED, "changed": event.SPEC_CHANGED, "removed": event.SPEC_REMOVED}


class MemorySource:
    """Desired state that a test sets."""

    def __init__(self, *wanted: SetSpec | WorkerSet) -> None:
        self._sets: dict[str, WorkerSet] = {}
        self._read: dict[str, WorkerSet] | None = None
        self.want(*wanted)

    def want(self, *wanted: SetSpec | WorkerSet) -> None:
        """Let these be all the worker sets; the next reading tells."""
        sets = (expand(one) if isinstance(one, SetSpec) else one for one in wanted)
        self._sets = {one.name: one for one in sets}

    def read(self, now: float, *, urgent: bool = False) -> Reading:  # noqa: ARG002  there is nothing to wait for
        """See `Source`."""
        changes = diff(self._read or {}, self._sets)
        if self._read is not None and not changes:
            return Reading(None)
        self._read = self._sets
        return Reading(self._sets, tuple(spec_event(_KINDS[c.kind], c.key, "memory") for c in changes))

    def fileno(self) -> int | None:
        """There is no bell: the test asks for a reading."""
        return None

    def close(self) -> None:
        """Nothing is held."""


class Stage:
    """A real engine with a source, a fake driver, a clock that the test moves, and the list of all events so far."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.clock = ManualClock()
        self.driver = FakeDriver()
        self.events: list[Event] = []
        self.engine = Engine(source, self.driver, self.publish)
        self.wake_at = float("inf")

    def publish(self, events: Sequence[Event]) -> None:
        """Take in what the engine tells."""
        self.events += events

    def turn(self, *, read: bool = False) -> None:
        """One turn of the engine, at once; `read` makes it look at its source."""
        self.wake_at = self.engine.turn(self.clock.now, read=read)

    def advance(self, seconds: float = 0.0) -> None:
        """One turn now, and then let time pass, with a turn whenever the engine asked for one or something happens."""
        end = self.clock.now + seconds
        self.turn()
        while (at := min(self.wake_at, self.clock.next_at)) <= end:
            self.clock.move_to(max(at, self.clock.now))
            self.turn()
        self.clock.move_to(end)

    def status(self) -> Snapshot:
        """The state at this moment."""
        return self.engine.status()

    def told(self, key: str | None = None) -> list[str]:
        """The names of all events so far, in order, or of those about one worker."""
        return [told.event for told in self.events if key in (None, told.key)]
