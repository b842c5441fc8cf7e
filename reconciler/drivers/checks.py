"""What is asked of a worker, once: a connection, a request, a command, a file. Each goes on as far as it can without
waiting, and says when to be called again by the descriptors that it has watched.

Rule: a check never waits, reads a bounded amount at a time, and owns what it opened: `abandon` gives all of it up. It
does no harm to call `advance` for nothing. What a check raises is for whoever asked to tell; `abandon` follows then.
"""

import errno
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL
from typing import Protocol

import attrs

from reconciler.core import template
from reconciler.core.serving import HttpCheck, Probe
from reconciler.drivers import groups, http, reach, spawning
from reconciler.drivers.spawning import Launch, Spawner
from reconciler.drivers.surroundings import Surroundings

_BLOCK = 1 << 14  # bytes of an answer read in one go
_TAIL = 1024  # bytes that are kept of the end of a command's output
_LONGEST_LINE = 200  # characters of that which are told


class Watch(Protocol):
    """The descriptors of one check, of which it hears when one is ready."""

    def add(self, fd: int, mask: int) -> None:
        """Watch one more, for EPOLLIN or EPOLLOUT. Raises OSError."""

    def change(self, fd: int, mask: int) -> None:
        """Watch one for something else."""

    def drop(self, fd: int) -> None:
        """Watch one no more. To be called before it is closed; one that is not watched is no error."""


class Check(Protocol):
    """One question that is on its way. `pid` is that of its command, where it has one."""

    pid: int | None

    def advance(self) -> str | None:
        """Go on. None: not answered yet; "": a success; else why not. After an answer it may have to be called again
        until it `is_over`, and what it returns then means nothing.
        """

    @property
    def is_over(self) -> bool:
        """Whether it holds nothing any more."""

    def abandon(self) -> None:
        """Give up, answered or not. What cannot be given up at once, a command that is being killed, remains."""

    def release(self) -> None:
        """In a forked child: close what was inherited, and touch nothing that the parent has too."""


def of_probe(probe: Probe, around: Surroundings, spawner: Callable[[], Spawner]) -> Callable[[Watch], Check]:
    """What makes the check of a probe which is no `file`. Raises ValueError or KeyError if its texts make no sense."""
    if probe.exec is not None:
        return of_command(probe.exec, around, spawner)
    if probe.tcp is not None:
        address = template.render(probe.tcp, around.values)
        places = reach.places(address, around.cwd)
        return lambda watch: ConnectionCheck(watch, address, places)
    check = probe.http
    assert check is not None  # noqa: S101  a probe has one of four
    address = template.render(check.address, around.values)
    places = reach.places(address, around.cwd)
    request = http.request(check, address, around.values)
    return lambda watch: RequestCheck(ConnectionCheck(watch, address, places), check, request)


def of_command(
    command: tuple[str, ...], around: Surroundings, spawner: Callable[[], Spawner]
) -> Callable[[Watch], Check]:
    """What makes the check of a command. Raises ValueError for an empty one, and KeyError for a missing value."""
    if not command:
        raise ValueError("the command is empty")
    argv = [template.render(word, around.values) for word in command]
    return lambda watch: CommandCheck(watch, spawner, Launch(argv, around.environment), around.cwd)


def of_file(path: str, around: Surroundings) -> str:
    """Whether a file is there: "" if so, else why not. Raises ValueError or KeyError if the text makes no sense.

    A disk that hangs would hang us: nothing asks for a file without waiting, so such a path has to be a local one.
    """
    path = template.render(path, around.values)
    try:
        os.stat(Path(around.cwd, path))  # noqa: PTH116  the errors of all paths in one way
    except OSError as error:
        return f"{path}: {error.strerror}"
    return ""


