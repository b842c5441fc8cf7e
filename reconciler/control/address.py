"""Where the control socket is: `control.sock` in the state directory.

Rule: it is reached through a descriptor of its directory, so that no path is too long for it, and it appears by a
rename, when it listens already and only its owner may connect. So clients find the old one or the new one, never half
of one.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

NAME = "control.sock"

_DRAFT = ".control.sock"
_BACKLOG = 1024  # beyond it a connection is refused at once, as if nobody were there


def open_listener(directory: str) -> socket.socket:
    """Listen in this directory, in the place of a socket that was left behind. Children inherit nothing.

    The caller holds the lock by which there is one controller in it. OSError: it cannot be had.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _opened(directory) as place:
            with suppress(FileNotFoundError):
                os.unlink(_DRAFT, dir_fd=place)  # of one that died just here
            listener.bind(f"/proc/self/fd/{place}/{_DRAFT}")
            os.chmod(_DRAFT, 0o600, dir_fd=place)  # before it listens: until then nobody can connect, by any mode
            listener.listen(_BACKLOG)
            os.rename(_DRAFT, NAME, src_dir_fd=place, dst_dir_fd=place)
    except BaseException:
        listener.close()
        raise
    return listener


def connect(directory: str) -> socket.socket:
    """A connection to the controller of this directory, which does not block.

    FileNotFoundError, ConnectionRefusedError: there is none. Other OSErrors: it cannot be reached; BlockingIOError
    where more wait to be let in than it has room for.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with _opened(directory) as place:
            connection.connect(f"/proc/self/fd/{place}/{NAME}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _opened(directory: str) -> Iterator[int]:
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield place
    finally:
        os.close(place)
