"""What outlives a controller: which jobs are done, and what last ran everywhere.

Rule: of a set that comes to be known again nothing is done twice, and what is held back stays so. It is forgotten when
the set is gone, and not while its file is merely bad, or its workers are suspended or stopped.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType

import attrs

from reconciler.core.actual_set import ActualSet
from reconciler.core.jobs import Done, Finished
from reconciler.core.spec import SetSpec


@attrs.frozen
class Memory:
    """What is to be known when a controller starts: what jobs have `done`, up to which time (seconds since the epoch)
    each of the `schedules` was dealt with, and the `good` specs that last ran everywhere.
    """

    done: Done = MappingProxyType({})
    schedules: Mapping[str, float] = MappingProxyType({})
    good: Mapping[str, SetSpec] = MappingProxyType({})


class Remembered:
    """The jobs that are `finished`, and by the names of their sets the `good` specs that last ran everywhere, of those
    that go back to them by themselves, have a partition or are paused.
    """

    def __init__(self, memory: Memory = Memory()) -> None:
        self.finished = Finished(memory.done)
        self.good = dict(memory.good)

    def note(self, known: ActualSet) -> None:
        """What runs everywhere is what may be gone back to, or kept."""
        if known.removed:
            return
        if known.good is not known.wanted.template and known.runs_everywhere:
            known.good = known.wanted.template
        rules = known.wanted.policy.rollout
        if known.good is not None and (rules.auto_rollback or rules.partition.amount or known.wanted.paused):
            self.good[known.wanted.name] = known.good
        else:
            self.good.pop(known.wanted.name, None)

    def forget(self, name: str) -> None:
        """The set is gone."""
        self.finished.forget(name)
        self.good.pop(name, None)

    def forget_others(self, names: Collection[str]) -> None:
        """No sets but these are there any more."""
        for name in {*self.finished.all(), *self.good} - set(names):
            self.forget(name)
