"""What an operator asked for by a verb or a signal: data that is laid over what the source desires.

Rule: an override changes what is desired and never touches a process; the plan acts on it, and status shows the drift.
In whatever order they were asked for, they are applied in one: an earlier revision, then the scale, what is to be
restarted, what is paused, and last what must stay down.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from reconciler.core.spec import Again, Budget, Policy, SetSpec, WorkerSet, WorkerSpec, expand


@attrs.frozen
class RolledBack:
    """Run an earlier revision of a set, in all but its size, until its file is edited: until it is no longer `over`."""

    set_name: str
    revision: int
    template: SetSpec
    over: SetSpec


@attrs.frozen
class Scale:
    """Run this many workers of a set, whatever its file says. Only sets with a template (a spec file) can be scaled.

    It ends when the file's own number is no longer `over`, since that is the newer wish then; None: with any edit of
    the number.
    """

    set_name: str
    replicas: int
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

_ORDER: tuple[type, ...] = (RolledBack, Scale, RestartAsked, Paused, StayDown)


def apply(desired: Mapping[str, WorkerSet], overrides: Iterable[Override]) -> dict[str, WorkerSet]:
    """What is desired with the overrides laid over it. Those that name no known set do nothing."""
    result = dict(desired)
    for override in sorted(overrides, key=lambda one: _ORDER.index(type(one))):
        if override.set_name in result:
            result[override.set_name] = _applied(result[override.set_name], override)
    return result


def added(overrides: Iterable[Override], new: Override) -> tuple[Override, ...]:
    """The overrides with `new` in the place of an earlier one of its kind for the same set or worker; one for a whole
    set takes the place of those for its workers.
    """
    key = getattr(new, "key", None)
    return (*(one for one in overrides if not (is_about(one, new.set_name, key) and type(one) is type(new))), new)


def without(overrides: Iterable[Override], kind: type, set_name: str, key: Any = None) -> tuple[Override, ...]:
    """The overrides less those of a kind for a set, or only for one of its workers."""
    return tuple(one for one in overrides if not (isinstance(one, kind) and is_about(one, set_name, key)))


def is_about(override: Override, set_name: str, key: Any = None) -> bool:
    """Whether it is for this set, or for this worker of it."""
    return override.set_name == set_name and key in (None, getattr(override, "key", None))


def replaced(overrides: Iterable[Override], desired: Mapping[str, WorkerSet], serial: int) -> tuple[Override, ...]:
    """The overrides with one more: that everything is replaced, at once."""
    others = (one for one in overrides if not (isinstance(one, RestartAsked) and one.at_once))
    return (*others, *(RestartAsked(name, serial, at_once=True) for name in desired))


def step_of(desired: Mapping[str, WorkerSet], step: int) -> Scale | None:
    """So many workers more or fewer, where there is just one set that can be scaled."""
    sets = list(desired.values())
    if len(sets) != 1 or sets[0].template is None or sets[0].template.suspend:
        return None
    return Scale(sets[0].name, max(0, len(sets[0].workers) + step))


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
    phrases = []
    for one in overrides:
        if one.set_name != name:
            continue
        if isinstance(one, Scale):
            phrases.append(f"replicas {one.replicas} instead of {own}")
        elif isinstance(one, RolledBack):
            phrases.append(f"rolled back to revision {one.revision}")
        elif isinstance(one, Paused):
            phrases.append("rollout paused")
        elif isinstance(one, StayDown):
            phrases.append("stopped" if one.key is None else f"{one.key} stopped")
    return tuple(phrases)


def _holds(override: Override, before: Mapping[str, WorkerSet], after: Mapping[str, WorkerSet]) -> bool:
    name = override.set_name
    if isinstance(override, StayDown):
        return True
    if name not in after:
        return name not in before
    template = after[name].template
    if isinstance(override, RolledBack):
        return template == override.over
    if isinstance(override, Scale):
        over = override.over if override.over is not None or name not in before else _replicas(before[name])
        return over is None or over == _replicas(after[name])
    return True


def _replicas(wanted: WorkerSet) -> int | None:
    return None if wanted.template is None else wanted.template.replicas


def _applied(wanted: WorkerSet, override: Override) -> WorkerSet:
    if isinstance(override, Scale | RolledBack):
        return wanted if wanted.template is None else expand(_rewritten(wanted.template, override))
    if isinstance(override, Paused):
        return attrs.evolve(wanted, paused=True)
    chosen = [key for key in wanted.workers if override.key in (None, key)]
    if isinstance(override, StayDown):
        left = {key: spec for key, spec in wanted.workers.items() if key not in chosen}
        return attrs.evolve(wanted, workers=left, down=(*wanted.down, *chosen))
    workers = {key: _again(spec, override) if key in chosen else spec for key, spec in wanted.workers.items()}
    return attrs.evolve(wanted, workers=workers, policy=_at_once(wanted.policy) if override.at_once else wanted.policy)


def _rewritten(template: SetSpec, override: Scale | RolledBack) -> SetSpec:
    if isinstance(override, Scale):
        return attrs.evolve(template, replicas=override.replicas)
    return attrs.evolve(override.template, replicas=template.replicas, order=template.order, suspend=template.suspend)


def _at_once(policy: Policy) -> Policy:
    rollout = attrs.evolve(
        policy.rollout, strategy="rolling", max_surge=Budget(100, percent=True), max_unavailable=Budget(0)
    )
    return attrs.evolve(policy, rollout=rollout)


def _again(spec: WorkerSpec, override: RestartAsked) -> WorkerSpec:
    return attrs.evolve(spec, digest=Again(spec.digest, override.serial))
