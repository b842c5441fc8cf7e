"""Where a process belongs: its group, its session, and the processes that it descends from.

Rule: these are numbers, read at one moment. What is done because of them must be checked against a pidfd, or against a
number that cannot be given to a stranger meanwhile.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_DEEPEST = 64
"""How far up one looks: no worker has a tree of this depth, and the walk ends even if the tree changes under it."""


def numbers_of(pid: int) -> tuple[int, ...]:
    """The number of a process, of its group and of its session; only its own if there is no such process."""
    if pid <= 0:  # to the kernel that is ourselves
        return ()
    with suppress(OSError):
        return pid, os.getpgid(pid), os.getsid(pid)
    return (pid,)


def ancestors(pid: int) -> Iterator[int]:
    """The parent of a process, the parent's parent and so on, the first process of all left out."""
    for _ in range(_DEEPEST):
        pid = _parent(pid)
        if pid <= 1:
            return
        yield pid


def _parent(pid: int) -> int:
    """0 where there is none, or no such process."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    # The name of the program comes before, in parentheses, and may hold anything.
    return int(facts.rpartition(b")")[2].split()[1])
