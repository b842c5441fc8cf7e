"""Events on their way out: rendered by structlog, one `os.write` per line.

Rule: the reader of the log is never a danger. A dead, slow or full one costs events, which are counted and reported
when it reads again; it never blocks or ends the controller. A line is one write of at most `LONGEST` bytes, so that
lines of several processes which share a pipe do not mix, and hostile text in a value can neither forge nor break one.
"""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

from reconciler.core import event
from reconciler.core.event import CATALOGUE, TIME_FORMAT, Event
from reconciler.lines import LONGEST, writer_of

Format = Literal["console", "json"]

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class EventLog:
    """Publishes events on a descriptor. structlog is imported with the first event, after the first workers run."""

    def __init__(self, fd: int = 2, *, form: Format | None = None, level: str = "info") -> None:
        self._fd = fd
        self._form: Format = form or ("console" if os.isatty(fd) else "json")
        self._least = LEVELS[level]
        self._writer = writer_of(fd)
        self._render: Callable[[str, str, dict[str, Any]], bytes] | None = None
        self.dropped = 0

    def __call__(self, events: Sequence[Event]) -> None:
        """Write those that the level lets through."""
        for told in events:
            level = CATALOGUE[told.event].level
            if LEVELS[level] >= self._least:
                self._write(level, told)

    def _write(self, level: str, told: Event) -> None:
        if self.dropped:
            lost = Event(event.EVENTS_DROPPED, extra={"count": self.dropped})
            if not self._writer.write(self._line(CATALOGUE[lost.event].level, lost)):
                self.dropped += 1
                return
            self.dropped = 0
        if not self._writer.write(self._line(level, told)):
            self.dropped += 1

    def _line(self, level: str, told: Event) -> bytes:
        if self._render is None:
            self._render = renderer(self._form, colors=os.isatty(self._fd) and "NO_COLOR" not in os.environ)
        fields = told.fields()
        line = self._render(level, told.event, fields)
        if len(line) > LONGEST:
            line = self._render(level, told.event, {name: shortened(value) for name, value in fields.items()})
        if len(line) > LONGEST:
            short = {name: shortened(value, 50) for name, value in fields.items() if name not in told.extra}
            line = self._render(level, told.event, {**short, "truncated": True})
        return line


def default_log() -> Callable[[Sequence[Event]], None]:
    """Where a library's events go: to the user's own structlog if it is configured, else to stderr."""
    import structlog  # noqa: PLC0415  as late as can be

    if not structlog.is_configured():
        return EventLog()
    logger = structlog.get_logger("reconciler")

    def publish(events: Sequence[Event]) -> None:
        for told in events:
            getattr(logger, CATALOGUE[told.event].level)(told.event, **told.fields())

    return publish


def shortened(value: Any, longest: int = 200) -> Any:
    """A value that fits into a line: texts of at most so many characters, lists of at most 5 items."""
    if isinstance(value, str) and len(value) > longest:
        return value[:longest] + "..."
    if isinstance(value, list | tuple):
        return [shortened(item, longest) for item in value[:5]]
    return value


def renderer(form: Format, *, colors: bool) -> Callable[[str, str, dict[str, Any]], bytes]:
    """A function from level, event name and fields to one line of bytes with its newline."""
    import structlog  # noqa: PLC0415  as late as can be: it costs more to import than a worker to start

    if form == "json":
        stamp = structlog.processors.TimeStamper(fmt=TIME_FORMAT, utc=True)
        encode = json.JSONEncoder(default=str).encode  # made once, which halves the cost of a line
        render: Any = structlog.processors.JSONRenderer(serializer=lambda value, **_: encode(value))
    else:
        stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        render = structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=20, sort_keys=False)

    def line(level: str, name: str, fields: dict[str, Any]) -> bytes:
        shown = fields if form == "json" else for_eyes(fields)
        when = stamp(None, level, {})["timestamp"]
        text: str = render(None, level, {"timestamp": when, "level": level, "event": name, **shown})
        return text.encode("utf-8", "backslashreplace") + b"\n"

    return line


def for_eyes(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that a person reads: without what the key says already, and printable."""
    hidden = {"name", "index", "uid", "generation"} if "key" in fields else set()
    return {name: printable(value) for name, value in fields.items() if value is not None and name not in hidden}


def printable(value: Any) -> Any:
    """A value that a terminal can be shown.

    Control characters, also C1 and those that turn the direction of writing, become escapes.
    """
    if isinstance(value, list | tuple):
        return [printable(item) for item in value]
    return value if not isinstance(value, str) or value.isprintable() else Escaped(value)


class Escaped:
    """A text that shows itself with escapes for what cannot be printed."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return repr(self._text)
