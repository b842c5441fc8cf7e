"""The table of child processes, and all that drivers of local processes have in common: both are made from it.

Rule: each worker is known by its pidfd. One epoll holds them all, so that nothing is polled at intervals and a thousand
deaths cost one wake-up; each is reaped by name (`waitid(P_PIDFD)`), never by `waitpid(-1)`, so that nobody else's
child is taken. An incarnation has ended when its process *and* what is left of the group it led are gone: a relaunch is
held until then, so that it finds its port free, even if something in the group cannot be killed (a hung disk).

What is left of a group is killed at once, through pidfds, unless the worker was asked to stop: then it was asked too,
and it has the time that the worker had. `Exited.leftovers` counts what had to be killed after its leader had ended.

A process that we may not signal (set-uid) is left alone, and stays in `live`: it shows as stopping, and has no twin.
"""

import contextlib
import errno
import os
import resource
import select
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from signal import SIGCONT, SIGKILL
from typing import Any

import attrs

from reconciler.core.observation import Exited, Lost, Observation, Ready, Spawned, SpawnFailed
from reconciler.drivers import groups
from reconciler.drivers.notices import Notices

_BATCH = 256  # deaths dealt with in one poll; the descriptor stays readable if there are more
_LONGEST_MESSAGE = 500
_PR_GET_CHILD_SUBREAPER = 37
_SPARE = 16  # descriptors that workers leave to the rest of the process: its files, its imports, its clients


@attrs.define(eq=False)
class Child:
    """One incarnation. `handle` is what the user's callable gave, where there is one.

    Once the process has ended, `code` is how: an exit code, a negative signal number, or None where nobody knows.
    """

    uid: str
    pid: int
    pidfd: int
    handle: Any = None
    stopping: bool = False  # asked to stop, and not killed since: what is left of the group is given time
    felled: bool = False  # killed with its whole group: nothing in it outlived the leader
    ended: bool = False
    code: int | None = None
    leftovers: set[int] = attrs.Factory(set)  # pidfds of what is left of the group
    killed: int = 0  # how many of them had to be killed


