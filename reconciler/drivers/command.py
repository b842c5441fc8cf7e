"""Local commands: the workers that spec files describe, started from `core.spec.Command` payloads.

Rule: a worker starts clean whatever the controller inherited: a session and a process group of its own, an empty
signal mask, default handlers, /dev/null as its input, the controller's output, and no other descriptor. There is no
shell, no thread, and no code of ours between fork and exec. What exec alone cannot clean, the controller puts right in
itself at start: `clean_signals` and `raise_file_limit`, which the command line calls.
"""

import contextlib
import errno
import os
import resource
import signal
import subprocess
from types import FrameType

from reconciler.core import template
from reconciler.core.spec import Command, Key, WorkerSpec
from reconciler.drivers.process import ProcessTable

# What a service manager told the controller, and means for it alone.
_PRIVATE = (b"NOTIFY_SOCKET", b"LISTEN_FDS", b"LISTEN_PID", b"LISTEN_FDNAMES", b"WATCHDOG_USEC", b"WATCHDOG_PID")

Limit = tuple[int, int]
"""A soft and a hard limit, in descriptors."""


class CommandDriver(ProcessTable):
    """Starts local commands. Its environment, less what a service manager put there for it, is that of its start.

    `file_limit` is what workers get as their limit of open files instead of the controller's own: the answer of
    `raise_file_limit`. It reaches a worker some microseconds after its exec. `reap_strangers` is for a controller that
    runs as PID 1 or as a subreaper, in a process where nobody else starts children.
    """

    def __init__(self, *, file_limit: Limit | None = None, reap_strangers: bool = False) -> None:
        super().__init__(reap_strangers=reap_strangers)
        self._file_limit = file_limit
        # As bytes, since encoding it anew takes longer than all else that is done for a start here.
        self._environment = {name: value for name, value in os.environb.items() if name not in _PRIVATE}
        self._null = os.open(os.devnull, os.O_RDONLY)

    def start(self, uid: str, set_name: str, spec: WorkerSpec) -> None:
        """See `Driver`. Stages of a failure: arguments, cwd, exec, fork, descriptors, unexpected."""
        cwd = None
        try:
            names = _names(set_name, spec.key)
            command: Command = spec.payload
            argv = [template.render(word, **names) for word in command.command]
            cwd = template.render(command.cwd, **names) or "."
            pid = self._spawn(argv, cwd, self._environment_of(uid, command, names))
        except OSError as error:
            self._fail(uid, _stage(error, cwd), error)
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

    def _spawn(self, argv: list[str], cwd: str, environment: dict[bytes, bytes]) -> int:
        process = subprocess.Popen(argv, cwd=cwd, env=environment, stdin=self._null, start_new_session=True)
        # Told that it ended, it waits for nothing: else the next Popen would, and take the status from our pidfd.
        process.returncode = 0
        if self._file_limit is not None:
            with contextlib.suppress(OSError):  # a set-uid program, or one that has ended
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, self._file_limit)
        return process.pid

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
    """Make sure that workers start with an empty signal mask and default handlers, whatever we inherited.

    A blocked signal would stay blocked over fork and exec, an ignored one (nohup, a shell's background job) ignored.
    Such a signal is caught from now on and dropped: the controller still does not mind it, and exec resets what is
    caught. SIGCHLD gets its default, without which the kernel would keep no status for us. To be called at start, in
    the main thread and before there are others.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # PIPE and XFSZ are ignored by Python itself, and reset by Popen.
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else _drop)


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


def _drop(number: int, frame: FrameType | None) -> None:
    pass


def _names(set_name: str, key: object) -> dict[str, str]:
    """What the placeholders stand for. A key that is not of a spec file is its own index."""
    if isinstance(key, Key):
        return {"name": key.name, "index": str(key.number), "key": str(key)}
    return {"name": set_name, "index": str(key), "key": str(key)}


def _stage(error: OSError, cwd: str | None) -> str:
    """Where a start failed. Only the child's errors name a file: the directory, or the program."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "descriptors"
    if error.filename is None:
        return "fork"
    return "cwd" if error.filename == cwd else "exec"
