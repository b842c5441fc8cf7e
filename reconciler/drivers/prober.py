"""What is asked of workers, and what runs before their stop: probes and drains, a thousand at a time, without a thread.

Rule: nothing waits for an answer. All descriptors are in one epoll, each timeout is a time at which to call `poll`, and
whatever does not answer until then has failed. A worker has one thing in flight, whose answer is given once; a new one
takes the place of that before. What goes wrong here, for want of descriptors say, is a failed probe with a message.

A command that was given up is killed with its group, and followed until it is reaped. One that cannot be killed (a hung
disk) holds a descriptor until it ends, so a worker that has some of those is asked no further command.
"""

import errno
import heapq
import itertools
import os
import select
import time
from collections.abc import Callable, Iterable, Sequence

import attrs

from reconciler.core.observation import Drained, Observation, Probed
from reconciler.core.policies import Drain
from reconciler.core.serving import Probe, ProbeKind
from reconciler.drivers import checks
from reconciler.drivers.room import Room
from reconciler.drivers.spawning import Spawner
from reconciler.drivers.surroundings import Surroundings
from reconciler.hygiene import let_go_in_children

_BATCH = 128  # descriptors dealt with in one poll, and as many timeouts; what is left is dealt with in the next
_MOST_DYING = 4  # commands of one worker that were killed, and are not dead yet
_PATIENCE = 1.0  # seconds, at the end, for the commands that are killed then
_LONGEST_MESSAGE = 300


@attrs.define(eq=False)
class _Task:
    """One thing in flight: a probe of some kind, or a drain (None)."""

    uid: str
    kind: ProbeKind | None
    timeout: float
    answered: bool = False  # what is left of it, if anything, is of no interest
    check: checks.Check = attrs.field(init=False)

    def late(self) -> str:
        """What to say when nothing came."""
        if self.kind is None:
            return f"the command did not end within {self.timeout:g} s, and was killed"
        return f"no answer within {self.timeout:g} s"


