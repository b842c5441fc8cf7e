"""What runs inside a worker: its context, its stop signal, its connections, and word to the master.

Rule: importing it costs next to nothing, as every worker does so before it serves anybody; what takes time to load is
loaded by the function that needs it. What it holds belongs to one process: a process forked from a worker starts with
nothing of this.

A worker asked to stop is not torn out of its work: TERM and INT only set its `Drain`, and the worker leaves when it has
finished what it holds. The master's patience, not this module, is what ends one that does not.
"""

import errno
import os
import select
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from reconciler.hygiene import let_go_in_children

if TYPE_CHECKING:
    from asyncio import Future
    from socket import socket
    from types import FrameType

__all__ = ["Drain", "connections", "context", "drain", "follow_parent", "ready"]

T = TypeVar("T")

Reason = Literal["TERM", "INT", "ParentDied"]

_PR_SET_PDEATHSIG = 1
_MSG_PEEK = 2
_SOL_SOCKET = 1
_SO_ATTACH_FILTER = 26

_FILTER = (
    (0x30, 0, 0, 0),  # load the first byte
    (0x15, 1, 0, signal.SIGTERM),  # if it is this one, skip a step
    (0x15, 0, 1, signal.SIGINT),  # if it is not this one, skip a step
    (0x06, 0, 0, 1),  # take a byte of it
    (0x06, 0, 0, 0),  # take nothing of it
)
"""A program in the kernel's language for socket filters."""

_READ_AT_ONCE = 1 << 20
_RETRY_S = 0.1

_NEVER_MIND = frozenset(
    {
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.EPROTO,
        errno.ETIMEDOUT,
    }
)
"""Errors of `accept` that are the connection's own: it was gone, or refused, before it was taken."""

