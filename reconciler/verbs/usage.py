"""What processes use, from /proc: the share of a processor, and memory.

Rule: a process that is gone, or that hides, uses nothing that could be told. Only the process itself is looked at, not
its children.
"""

import os
from typing import NamedTuple

_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """The share of one processor in percent, and resident memory in bytes."""

    cpu: float
    memory: int


class Meter:
    """Looks at processes. The first time the share is that of a whole life, later that since the last time."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, float, float]] = {}

    def read(self, pid: int, now: float) -> Usage | None:
        """What it uses at `now` (seconds, monotonic since the start of the machine); None if it is gone."""
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return None
        born, spent = int(fields[19]), (int(fields[11]) + int(fields[12])) / _TICKS
        before, seen, then = self._last.get(pid, (born, 0.0, born / _TICKS))
        if before != born:  # another process by now
            seen, then = 0.0, born / _TICKS
        self._last[pid] = (born, spent, now)
        return Usage(100 * (spent - seen) / max(now - then, 1 / _TICKS), int(fields[21]) * _PAGE)
