"""How the incarnations of workers are followed to their end, each by its pidfd.

Rule: one epoll holds them all, so that nothing is polled at intervals and a thousand deaths cost one wake-up; each is
reaped by name (`waitid(P_PIDFD)`), never by `waitpid(-1)`, so that nobody else's child is taken. An incarnation has
ended when its process *and* what is left of the group it led are gone: a relaunch is held until then, so that it finds
its port free, even if something in the group cannot be killed (a hung disk).

What is left of a group is killed at once, through pidfds, unless the worker was asked to stop: then it was asked too,
and it has the time that the worker had. `Exited.leftovers` counts what had to be killed after its leader had ended.

A worker may name another process of its tree as its main one (MAINPID). From then on the incarnation's life is that of
the named one: the first process may end, however it does, and nothing follows; when the named one ends, the first and
the groups of both are what is left. Signals reach both. How a named process ended is only known if it is a child of
this process (as PID 1, or as a subreaper): else the incarnation is `Lost`, since the first process's status says
nothing about it, and its 0 must not pass for a success. Before Linux 6.9 the group of a first process that has ended
is left alone unless the named one is in it, since its number could be a stranger's by then.

A process that we may not signal (set-uid) is left alone, and stays in `live`: it shows as stopping, and has no twin.
"""

import contextlib
import os
import select
from collections.abc import Iterable, Iterator
from signal import SIGKILL
from typing import Any

import attrs

from reconciler.core.observation import Exited, Lost, Observation
from reconciler.drivers import groups, lineage

_BATCH = 256  # events dealt with in one poll; the descriptor stays readable if there are more
_MOST_FORMER = 8  # processes that were named before another was, and that are followed still


@attrs.define(eq=False)
class Named:
    """A process that a worker named as its main one; whether it led a group of its own then."""

    pid: int
    pidfd: int
    led: bool


@attrs.define(eq=False)
class Child:
    """One incarnation. `handle` is what the user's callable gave, where there is one.

    `pid` is its first process, which is `reaped` once it has ended; the incarnation has `ended` when its main process
    has. Then `code` is how: an exit code, a negative signal number, or None where nobody knows.
    """

    uid: str
    pid: int
    pidfd: int
    handle: Any = None
    main: Named | None = None  # where it is another than the first
    stopping: bool = False  # asked to stop, and not killed since: what is left of the group is given time
    felled: bool = False  # killed with its whole group: nothing in it outlived the leader
    reaped: bool = False
    led: bool = False  # the first process led a group when it ended, whose number is no stranger's
    ended: bool = False
    code: int | None = None
    leftovers: set[int] = attrs.Factory(set)  # pidfds of what is left of the group
    killed: int = 0  # how many of them had to be killed

    def leading(self) -> Named:
        """The process whose life is the incarnation's."""
        return self.main or Named(self.pid, self.pidfd, self.led)

    def groups_left(self) -> Iterator[tuple[int, int]]:
        """The groups that its processes led, by pidfd and number."""
        if self.led:
            yield self.pidfd, self.pid
        if self.main is not None and self.main.led:
            yield self.main.pidfd, self.main.pid

    def owns(self, number: int) -> bool:
        """Whether a number of a process, group or session, which was this incarnation's, is so still."""
        if number == self.pid and not self.reaped:
            return True
        # The main process keeps the number of the group and session that it is in from being given to others.
        return self.main is not None and number in lineage.numbers_of(self.main.pid)


