"""What a set needs of others before it starts, and what makes it a job.

Rule: names only. Whether what they name is there, and how far it has come, is looked up where it is decided.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import attrs

from reconciler.core.setting import Name, setting

Condition = Literal["started", "ready", "completed"]
Kind = Literal["service", "job"]
Concurrency = Literal["allow", "forbid", "replace"]


@attrs.frozen(kw_only=True)
class Dependency:
    """Another set that must have come so far before a worker of this one is started."""

    set: Name = attrs.field(metadata={"doc": "The name of the other set."})
    condition: Condition | None = setting(
        None,
        "How far: all of its workers run, serve, or have ended well; without it `completed` for a job, else `ready`.",
    )
    restart_with: bool = setting(
        False,  # noqa: FBT003
        "When the other one fell short of it and is so far again, restart this set, by its rollout budget.",
    )


def unmet_names(needs: Mapping[str, Iterable[Dependency]]) -> dict[str, str]:
    """The sets that cannot be taken because of what they depend on, each with what is wrong and what to do.

    `needs` are the dependencies of all sets by name.
    """
    problems = {}
    for name, wanted in needs.items():
        missing = [one.set for one in wanted if one.set not in needs]
        if missing:
            listed = ", ".join(sorted(set(missing)))
            problems[name] = f"depends_on names {listed}, and there is no such set; add its file, or mend the name"
    for name in needs:
        if name not in problems and (path := _way_back(name, needs)):
            cycle = " -> ".join(path)
            problems[name] = f"depends_on leads back to itself: {cycle}; take one of these out"
    return problems


def _way_back(start: str, needs: Mapping[str, Iterable[Dependency]]) -> list[str]:
    """The shortest path of names from a set back to itself; empty if there is none."""
    paths: dict[str, list[str]] = {start: [start]}
    row = [start]
    for name in row:  # it grows meanwhile
        for one in needs.get(name, ()):
            if one.set == start:
                return [*paths[name], start]
            if one.set not in paths and one.set in needs:
                paths[one.set] = [*paths[name], one.set]
                row.append(one.set)
    return []
