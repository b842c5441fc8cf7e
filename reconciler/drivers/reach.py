"""Where a probe asks: addresses as texts, and connections that are made without waiting.

Rule: nothing waits, so no name is ever looked up: a host is a numeric address or "localhost", which is one of two. A
Unix socket is reached through a descriptor of its directory, so that no path is too long.
"""

import errno
import os
import re
import socket
from pathlib import Path

import attrs

_TCP = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:/]+)):([0-9]{1,5})")
_MOST_PORTS = 65535
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
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        if not Path(path).name or path.startswith("@") or "\0" in path:
            raise ValueError(f"{address!r} has no path of a file; write unix:/run/name.sock")
        return [Place(socket.AF_UNIX, str(Path(cwd, path)))]
    match = _TCP.fullmatch(address)
    if match is None or not 0 < int(match[3]) <= _MOST_PORTS:
        raise ValueError(f"{address!r} is no address to ask; write host:port, [v6]:port or unix:/path")
    port = int(match[3])
    if match[1]:
        return [Place(socket.AF_INET6, _numeric(socket.AF_INET6, match[1], address), port)]
    if match[2] == "localhost":
        return [Place(socket.AF_INET, "127.0.0.1", port), Place(socket.AF_INET6, "::1", port)]
    return [Place(socket.AF_INET, _numeric(socket.AF_INET, match[2], address), port)]


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
