"""Local commands: the workers that spec files describe, started from `core.spec.Command` payloads.

Rule: a worker starts clean whatever the controller inherited: a session and a process group of its own, an empty
signal mask, default handlers, /dev/null as its input, the controller's output, and no descriptor but those that its
spec promises: its sockets, from 3 on, and the one on which it tells that it can serve. Without those nothing of what
they need is done. How that is started is the matter of `spawning`.
"""

import errno
import os
import resource
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from reconciler.core import template
from reconciler.core.names import names_of
from reconciler.core.serving import FIRST_FD, Socket
from reconciler.core.spec import Command, WorkerSpec
from reconciler.drivers import spawning
from reconciler.drivers.nursery import PRIVATE
from reconciler.drivers.process import ProcessTable
from reconciler.drivers.spawning import Launch, Limit, Spawner
from reconciler.drivers.surroundings import Surroundings

_PRIVATE = tuple(map(os.fsencode, PRIVATE))

_NOTHING: AbstractContextManager[Sequence[tuple[int, int]]] = nullcontext(())


class Output(Protocol):
    """What takes in what workers write."""

    def open(self, uid: str, set_name: str, key: str) -> int | None:
        """A descriptor to be the worker's stdout and stderr, to be closed once it has it; None where it shares ours."""


class Sockets(Protocol):
    """What has the sockets of workers."""

    def take(self, sockets: Sequence[Socket], values: Mapping[str, str]) -> Sequence[tuple[str, int, int | None]]:
        """Of each its name, our descriptor of it, which is not to be closed, and its port if it has one; in the same
        order. `values` are those of the placeholders. Raises OSError with a text that says what to do.
        """

    def ports(self, sockets: Sequence[Socket], values: Mapping[str, str]) -> Mapping[str, str]:
        """The value of "port:NAME" for each that has a port. Opens nothing."""


