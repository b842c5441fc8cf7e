"""How many descriptors this process may still open.

Rule: some are left to the rest of the process, its files, its imports and its clients: what would take the last ones is
refused before it has begun.
"""

import os
import resource

_SPARE = 16


class Room:
    """The room for descriptors, by the limit that is in force when this is made."""

    def __init__(self) -> None:
        self._most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def is_left(self, fd: int) -> bool:
        """Whether one more thing may be opened; `fd` is any descriptor that is open."""
        lowest = os.dup(fd)
        os.close(lowest)
        return lowest < self._most - _SPARE
