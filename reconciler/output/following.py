"""The bell at the files of workers' output, for who follows them.

Rule: as at the spec directory, it rings and says no more, and the reader looks at everything again. Only the files of
the keys that are followed ring, and what is made or moved in their directory. Kernels before 6.7 do not ring for what
`splice` writes, though for the index; so there is a look each second besides.
"""

import ctypes
import os
import select
from collections.abc import Sequence
from contextlib import suppress

from watchdog.observers.inotify_c import (
    InotifyConstants,
    Mask,
    inotify_add_watch,
    inotify_init,
)

from reconciler.output.places import index_of, log_of

_DIRECTORY = Mask(
    InotifyConstants.IN_CREATE | InotifyConstants.IN_MOVE | InotifyConstants.IN_DELETE | InotifyConstants.IN_ONLYDIR
)
_FILE = Mask(InotifyConstants.IN_MODIFY)
_PERIOD_MS = 1000


class Bell:
    """Rings when something may have been written for one of the keys. Raises OSError."""

    def __init__(self, directory: str, keys: Sequence[str]) -> None:
        self._files = [f"{directory}/{name_of(key)}" for key in keys for name_of in (log_of, index_of)]
        self._queue = inotify_init()
        if self._queue == -1:
            raise _last_error()
        os.set_inheritable(self._queue, False)  # noqa: FBT003  # it takes no keyword
        os.set_blocking(self._queue, False)
        self._poller = select.poll()
        self._poller.register(self._queue, select.POLLIN)
        if inotify_add_watch(self._queue, os.fsencode(directory), _DIRECTORY) == -1:
            error = _last_error()
            self.close()
            raise error
        self._watch()

    def wait(self) -> None:
        """Wait until it rang since the last time."""
        if self._poller.poll(_PERIOD_MS):
            with suppress(BlockingIOError):
                os.read(self._queue, 65536)
        self._watch()

    def close(self) -> None:
        """Free its descriptor."""
        os.close(self._queue)

    def _watch(self) -> None:
        """Watch the files that are the current ones now; one that is watched already stays so."""
        for path in self._files:
            inotify_add_watch(self._queue, os.fsencode(path), _FILE)  # one that is not there is found when it is made


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
