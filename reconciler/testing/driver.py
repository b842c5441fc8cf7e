"""A driver without processes.

Rule: it stays tiny, or it lies. It keeps the truth (which incarnations live) apart from what the engine is told of it,
and decides nothing: what a worker does is said by the test, either when it wants it or by three functions.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence

import attrs

from reconciler.core.observation import Drained, Exited, Lost, Observation, Probed, Spawned, SpawnFailed
from reconciler.core.serving import Probe, ProbeKind
from reconciler.core.spec import Drain, WorkerSpec


@attrs.define
class Process:
    """A living incarnation. `pid` is None while it is being started; `signals` are those that it was sent."""

    uid: str
    set_name: str
    spec: WorkerSpec
    pid: int | None = None
    signals: list[str] = attrs.field(factory=list)


class FakeDriver:
    """Processes that do what the test says; by itself, each starts at once, lives on, and dies of any signal.

    Its probes succeed at once, and so do its drains. Some attributes may be replaced to change that.
    `on_start(process)` is called when a start is asked for, and calls `spawn` or `fail`, now or later or never.
    `on_signal(process, signal)` is called when a signal arrives at a process, and calls `exit`, now or later or never.
    `on_probe(process, kind)` and `on_drain(process)` are called when these are asked for, and `tell` what came of it.
    `wire(observation)` returns what arrives of an observation: nothing if it is lost, twice the same if it is doubled;
    what is to arrive late is handed to `deliver` later; `on_arrival(observation)` is called with each that arrives.
    """

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        self.on_start: Callable[[Process], object] = lambda process: self.spawn(process.uid)
        self.on_signal: Callable[[Process, str], object] = lambda process, signal: self.exit(process.uid, signal=signal)
        self.on_probe: Callable[[Process, ProbeKind], object] = lambda process, kind: self.tell(
            Probed(process.uid, kind, success=True)
        )
        self.on_drain: Callable[[Process], object] = lambda process: self.tell(Drained(process.uid))
        self.wire: Callable[[Observation], Iterable[Observation]] = lambda observation: (observation,)
        self.on_arrival: Callable[[Observation], object] = lambda _observation: None
        self._arrived: list[Observation] = []
        self._pids = itertools.count(1000)

    def start(self, uid: str, set_name: str, spec: WorkerSpec) -> None:
        """See `Driver`."""
        process = self.processes[uid] = Process(uid, set_name, spec)
        self.on_start(process)

    def stop(self, uid: str, signal: str) -> None:
        """See `Driver`."""
        process = self.processes.get(uid)
        if process is None:
            self.tell(Lost(uid))
            return
        process.signals.append(signal)
        if process.pid is not None:
            self.on_signal(process, signal)

    def kill(self, uid: str) -> None:
        """See `Driver`."""
        self.stop(uid, "KILL")

    def signal(self, uid: str, signal: str) -> None:
        """See `Driver`: it is kept, and does nothing else."""
        if uid in self.processes:
            self.processes[uid].signals.append(signal)

    def probe(self, uid: str, set_name: str, spec: WorkerSpec, kind: ProbeKind, probe: Probe) -> None:  # noqa: ARG002
        """See `Driver`."""
        if uid in self.processes:
            self.on_probe(self.processes[uid], kind)

    def drain(self, uid: str, set_name: str, spec: WorkerSpec, drain: Drain) -> None:  # noqa: ARG002
        """See `Driver`."""
        if uid in self.processes:
            self.on_drain(self.processes[uid])

    def wake_at(self) -> float | None:
        """See `Driver`: the test says when."""
        return None

    def poll(self) -> Sequence[Observation]:
        """See `Driver`."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def live(self) -> Collection[str]:
        """See `Driver`."""
        return frozenset(self.processes)

    def fileno(self) -> int | None:
        """There is none: the test gives the engine its turn."""
        return None

    def close(self) -> None:
        """Nothing is held."""

    def of(self, key: object) -> list[Process]:
        """The living incarnations of a worker, oldest first; `key` as text, such as "web-0", or as it is."""
        return [process for process in self.processes.values() if str(process.spec.key) == str(key)]

    def spawn(self, uid: str) -> None:
        """A start that was asked for succeeds; signals that were sent meanwhile arrive."""
        process = self.processes[uid]
        process.pid = next(self._pids)
        self.tell(Spawned(uid, process.pid))
        for signal in tuple(process.signals):
            if uid in self.processes:
                self.on_signal(process, signal)

    def fail(self, uid: str, stage: str = "exec", errno: int | None = 2, message: str = "not found") -> None:
        """A start that was asked for fails."""
        del self.processes[uid]
        self.tell(SpawnFailed(uid, stage, errno, message))

    def exit(self, uid: str, exit_code: int = 0, *, signal: str | None = None, leftovers: int = 0) -> None:
        """A process ends, with an exit code or by a signal."""
        del self.processes[uid]
        self.tell(Exited(uid, None if signal else exit_code, signal, leftovers))

    def tell(self, observation: Observation) -> None:
        """Let something be observed, such as `Ready` or `NotReady`; the wire decides what arrives of it."""
        for arriving in self.wire(observation):
            self.deliver(arriving)

    def deliver(self, observation: Observation) -> None:
        """Let an observation arrive as it is."""
        self.on_arrival(observation)
        self._arrived.append(observation)