_OUT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of `accept` that pass when something else is closed; the connection waits meanwhile."""


class Drain:
    """Set once this process was asked to stop, and from then on. `drain()` gives the one of this process.

    It belongs to the process that made it. In a process forked from there it is of no use (RuntimeError), and TERM and
    INT have their default effect again, until that process calls `drain()` for itself.
    """

    def __init__(self) -> None:
        import socket  # noqa: PLC0415  as one that serves has it loaded, and one that only computes needs no Drain

        self._reason: Reason | None = None
        self._pid = os.getpid()
        # Whoever wrote to a datagram socket, the number of the signal stays there, to be read by nobody.
        self._read, self._write = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._read.settimeout(0.0)
        self._write.settimeout(0.0)

    @property
    def reason(self) -> Reason | None:
        """What set it: TERM or INT, or the death of the parent (see `follow_parent`); None while it is not set."""
        self.fileno()
        if self._reason is None:
            with suppress(BlockingIOError):
                self._note(self._read.recv(1, _MSG_PEEK)[0])
        return self._reason

    def is_set(self) -> bool:
        """Whether this process was asked to stop."""
        return self.reason is not None

    def fileno(self) -> int:
        """A descriptor that is readable once it is set, for select, poll and event loops. Not to be read or closed."""
        number = self._read.fileno()
        if number < 0:
            raise RuntimeError("this Drain is of the process that forked this one; call worker.drain() here again")
        return number

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; whether it is set."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        poll.poll(None if timeout is None else max(0.0, timeout * 1000))
        return self.is_set()

    async def wait_async(self) -> None:
        """Wait until it is set, inside an asyncio event loop. May be cancelled; any number of tasks may wait."""
        import asyncio  # noqa: PLC0415  only those who use it have it loaded already

        loop = asyncio.get_running_loop()
        told: Future[None] = loop.create_future()
        fd = os.dup(self.fileno())  # a loop has one reader for each descriptor, and others may wait too
        try:
            loop.add_reader(fd, _tell, told)
            await told
        finally:
            loop.remove_reader(fd)
            os.close(fd)

    def _take_over(self) -> None:
        """Be set by signals from now on. Raises ValueError outside the main thread."""
        for number in _DEFAULTS:
            signal.signal(number, self._set)
        # Python runs a handler between two steps of the program. A signal that strikes after the last step before a
        # wait would not end the wait, if it were not written where the program waits at the moment when it strikes.
        # That is done for all signals, so that the others have to be kept out.
        with suppress(OSError):  # a kernel without such filters
            _keep_out_others(self._read)
            before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
            if before != -1:  # an event loop's, which is woken then, and needs it for its own handlers
                signal.set_wakeup_fd(before)

    def _set(self, number: int, _frame: "FrameType | None") -> None:
        if os.getpid() != self._pid:  # a forked child, struck before it could start afresh
            self._let_go()
            signal.raise_signal(number)
            return
        if self._reason is None:
            self._note(number)
        with suppress(BlockingIOError):  # there is enough of it there
            self._write.send(bytes([number]))
        if number == signal.SIGTERM and _orphaned():
            _silence()

    def _note(self, number: int) -> None:
        self._reason = "INT" if number == signal.SIGINT else "ParentDied" if _orphaned() else "TERM"

    def _let_go(self) -> None:
        """Give it up, in a process forked from the one that made it: its descriptors are shared with that one."""
        if self is _this.drain:
            _this.drain = None
            waker = signal.set_wakeup_fd(-1)
            if waker not in (-1, self._write.fileno()):
                signal.set_wakeup_fd(waker)
            for number, default in _DEFAULTS.items():
                if getattr(signal.getsignal(number), "__self__", None) is self:
                    signal.signal(number, default)
        self._read.close()
        self._write.close()


def _keep_out_others(receiver: "socket") -> None:
    """Have the kernel drop what is written to this socket and is neither TERM nor INT. Raises OSError."""
    import struct  # noqa: PLC0415  needed once, and not by all
    from array import array  # noqa: PLC0415  likewise

    program = array("B", b"".join(struct.pack("HBBI", *step) for step in _FILTER))
    address, _ = program.buffer_info()
    receiver.setsockopt(_SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_FILTER), address))


def _tell(future: "Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class _Process:
    """What this module knows of the process that it runs in."""

    drain: Drain | None = None
    followed: tuple[int, int] = 0, 0  # which process follows which; a child of the first follows nobody yet
    context: tuple[Any, Any] | None = None  # the type that was asked for, and the worker


_this = _Process()

_DEFAULTS: dict[int, Any] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}


@overload
def context(of: type[T]) -> T | None: ...
@overload
def context(of: Any) -> Any: ...
def context(of: Any) -> Any:
    """The worker that this process was started for by `fork_worker_process`; None where it was started otherwise.

    `of` is the worker's type, or a union of types (`Red | Blue`). The first call takes the context from standard
    input, which is /dev/null from then on, and its marks out of the environment, so that nothing started from here
    takes itself for this worker; a later call gives the same context again. Standard output and error are written line
    by line, and the process gets TERM when the master dies (see `follow_parent`).

    Raises `ContextError` (a ValueError) when there is no context, or none of that type.
    """
    if _this.context is not None:
        known, worker = _this.context
        if known != of:
            names = [getattr(each, "__name__", each) for each in (known, of)]
            raise _context_error(f"the context was taken as {names[0]} before, and cannot be taken as {names[1]} now")
        return worker
    mark, parent = os.environ.pop("PREFORK", ""), os.environ.pop("RECONCILER_PARENT", "")
    if not mark:
        return None
    if parent.isdecimal():
        follow_parent(int(parent))
    else:
        follow_parent()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # neither None nor put there by somebody else
            stream.reconfigure(line_buffering=True)
    from reconciler.context import decode  # noqa: PLC0415  only a worker with a context needs it

    worker = decode(_take_line(), of)
    _this.context = (of, worker)
    return worker


def _context_error(problem: str) -> ValueError:
    from reconciler.context import ContextError  # noqa: PLC0415  likewise

    return ContextError(problem)


def _take_line() -> str:
    """The line on standard input, without its newline; what follows it is lost."""
    try:
        if os.isatty(0):
            raise _context_error(_NO_LINE.format("is a terminal"))
        line = _read_line()
    except OSError as error:
        raise _context_error(_NO_LINE.format(f"cannot be read ({error.strerror})")) from None
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)
    if not line:
        raise _context_error(_NO_LINE.format("is empty"))
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise _context_error(_NO_LINE.format("is no text")) from None


_NO_LINE = (
    "PREFORK is set, as for a worker, but there is no context to read: standard input {}. "
    "Workers are started by fork_worker_process; unset PREFORK to run the program itself"
)


def _read_line() -> bytes:
    parts = []
    while part := os.read(0, _READ_AT_ONCE):
        head, newline, _ = part.partition(b"\n")
        parts.append(head)
        if newline:
            break
    return b"".join(parts)


def follow_parent(parent: int | None = None) -> None:
    """Have TERM sent to this process when its parent dies; at once, if the parent died already.

    `parent` is the pid of the process that started this one, as that process told it. Left out, it is whoever is the
    parent now, and a parent that died before this call goes unnoticed. Raises OSError where the kernel refuses.
    """
    import ctypes  # noqa: PLC0415  costs some ms, and Python has no other way to prctl

    _this.followed = os.getpid(), os.getppid() if parent is None else parent
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "prctl")
    if _orphaned():  # before the kernel was asked to tell
        signal.raise_signal(signal.SIGTERM)


def _orphaned() -> bool:
    """Whether the parent that this process follows is gone."""
    child, parent = _this.followed
    return os.getpid() == child and os.getppid() != parent


def _silence() -> None:
    """Let output that went to the parent through pipes lead nowhere: a write there would fail, or wait for ever."""
    for fd in (1, 2):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                os.dup2(null, fd)
                os.close(null)
        except OSError:  # closed by the worker itself, or no descriptor is left: then it stays as it is
            continue


def drain() -> Drain:
    """The `Drain` of this process. The first call takes over TERM and INT, and must come from the main thread.

    Raises RuntimeError if it comes from another.
    """
    if _this.drain is None:
        made = Drain()
        try:
            made._take_over()  # noqa: SLF001  of this module
        except ValueError:
            made._let_go()  # noqa: SLF001  likewise
            raise RuntimeError(
                "the first call of worker.drain() takes over signals, which only the main thread can: "
                "call it there, before other threads start"
            ) from None
        _this.drain = made
        let_go_in_children(made, Drain._let_go)  # noqa: SLF001  likewise
    return _this.drain


def connections(listener: "socket") -> Iterator[tuple["socket", Any]]:
    """The connections that come in at `listener`, each as (socket, address), until this process is asked to stop.

    Any number of workers may share the listener; each connection goes to one of them. The listener is non-blocking
    from then on, in all of them; the connections are blocking. One that breaks before it is taken is passed over, and
    with no descriptor left it waits. Any other error, such as a listener that is closed, is an OSError.
    """
    stop = drain()
    listener.settimeout(0.0)
    return _accept(listener, stop)


def _accept(listener: "socket", stop: Drain) -> Iterator[tuple["socket", Any]]:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(stop, select.POLLIN)
    while not stop.is_set():
        try:
            connection, address = listener.accept()
        except BlockingIOError:  # none has come, or another worker was faster
            poll.poll()
        except OSError as error:
            if error.errno in _OUT_OF:
                stop.wait(_RETRY_S)
            elif error.errno not in _NEVER_MIND:
                raise
        else:
            connection.settimeout(None)  # whatever socket.setdefaulttimeout says
            yield connection, address


def ready() -> bool:
    """Tell the master that this worker serves now; False if nobody is there to be told.

    It is the notification of systemd (`READY=1` to the socket that NOTIFY_SOCKET names), so that it also works in a
    service that systemd started.
    """
    name = os.environ.get("NOTIFY_SOCKET")
    if not name:
        return False
    import socket  # noqa: PLC0415  a worker that does not notify may need none

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(b"READY=1", f"\0{name[1:]}" if name.startswith("@") else name)
        except OSError:  # the master is gone, or has no such socket any more
            return False
    return True
