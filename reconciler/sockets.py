"""Listening sockets: made once in the master, handed to every worker, kept while workers come and go.

Rule: an address is never taken from a process that uses it, and nothing that is no socket is ever removed. A Unix
socket appears under its path only when it listens with its mode set, by a rename, so that clients find either the old
one or the new one; but one that must be known by its own name is bound there, a moment before it listens. All looking,
binding and removing is done under a lock of the directory; no two starters can both find a path stale.
"""

import atexit
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from reconciler.core.address import UNIX, parsed

BACKLOG = 2048
"""Connections that may wait to be accepted. The kernel's net.core.somaxconn is the upper bound."""

_LONGEST_NAME = 108
"""Bytes of a Unix socket's name, the last of which is for the kernel."""


class Options(NamedTuple):
    """How a socket listens. `mode` and `owner` (user and group; -1 leaves one as it is) are for Unix sockets.

    One that is not `patient` waits for nobody: where others look into the same directory it fails with EBUSY, and it
    looks up no names. A Unix socket that is `named` has its path as its own name, by which servers know what they were
    given; it is there a moment before it listens.
    """

    kind: socket.SocketKind = socket.SOCK_STREAM
    backlog: int = BACKLOG
    mode: int | None = None
    owner: tuple[int, int] = (-1, -1)
    reuse_port: bool = False
    ipv6_only: bool = True
    patient: bool = True
    named: bool = False


