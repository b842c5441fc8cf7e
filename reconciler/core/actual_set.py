"""One set of workers as it is: its incarnations, the running totals, and how far it has come.

Rule: what a look at all workers would find is kept up to date with each of them, so that one exit among ten thousand
costs what it costs among ten.
"""

from typing import Any, NamedTuple

import attrs

from reconciler.core import rollout
from reconciler.core.needs import Condition
from reconciler.core.rollout import Progress, Tally
from reconciler.core.serving import Probes
from reconciler.core.spec import Again, Command, SetSpec, WorkerSet, WorkerSpec, is_same_version
from reconciler.core.worker import Phase, Worker


class _Facts(NamedTuple):
    """What a key adds to each field of `Tally` but the first."""

    available: int = 0
    updated: int = 0
    outdated: int = 0
    surging: int = 0
    surplus: int = 0
    settled: int = 0
    failed: int = 0
    completed: int = 0
    started: int = 0
    breathless: int = 0


_NO_FACTS = _Facts()
_SURPLUS = _Facts(surplus=1)
_OUTDATED = _Facts._fields.index("outdated")


class ActualSet:
    """The workers of one set by key, oldest incarnation first, with the running totals of `Tally`.

    The keys that are `held` keep the spec that they have; if nothing is left of one, that of `good`, the spec file that
    last ran everywhere. So do the ones that are `recalled`: all of a set that was paused when it came to be known.
    `reached` is how far the set has come for those that depend on it, and `lost` from what of that it fell back.
    """

    __slots__ = (
        "_formerly",
        "by_key",
        "dirty",
        "facts",
        "generation",
        "good",
        "held",
        "lost",
        "progress",
        "queue",
        "reached",
        "recalled",
        "removed",
        "surplus_reason",
        "totals",
        "waiting",
        "wanted",
    )

    def __init__(self, wanted: WorkerSet, now: float) -> None:
        self.wanted = wanted
        self.removed = False
        self.surplus_reason = "Removed"
        self.generation = 1
        self.by_key: dict[Any, tuple[Worker, ...]] = {}
        self.facts: dict[Any, _Facts] = {}
        self.totals = list(_NO_FACTS)
        self.dirty: set[Any] = set()
        self.queue: list[Any] = []
        self.progress = Progress(1, now)
        self.held = held_keys(wanted)
        self.recalled: frozenset[Any] = frozenset(wanted.workers) if wanted.paused else frozenset()
        self.good: SetSpec | None = None
        self._formerly: tuple[SetSpec | None, SetSpec | None, Command | None] = (None, None, None)
        self.reached: frozenset[Condition] = frozenset()
        self.lost: frozenset[Condition] = frozenset()
        self.waiting = False

    @property
    def tally(self) -> Tally:
        """The set's workers, counted."""
        return Tally(len(self.wanted.workers), *self.totals)

    @property
    def has_settled(self) -> bool:
        """Whether nothing more will be done of itself, whatever it needs of others; see `dependencies.rests`."""
        if self.progress.stalled or self.tally.failed or self.is_reached:
            return True
        return self.wanted.paused and self.is_calm

    @property
    def is_reached(self) -> bool:
        """Whether all is done that is to be done."""
        return rollout.is_reached(self.tally, self.wanted.policy.rollout)

    @property
    def is_patient(self) -> bool:
        """Whether it may take as long as it likes: while it is paused or waits for others, and as a job."""
        return self.wanted.paused or self.waiting or self.wanted.policy.job

    @property
    def is_calm(self) -> bool:
        """Whether each of its workers is alone, and serves or has ended for good."""
        return all(
            len(workers) == 1 and (workers[0].ready or workers[0].phase in (Phase.SUCCEEDED, Phase.FAILED))
            for workers in self.by_key.values()
        )

    @property
    def is_rolling(self) -> bool:
        """Whether a rollout is on its way."""
        return self.totals[_OUTDATED] > 0 or (self.progress.announced and not self.progress.done)

    def meant(self, key: Any) -> WorkerSpec | None:
        """What is wanted of a key for now: of one that is held what its youngest incarnation was started from, anew if
        a restart was asked for since. One that is `recalled` is as if it were held until it has started.
        """
        wanted = self.wanted.workers.get(key)
        if wanted is None or not (key in self.held or (key in self.recalled and key not in self.by_key)):
            return wanted
        young, asked = self.by_key[key][-1].spec if key in self.by_key else self._former(wanted), wanted.digest
        had = young.digest if type(young.digest) is Again else None
        if type(asked) is not Again or (had is not None and had.serial >= asked.serial):
            return young
        return attrs.evolve(young, digest=Again(had.digest if had else young.digest, asked.serial, asked.at_once))

    def probes_of(self, spec: WorkerSpec) -> Probes:
        """What a worker is asked that is started from this spec: of one that is outdated what the last one of its
        version was asked.
        """
        wanted = self.wanted.workers.get(spec.key)
        if wanted is None or is_same_version(wanted.digest, spec.digest):
            return self.wanted.policy.probes
        for worker in reversed(self.by_key.get(spec.key, ())):
            if is_same_version(worker.spec.digest, spec.digest):
                return worker.probes
        return self.wanted.policy.probes if self.good is None else self.good.probes

    def _former(self, wanted: WorkerSpec) -> WorkerSpec:
        """What a worker that is held, and of which nothing is left, was last known to run from."""
        good, template = self.good, self.wanted.template
        if good is None or template is None or good is template:
            return wanted
        if self._formerly[:2] != (good, template):
            self._formerly = (good, template, _command(good, template))
        command = self._formerly[2]
        return wanted if command is None else WorkerSpec(wanted.key, command, command)

    @property
    def runs_everywhere(self) -> bool:
        """Whether each worker runs from the very spec that is wanted, also those that the partition would let keep
        another one; never so without any worker, or with one of those being down.
        """
        wanted = self.wanted.workers
        if not (wanted and self.progress.done and self.tally.converged) or self.held & self.wanted.down:
            return False
        held = ((wanted[key].digest, self.by_key.get(key)) for key in self.held)
        return all(known and is_same_version(known[-1].spec.digest, digest) for digest, known in held)

    @property
    def due(self) -> float | None:
        """When it counts as stalled, unless there is progress before."""
        return None if self.is_patient else self.progress.deadline(self.wanted.policy.rollout)

    def want(self, wanted: WorkerSet, now: float, surplus_reason: str | None = None) -> None:
        """Another spec is wanted: everything of the set is looked at again.

        `surplus_reason` says that the set is gone altogether, and why.
        """
        same = wanted.runs and wanted.template == self.wanted.template
        self.wanted = wanted
        self.removed = surplus_reason is not None
        suspended = wanted.template is not None and wanted.template.suspend
        self.surplus_reason = surplus_reason or ("Suspended" if suspended else "ScaledDown")
        self.generation += not same  # another run of a schedule is no other spec
        unfinished = self.progress.announced and not self.progress.done
        self.progress = Progress(self.generation, now, announced=unfinished)
        self.held = held_keys(wanted)
        self.recalled = self.recalled if wanted.paused else frozenset()
        self.dirty.update(wanted.workers, self.by_key)
        for key in self.dirty:
            self.count(key)
        self.queue = sorted(key for key in wanted.workers if self.outdated(key))

    def put(self, key: Any, workers: tuple[Worker, ...]) -> None:
        """Replace the incarnations of a key."""
        if workers:
            self.by_key[key] = workers
        else:
            self.by_key.pop(key, None)
        self.dirty.add(key)
        self.count(key)

    def outdated(self, key: Any) -> bool:
        """Whether a wanted key still has a live incarnation of another digest."""
        facts = self.facts.get(key)
        return facts is not None and facts.outdated > 0

    def count(self, key: Any) -> None:
        """Bring the totals up to date with one key.

        When the last outdated worker of a set that is recreated has gone, all of its keys may start.
        """
        before = self.facts.get(key, _NO_FACTS)
        after = self._facts_of(key)
        if after == before:
            return
        totals = self.totals
        for position, (old, new) in enumerate(zip(before, after, strict=True)):
            totals[position] += new - old
        if after == _NO_FACTS:
            self.facts.pop(key, None)
        else:
            self.facts[key] = after
        if before.outdated and not totals[_OUTDATED] and self.wanted.policy.rollout.strategy == "recreate":
            self.dirty.update(self.wanted.workers)

    def _facts_of(self, key: Any) -> _Facts:
        workers = self.by_key.get(key, ())
        wanted = self.meant(key)
        if wanted is None:
            return _SURPLUS if workers else _NO_FACTS
        available = updated = outdated = failed = completed = running = served = 0
        for worker in workers:
            runs = worker.phase is Phase.RUNNING
            running |= runs
            current = worker.spec is wanted or worker.spec.digest == wanted.digest
            if runs and worker.ready:
                available = 1
                updated |= current
            elif current and worker.phase is Phase.SUCCEEDED:
                updated = completed = 1
            elif current and worker.phase is Phase.FAILED:
                failed = 1
                updated |= self.wanted.runs  # one that is kept for its history
            if not current and worker.live:
                outdated += 1
                served |= runs and worker.served
        alone = len(workers) == 1
        completed = int(completed and not available)
        return _Facts(
            available,
            int(updated),
            outdated,
            len(workers) > 1,
            0,
            int(updated and not outdated and alone),
            failed,
            completed,
            int(running or completed),
            int(served and alone and not available),
        )

    def trim(self) -> None:
        """Drop the end of the queue of outdated keys that is done with."""
        while self.queue and not self.outdated(self.queue[-1]):
            self.queue.pop()

    def conditions(self) -> frozenset[Condition]:
        """How far the set has come, for those that depend on it; a set without workers has not come far."""
        tally = self.tally
        if self.removed or not tally.replicas:
            return frozenset()
        reached: set[Condition] = set()
        if tally.started == tally.replicas:
            reached.add("started")
        if tally.available + tally.completed == tally.replicas:
            reached.add("ready")
        if tally.completed == tally.settled == tally.replicas:
            reached.add("completed")
        return frozenset(reached)


def _command(good: SetSpec, template: SetSpec) -> Command | None:
    """What `good` has run, if a worker of `template` can be that, and would not be the same."""
    if good.kind != template.kind or good.schedule is not None:
        return None
    command = attrs.evolve(good.process, content=good.content or template.content)
    return None if command == template.process else command


def held_keys(wanted: WorkerSet) -> frozenset[Any]:
    """The keys that keep what they have: the first ones, as many as the partition says, but no runs of a schedule."""
    partition = wanted.policy.rollout.partition
    if not partition.amount or wanted.runs:
        return frozenset()
    keys = sorted([*wanted.workers, *wanted.down])  # nobody else is kept because one of them is down
    return frozenset(keys[: partition.of(len(keys), round_up=True)])