class Prober:
    """Asks probes and runs drains. No method blocks, and none raises for a failure of the world.

    `spawner` is what starts commands, where their limits are to be those of workers; without one it makes its own.
    """

    def __init__(self, spawner: Spawner | None = None) -> None:
        self._spawner = spawner
        self._own_spawner: Spawner | None = None
        self._room = Room()
        self._process = os.getpid()
        self._epoll = select.epoll()
        self._watched: dict[int, _Task] = {}
        self._tasks: dict[str, _Task] = {}
        self._dying: dict[str, list[_Task]] = {}  # given up, and not over yet
        self._commands: dict[int, _Task] = {}  # by pid
        self._deadlines: list[tuple[float, int, _Task]] = []  # a heap, with some that are over or given up
        self._counter = itertools.count()
        self._answers: dict[str, Observation] = {}
        let_go_in_children(self, Prober._let_go)

    def ask(self, uid: str, kind: ProbeKind, probe: Probe, around: Surroundings) -> None:
        """Ask a probe, instead of whatever is in flight for this uid. Answered by `Probed`."""
        self.forget(uid)
        task = _Task(uid, kind, probe.timeout)
        try:
            if probe.file is not None:
                self._answer(task, checks.of_file(probe.file, around))
            else:
                self._begin(task, checks.of_probe(probe, around, self._spawner_had))
        except Exception as error:  # noqa: BLE001  one bad probe must not stop the others
            self._answer(task, _describe(error))

    def drain(self, uid: str, drain: Drain, around: Surroundings) -> None:
        """Run the command that comes before a stop, instead of whatever is in flight for this uid. Answered by
        `Drained`, with "" if it ended with 0.
        """
        self.forget(uid)
        task = _Task(uid, None, drain.timeout)
        try:
            self._begin(task, checks.of_command(drain.command, around, self._spawner_had))
        except Exception as error:  # noqa: BLE001  likewise
            self._answer(task, _describe(error))

    def forget(self, uid: str) -> None:
        """Give up what is in flight for this uid, and say nothing of it."""
        self._answers.pop(uid, None)
        task = self._tasks.get(uid)
        if task is not None:
            self._give_up(task)

    def poll(self) -> Sequence[Observation]:
        """What was answered since the last call, each once. A bounded amount of work."""
        if self._epoll.closed:
            return ()
        for fd, _ in self._epoll.poll(0, _BATCH):
            task = self._watched.get(fd)
            if task is not None:
                self._go_on(task)
        self._expire(time.monotonic())
        answers, self._answers = self._answers, {}
        return tuple(answers.values())

    def wake_at(self) -> float | None:
        """When to call `poll` though nothing happened (seconds, monotonic): the next timeout, or 0.0, which has long
        passed, if there is something to tell.
        """
        if self._answers:
            return 0.0
        self._drop_old_deadlines()
        return self._deadlines[0][0] if self._deadlines else None

    def fileno(self) -> int:
        """Readable when something in flight can go on."""
        return self._epoll.fileno()

    def reap(self, pid: int) -> bool:
        """Reap a child of this process that has ended, if it is a command of ours; whether it is.

        For a controller that reaps strangers too, as PID 1, and would take the status of ours for theirs.
        """
        task = self._commands.get(pid)
        if task is None:
            return False
        self._go_on(task)
        return True

    def close(self) -> None:
        """Give up everything. Commands are killed, and reaped if they die at once. In a forked child this does the
        parent no harm.
        """
        if self._epoll.closed:
            return
        if self._process == os.getpid():
            for task in tuple(self._tasks.values()):
                self._give_up(task)
            self._wait_for_the_dying(time.monotonic() + _PATIENCE)
        self._let_go()

    # What is in flight

    def _begin(self, task: _Task, make: Callable[["_Watch"], checks.Check]) -> None:
        """Set out. Raises OSError where there are too few descriptors, and what the check raises."""
        self._check_room()
        task.check = make(_Watch(self._epoll, self._watched, task))
        dying = self._dying.get(task.uid, ())
        if len(dying) >= _MOST_DYING and isinstance(task.check, checks.CommandCheck):
            raise OSError(
                errno.EBUSY, f"{len(dying)} earlier commands of this worker were killed, and are not dead yet"
            )
        self._tasks[task.uid] = task
        heapq.heappush(self._deadlines, (time.monotonic() + task.timeout, next(self._counter), task))
        self._go_on(task)
        if task.check.pid is not None and not task.check.is_over:
            self._commands[task.check.pid] = task

    def _go_on(self, task: _Task) -> None:
        try:
            verdict = task.check.advance()
        except Exception as error:  # noqa: BLE001  one bad probe must not stop the others
            task.check.abandon()
            verdict = _describe(error)
        if verdict is not None and not task.answered:
            self._answer(task, verdict)
        if task.check.is_over:
            self._drop(task)

    def _answer(self, task: _Task, problem: str) -> None:
        task.answered = True
        message = problem[:_LONGEST_MESSAGE]
        if task.kind is None:
            self._answers[task.uid] = Drained(task.uid, message)
        else:
            self._answers[task.uid] = Probed(task.uid, task.kind, not problem, message)

    def _give_up(self, task: _Task) -> None:
        """Have it answer no more, and end it."""
        task.answered = True
        del self._tasks[task.uid]
        self._dying.setdefault(task.uid, []).append(task)
        task.check.abandon()
        if task.check.is_over:
            self._drop(task)

    def _drop(self, task: _Task) -> None:
        """Forget one that holds nothing any more."""
        if task.check.pid is not None:
            self._commands.pop(task.check.pid, None)
        if self._tasks.get(task.uid) is task:
            del self._tasks[task.uid]
            return
        dying = self._dying[task.uid]
        dying.remove(task)
        if not dying:
            del self._dying[task.uid]

    def _expire(self, now: float) -> None:
        for _ in range(_BATCH):
            self._drop_old_deadlines()
            if not self._deadlines or self._deadlines[0][0] > now:
                return
            task = heapq.heappop(self._deadlines)[2]
            self._go_on(task)  # if we are late ourselves, its answer may be there, and not seen yet
            if self._tasks.get(task.uid) is not task:
                continue
            if not task.answered:
                self._answer(task, task.late())
            self._give_up(task)

    def _drop_old_deadlines(self) -> None:
        """Have the next deadline be one that counts, and the others not outnumber those."""
        if len(self._deadlines) > 2 * len(self._tasks) + _BATCH:
            self._deadlines = [each for each in self._deadlines if self._counts(each[2])]
            heapq.heapify(self._deadlines)
        while self._deadlines and not self._counts(self._deadlines[0][2]):
            heapq.heappop(self._deadlines)

    def _counts(self, task: _Task) -> bool:
        return self._tasks.get(task.uid) is task

    def _check_room(self) -> None:
        """Raise OSError (EMFILE) where one more would leave this process too few descriptors to go on."""
        if not self._room.is_left(self._epoll.fileno()):
            raise OSError(errno.EMFILE, f"{os.strerror(errno.EMFILE)}; raise the limit of open files (ulimit -n)")

    def _spawner_had(self) -> Spawner:
        if self._spawner is None:
            self._spawner = self._own_spawner = Spawner()
        return self._spawner

    # The end

    def _wait_for_the_dying(self, until: float) -> None:
        while self._dying and (left := until - time.monotonic()) > 0:
            for fd, _ in self._epoll.poll(left, _BATCH):
                task = self._watched.get(fd)
                if task is not None:
                    self._go_on(task)

    def _let_go(self) -> None:
        """Close what there is, and change nothing that a parent still has."""
        dying: Iterable[_Task] = itertools.chain.from_iterable(self._dying.values())
        for task in (*self._tasks.values(), *dying):
            task.check.release()
        self._epoll.close()
        if self._own_spawner is not None:
            self._own_spawner.close()
        for table in (self._watched, self._tasks, self._dying, self._commands, self._answers):
            table.clear()
        self._deadlines.clear()


class _Watch:
    """See `checks.Watch`. Those who hold it may outlive what they watch."""

    def __init__(self, epoll: select.epoll, watched: dict[int, _Task], task: _Task) -> None:
        self._epoll = epoll
        self._watched = watched
        self._task = task

    def add(self, fd: int, mask: int) -> None:
        self._epoll.register(fd, mask)
        self._watched[fd] = self._task

    def change(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, mask)

    def drop(self, fd: int) -> None:
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)


def _describe(error: Exception) -> str:
    """What went wrong here, in a few words."""
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return f"{error.filename}: {reason}" if error.filename else reason
    if isinstance(error, ValueError):
        return str(error)
    return f"{type(error).__name__}: {error}"
