"""Random worker sets, and random edits of them.

Rule: everything is drawn from the luck that is handed in, and every value that a spec file can hold has its chance.
"""

from collections.abc import Mapping
from random import Random

import attrs

from reconciler.core.spec import Backoff, Budget, Restart, Rollout, SetSpec, StartLimit, Stop

BROKEN = "broken"
"""The command of workers that end soon after each start, until the world behaves."""


def happens(luck: Random, percent: int) -> bool:
    """True so often."""
    return luck.randrange(100) < percent


def drawn(luck: Random, weights: Mapping[str, int]) -> str:
    """One of the words, each as often as it weighs beside the others."""
    return luck.choices(tuple(weights), tuple(weights.values()))[0]


def draw_set(luck: Random, name: str) -> SetSpec:
    """A worker set with this name."""
    return SetSpec(
        name=name,
        command=draw_command(luck),
        replicas=luck.choice((0, 1, 1, 2, 3, 3, 4)),
        order=luck.choice((0, 0, 0, -1, 1)),
        min_ready=luck.choice((0.0, 0.0, 0.0, 1.0, 4.0)),
        suspend=happens(luck, 5),
        restart=draw_restart(luck),
        stop=Stop(timeout=luck.choice((0.0, 1.0, 5.0, 5.0))),
        rollout=draw_rollout(luck),
    )


def draw_edit(luck: Random, specs: dict[str, SetSpec]) -> dict[str, SetSpec]:
    """The sets after an edit: most often of one spec, else one set more or fewer."""
    if happens(luck, 10) or not specs:
        name = luck.choice("abcd")
        return {**specs, name: draw_set(luck, name)}
    name = luck.choice(sorted(specs))
    if happens(luck, 10):
        return {other: spec for other, spec in specs.items() if other != name}
    return {**specs, name: _edited(luck, specs[name])}


def draw_command(luck: Random) -> tuple[str, ...]:
    """One of few commands, so that going back to an earlier one is common."""
    return (luck.choice(("v1", "v2", "v3", BROKEN)),)


def draw_restart(luck: Random) -> Restart:
    """A restart policy."""
    initial = luck.choice((0.0, 0.5, 1.0))
    backoff = Backoff(
        initial=initial,
        factor=luck.choice((1.0, 2.0, 3.0)),
        max=max(initial, luck.choice((0.2, 3.0, 10.0))),
        reset_after=luck.choice((2.0, 30.0)),
        jitter=luck.choice((0.0, 0.25, 1.0)),
    )
    limit = StartLimit(burst=luck.randint(1, 4), interval=luck.choice((3.0, 10.0, 60.0)))
    return Restart(
        policy=luck.choice(("always", "always", "always", "on_failure", "never")),
        success_exit_codes=luck.choice(((0,), (0, 3), ())),
        backoff=backoff,
        start_limit=limit if happens(luck, 30) else None,
    )


def draw_rollout(luck: Random) -> Rollout:
    """A rollout policy."""
    surge = luck.choice((Budget(0), Budget(0), Budget(1), Budget(2), Budget(50, percent=True)))
    unavailable = luck.choice((Budget(0), Budget(1), Budget(1), Budget(2), Budget(25, percent=True)))
    return Rollout(
        strategy=luck.choice(("rolling", "rolling", "rolling", "recreate", "on_delete")),
        max_surge=surge,
        max_unavailable=unavailable if surge.amount or unavailable.amount else Budget(1),
        progress_deadline=luck.choice((0.5, 3.0, 20.0, 600.0)),
    )


def _edited(luck: Random, spec: SetSpec) -> SetSpec:
    what = luck.choice(("command", "command", "command", "replicas", "order", "suspend", "min_ready", "policy"))
    if what == "command" or (what == "replicas" and spec.schedule is not None):
        return attrs.evolve(spec, command=draw_command(luck))
    if what == "suspend":
        return attrs.evolve(spec, suspend=not spec.suspend)
    other = draw_set(luck, spec.name)
    if what == "policy":
        return attrs.evolve(spec, restart=other.restart, stop=other.stop, rollout=other.rollout)
    return attrs.evolve(spec, **{what: getattr(other, what)})
