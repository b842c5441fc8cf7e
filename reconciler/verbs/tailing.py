"""Following what workers write, those included that come later.

Rule: nothing is looked at before the bell at the output's directory rings, and what is open is bounded by the files
that are there: a worker whose files are gone is let go.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from heapq import merge

from reconciler.output.following import Bell
from reconciler.output.places import keys_in
from reconciler.output.reading import Cursor, Line


def followed(
    directory: str, keys: Sequence[str], is_meant: Callable[[str], bool], *, since: float | None, tail: int | None
) -> Iterator[Line]:
    """The lines of these keys, merged by time, as `output.reading.lines_of` gives them; and then without end each that
    comes, of these and of all whose files come later and whose key is meant.
    """
    followers = _Followers(directory, keys, is_meant)
    try:
        followers.begin(keys, since, tail)
        lines = (line for line in followers.lines() if since is None or line.time >= since)
        yield from lines if tail is None else deque(lines, tail)
        while True:
            followers.wait()
            yield from followers.lines()
    finally:
        followers.close()


class _Followers:
    """A cursor for each key, and the bell at all their files."""

    def __init__(self, directory: str, keys: Sequence[str], is_meant: Callable[[str], bool]) -> None:
        self._directory, self._is_meant = directory, is_meant
        self._cursors: dict[str, Cursor] = {}
        self._bell = Bell(directory, keys)  # before the first look
        self._there, self._missing = frozenset(keys_in(directory)), frozenset[str]()

    def begin(self, keys: Sequence[str], since: float | None = None, tail: int | None = None) -> None:
        """Read these too."""
        self._cursors |= {key: Cursor(self._directory, key, since, tail) for key in keys}

    def lines(self) -> Iterator[Line]:
        """What is new by now, as far as its lines are whole."""
        return merge(*(cursor.lines(whole=True) for cursor in self._cursors.values()), key=lambda line: line.time)

    def wait(self) -> None:
        """Wait for a ring, then let those go that are gone, and take up those that came."""
        self._bell.wait()
        there = frozenset(keys_in(self._directory))
        for key in self._cursors.keys() & (
            self._missing - there
        ):  # twice, as one that is put aside is gone for a moment
            self._cursors.pop(key).close()
        self._there, self._missing = there, self._there - there
        if new := [key for key in there - self._cursors.keys() if self._is_meant(key)]:
            self._bell.close()
            self._bell = Bell(self._directory, [*self._cursors, *new])
            self.begin(new)

    def close(self) -> None:
        """Free what is open."""
        self._bell.close()
        for cursor in self._cursors.values():
            cursor.close()
