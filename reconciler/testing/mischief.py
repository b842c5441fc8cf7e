"""What the processes and messages of a simulated world do, at their worst and at their best.

Rule: each incarnation has luck of its own, drawn from the seed and its uid, so that no order of calls matters.
"""

from collections.abc import Callable, Iterable
from random import Random

from reconciler.core.observation import Notice, NotReady, Observation, Ready
from reconciler.testing.clock import ManualClock
from reconciler.testing.drawing import BROKEN, drawn, happens
from reconciler.testing.driver import FakeDriver, Process

_STARTS = {"at once": 40, "soon": 35, "fails": 12, "hangs": 7, "hangs and fails": 6}
_STOPS = {"at once": 50, "slow": 30, "ignored": 20}
_DEATHS = {"at once": 85, "slow": 15}
_MESSAGES = {"in time": 86, "twice": 5, "late": 5, "lost": 4}


class Mischief:
    """The hand of the world on a fake driver.

    `born` is called with each process that came into being. `asked` counts what was asked of it. While it is
    `stubborn`, only KILL ends a process.
    """

    def __init__(self, seed: int, driver: FakeDriver, clock: ManualClock) -> None:
        self.asked = 0
        self.stubborn = False
        self._on = True
        self._seed = seed
        self._driver = driver
        self._clock = clock
        self._lucks: dict[str, Random] = {}
        self._sick: set[str] = set()
        self.born: Callable[[Process], object] = lambda _process: None

    def cease(self) -> None:
        """From now on starts succeed, signals are obeyed, nothing ends by itself, and what is told arrives."""
        self._on = False
        for uid in sorted(self._sick & set(self._driver.processes)):
            self._driver.tell(Ready(uid))

    def end(self, process: Process, luck: Random) -> None:
        """A process ends, well or badly."""
        signal = luck.choice((None, None, "SEGV", "KILL"))
        self._driver.exit(process.uid, luck.choice((0, 0, 1, 3)), signal=signal, leftovers=luck.choice((0, 0, 2)))

    def sicken(self, process: Process, luck: Random) -> None:
        """A process cannot serve, for some time or until the world behaves."""
        self._sick.add(process.uid)
        self._driver.tell(NotReady(process.uid, "ProbeFailed"))
        if happens(luck, 70):
            self._later(process, luck.uniform(0, 10), lambda: self._driver.tell(Ready(process.uid)))

    def _luck(self, uid: str) -> Random:
        if uid not in self._lucks:
            self._lucks[uid] = Random(f"{self._seed}/{uid}")  # noqa: S311  it must be repeatable, not secret
        return self._lucks[uid]

    def _draw(self, luck: Random, ways: dict[str, int]) -> str:
        """One of these ways; the first, best one if the world behaves."""
        return drawn(luck, ways) if self._on else next(iter(ways))

    def _later(self, process: Process, seconds: float, action: Callable[[], object]) -> None:
        """Arrange for something that happens only if the process is still there."""
        self._clock.later(seconds, lambda: action() if process.uid in self._driver.processes else None)

    def start(self, process: Process) -> None:
        """A start is asked for: it succeeds, fails, or hangs."""
        self.asked += 1
        luck = self._luck(process.uid)
        way = self._draw(luck, _STARTS)
        if way == "at once":
            self._spawn(process, luck)
        elif way == "fails":
            self._later(process, luck.choice((0.0, 0.5)), lambda: self._driver.fail(process.uid))
        elif way == "hangs and fails":
            self._later(process, luck.uniform(1, 80), lambda: self._driver.fail(process.uid))
        else:
            seconds = luck.uniform(0, 1) if way == "soon" else luck.uniform(20, 150)
            self._later(process, seconds, lambda: self._spawn(process, luck))

    def _spawn(self, process: Process, luck: Random) -> None:
        self._driver.spawn(process.uid)
        if process.uid in self._driver.processes:
            self.born(process)
        broken = process.spec.payload.command[0] == BROKEN
        if self._on and (broken or happens(luck, 25)):
            seconds = luck.uniform(0.05, 1) if broken else luck.choice((0.0, 0.1, 3.0, 20.0)) * luck.random()
            self._later(process, seconds, lambda: self.end(process, luck) if self._on else None)

    def signal(self, process: Process, signal: str) -> None:
        """A signal arrives: it is obeyed, at once or later, or ignored."""
        self.asked += 1
        luck = self._luck(process.uid)
        way = self._draw(luck, _DEATHS if signal == "KILL" else _STOPS)
        if way == "ignored" or (self.stubborn and signal != "KILL"):
            return
        how = signal if signal == "KILL" or happens(luck, 50) else None
        if way == "at once":
            self._driver.exit(process.uid, signal=how)
        else:
            seconds = luck.uniform(0, 25 if signal == "KILL" else 8)
            self._later(process, seconds, lambda: self._driver.exit(process.uid, signal=how))

    def wire(self, observation: Observation) -> Iterable[Observation]:
        """Something is told: it arrives in time, twice, late, or never."""
        luck = self._luck(observation.uid)
        way = self._draw(luck, _MESSAGES)
        if way in ("twice", "late"):
            self._clock.later(luck.uniform(0, 40), lambda: self._deliver(observation))
        return (observation,) if way in ("in time", "twice") else ()

    def _deliver(self, observation: Observation) -> None:
        """It comes late; a probe would soon tell otherwise if it is no longer true. Who said that it stops has ended by
        the time the world behaves.
        """
        if not self._on and isinstance(observation, Notice):
            return
        self._driver.deliver(observation)
        if not self._on and isinstance(observation, NotReady):
            self._driver.deliver(Ready(observation.uid))