class CommandDriver(ProcessTable):
    """Starts local commands. Its environment, less what a service manager put there for it, is that of its start.

    `file_limit` is what workers get as their limit of open files instead of the controller's own: the answer of
    `raise_file_limit`. `reap_strangers` is for a controller that runs as PID 1 or as a subreaper, in a process where
    nobody else starts children. Descriptors that are open when the driver is made are kept from every worker. `output`
    may be set before the first start: what takes in what workers write; without one they share the controller's own.
    So may `sockets`, without which no worker that has some can be started.
    """

    def __init__(self, *, file_limit: Limit | None = None, reap_strangers: bool = False) -> None:
        super().__init__(reap_strangers=reap_strangers)
        self.output: Output | None = None
        self.sockets: Sockets | None = None
        # As bytes, since encoding it anew takes longer than all else that is done for a start here.
        self._environment = {name: value for name, value in os.environb.items() if name not in _PRIVATE}
        self._spawner = Spawner(file_limit)
        spawning.close_all_on_exec()

    def start(self, uid: str, set_name: str, spec: WorkerSpec) -> None:
        """See `Driver`. Stages of a failure: socket, arguments, output, cwd, exec, fork, descriptors, unexpected."""
        stage = "descriptors"
        try:
            command: Command = spec.payload
            values = names_of(set_name, spec.key)
            self._check_room()
            stage = "socket"
            sockets = self._take(command, values) if command.sockets else ()
            stage = "arguments"
            argv = [_filled(word, values) for word in command.command]
            environment = self._environment_of(uid, command, values)
            cwd = _filled(command.cwd, values) or "."
            pid_names = self._announce(command, environment)
            stage = "output"
            telling = _NOTHING if command.ready_fd is None else self._ready_end(uid, command.ready_fd)
            with self._output_of(uid, set_name, spec) as output, telling as ready:
                launch = Launch(argv, environment, output, (*sockets, *ready), pid_names)
                stage = "cwd"
                with spawning.entered(cwd) as ahead:
                    stage = "exec"
                    pid = self._spawner.spawn(launch, ahead)
        except OSError as error:
            number = error.errno or 0
            stage = _STAGES.get(number, stage)
            self._fail(uid, stage, error, "" if stage == "socket" else _REMEDIES.get(number, ""))
        except ValueError as error:  # a NUL byte, text that has no bytes, or a port that a socket has not
            self._fail(uid, "arguments", error)
        except Exception as error:  # noqa: BLE001  one bad payload must not stop the others
            self._fail(uid, "unexpected", error)
        else:
            self._track(uid, pid)

    def close(self) -> None:
        """See `Driver`."""
        super().close()
        self._spawner.close()

    def _probe_spawner(self) -> Spawner:
        return self._spawner

    def _take(self, command: Command, values: dict[str, str]) -> Sequence[tuple[int, int]]:
        """What our descriptor of each socket is to be in the worker; `values` are completed by what is known of them.

        Raises OSError.
        """
        if self.sockets is None:
            raise OSError(errno.ENOTSUP, "this controller has no sockets to give; set the driver's `sockets`")
        taken = self.sockets.take(command.sockets, values)
        for target, (name, _, port) in enumerate(taken, FIRST_FD):
            values[f"fd:{name}"] = str(target)
            if port is not None:
                values[f"port:{name}"] = str(port)
        return [(source, target) for target, (_, source, _) in enumerate(taken, FIRST_FD)]

    def _announce(self, command: Command, environment: dict[bytes, bytes]) -> Sequence[str]:
        """Say in the environment what the worker was given and is to tell; the variables that are to be its pid.

        Raises OSError.
        """
        pid_names = []
        if command.sockets:
            environment[b"LISTEN_FDS"] = b"%d" % len(command.sockets)
            environment[b"LISTEN_FDNAMES"] = ":".join(one.name for one in command.sockets).encode()
            pid_names.append("LISTEN_PID")
        if command.watchdog is not None:
            environment[b"WATCHDOG_USEC"] = b"%d" % round(command.watchdog * 1e6)
            pid_names.append("WATCHDOG_PID")
        if command.notify or command.watchdog is not None:
            environment[b"NOTIFY_SOCKET"] = os.fsencode(self._notify_address())
        return pid_names

    @contextmanager
    def _ready_end(self, uid: str, target: int) -> Iterator[Sequence[tuple[int, int]]]:
        """What the worker tells on that it can serve, and its number there."""
        fd = self._ready_pipe(uid)
        try:
            yield ((fd, target),)
        finally:
            os.close(fd)

    @contextmanager
    def _output_of(self, uid: str, set_name: str, spec: WorkerSpec) -> Iterator[int | None]:
        """What the worker writes to."""
        fd = None if self.output is None else self.output.open(uid, set_name, str(spec.key))
        try:
            yield fd
        finally:
            if fd is not None:
                os.close(fd)

    def _surroundings(self, uid: str, set_name: str, spec: WorkerSpec) -> Surroundings:
        """What a command beside this worker is given: the directory and the environment of the worker, without what
        speaks to the worker alone (LISTEN_*, NOTIFY_SOCKET, WATCHDOG_*). The port of a socket that is not open is 0.

        Raises ValueError for a text that cannot be rendered, and OSError where we have no directory ourselves.
        """
        command: Command = spec.payload
        values = names_of(set_name, spec.key)
        if command.sockets:
            if self.sockets is not None:
                values.update(self.sockets.ports(command.sockets, names_of(set_name, spec.key)))
            values.update((f"fd:{one.name}", str(fd)) for fd, one in enumerate(command.sockets, FIRST_FD))
        cwd = os.path.abspath(_filled(command.cwd, values) or ".")  # noqa: PTH100  a text
        return Surroundings(values, cwd, self._environment_of(uid, command, values))

    def _environment_of(self, uid: str, command: Command, values: Mapping[str, str]) -> dict[bytes, bytes]:
        environment = {} if command.clear_env else self._environment.copy()
        for name, value in command.env.items():
            environment[os.fsencode(name)] = os.fsencode(_filled(value, values))
        environment[b"RECONCILER_NAME"] = os.fsencode(values["name"])
        environment[b"RECONCILER_INDEX"] = os.fsencode(values["index"])
        environment[b"RECONCILER_KEY"] = os.fsencode(values["key"])
        environment[b"RECONCILER_UID"] = os.fsencode(uid)
        return environment


def _filled(text: str, values: Mapping[str, str]) -> str:
    try:
        return template.render(text, values)
    except KeyError as error:  # what a spec file may say was checked, but not what a socket turns out to be
        raise ValueError(f"there is no {{{error.args[0]}}}: that socket of the worker has no port") from None


def clean_signals() -> None:
    """Undo what we may have inherited that would keep us from doing our work: a signal mask, and an ignored SIGCHLD,
    with which the kernel keeps no exit status.

    To be called at start, in the main thread and before there are others.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def raise_file_limit() -> Limit | None:
    """Allow ourselves as many open files as we may have, one for each worker being needed.

    Returns the limit that was in force, for `CommandDriver` to give to workers (a program that uses `select` fails with
    a high one); None if nothing was changed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # the kernel's own limit (fs.nr_open) is lower by now
        return None
    return None if soft == hard else (soft, hard)


_REMEDIES = {
    errno.ENOENT: "is the path right, and is what its #! line names there too?",
    errno.EACCES: "it must be executable (chmod +x), and its directories open to the controller's user",
    errno.ENOEXEC: "a script needs a #! line, a program must be made for this machine",
    errno.E2BIG: "shorten the arguments or the environment",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or want fewer workers",
    errno.ENFILE: "raise the system's limit of open files (fs.file-max)",
    errno.EAGAIN: "raise the limit of processes (ulimit -u), or want fewer workers",
    errno.ENOMEM: "the machine has no memory left for it",
}

_STAGES = {
    errno.EMFILE: "descriptors",
    errno.ENFILE: "descriptors",
    errno.EAGAIN: "fork",
    errno.ENOMEM: "fork",
}
"""Where a start failed, for the errors that say so themselves."""
