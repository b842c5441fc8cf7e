"""Placeholders in the text of a spec: {name}, {index}, {key}, {fd:SOCKET} and {port:SOCKET}; {{ and }} are literal.

Rule: a text that `problem` accepts can always be rendered, given a value for each socket that it names.
"""

import re
from collections.abc import Iterator, Mapping

PLACEHOLDERS = ("name", "index", "key")

SOCKETS = ("fd", "port")
"""What can be told of a socket: {fd:NAME} is its descriptor in the worker, {port:NAME} its port."""

KNOWN = ", ".join([*(f"{{{name}}}" for name in PLACEHOLDERS), *(f"{{{name}:SOCKET}}" for name in SOCKETS)])
"""All placeholders, for people."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([a-z]+)(?::([a-z0-9._-]+))?\}|[{}]")


def problem(text: str) -> str | None:
    """What is wrong with the placeholders of `text`, or None."""
    for match in _TOKEN.finditer(text):
        token, word, socket = match.group(0, 1, 2)
        if token in ("{{", "}}") or word in (SOCKETS if socket else PLACEHOLDERS):
            continue
        if word:
            return f"unknown placeholder {token}; known are {KNOWN}"
        return f"a lone {token!r} at character {match.start()}; write {token * 2} for a literal one, or one of {KNOWN}"
    return None


def has_placeholder(text: str) -> bool:
    """Whether anything in `text` stands for something else."""
    return any(match.group(1) for match in _TOKEN.finditer(text))


def sockets(text: str) -> Iterator[tuple[str, str]]:
    """What `text` asks of sockets: "fd" or "port", and the socket's name."""
    return ((match.group(1), match.group(2)) for match in _TOKEN.finditer(text) if match.group(2))


def render(text: str, values: Mapping[str, str]) -> str:
    """`text` with its placeholders filled in: `values` has "name", "index", "key", and "fd:NAME" and "port:NAME" for
    each socket that it names. `problem(text)` must be None. Raises KeyError for a missing value.
    """
    if "{" not in text and "}" not in text:
        return text
    return _TOKEN.sub(lambda match: values[match.group()[1:-1]] if match.group(1) else match.group()[0], text)
