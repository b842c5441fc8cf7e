"""What commands write to stdout and stderr, on its way to where their sets want it.

Rule: a worker never waits because of us, and never notices that we are gone. Its FIFO has a name, and the worker has it
open for reading too: so a write never fails for want of a reader, and what is in the FIFO waits for the next controller
as long as the worker lives.
"""

import errno
import os
import select
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from reconciler.core import event
from reconciler.core.event import Event
from reconciler.core.spec import Output, OutputMode
from reconciler.hygiene import let_go_in_children
from reconciler.output.display import Display
from reconciler.output.logfile import BLOCK, available
from reconciler.output.places import fifo_of, fifos_in, files_by_key
from reconciler.output.sink import Sink, reason_of
from reconciler.output.streams import Cutter, Room

_BATCH = 64  # FIFOs read in one pump; the descriptor stays readable if there are more
_AT_OPEN = 4  # FIFOs that are looked at whenever one is made
_BLOCKS = 8  # of one FIFO in one pump
_LAST_BLOCKS = 32  # of a FIFO at the end: more than it holds, unless somebody goes on writing
_OLD = 86_400  # seconds without a line, after which the files of a set that is no more are removed
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT})


class Capture:
    """The FIFOs of command workers, in `directory` with their files.

    `settings` gives what the set of a name wants, and is asked each time, so that a change reaches workers that run; it
    must have an answer for sets that are no more. `default` is what the mode "auto" stands for. `names` gives the sets
    that there are, None as long as that is not known: then old files of all others are removed, once. Call `pump`
    whenever `fileno` is readable. FIFOs of an earlier controller are taken over. Raises OSError.
    """

    def __init__(
        self,
        directory: str,
        settings: Callable[[str], Output],
        default: OutputMode,
        names: Callable[[], Collection[str] | None],
    ) -> None:
        self._directory, self._settings, self._default, self._names = directory, settings, default, names
        self._is_swept = False
        self._epoll = select.epoll()
        self._display = Display(Room(self._epoll))
        self._fifos: dict[int, _Fifo] = {}
        self._sinks: dict[str, Sink] = {}
        self._events: list[Event] = []
        let_go_in_children(self, Capture._let_go)
        os.makedirs(directory, 0o700, exist_ok=True)  # noqa: PTH103
        for name, (key, uid) in fifos_in(directory).items():
            fifo = _Fifo(f"{directory}/{name}", key.rpartition("-")[0], key, uid)
            try:
                self._take_over(fifo)
            except OSError as error:
                extra = {"message": str(error)}
                told = Event(event.OUTPUT_DEGRADED, key, fifo.set_name, uid=uid, reason=reason_of(error), extra=extra)
                self._events.append(told)

    def open(self, uid: str, set_name: str, key: str) -> int | None:
        """Make the FIFO of a new incarnation, and return the end that is its stdout and stderr; None where it inherits
        ours. The caller closes it once the worker has it. Raises OSError.

        Where there is no room or place for a name it is a pipe without one: the worker runs, but no later controller
        can read what it writes.
        """
        if self._mode(self._settings(set_name)) == "inherit":
            return None
        self._serve(_AT_OPEN)  # so that however fast workers come and go, their FIFOs do
        path = f"{self._directory}/{fifo_of(key, uid)}"
        ours, theirs = _ends(path)
        try:
            self._add(ours, _Fifo(path, set_name, key, uid))
        except BaseException:
            os.close(theirs)
            raise
        return theirs

    def fileno(self) -> int:
        """Readable when workers wrote or ended, or when a reader of ours that was full has room again."""
        return self._epoll.fileno()

    def pump(self) -> Sequence[Event]:
        """Pass on what is there, a bounded amount at a time, and return the events to tell. It never waits."""
        if self._epoll.closed:
            return ()
        self._serve(_BATCH)
        self._display.flush()
        if not self._is_swept and (names := self._names()) is not None:
            self._is_swept = True
            with suppress(OSError):
                self._sweep(names)
        return self._told()

    def degraded(self) -> Mapping[str, str]:
        """The reasons why output is dropped at the moment, by key."""
        return {key: sink.reason for key, sink in self._sinks.items() if sink.reason is not None}

    def close(self) -> Sequence[Event]:
        """Pass on what is there as far as there is room, and return the events to tell. FIFOs of workers that go on
        stay for the next controller. Asked again it does nothing.
        """
        if self._epoll.closed:
            return ()
        for fd in tuple(self._fifos):
            if available(fd):  # else a file would be made for one that never wrote
                self._read(fd, _LAST_BLOCKS)
            if fd in self._fifos:
                self._end(fd, gone=_has_no_writer(fd))
        self._display.close()
        self._epoll.close()
        return self._told()

    def _serve(self, most: int) -> None:
        for fd, happened in self._epoll.poll(0, most):
            if fd not in self._fifos:
                continue
            if happened & select.EPOLLIN:
                self._read(fd, _BLOCKS)
            else:
                self._end(fd, gone=True)

    def _mode(self, output: Output) -> OutputMode:
        return self._default if output.mode == "auto" else output.mode

    def _take_over(self, fifo: "_Fifo") -> None:
        fd = os.open(fifo.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        # A reader is told that all writers are gone only if there was one since it came. So let there be one.
        os.close(os.open(fifo.path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW))
        self._add(fd, fifo)

    def _add(self, fd: int, fifo: "_Fifo") -> None:
        try:
            self._epoll.register(fd, select.EPOLLIN)
        except BaseException:
            os.close(fd)
            raise
        self._fifos[fd] = fifo

    def _read(self, fd: int, blocks: int) -> None:
        fifo = self._fifos[fd]
        output = self._settings(fifo.set_name)
        mode = self._mode(output)
        for _ in range(blocks):
            try:
                if mode in ("file", "null"):
                    self._show_rest(fifo)
                if mode == "file":
                    size = self._sink(fifo).take(fd, fifo.uid, output, time.monotonic())
                elif mode == "null":
                    size = len(os.read(fd, BLOCK))
                else:
                    size = self._to_stdout(fd, fifo, mode)
            except BlockingIOError:
                return
            if not size:
                self._end(fd, gone=True)
                return
            if size < BLOCK // 2 and blocks == _BLOCKS:
                return  # it is asked again when there is more

    def _sink(self, fifo: "_Fifo") -> Sink:
        sink = self._sinks.get(fifo.key)
        if sink is None:
            sink = self._sinks[fifo.key] = Sink(self._directory, fifo.set_name, fifo.key)
        return sink

    def _to_stdout(self, fd: int, fifo: "_Fifo", mode: OutputMode) -> int:
        data = os.read(fd, fifo.cutter.room)
        fifo.mode = mode
        self._display.show(fifo.key, mode, fifo.cutter.take(data))
        return len(data)

    def _show_rest(self, fifo: "_Fifo") -> None:
        """No more comes of a line that was begun: show it as it was to be shown then."""
        if rest := fifo.cutter.end():
            self._display.show(fifo.key, fifo.mode, rest)

    def _sweep(self, names: Collection[str]) -> None:
        """Remove old files of sets that are not among these. What cannot be removed stays."""
        living = {fifo.key for fifo in self._fifos.values()}
        oldest = time.time() - _OLD
        for key, files in files_by_key(self._directory).items():
            if key.rpartition("-")[0] in names or key in living:
                continue
            paths = [f"{self._directory}/{name}" for name in files]
            with suppress(OSError):
                if max(os.lstat(path).st_mtime for path in paths) < oldest:
                    for path in paths:
                        os.unlink(path)  # noqa: PTH108

    def _end(self, fd: int, *, gone: bool) -> None:
        """Be done with a FIFO, whose worker is gone or goes on without us."""
        fifo = self._fifos.pop(fd)
        self._epoll.unregister(fd)
        self._show_rest(fifo)
        sink = self._sinks.get(fifo.key)
        if sink is not None and sink.ended(fd):
            sink.close()
            self._events += self._sinks.pop(fifo.key).events()
        os.close(fd)
        if gone:
            with suppress(OSError):
                os.unlink(fifo.path)  # noqa: PTH108

    def _told(self) -> Sequence[Event]:
        events, self._events = self._events, []
        for sink in self._sinks.values():
            events += sink.events()
        return [*events, *self._display.events()]

    def _let_go(self) -> None:
        self._epoll.close()
        for fd in self._fifos:
            with suppress(OSError):
                os.close(fd)
        for sink in self._sinks.values():
            sink.let_go()
        self._fifos.clear()
        self._sinks.clear()


class _Fifo:
    """The FIFO of one incarnation."""

    def __init__(self, path: str, set_name: str, key: str, uid: str) -> None:
        self.path, self.set_name, self.key, self.uid = path, set_name, key, uid
        self.cutter = Cutter()  # for the modes that send lines
        self.mode: OutputMode = "inherit"  # in which the last of them was sent


def _ends(path: str) -> tuple[int, int]:
    """The reader's end, which never blocks, and the worker's, which is open for reading too."""
    try:
        _make(path)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        ours, other = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(ours, False)
        theirs = os.open(f"/proc/self/fd/{other}", os.O_RDWR | os.O_CLOEXEC)
        os.close(other)
        return ours, theirs
    ours = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return ours, os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except BaseException:
        os.close(ours)
        os.unlink(path)  # noqa: PTH108
        raise


def _make(path: str) -> None:
    """Make a FIFO, and its directory if somebody deleted that."""
    try:
        os.mkfifo(path, 0o600)
    except FileNotFoundError:
        os.mkdir(os.path.dirname(path), 0o700)  # noqa: PTH102, PTH120
        os.mkfifo(path, 0o600)


def _has_no_writer(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, 0)
    return bool(poller.poll(0))
