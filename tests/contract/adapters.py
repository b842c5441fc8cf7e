"""Every driver, behind what the contract suite needs of it. A new driver is registered in ADAPTERS, and nowhere else.

An adapter makes payloads for workers that live, exit, die or cannot start, and knows how to wait for its driver.
"""

import os
import select
import signal

from processes import PATIENCE, alive

from reconciler.core.spec import Command, WorkerSpec
from reconciler.drivers.callback import CallbackDriver
from reconciler.drivers.command import CommandDriver
from reconciler.testing.driver import FakeDriver


class Processes:
    """What all drivers of local processes have in common."""

    def __init__(self, driver):
        self.driver = driver

    def wait(self):
        """Block until the driver may have something to tell, and let a made-up world move on."""
        ready, _, _ = select.select([self.driver.fileno()], [], [], PATIENCE)
        assert ready, "nothing came"

    def runs(self, pid):
        """Whether the worker with this pid runs."""
        return alive(pid)

    def end(self, pid):
        """Get rid of a worker that the driver let go of."""
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Commands(Processes):
    """Local commands."""

    def __init__(self):
        super().__init__(CommandDriver())

    def lives(self):
        """A worker that runs until TERM."""
        return self._shell("exec sleep 1000")

    def exits(self, code):
        """A worker that exits at once with this code."""
        return self._shell(f"exit {code}")

    def dies(self, name):
        """A worker that dies at once of this signal."""
        return self._shell(f"kill -{name} $$")

    def cannot_start(self):
        """A worker that cannot be started."""
        return WorkerSpec("k", "d", Command(command=("/no/such/program",)))

    def _shell(self, script):
        return WorkerSpec("k", "d", Command(command=("sh", "-c", script)))


class Forks(Processes):
    """A user's callable that forks."""

    def __init__(self):
        super().__init__(CallbackDriver(self._fork))

    @staticmethod
    def _fork(act):
        if act is None:
            raise OSError(11, "no more processes")
        pid = os.fork()
        if pid == 0:
            try:
                act()
            finally:
                os._exit(99)
        return pid

    def lives(self):
        """A worker that runs until TERM."""
        return WorkerSpec("k", "d", signal.pause)

    def exits(self, code):
        """A worker that exits at once with this code."""
        return WorkerSpec("k", "d", lambda: os._exit(code))

    def dies(self, name):
        """A worker that dies at once of this signal."""
        return WorkerSpec("k", "d", lambda: os.kill(os.getpid(), signal.Signals[f"SIG{name}"]))

    def cannot_start(self):
        """A worker that cannot be started."""
        return WorkerSpec("k", "d", None)


class Fakes:
    """Processes that are made up."""

    def __init__(self):
        self.driver = FakeDriver()
        self.driver.on_start = lambda process: process.spec.payload(process.uid)

    def lives(self):
        """A worker that runs until TERM."""
        return WorkerSpec("k", "d", self.driver.spawn)

    def exits(self, code):
        """A worker that exits at once with this code."""
        return self._ends(exit_code=code)

    def dies(self, name):
        """A worker that dies at once of this signal."""
        return self._ends(signal=name)

    def cannot_start(self):
        """A worker that cannot be started."""
        return WorkerSpec("k", "d", self.driver.fail)

    def wait(self):
        """There is nothing to wait for."""

    def runs(self, pid):
        """Whether the worker with this pid runs."""
        return pid in {process.pid for process in self.driver.processes.values()}

    def end(self, pid):
        """Get rid of a worker that the driver let go of."""
        self.driver.processes.clear()

    def _ends(self, **how):
        def act(uid):
            self.driver.spawn(uid)
            self.driver.exit(uid, **how)

        return WorkerSpec("k", "d", act)


ADAPTERS = {"command": Commands, "callback": Forks, "fake": Fakes}