class ProcessTable:
    """The part of a driver that follows, signals and reaps processes. Needs Linux 5.4 or newer."""

    def __init__(self, *, reap_strangers: bool = False) -> None:
        if not hasattr(os, "pidfd_open"):
            raise NotImplementedError("local workers need Linux 5.4 or newer, and a Python that knows its pidfds")
        self._reap_strangers = reap_strangers
        self._most_descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._epoll = select.epoll()
        self._answers: list[Observation] = []
        self._children: dict[str, Child] = {}
        self._by_pid: dict[int, Child] = {}  # those whose number is still theirs
        self._by_pidfd: dict[int, Child] = {}  # those, and leftovers
        self._crowded: list[Child] = []  # ended ones whose group has members left, to be looked up
        self._notices: Notices | None = None
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
            self._kill_leftovers(child)

    def signal(self, uid: str, signal: str) -> None:
        """See `Driver`. Raises ValueError for a signal that does not exist."""
        number, child = groups.signal_number(signal), self._children.get(uid)
        if child is not None and not child.ended:
            groups.signal_process(child.pidfd, number)

    def poll(self) -> Sequence[Observation]:
        """See `Driver`. First the answers to requests, then the ends, a bounded number at a time."""
        self._gather()
        answers, self._answers = self._answers, []
        return answers

    def live(self) -> Collection[str]:
        """See `Driver`: a view, which follows the table."""
        return self._children.keys()

    def fileno(self) -> int | None:
        """Readable when a process ended. Answers to requests make no noise: call `poll` after requests."""
        return self._epoll.fileno()

    def close(self) -> None:
        """See `Driver`. In a forked child it does the parent no harm, as it unregisters nothing."""
        _tables.discard(self)
        for pidfd in self._by_pidfd:
            os.close(pidfd)
        if self._notices is not None:
            self._notices.close()
            self._notices = None
        self._epoll.close()
        for table in (self._children, self._by_pid, self._by_pidfd):
            table.clear()
        self._crowded.clear()

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
            child = self._by_pid.get(pid)
            if child is None:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
                strangers += 1
            else:
                self._leader_ended(child)
        return strangers

    # For the drivers made from it

    def _check_room(self) -> None:
        """Raise OSError (EMFILE) where one more worker would leave this process too few descriptors to go on."""
        lowest = os.dup(self._epoll.fileno())
        os.close(lowest)
        if lowest >= self._most_descriptors - _SPARE:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def _notify_address(self) -> str:
        """What NOTIFY_SOCKET is for workers; what they say there is listened to from now on. Raises OSError."""
        if self._notices is None:
            self._notices = Notices()
            self._epoll.register(self._notices, select.EPOLLIN)
        return self._notices.address

    def _track(self, uid: str, pid: int, handle: Any = None) -> None:
        """Follow a child of ours that nobody has reaped. If that fails it is killed: no pid is lost."""
        try:
            child = Child(uid, pid, os.pidfd_open(pid), handle)
            self._follow(child, child.pidfd)
        except OSError as error:
            destroy(pid)
            self._fail(uid, "descriptors", error)
            return
        self._children[uid] = self._by_pid[pid] = child
        self._answers.append(Spawned(uid, pid))

    def _fail(self, uid: str, stage: str, problem: BaseException | str, remedy: str = "") -> None:
        """Answer that the start failed, why, and what to do about it."""
        number = problem.errno if isinstance(problem, OSError) else None
        message = problem if isinstance(problem, str) else describe(problem)
        if remedy:
            message = f"{message}; {remedy}"
        self._answers.append(SpawnFailed(uid, stage, number, message[:_LONGEST_MESSAGE]))

    def _status(self, child: Child, code: int | None) -> int | None:  # noqa: ARG002
        """A chance to complete the status of a child that was reaped; None means that somebody else took it."""
        return code

    def _before_fork(self) -> None:
        """Called when this process is about to fork, by whatever code, but not when it starts another program."""

    def _after_fork_in_parent(self) -> None:
        """Called when it has forked."""

    def _after_fork_in_child(self) -> None:
        """Let go of what the child inherited of ours."""
        self.close()

    # How an incarnation ends

    def _gather(self) -> None:
        for pidfd, _ in self._epoll.poll(0, _BATCH):
            child = self._by_pidfd.get(pidfd)
            if child is None:
                self._hear()
            elif pidfd == child.pidfd:
                self._leader_ended(child)
            else:
                self._leftover_ended(child, pidfd)
        if self._crowded:
            self._look_for_leftovers()

    def _hear(self) -> None:
        for pid, lines in () if self._notices is None else self._notices.take():
            child = self._by_pid.get(pid)
            if child is not None and "READY=1" in lines:
                self._answers.append(Ready(child.uid))

    def _leader_ended(self, child: Child) -> None:
        led = groups.leads(child.pidfd, child.pid)  # while it is unreaped
        try:
            info = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            child.code = self._status(child, None)
        else:
            if info is None:
                return
            child.code = self._status(child, info.si_status if info.si_code == os.CLD_EXITED else -info.si_status)
        child.ended = True
        self._epoll.unregister(child.pidfd)
        del self._by_pid[child.pid]
        if led:
            self._settle(child)
        else:
            self._finish(child)

    def _leftover_ended(self, child: Child, pidfd: int) -> None:
        with contextlib.suppress(ChildProcessError):  # it is our child by now if we are a subreaper
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        self._forget(child, pidfd)
        if not child.leftovers:
            self._settle(child)

    def _settle(self, child: Child) -> None:
        """Report the end, unless others of its group may be alive: then look for them first (again, as they fork)."""
        if groups.remains(child.pidfd, child.pid):
            self._crowded.append(child)
        else:
            self._finish(child)

    def _look_for_leftovers(self) -> None:
        crowded, self._crowded = self._crowded, []
        try:
            found = groups.members({child.pid for child in crowded})
        except OSError:  # no descriptors left: looked up at the next poll
            self._crowded = crowded
            return
        for child in crowded:
            try:
                self._hold(child, found.get(child.pid, ()))
            except OSError:  # no descriptors left: what is missing is found when these are gone, or at the next poll
                if not child.leftovers:
                    self._crowded.append(child)
                    continue
            if not child.leftovers:
                groups.kill_remains(child.pidfd)  # what forks faster than we look
                self._finish(child)
            elif not child.stopping:
                self._kill_leftovers(child)

    def _hold(self, child: Child, pids: Iterable[int]) -> None:
        """Follow what is left of the child's group. Raises OSError for want of descriptors."""
        for pid in pids:
            pidfd = groups.open_member(pid, child.pid)
            if pidfd is not None:
                self._follow(child, pidfd)
                child.leftovers.add(pidfd)
        if child.leftovers and not groups.remains(child.pidfd, child.pid):
            # The group ended before we looked, so that its number was free: these may be strangers.
            for pidfd in tuple(child.leftovers):
                self._forget(child, pidfd)

    def _follow(self, child: Child, pidfd: int) -> None:
        try:
            self._epoll.register(pidfd, select.EPOLLIN)
        except OSError:
            os.close(pidfd)
            raise
        self._by_pidfd[pidfd] = child

    def _kill_leftovers(self, child: Child) -> None:
        for pidfd in child.leftovers:
            groups.signal_process(pidfd, SIGKILL)
        groups.kill_remains(child.pidfd)
        if not child.felled:
            child.killed += len(child.leftovers)

    def _forget(self, child: Child, pidfd: int) -> None:
        child.leftovers.discard(pidfd)
        del self._by_pidfd[pidfd]
        self._epoll.unregister(pidfd)
        os.close(pidfd)

    def _finish(self, child: Child) -> None:
        del self._children[child.uid], self._by_pidfd[child.pidfd]
        os.close(child.pidfd)
        self._answers.append(_ending(child))

    def _signal(self, child: Child, *numbers: int) -> None:
        """Signal the group, or the process if it leads none, or what outlived it."""
        if child.ended:
            for number in numbers:
                for pidfd in child.leftovers:
                    groups.signal_process(pidfd, number)
            return
        led = groups.leads(child.pidfd, child.pid)
        for number in numbers:
            if led:
                groups.signal_group(child.pid, number)
            else:
                groups.signal_process(child.pidfd, number)


def describe(error: BaseException) -> str:
    """An error in one line, such as "TypeError: ...", even if it cannot print itself.

    The traceback module does this too, but cannot be imported for want of descriptors, say.
    """
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  an error of the user's
        text = "(it has no text)"
    return f"{type(error).__name__}: {text}"


def _ending(child: Child) -> Observation:
    if child.code is None:
        return Lost(child.uid)
    if child.code < 0:
        return Exited(child.uid, signal=groups.signal_name(-child.code), leftovers=child.killed)
    return Exited(child.uid, exit_code=child.code, leftovers=child.killed)


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
