"""Forked workers that speak to their driver, and a driver for them: what the tests of notices have in common."""

import contextlib
import os
import select
import signal
import socket

from processes import PATIENCE, observe

from reconciler.core.observation import Spawned
from reconciler.core.spec import WorkerSpec
from reconciler.drivers.callback import CallbackDriver

_LIFETIME = int(2 * PATIENCE)
"""Seconds after which a process ends that a test which failed left behind."""


class Talkers:
    """A driver whose workers are functions. Each worker leads a session, and gets what it needs to speak."""

    def __init__(self):
        self.driver = CallbackDriver(self._fork)
        self.address = self.driver._notify_address()
        self._read, self._write = os.pipe()
        self._seen = []
        self.strangers = []

    def _fork(self, act):
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(_LIFETIME)
                os.setsid()
                act()
            finally:
                os._exit(99)
        return pid

    def start(self, act, uid="u1"):
        """Start a worker, and return its pid."""
        self.driver.start(uid, "web", WorkerSpec("k", "d", act))
        seen = list(self.driver.poll())
        (spawned,) = [one for one in seen if isinstance(one, Spawned)]
        seen.remove(spawned)
        self._seen += seen
        return spawned.pid

    def observe(self, count):
        """The next observations, `count` at least, but those of starts."""
        seen, self._seen = self._seen, []
        return seen + observe(self.driver, count - len(seen))

    def say(self, *lines, fds=()):
        """In a worker: send a message."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaking:
            speaking.connect("\0" + self.address[1:])
            socket.send_fds(speaking, ["\n".join(lines).encode("utf-8", "surrogateescape")], fds)

    def sync(self):
        """In a worker: wait until all that was said before was heard, as systemd-notify does."""
        read, write = os.pipe()
        self.say("BARRIER=1", fds=[write])
        os.close(write)
        hung_up = select.poll()
        hung_up.register(read, 0)
        assert hung_up.poll(PATIENCE * 1000)
        os.close(read)

    def report(self, value):
        """In a worker: tell the test a number."""
        os.write(self._write, b"%d\n" % value)

    def told(self):
        """The next number that a worker told, while the driver goes on."""
        while True:
            ready, _, _ = select.select([self._read, self.driver.fileno()], [], [], PATIENCE)
            assert ready, "nothing came"
            if self._read in ready:
                return int(_line(self._read))
            self._seen += self.driver.poll()

    def stranger(self, act=signal.pause):
        """A process that the driver does not know."""
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(_LIFETIME)
                act()
            finally:
                os._exit(99)
        self.strangers.append(pid)
        return pid

    def close(self):
        """End all workers, and the strangers."""
        for uid in tuple(self.driver.live()):
            self.driver.kill(uid)
        while self.driver.live():
            self.observe(1)
        for pid in self.strangers:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self.driver.close()
        os.close(self._read)
        os.close(self._write)


def child(act=signal.pause, before=None):
    """In a worker: fork a process that acts, and return its pid, after it has done what comes `before`, as setsid."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(_LIFETIME)
            if before is not None:
                before()
            os.close(read)
            os.close(write)
            act()
        finally:
            os._exit(98)
    os.close(write)
    os.read(read, 1)
    os.close(read)
    return pid


def _line(fd):
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(fd, 1)
    return line
