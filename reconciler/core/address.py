"""Where a probe asks: "host:port", "[v6]:port" or "unix:/path".

Rule: only the shape is judged, and what is wrong is said with the remedy. There are no names of hosts, since to look
one up takes as long as it pleases a name server.
"""

import re

_V6 = re.compile(r"\[([0-9a-fA-F:.]*:[0-9a-fA-F:.]*)\]:([^:]*)")
_PORT = re.compile(r"[0-9]{1,5}")
_LAST_PORT = 65535
_NUMBERS = 4
_LAST_NUMBER = 255


def problem(text: str) -> str | None:
    """What is wrong with `text`, all of whose placeholders are filled in, or None."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        is_good = path.strip("/.") and not path.endswith("/") and path[0] != "@" and "\0" not in path
        return None if is_good else 'that has no path of a file; write one such as "unix:/run/name.sock"'
    if "/" in text:
        if "://" in text:
            return 'that is a URL; write "host:port" alone'
        return f'for a Unix socket write "unix:{text if text.startswith("/") else "/the/path"}"'
    if match := _V6.fullmatch(text):
        return _of_port(match[2])
    if text.count(":") > 1 or "[" in text:
        return 'an IPv6 address needs brackets and a port, like "[::1]:8000"'
    host, colon, port = text.rpartition(":")
    if not colon:
        if _PORT.fullmatch(port):
            return f'say at which host, like "127.0.0.1:{port}"'
        return f'the port is missing; write "{text or "127.0.0.1"}:8000", say'
    if host != "localhost" and not _is_v4(host):
        return f'{host!r} is no address, and names are not looked up; write one like "127.0.0.1", or "localhost"'
    return _of_port(port)


def _of_port(port: str) -> str | None:
    if not _PORT.fullmatch(port) or int(port) > _LAST_PORT:
        return f"{port!r} is no port; write a number up to {_LAST_PORT}"
    return None if int(port) else "nobody listens at port 0; for a socket of this spec write {port:NAME}"


def _is_v4(host: str) -> bool:
    numbers = host.split(".")
    return len(numbers) == _NUMBERS and all(_PORT.fullmatch(each) and int(each) <= _LAST_NUMBER for each in numbers)
