"""What an operator asked for by a verb or a signal: data that is laid over what the source desires.

Rule: an override changes what is desired and never touches a process; the plan acts on it, and status shows the drift.
In whatever order they were asked for, they are applied in one: an earlier revision, then the scale, what is to be
restarted, what is paused, and last what must stay down.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import attrs

from reconciler.core.spec import MOST_REPLICAS, Again, Budget, SetSpec, WorkerSet, WorkerSpec, expand


@attrs.frozen
class RolledBack:
    """Run an earlier revision of a set, in all but its size, until its file is edited: until it is no longer `over`.

    Without a number it is what last ran everywhere, to which the set went back by itself.
    """

    set_name: str
    revision: int | None
    template: SetSpec
    over: SetSpec


@attrs.frozen
class Scale:
    """Run this many workers of a set, whatever its file says. Only sets with a template (a spec file) can be scaled.

    It ends when the file's own number is no longer `over`, since that is the newer wish then; None: with any edit of
    the number.
    """

    set_name: str
    replicas: int = attrs.field(validator=[attrs.validators.ge(0), attrs.validators.le(MOST_REPLICAS)])
    over: int | None = None


@attrs.frozen
class RestartAsked:
    """Replace a worker, or with `key` None a whole set, once. Each `serial` asks anew.

    It goes by the rollout budget, or `at_once`: all new ones are started, and then all old ones stopped.
    """

    set_name: str
    serial: int
    key: Any = None
    at_once: bool = False


@attrs.frozen
class Paused:
    """Replace no worker of a set until the override is taken back."""

    set_name: str


@attrs.frozen
class StayDown:
    """Do not run a worker, or with `key` None a whole set, until the override is taken back."""

    set_name: str
    key: Any = None


Override = RolledBack | Scale | RestartAsked | Paused | StayDown

Which = tuple[str, Any]
"""A set's name and a key, or None for the set as a whole."""

MOST_PHRASES = 5
"""How many workers that were stopped one by one the drift of a set names."""


def apply(desired: Mapping[str, WorkerSet], overrides: Iterable[Override]) -> dict[str, WorkerSet]:
    """What is desired with the overrides laid over it. Those that name no known set do nothing."""
    by_set: dict[str, list[Override]] = {}
    for override in overrides:
        by_set.setdefault(override.set_name, []).append(override)
    result = dict(desired)
    for name in by_set.keys() & result.keys():
        result[name] = _overridden(result[name], by_set[name])
    return result


def added(overrides: Iterable[Override], *new: Override) -> tuple[Override, ...]:
    """The overrides with each of `new` in the place of an earlier one of its kind for the same set or worker; one for a
    whole set takes the place of those for its workers.
    """
    instead = {(type(one), *_which(one)) for one in new}
    kept = (
        one
        for one in overrides
        if (type(one), *_which(one)) not in instead and (type(one), one.set_name, None) not in instead
    )
    return (*kept, *new)


def without(overrides: Iterable[Override], kind: type, chosen: Collection[Which]) -> tuple[Override, ...]:
    """The overrides less those of a kind for these workers or sets; for a set also those for its workers."""
    names = set(chosen)
    return tuple(
        one
        for one in overrides
        if not (isinstance(one, kind) and (_which(one) in names or (one.set_name, None) in names))
    )


def _which(override: Override) -> Which:
    return override.set_name, getattr(override, "key", None)


def replaced(overrides: Iterable[Override], desired: Mapping[str, WorkerSet], serial: int) -> tuple[Override, ...]:
    """The overrides with one more: that everything is replaced, at once."""
    others = (one for one in overrides if not (isinstance(one, RestartAsked) and one.at_once))
    return (*others, *(RestartAsked(name, serial, at_once=True) for name in desired))


def step_of(desired: Mapping[str, WorkerSet], step: int) -> Scale | None:
    """So many workers more or fewer, where there is just one set that can be scaled."""
    sets = list(desired.values())
    if len(sets) != 1 or sets[0].template is None or sets[0].template.suspend or sets[0].runs:
        return None
    replicas = len(sets[0].workers) + len(sets[0].down) + step
    return Scale(sets[0].name, min(MOST_REPLICAS, max(0, replicas)))


def stopped_by(wanted: WorkerSet, signal: str) -> WorkerSet:
    """The same set, whose workers are asked to end by this signal."""
    policy = attrs.evolve(wanted.policy, stop=attrs.evolve(wanted.policy.stop, signal=signal))
    return attrs.evolve(wanted, policy=policy)


