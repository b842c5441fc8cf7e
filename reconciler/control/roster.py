"""What is told of all workers, kept encoded, so that a thousand questions a second cost little.

Rule: level, not edge. A follower is given each place that looks otherwise than when he was last told of it, as it is
now; what changed twice meanwhile is told once, and nothing is queued for him. Two looks are compared by the identity of
the immutable values in them, so that nothing is computed for what has not changed.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from reconciler.control.wire import encode
from reconciler.core.status import Place, View, places, statuses

MOST_GONE = 10_000
"""How many places that are gone are remembered, for followers who have not been told."""

Name = tuple[str, Any]
"""A set's name and a key."""


class Roster:
    """All places of a view that changes, and the order in which they last changed."""

    def __init__(self) -> None:
        self._places: dict[Name, tuple[Place, bytes]] = {}
        self._sorted: list[Name] | None = []
        self._changed: dict[Name, int] = {}  # the last change is the last
        self._version = 0

    @property
    def version(self) -> int:
        """A number that grows with each change."""
        return self._version

    def look(self, view: View) -> None:
        """Take in what changed since the last look."""
        seen: dict[Name, tuple[Place, bytes]] = {}
        before = self._places
        for set_name in view.actual.sets:
            for place in places(view, set_name):
                name = (set_name, place.key)
                known = before.get(name)
                if known is None or not _is_alike(known[0], place):
                    text = _encoded(place)
                    if known is None or text != known[1]:
                        self._note(name)
                    if known is None or known[0].key is not place.key:
                        self._sorted = None  # an edit of the order moves a worker to another place in the row
                    known = (place, text)
                seen[name] = known
        gone = before.keys() - seen.keys()
        for name in gone:
            self._note(name)
        if gone or len(seen) != len(before):
            self._sorted = None
            self._forget(seen)
        self._places = seen

    def items(self, names: Iterable[Name]) -> Iterator[bytes]:
        """The places by these names, as JSON; one that is gone has no workers."""
        for name in names:
            known = self._places.get(name)
            yield _encoded(Place(name[1], name[0], None, ())) if known is None else known[1]

    def names(self) -> list[Name]:
        """All places in key order."""
        if self._sorted is None:
            self._sorted = sorted(self._places, key=lambda name: self._places[name][0].key)
        return self._sorted

    def since(self, version: int) -> list[Name]:
        """The places that changed after this version, oldest change first."""
        found = []
        for name in reversed(self._changed):
            if self._changed[name] <= version:
                break
            found.append(name)
        return found[::-1]

    def _note(self, name: Name) -> None:
        self._version += 1
        self._changed.pop(name, None)
        self._changed[name] = self._version

    def _forget(self, seen: Mapping[Name, object]) -> None:
        most = len(seen) + MOST_GONE
        if len(self._changed) > most:
            for name in [name for name in self._changed if name not in seen][: len(self._changed) - most]:
                del self._changed[name]


def _is_alike(one: Place, other: Place) -> bool:
    same = one.workers is other.workers and one.spec is other.spec and one.down is other.down
    return same and one.waits_for == other.waits_for and one.in_vain is other.in_vain and one.job is other.job


def _encoded(place: Place) -> bytes:
    rows = [attrs.asdict(status) for status in statuses(place)]
    return encode({"key": str(place.key), "set": place.set_name, "workers": rows}).encode("utf-8", "backslashreplace")
