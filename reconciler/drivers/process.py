"""The table of child processes, and all that drivers of local processes have in common: both are made from it.

Rule: what can be told of a worker is in one epoll: its end (see `lives`), what it says of itself (`notices`, `pipes`),
and what it was asked (`prober`). What only some workers need is made when the first of them needs it, so that an idle
table of plain workers costs nothing.
"""

import errno
import os
import select
import weakref
from collections.abc import Callable, Collection, Sequence
from signal import SIGCONT, SIGKILL
from typing import TYPE_CHECKING, Any

import attrs

from reconciler.core.names import names_of
from reconciler.core.observation import Drained, Lost, Observation, Probed, Ready, Spawned, SpawnFailed
from reconciler.core.serving import Probe, ProbeKind
from reconciler.core.spec import Drain, WorkerSpec
from reconciler.drivers import groups
from reconciler.drivers.lives import Child, Lives
from reconciler.drivers.notices import Notices, main_pid, observations
from reconciler.drivers.nursery import PRIVATE
from reconciler.drivers.pipes import ReadyPipes
from reconciler.drivers.room import Room
from reconciler.drivers.surroundings import Surroundings

if TYPE_CHECKING:
    from reconciler.drivers.prober import Prober
    from reconciler.drivers.spawning import Spawner

_LONGEST_MESSAGE = 500
_PR_GET_CHILD_SUBREAPER = 37


