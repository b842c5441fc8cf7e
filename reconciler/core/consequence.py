"""What follows from what happened, as if an operator had asked for it: overrides that the engine lays by itself.

Rule: the same data as a verb makes, so that it is shown, saved and taken back in the same way.
"""

from collections.abc import Iterable, Mapping

import attrs

from reconciler.core.actual_set import ActualSet
from reconciler.core.override import Override, RolledBack
from reconciler.core.spec import SetSpec, WorkerSet


def rollback(known: ActualSet, sourced: Mapping[str, WorkerSet], overrides: Iterable[Override]) -> RolledBack | None:
    """Where a stalled rollout is to be undone: the way back to what last ran everywhere, if there is one."""
    name, wanted = known.wanted.name, known.wanted
    over = sourced[name].template if name in sourced else None
    if not (known.progress.stalled and wanted.policy.rollout.auto_rollback) or over is None or known.good is None:
        return None
    if any(isinstance(one, RolledBack) and one.set_name == name for one in overrides):
        return None
    if wanted.template is None or _essence(known.good) == _essence(wanted.template):
        return None
    return RolledBack(name, None, known.good, over)


def _essence(spec: SetSpec) -> SetSpec:
    """The spec without its size, which going back leaves as it is."""
    return attrs.evolve(spec, replicas=1, order=0, suspend=False)
