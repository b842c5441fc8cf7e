"""Workers that the user's own `fork` callable starts: the smallest driver.

Rule: the callable is asked for one worker at a time, and whatever it does wrong is that worker's `SpawnFailed`. A child
that it forks never becomes a second controller: every way out of it, returning included, ends in `os._exit`.

In a forked child, before any code of the user's runs there, our descriptors are closed (and never unregistered, which
would edit the parent's set), signals have their default handlers, and the wake-up descriptor is unset. Other forks of
the same process, not made inside the callable, only have our descriptors closed.

The controller starts no thread, so that it is safe to fork; a program that has threads must use a callable that also
execs, such as one with `subprocess` or `fork_worker_process`.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from reconciler.core.spec import WorkerSpec
from reconciler.drivers.forking import default_signals, exit_status, flush
from reconciler.drivers.lives import Child
from reconciler.drivers.nursery import Nursery, Output
from reconciler.drivers.process import ProcessTable, destroy

_EX_SOFTWARE = 70


class CallbackDriver(ProcessTable):
    """Calls `fork(worker)` with the worker as the user gave it. It returns a pid, or an object with `.pid`.

    The process must be a child of this one that nobody has waited for. Nobody else needs to: an object that keeps the
    status as `subprocess.Popen` or `multiprocessing.Process` does is told it. A child that the callable itself lets
    lead a group or session is stopped with that group, any other alone.
    """

    def __init__(self, fork: Callable[[Any], Any], output: Output | None = None) -> None:
        super().__init__()
        self.output = output
        self._fork = fork
        self._asking = False
        self._mask: set[int] = set()

    def start(self, uid: str, set_name: str, spec: WorkerSpec) -> None:  # noqa: ARG002
        """See `Driver`. Stages of a failure: fork, descriptors. KeyboardInterrupt alone is let through.

        What was started by our own functions and is not the answer is killed, so that no process is lost.
        """
        # Other code of the user's may wait for children too (starting a process by subprocess or multiprocessing does
        # so for those that have ended), and would take their status.
        self._gather()
        try:
            self._check_room()
        except OSError as error:
            self._fail(uid, "descriptors", error)
            return
        controller = os.getpid()
        nursery = self.nursery({"RECONCILER_KEY": str(spec.key), "RECONCILER_UID": uid})
        flush()  # else each child would write again what is still in our buffers
        self._asking = True
        try:
            with nursery.opened():
                answer = self._fork(spec.payload)
        except BaseException as error:
            if os.getpid() != controller:
                _leave(error)
            _bury(nursery.born)
            if isinstance(error, KeyboardInterrupt):
                raise
            self._fail(uid, "fork", error)
            return
        finally:
            self._asking = False
        if os.getpid() != controller:
            _leave(None)
        accepted = self._accept(uid, answer)
        _bury([pid for pid in nursery.born if pid != accepted])

    def nursery(self, names: Mapping[str, str] | None = None) -> Nursery:
        """What workers are given that our own functions make for this driver; `names` for their environment."""
        return Nursery(self.output, names or {}, self._notify_address)

    def _accept(self, uid: str, answer: Any) -> int | None:
        """Follow the answer's process, and return its pid if there is one."""
        pid: Any
        try:
            pid = answer if isinstance(answer, int) else getattr(answer, "pid", None)
        except Exception as error:  # noqa: BLE001  a property of the user's
            self._fail(uid, "fork", error)
            return None
        problem = self._problem(answer, pid)
        if problem is not None:
            self._fail(uid, "fork", f"fork(worker) must return the pid of a new child or an object with it: {problem}")
            return None
        _disown(pid)
        self._track(uid, pid, answer)
        return int(pid)

    def _problem(self, answer: Any, pid: Any) -> str | None:
        """Why this cannot be the pid of a new worker, or None."""
        if type(pid) is not int:
            return f"it returned {_shown(answer)}"
        if pid <= 1:
            return f"it returned {pid}"
        if pid == os.getpid():
            return f"{pid} is the controller itself"
        if pid in self._by_pid:
            return f"{pid} is another worker"
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except (OSError, OverflowError):
            return f"{pid} is no child of this process, or somebody waited for it already"
        return None

    def _status(self, child: Child, code: int | None) -> int | None:
        """Tell the user's object how its process ended; or ask it, if the object waited for the process itself."""
        with contextlib.suppress(Exception):  # the object is the user's, and its attributes may be anything
            # multiprocessing.Process has what subprocess.Popen has, one attribute deeper.
            owner = child.handle if hasattr(child.handle, "returncode") else child.handle._popen  # noqa: SLF001
            if code is None:
                return owner.returncode if type(owner.returncode) is int else None
            if owner.returncode is None:
                owner.returncode = code
        return code

    def _before_fork(self) -> None:
        if self._asking:
            # What comes before the child has its default handlers would be taken by ours, in vain, and would be told
            # to the parent's wake-up descriptor as if the parent had been meant.
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def _after_fork_in_parent(self) -> None:
        if self._asking:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _after_fork_in_child(self) -> None:
        super()._after_fork_in_child()
        if self._asking:
            default_signals()


def _leave(error: BaseException | None) -> NoReturn:
    """End a forked child that came out of the user's callable."""
    status = _EX_SOFTWARE
    # Nothing that fails on the way may keep the child from its end.
    with contextlib.suppress(BaseException):
        if error is None:
            print("reconciler: fork(worker) returned in the child; it must end there by os._exit", file=sys.stderr)  # noqa: T201
        elif isinstance(error, SystemExit):
            status = exit_status(error.code)
        else:
            sys.excepthook(type(error), error, error.__traceback__)
    flush()
    os._exit(status)


def _bury(pids: Sequence[int]) -> None:
    """End processes that nobody will follow."""
    for pid in pids:
        with contextlib.suppress(OSError):  # the user's code ended it and waited for it
            destroy(pid)


def _disown(pid: int) -> None:
    """Keep subprocess from waiting for this process.

    A Popen object that was dropped while its process ran, as in `lambda worker: Popen(...).pid`, goes on a list, and
    the next Popen waits for those on the list, which would take the status of our worker.
    """
    for process in getattr(sys.modules.get("subprocess"), "_active", None) or ():
        if process.pid == pid:
            process.returncode = 0


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  a repr of the user's
        return f"a {type(value).__name__}"
