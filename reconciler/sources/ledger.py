"""What a spec directory has given so far: the last good spec of each name, what is held, and the events of it all.

Rule: absence of evidence is not a delete. A bad file changes nothing but that it is told, once; a file that is gone
counts only when it stays gone; and much that is gone at once must stay gone for longer. Nothing here touches a file or
reads a clock: what was seen comes in, with the time (seconds, monotonic) where it matters.
"""

from collections.abc import Iterable, Mapping

import attrs

from reconciler.core import event
from reconciler.core.diff import fields
from reconciler.core.event import Event, problems_of, spec_event
from reconciler.core.spec import SetSpec, WorkerSet, expand
from reconciler.sources.verdict import BAD_NAME, Rejection

GONE_S = 0.5
"""How long a file must be gone to count as removed. Editors that rename the old file away and then write a new one
leave a gap of some milliseconds, or some hundred where the disk is busy; who deletes a file waits no longer than this.
"""

HOLD_S = 2.0
"""How long files must be gone that together have more than half of the workers, and more than one."""

MASS_REMOVAL = "MassRemoval"


@attrs.define
class _Entry:
    """What is known of one name."""

    spec: SetSpec | None = None
    file: str = ""
    rejection: Rejection | None = None
    gone_since: float | None = None


class Ledger:
    """The last good answer of a directory, kept over everything that can go wrong with it."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._entries: dict[str, _Entry] = {}
        self._sets: dict[str, WorkerSet] = {}
        self._answered = False
        self._changed = False
        self._held: str | None = None
        self._events: list[Event] = []

    def accept(self, name: str, file: str, spec: SetSpec) -> None:
        """A good spec was read."""
        entry = self._entries.setdefault(name, _Entry())
        before, rejected = entry.spec, entry.rejection
        entry.spec, entry.file, entry.rejection = spec, file, None
        if before is None:
            self._put(spec)
            self.tell(spec_event(event.SPEC_ADDED, name, file, replicas=spec.replicas))
            return
        if rejected is not None:
            self.tell(spec_event(event.SPEC_RECOVERED, name, file))
        if spec != before:
            self._put(spec)
            changed = dict.fromkeys(path.partition(".")[0] for path in fields(before, spec))
            self.tell(spec_event(event.SPEC_CHANGED, name, file, fields=tuple(changed)))

    def reject(self, name: str, rejection: Rejection) -> None:
        """A file, or what two files say of one name, cannot be taken. The last good spec stays; told once."""
        entry = self._entries.setdefault(name, _Entry())
        if entry.rejection != rejection:
            entry.rejection = rejection
            known = None if rejection.reason == BAD_NAME else name
            problems = problems_of(rejection.problems)
            self.tell(spec_event(event.SPEC_REJECTED, known, rejection.file, rejection.reason, problems=problems))

    def present(self, name: str) -> None:
        """There is a file for this name, whatever it holds."""
        if name in self._entries:
            self._entries[name].gone_since = None

    def gone(self, name: str, now: float) -> None:
        """There is no file for this name. `sweep` draws the conclusion."""
        entry = self._entries.get(name)
        if entry is not None and entry.gone_since is None:
            entry.gone_since = now

    def sweep(self, now: float) -> float | None:
        """Let go of what has been gone for long enough. Returns when to look again, if anything is still gone."""
        gone = {name: entry.gone_since for name, entry in self._entries.items() if entry.gone_since is not None}
        if not gone and self._held != MASS_REMOVAL:
            return None
        workers = self._workers(gone)
        much = workers > 1 and 2 * workers > self._workers(self._sets)
        for name in sorted(gone):
            if gone[name] + (HOLD_S if much else GONE_S) <= now:
                self._remove(name)
                del gone[name]
        if any(since + GONE_S <= now for since in gone.values()):
            self._hold(MASS_REMOVAL, self._workers(gone))
        elif self._held == MASS_REMOVAL:
            self._release()
        deadlines = (since + grace for since in gone.values() for grace in (GONE_S, HOLD_S))
        return min((deadline for deadline in deadlines if deadline > now), default=None)

    def files(self) -> Mapping[str, str]:
        """The path of each good spec's file."""
        return {name: entry.file for name, entry in self._entries.items() if entry.spec is not None}

    def rejections(self) -> Mapping[str, Rejection]:
        """What is wrong now, by name."""
        return {name: entry.rejection for name, entry in self._entries.items() if entry.rejection is not None}

    def unreachable(self, reason: str) -> None:
        """The directory cannot be looked into: everything stays as it is."""
        self._hold(reason, self._workers(self._sets))

    def reached(self, now: float) -> None:
        """The directory was looked into. If it could not be before, what is gone counts as gone only from now on."""
        if not self._answered:
            self._answered = self._changed = True
        if self._held not in (None, MASS_REMOVAL):
            self._release()
            for entry in self._entries.values():
                entry.gone_since = None if entry.gone_since is None else now

    def tell(self, told: Event) -> None:
        """Add an event to the next reading."""
        self._events.append(told)

    def take(self) -> tuple[Mapping[str, WorkerSet] | None, tuple[Event, ...]]:
        """All sets if any of them changed since the last time (or never was an answer before), and the new events."""
        sets = dict(self._sets) if self._changed else None
        events = tuple(self._events)
        self._changed = False
        self._events.clear()
        return sets, events

    def _put(self, spec: SetSpec) -> None:
        self._sets[spec.name] = expand(spec)
        self._changed = True

    def _remove(self, name: str) -> None:
        entry = self._entries.pop(name)
        if self._sets.pop(name, None) is not None:  # a file that never was good goes as quietly as it ran
            self._changed = True
            self.tell(spec_event(event.SPEC_REMOVED, name, entry.file))

    def _workers(self, names: Iterable[str]) -> int:
        return sum(len(self._sets[name].workers) for name in names if name in self._sets)

    def _hold(self, reason: str, workers: int) -> None:
        if self._held != reason:
            self._held = reason
            self.tell(spec_event(event.SOURCE_HELD, None, self._directory, reason, held=workers))

    def _release(self) -> None:
        self.tell(spec_event(event.SOURCE_RELEASED, None, self._directory, self._held))
        self._held = None