def still_meant(
    overrides: Iterable[Override], before: Mapping[str, WorkerSet], after: Mapping[str, WorkerSet]
) -> tuple[Override, ...]:
    """The overrides that hold when what is desired goes from `before` to `after`.

    What must stay down does so whatever happens. All else is over when its set goes; a set that is in neither keeps
    it, since its file may be bad at the moment.
    """
    return tuple(override for override in overrides if _holds(override, before, after))


def drift(name: str, overrides: Iterable[Override], sourced: Mapping[str, WorkerSet]) -> tuple[str, ...]:
    """In what a set is run otherwise than its file says, a phrase for each override."""
    wanted = sourced.get(name)
    own = None if wanted is None or wanted.template is None else wanted.template.replicas
    phrases, down = [], []
    for one in overrides:
        if one.set_name != name:
            continue
        if isinstance(one, Scale):
            phrases.append(f"replicas {one.replicas} instead of {own}")
        elif isinstance(one, RolledBack):
            back = "to what last ran everywhere" if one.revision is None else f"to revision {one.revision}"
            phrases.append(f"rolled back {back}")
        elif isinstance(one, Paused):
            phrases.append("rollout paused")
        elif isinstance(one, StayDown):
            down.append("stopped" if one.key is None else f"{one.key} stopped")
    if len(down) > MOST_PHRASES:
        down[MOST_PHRASES:] = [f"{len(down) - MOST_PHRASES} more stopped"]
    return (*phrases, *down)


def _holds(override: Override, before: Mapping[str, WorkerSet], after: Mapping[str, WorkerSet]) -> bool:
    name = override.set_name
    if isinstance(override, StayDown):
        return True
    if name not in after:
        return name not in before
    template = after[name].template
    if isinstance(override, RolledBack):
        return template is not None and _as_read(template, override.over) == override.over
    if isinstance(override, Scale):
        over = override.over if override.over is not None or name not in before else _replicas(before[name])
        return over is None or over == _replicas(after[name])
    return True


def _as_read(template: SetSpec, over: SetSpec) -> SetSpec:
    """The template as it must be compared with one that may have come from a file of ours, which knows no contents."""
    return template if over.content else attrs.evolve(template, content="")


def _replicas(wanted: WorkerSet) -> int | None:
    return None if wanted.template is None else wanted.template.replicas


def _overridden(wanted: WorkerSet, overrides: list[Override]) -> WorkerSet:
    """A set with its overrides, each worker being looked at once."""
    template = wanted.template
    for override in sorted(overrides, key=lambda one: isinstance(one, Scale)):  # the size comes last
        if template is not None and isinstance(override, Scale | RolledBack):
            template = _rewritten(template, override)
    result = wanted if template is None or template is wanted.template else expand(template)
    again = {one.key: one for one in overrides if isinstance(one, RestartAsked)}
    down = {one.key for one in overrides if isinstance(one, StayDown)}
    if again:
        workers = {key: _again(spec, again.get(None), again.get(key)) for key, spec in result.workers.items()}
        at_once = any(one.at_once for one in again.values())
        result = attrs.evolve(result, workers=workers, restarts=True, at_once=at_once)
    if down:
        keys = frozenset(key for key in result.workers if None in down or key in down)
        left = {key: spec for key, spec in result.workers.items() if key not in keys}
        result = attrs.evolve(result, workers=left, down=keys)
        result = attrs.evolve(result, stopped=None in down)
    return attrs.evolve(result, paused=True) if any(isinstance(one, Paused) for one in overrides) else result


def everywhere(spec: SetSpec) -> SetSpec:
    """The spec for all workers, whatever partition it has."""
    return attrs.evolve(spec, rollout=attrs.evolve(spec.rollout, partition=Budget(0)))


def _rewritten(template: SetSpec, override: Scale | RolledBack) -> SetSpec:
    if isinstance(override, Scale):
        return template if template.schedule is not None else attrs.evolve(template, replicas=override.replicas)
    runs = override.template.schedule is not None
    # A partition would keep some workers at what is gone back from; who names a revision has it as it is.
    back = everywhere(override.template) if override.revision is None else override.template
    return attrs.evolve(
        back,
        replicas=override.template.replicas if runs else template.replicas,
        order=template.order,
        suspend=template.suspend,
        content=override.template.content or template.content,
    )


def _again(spec: WorkerSpec, *asked: RestartAsked | None) -> WorkerSpec:
    """The spec, wanted anew as it was asked for the last time."""
    last = max((one for one in asked if one is not None), key=lambda one: one.serial, default=None)
    return spec if last is None else attrs.evolve(spec, digest=Again(spec.digest, last.serial, last.at_once))
