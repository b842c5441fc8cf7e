"""Our own stdout as the place where lines of many workers go, in the modes that show them there.

Rule: whole lines only, through a queue of bounded size, and nothing that could command a terminal.
"""

import os
import time
from collections.abc import Sequence

from reconciler.core.event import Event
from reconciler.core.spec import OutputMode
from reconciler.output import rendering
from reconciler.output.streams import Room, Stream


class Display:
    """The stream to a descriptor, by default our stdout, opened when there is something to show."""

    def __init__(self, room: Room, fd: int = 1) -> None:
        self._room, self._fd = room, fd
        self._stream: Stream | None = None
        self._is_terminal = self._colours = False

    def show(self, key: str, mode: OutputMode, lines: bytes) -> None:
        """Queue whole lines of a worker, as JSON, after its key, or (`inherit`) as they are."""
        if self._stream is None:
            self._stream = Stream("stdout", self._fd)
            self._is_terminal, self._colours = os.isatty(self._fd), rendering.colours_on(self._fd)
        if mode == "json":
            lines = rendering.as_json(key, lines, time.time())
        elif mode == "prefix":
            text = rendering.neutral(lines) if self._is_terminal else lines
            lines = rendering.prefixed(rendering.prefix_of(key, colours=self._colours), text)
        self._stream.add(lines)

    def flush(self) -> None:
        """Write what there is room for, and have the rest waited for."""
        if self._stream is not None:
            self._stream.flush()
            self._room.watch((self._stream,))

    def close(self) -> None:
        """Write what there is room for, and drop the rest."""
        if self._stream is not None:
            self._stream.flush()
            self._stream.give_up()

    def events(self) -> Sequence[Event]:
        """What is to be told of lost lines."""
        return self._stream.events() if self._stream is not None else ()
