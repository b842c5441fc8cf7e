"""Workers that tell and are asked: random readiness, probes, watchdogs, drains, jobs and dependencies of a world.

Rule: as in `mischief`, each incarnation has luck of its own. A world that behaves answers at once and well, tells what
it is to tell, and ends its jobs.
"""

import math
from collections.abc import Callable, Sequence
from random import Random

import attrs

from reconciler.core.needs import Condition, Dependency
from reconciler.core.observation import Drained, Notice, Probed, Ready
from reconciler.core.serving import Probe, ProbeKind, Probes
from reconciler.core.serving import Ready as Readiness
from reconciler.core.spec import Budget, Drain, Policy, SetSpec
from reconciler.testing.clock import ManualClock
from reconciler.testing.drawing import drawn, happens
from reconciler.testing.driver import FakeDriver, Process

_KINDS = {"service": 66, "job": 18, "scheduled": 16}
_TELLS = {"soon": 70, "asks for time": 15, "never": 15}
_ANSWERS = {"at once": 50, "soon": 25, "fails": 17, "never": 8}
_DRAINS = {"at once": 50, "slow": 30, "never": 20}
_CONDITIONS: tuple[Condition | None, ...] = (None, None, "started", "ready", "completed")
_BEATS = 3  # how often within a watchdog's interval a worker is heard of


def serve(luck: Random, spec: SetSpec, others: Sequence[str]) -> SetSpec:
    """The spec with other wishes for readiness, probes, ends and needs; `others` are sets that it may depend on."""
    stop = attrs.evolve(spec.stop, drain=_drain(luck) if happens(luck, 30) else None)
    rollout = attrs.evolve(
        spec.rollout,
        partition=luck.choice((Budget(0), Budget(0), Budget(1), Budget(50, percent=True))),
        auto_rollback=happens(luck, 25),
    )
    needed = tuple(_need(luck, name) for name in others if happens(luck, 40))
    spec = attrs.evolve(
        spec,
        stop=stop,
        rollout=rollout,
        depends_on=needed,
        ready=Readiness(),
        probes=Probes(),
        watchdog=None,
        kind="service",
        schedule=None,
    )
    kind = drawn(luck, _KINDS)
    if kind == "service":
        return _service(luck, spec)
    if kind == "job":
        return attrs.evolve(spec, kind="job")
    return attrs.evolve(
        spec,
        kind="job",
        replicas=1,
        schedule=f"every {luck.choice((5, 13, 40))}",
        concurrency=luck.choice(("allow", "forbid", "replace")),
        starting_deadline=luck.choice((None, 1.0, 20.0)),
        successful_history=luck.choice((0, 1, 3)),
        failed_history=luck.choice((0, 1, 2)),
    )


def calmed(spec: SetSpec) -> SetSpec:
    """The spec as one that comes to rest: no times at which something begins, and jobs that can be done."""
    rollout = attrs.evolve(spec.rollout, auto_rollback=False)
    if spec.kind == "job":
        spec = attrs.evolve(spec, restart=attrs.evolve(spec.restart, success_exit_codes=(0,)))
    return attrs.evolve(spec, suspend=spec.suspend or spec.schedule is not None, rollout=rollout)


def at_peace(spec: SetSpec, names: Sequence[str]) -> SetSpec:
    """The spec as one that can be run and be ready beside sets of these names that are so, too."""
    needed = tuple(
        attrs.evolve(one, condition="ready") for one in spec.depends_on if one.set in names and one.set < spec.name
    )
    rollout = attrs.evolve(spec.rollout, partition=Budget(0), auto_rollback=False)
    return attrs.evolve(spec, kind="service", schedule=None, depends_on=needed, rollout=rollout)


def _service(luck: Random, spec: SetSpec) -> SetSpec:
    probes = Probes(
        startup=_probe(luck, 1) if happens(luck, 30) else None,
        readiness=_probe(luck, luck.randint(1, 2)) if happens(luck, 40) else None,
        liveness=_probe(luck, 1) if happens(luck, 35) else None,
    )
    return attrs.evolve(
        spec,
        ready=Readiness(notify=happens(luck, 40), timeout=luck.choice((0.0, 4.0, 30.0))),
        probes=probes,
        watchdog=luck.choice((None, None, None, 3.0, 9.0)),
        min_ready=None if happens(luck, 40) else spec.min_ready,
    )


def _probe(luck: Random, successes: int) -> Probe:
    return Probe(
        tcp="127.0.0.1:1",
        initial_delay=luck.choice((0.0, 0.0, 2.0)),
        period=luck.choice((0.5, 2.0, 10.0)),
        timeout=luck.choice((0.5, 1.0)),
        success_threshold=successes,
        failure_threshold=luck.randint(1, 3),
    )


def _drain(luck: Random) -> Drain:
    command = luck.choice(((), ("drain",)))
    return Drain(command=command, delay=luck.choice((0.0, 1.0, 4.0)), timeout=luck.choice((0.5, 8.0)))


