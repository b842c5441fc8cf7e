"""As much of HTTP as a probe needs: the text of a GET request, and the status out of what comes back.

Rule: no I/O, and no state beyond one answer. Only the status line is understood, since that alone decides; interim
answers (100 to 199) before it are passed over. What comes back is a stranger's: it is bounded in every direction, and
whatever is no HTTP/1 is a ValueError that says so in a few words.
"""

import re
from collections.abc import Mapping

from reconciler import __version__
from reconciler.core import template
from reconciler.core.address import UNIX
from reconciler.core.serving import HttpCheck

MOST = 1 << 16
"""How much of an answer is read, in bytes; the status must be in it."""

_LONGEST_LINE = 8192
_SHOWN = 40  # bytes of what is no status line
_BEGINNING = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: .*)?", re.DOTALL)


def request(check: HttpCheck, address: str, values: Mapping[str, str]) -> bytes:
    """The whole request for `check`, at an address that was rendered. The check's own headers replace those that every
    probe has. Letters of the path that no request line may have are percent-encoded.

    Raises ValueError for a header that a value turned into more than one line.
    """
    host = "localhost" if address.startswith(UNIX) else address
    headers = {"host": ("Host", host), "user-agent": ("User-Agent", f"reconciler/{__version__}")}
    headers |= {"accept": ("Accept", "*/*"), "connection": ("Connection", "close")}
    for name, text in check.headers.items():
        value = template.render(text, values)
        if any(letter in value for letter in "\r\n\0"):
            raise ValueError(f"the header {name} would have the value {value!r}, which is not one line")
        headers[name.lower()] = (name, value)
    path = "".join(
        chr(byte) if 0x20 < byte < 0x7F else f"%{byte:02X}"  # noqa: PLR2004  what ASCII can print
        for byte in template.render(check.path, values).encode()
    )
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.values()), "", ""]
    return "\r\n".join(lines).encode()


def is_success(check: HttpCheck, status: int) -> bool:
    """Whether this status is a good answer; a redirect is one that is not followed."""
    return status in check.status if check.status else 200 <= status < 400  # noqa: PLR2004  as Kubernetes has it


class Answer:
    """The beginning of one answer, fed as it comes."""

    def __init__(self) -> None:
        self._rest = bytearray()  # of a line that is not complete
        self._read = 0
        self._in_headers = False  # of an interim answer

    def feed(self, data: bytes) -> int | None:
        """The status, once it is known; to be asked no more then. Raises ValueError for what is no HTTP/1, or has no
        status in the first `MOST` bytes.
        """
        self._read += len(data)
        self._rest += data
        lines = self._rest.split(b"\n") if b"\n" in data else [self._rest]
        self._rest = lines.pop()
        for line in lines:
            status = self._take(bytes(line.removesuffix(b"\r")))
            if status is not None:
                return status
        self._doubt()
        return None

    def end(self) -> ValueError:
        """What is wrong with an answer that ends here, where the status was not known yet."""
        if self._read:
            return ValueError(f"the connection was closed after {self._read} bytes, without an HTTP status")
        return ValueError("the connection was closed without an answer")

    def _take(self, line: bytes) -> int | None:
        if self._in_headers:
            self._in_headers = line != b""
            return None
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise _not_http(line)
        status = int(match[1])
        if 100 <= status < 200 and status != 101:  # noqa: PLR2004  another follows, but after 101 it is not HTTP
            self._in_headers = True
            return None
        return status

    def _doubt(self) -> None:
        """Give up on an incomplete answer as soon as it cannot become a good one."""
        start = bytes(self._rest[: len(_BEGINNING)])
        if not self._in_headers and not _BEGINNING.startswith(start):
            raise _not_http(bytes(self._rest))
        if len(self._rest) > _LONGEST_LINE or self._read >= MOST:
            raise ValueError(f"no HTTP status in the first {self._read} bytes of the answer")


def _not_http(line: bytes) -> ValueError:
    shown = ascii(line[:_SHOWN].decode("latin-1"))
    return ValueError(f"the answer is not HTTP/1: it begins with {shown}")
