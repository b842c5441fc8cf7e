"""What workers write to stdout and stderr, on its way to those of this process, line by line.

Rule: a worker never waits because our reader is slow or gone. Its pipes are always read; what the reader has no room
for waits in a queue of bounded size, and beyond that whole lines are dropped and counted. Lines are never mixed, and
they are bytes: nothing is decoded, so that nothing can be wrong with them.

Nothing here is done for each line: a block goes out as it came in, up to its last newline.
"""

import os
import select
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from reconciler.core.event import Event
from reconciler.hygiene import let_go_in_children
from reconciler.output.streams import Cutter, Room, Stream

_BATCH = 64  # pipes read in one pump; the descriptor stays readable if there are more
_LAST_READS = 32  # of a pipe at the end: more than any holds, unless somebody goes on writing


class Relay:
    """Pipes for the output of workers, and the way from there to the descriptors `out` and `err`.

    Call `pump` whenever `fileno` is readable. In a forked child it is closed, and what it still held is left to the
    parent.
    """

    def __init__(self, out: int = 1, err: int = 2) -> None:
        self._streams = {1: Stream("stdout", out), 2: Stream("stderr", err)}  # before a closed one's number is reused
        self._epoll = select.epoll()
        self._pipes: dict[int, _Pipe] = {}
        self._room = Room(self._epoll)
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
        self._room.watch(self._streams.values())
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
            data = os.read(fd, pipe.cutter.room)
        except BlockingIOError:
            return False
        if not data:
            self._end(fd)
            return False
        pipe.stream.add(pipe.cutter.take(data))
        return True

    def _end(self, fd: int) -> None:
        pipe = self._pipes.pop(fd)
        pipe.stream.add(pipe.cutter.end())
        self._epoll.unregister(fd)  # closing is not enough where a forked process has it still
        os.close(fd)

    def _let_go(self) -> None:
        self._epoll.close()
        for fd in self._pipes:
            with suppress(OSError):
                os.close(fd)
        self._pipes.clear()


class _Pipe:
    """One pipe: where its lines go, and how they are told apart."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.cutter = Cutter()
