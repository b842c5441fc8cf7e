"""How a program is started: with the descriptors, the directory and the environment that it was promised, and no more.

Rule: there is no thread, and no code of ours between fork and exec: `posix_spawn` does it all but the working
directory, which is this process's own for the length of the call (there is no other way to tell a child). In a program
that has other threads, which would see that, `subprocess` starts it instead.

A program that must be told its own pid (LISTEN_PID, WATCHDOG_PID) cannot be told by us, who learn it when the program
runs. It gets another one before it, in the same process: /bin/sh, which takes a millisecond, and where that would
change the environment (it drops names that it could not use as variables, and has some of its own), Python.

What Python opens is closed at exec; `close_all_on_exec` marks what we inherited. From Python 3.13 on whatever else
there is is closed too.
"""

import errno
import fcntl
import os
import re
import resource
import signal
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import attrs

Limit = tuple[int, int]
"""A soft and a hard limit, in descriptors."""


@attrs.frozen
class Launch:
    """What to start.

    `output` is to be its stdout and stderr; without one it shares ours. `passed` are descriptors of ours, each with its
    number there. `pid_names` are the variables that are to hold its pid.
    """

    argv: list[str]
    environment: Mapping[bytes, bytes]
    output: int | None = None
    passed: Sequence[tuple[int, int]] = ()
    pid_names: Sequence[str] = ()


class Spawner:
    """Starts programs: in a session of their own, with an empty signal mask, default handlers, and /dev/null as input.

    `file_limit` is what they get as their limit of open files instead of our own.
    """

    def __init__(self, file_limit: Limit | None = None) -> None:
        self._file_limit = file_limit
        self._null = os.open(os.devnull, os.O_RDONLY)

    def spawn(self, launch: Launch, ahead: str | None) -> int:
        """Start a program and return its pid. It begins in our directory, or changes to the one `ahead`, if any: the
        answer of `entered`. Raises OSError, and ValueError for texts that no program can be given.
        """
        if launch.passed or launch.pid_names:
            return self._spawn_with_extras(launch, ahead)
        if ahead is not None:
            return self._spawn_beside_threads(launch, ahead)
        with self._limited():
            return self._spawn(_program(launch.argv[0], launch.environment), launch.argv, launch, ())

    def close(self) -> None:
        """Free the descriptor."""
        if self._null >= 0:
            os.close(self._null)
            self._null = -1

    def _spawn(self, path: str, argv: list[str], launch: Launch, passed: Sequence[tuple[int, int]]) -> int:
        """Start a program; relative paths are taken from the working directory."""
        written = [] if launch.output is None else [(os.POSIX_SPAWN_DUP2, launch.output, fd) for fd in (1, 2)]
        return os.posix_spawn(
            path,
            argv,
            launch.environment,
            # In this order: what is passed may take the numbers of what is read and written.
            file_actions=[(os.POSIX_SPAWN_DUP2, self._null, 0), *written, *_handing(passed)],
            setsid=True,
            setsigmask=(),
            setsigdef=_CATCHABLE,
        )

    def _spawn_with_extras(self, launch: Launch, ahead: str | None) -> int:
        """The same with descriptors of ours, or for a program that must be told its pid."""
        path, argv = _program(launch.argv[0], launch.environment, ahead or ""), launch.argv
        if launch.pid_names or ahead is not None:
            _refuse_unusable(os.path.join(ahead or "", path))  # noqa: PTH118  a text, which must stay what it is
            path, argv = _by_another(path, ahead or "", launch)
        with _out_of_the_way(launch.passed) as passed:
            if ahead is None:
                with self._limited():
                    return self._spawn(path, argv, launch, passed)
            pid = self._spawn(path, argv, launch, passed)
        self._limit(pid)
        return pid

    def _spawn_beside_threads(self, launch: Launch, ahead: str) -> int:
        """The same where other threads would see this process's working directory change: slower, and it leaves an
        inherited signal mask to the worker.
        """
        import subprocess  # noqa: PLC0415  a program without threads never needs it

        process = subprocess.Popen(
            launch.argv,
            cwd=ahead,
            env=launch.environment,
            stdin=self._null,
            stdout=launch.output,
            stderr=launch.output,
            start_new_session=True,
        )
        process.returncode = 0  # told that it ended, it never waits, and takes no status from our pidfd
        self._limit(process.pid)
        return process.pid

    def _limit(self, pid: int) -> None:
        if self._file_limit is not None:
            with suppress(OSError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, self._file_limit)

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


_CATCHABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


# --------------------------------------------------------------------------------------------------- descriptors


def _handing(passed: Sequence[tuple[int, int]]) -> list[Any]:
    """The file actions by which a program gets these descriptors and, from Python 3.13 on, no others."""
    if not passed:
        return _CLOSE_THE_REST
    targets = {target for _, target in passed}
    after = max(targets) + 1
    return [
        *((os.POSIX_SPAWN_DUP2, source, target) for source, target in passed),
        *((os.POSIX_SPAWN_CLOSE, fd) for fd in range(3, after) if fd not in targets),
        *((action, after) for action, _ in _CLOSE_THE_REST),
    ]


