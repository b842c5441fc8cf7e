"""What follows from what happened, as if an operator had asked for it: overrides that the engine lays by itself.

Rule: the same data as a verb makes, so that it is shown, saved and taken back in the same way.
"""

from collections.abc import Iterable, Mapping, Sequence

import attrs

from reconciler.core.actual_set import ActualSet
from reconciler.core.needs import unmet_names
from reconciler.core.override import Override, RolledBack, apply, everywhere
from reconciler.core.spec import SetSpec, WorkerSet


def rollback(known: ActualSet, sourced: Mapping[str, WorkerSet], overrides: Sequence[Override]) -> RolledBack | None:
    """Where a stalled rollout is to be undone: the way back to what last ran everywhere, if there is one."""
    name, wanted = known.wanted.name, known.wanted
    over = sourced[name].template if name in sourced else None
    if not (known.progress.stalled and wanted.policy.rollout.auto_rollback) or over is None or known.good is None:
        return None
    if any(isinstance(one, RolledBack) and one.set_name == name for one in overrides):
        return None
    if wanted.template is None or _essence(known.good) == _essence(wanted.template):
        return None
    back = RolledBack(name, None, known.good, over)
    return None if unmet(name, sourced, (*overrides, back)) else back


def unmet(name: str, sourced: Mapping[str, WorkerSet], overrides: Iterable[Override]) -> str | None:
    """What a set would lack with these overrides: it needs what is not there, or itself in the end."""
    needs = {other: wanted.policy.needed for other, wanted in apply(sourced, overrides).items()}
    return unmet_names(needs).get(name)


def _essence(spec: SetSpec) -> SetSpec:
    """The spec without its size, which going back leaves as it is, and for all workers."""
    return attrs.evolve(everywhere(spec), replicas=1, order=0, suspend=False)
