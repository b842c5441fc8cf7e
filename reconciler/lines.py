"""Lines on their way out of this process, to a descriptor that others write to as well.

Rule: whoever reads is never a danger, and nothing of the descriptor is changed for others. What cannot be written now
is refused, never waited for; and no line is begun before the last one is finished, whoever in this process wrote that.
"""

import errno
import os
import select
import signal
import stat
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from reconciler.hygiene import let_go_in_children

LONGEST = 4096
"""Bytes; POSIX keeps writes to a pipe whole up to this size on Linux."""

_Data = bytes | bytearray
_Send = Callable[[int, _Data], int]


def writer_of(fd: int) -> "LineWriter":
    """The one writer of this process for what `fd` leads to, so that nobody here breaks the line of another.

    Descriptors that lead to the same pipe, socket or terminal, as after `2>&1`, have one writer together.
    """
    try:
        status = os.fstat(fd)
    except OSError:
        return LineWriter(fd)
    # Two descriptors of one file may have a position each, so that neither can stand for the other.
    place = (status.st_dev, status.st_ino, fd if stat.S_ISREG(status.st_mode) else -1)
    writer = _writers.get(place)
    if writer is None:
        writer = _writers[place] = LineWriter(fd)
    return writer


_writers: "weakref.WeakValueDictionary[tuple[int, int, int], LineWriter]" = weakref.WeakValueDictionary()


class LineWriter:
    """Writes lines to a descriptor that other processes share, without ever waiting for it.

    The descriptor's own flags are left alone: O_NONBLOCK would be seen by everyone who shares it. A pipe or terminal is
    opened a second time instead, a socket is told with each send, and a file never blocks. In a forked child it begins
    anew, with nothing left to finish, and with what the descriptor leads to there.
    """

    def __init__(self, fd: int) -> None:
        self._given = fd
        self._rest = b""
        self._choose()

    def write(self, line: bytes) -> bool:
        """Whether the whole line was written, or will be as the beginning of the next write."""
        try:
            self.put(line)
        except OSError:  # no room, no reader, no disk: whatever it is, the line is lost and the caller goes on
            return False
        return True

    def put(self, lines: _Data, start: int = 0) -> int:
        """Write some of these lines, from `start` on, and return how many bytes of them were taken: one line at least,
        and no more than stay whole among the writes of other processes, where that can be had.

        Of a line that found room in part the rest is taken too, and goes first the next time. Raises BlockingIOError
        where there is no room, and another OSError where there is no reader, no disk or no descriptor.
        """
        self.finish()
        end = self._end_of_piece(lines, start)
        sent = start + self._send(self._fd, lines[start:end])
        if sent < end:
            end = lines.find(b"\n", max(start, sent - 1), end) + 1 or end
            self._rest = bytes(lines[sent:end])
        return end - start

    def finish(self) -> None:
        """Write the rest of a line that found room in part. Raises OSError as `put` does, and keeps it then."""
        if self._begins_anew:
            self._choose()
        if self._rest:
            self._rest = self._rest[self._send(self._fd, self._rest) :]
            if self._rest:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    @property
    def unfinished(self) -> bool:
        """Whether there is a rest to be finished."""
        return bool(self._rest)

    def fileno(self) -> int:
        """What is writable when there is room again; an epoll refuses it where that is always so."""
        return self._fd

    def _end_of_piece(self, lines: _Data, start: int) -> int:
        if len(lines) - start <= self._piece:
            return len(lines)
        return lines.rfind(b"\n", start, start + self._piece) + 1 or lines.find(b"\n", start) + 1 or len(lines)

    def _choose(self) -> None:
        """How to write, by what the descriptor leads to."""
        self._begins_anew = False
        self._fd, self._piece = self._given, LONGEST
        self._send: _Send = os.write
        self._close: Callable[[], Any] = _nothing_to_close
        let_go_in_children(self, LineWriter._let_go)
        try:
            mode = os.fstat(self._given).st_mode
        except OSError:
            self._fd = -1  # whoever gets this number later, it is not for us
            return
        if stat.S_ISREG(mode):
            self._piece = sys.maxsize  # a write to a file is whole, whatever its length
            return
        try:
            self._open(stat.S_ISSOCK(mode))
        except OSError:  # another user's, say
            self._send = _when_ready
            with suppress(OSError):
                self._own(os.dup(self._given))

    def _open(self, is_socket: bool) -> None:  # noqa: FBT001
        if is_socket:
            import socket  # noqa: PLC0415  only a socket needs it

            connection = socket.socket(fileno=os.dup(self._given))
            self._fd, self._send = connection.fileno(), lambda _, data: connection.send(data, socket.MSG_DONTWAIT)
            self._close = weakref.finalize(self, connection.close)
            return
        self._own(os.open(f"/proc/self/fd/{self._given}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
        if os.isatty(self._fd):
            self._send = _to_terminal

    def _own(self, fd: int) -> None:
        self._fd, self._close = fd, weakref.finalize(self, os.close, fd)

    def _let_go(self) -> None:
        """In a forked child: what the parent has begun it finishes itself."""
        _writers.clear()  # a descriptor leads elsewhere by now, perhaps
        self._rest = b""
        self._begins_anew = True
        self._close()


def _nothing_to_close() -> None:
    pass


def _to_terminal(fd: int, data: _Data) -> int:
    """In the background of a terminal with `stty tostop` a write is answered by TTOU, unless that is blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        return os.write(fd, data)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _when_ready(fd: int, data: _Data) -> int:
    """For what cannot be opened again: a pipe with room takes `LONGEST` bytes without blocking."""
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    if not poller.poll(0):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return os.write(fd, data[:LONGEST])
