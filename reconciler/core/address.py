"""Addresses as texts: "host:port", "[v6]:port", "port" or "unix:/path".

Rule: one grammar for sockets and probes, which judges the shape alone. Who asks says what it makes of a host; in a spec
there are no names of hosts, since to look one up takes as long as it pleases a name server.
"""

import re
from typing import NamedTuple

LAST_PORT = 65535
UNIX = "unix:"

_TCP = re.compile(r"(?:(?:\[([^\[\]]+)\]|([^\[\]:/]*)):)?([0-9]{1,5})")


class Address(NamedTuple):
    """Where somebody listens: the `path` of a Unix socket; or else a `port`, and a `host` without its brackets, which
    is empty if there is none, and `is_v6` if it had brackets.
    """

    path: str = ""
    host: str = ""
    port: int = 0
    is_v6: bool = False

    @property
    def is_numeric(self) -> bool:
        """Whether its host is a number in the usual form, that of IPv6 perhaps with a zone ("%eth0")."""
        import ipaddress  # noqa: PLC0415  only where there are addresses

        try:
            (ipaddress.IPv6Address if self.is_v6 else ipaddress.IPv4Address)(self.host)
        except ValueError:
            return False
        return True

    @property
    def is_local(self) -> bool:
        """Whether its host is the one name that needs no looking up."""
        return self.host == "localhost" and not self.is_v6


def parsed(text: str) -> Address | None:
    """What `text` says, by its shape; None for what is no address."""
    if text.startswith(UNIX):
        path = text.removeprefix(UNIX)
        is_file = path.strip("/.") and not path.endswith("/") and path[0] != "@" and "\0" not in path
        return Address(path) if is_file else None
    match = _TCP.fullmatch(text)
    if match is None or int(match[3]) > LAST_PORT:
        return None
    return Address("", match[1] or match[2] or "", int(match[3]), is_v6=match[1] is not None)


def problem(text: str) -> str | None:
    """What is wrong with `text` as what a probe asks, with all of its placeholders filled in, or None."""
    if text.startswith(UNIX):
        return None if parsed(text) else 'that has no path of a file; write one such as "unix:/run/name.sock"'
    where = parsed(text)
    if where is None or not where.host:
        return _misshapen(text)
    if not (where.is_numeric or where.is_local):
        return _BRACKETS if where.is_v6 else _named(where.host)
    if "%" in where.host:
        return f"{where.host!r} has a zone, and a probe knows none; leave out what begins with %"
    return None if where.port else "nobody listens at port 0; for a socket of this spec write {port:NAME}"


_BRACKETS = 'an IPv6 address needs brackets and a port, like "[::1]:8000"'


def _named(host: str) -> str:
    return f'{host!r} is no address, and names are not looked up; write one like "127.0.0.1", or "localhost"'


def _misshapen(text: str) -> str:
    """What is wrong with a text that has no shape of an address, or no host."""
    if "/" in text:
        if "://" in text:
            return 'that is a URL; write "host:port" alone'
        return f'for a Unix socket write "unix:{text if text.startswith("/") else "/the/path"}"'
    host, colon, port = text.rpartition(":")
    alone = parsed(f"{host}:1")  # a good host, if the port is what is wrong
    good_host = alone is not None and (alone.is_numeric or alone.is_local)
    if not good_host and ("[" in text or text.count(":") > 1):
        return _BRACKETS
    if colon and not good_host:
        return _named(host)
    if parsed(text):
        return f'say at which host, like "127.0.0.1:{text}"'
    if not (colon or text.isdecimal()):
        return f'the port is missing; write "{text or "127.0.0.1"}:8000", say'
    return f"{port!r} is no port; write a number up to {LAST_PORT}"
