"""The file of one key, which may fail: its disk may be full, or its directory gone.

Rule: a file that cannot be written never holds up a worker. What comes meanwhile is read, dropped and counted; it is
tried again with what comes later, and then begins on a line of its own.
"""

import errno
import os
from contextlib import suppress

from reconciler.core import event
from reconciler.core.event import Event
from reconciler.core.spec import Output
from reconciler.output.logfile import BLOCK, LogFile

_BETWEEN_TRIES = 0.5  # seconds

_REASONS = {
    errno.ENOSPC: "DiskFull",
    errno.EDQUOT: "QuotaExceeded",
    errno.EFBIG: "FileTooLarge",
    errno.EROFS: "ReadOnly",
    errno.EACCES: "PermissionDenied",
    errno.EPERM: "PermissionDenied",
    errno.EMFILE: "TooManyFiles",
    errno.ENFILE: "TooManyFiles",
    errno.EIO: "DiskError",
}


def reason_of(error: OSError) -> str:
    """Why something failed, in one word."""
    return _REASONS.get(error.errno or 0, "WriteFailed")


class Sink:
    """Where the output of all incarnations of a key goes in mode `file`."""

    def __init__(self, directory: str, set_name: str, key: str) -> None:
        self.reason: str | None = None
        """Why nothing can be written at the moment."""
        self._set_name, self._key = set_name, key
        self._file = LogFile(directory, key)
        self._lost = 0  # lines, since it began to fail
        self._again = 0.0
        self._fifos: set[int] = set()
        self._cut: set[int] = set()  # FIFOs that stand in the middle of a line of which something was dropped
        self._events: list[Event] = []

    def take(self, fifo: int, uid: str, limits: Output, now: float) -> int:
        """Take what is in a FIFO, and return how many bytes that were: none when all its writers are gone.

        Raises BlockingIOError when it is empty.
        """
        self._fifos.add(fifo)
        if self.reason is not None and now < self._again:
            return len(self._drop(fifo))
        try:
            moved = self._mend(fifo, uid, limits) if fifo in self._cut else self._file.take(fifo, uid, limits)
        except BlockingIOError:
            raise
        except OSError as error:
            self._fail(error, now)
            return len(self._drop(fifo))
        if moved and self.reason is not None:
            self.reason = None
            self._tell(event.OUTPUT_RECOVERED, extra={"count": self._lost})
            self._lost = 0
        return moved

    def ended(self, fifo: int) -> bool:
        """This FIFO is no more. Whether none is left that wrote something."""
        self._cut.discard(fifo)
        self._fifos.discard(fifo)
        return not self._fifos

    def let_go(self) -> None:
        """In a forked child: free what it has open."""
        self._file.close()

    def close(self) -> None:
        """Free what it has open, and tell what is lost for good."""
        self._file.close()
        if self._lost:
            self._tell(event.OUTPUT_DROPPED, extra={"count": self._lost, "stream": "file"})
            self._lost = 0

    def events(self) -> list[Event]:
        """What is to be told since it was last asked."""
        events, self._events = self._events, []
        return events

    def _mend(self, fifo: int, uid: str, limits: Output) -> int:
        """Go on with the first whole line. It was read to be found, so that it is written and not spliced."""
        data = self._drop(fifo, whole=False)
        rest = data[data.find(b"\n") + 1 :] if fifo not in self._cut else b""
        written = 0
        try:
            while written < len(rest):
                written += self._file.put(rest[written:], uid, limits)
        except OSError:
            self._count(fifo, rest[written:])
            raise
        return len(data)

    def _drop(self, fifo: int, *, whole: bool = True) -> bytes:
        """Read and drop: all of it, or up to the end of the first line."""
        data = os.read(fifo, BLOCK)
        end = len(data) if whole else data.find(b"\n") + 1 or len(data)
        self._count(fifo, data[:end])
        return data

    def _count(self, fifo: int, dropped: bytes) -> None:
        if dropped:
            self._lost += dropped.count(b"\n")
            (self._cut.discard if dropped.endswith(b"\n") else self._cut.add)(fifo)

    def _fail(self, error: OSError, now: float) -> None:
        self._again = now + _BETWEEN_TRIES
        self._file.begin_anew()
        with suppress(OSError):
            self._file.close()  # the next try finds out whether the file is still in its place
        if self.reason is None:
            self.reason = reason_of(error)
            self._tell(event.OUTPUT_DEGRADED, self.reason, {"message": str(error)})

    def _tell(self, name: str, reason: str | None = None, extra: dict[str, object] | None = None) -> None:
        self._events.append(Event(name, self._key, self._set_name, reason=reason, extra=extra or {}))
