"""What workers tell of themselves, by the protocol of systemd's sd_notify.

Rule: who speaks is what the kernel says, not what the message says. The socket has an abstract name, so that no file is
left behind. What is not understood is ignored, as the protocol asks: unknown words, numbers that are none, and messages
that are longer than they may be, since a part of one could mean something else.

A descriptor that comes with a message is never taken. There is no room for one beside the sender's credentials, so the
kernel drops it; with that the sender of a BARRIER=1 learns that all it said before has been read.
"""

import os
import socket
import struct
from collections.abc import Iterator, Mapping

from reconciler.core.observation import Notice, Ready

_LONGEST = 4096  # bytes of a message
_LONGEST_STATUS = 500  # characters
_MOST = 256  # messages taken at a time; the descriptor stays readable if there are more
_CREDENTIALS = struct.Struct("3i")
_LARGEST = 2**64 - 1  # microseconds; by this number systemd means "for ever"
_YEAR = 366 * 24 * 3600.0
_LARGEST_PID = 2**22

Fields = Mapping[str, str]
"""A message: its variables, such as READY, with their values."""


class Notices:
    """A socket for READY=1 and the like."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("")  # the kernel finds a name that is free

    @property
    def address(self) -> str:
        """What NOTIFY_SOCKET is to be for a worker."""
        name: bytes = self._socket.getsockname()
        return f"@{os.fsdecode(name[1:])}"

    def fileno(self) -> int:
        """Readable when there is something to take."""
        return self._socket.fileno()

    def take(self) -> Iterator[tuple[int, Fields]]:
        """The messages that came, a bounded number of them: the pid of who sent it, and what it says."""
        for _ in range(_MOST):
            try:
                message, extras, flags, _ = self._socket.recvmsg(_LONGEST, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return
            pid = next((_CREDENTIALS.unpack(data)[0] for _, kind, data in extras if kind == socket.SCM_CREDENTIALS), 0)
            if not flags & socket.MSG_TRUNC:
                yield pid, _fields(message)

    def close(self) -> None:
        """Free the socket."""
        self._socket.close()


def observations(uid: str, fields: Fields) -> Iterator[Ready | Notice]:
    """What a message means, of an incarnation that said it: first whether it can serve, then all else at once."""
    if fields.get("READY") == "1":
        yield Ready(uid)
    status = fields.get("STATUS")
    notice = Notice(
        uid,
        alive=fields.get("WATCHDOG") == "1",
        trigger=fields.get("WATCHDOG") == "trigger",
        stopping=fields.get("STOPPING") == "1",
        reloading=fields.get("RELOADING") == "1",
        extend=_seconds(fields.get("EXTEND_TIMEOUT_USEC")),
        watchdog=_seconds(fields.get("WATCHDOG_USEC")),
        status=None if status is None else _shown(status),
    )
    if notice != Notice(uid):
        yield notice


def main_pid(fields: Fields) -> int | None:
    """The process that a message names as the worker's main one."""
    pid = _number(fields.get("MAINPID"), _LARGEST_PID)
    return pid if pid is not None and pid > 1 else None


def _fields(message: bytes) -> Fields:
    """The variables of a message; of one that comes twice the first counts."""
    lines = message.removesuffix(b"\0").decode("utf-8", "replace").split("\n")
    pairs = (line.partition("=") for line in reversed(lines))
    return {name: value for name, _, value in pairs}


def _number(text: str | None, largest: int) -> int | None:
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > len(str(largest)):
        return None
    number = int(text)
    return number if number <= largest else None


def _seconds(text: str | None) -> float | None:
    """From microseconds. Longer than a year is a year, so that one can reckon with it."""
    number = _number(text, _LARGEST)
    return None if number is None else min(number / 1e6, _YEAR)


def _shown(text: str) -> str:
    """A text that moves no cursor and hides nothing, in a line of bounded length."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:_LONGEST_STATUS])
