"""What a spec directory has given so far: the last good spec of each name, what is held, and the events of it all.

Rule: absence of evidence is not a delete. A bad file changes nothing but that it is told, once; a file that is gone
counts only when it stays gone; and much that is gone at once must stay gone for longer. Nothing here touches a file or
reads a clock: what was seen comes in, with the time (seconds, monotonic) where it matters.
"""

from collections.abc import Iterable, Mapping
from pathlib import PurePath

import attrs

from reconciler.core import event
from reconciler.core.diff import fields
from reconciler.core.event import Event, problems_of, spec_event
from reconciler.core.spec import SetSpec, WorkerSet, expand
from reconciler.sources.loading import Problem
from reconciler.sources.needing import BAD_DEPENDENCY, rejection_of, unmet
from reconciler.sources.verdict import BAD_NAME, Rejection

GONE_S = 0.5
"""How long a file must be gone to count as removed. Editors that rename the old file away and then write a new one
leave a gap of some milliseconds, or some hundred where the disk is busy; who deletes a file waits no longer than this.
"""

HOLD_S = 2.0
"""How long files must be gone that together have more than half of the workers, and more than one."""

MASS_REMOVAL = "MassRemoval"
BAD_CONTENT = "BadContent"


@attrs.define
class _Entry:
    """What is known of one name: the spec in force, the last one that was read, and what is wrong.

    `content` is that of the files which the last one watches, None as long as it is not known. `rejection` is what was
    told; it is because of the file itself (`fault`), of what it watches (`obstacle`), or of what it depends on.
    """

    spec: SetSpec | None = None
    file: str = ""
    read: SetSpec | None = None
    read_from: str = ""
    content: str | None = ""
    fault: Rejection | None = None
    obstacle: Rejection | None = None
    rejection: Rejection | None = None
    gone_since: float | None = None

    @property
    def wanted(self) -> SetSpec | None:
        """What it would be if nothing is wrong with others; the spec in force where it cannot be told, or is bad."""
        if self.read is None or self.fault is not None or self.obstacle is not None or self.content is None:
            return self.spec
        return self.read if self.read.content == self.content else attrs.evolve(self.read, content=self.content)


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
        self._news: dict[str, None] = {}
        self._watching: set[str] = set()
        self._removed = False

    def accept(self, name: str, file: str, spec: SetSpec) -> None:
        """A good spec was read. Whether it is taken is judged when all that is new is known, in `take`."""
        entry = self._entries.setdefault(name, _Entry())
        entry.read, entry.read_from, entry.fault, entry.obstacle = spec, file, None, None
        entry.content = None if spec.watch.paths else ""
        self._news[name] = None
        if spec.watch.paths:
            self._watching.add(name)
        else:
            self._watching.discard(name)

    def reject(self, name: str, rejection: Rejection) -> None:
        """A file, or what two files say of one name, cannot be taken. The last good spec stays; told once."""
        self._entries.setdefault(name, _Entry()).fault = rejection
        self._news[name] = None
        self._watching.discard(name)

    def watching(self) -> Mapping[str, SetSpec]:
        """The specs that watch files, by name."""
        read = {name: self._entries[name].read for name in sorted(self._watching)}
        return {name: spec for name, spec in read.items() if spec is not None}

    def contain(self, name: str, content: str | None, problem: str | None) -> None:
        """What the files that a spec watches hold now: a digest of it, or what is wrong with them."""
        entry, obstacle = self._entries[name], None
        if problem is not None:
            text = str(Problem(PurePath(entry.read_from).name, "watch.paths", problem))
            obstacle, content = Rejection(entry.read_from, BAD_CONTENT, (text,)), entry.content
        if (entry.obstacle, entry.content) != (obstacle, content):
            entry.obstacle, entry.content = obstacle, content
            self._news[name] = None

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
        if self._news or self._removed:
            self._judge()
        sets = dict(self._sets) if self._changed else None
        events = tuple(self._events)
        self._changed = False
        self._events.clear()
        return sets, events

    def _judge(self) -> None:
        """Take what is new, or tell why not; and look anew at what depends on others."""
        entries = self._entries
        wanted = {name: entry.wanted for name, entry in entries.items()}
        bad = unmet(
            {name: spec.depends_on for name, spec in wanted.items() if spec is not None},
            {name: entry.spec.depends_on for name, entry in entries.items() if entry.spec is not None},
            entries,
        )
        concerned = (name for name, entry in entries.items() if name in bad or self._is_told_of_others(entry))
        for name in (*self._news, *sorted(set(concerned) - self._news.keys())):
            if name in entries and not (name in bad and entries[name].gone_since is not None):  # which goes with it
                self._settle(name, entries[name], wanted[name], bad.get(name))
        self._news.clear()
        self._removed = False

    @staticmethod
    def _is_told_of_others(entry: _Entry) -> bool:
        return entry.rejection is not None and entry.rejection.reason == BAD_DEPENDENCY

    def _settle(self, name: str, entry: _Entry, wanted: SetSpec | None, unmet_need: str | None) -> None:
        """Draw the conclusion for one name, and tell it."""
        rejection = entry.fault or entry.obstacle
        if rejection is None and unmet_need is not None:
            rejection = rejection_of(entry.read_from, unmet_need)
        if rejection is not None:
            if entry.rejection != rejection:
                entry.rejection = rejection
                known = None if rejection.reason == BAD_NAME else name
                problems = problems_of(rejection.problems)
                self.tell(spec_event(event.SPEC_REJECTED, known, rejection.file, rejection.reason, problems=problems))
            return
        if wanted is None or entry.content is None:
            return  # what it watches is not known yet
        before, rejected = entry.spec, entry.rejection
        entry.spec, entry.file, entry.rejection = wanted, entry.read_from, None
        if before is None:
            self._put(wanted)
            self.tell(spec_event(event.SPEC_ADDED, name, entry.file, replicas=wanted.replicas))
            return
        if rejected is not None:
            self.tell(spec_event(event.SPEC_RECOVERED, name, entry.file))
        if wanted != before:
            self._put(wanted)
            changed = dict.fromkeys(path.partition(".")[0] for path in fields(before, wanted))
            self.tell(spec_event(event.SPEC_CHANGED, name, entry.file, fields=tuple(changed)))

    def _put(self, spec: SetSpec) -> None:
        self._sets[spec.name] = expand(spec)
        self._changed = True

    def _remove(self, name: str) -> None:
        entry = self._entries.pop(name)
        self._removed = True
        self._watching.discard(name)
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
