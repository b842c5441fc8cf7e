"""A simulated world: a real engine among workers, users and messages that misbehave, all of it drawn from one seed.

Rule: a seed is a history, the same on every machine. First the world does its worst: edits of every kind, exits,
failed and hanging starts, slow stops, deaths that take their time, observations that come late, twice or never. Then it
behaves, and what is wanted must come about and stay; then everything is wanted anew and nothing may be left broken;
then all is stopped, and nothing may remain. Each turn is judged by `invariants` and `stream` and replayed by `replay`.
"""

from collections.abc import Callable, Iterable, Sequence
from random import Random

import attrs

from reconciler.core import dependencies, health
from reconciler.core.actual_set import ActualSet
from reconciler.core.event import Event
from reconciler.core.observation import Observation
from reconciler.core.override import Override, Paused, RestartAsked, Scale, StayDown, added
from reconciler.core.serving import ProbeKind, Probes
from reconciler.core.spec import Policy, SetSpec, WorkerSet, WorkerSpec, expand, is_same_version
from reconciler.core.worker import Phase
from reconciler.engine import Engine
from reconciler.testing.drawing import draw_edit, draw_set, drawn, happens
from reconciler.testing.driver import FakeDriver, Process
from reconciler.testing.invariants import Invariants, require
from reconciler.testing.judge import Judge
from reconciler.testing.mischief import Mischief
from reconciler.testing.replay import Replay, recorded
from reconciler.testing.serving import Metronome, Servants, at_peace, calmed, serve
from reconciler.testing.stage import MemorySource, Stage
from reconciler.testing.stream import Stream

STEPS = 30
"""How many things happen before the world behaves."""

PATIENCE = 600.0
"""Seconds within which a world that behaves must come to rest: the longest hang, a relist, and a rollout."""

QUIET = 70.0
"""Seconds for which it must then stay at rest."""

STEERED = 10_000
"""From this seed on there is an operator, too, who pauses and resets. He came later: the histories of earlier seeds,
some of which have found a fault, are what they were.
"""

SERVING = 20_000
"""From this seed on workers tell that they can serve, are probed and watched, drain, depend on others, and are jobs."""

MORTAL = 30_000
"""From this seed on the controller is killed now and then, with all that it runs, and another one takes over."""

TURNS_AT_ONCE = 20
"""More turns than this at one moment mean that the engine spins."""


_HAPPENINGS = {"edit": 2, "override": 1, "end": 2, "sickness": 1, "nothing": 1}