class Lives:
    """The incarnations that live, and what is left of those that do not. Observations gather in `_answers`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._answers: list[Observation] = []
        self._children: dict[str, Child] = {}
        self._by_pid: dict[int, Child] = {}  # by first processes, whose number is theirs until they are reaped
        self._by_name: dict[int, Child] = {}  # by main processes, and by first ones that ended before; see `owns`
        self._by_pidfd: dict[int, Child] = {}  # by both, and by leftovers
        self._crowded: list[Child] = []  # ended ones whose group has members left, to be looked up

    def close(self) -> None:
        """Free all descriptors. In a forked child it does the parent no harm, as it unregisters nothing."""
        for pidfd in self._by_pidfd:
            os.close(pidfd)
        self._epoll.close()
        for table in (self._children, self._by_pid, self._by_name, self._by_pidfd):
            table.clear()
        self._crowded.clear()

    def _status(self, child: Child, code: int | None) -> int | None:  # noqa: ARG002
        """A chance to complete the status of a child that was reaped; None means that somebody else took it."""
        return code

    def _gather(self) -> None:
        """Take note of what happened, a bounded number of things at a time: first what workers had to say."""
        ready = [fd for fd, _ in self._epoll.poll(0, _BATCH)]
        ended = [fd for fd in ready if fd in self._by_pidfd]
        if len(ended) < len(ready):
            for fd in ready:
                if fd not in self._by_pidfd:
                    self._hear(fd)
        for pidfd in ended:
            child = self._by_pidfd.get(pidfd)
            if child is None:  # it ended with another of this batch
                continue
            if pidfd == child.pidfd:
                self._first_ended(child)
            elif child.main is not None and pidfd == child.main.pidfd:
                self._main_ended(child, child.main)
            else:
                self._leftover_ended(child, pidfd)
        if self._crowded:
            self._look_for_leftovers()

    def _hear(self, fd: int) -> None:
        """Something that is no process has to say something."""

    def _add(self, child: Child) -> None:
        """Follow a new one. Raises OSError for want of descriptors."""
        self._follow(child, child.pidfd)
        self._children[child.uid] = self._by_pid[child.pid] = child

    def _speaker(self, pid: int) -> Child | None:
        """The incarnation that a process speaks for: it is of the same tree, by its group or session now."""
        for number in lineage.numbers_of(pid) if pid not in self._by_pid else (pid,):
            child = self._by_pid.get(number) or self._by_name.get(number)
            if child is not None and child.owns(number):
                return child
        return None

    # Which process is the main one

    def _name(self, child: Child, pid: int) -> None:
        """Take a process for the main one of its incarnation; nothing happens if it is not in the same tree."""
        if child.ended or pid == child.leading().pid or len(child.leftovers) >= _MOST_FORMER:
            return
        if pid == child.pid:
            if not child.reaped:
                self._let_go(child)
            return
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:  # there is none, or it is a thread, or no descriptors are left
            return
        # Alive after it was looked at, it was meant by the number then too.
        if not _is_kin(child, pid) or groups.is_dead(pidfd):
            os.close(pidfd)
            return
        with contextlib.suppress(OSError):  # no descriptors left
            self._follow(child, pidfd)
            self._let_go(child)
            child.main = Named(pid, pidfd, groups.group_of(pid) == pid)
            child.led = child.led and self._keeps_group(child, child.main)
            self._by_name[pid] = child

    def _let_go(self, child: Child) -> None:
        """The first process is the main one again. What was so before is followed to the incarnation's end, unless it
        is in its group and will be found there.
        """
        main, child.main = child.main, None
        if main is None:
            return
        self._unname(child, main.pid)
        if groups.group_of(main.pid) == child.pid:
            self._forget(child, main.pidfd)
        else:
            child.leftovers.add(main.pidfd)

    def _unname(self, child: Child, number: int) -> None:
        if self._by_name.get(number) is child:
            del self._by_name[number]

    @staticmethod
    def _keeps_group(child: Child, main: Named) -> bool:
        """Whether the group that the first process led can be told from another with its number after its end: by the
        kernel, or since the main process is in it.
        """
        return groups.signal_remains(child.pidfd, 0) or groups.group_of(main.pid) == child.pid

    # How an incarnation ends

    def _first_ended(self, child: Child) -> None:
        led = groups.leads(child.pidfd, child.pid)  # while it is unreaped
        try:
            info = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            code = self._status(child, None)
        else:
            if info is None:
                return
            code = self._status(child, _code_of(info))
        child.reaped = True
        self._epoll.unregister(child.pidfd)
        del self._by_pid[child.pid]
        if child.main is not None and not child.ended:
            child.led = led and self._keeps_group(child, child.main)
            if child.owns(child.pid):
                self._by_name[child.pid] = child
            return
        child.led = led
        if child.main is None:
            child.code, child.ended = code, True
        self._settle(child)

    def _main_ended(self, child: Child, main: Named) -> None:
        if not groups.is_dead(main.pidfd):  # the descriptor's number was another's when this was told
            return
        with contextlib.suppress(ChildProcessError):
            info = os.waitid(os.P_PIDFD, main.pidfd, os.WEXITED | os.WNOHANG)
            child.code = None if info is None else _code_of(info)
        child.ended = True
        self._epoll.unregister(main.pidfd)
        self._unname(child, main.pid)
        self._unname(child, child.pid)
        if not child.reaped and not child.stopping:
            self._kill_first(child)
        self._settle(child)

    def _leftover_ended(self, child: Child, pidfd: int) -> None:
        with contextlib.suppress(ChildProcessError):  # it is our child by now if we are a subreaper
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        self._forget(child, pidfd)
        if child.ended and not child.leftovers and child not in self._crowded:
            self._settle(child)

    def _settle(self, child: Child) -> None:
        """Report the end, unless others of it may be alive: then look for them first (again, as they fork)."""
        if not child.reaped:
            return
        if child.leftovers or any(groups.remains(pidfd, pgid) for pidfd, pgid in child.groups_left()):
            self._crowded.append(child)
        else:
            self._finish(child)

    def _look_for_leftovers(self) -> None:
        crowded, self._crowded = self._crowded, []
        try:
            found = groups.members({pgid for child in crowded for _, pgid in child.groups_left()})
        except OSError:  # no descriptors left: looked up at the next poll
            self._crowded = crowded
            return
        for child in crowded:
            try:
                for pidfd, pgid in child.groups_left():
                    self._hold(child, pidfd, pgid, found.get(pgid, ()))
            except OSError:  # no descriptors left: what is missing is found when these are gone, or at the next poll
                if not child.leftovers:
                    self._crowded.append(child)
                    continue
            if not child.leftovers:
                for pidfd, _ in child.groups_left():
                    groups.kill_remains(pidfd)  # what forks faster than we look
                self._finish(child)
            elif not child.stopping:
                self._kill_leftovers(child)

    def _hold(self, child: Child, leader: int, pgid: int, pids: Iterable[int]) -> None:
        """Follow what is left of a group, whose leader's pidfd is given. Raises OSError for want of descriptors."""
        held = []
        for pid in pids:
            pidfd = groups.open_member(pid, pgid)
            if pidfd is not None:
                self._follow(child, pidfd)
                child.leftovers.add(pidfd)
                held.append(pidfd)
        if held and not groups.remains(leader, pgid):
            # The group ended before we looked, so that its number was free: these may be strangers.
            for pidfd in held:
                self._forget(child, pidfd)

    def _follow(self, child: Child, pidfd: int) -> None:
        try:
            self._epoll.register(pidfd, select.EPOLLIN)
        except OSError:
            os.close(pidfd)
            raise
        self._by_pidfd[pidfd] = child

    def _forget(self, child: Child, pidfd: int) -> None:
        child.leftovers.discard(pidfd)
        del self._by_pidfd[pidfd]
        self._epoll.unregister(pidfd)
        os.close(pidfd)

    def _finish(self, child: Child) -> None:
        del self._children[child.uid]
        for pidfd in (child.pidfd, *(() if child.main is None else (child.main.pidfd,))):
            del self._by_pidfd[pidfd]
            os.close(pidfd)
        self._answers.append(_ending(child))

    # Signals

    def _kill_rest(self, child: Child) -> None:
        """Kill what an incarnation that has ended left behind."""
        if child.reaped:
            self._kill_leftovers(child)
        else:
            self._kill_first(child)

    def _kill_first(self, child: Child) -> None:
        """Kill the first process, which outlived the main one; its group is looked at when it is gone."""
        groups.signal_process(child.pidfd, SIGKILL)
        child.killed += not child.felled

    def _kill_leftovers(self, child: Child) -> None:
        for pidfd in child.leftovers:
            groups.signal_process(pidfd, SIGKILL)
        for pidfd, _ in child.groups_left():
            groups.kill_remains(pidfd)
        if not child.felled:
            child.killed += len(child.leftovers)

    def _signal(self, child: Child, *numbers: int) -> None:
        """Signal the groups of its processes, or a process alone that leads none, or what outlived them."""
        led = not child.reaped and groups.leads(child.pidfd, child.pid)
        main = None if child.ended else child.main
        for number in numbers:
            if led:
                groups.signal_group(child.pid, number)
            elif not child.reaped:
                groups.signal_process(child.pidfd, number)
            if main is not None:
                _signal_main(child, main, led, number)
            for pidfd in child.leftovers if child.ended else ():
                groups.signal_process(pidfd, number)


