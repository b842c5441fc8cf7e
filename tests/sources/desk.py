"""A desk to watch a spec directory from: real files and a real bell, with the controller's part played by hand."""

import select
from pathlib import Path
from typing import Any

from reconciler.core.event import Event
from reconciler.core.spec import WorkerSet
from reconciler.sources.directory import DirectorySource


class Desk:
    """Reads a source as the controller would: when the bell's descriptor is readable and when `wake_at` has come.

    Time is a number that only `run` moves; files and bell are real.
    """

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.source = DirectorySource(str(directory), **options)
        self.now = 1000.0
        self.wake_at = self.now
        self.sets: dict[str, WorkerSet] | None = None
        self.history: list[dict[str, WorkerSet]] = []
        self.readings = 0

    def read(self, *, urgent: bool = False) -> list[Event]:
        """One reading now; what it tells."""
        reading = self.source.read(self.now, urgent=urgent)
        self.readings += 1
        assert reading.wake_at is not None
        self.wake_at = reading.wake_at
        if reading.sets is not None:
            self.sets = dict(reading.sets)
            self.history.append(self.sets)
        return list(reading.events)

    def start(self) -> list[Event]:
        """What the controller does first: an urgent reading, and the one that it asks for at once."""
        return self.read(urgent=True) + self.run(0)

    def readable(self) -> bool:
        """Whether the bell rang."""
        fd = self.source.fileno()
        return fd is not None and bool(select.select([fd], [], [], 0)[0])

    def run(self, seconds: float) -> list[Event]:
        """Let time pass, and read whenever it is due."""
        end = self.now + seconds
        events: list[Event] = []
        while True:
            while self.readable():
                events += self.read()
            if self.wake_at > end:
                self.now = end
                return events
            self.now = max(self.now, self.wake_at)
            events += self.read()

    def write(self, file: str, program: str = "true", more: str = "") -> Path:
        """Write a spec file in the simplest way, in place."""
        path = self.directory / file
        path.write_text(spec(program, more))
        return path

    def drop(self, file: str, program: str = "true", more: str = "") -> Path:
        """Write a spec file elsewhere and rename it into its place."""
        draft = self.directory / ".draft"
        draft.write_text(spec(program, more))
        return draft.rename(self.directory / file)

    def programs(self) -> dict[str, str]:
        """What is wanted: the program of each set."""
        assert self.sets is not None
        return {name: one.template.command[0] for name, one in sorted(self.sets.items())}


def spec(program: str, more: str = "") -> str:
    return f'command = ["{program}"]\n{more}\n'


def told(events: list[Event]) -> list[tuple[str, str | None]]:
    """Events as pairs of what happened and the set, or for the source itself the reason."""
    return [(event.event, event.reason if event.event.startswith("source.") else event.name) for event in events]