class ProcessTable(Lives):
    """The part of a driver that follows, signals and reaps processes. Needs Linux 5.4 or newer."""

    def __init__(self, *, reap_strangers: bool = False) -> None:
        if not hasattr(os, "pidfd_open"):
            raise NotImplementedError("local workers need Linux 5.4 or newer, and a Python that knows its pidfds")
        super().__init__()
        self._reap_strangers = reap_strangers
        self._room = Room()
        self._notices: Notices | None = None
        self._pipes: ReadyPipes | None = None
        self._prober: Prober | None = None
        _tables.add(self)

    # The driver's part for processes that run

    def stop(self, uid: str, signal: str) -> None:
        """See `Driver`. A worker that leads no group of its own is signalled alone.

        Raises ValueError for a signal that does not exist, since specs are checked before.
        """
        number = groups.signal_number(signal)
        child = self._children.get(uid)
        if child is None:
            self._answers.append(Lost(uid))
            return
        if not child.ended:
            child.stopping = True
        # CONT, since a process that was stopped (^Z, STOP) would sleep through anything else.
        self._signal(child, number, SIGCONT)

    def kill(self, uid: str) -> None:
        """See `Driver`."""
        child = self._children.get(uid)
        if child is None:
            self._answers.append(Lost(uid))
            return
        spared, child.stopping = child.stopping, False
        if not child.ended:
            child.felled = True
            self._signal(child, SIGKILL)
        elif spared:
            self._kill_rest(child)

    def signal(self, uid: str, signal: str) -> None:
        """See `Driver`. Raises ValueError for a signal that does not exist."""
        number, child = groups.signal_number(signal), self._children.get(uid)
        if child is not None and not child.ended:
            groups.signal_process(child.leading().pidfd, number)

    def probe(self, uid: str, set_name: str, spec: WorkerSpec, kind: ProbeKind, probe: Probe) -> None:
        """See `Driver`. For an incarnation that is unknown the answer is `Lost`."""
        if uid not in self._children:
            self._answers.append(Lost(uid))
            return
        try:
            self._prober_made().ask(uid, kind, probe, self._surroundings(uid, set_name, spec))
        except Exception as error:  # noqa: BLE001  one bad probe must not stop the others
            self._answers.append(Probed(uid, kind, success=False, message=_why(error)))

    def drain(self, uid: str, set_name: str, spec: WorkerSpec, drain: Drain) -> None:
        """See `Driver`. For an incarnation that is unknown the answer is `Lost`."""
        child = self._children.get(uid)
        if child is None:
            self._answers.append(Lost(uid))
            return
        try:
            around = self._surroundings(uid, set_name, spec)
            environment = {**around.environment, b"PID": b"%d" % child.leading().pid}
            self._prober_made().drain(uid, drain, attrs.evolve(around, environment=environment))
        except Exception as error:  # noqa: BLE001  likewise
            self._answers.append(Drained(uid, _why(error)))

    def wake_at(self) -> float | None:
        """See `Driver`."""
        return None if self._prober is None else self._prober.wake_at()

    def poll(self) -> Sequence[Observation]:
        """See `Driver`. First the answers to requests, then what happened, a bounded number of things at a time."""
        self._gather()
        answers, self._answers = self._answers, []
        if self._prober is not None:
            answers.extend(self._prober.poll())
        return answers

    def live(self) -> Collection[str]:
        """See `Driver`: a view, which follows the table."""
        return self._children.keys()

    def fileno(self) -> int | None:
        """Readable when something happened. Answers to requests make no noise: call `poll` after requests."""
        return self._epoll.fileno()

    def close(self) -> None:
        """See `Driver`. In a forked child it does the parent no harm, as it unregisters nothing."""
        _tables.discard(self)
        for part in (self._notices, self._pipes, self._prober):
            if part is not None:
                part.close()
        self._notices = self._pipes = self._prober = None
        super().close()

    @property
    def reaps_strangers(self) -> bool:
        """Whether it was asked to, and strangers do come to this process: as PID 1, or as a subreaper."""
        return self._reap_strangers and (os.getpid() == 1 or _is_subreaper())

    def reap_strangers(self) -> int:
        """Reap the children that we did not start but inherited, as PID 1 or as a subreaper; return how many.

        To be called at SIGCHLD and once at start, and followed by `poll`, as it may meet our own first. Without
        `reap_strangers=True` it does nothing, since in a library's process other children have other parents' code.
        """
        strangers = 0
        while self._reap_strangers and (pid := _first_dead()) is not None:
            if self._met(pid):
                continue
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
            strangers += 1
        return strangers

    def _met(self, pid: int) -> bool:
        """Reap a dead child of this process if it is one of ours; whether it is."""
        child = self._by_pid.get(pid)
        if child is not None:
            self._first_ended(child)
            return True
        child = self._by_name.get(pid)
        if child is not None and child.main is not None and child.main.pid == pid:
            self._main_ended(child, child.main)
            return True
        return self._prober is not None and self._prober.reap(pid)

    # For the drivers made from it

    def _check_room(self) -> None:
        """Raise OSError (EMFILE) where one more worker would leave this process too few descriptors to go on."""
        if not self._room.is_left(self._epoll.fileno()):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def _notify_address(self) -> str:
        """What NOTIFY_SOCKET is for workers; what they say there is listened to from now on. Raises OSError."""
        if self._notices is None:
            self._notices = Notices()
            self._epoll.register(self._notices, select.EPOLLIN)
        return self._notices.address

    def _ready_pipe(self, uid: str) -> int:
        """The end of a new pipe in which this incarnation, which is about to be started, tells by a newline that it can
        serve: to be closed once the worker has it. The other end is closed by `_fail`, or when all was told. Raises
        OSError.
        """
        if self._pipes is None:
            self._pipes = ReadyPipes(self._epoll)
        return self._pipes.open(uid)

    def _surroundings(self, uid: str, set_name: str, spec: WorkerSpec) -> Surroundings:
        """What a probe of this worker, or a command beside it, is given. May raise anything."""
        names = names_of(set_name, spec.key)
        environment = {name: value for name, value in os.environb.items() if os.fsdecode(name) not in PRIVATE}
        for name, value in (*names.items(), ("uid", uid)):
            environment[os.fsencode(f"RECONCILER_{name.upper()}")] = os.fsencode(value)
        return Surroundings(names, ".", environment)

    def _probe_spawner(self) -> "Spawner | None":
        """What starts the commands of probes; None where nothing is known of how workers are started."""
        return None

    def _prober_made(self) -> "Prober":
        if self._prober is None:
            from reconciler.drivers.prober import Prober  # noqa: PLC0415  most workers are asked nothing

            prober = Prober(self._probe_spawner())
            self._epoll.register(prober.fileno(), select.EPOLLIN)
            self._prober = prober
        return self._prober

    def _track(self, uid: str, pid: int, handle: Any = None) -> None:
        """Follow a child of ours that nobody has reaped. If that fails it is killed: no pid is lost."""
        try:
            child = Child(uid, pid, os.pidfd_open(pid), handle)
            self._add(child)
        except OSError as error:
            destroy(pid)
            self._fail(uid, "descriptors", error)
            return
        self._answers.append(Spawned(uid, pid))

    def _fail(self, uid: str, stage: str, problem: BaseException | str, remedy: str = "") -> None:
        """Answer that the start failed, why, and what to do about it."""
        if self._pipes is not None:
            self._pipes.drop(uid)
        number = problem.errno if isinstance(problem, OSError) else None
        message = problem if isinstance(problem, str) else describe(problem)
        if remedy:
            message = f"{message}; {remedy}"
        self._answers.append(SpawnFailed(uid, stage, number, message[:_LONGEST_MESSAGE]))

    def _before_fork(self) -> None:
        """Called when this process is about to fork, by whatever code, but not when it starts another program."""

    def _after_fork_in_parent(self) -> None:
        """Called when it has forked."""

    def _after_fork_in_child(self) -> None:
        """Let go of what the child inherited of ours."""
        self.close()

    # What workers tell

    def _hear(self, fd: int) -> None:
        if self._pipes is not None and (uid := self._pipes.read(fd)) is not None:
            self._answers.append(Ready(uid))
        if self._notices is None or fd != self._notices.fileno():
            return
        for pid, fields in self._notices.take():
            child = self._speaker(pid)
            if child is None:
                continue
            main = main_pid(fields)
            if main is not None:
                self._name(child, main)
            self._answers.extend(observations(child.uid, fields))

    def _finish(self, child: Child) -> None:
        if self._pipes is not None and self._pipes.finish(child.uid):
            self._answers.append(Ready(child.uid))
        if self._prober is not None:
            self._prober.forget(child.uid)
        super()._finish(child)


