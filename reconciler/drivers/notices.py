"""What workers tell of themselves, by the protocol of systemd's sd_notify.

Rule: who speaks is what the kernel says, not what the message says. The socket has an abstract name, so that no file is
left behind, and whatever is not understood is ignored, as the protocol asks.
"""

import os
import socket
import struct
from collections.abc import Iterator

_LONGEST = 4096  # bytes of a message
_MOST = 256  # messages taken at a time; the descriptor stays readable if there are more
_CREDENTIALS = struct.Struct("3i")


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

    def take(self) -> Iterator[tuple[int, frozenset[str]]]:
        """The messages that came: the pid of who sent it, and its lines, such as "READY=1"."""
        for _ in range(_MOST):
            try:
                message, extras, _, _ = self._socket.recvmsg(_LONGEST, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                return
            pid = next((_CREDENTIALS.unpack(data)[0] for _, kind, data in extras if kind == socket.SCM_CREDENTIALS), 0)
            yield pid, frozenset(message.decode("utf-8", "replace").splitlines())

    def close(self) -> None:
        """Free the socket."""
        self._socket.close()
