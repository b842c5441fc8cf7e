"""Addresses as texts: "host:port", "[v6]:port", "port" or "unix:/path".

Rule: one grammar for sockets and probes, which judges the shape alone. Who asks says what it makes of a host; in a spec
there are no names of hosts, since to look one up takes as long as it pleases a name server.
"""

import re

import attrs

LAST_PORT = 65535
UNIX = "unix:"

_TCP = re.compile(r"(?:(?:\[([^\[\]]+)\]|([^\[\]:/]*)):)?([0-9]{1,5})")
_V6 = re.compile(r"[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(?:%[a-zA-Z0-9._-]+)?")
_NUMBER = re.compile(r"[0-9]{1,3}")
_NUMBERS = 4
_LAST_NUMBER = 255


@attrs.frozen
class Address:
    """Where somebody listens: the `path` of a Unix socket; or else a `port`, and a `host` without its brackets, which
    is empty if there is none, and `is_v6` if it had brackets.
    """

    path: str = ""
    host: str = ""
    port: int = 0
    is_v6: bool = False

    @property
    def is_numeric(self) -> bool:
        """Whether its host is the number of one, in the usual form."""
        if self.is_v6:
            return _V6.fullmatch(self.host) is not None
        numbers = self.host.split(".")
        are_small = (_NUMBER.fullmatch(each) and int(each) <= _LAST_NUMBER for each in numbers)
        return len(numbers) == _NUMBERS and all(are_small)


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
    if "/" in text:
        if "://" in text:
            return 'that is a URL; write "host:port" alone'
        return f'for a Unix socket write "unix:{text if text.startswith("/") else "/the/path"}"'
    host, colon, port = text.rpartition(":")
    if not colon:
        if parsed(port):
            return f'say at which host, like "127.0.0.1:{port}"'
        return f'the port is missing; write "{text or "127.0.0.1"}:8000", say'
    is_v6 = host.startswith("[") and host.endswith("]")
    if not (is_v6 and Address(host=host[1:-1], is_v6=True).is_numeric) and (":" in host or "[" in text):
        return 'an IPv6 address needs brackets and a port, like "[::1]:8000"'
    if not (is_v6 or host == "localhost" or Address(host=host).is_numeric):
        return f'{host!r} is no address, and names are not looked up; write one like "127.0.0.1", or "localhost"'
    where = parsed(text)
    if where is None:
        return f"{port!r} is no port; write a number up to {LAST_PORT}"
    return None if where.port else "nobody listens at port 0; for a socket of this spec write {port:NAME}"