def _need(luck: Random, name: str) -> Dependency:
    condition = luck.choice(_CONDITIONS)
    return Dependency(set=name, condition=condition, restart_with=happens(luck, 30))


class Metronome:
    """A calendar whose schedules are texts like "every 40": seconds."""

    def next_after(self, expression: str, zone: str, when: float) -> float | None:  # noqa: ARG002  the same anywhere
        """See `core.runs.Calendar`."""
        period = float(expression.split()[1])
        return (math.floor(when / period) + 1) * period

    def last_before(self, expression: str, zone: str, when: float) -> float | None:  # noqa: ARG002  likewise
        """See `core.runs.Calendar`."""
        period = float(expression.split()[1])
        return (math.ceil(when / period) - 1) * period


class Servants:
    """What the processes of a fake driver tell by themselves, and what they answer. `policy_of` a set may be None."""

    def __init__(
        self, seed: int, driver: FakeDriver, clock: ManualClock, policy_of: Callable[[str], Policy | None]
    ) -> None:
        self._seed = seed
        self._driver = driver
        self._clock = clock
        self._policy_of = policy_of
        self._on = True
        self._lucks: dict[str, Random] = {}
        self._hung: set[str] = set()
        self._leaving: set[str] = set()

    def born(self, process: Process) -> None:
        """A process came into being."""
        policy, luck = self._policy_of(process.set_name), self._luck(process.uid)
        if policy is None:
            return
        if policy.job:
            self._end_job(process, luck)
        if process.spec.payload.notify:
            self._tell_ready(process, luck)
        if process.spec.payload.watchdog is not None:
            if self._on and happens(luck, 25):
                self._hung.add(process.uid)
            self._beat(process)
        if self._on and happens(luck, 8):
            self._later(process, luck.uniform(0, 5), lambda: self._leave(process))

    def answer(self, process: Process, kind: ProbeKind) -> None:
        """A probe is asked."""
        luck = self._luck(process.uid)
        way = drawn(luck, _ANSWERS) if self._on else "at once"
        success = way != "fails"
        answer = Probed(process.uid, kind, success, "" if success else "refused")
        if way in ("at once", "fails"):
            self._driver.tell(answer)
        elif way == "soon":
            self._later(process, luck.uniform(0, 0.5), lambda: self._driver.tell(answer))

    def drain(self, process: Process) -> None:
        """The command before a stop is run."""
        luck = self._luck(process.uid)
        way = drawn(luck, _DRAINS) if self._on else "at once"
        if way == "at once":
            self._driver.tell(Drained(process.uid))
        elif way == "slow":
            self._later(process, luck.uniform(0, 6), lambda: self._driver.tell(Drained(process.uid)))

    def cease(self) -> None:
        """From now on everything is told and answered."""
        self._on = False
        self._hung.clear()
        for uid in sorted(self._leaving & set(self._driver.processes)):
            self._driver.exit(uid)
        for process in list(self._driver.processes.values()):
            policy = self._policy_of(process.set_name)
            if process.pid is None or policy is None:
                continue
            if policy.job:
                self._end_job(process, self._luck(process.uid))
            if process.spec.payload.notify:
                self._driver.tell(Ready(process.uid))

    def _leave(self, process: Process) -> None:
        """It says that it stops, and does so when the world behaves."""
        if self._on:
            self._leaving.add(process.uid)
            self._driver.tell(Notice(process.uid, stopping=True))

    def _end_job(self, process: Process, luck: Random) -> None:
        seconds = luck.uniform(0, 20) if self._on else luck.uniform(0, 2)
        code = 1 if self._on and happens(luck, 20) else 0
        self._later(process, seconds, lambda: self._driver.exit(process.uid, code))

    def _tell_ready(self, process: Process, luck: Random) -> None:
        way = drawn(luck, _TELLS) if self._on else "soon"
        if way == "asks for time":
            self._driver.tell(Notice(process.uid, extend=20.0, status="loading"))
        if way != "never":
            seconds = luck.uniform(0, 4 if way == "soon" else 15) if self._on else 0.0
            self._later(process, seconds, lambda: self._driver.tell(Ready(process.uid)))

    def _beat(self, process: Process) -> None:
        """It is heard of now and from time to time, unless it hangs."""
        if process.uid not in self._hung:
            self._driver.tell(Notice(process.uid, alive=True))
        self._later(process, process.spec.payload.watchdog / _BEATS, lambda: self._beat(process))

    def _luck(self, uid: str) -> Random:
        if uid not in self._lucks:
            self._lucks[uid] = Random(f"serving/{self._seed}/{uid}")  # noqa: S311  it must be repeatable, not secret
        return self._lucks[uid]

    def _later(self, process: Process, seconds: float, action: Callable[[], object]) -> None:
        """Arrange for something that happens only if the process is still there."""
        self._clock.later(seconds, lambda: action() if process.uid in self._driver.processes else None)