class Bound(NamedTuple):
    """A socket that listens, and what is needed to remove the path of a Unix one again: its inode, and who made it."""

    listener: socket.socket
    path: Path | None = None
    inode: tuple[int, int] = (0, 0)
    maker: int = 0

    def adapt(self, options: Options) -> bool:
        """Listen by these options from now on; also if a worker shut the socket down, which it has in common with us.

        False if it cannot be reached any more, since its path is gone, or another's. OSError: an option was refused.
        """
        if self.path is not None:
            try:
                found = os.open(self.path, os.O_PATH | os.O_NOFOLLOW)
            except (FileNotFoundError, NotADirectoryError):
                return False
            try:
                now = os.fstat(found)
                if (now.st_dev, now.st_ino) != self.inode:
                    return False
                _own(f"/proc/self/fd/{found}", now, options)
            finally:
                os.close(found)
        else:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, options.reuse_port)
        if options.kind == socket.SOCK_STREAM:
            self.listener.listen(options.backlog)
        return True

    def close(self) -> None:
        """Stop listening here (others who have the socket go on), and remove the path if it is ours."""
        self.remove()
        self.listener.close()

    def remove(self) -> None:
        """Remove the path if we are who made it and it is still ours.

        An open socket keeps its inode's number from being given to another one. At exit nothing may wait: where the
        lock is taken, the path stays, for the next one to find it stale.
        """
        if self.path is None or os.getpid() != self.maker:
            return
        with suppress(OSError), _locked(self.path.parent, patient=False) as directory:
            found = os.open(self.path.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
            try:
                now = os.fstat(found)
                if (now.st_dev, now.st_ino) == self.inode and (self.listener.fileno() >= 0 or not _is_used(found)):
                    os.unlink(self.path.name, dir_fd=directory)
            finally:
                os.close(found)


_Place = Path | tuple[socket.AddressFamily, Any]
"""Where to listen: equal for addresses that mean the same."""

_made: dict[_Place, socket.socket] = {}


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
    options = Options(backlog=backlog, mode=mode)
    place = _place(address, options)
    made = _made.get(place)
    if made is not None and made.fileno() >= 0:
        return made
    bound = _bind(address, place, options)
    _made[place] = bound.listener
    if bound.path is not None:
        atexit.register(bound.remove)
    return bound.listener


def bind(address: str, options: Options) -> Bound:
    """A new socket that listens at `address`. The errors are those of `listen`; the caller removes its path."""
    return _bind(address, _place(address, options), options)


def _place(address: str, options: Options) -> _Place:
    if not address.startswith(UNIX):
        if options.mode is not None:
            raise ValueError(
                f"mode={options.mode:#o} is for Unix sockets, {address!r} has no permissions; leave it out"
            )
        return _tcp_place(address, options.kind, may_look_up=options.patient)
    where = parsed(address)
    if where is None:
        raise ValueError(f"{address!r} has no path of a file; write unix:/run/name.sock")
    if options.mode is not None and not 0 <= options.mode <= 0o7777:  # noqa: PLR2004  the bits of a mode
        raise ValueError(f"mode={options.mode} is no file mode; write one such as 0o660")
    given = Path(where.path)
    return given.parent.resolve() / given.name


def _bind(address: str, place: _Place, options: Options) -> Bound:
    family = socket.AF_UNIX if isinstance(place, Path) else place[0]
    listener = socket.socket(family, options.kind)
    try:
        if isinstance(place, Path):
            return _bind_path(listener, place, options)
        _bind_port(listener, place[1], options)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {address!r}: {error.strerror}") from error
    return Bound(listener)


# --------------------------------------------------------------------------------------------------------- TCP, UDP


def _bind_port(listener: socket.socket, place: Any, options: Options) -> None:
    is_stream = options.kind == socket.SOCK_STREAM
    if is_stream:  # for datagrams it would let others take the port from us
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. Servers that are given a descriptor often do not know that it is TCP, and then their
        # small answers would wait for acknowledgements, some 40 ms each.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if options.reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, options.ipv6_only)
    listener.bind(place)
    if is_stream:
        listener.listen(options.backlog)


def _tcp_place(address: str, kind: socket.SocketKind, *, may_look_up: bool) -> tuple[socket.AddressFamily, Any]:
    """The family and the kernel's form of an address."""
    where = parsed(address)
    if where is None:
        raise ValueError(
            f"{address!r} is no address to listen on; write host:port with a port from 0 to 65535, "
            "[::1]:port for IPv6, :port for all interfaces, or unix:/path"
        )
    family = socket.AF_INET6 if where.is_v6 else socket.AF_INET
    host = where.host or None
    looked_up = 0 if may_look_up or host == "localhost" else socket.AI_NUMERICHOST
    try:
        found = socket.getaddrinfo(host, where.port, family, kind, flags=socket.AI_PASSIVE | looked_up)
    except (socket.gaierror, UnicodeError) as error:
        raise ValueError(
            f"{address!r}: the host {host!r} has no address here ({error}); write an address such as 127.0.0.1"
        ) from error
    return family, found[0][4]


# --------------------------------------------------------------------------------------------------------- Unix


def _bind_path(listener: socket.socket, path: Path, options: Options) -> Bound:
    with _locked(path.parent, patient=options.patient) as directory:
        _refuse_used(path, directory)
        if options.named and len(os.fsencode(path)) < _LONGEST_NAME:
            _appear_named(listener, path, options)
        else:
            _appear(listener, path.name, directory, options)
        made = os.stat(path.name, dir_fd=directory, follow_symlinks=False)
    return Bound(listener, path, (made.st_dev, made.st_ino), os.getpid())


@contextmanager
def _locked(path: Path, *, patient: bool) -> Iterator[int]:
    """A descriptor of a directory, locked against others who ask here."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | (0 if patient else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise OSError(errno.EBUSY, "its directory is locked by another process") from error
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


def _appear(listener: socket.socket, name: str, directory: int, options: Options) -> None:
    """Let the socket listen under `name`, and let nobody see it before."""
    draft = f".{os.getpid()}-{os.urandom(4).hex()}.sock"
    listener.bind(f"/proc/self/fd/{directory}/{draft}")  # short, however long the path is
    try:
        # After the bind, which would apply the umask to it.
        _own(f"/proc/self/fd/{directory}/{draft}", os.stat(draft, dir_fd=directory), options)
        if options.kind == socket.SOCK_STREAM:
            listener.listen(options.backlog)
        os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft, dir_fd=directory)
        raise


def _appear_named(listener: socket.socket, path: Path, options: Options) -> None:
    """Let the socket listen under its path, instead of one that nobody uses. Its mode is set before it can be seen."""
    path.unlink(missing_ok=True)
    if options.mode is not None:
        os.fchmod(listener.fileno(), options.mode)
    listener.bind(str(path))
    try:
        _own(str(path), os.stat(path), options)  # noqa: PTH116  as its sibling
        if options.kind == socket.SOCK_STREAM:
            listener.listen(options.backlog)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _own(path: str, now: os.stat_result, options: Options) -> None:
    """Give a socket the owner and the mode that it shall have; the mode last, from which a new owner may take bits."""
    user, group = options.owner
    if user not in (-1, now.st_uid) or group not in (-1, now.st_gid):
        os.chown(path, user, group)
    if options.mode not in (None, stat.S_IMODE(now.st_mode)):
        os.chmod(path, options.mode)  # noqa: PTH101  a text that is no path to keep
