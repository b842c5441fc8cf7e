"""What workers write to stdout and stderr, on its way to those of this process, line by line.

Rule: a worker never waits because our reader is slow or gone. Its pipes are always read; what the reader has no room
for waits in a queue of bounded size, and beyond that whole lines are dropped and counted. Lines are never mixed, and
they are bytes: nothing is decoded, so that nothing can be wrong with them.

Nothing here is done for each line: a block goes out as it came in, up to its last newline.
"""

import errno
import os
import select
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from reconciler.core import event
from reconciler.core.event import Event
from reconciler.hygiene import let_go_in_children
from reconciler.lines import writer_of

LONGEST_LINE = 65536
"""Bytes without the newline. A longer line is cut there, and goes on in the next one."""

LARGEST_QUEUE = 8 << 20
"""Bytes that wait for a slow reader, for each of the two streams."""

_BLOCK = 65536  # what a pipe holds
_BATCH = 64  # pipes read in one pump; the descriptor stays readable if there are more
_LAST_READS = 32  # of a pipe at the end: more than any holds, unless somebody goes on writing

_MAY_PASS = frozenset({errno.ENOSPC, errno.EDQUOT})


class Relay:
    """Pipes for the output of workers, and the way from there to the descriptors `out` and `err`.

    Call `pump` whenever `fileno` is readable. In a forked child it is closed, and what it still held is left to the
    parent.
    """

    def __init__(self, out: int = 1, err: int = 2) -> None:
        self._streams = {1: _Stream("stdout", out), 2: _Stream("stderr", err)}  # before a closed one's number is reused
        self._epoll = select.epoll()
        self._pipes: dict[int, _Pipe] = {}
        self._watched: set[int] = set()  # what has no room
        let_go_in_children(self, Relay._let_go)

    def pipe(self, stream: Literal[1, 2]) -> int:
        """Make a pipe for the stdout (1) or stderr (2) of a worker, and return the end to write to. The caller closes
        it once the worker has it. Raises OSError for want of descriptors.
        """
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            os.set_blocking(ours, False)
            self._epoll.register(ours, select.EPOLLIN)
        except BaseException:
            os.close(ours)
            os.close(theirs)
            raise
        self._pipes[ours] = _Pipe(self._streams[stream])
        return theirs

    def fileno(self) -> int:
        """Readable when workers wrote, or closed their ends, or when a reader that was full has room again."""
        return self._epoll.fileno()

    def pump(self) -> Sequence[Event]:
        """Pass on what is there, a bounded amount at a time, and return the events to tell. It never waits."""
        if self._epoll.closed:
            return ()
        for fd, _ in self._epoll.poll(0, _BATCH):
            if fd in self._pipes:
                self._read(fd)
        for stream in self._streams.values():
            stream.flush()
        self._watch()
        return [told for stream in self._streams.values() for told in stream.events()]

    def close(self) -> Sequence[Event]:
        """Pass on what is still in the pipes as far as there is room, and close them, also those that a process left
        over by a worker still has. Returns the events to tell. Asked again it does nothing.
        """
        if self._epoll.closed:
            return ()
        for fd in tuple(self._pipes):
            for _ in range(_LAST_READS):
                if not self._read(fd):
                    break
            if fd in self._pipes:
                self._end(fd)
        self._epoll.close()
        for stream in self._streams.values():
            stream.flush()
            stream.give_up()
        return [told for stream in self._streams.values() for told in stream.events()]

    def _read(self, fd: int) -> bool:
        """Read once. Whether there may be more."""
        pipe = self._pipes[fd]
        try:
            data = os.read(fd, LONGEST_LINE + 1 - len(pipe.rest))
        except BlockingIOError:
            return False
        if not data:
            self._end(fd)
            return False
        pipe.take(data)
        return True

    def _end(self, fd: int) -> None:
        self._pipes.pop(fd).end()
        self._epoll.unregister(fd)  # closing is not enough where a forked process has it still
        os.close(fd)

    def _watch(self) -> None:
        """Watch the readers that have no room, and no others: one that is gone would be readable all the time."""
        wanted = {stream.writer.fileno() for stream in self._streams.values() if stream.waits}
        for fd in self._watched - wanted:
            self._epoll.unregister(fd)
        self._watched &= wanted
        for fd in wanted - self._watched:
            with suppress(OSError):  # what cannot be watched is tried again with the next output
                self._epoll.register(fd, select.EPOLLOUT)
                self._watched.add(fd)

    def _let_go(self) -> None:
        self._epoll.close()
        for fd in self._pipes:
            with suppress(OSError):
                os.close(fd)
        self._pipes.clear()


class _Pipe:
    """One pipe: where its lines go, and the beginning of a line whose end has not come yet."""

    def __init__(self, stream: "_Stream") -> None:
        self.rest = b""
        self._stream = stream

    def take(self, data: bytes) -> None:
        """Add what was read, with which `rest` is no longer than the longest line and one byte."""
        data = self.rest + data
        end = data.rfind(b"\n") + 1
        if end or len(data) <= LONGEST_LINE:
            lines, self.rest = data[:end], data[end:]
        else:
            lines, self.rest = data[:LONGEST_LINE] + b"\n", data[LONGEST_LINE:]
        self._stream.add(lines)

    def end(self) -> None:
        """Nothing more comes: the last line is whole, even without a newline."""
        if self.rest:
            self._stream.add(self.rest + b"\n")


class _Stream:
    """One of our two outputs: the queue before it, and the count of what was lost.

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