_CLOSE_THE_REST: list[Any] = (
    [(os.POSIX_SPAWN_CLOSEFROM, 3)] if hasattr(os, "POSIX_SPAWN_CLOSEFROM") else []  # new in Python 3.13
)


@contextmanager
def _out_of_the_way(passed: Sequence[tuple[int, int]]) -> Iterator[Sequence[tuple[int, int]]]:
    """The same descriptors under numbers that none of them shall have there: none is lost under another, and none is
    its own copy, which would be closed at exec.
    """
    first = max((target for _, target in passed), default=2) + 1
    moved: list[int] = []
    try:
        result = []
        for source, target in passed:
            if source < first:
                source = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, first)  # noqa: PLW2901
                moved.append(source)
            result.append((source, target))
        yield result
    finally:
        for fd in moved:
            os.close(fd)


def close_all_on_exec() -> None:
    """Keep every descriptor that is open now, but the standard three, from the programs we start."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        fd = int(name)
        if fd > 2:  # noqa: PLR2004
            with suppress(OSError):  # that of the listing itself
                os.set_inheritable(fd, False)  # noqa: FBT003


# --------------------------------------------------------------------------------------------------- directories


def entered(cwd: str) -> AbstractContextManager[str | None]:
    """Have this working directory, which a child inherits, for a moment. In a program with threads it is only looked
    at, and is the answer, for the child to go there itself. Raises OSError.
    """
    return _seen(cwd) if _has_threads() else _working_in(cwd)


@contextmanager
def _seen(cwd: str) -> Iterator[str]:
    if not stat.S_ISDIR(os.stat(cwd).st_mode):  # noqa: PTH116  a text, which must stay what it is
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), cwd)
    if not os.access(cwd, os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), cwd)
    yield cwd


def _has_threads() -> bool:
    threading = sys.modules.get("threading")
    return threading is not None and threading.active_count() > 1


@contextmanager
def _working_in(cwd: str) -> Iterator[None]:
    """Have this working directory for a moment.

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


# --------------------------------------------------------------------------------------------------- programs


def _program(name: str, environment: Mapping[bytes, bytes], cwd: str = "") -> str:
    """The path of a program: the first on the worker's own PATH that may be executed. Raises OSError for none.

    Relative paths are, and are taken, from `cwd`, or where that is empty from the working directory.
    """
    if "/" in name:
        return name
    found = errno.ENOENT
    for directory in os.fsdecode(environment.get(b"PATH", os.fsencode(os.defpath))).split(":"):
        path = f"{directory or '.'}/{name}"
        seen = os.path.join(cwd, path) if cwd else path  # noqa: PTH118
        if os.access(seen, os.X_OK) and not os.path.isdir(seen):  # noqa: PTH112
            return path
        if os.path.isfile(seen):  # noqa: PTH113
            found = errno.EACCES
    raise OSError(found, os.strerror(found), name)


def _refuse_unusable(path: str) -> None:
    """Raise OSError for a program that cannot be executed, while we can still tell: later only the worker's output
    does.
    """
    if stat.S_ISDIR(os.stat(path).st_mode) or not os.access(path, os.X_OK):  # noqa: PTH116
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _by_another(path: str, cwd: str, launch: Launch) -> tuple[str, list[str]]:
    """The program, and its arguments, that becomes the one at `path` once it is in `cwd` and has told the pid."""
    names = ",".join(launch.pid_names)
    if _is_plain(launch.environment) and os.access(_SHELL, os.X_OK):
        entering = ['cd "$1"', "shift"] if cwd else []
        script = " && ".join([*entering, *(f"export {name}=$$" for name in launch.pid_names), 'exec "$@"'])
        place = [cwd if cwd.startswith("/") else f"./{cwd}"] if cwd else []
        found = f"./{path}" if path.startswith("-") else path
        return _SHELL, ["sh", "-c", script, "sh", *place, found, *launch.argv[1:]]
    return sys.executable, [sys.executable, "-I", "-S", "-c", _PYTHON, names, cwd, path, *launch.argv]


_SHELL = "/bin/sh"

_PLAIN = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_OF_SHELLS = frozenset((b"IFS", b"LINENO", b"OPTIND", b"PPID", b"PS4", b"RANDOM", b"SECONDS", b"SHELLOPTS"))


def _is_plain(names: Iterable[bytes]) -> bool:
    """Whether a shell would pass on variables of these names as they are. (It sets PWD, and rightly.)"""
    return all(_PLAIN.fullmatch(name) for name in names) and _OF_SHELLS.isdisjoint(names)


_PYTHON = """
import os, signal, sys

names, cwd, path, *argv = sys.argv[1:]
with open("/proc/self/environ", "rb") as block:
    environment = dict(line.split(b"=", 1) for line in block.read().split(b"\\0") if b"=" in line[1:])
for name in filter(None, names.split(",")):
    environment[name.encode()] = b"%d" % os.getpid()
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
if cwd:
    os.chdir(cwd)
try:
    os.execve(path, argv, environment)
except OSError as error:
    sys.exit(f"{path}: {error.strerror}")
"""
"""What the shell does, for an environment that it would change. Python ignores two signals, which others must not."""
