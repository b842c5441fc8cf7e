"""Locks on directories, by which there is one controller and not two.

Rule: the lock is the kernel's (flock), so that it goes with its holder however that ends; nothing is read from a file
that could be stale. Who holds it is asked of the kernel too.
"""

import fcntl
import os

from reconciler.hygiene import let_go_in_children


class TakenError(Exception):
    """Another controller has it. `pid` is its process, None where the kernel does not tell."""

    def __init__(self, path: str, pid: int | None) -> None:
        who = "another controller" if pid is None else f"the controller with pid {pid}"
        super().__init__(f"{who} runs {path} already; stop it first, or name another directory")
        self.path = path
        self.pid = pid


class Lock:
    """A directory that is ours until `close`, or until this process ends. A forked child does not keep it.

    Raises TakenError, and OSError where it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _holder(self._fd)
            os.close(self._fd)
            raise TakenError(path, pid) from None
        except BaseException:
            os.close(self._fd)
            raise
        let_go_in_children(self, Lock.close)

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _holder(fd: int) -> int | None:
    """The process that locked this file, by the kernel's list, lines like "1: FLOCK ADVISORY WRITE 42 08:01:99 0"."""
    found = os.fstat(fd)
    mark = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        with open("/proc/locks", encoding="ascii") as lines:  # noqa: PTH123
            words = [line.split() for line in lines]
    except OSError:
        return None
    pids = [int(row[4]) for row in words if len(row) > 5 and row[1] == "FLOCK" and row[5] == mark]  # noqa: PLR2004
    return next((pid for pid in pids if pid > 0), None)
