"""Local commands: the workers that spec files describe, started from `core.spec.Command` payloads.

Rule: a worker starts clean whatever the controller inherited: a session and a process group of its own, an empty
signal mask, default handlers, /dev/null as its input, the controller's output, and no other descriptor. There is no
shell, no thread, and no code of ours between fork and exec: `posix_spawn` does it all but the working directory, which
is this process's own for the length of the call (there is no other way to tell a child). In a program that has other
threads, which would see that, `subprocess` starts it instead.

Descriptors that are open when the driver is made are marked to be closed at exec, as Python marks all that it opens
later; from Python 3.13 on whatever else there is is closed too.
"""

import errno
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Protocol

from reconciler.core import template
from reconciler.core.spec import Command, Key, WorkerSpec
from reconciler.drivers.nursery import PRIVATE
from reconciler.drivers.process import ProcessTable

_PRIVATE = tuple(map(os.fsencode, PRIVATE))

Limit = tuple[int, int]
"""A soft and a hard limit, in descriptors."""


_CLOSE_THE_REST: list[tuple[int, int]] = (
    [(os.POSIX_SPAWN_CLOSEFROM, 3)] if hasattr(os, "POSIX_SPAWN_CLOSEFROM") else []  # new in Python 3.13
)
_CATCHABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


class Output(Protocol):
    """What takes in what workers write."""

    def open(self, uid: str, set_name: str, key: str) -> int | None:
        """A descriptor to be the worker's stdout and stderr, to be closed once it has it; None where it shares ours."""


