"""What an operator asked for by a verb or a signal: data that is laid over what the source desires.

Rule: an override changes what is desired and never touches a process; the plan acts on it, and status shows the drift.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from reconciler.core.spec import Budget, Policy, WorkerSet, WorkerSpec, expand


@attrs.frozen
class Scale:
    """Run this many workers of a set, whatever its file says. Only sets with a template (a spec file) can be scaled."""

    set_name: str
    replicas: int


@attrs.frozen
class StayDown:
    """Do not run a worker, or with `key` None a whole set, until the override is taken back."""

    set_name: str
    key: Any = None


@attrs.frozen
class RestartAsked:
    """Replace a worker, or with `key` None a whole set, once. Each `serial` asks anew.

    It goes by the rollout budget, or `at_once`: all new ones are started, and then all old ones stopped.
    """

    set_name: str
    serial: int
    key: Any = None
    at_once: bool = False


Override = Scale | StayDown | RestartAsked


def apply(desired: Mapping[str, WorkerSet], overrides: Iterable[Override]) -> dict[str, WorkerSet]:
    """What is desired with the overrides laid over it, in their order. Those that name no known set do nothing."""
    result = dict(desired)
    for override in overrides:
        if override.set_name in result:
            result[override.set_name] = _applied(result[override.set_name], override)
    return result


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


def scaled(overrides: Iterable[Override], scale: Scale) -> tuple[Override, ...]:
    """The overrides with this scale in the place of an earlier one of its set. It goes first, as it makes workers."""
    others = (one for one in overrides if not (isinstance(one, Scale) and one.set_name == scale.set_name))
    return (scale, *others)


def stopped_by(wanted: WorkerSet, signal: str) -> WorkerSet:
    """The same set, whose workers are asked to end by this signal."""
    policy = attrs.evolve(wanted.policy, stop=attrs.evolve(wanted.policy.stop, signal=signal))
    return attrs.evolve(wanted, policy=policy)


def still_meant(
    overrides: Iterable[Override], before: Mapping[str, WorkerSet], after: Mapping[str, WorkerSet]
) -> tuple[Override, ...]:
    """The overrides that hold when what is desired goes from `before` to `after`.

    A scale is over when its set goes, or when the file's own number is edited: then that is the newer wish.
    """
    return tuple(
        override
        for override in overrides
        if not isinstance(override, Scale) or _replicas(before, override) == _replicas(after, override)
    )


def _replicas(desired: Mapping[str, WorkerSet], override: Scale) -> int | None:
    wanted = desired.get(override.set_name)
    return None if wanted is None or wanted.template is None else wanted.template.replicas


def _applied(wanted: WorkerSet, override: Override) -> WorkerSet:
    if isinstance(override, Scale):
        if wanted.template is None:
            return wanted
        return expand(attrs.evolve(wanted.template, replicas=override.replicas))
    if isinstance(override, StayDown):
        left = {} if override.key is None else {k: v for k, v in wanted.workers.items() if k != override.key}
        return attrs.evolve(wanted, workers=left)
    workers = {
        key: _again(spec, override) if override.key in (None, key) else spec for key, spec in wanted.workers.items()
    }
    return attrs.evolve(wanted, workers=workers, policy=_at_once(wanted.policy) if override.at_once else wanted.policy)


def _at_once(policy: Policy) -> Policy:
    rollout = attrs.evolve(
        policy.rollout, strategy="rolling", max_surge=Budget(100, percent=True), max_unavailable=Budget(0)
    )
    return attrs.evolve(policy, rollout=rollout)


def _again(spec: WorkerSpec, override: RestartAsked) -> WorkerSpec:
    return attrs.evolve(spec, digest=(spec.digest, override.serial))
