"""The frames of the control socket: one JSON object and a newline each.

Rule: strict in what is taken. A frame with a member too many, a key twice, or a value of the wrong type is refused as a
whole, and nothing in it is guessed at. No frame is longer than `LONGEST_FRAME`, whichever way it goes.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, NoReturn

VERSION = 1
"""Of the protocol. A frame of another version is refused."""

LONGEST_FRAME = 65536
"""Bytes, the newline included."""

_LONGEST_ID = 128  # bytes of JSON: it comes back with each frame of the answer
_LONGEST_TEXT = 2048  # characters of a message, of which JSON makes twelve bytes each at the worst
_MEMBERS = frozenset({"v", "id", "verb", "args"})

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str).encode
"""A value as JSON in as few characters as can be; what JSON does not know is shown as text."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Refusal(Exception):  # noqa: N818  it answers a request, nothing went wrong here
    """A request is not carried out: a code for programs, a message and perhaps a hint for people."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


class BrokenFrame(Refusal):
    """What came is no frame at all, so that nobody knows where the next one begins."""


class Request(NamedTuple):
    """What is asked for: a verb and its arguments, by name."""

    verb: str
    args: Mapping[str, Any]


class Lines:
    """Bytes as they come in, cut into lines. Never feed it more than there is `room` for."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0

    def __bool__(self) -> bool:
        """Whether anything is left, be it part of a line."""
        return bool(self._data)

    @property
    def room(self) -> int:
        """Bytes. Where there is none and `pop` has nothing, the line is longer than a frame may be."""
        return LONGEST_FRAME - len(self._data)

    def feed(self, data: bytes) -> None:
        """Add what came in."""
        self._data += data

    def pop(self) -> bytes | None:
        """Take the next whole line, without its newline."""
        end = self._data.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._data)  # whoever sends byte by byte does not make us search for each
            return None
        line = bytes(self._data[:end])
        del self._data[: end + 1]
        self._searched = 0
        return line

    def clear(self) -> None:
        """Forget what is left."""
        self._data.clear()
        self._searched = 0


# --------------------------------------------------------------------------------------------------- the client's


def request(verb: str, args: Mapping[str, Any]) -> bytes:
    """The frame of a request. TypeError or ValueError: the arguments are no JSON, or too long for a frame."""
    frame = _encode({"v": VERSION, "verb": verb, "args": dict(args)}).encode() + b"\n"
    if len(frame) > LONGEST_FRAME:
        raise ValueError(f"a request of {len(frame)} bytes is too long; {LONGEST_FRAME} are the most")
    return frame


# --------------------------------------------------------------------------------------------------- the server's


def parse(line: bytes) -> dict[str, Any]:
    """The object of a frame. Raises BrokenFrame where it is no JSON, else Refusal."""
    try:
        frame = _decoder.decode(line.decode())
        if b"\\u" in line:
            json.dumps(frame, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise BrokenFrame("NotJson", f"the frame is no JSON: {error}", "send one JSON object in each line") from None
    if not isinstance(frame, dict):
        raise Refusal("BadRequest", "the frame is no JSON object", f'send {{"v":{VERSION},"verb":"…","args":{{…}}}}')
    return frame


def id_of(frame: Mapping[str, Any]) -> bytes:
    """The id of a request as JSON, to be sent back with each frame of the answer. Raises Refusal."""
    given = frame.get("id")
    if isinstance(given, dict | list):
        raise Refusal("BadRequest", "the id is no scalar", "number your requests")
    text = _encode(given).encode()
    if len(text) > _LONGEST_ID:
        raise Refusal("BadRequest", f"the id is longer than {_LONGEST_ID} bytes of JSON", "number your requests")
    return text


def request_of(frame: Mapping[str, Any]) -> Request:
    """What a frame asks for. Raises Refusal."""
    version, verb, args = frame.get("v"), frame.get("verb"), frame.get("args", {})
    if type(version) is not int or version != VERSION:
        raise Refusal("WrongVersion", f"the frame has no version {VERSION}", f'add "v":{VERSION}')
    if unknown := sorted(frame.keys() - _MEMBERS):
        raise Refusal("BadRequest", f"a request has no member {unknown[0][:80]!r}", "put arguments into args")
    if not isinstance(verb, str):
        raise Refusal("BadRequest", "verb is no text", 'write "verb":"status", say')
    if not isinstance(args, dict):
        raise Refusal("BadRequest", "args is no object", 'write "args":{}')
    return Request(verb, args)


def reply(id_: bytes, kind: Literal["item", "done"], value: Mapping[str, Any] | bytes) -> bytes:
    """A frame of an answer; bytes are JSON already. Raises Refusal where it is too long to be sent."""
    text = value if isinstance(value, bytes) else _encode(dict(value)).encode("utf-8", "backslashreplace")
    frame = b'{"id":%b,"%b":%b}\n' % (id_, kind.encode(), text)
    if len(frame) > LONGEST_FRAME:
        raise Refusal("TooLong", f"the answer has a frame of more than {LONGEST_FRAME} bytes", "ask for less at a time")
    return frame


def error(id_: bytes, refusal: Refusal) -> bytes:
    """The frame that ends the answer to a request that was not carried out."""
    told = {"code": refusal.code, "message": refusal.message[:_LONGEST_TEXT], "hint": refusal.hint[:_LONGEST_TEXT]}
    return b'{"id":%b,"error":%b}\n' % (id_, _encode(told).encode("utf-8", "backslashreplace"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise Refusal("BadRequest", "the frame has a key twice in one object", "leave one of them out")
    return made


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    return number if abs(number) != float("inf") else _no_number(text[:80])


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite)
