"""What a name means: a worker's key, a set and so all of its workers, or a pattern for both.

Rule: a name that means nothing is an error which names the nearest that does; nobody is stopped by a slip of the pen.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase, translate
from typing import Any

from reconciler.control.wire import Refusal
from reconciler.core.status import View, places

Chosen = tuple[str, Any]
"""A set's name, and one of its keys, or None for the set as a whole."""


def chosen(view: View, names: Sequence[str], rejected: Collection[str] = ()) -> list[Chosen]:
    """What the names mean, each thing once. Raises Refusal for one that means nothing, also where its file is among
    those that were `rejected`.
    """
    keys = {str(place.key): (name, place.key) for name in view.actual.sets for place in places(view, name)}
    sets = {name: (name, None) for name in (*view.actual.sets, *(one.set_name for one in view.overrides))}
    found: dict[Chosen, None] = {}
    for name in names:
        if name in sets:
            found[sets[name]] = None
        elif name in keys:
            found[keys[name]] = None
        elif matches := _matches(name, sets, keys):
            found.update(dict.fromkeys(matches))
        elif name in rejected:
            raise Refusal("Conflict", f"the file of {name!r} is refused, and never was good", "`describe` shows why")
        else:
            raise _unknown(name, [*sets, *keys, *rejected])
    return list(found)


def workers(view: View, found: Iterable[Chosen]) -> Iterator[Chosen]:
    """The same with all keys of a set in its place, in key order."""
    for name, key in found:
        if key is not None:
            yield name, key
        elif name in view.actual.sets:
            yield from ((name, key) for key in sorted(place.key for place in places(view, name)))


def known_set(view: View, name: str, rejected: Collection[str] = ()) -> str:
    """The name of a set that is known. Raises Refusal for any other, also for a worker's key."""
    if name in view.actual.sets:
        return name
    for other in view.actual.sets:
        if any(str(place.key) == name for place in places(view, other)):
            raise Refusal("BadRequest", f"{name[:80]!r} is a worker, not a set", f"name its set, {other!r}")
    if name in rejected:
        chosen(view, [name], rejected)
    raise _unknown(name, [*view.actual.sets, *rejected])


class Meant:
    """Whether something is among these names; it need not exist any more. No names at all mean everything."""

    def __init__(self, names: Sequence[str]) -> None:
        self._everything = not names
        self._names = frozenset(names)
        patterns = [translate(name) for name in names if _is_pattern(name)]
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def __call__(self, key: str | None, set_name: str | None) -> bool:
        """Whether the worker of this key, or the set, is meant."""
        if self._everything or key in self._names or set_name in self._names:
            return True
        if self._pattern is None:
            return False
        return any(name is not None and self._pattern.match(name) for name in (key, set_name))


def _is_pattern(name: str) -> bool:
    return any(letter in name for letter in "*?[")


def _matches(pattern: str, sets: dict[str, Chosen], keys: dict[str, Chosen]) -> list[Chosen]:
    if not _is_pattern(pattern):
        return []
    whole = [sets[name] for name in sets if fnmatchcase(name, pattern)]
    taken = {name for name, _ in whole}
    single = [place for text, place in keys.items() if place[0] not in taken and fnmatchcase(text, pattern)]
    return [*whole, *single]


def _unknown(name: str, known: Sequence[str]) -> Refusal:
    from difflib import get_close_matches  # noqa: PLC0415  for slips only

    near = get_close_matches(name[:100], known[:2000], 1)
    hint = f"did you mean {near[0]!r}?" if near else "`get` shows all there are"
    return Refusal("NotFound", f"there is no set or worker {name[:100]!r}", hint)
