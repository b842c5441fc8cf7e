"""Listening sockets: made once in the master, handed to every worker, kept while workers come and go.

Rule: an address is never taken from a process that uses it, and nothing that is no socket is ever removed. A Unix
socket appears under its path only when it listens with its mode set, by a rename, so that clients find either the old
one or the new one. All looking, binding and removing is done under a lock of the directory; no two starters can both
find a path stale.
"""

import atexit
import errno
import fcntl
import os
import re
import socket
import stat
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BACKLOG = 2048
"""Connections that may wait to be accepted. The kernel's net.core.somaxconn is the upper bound."""

_TCP = re.compile(r"(?:(?:\[([^\[\]]+)\]|([^\[\]:]*)):)?([0-9]{1,5})")

_made: dict[Hashable, socket.socket] = {}


def listen(address: str, *, backlog: int = BACKLOG, mode: int | None = None) -> socket.socket:
    """A listening socket for `address`: "127.0.0.1:8000", "[::1]:8000", ":8000" or "8000" (all IPv4 interfaces), or
    "unix:/path".

    The same address asked again gives the same socket, until that is closed; `backlog` (connections) and `mode` count
    where it is made. `mode` are the permissions of a Unix socket (default: what the umask leaves of 0o777). Such a
    socket is removed at the exit of the process that made it. One that was left behind by a dead process is replaced;
    to find out, it is connected to once. The directory must be readable. Children inherit nothing by themselves.

    ValueError: the address is none. OSError: it cannot be had; its text names the address. EADDRINUSE: another process
    listens there. FileExistsError: something that is no socket is there.
    """
    if address.startswith("unix:"):
        return _unix(address, backlog, mode)
    if mode is not None:
        raise ValueError(f"mode={mode:#o} is for Unix sockets, {address!r} has no permissions; leave it out")
    return _tcp(address, backlog)


def _known(place: Hashable) -> socket.socket | None:
    made = _made.get(place)
    return made if made is not None and made.fileno() >= 0 else None


# --------------------------------------------------------------------------------------------------------- TCP


def _tcp(address: str, backlog: int) -> socket.socket:
    family, place = _place(address)
    if known := _known(place):
        return known
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(place)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {address!r}: {error.strerror}") from error
    _made[place] = listener
    return listener


def _place(address: str) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    """The family and the kernel's form of a TCP address; equal for addresses that mean the same."""
    match = _TCP.fullmatch(address)
    if match is None or int(match[3]) > 65535:  # noqa: PLR2004  the largest port
        raise ValueError(
            f"{address!r} is no address to listen on; write host:port with a port from 0 to 65535, "
            "[::1]:port for IPv6, :port for all interfaces, or unix:/path"
        )
    family = socket.AF_INET6 if match[1] else socket.AF_INET
    host = match[1] or match[2] or None
    try:
        found = socket.getaddrinfo(host, match[3], family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ValueError(
            f"{address!r}: the host {host!r} has no address here ({error}); write an address such as 127.0.0.1"
        ) from error
    return family, found[0][4]


# --------------------------------------------------------------------------------------------------------- Unix


def _unix(address: str, backlog: int, mode: int | None) -> socket.socket:
    given = Path(address.removeprefix("unix:"))
    if not given.name or given.name.startswith("@") or "\0" in address:
        raise ValueError(f"{address!r} has no path of a file; write unix:/run/name.sock")
    if mode is not None and not 0 <= mode <= 0o7777:  # noqa: PLR2004  the bits of a mode
        raise ValueError(f"mode={mode} is no file mode; write one such as 0o660")
    path = given.parent.resolve() / given.name
    if known := _known(path):
        return known
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _locked(path.parent) as directory:
            _refuse_used(path, directory)
            _appear(listener, path.name, directory, backlog, mode)
            made = os.stat(path.name, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {address!r}: {error.strerror}") from error
    _made[path] = listener
    atexit.register(_remove, listener, path, (made.st_dev, made.st_ino), os.getpid())
    return listener


@contextmanager
def _locked(path: Path, flags: int = 0) -> Iterator[int]:
    """A descriptor of a directory, locked against others who ask here."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | flags)
        try:
            yield directory
        finally:
            fcntl.flock(directory, fcntl.LOCK_UN)  # a child that was forked meanwhile must not keep it
    finally:
        os.close(directory)


def _refuse_used(path: Path, directory: int) -> None:
    """Raise unless the path is free, or holds a socket on which nobody listens."""
    try:
        found = os.open(path.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISSOCK(os.fstat(found).st_mode):
            raise FileExistsError(errno.EEXIST, "what is there is no socket; remove it, or listen elsewhere")
        if _is_used(found):
            raise OSError(errno.EADDRINUSE, "it is in use; stop who listens there, or listen elsewhere")
    finally:
        os.close(found)


def _is_used(found: int) -> bool:
    """Whether somebody has this socket open. It is reached by its descriptor, for which no path is too long."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        visitor.settimeout(0)  # a full backlog would make us wait; it is in use then
        return visitor.connect_ex(f"/proc/self/fd/{found}") != errno.ECONNREFUSED


def _appear(listener: socket.socket, name: str, directory: int, backlog: int, mode: int | None) -> None:
    """Let the socket listen under `name`, and let nobody see it before."""
    draft = f".{os.getpid()}-{os.urandom(4).hex()}.sock"
    listener.bind(f"/proc/self/fd/{directory}/{draft}")  # short, however long the path is
    try:
        if mode is not None:
            os.chmod(draft, mode, dir_fd=directory)  # after the bind, which would apply the umask to it
        listener.listen(backlog)
        os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft, dir_fd=directory)
        raise


def _remove(listener: socket.socket, path: Path, made: tuple[int, int], maker: int) -> None:
    """Remove the path if we are who made it and it is still ours.

    An open socket keeps its inode's number from being given to another one. At exit nothing may wait: where the lock
    is taken, the path stays, for the next one to find it stale.
    """
    if os.getpid() != maker:
        return
    with suppress(OSError), _locked(path.parent, fcntl.LOCK_NB) as directory:
        found = os.open(path.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
        try:
            now = os.fstat(found)
            if (now.st_dev, now.st_ino) == made and (listener.fileno() >= 0 or not _is_used(found)):
                os.unlink(path.name, dir_fd=directory)
        finally:
            os.close(found)
