"""The pipes in which workers tell that they can serve, as those of s6 do: by a newline.

Rule: one pipe for one incarnation, which is closed here as soon as it has nothing more to tell: after the newline, when
nobody else has it open, and at the end of the incarnation.
"""

import os
import select

_MOST = 4096  # bytes read at a time


class ReadyPipes:
    """The read ends of the pipes, by the uids of incarnations. They are registered in an epoll that is not ours."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._ends: dict[str, int] = {}
        self._uids: dict[int, str] = {}

    def open(self, uid: str) -> int:
        """A pipe for this incarnation: the end to write to, to be closed once the worker has it. Raises OSError."""
        self.drop(uid)
        read, write = os.pipe()
        try:
            os.set_blocking(read, False)
            self._epoll.register(read, select.EPOLLIN)
        except OSError:
            os.close(read)
            os.close(write)
            raise
        self._ends[uid], self._uids[read] = read, uid
        return write

    def read(self, fd: int) -> str | None:
        """Read from a pipe that has something to tell; the incarnation that can serve, if that is it."""
        uid = self._uids.get(fd)
        if uid is None:
            return None
        try:
            told = os.read(fd, _MOST)
        except BlockingIOError:
            return None
        if b"\n" in told:
            self.drop(uid)
            return uid
        if not told:
            self.drop(uid)
        return None

    def finish(self, uid: str) -> bool:
        """Close the pipe of an incarnation, if it has one; whether it told with its last words that it can serve."""
        fd = self._ends.get(uid)
        ready = fd is not None and self.read(fd) is not None
        self.drop(uid)
        return ready

    def drop(self, uid: str) -> None:
        """Close the pipe of an incarnation unread, if it has one."""
        fd = self._ends.pop(uid, None)
        if fd is not None:
            del self._uids[fd]
            self._epoll.unregister(fd)
            os.close(fd)

    def close(self) -> None:
        """Close them all. In a forked child it does the parent no harm, as it unregisters nothing."""
        for fd in self._uids:
            os.close(fd)
        self._ends.clear()
        self._uids.clear()