def _signal_main(child: Child, main: Named, led: bool, number: int) -> None:  # noqa: FBT001
    """Signal the main process with its group, unless it was reached with the first one's: `led`, which was signalled.

    Where the first one has ended it is signalled for it.
    """
    pgid = groups.group_of(main.pid)
    if child.led and not groups.signal_remains(child.pidfd, number) and pgid == child.pid:
        groups.signal_group(pgid, number)  # while the main process, being alive, keeps the number
    if pgid == child.pid and (led or child.led):
        return
    if pgid == main.pid and not groups.is_dead(main.pidfd):
        groups.signal_group(main.pid, number)
    else:
        groups.signal_process(main.pidfd, number)


def _is_kin(child: Child, pid: int) -> bool:
    """Whether a process is in the incarnation's tree: of its group or session, or a descendant."""
    if any(child.owns(number) for number in lineage.numbers_of(pid)):
        return True
    return any(child.owns(number) for number in lineage.ancestors(pid))


def _code_of(info: os.waitid_result) -> int:
    return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status


def _ending(child: Child) -> Observation:
    if child.code is None:
        return Lost(child.uid)
    if child.code < 0:
        return Exited(child.uid, signal=groups.signal_name(-child.code), leftovers=child.killed)
    return Exited(child.uid, exit_code=child.code, leftovers=child.killed)
