"""Lines in blocks, and the queue before a reader of ours who may be slow or gone.

Rule: nothing here waits and nothing grows without bound: a line is cut at `LONGEST_LINE`, a queue ends at
`LARGEST_QUEUE`, and what finds no room is dropped line by line and counted.
"""

import errno
import select
from collections.abc import Iterable, Sequence
from contextlib import suppress

from reconciler.core import event
from reconciler.core.event import Event
from reconciler.lines import writer_of

LONGEST_LINE = 65536
"""Bytes without the newline. A longer line is cut there, and goes on in the next one."""

LARGEST_QUEUE = 8 << 20
"""Bytes that wait for a slow reader, for each of our streams."""

_BLOCK = 65536  # what a pipe holds

_MAY_PASS = frozenset({errno.ENOSPC, errno.EDQUOT})


class Cutter:
    """Makes whole lines of what is read in blocks; it keeps the beginning of a line whose end has not come yet."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def room(self) -> int:
        """How many bytes it can take at once."""
        return LONGEST_LINE + 1 - len(self._rest)

    def take(self, data: bytes) -> bytes:
        """Add what was read, no more than there is room for; the lines that are whole now."""
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        if end or len(data) <= LONGEST_LINE:
            lines, self._rest = data[:end], data[end:]
        else:
            lines, self._rest = data[:LONGEST_LINE] + b"\n", data[LONGEST_LINE:]
        return lines

    def end(self) -> bytes:
        """Nothing more comes: the last line is whole, even without a newline."""
        rest, self._rest = self._rest, b""
        return rest + b"\n" if rest else b""


class Room:
    """Watches by an epoll for room in those streams that wait for it, and no others: a reader that is gone would be
    readable all the time.
    """

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._watched: set[int] = set()

    def watch(self, streams: Iterable["Stream"]) -> None:
        """Watch those of all the streams that wait now."""
        wanted = {stream.writer.fileno() for stream in streams if stream.waits}
        for fd in self._watched - wanted:
            self._epoll.unregister(fd)
        self._watched &= wanted
        for fd in wanted - self._watched:
            with suppress(OSError):  # what cannot be watched is tried again with the next output
                self._epoll.register(fd, select.EPOLLOUT)
                self._watched.add(fd)


class Stream:
    """One of our own outputs: the queue before it, and the count of what was lost.

    A loss is told when it begins, whenever it has doubled, and when it is over: so a reader that is always too slow
    makes few events, and every lost line is counted in one of them.
    """

    def __init__(self, name: str, fd: int) -> None:
        self.writer = writer_of(fd)
        self.waits = False  # for a room that an epoll can tell of
        self._name = name
        self._queue = bytearray()
        self._lost = 0  # and not told
        self._told = 0  # since the loss began
        self._flows = True

    def add(self, lines: bytes) -> None:
        """Queue these lines, as many as find room."""
        if len(self._queue) + len(lines) > LARGEST_QUEUE:
            self.flush()
        room = LARGEST_QUEUE - len(self._queue)
        if len(lines) > room:
            end = lines.rfind(b"\n", 0, room) + 1
            self._lost += lines.count(b"\n", end)
            lines = lines[:end]
        self._queue += lines
        if len(self._queue) >= _BLOCK and not self.waits:
            self.flush()

    def flush(self) -> None:
        """Write what there is room for."""
        self.waits = False
        if not self._queue and not self.writer.unfinished:
            return
        start = 0
        self._flows = False
        try:
            while start < len(self._queue):
                start += self.writer.put(self._queue, start)
            self.writer.finish()
            self._flows = True
        except BlockingIOError:
            self.waits = True
        except OSError as error:  # a full disk may have room again, but no reader comes back
            if error.errno not in _MAY_PASS:
                self._drop(start)
                return
        del self._queue[:start]

    def give_up(self) -> None:
        """Drop what still waits."""
        self._drop(0)
        self._flows = True

    def events(self) -> Sequence[Event]:
        """What is to be told of lost lines."""
        events: list[Event] = []
        if self._lost and (self._flows or self._lost >= self._told):
            events.append(Event(event.OUTPUT_DROPPED, extra={"count": self._lost, "stream": self._name}))
            self._told += self._lost
            self._lost = 0
        if self._flows:
            self._told = 0
        return events

    def _drop(self, start: int) -> None:
        self._lost += self._queue.count(b"\n", start)
        self._queue.clear()
