"""What must be true of an engine whose workers tell, are asked, depend on others and have their times.

Rule: as in `invariants`, each answer is derived anew, from what arrived and from the fake driver's truth.
"""

from collections.abc import Mapping

from reconciler.core.action import Action, BeginDrain, Start, Stop
from reconciler.core.actual_set import ActualSet
from reconciler.core.needs import Dependency
from reconciler.core.observation import Observation, Probed, Ready
from reconciler.core.override import RestartAsked
from reconciler.core.serving import ProbeKind, Probes
from reconciler.core.worker import Phase, Worker
from reconciler.engine import Engine
from reconciler.testing.driver import FakeDriver, Process
from reconciler.testing.invariants import require

_AILMENTS = {"StartupFailed": "startup", "LivenessFailed": "liveness"}


class Judge:
    """The judge of probes, readiness, dependencies and schedules."""

    def __init__(self, engine: Engine, driver: FakeDriver) -> None:
        self._engine = engine
        self._driver = driver
        self._asked: dict[str, tuple[ProbeKind, float]] = {}
        self._told: set[str] = set()
        self._good: dict[tuple[str, str], int] = {}
        self._bad: dict[tuple[str, str], int] = {}

    # ------------------------------------------------------------------------------------------- probes

    def asked(self, process: Process, kind: ProbeKind, now: float) -> None:
        """A probe is asked: of one that runs, one at a time, and of one that has not started only whether it has."""
        worker = self._engine.actual.workers.get(process.uid)
        require(worker is not None and worker.phase is Phase.RUNNING, "asks one that does not run:", process)
        probes = Probes() if worker is None else worker.probes
        waits = self._asked.get(process.uid)
        if waits is not None and probes.of(waits[0]) is not None:
            require(now >= waits[1], "asks", kind, "while", waits[0], "waits for its answer:", process)
            self._miss(process.uid, waits[0])
        probe = probes.of(kind)
        require(probe is not None, "asks what nobody wants to know:", process, kind)
        if probe is not None:
            self._asked[process.uid] = (kind, now + probe.timeout)

    def arrived(self, observation: Observation) -> None:
        """What arrives of what was told."""
        if isinstance(observation, Ready):
            self._told.add(observation.uid)
        elif isinstance(observation, Probed):
            key = (observation.uid, observation.kind)
            if observation.uid in self._asked and self._asked[observation.uid][0] == observation.kind:
                del self._asked[observation.uid]
            if observation.success:
                self._good[key] = self._good.get(key, 0) + 1
                self._bad[key] = 0
            else:
                self._miss(*key)

    def _miss(self, uid: str, kind: str) -> None:
        self._bad[uid, kind] = self._bad.get((uid, kind), 0) + 1

    # ------------------------------------------------------------------------------------------- plans

    def judge_plan(self, actions: tuple[Action, ...]) -> None:
        """Nothing is started before what it needs is there, nothing stopped while it is needed or without a cause."""
        sets = self._engine.actual.sets
        for action in actions:
            if isinstance(action, Start):
                known = sets[action.set_name]
                for need in known.wanted.policy.needed:
                    require(_is_met(sets, need), "is started before", need, ":", action)
                self._judge_run(action, known)
            elif isinstance(action, Stop | BeginDrain):
                self._judge_stop(action, sets)

    def _judge_stop(self, stop: Stop | BeginDrain, sets: Mapping[str, ActualSet]) -> None:
        kind = _AILMENTS.get(stop.reason)
        if kind is not None:
            require(self._bad.get((stop.uid, kind), 0) > 0 or stop.uid in self._asked, "is sane:", stop)
        known = sets[stop.set_name]
        draining = self._engine.actual.workers[stop.uid].phase is Phase.STOPPING
        if not known.removed or self._engine.actual.hurried or draining or kind is not None:
            return
        for name, other in sets.items():
            needs = any(one.set == stop.set_name for one in other.wanted.policy.needed)
            back = any(one.set == name for one in known.wanted.policy.needed)
            alive = any(process.set_name == name for process in self._driver.processes.values())
            ailing = self._engine.actual.workers[stop.uid].ailing
            require(not (needs and other.removed and alive) or back or ailing, "is needed by", name, ":", stop)

    def _judge_run(self, start: Start, known: ActualSet) -> None:
        spec = known.wanted.template
        if spec is None or spec.schedule is None or spec.concurrency == "allow" or start.reason != "Scheduled":
            return
        by_hand = any(isinstance(o, RestartAsked) and o.set_name == start.set_name for o in self._engine.overrides)
        others = [p for p in self._driver.processes.values() if p.set_name == start.set_name]
        require(by_hand or not others, "runs beside", others, ":", start)

    # ------------------------------------------------------------------------------------------- state

    def judge_state(self) -> None:
        """Nobody is ready who did not say so, or was not found to be; and histories are short."""
        for worker in self._engine.actual.workers.values():
            known = self._engine.actual.sets[worker.set_name]
            if worker.phase is Phase.RUNNING:
                self._judge_ready(worker, known)
        for known in self._engine.actual.sets.values():
            self._judge_history(known)

    def _judge_ready(self, worker: Worker, known: ActualSet) -> None:
        policy = known.wanted.policy
        require(not (worker.ready and worker.health.ailment), "serves and is ailing:", worker)
        if not worker.ready or policy.job or worker.generation != known.generation:
            return
        tells = worker.spec.payload.notify
        require(not tells or worker.uid in self._told, "never said that it can serve:", worker)
        for kind in ("startup", "readiness"):
            probe = worker.probes.of(kind)
            require(probe is None or self._good.get((worker.uid, kind)), "was never found to serve:", worker)

    def _judge_history(self, known: ActualSet) -> None:
        spec = known.wanted.template
        if spec is None or spec.schedule is None or self._engine.stopping or known.removed:
            return
        for phase, most in ((Phase.SUCCEEDED, spec.successful_history), (Phase.FAILED, spec.failed_history)):
            ended = [key for key, workers in known.by_key.items() if workers[-1].phase is phase]
            require(len(ended) <= most, "keeps", len(ended), "runs of", spec.name, phase)


def _is_met(sets: Mapping[str, ActualSet], need: Dependency) -> bool:
    """Whether another set has come so far, from each of its workers."""
    other = sets.get(need.set)
    if other is None or other.removed or not other.wanted.workers:
        return False
    how = need.condition or ("completed" if other.wanted.policy.job else "ready")
    return all(_has_come(other, key, how) for key in other.wanted.workers)


def _has_come(other: ActualSet, key: object, how: str) -> bool:
    workers = other.by_key.get(key, ())
    held = bool(workers) and key in other.held
    digest = workers[-1].spec.digest if held else other.wanted.workers[key].digest
    ended_well = any(w.phase is Phase.SUCCEEDED and w.spec.digest == digest for w in workers)
    if how == "completed":
        return ended_well and len(workers) == 1
    if how == "ready":
        return ended_well or any(w.ready for w in workers)
    return ended_well or any(w.phase is Phase.RUNNING for w in workers)
