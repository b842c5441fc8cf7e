"""Where a probe asks: addresses as texts, and connections that are made without waiting.

Rule: nothing waits, so no name is ever looked up: a host is a numeric address or "localhost", which is one of two. A
Unix socket is reached through a descriptor of its directory, so that no path is too long.
"""

import errno
import os
import socket
from pathlib import Path

import attrs

from reconciler.core.address import UNIX, parsed

_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)


@attrs.frozen
class Place:
    """One place to connect to. `host` and `port` are for TCP; for a Unix socket `host` is its path."""

    family: socket.AddressFamily
    host: str
    port: int = 0

    def connect(self, connection: socket.socket) -> int | None:
        """Begin to connect a socket that does not block, or ask how far it is: 0 if it is connected, None if that is
        under way, else the error's number. Raises OSError if it cannot even be tried.
        """
        if self.family == socket.AF_UNIX:
            return _connect_to_file(connection, Path(self.host))
        code = connection.connect_ex((self.host, self.port))
        if code in _UNDER_WAY:
            return None
        if code not in (0, errno.EISCONN):
            return code
        return errno.ECONNREFUSED if is_connected_to_itself(connection) else 0


def places(address: str, cwd: str) -> list[Place]:
    """Where "host:port", "[v6]:port" or "unix:/path" may be, in the order in which to try. A relative path is taken
    from `cwd`. Raises ValueError for what is no address, or would have to be looked up.
    """
    where = parsed(address)
    if where is None and address.startswith(UNIX):
        raise ValueError(f"{address!r} has no path of a file; write unix:/run/name.sock")
    if where is not None and where.path:
        return [Place(socket.AF_UNIX, str(Path(cwd, where.path)))]
    if where is None or not (where.port and where.host):
        raise ValueError(f"{address!r} is no address to ask; write host:port, [v6]:port or unix:/path")
    if where.is_local:
        return [Place(socket.AF_INET, "127.0.0.1", where.port), Place(socket.AF_INET6, "::1", where.port)]
    family = socket.AF_INET6 if where.is_v6 else socket.AF_INET
    return [Place(family, _numeric(family, where.host, address), where.port)]


def is_connected_to_itself(connection: socket.socket) -> bool:
    """Whether both ends are this one, as happens now and then where nobody listens on a port that the kernel may also
    give to a client.
    """
    try:
        return bool(connection.getsockname() == connection.getpeername())
    except OSError:  # it is closed again already, and so was somebody's
        return False


def _numeric(family: socket.AddressFamily, host: str, address: str) -> str:
    try:
        socket.inet_pton(family, host)
    except OSError:
        raise ValueError(
            f"{address!r}: names are not looked up for a probe; write a numeric address, or localhost, for {host!r}"
        ) from None
    return host


def _connect_to_file(connection: socket.socket, path: Path) -> int:
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return connection.connect_ex(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
