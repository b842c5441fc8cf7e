"""What an operator asked for by a verb or a signal: data that is laid over what the source desires.

Rule: an override changes what is desired and never touches a process; the plan acts on it, and status shows the drift.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from reconciler.core.spec import WorkerSet, WorkerSpec, expand


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
    """Replace a worker, or with `key` None a whole set, once, by the rollout budget. Each `serial` asks anew."""

    set_name: str
    serial: int
    key: Any = None


Override = Scale | StayDown | RestartAsked


def apply(desired: Mapping[str, WorkerSet], overrides: Iterable[Override]) -> dict[str, WorkerSet]:
    """What is desired with the overrides laid over it, in their order. Those that name no known set do nothing."""
    result = dict(desired)
    for override in overrides:
        if override.set_name in result:
            result[override.set_name] = _applied(result[override.set_name], override)
    return result


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
    return attrs.evolve(
        wanted,
        workers={
            key: _again(spec, override) if override.key in (None, key) else spec for key, spec in wanted.workers.items()
        },
    )


def _again(spec: WorkerSpec, override: RestartAsked) -> WorkerSpec:
    return attrs.evolve(spec, digest=(spec.digest, override.serial))