class CommandDriver(ProcessTable):
    """Starts local commands. Its environment, less what a service manager put there for it, is that of its start.

    `file_limit` is what workers get as their limit of open files instead of the controller's own: the answer of
    `raise_file_limit`. `reap_strangers` is for a controller that runs as PID 1 or as a subreaper, in a process where
    nobody else starts children. Descriptors that are open when the driver is made are kept from every worker. `output`
    may be set before the first start: what takes in what workers write; without one they share the controller's own.
    """

    def __init__(self, *, file_limit: Limit | None = None, reap_strangers: bool = False) -> None:
        super().__init__(reap_strangers=reap_strangers)
        self.output: Output | None = None
        self._file_limit = file_limit
        # As bytes, since encoding it anew takes longer than all else that is done for a start here.
        self._environment = {name: value for name, value in os.environb.items() if name not in _PRIVATE}
        self._null = os.open(os.devnull, os.O_RDONLY)
        _close_on_exec()

    def start(self, uid: str, set_name: str, spec: WorkerSpec) -> None:
        """See `Driver`. Stages of a failure: arguments, output, cwd, exec, fork, descriptors, unexpected."""
        stage, cwd = "arguments", ""
        try:
            names = _names(set_name, spec.key)
            command: Command = spec.payload
            argv = [template.render(word, **names) for word in command.command]
            environment = self._environment_of(uid, command, names)
            cwd = template.render(command.cwd, **names) or "."
            self._check_room()
            stage = "output"
            with self._output_of(uid, set_name, spec) as output:
                stage = "cwd"
                if _has_threads():
                    pid = self._spawn_beside_threads(argv, cwd, environment, output)
                else:
                    with _working_in(cwd), self._limited():
                        stage = "exec"
                        pid = self._spawn(argv, environment, output)
        except OSError as error:
            if error.filename not in (None, cwd):
                stage = "exec"
            number = error.errno or 0
            self._fail(uid, _STAGES.get(number, stage), error, _REMEDIES.get(number, ""))
        except ValueError as error:  # a NUL byte, or text that has no bytes
            self._fail(uid, "arguments", error)
        except Exception as error:  # noqa: BLE001  one bad payload must not stop the others
            self._fail(uid, "unexpected", error)
        else:
            self._track(uid, pid)

    def close(self) -> None:
        """See `Driver`."""
        super().close()
        if self._null >= 0:
            os.close(self._null)
            self._null = -1

    def _spawn(self, argv: list[str], environment: dict[bytes, bytes], output: int | None) -> int:
        """Start a program; relative paths are taken from the working directory."""
        written = [] if output is None else [(os.POSIX_SPAWN_DUP2, output, fd) for fd in (1, 2)]
        return os.posix_spawn(
            _program(argv[0], environment),
            argv,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, self._null, 0), *written, *_CLOSE_THE_REST],
            setsid=True,
            setsigmask=(),
            setsigdef=_CATCHABLE,
        )

    def _spawn_beside_threads(
        self, argv: list[str], cwd: str, environment: dict[bytes, bytes], output: int | None
    ) -> int:
        """The same where other threads would see this process's working directory change: slower, and it leaves an
        inherited signal mask to the worker.
        """
        import subprocess  # noqa: PLC0415  a program without threads never needs it

        process = subprocess.Popen(
            argv, cwd=cwd, env=environment, stdin=self._null, stdout=output, stderr=output, start_new_session=True
        )
        process.returncode = 0  # told that it ended, it never waits, and takes no status from our pidfd
        if self._file_limit is not None:
            with suppress(OSError):
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, self._file_limit)
        return process.pid

    @contextmanager
    def _output_of(self, uid: str, set_name: str, spec: WorkerSpec) -> Iterator[int | None]:
        """What the worker writes to."""
        fd = None if self.output is None else self.output.open(uid, set_name, str(spec.key))
        try:
            yield fd
        finally:
            if fd is not None:
                os.close(fd)

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Have the limit of open files that workers are given."""
        if self._file_limit is None:
            yield
            return
        ours = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._file_limit)
        try:
            yield
        finally:
            with suppress(OSError, ValueError):  # a pid must not be lost for it
                resource.setrlimit(resource.RLIMIT_NOFILE, ours)

    def _environment_of(self, uid: str, command: Command, names: dict[str, str]) -> dict[bytes, bytes]:
        environment = {} if command.clear_env else self._environment.copy()
        for name, value in command.env.items():
            environment[os.fsencode(name)] = os.fsencode(template.render(value, **names))
        environment[b"RECONCILER_NAME"] = os.fsencode(names["name"])
        environment[b"RECONCILER_INDEX"] = os.fsencode(names["index"])
        environment[b"RECONCILER_KEY"] = os.fsencode(names["key"])
        environment[b"RECONCILER_UID"] = os.fsencode(uid)
        return environment


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


def _names(set_name: str, key: object) -> dict[str, str]:
    """What the placeholders stand for. A key that is not of a spec file is its own index."""
    if isinstance(key, Key):
        return {"name": key.name, "index": str(key.number), "key": str(key)}
    return {"name": set_name, "index": str(key), "key": str(key)}


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


def _has_threads() -> bool:
    threading = sys.modules.get("threading")
    return threading is not None and threading.active_count() > 1


@contextmanager
def _working_in(cwd: str) -> Iterator[None]:
    """Have this working directory, which a child inherits, for a moment.

    Where we may not search our own (started by `sudo -u` in somebody's home) we cannot come back to it, and stay.
    """
    try:
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        os.chdir(cwd)
        yield
        return
    try:
        os.chdir(cwd)
        try:
            yield
        finally:
            with suppress(OSError):  # a pid must not be lost for it
                os.fchdir(here)
    finally:
        os.close(here)


def _program(name: str, environment: Mapping[bytes, bytes]) -> str:
    """The path of a program: the first on the worker's own PATH that may be executed. Raises OSError for none."""
    if "/" in name:
        return name
    found = errno.ENOENT
    for directory in os.fsdecode(environment.get(b"PATH", os.fsencode(os.defpath))).split(":"):
        path = f"{directory or '.'}/{name}"
        if os.access(path, os.X_OK) and not os.path.isdir(path):  # noqa: PTH112
            return path
        if os.path.isfile(path):  # noqa: PTH113
            found = errno.EACCES
    raise OSError(found, os.strerror(found), name)


def _close_on_exec() -> None:
    """Keep every descriptor that is open now, but the standard three, from the programs we start."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        fd = int(name)
        if fd > 2:  # noqa: PLR2004
            with suppress(OSError):  # that of the listing itself
                os.set_inheritable(fd, False)  # noqa: FBT003