class World(Stage):
    """The history of one seed. `say` is given each step and each event as a line of text."""

    source: MemorySource

    def __init__(self, seed: int, say: Callable[[str], object] | None = None) -> None:
        super().__init__(MemorySource())
        self.seed = seed
        self.luck = Random(seed)  # noqa: S311  a simulation must be repeatable, not secret
        self.operator = Random(-seed)  # noqa: S311  likewise
        self._say = say
        self._specs: dict[str, SetSpec] = {}
        self._form = expand if happens(self.luck, 85) or seed >= SERVING else _as_callable_gives
        self._serving = Random(f"serving/{seed}")  # noqa: S311  likewise
        self._killer = Random(f"mortal/{seed}")  # noqa: S311  likewise
        self._serial = self._lives = 0
        self._everywhere: dict[str, object] = {}
        self._services: set[str] = set()
        self._cast()

    def _cast(self) -> None:
        """Everybody who is there for the life of one controller."""
        seed = self.seed
        self.mischief = Mischief(seed, self.driver, self.clock)
        self.driver.on_start = self._start
        self.driver.on_signal = self._signal
        self.driver.wire = self._wire
        self._servants = Servants(seed, self.driver, self.clock, self._policy_of) if seed >= SERVING else None
        self._judge = Judge(self.engine, self.driver)
        if self._servants is not None:
            self.mischief.born = self._servants.born
            self.driver.on_arrival = self._judge.arrived
            self.driver.on_probe = self._probe
            self.driver.on_drain = self._servants.drain
            self.engine.calendar = Metronome()
            self.engine.clock_offset = 1e6
        self._invariants = Invariants(self.engine, self.driver, self._everywhere)
        self._stream = Stream(self.engine, self.driver)
        self._replay = Replay()
        self._spun = (0.0, 0)

    def run(self) -> None:
        """The whole history. Raises `BrokenError` at the first invariant that does not hold."""
        for name in self.luck.sample("abcd", self.luck.randint(1, 3)):
            self._specs[name] = draw_set(self.luck, name)
        self._serve(self._specs)
        self._read()
        for _ in range(STEPS):
            self.step()
        self.behave()
        self.want_anew()
        self.stop()

    def step(self) -> None:
        """Something happens, and some time passes."""
        what = drawn(self.luck, _HAPPENINGS)
        running = [process for process in self.driver.processes.values() if process.pid is not None]
        if what == "edit":
            known = self._specs
            self._specs = draw_edit(self.luck, known)
            self._serve([name for name in self._specs if name not in known])
            self._read()
        elif what == "override":
            self._override()
        elif what == "end" and running:
            self.mischief.end(self.luck.choice(running), self.luck)
        elif what == "sickness" and running:
            self.mischief.sicken(self.luck.choice(running), self.luck)
        if self.seed >= SERVING and self._specs and happens(self._serving, 15):
            self._serve([self._serving.choice(sorted(self._specs))])
            self._read()
        if self.seed >= SERVING and happens(self._serving, 5):
            self.engine.clock_offset = (self.engine.clock_offset or 0.0) + self._serving.choice((-70.0, 3.0, 200.0))
        if self.seed >= STEERED and self._specs and happens(self.operator, 20):
            self._steer()
        if self.seed >= MORTAL and happens(self._killer, 10):
            self._succeed()
        self.advance(self.luck.choice((0.0, 0.0, 0.05, 0.3, 1.0, 1.0, 3.0, 8.0, 40.0)))

    def behave(self) -> None:
        """No more faults: everything comes to rest, and stays so."""
        self.say("the world behaves")
        self.mischief.cease()
        if self._servants is not None:
            self._servants.cease()
            self._specs = {name: calmed(spec) for name, spec in self._specs.items()}
            self._read()
            self.advance(2 * health.GRACE)  # what was asked before, and will never be answered, is over then
        self._rest(self._at_rest)

    def want_anew(self) -> None:
        """No reason to give up is left: everything that is wanted runs, whatever its past."""
        self.say("everything is wanted anew")
        self._specs = {name: _mended(self.luck, spec) for name, spec in self._specs.items()}
        if self._servants is not None:
            self._specs = {name: at_peace(spec, list(self._specs)) for name, spec in self._specs.items()}
        self.engine.override((), self.clock.now)
        self._read()
        self._rest(lambda: self.status().converged)
        alive = sorted((p.set_name, str(p.spec.key), p.spec.digest) for p in self.driver.processes.values())
        sets = self.engine.desired.values()
        wanted = sorted((one.name, str(spec.key), spec.digest) for one in sets for spec in one.workers.values())
        require(alive == wanted, "wanted are", wanted, "and alive", alive)
        require(all(row.phase == Phase.RUNNING and row.ready for row in self.status().workers), self.status())

    def stop(self) -> None:
        """The engine stops, half of the time in haste, and soon nothing is left, though all workers ignore TERM."""
        self.mischief.stubborn = True
        haste = happens(self.luck, 50)
        self.say("the engine stops in haste" if haste else "the engine stops")
        for _ in range(1 + haste):
            self.engine.stop(self.clock.now)
            if happens(self.luck, 50):
                self.turn()
        stops = [known.wanted.policy.stop for known in self.engine.actual.sets.values()]
        drains = [max(one.drain.delay, one.drain.timeout) for one in stops if one.drain is not None]
        longest = max((one.timeout for one in stops), default=0.0)
        # One after the other, at the worst, where they depend on each other.
        self.advance(0.0 if haste else longest if self._servants is None else sum(drains) + longest * len(stops))
        require(self.engine.stopped, "left after a stop:", self.status().workers)
        require(not self.driver.processes, "alive after a stop:", self.driver.processes)
        require(not self.engine.actual.sets, "known after a stop:", self.engine.actual.sets)
        self._stream.finish()

    def turn(self, *, read: bool = False) -> None:
        """One turn, and judgement."""
        now = self.clock.now
        super().turn(read=read)
        self._spun = (now, self._spun[1] + 1 if self._spun[0] == now else 1)
        require(self._spun[1] <= TURNS_AT_ONCE, "spins")
        require(self.wake_at > now, "wants to be woken at", self.wake_at)
        self._invariants.judge_state(self.wake_at, now)
        if self._servants is not None:
            self._judge.judge_state()
        rebuilt, shown = self._replay.workers, recorded(self.status().workers)
        require(rebuilt == shown, "events tell of", rebuilt, "and status of", shown)

    def publish(self, events: Sequence[Event]) -> None:
        """Judge what is told."""
        super().publish(events)
        for told in events:
            self.say(told)
            self._stream.take(told, self.clock.now)
            self._replay.take(told)

    def say(self, *words: object) -> None:
        """One line of the history."""
        if self._say is not None:
            self._say(f"{self.clock.now:10.3f}  {' '.join(map(str, words))}")

    # ------------------------------------------------------------------------------------------- what happens

    def _start(self, process: Process) -> None:
        self.say("start of", process.uid, "asked for:", process.spec.key, process.spec.payload)
        self._stream.asked(process)
        self._invariants.judge_start(process, self.clock.now)
        self.mischief.start(process)

    def _signal(self, process: Process, signal: str) -> None:
        self.say(process.uid, "gets", signal)
        self.mischief.signal(process, signal)

    def _wire(self, observation: Observation) -> Iterable[Observation]:
        arriving = tuple(self.mischief.wire(observation))
        self.say(observation, "arrives" if arriving else "is late or lost")
        return arriving

    def _probe(self, process: Process, kind: ProbeKind) -> None:
        self.say(process.uid, "is asked for", kind)
        self._judge.asked(process, kind, self.clock.now)
        if self._servants is not None:
            self._servants.answer(process, kind)

    def _policy_of(self, name: str) -> Policy | None:
        known = self.engine.actual.sets.get(name)
        return None if known is None else known.wanted.policy

    def _serve(self, names: Iterable[str]) -> None:
        """Let sets be wanted with readiness, probes, needs and times."""
        if self.seed >= SERVING:
            for name in sorted(names):
                others = [other for other in sorted(self._specs) if other < name]
                self._specs = {**self._specs, name: serve(self._serving, self._specs[name], others)}

    def _read(self) -> None:
        self.source.want(*map(self._form, self._specs.values()))
        self._services |= {name for name, spec in self._specs.items() if spec.kind == "service"}
        for spec in self._specs.values():
            self.say("wanted:", spec)
        self.turn(read=True)

    def _override(self) -> None:
        self._serial += 1
        kept = [override for override in self.engine.overrides if happens(self.luck, 50)]
        if happens(self.luck, 80) and self._specs:
            kept.append(self._draw_override(self.luck.choice(sorted(self._specs))))
        self.say("overrides:", kept)
        self.engine.override(kept, self.clock.now)

    def _draw_override(self, name: str) -> Override:
        key = self.luck.choice([None, *self.engine.desired[name].workers]) if name in self.engine.desired else None
        return self.luck.choice(
            (Scale(name, self.luck.randint(0, 4)), StayDown(name, key), RestartAsked(name, self._serial, key))
        )

    def _steer(self) -> None:
        """An operator pauses a rollout, has everything of a set replaced at once, or has failures forgotten."""
        name = self.operator.choice(sorted(self._specs))
        if happens(self.operator, 65):
            self._serial += 1
            asked = Paused(name) if happens(self.operator, 50) else RestartAsked(name, self._serial, at_once=True)
            self.say("asked:", asked)
            self.engine.override(added(self.engine.overrides, asked), self.clock.now)
        elif name in self.engine.actual.sets:
            self.say("reset:", name)
            self.engine.reset(name, list(self.engine.actual.sets[name].by_key), self.clock.now)

    def _succeed(self) -> None:
        """The controller is killed with all that it runs, and another takes over. No job that is done runs again."""
        self.say("another controller takes over")
        old, done = self.engine, self._done()
        self.driver.processes.clear()
        self.driver.wire = lambda _observation: ()
        self._lives += 1
        self.driver, self.source = FakeDriver(), MemorySource()
        self.engine = Engine(self.source, self.driver, self.publish, f"{self._lives}-")
        self._cast()
        self.engine.clock_offset = old.clock_offset
        self.engine.recall(old.memory)
        left = [override for override in old.overrides if not isinstance(override, RestartAsked)]
        self.engine.override(left, self.clock.now)
        self._read()
        require(done <= self._done(), "done again:", done - self._done())

    def _done(self) -> set[tuple[str, str]]:
        """The workers that have done their work, in the version that is wanted, of sets that were always jobs."""
        return {
            (name, str(key))
            for name, known in self.engine.actual.sets.items()
            if known.wanted.policy.job and not known.wanted.runs and name not in self._services
            for key, workers in known.by_key.items()
            if (spec := known.wanted.workers.get(key)) is not None
            and workers[-1].phase is Phase.SUCCEEDED
            and is_same_version(workers[-1].spec.digest, spec.digest)
        }

    # ------------------------------------------------------------------------------------------- rest

    def _rest(self, reached: Callable[[], bool]) -> None:
        """It is reached in good time, and then nothing more is asked of the driver, and nobody is woken in vain."""
        end = self.clock.now + PATIENCE
        self.advance(0.0)
        while not (reached() and self._is_known()):
            require(self.clock.now < end, "no rest:", self.status())
            self.advance(10.0)
        asked = self.mischief.asked
        self.advance(QUIET)
        require(self.mischief.asked == asked and reached(), "no lasting rest:", self.status())
        require(self.engine.settled, "is not settled:", self.status())
        calm = all(
            worker.health.watchdog_at is None and worker.probes == Probes()
            for worker in self.engine.actual.workers.values()
        )
        if self.status().converged and calm:
            require(self.engine.actual.wake_at() is None, "wakes at", self.engine.actual.wake_at(), "for nothing")

    def _is_known(self) -> bool:
        """Whether the engine believes of exactly those to be alive that are."""
        return {row.uid for row in self.status().workers if row.pid is not None} == set(self.driver.processes)

    def _at_rest(self) -> bool:
        """Each wanted worker serves or has ended for good, and a rollout is done unless it was stopped."""
        rows = self.status().workers
        ended = (Phase.SUCCEEDED, Phase.FAILED, Phase.STOPPED)
        waiting = {name for name, known in self.engine.actual.sets.items() if _waits(self.engine, known)}
        resting = all(row.ready or row.phase in ended or (row.name in waiting and not row.pid) for row in rows)
        return resting and all(map(self._is_done, self.engine.desired.values()))

    def _is_done(self, wanted: WorkerSet) -> bool:
        known = self.engine.actual.sets[wanted.name]
        if _waits(self.engine, known):
            return True
        given_up = known.tally.failed or wanted.policy.rollout.strategy == "on_delete" or wanted.paused
        given_up = given_up or known.progress.stalled
        return len(known.by_key) == len(wanted.workers) and bool(known.tally.converged or given_up)


def _waits(engine: Engine, known: ActualSet) -> bool:
    return next(dependencies.unmet(engine.actual.sets, known), None) is not None


def _as_callable_gives(spec: SetSpec) -> WorkerSet:
    """The set as an `update` callable would describe it: keys and digests of the user's own, and no template."""
    keys = [(spec.name, index) for index in range(0 if spec.suspend else spec.replicas)]
    return WorkerSet(spec.name, {key: WorkerSpec(key, spec.command, spec.process) for key in keys}, spec.policy)


def _mended(luck: Random, spec: SetSpec) -> SetSpec:
    """The spec with nothing that keeps a worker from running, half of the time with another command."""
    command = luck.choice((spec.command, ("mended",)))
    restart = attrs.evolve(spec.restart, policy="always", start_limit=None)
    rollout = attrs.evolve(spec.rollout, strategy="rolling", progress_deadline=PATIENCE)
    return attrs.evolve(
        spec, command=command, replicas=max(1, spec.replicas), suspend=False, restart=restart, rollout=rollout
    )