def describe(error: BaseException) -> str:
    """An error in one line, such as "TypeError: ...", even if it cannot print itself.

    The traceback module does this too, but cannot be imported for want of descriptors, say.
    """
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  an error of the user's
        text = "(it has no text)"
    return f"{type(error).__name__}: {text}"


def _why(error: Exception) -> str:
    """Why something could not even be asked."""
    return (str(error) if isinstance(error, ValueError) else describe(error))[:_LONGEST_MESSAGE]


def _first_dead() -> int | None:
    """The pid of a child that waits to be reaped, which it still does afterwards."""
    try:
        info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if info is None else info.si_pid


def destroy(pid: int) -> None:
    """Kill an unreaped child of ours, with the group that it leads, and wait for the death, which is near."""
    if os.getpgid(pid) == pid:
        groups.signal_group(pid, SIGKILL)
    else:
        os.kill(pid, SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED)


def _is_subreaper() -> bool:
    """Whether orphans below this process become its children: what whoever started it may have asked of the kernel."""
    import ctypes  # noqa: PLC0415  the only way to ask

    answer = ctypes.c_int()
    return not ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0) and bool(answer.value)


_tables: "weakref.WeakSet[ProcessTable]" = weakref.WeakSet()


def _each(method: Callable[[ProcessTable], None]) -> None:
    for table in tuple(_tables):
        method(table)


os.register_at_fork(
    before=lambda: _each(lambda table: table._before_fork()),  # noqa: SLF001
    after_in_parent=lambda: _each(lambda table: table._after_fork_in_parent()),  # noqa: SLF001
    after_in_child=lambda: _each(lambda table: table._after_fork_in_child()),  # noqa: SLF001
)
