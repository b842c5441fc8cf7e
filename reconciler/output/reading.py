"""The lines that workers wrote into files, for whoever asks: of many keys, in the order of time, and as they come.

Rule: what is read is derived from what is there now. Files are known by their inodes and not by their names, so that
one that is put aside meanwhile is read to its end and followed by the next one; and memory is bounded, whatever the
size of the files, but for the lines that `tail` asks for.

This runs in the process of the reader, and imports nothing that takes time.
"""

import heapq
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from reconciler.output.places import index_of, log_of, numbers_of

if TYPE_CHECKING:
    from reconciler.output.following import Bell

LONGEST = 1 << 20
"""Bytes without the newline. A longer line is given in pieces."""

_BLOCK = 1 << 16
_MOST_FILES = 101


class Line(NamedTuple):
    """A line without its newline: when it was written (Unix seconds), by the worker of which key, and by which of its
    incarnations ("" where that is not known).
    """

    time: float
    key: str
    uid: str
    data: bytes


def lines_of(  # noqa: PLR0913  what `logs` can be asked for
    directory: str,
    keys: Sequence[str],
    *,
    since: float | None = None,
    tail: int | None = None,
    previous: bool = False,
    follow: bool = False,
) -> Iterator[Line]:
    """The lines of these keys, merged by time: those written at `since` (Unix seconds) or later, of those the last
    `tail` of all keys together. With `previous` only those of each key's last incarnation but one; with `follow` all
    that come later too, without end. Lines written within 100 ms are in order for each key, but not among keys.
    """
    with ExitStack() as opened:
        bell = opened.enter_context(_bell(directory, keys)) if follow else None  # before the first look
        last = None if previous else tail
        cursors = [opened.enter_context(closing(Cursor(directory, key, since, last))) for key in keys]
        wanted = {key: previous_of(directory, key) for key in keys} if previous else None
        lines: Iterable[Line] = heapq.merge(*(cursor.lines(whole=follow) for cursor in cursors), key=_by_time)
        lines = (
            line
            for line in lines
            if (since is None or line.time >= since) and (wanted is None or line.uid == wanted[line.key])
        )
        yield from lines if tail is None else deque(lines, tail)
        while bell is not None and not previous:
            bell.wait()
            yield from heapq.merge(*(cursor.lines(whole=True) for cursor in cursors), key=_by_time)


def _bell(directory: str, keys: Sequence[str]) -> "closing[Bell]":
    from reconciler.output.following import Bell  # noqa: PLC0415  only who follows needs inotify

    return closing(Bell(directory, keys))


def previous_of(directory: str, key: str) -> str | None:
    """The uid of the incarnation that wrote before the last one, if that is known."""
    order: dict[str, None] = {}
    for number in reversed(numbers_of(directory, key)):
        with suppress(FileNotFoundError), open(f"{directory}/{index_of(key, number)}", "rb") as file:  # noqa: PTH123
            for _, _, uid in filter(None, map(_entry, file)):
                if uid in order and next(reversed(order)) != uid:
                    del order[uid]
                order[uid] = None
    return [None, None, *order][-2]


