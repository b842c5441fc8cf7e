"""The file that a worker's output goes to, from its FIFO, with an index of when and by which incarnation.

Rule: what a worker wrote is in its FIFO or in the file, at every instant: `splice` moves it inside the kernel, so that
a death of this process between reading and writing can neither lose nor double a line. What cannot be written stays in
the FIFO, and the caller decides.

The index has the inode of its log in its first line, and then lines OFFSET MILLISECONDS UID: who wrote what begins
there, and when at the earliest. An entry is written before what it tells of: when another incarnation begins to write,
and otherwise at most one each 100 ms.
"""

import errno
import fcntl
import os
import struct
import termios
import time
from contextlib import suppress

from reconciler.core.spec import Output
from reconciler.output.places import index_of, log_of, put_aside

BLOCK = 65536
"""How many bytes a FIFO holds, unless its worker asked for more."""

_MOST_AT_ONCE = 262_144  # more than there is, mostly: so that it ends where a write of the worker ended
_LONGEST_TAIL = 1 << 20  # bytes for which a line that does not end may delay the next file
_BETWEEN_ENTRIES = 100  # milliseconds
_NO_SPLICE = frozenset({errno.EINVAL, errno.ENOSYS})  # some file systems cannot


class LogFile:
    """The current log of one key. It is opened when something is to be written, and again whenever somebody moved or
    removed it.
    """

    def __init__(self, directory: str, key: str) -> None:
        self._directory, self._key = directory, key
        self._path = f"{directory}/{log_of(key)}"
        self._index = f"{directory}/{index_of(key)}"
        self._fd = -1
        self._inode = 0
        self._size = self._index_size = 0
        self._uid = ""  # who wrote the last byte, where that is known
        self._stamped = 0  # ms
        self._has_gap = False

    def take(self, fifo: int, uid: str, limits: Output) -> int:
        """Move what is in a FIFO, and return how many bytes that were: none when all its writers are gone.

        Raises BlockingIOError when it is empty, and another OSError when the file cannot take it.
        """
        self._prepare(uid, limits)
        try:
            is_full = self._size + self._index_size >= limits.max_size
            most = available(fifo) or _MOST_AT_ONCE if is_full else _MOST_AT_ONCE
            moved = os.splice(fifo, self._fd, most, flags=os.SPLICE_F_NONBLOCK)
        except OSError as error:
            if error.errno not in _NO_SPLICE:
                raise
            data = os.read(fifo, BLOCK)
            return self._write(data)
        self._size += moved
        return moved

    def put(self, data: bytes, uid: str, limits: Output) -> int:
        """Write what was read already, and return how many bytes of it were written. Raises OSError if none were."""
        self._prepare(uid, limits)
        return self._write(data)

    def begin_anew(self) -> None:
        """Something is missing from here on: what comes next begins on a line of its own."""
        self._has_gap = True

    def close(self) -> None:
        """Free its descriptor. What is written later opens it again."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _write(self, data: bytes) -> int:
        written = os.write(self._fd, data)
        self._size += written
        return written

    def _prepare(self, uid: str, limits: Output) -> None:
        """See to it that there is a file, not too large, whose index says that `uid` writes now."""
        now = time.time_ns() // 1_000_000
        is_due = self._has_gap or uid != self._uid or not 0 <= now - self._stamped < _BETWEEN_ENTRIES
        if is_due and self._fd >= 0:
            self._look()
        if self._fd < 0:
            self._open()
            is_due = True
        if self._size + self._index_size >= limits.max_size and self._may_end(limits.max_size):
            put_aside(self._directory, self._key, limits.max_files)
            self.close()
            self._open()
            is_due = True
        if is_due:
            self._stamp(uid, now)

    def _may_end(self, max_size: int) -> bool:
        return self._ends_a_line() or self._size >= max_size + _LONGEST_TAIL

    def _ends_a_line(self) -> bool:
        return not self._size or os.pread(self._fd, 1, self._size - 1) == b"\n"

    def _look(self) -> None:
        """Let go of a file that is no longer in its place, and follow one that was cut from outside."""
        with suppress(FileNotFoundError):
            there = os.lstat(self._path)
            if there.st_ino == self._inode and there.st_size == self._size:
                return
            if there.st_ino == self._inode:
                os.unlink(self._index)  # noqa: PTH108  it tells of what is no more
        self.close()

    def _open(self) -> None:
        os.makedirs(self._directory, 0o700, exist_ok=True)  # noqa: PTH103
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o600)
        self._inode = os.fstat(self._fd).st_ino
        self._size = os.lseek(self._fd, 0, os.SEEK_END)
        try:
            self._open_index()
        except OSError:
            self.close()
            raise

    def _open_index(self) -> None:
        """Find out who wrote last; begin a new index where there is none of this log."""
        head = b"inode %d\n" % self._inode
        fd = os.open(self._index, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._index_size = os.lseek(fd, 0, os.SEEK_END)
            last = os.pread(fd, 512, max(0, self._index_size - 512)).split()[-1:]
            if os.pread(fd, len(head), 0) != head:
                os.ftruncate(fd, 0)
                last, self._index_size = [], os.pwrite(fd, head, 0)
            self._uid = last[0].decode() if last else ""
        finally:
            os.close(fd)

    def _stamp(self, uid: str, now: int) -> None:
        if (self._has_gap or uid != self._uid) and not self._ends_a_line():
            self._write(b"\n")
        self._has_gap = False
        entry = b"%d %d %s\n" % (self._size, now, uid.encode())
        fd = os.open(self._index, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.write(fd, entry) < len(entry):
                os.ftruncate(fd, self._index_size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)
        self._index_size += len(entry)
        self._uid, self._stamped = uid, now


def available(fifo: int) -> int:
    """How many bytes are in a FIFO. They end where a write ended, while one that goes on might be cut anywhere."""
    (count,) = struct.unpack("i", fcntl.ioctl(fifo, termios.FIONREAD, bytes(4)))
    return int(count)