class ConnectionCheck:
    """A connection is taken at the first of some places that does."""

    pid: int | None = None

    def __init__(self, watch: Watch, address: str, places: list[reach.Place]) -> None:
        self.watch = watch
        self.socket: socket.socket | None = None
        self._address = address
        self._ahead = list(places)

    def advance(self) -> str | None:
        """See `Check`: it is over with the answer."""
        problem = self.connect()
        if problem is not None:
            self.abandon()
        return problem

    def connect(self) -> str | None:
        """As `advance`, but leaves the connection, which is watched for EPOLLOUT, in `socket`."""
        while True:
            if self.socket is None:
                self.socket = socket.socket(self._ahead[0].family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                self.watch.add(self.socket.fileno(), select.EPOLLOUT)
            code = self._ahead[0].connect(self.socket)
            if not code:
                return None if code is None else ""
            self.abandon()
            if not self._ahead[1:]:
                return f"no connection to {self._address}: {_reason(code)}"
            del self._ahead[0]

    @property
    def is_over(self) -> bool:
        """See `Check`."""
        return self.socket is None

    def abandon(self) -> None:
        """See `Check`."""
        if self.socket is not None:
            self.watch.drop(self.socket.fileno())
            self.release()

    def release(self) -> None:
        """See `Check`."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None


class RequestCheck:
    """A request is answered by a good status.

    What follows the status is read and thrown away, a bounded amount of it: a server that still writes would log an
    error if we closed at once.
    """

    pid: int | None = None

    def __init__(self, connection: ConnectionCheck, check: HttpCheck, request: bytes) -> None:
        self._connection = connection
        self._check = check
        self._unsent = request
        self._is_connected = False
        self._answer = http.Answer()
        self._verdict: str | None = None
        self._left = http.MOST

    def advance(self) -> str | None:
        """See `Check`."""
        if not self._is_connected:
            problem = self._connection.connect()
            if problem != "":
                return problem
            self._is_connected = True
        connection = self._connection.socket
        if connection is None:
            return self._verdict
        try:
            if self._unsent:
                self._send(connection)
            else:
                self._receive(connection)
        except BlockingIOError:
            pass
        except OSError as error:
            self.abandon()
            return f"no answer: {error.strerror}"
        except ValueError as error:
            self.abandon()
            return str(error)
        return self._verdict

    def _send(self, connection: socket.socket) -> None:
        self._unsent = self._unsent[connection.send(self._unsent, socket.MSG_NOSIGNAL) :]
        self._connection.watch.change(connection.fileno(), select.EPOLLOUT if self._unsent else select.EPOLLIN)

    def _receive(self, connection: socket.socket) -> None:
        data = connection.recv(min(_BLOCK, self._left))
        self._left -= len(data)
        if self._verdict is None:
            if not data:
                raise self._answer.end()
            status = self._answer.feed(data)
            if status is not None:
                self._verdict = "" if http.is_success(self._check, status) else f"HTTP status {status}"
        if not data or not self._left:
            self.abandon()

    @property
    def is_over(self) -> bool:
        """See `Check`."""
        return self._connection.is_over

    def abandon(self) -> None:
        """See `Check`."""
        self._connection.abandon()

    def release(self) -> None:
        """See `Check`."""
        self._connection.release()


class CommandCheck:
    """A command ends with 0. It leads a session, and what is left of that at its end is killed.

    Who waits for its answer may give up sooner than it dies; it `is_over` when it was reaped.
    """

    def __init__(self, watch: Watch, spawner: Callable[[], Spawner], launch: Launch, cwd: str) -> None:
        self.pid: int | None = None
        self._watch = watch
        self._spawner = spawner
        self._launch = launch
        self._cwd = cwd
        self._pidfd = -1
        self._output = -1
        self._tail = b""

    def advance(self) -> str | None:
        """See `Check`."""
        if self.pid is None:
            self._start()
        self._read()
        assert self.pid is not None  # noqa: S101  it was started, or that raised
        try:
            if os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            groups.signal_group(self.pid, SIGKILL)  # while its number is still its own
            info = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            info = None
            groups.kill_remains(self._pidfd)
        self._read()
        self._close_all()
        if info is None:
            return "how the command ended is unknown: other code in this process took its status"
        if info.si_code != os.CLD_EXITED:
            return self._with_output(f"the command was ended by {groups.signal_name(info.si_status)}")
        return self._with_output(f"exit code {info.si_status}") if info.si_status else ""

    def _start(self) -> None:
        """Start it. Raises OSError; then there is no process and no descriptor."""
        self._output, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            os.set_blocking(self._output, False)
            self._watch.add(self._output, select.EPOLLIN)
            launch = attrs.evolve(self._launch, output=theirs)
            with spawning.entered(self._cwd) as ahead:
                pid = self._spawner().spawn(launch, ahead)
        except BaseException:
            self._close_output()
            raise
        finally:
            os.close(theirs)  # which leaves a descriptor free for the next line
        try:
            self._pidfd = os.pidfd_open(pid)
            self._watch.add(self._pidfd, select.EPOLLIN)
        except OSError:
            _destroy(pid)
            self._close_all()
            raise
        self.pid = pid

    def _read(self) -> None:
        """Take what it wrote, as much as a pipe holds, so that it never waits for us."""
        if self._output < 0:
            return
        try:
            data = os.read(self._output, 1 << 16)
        except BlockingIOError:
            return
        if data:
            self._tail = (self._tail + data)[-_TAIL:]
        else:
            self._close_output()

    def _with_output(self, message: str) -> str:
        lines = self._tail.decode("utf-8", "replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in last)
        return f"{message}: {shown[:_LONGEST_LINE]}" if shown else message

    @property
    def is_over(self) -> bool:
        """See `Check`."""
        return self._pidfd < 0

    def abandon(self) -> None:
        """See `Check`: KILL, and wait for the death."""
        self._close_output()
        if self._pidfd < 0 or self.pid is None:
            return
        if groups.leads(self._pidfd, self.pid):
            groups.signal_group(self.pid, SIGKILL)
        else:
            groups.signal_process(self._pidfd, SIGKILL)

    def release(self) -> None:
        """See `Check`."""
        for fd in (self._output, self._pidfd):
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)
        self._output = self._pidfd = -1

    def _close_all(self) -> None:
        self._close_output()
        if self._pidfd >= 0:
            self._watch.drop(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _close_output(self) -> None:
        if self._output >= 0:
            self._watch.drop(self._output)
            os.close(self._output)
            self._output = -1


def _reason(code: int) -> str:
    # Only a Unix socket refuses so: there is nothing to wait for that would tell when it has room.
    return "its queue of connections is full" if code == errno.EAGAIN else os.strerror(code)


def _destroy(pid: int) -> None:
    """KILL a command that cannot be followed, with its group, and wait for the death, which is near."""
    groups.signal_group(pid, SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED)
