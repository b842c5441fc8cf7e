"""What the verbs work on: one engine, its memory, and the few things that only its controller can do.

Rule: whatever is laid over the files is saved at once. A disk that is full keeps no operator from stopping a worker:
then the order holds for as long as the controller lives, and the answer and an event say so.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reconciler import __version__
from reconciler.control.roster import Roster
from reconciler.control.wire import VERSION, Refusal
from reconciler.core import event
from reconciler.core.event import Event
from reconciler.core.override import Override, drift
from reconciler.core.spec import Socket
from reconciler.engine import Engine
from reconciler.publishing import Publisher
from reconciler.state.store import Store
from reconciler.steering import naming
from reconciler.steering.shell import Shell

RECORDED_AT_ONCE = 100
"""How many revisions are written in one turn: at a start with thousands of sets, exits have their turn in between."""


class Desk:
    """The state that the verbs see and steer."""

    def __init__(self, engine: Engine, events: Publisher, directory: str, shell: Shell) -> None:
        self.engine = engine
        self.recent = events.recent
        self.tell = events.tell
        self.directory = directory
        self.store = Store(directory)
        self.shell = shell
        self._roster = Roster()
        self._looked = -1
        self.problems: list[str] = []
        self._began = self.now
        self.changes = 0
        self._saved: tuple[Override, ...] = ()
        self._remembered: object = None
        self._degraded = False
        self._unrecorded: dict[str, None] = {}
        self._gone: list[str] = []

    @property
    def now(self) -> float:
        """The time, in seconds, monotonic."""
        return time.monotonic()

    def about(self) -> dict[str, Any]:
        """What a controller says of itself."""
        return {
            "version": __version__,
            "protocol": VERSION,
            "pid": os.getpid(),
            "specs": getattr(self.engine.source, "path", None),
            "state_dir": self.directory,
            "output_dir": f"{self.directory}/output",
            "uptime_s": round(self.now - self._began, 3),
            "problems": [*self.problems, *(f"output of {key} is lost: {why}" for key, why in self.degraded().items())],
        }

    def load(self) -> None:
        """Take up what an earlier controller left. To be called before the first turn, which must not be forgotten."""
        overrides, problem = self.store.load()
        if problem is not None:
            self.problems.append(problem)
            self.tell([Event(event.STATE_DEGRADED, reason="Unreadable", extra={"message": problem})])
        self._saved = overrides
        memory, forgotten = self.store.load_memory()
        self.engine.recall(memory)
        self._remembered = self.engine.memory_serial
        if forgotten is not None:
            self.problems.append(forgotten)
            self.tell([Event(event.STATE_DEGRADED, reason="Unreadable", extra={"message": forgotten})])
        if overrides:
            self.engine.override((*overrides, *self.engine.overrides), self.now)

    def lay(self, overrides: Iterable[Override], verb: str, names: Sequence[str]) -> str | None:
        """Let these overrides be in force, and act on them; what is wrong with saving them, if anything."""
        self.require_running()
        self.engine.override(tuple(overrides), self.now)
        changed = [phrase for name in names for phrase in drift(name, self.engine.overrides, self.engine.sourced)]
        extra = {"names": tuple(names), "drift": tuple(changed)}
        self.tell([Event(event.CONTROLLER_OVERRIDDEN, reason=verb, extra=extra)])
        self.shell.turn()
        return self.save()

    def look(self) -> Roster:
        """The roster as of now. Nobody looks twice between two events or turns."""
        if self._looked != self.changes:
            self._looked = self.changes
            self._roster.look(self.engine.view())
        return self._roster

    def chosen(self, names: Sequence[str]) -> list[naming.Chosen]:
        """What the names mean. Raises Refusal."""
        return naming.chosen(self.engine.view(), names, self.rejections())

    def known_set(self, name: str) -> str:
        """The name of a set that is known. Raises Refusal."""
        return naming.known_set(self.engine.view(), name, self.rejections())

    def require_running(self) -> None:
        """Raises Refusal where it is too late for orders."""
        if self.engine.stopping:
            raise Refusal("Conflict", "the controller is stopping", "wait for its end, and start it again")

    def files(self) -> Mapping[str, str]:
        """The spec file of each set, where it has one."""
        source: Any = self.engine.source
        return source.files() if hasattr(source, "files") else {}

    def rejections(self) -> Mapping[str, tuple[str, list[str]]]:
        """The bad files, by name: each with its path and what is wrong with it."""
        source: Any = self.engine.source
        found = source.rejections() if hasattr(source, "rejections") else {}
        return {name: (one.file, list(one.problems)[:10]) for name, one in found.items()}

    def degraded(self) -> Mapping[str, str]:
        """The workers whose output is lost, each with the reason."""
        output: Any = getattr(self.engine.driver, "output", None)
        return output.degraded() if hasattr(output, "degraded") else {}

    def unbound(self) -> Mapping[Socket, str]:
        """The sockets that cannot be had now, each with the reason."""
        sockets: Any = getattr(self.engine.driver, "sockets", None)
        return sockets.problems() if hasattr(sockets, "problems") else {}

    def listening(self, sockets: Sequence[Socket], values: Mapping[str, str]) -> Mapping[str, Any]:
        """Where these sockets listen, by name, as `Listeners.bound` says it; `values` are the placeholders'."""
        shelf: Any = getattr(self.engine.driver, "sockets", None)
        return shelf.bound(sockets, values) if hasattr(shelf, "bound") else {}

    def ports(self, sockets: Sequence[Socket], values: Mapping[str, str]) -> Mapping[str, str]:
        """The values of "port:NAME" of these sockets."""
        shelf: Any = getattr(self.engine.driver, "sockets", None)
        return shelf.ports(sockets, values) if hasattr(shelf, "ports") else {}

    def save(self) -> str | None:
        """Save the overrides, and what else the next controller should know, if they changed; what went wrong, if
        anything. It is tried again with each turn.
        """
        overrides, serial = self.engine.overrides, self.engine.memory_serial
        if overrides == self._saved and serial == self._remembered and not self._degraded:
            return None
        try:
            if overrides != self._saved or self._degraded:
                self.store.save(overrides)
            if serial != self._remembered or self._degraded:
                self.store.save_memory(self.engine.memory)
                self._remembered = serial
        except OSError as error:
            message = f"what was asked for holds, but could not be saved: {error.strerror}"
            if not self._degraded:
                self.tell([Event(event.STATE_DEGRADED, reason="NotSaved", extra={"message": message})])
            self._degraded = True
            return message
        if self._degraded:
            self.tell([Event(event.STATE_RECOVERED)])
        self._saved, self._degraded = overrides, False
        return None

    def lost(self, reason: str, message: str) -> None:
        """What was saved is lost: tell it once, and save it again with the next turn."""
        if not self._degraded:
            self.tell([Event(event.STATE_DEGRADED, reason=reason, extra={"message": message})])
        self._degraded = True

    def note(self, told: Iterable[Event]) -> None:
        """Take note of the events of a turn: which sets have a new revision, or are gone."""
        self.changes += 1
        changed = (event.SPEC_ADDED, event.SPEC_CHANGED)
        for one in told:
            if one.name and one.event in changed:
                self._unrecorded[one.name] = None
            elif one.name and one.event == event.SPEC_REMOVED:
                self._gone.append(one.name)

    def record(self) -> bool:
        """Write down some of the new revisions; whether there are more. One that cannot be written is given up."""
        names = list(self._unrecorded)[:RECORDED_AT_ONCE]
        for name in names:
            del self._unrecorded[name]
        for name in self._gone:
            self.store.forget(name)
        self._gone.clear()
        sourced = self.engine.sourced
        found = [sourced[name].template for name in names if name in sourced]
        try:
            self.store.record(template for template in found if template is not None)
        except OSError as error:
            message = f"revisions could not be saved: {error.strerror}"
            self.tell([Event(event.STATE_DEGRADED, reason="NotSaved", extra={"message": message})])
        return bool(self._unrecorded)
