"""What wakes a controller within an asyncio loop: descriptors, one timer, and calls from other threads.

Rule: asyncio only waits here. In a child that was forked from under it, the loop is let go of without a word to the
kernel, since what it waits for is still waited for by the parent.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from reconciler.hygiene import let_go_in_children

if TYPE_CHECKING:
    import asyncio

Answer = Callable[[], Any]


class Bells:
    """The descriptors and the timer of one loop."""

    def __init__(self, loop: "asyncio.AbstractEventLoop") -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._watched: dict[int, Answer] = {}
        let_go_in_children(self, Bells._let_go)

    def watch(self, wanted: Mapping[int, Answer]) -> None:
        """Call these when their descriptors are readable, and no others."""
        if wanted == self._watched:
            return
        for fd in self._watched.keys() - wanted.keys():
            self._loop.remove_reader(fd)
        for fd in wanted.keys() - self._watched.keys():
            self._loop.add_reader(fd, wanted[fd])
        self._watched = dict(wanted)

    def wake_at(self, when: float, answer: Answer) -> None:
        """Call this then (seconds, monotonic), and not at the time that was asked for before."""
        self.cancel()
        self._timer = self._loop.call_at(when, answer)

    def cancel(self) -> None:
        """Have no timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def call(self, answer: Answer) -> None:
        """Call this soon, in the loop's thread. Any thread may ask for it."""
        self._loop.call_soon_threadsafe(answer)

    def close(self) -> None:
        """Be silent."""
        self.cancel()
        self.watch({})

    def _let_go(self) -> None:
        """Close what the loop has open, and leave the loop as it is: a child has no use for it."""
        for name in ("_selector", "_ssock", "_csock"):  # asyncio's own; other loops keep theirs
            with suppress(AttributeError, OSError):
                getattr(self._loop, name).close()
