"""Who needs whom: what must come before a start, and who must be gone before a stop.

Rule: decided by what is true now. A dependency that goes down later stops nobody; it only keeps new starts waiting.
"""

from collections.abc import Iterator, Mapping

from reconciler.core.actual_set import ActualSet
from reconciler.core.needs import Condition, Dependency
from reconciler.core.spec import Policy


def needers(sets: Mapping[str, ActualSet]) -> dict[str, frozenset[str]]:
    """The names of the sets that need each of these sets."""
    found: dict[str, set[str]] = {}
    for name, known in sets.items():
        for one in known.wanted.policy.needed:
            if one.set in sets:
                found.setdefault(one.set, set()).add(name)
    return {name: frozenset(names) for name, names in found.items()}


def condition(need: Dependency, needed: Policy | None) -> Condition:
    """How far the other set must have come."""
    return need.condition or ("completed" if needed is not None and needed.job else "ready")


def unmet(sets: Mapping[str, ActualSet], known: ActualSet) -> Iterator[tuple[str, Condition]]:
    """What a set still waits for: the other sets, each with how far it must come."""
    for need in known.wanted.policy.needed:
        other = sets.get(need.set)
        awaited = condition(need, None if other is None else other.wanted.policy)
        if other is None or awaited not in other.conditions():
            yield need.set, awaited


def rests(sets: Mapping[str, ActualSet], known: ActualSet, found: dict[str, bool] | None = None) -> bool:
    """Whether nothing more will be done of a set of itself, be it because it waits for what will not come. What was
    `found` of others is not looked up again; a circle rests.
    """
    name, found = known.wanted.name, {} if found is None else found
    if name not in found:
        found[name] = True  # as long as it is looked at
        found[name] = known.has_settled or _waits_in_vain(sets, known, found)
    return found[name]


def _waits_in_vain(sets: Mapping[str, ActualSet], known: ActualSet, found: dict[str, bool]) -> bool:
    """Whether none of its workers is on its way, and all that it waits for rests."""
    awaited = [name for name, _ in unmet(sets, known)]
    if not awaited or any(one.live and not one.ready for workers in known.by_key.values() for one in workers):
        return False
    return all(name not in sets or rests(sets, sets[name], found) for name in awaited)


def restarts_with(other: ActualSet, name: str, needed: ActualSet, gained: frozenset[Condition]) -> bool:
    """Whether a set is to be restarted as the set `name` has `gained` again what it had lost."""
    return not other.removed and any(
        one.restart_with and one.set == name and condition(one, needed.wanted.policy) in gained
        for one in other.wanted.policy.needed
    )


def keep_for(sets: Mapping[str, ActualSet], needing: frozenset[str], name: str) -> bool:
    """Whether a set that is no longer wanted is kept for others that are no longer wanted either, and still run.

    Where they need each other in a circle nobody waits.
    """
    return any(
        other in sets and sets[other].removed and sets[other].by_key and not _leads_to(sets, name, other)
        for other in needing
    )


def _leads_to(sets: Mapping[str, ActualSet], start: str, goal: str) -> bool:
    """Whether a set needs another one, directly or by way of others."""
    seen = {start}
    row = [start]
    for name in row:  # it grows meanwhile
        for need in sets[name].wanted.policy.needed if name in sets else ():
            if need.set == goal:
                return True
            if need.set not in seen:
                seen.add(need.set)
                row.append(need.set)
    return False