class Cursor:
    """A place in the files of one key. `lines` goes on where it stopped the last time."""

    def __init__(self, directory: str, key: str, since: float | None, tail: int | None) -> None:
        self._directory, self._key = directory, key
        self._log: BinaryIO | None = None
        self._inode = self._offset = 0
        self._index = _Index(None, 0.0)
        self._rest = bytearray()
        self._began = (0.0, "")  # the line of which `rest` is the beginning
        there = numbers_of(directory, key)
        numbers = [number for number in there if self._changed(number) >= (since or 0.0)] or there[:1]
        if tail is not None:
            self._begin_at_tail(numbers, tail)
        elif numbers:
            self._open(numbers[-1])

    def lines(self, *, whole: bool) -> Iterator[Line]:
        """What there is at this moment; a line without an end only where it must not be `whole`."""
        for _ in range(_MOST_FILES):  # one that is written faster than it is read must not be read for ever
            newer = self._newer()  # before reading: once there is a newer one, this one is complete
            yield from self._lines_of_file()
            if newer is None or not self._open(newer):
                break
        if self._rest and not whole:
            yield self._line(bytes(self._rest))
            self._rest.clear()

    def close(self) -> None:
        """Free what is open."""
        self._index.close()
        if self._log is not None:
            self._log.close()

    def _lines_of_file(self) -> Iterator[Line]:
        if self._log is None:
            return
        end = os.fstat(self._log.fileno()).st_size
        if end < self._offset:  # somebody cut it
            self._offset = self._log.seek(0)
        while self._offset < end:
            piece = self._log.readline(LONGEST - len(self._rest) + 1)
            if not piece:
                return
            if not self._rest:
                self._began = self._index.at(self._offset)
            self._offset += len(piece)
            self._rest += piece
            if piece.endswith(b"\n"):
                yield self._line(bytes(self._rest[:-1]))
            elif len(self._rest) > LONGEST:
                yield self._line(bytes(self._rest))
            else:
                continue  # at the end of what is there now
            self._rest.clear()

    def _line(self, data: bytes) -> Line:
        time, uid = self._began
        return Line(time, self._key, uid, data)

    def _newer(self) -> int | None:
        """The number of the file after this one, if there is one."""
        if self._log is not None and self._inode_of(0) == self._inode:
            return None
        numbers = numbers_of(self._directory, self._key)
        for number in numbers if self._log is not None else ():
            if self._inode_of(number) == self._inode:
                return max((each for each in numbers if each < number), default=None)
        return max(numbers, default=None)  # it is gone: the oldest one comes next

    def _begin_at_tail(self, numbers: Sequence[int], tail: int) -> None:
        """Go to where at least so many lines are left, or to the first one."""
        found = 0
        for number in numbers:
            if not self._open(number) or self._log is None:
                continue
            end = self._log.seek(0, os.SEEK_END)
            while end:
                begin = max(0, end - _BLOCK)
                self._log.seek(begin)
                block = self._log.read(end - begin)
                count = block.count(b"\n")
                if found + count > tail:
                    at = len(block)
                    for _ in range(tail + 1 - found):
                        at = block.rindex(b"\n", 0, at)
                    self._offset = self._log.seek(begin + at + 1)
                    return
                found, end = found + count, begin
            self._log.seek(0)

    def _open(self, number: int) -> bool:
        """Go to the beginning of the file of this number. It may be another one by now, and then so be it."""
        try:
            log = open(f"{self._directory}/{log_of(self._key, number)}", "rb")  # noqa: SIM115, PTH123
        except FileNotFoundError:
            return False
        if self._log is not None:
            self._log.close()
        status = os.fstat(log.fileno())
        self._log, self._inode, self._offset = log, status.st_ino, 0
        self._index.close()
        self._index = self._index_for(status)
        return True

    def _index_for(self, status: os.stat_result) -> "_Index":
        head = b"inode %d\n" % status.st_ino
        for number in numbers_of(self._directory, self._key):
            with suppress(FileNotFoundError):
                file = open(f"{self._directory}/{index_of(self._key, number)}", "rb")  # noqa: SIM115, PTH123
                if file.readline() == head:
                    return _Index(file, status.st_mtime)
                file.close()
        return _Index(None, status.st_mtime)

    def _inode_of(self, number: int) -> int:
        with suppress(FileNotFoundError):
            return os.stat(f"{self._directory}/{log_of(self._key, number)}").st_ino  # noqa: PTH116
        return 0

    def _changed(self, number: int) -> float:
        with suppress(FileNotFoundError):
            return os.stat(f"{self._directory}/{log_of(self._key, number)}").st_mtime  # noqa: PTH116
        return 0.0


class _Index:
    """Who wrote what when in one log, read along with it."""

    def __init__(self, file: BinaryIO | None, otherwise: float) -> None:
        self._file = file
        self._part = b""
        self._now: tuple[float, str] | None = None
        self._next: tuple[int, float, str] | None = None
        self._otherwise = otherwise

    def at(self, offset: int) -> tuple[float, str]:
        """The time and uid of what is at an offset, which is never less than the last one asked for."""
        while True:
            self._next = self._next or self._read()
            if self._next is None or (self._next[0] > offset and self._now is not None):
                return self._now or (self._otherwise, "")
            begin, time, uid = self._next
            self._now = (time, uid)
            if begin > offset:  # what is before the first entry was written when its file was begun, or so
                return self._now
            self._next = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self) -> tuple[int, float, str] | None:
        """The next good entry, if it is there already."""
        while self._file is not None:
            self._part += self._file.readline()
            if not self._part.endswith(b"\n"):
                return None
            entry, self._part = _entry(self._part), b""
            if entry is not None:
                return entry
        return None


def _entry(line: bytes) -> tuple[int, float, str] | None:
    words = line.split()
    if len(words) != 3 or not words[0].isdigit() or not words[1].isdigit():  # noqa: PLR2004
        return None
    return int(words[0]), int(words[1]) / 1000, words[2].decode("ascii", "replace")


def _by_time(line: Line) -> float:
    return line.time
