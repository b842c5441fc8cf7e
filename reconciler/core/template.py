"""Placeholders in the text of a spec: {name}, {index} and {key}; {{ and }} are literal braces.

Rule: a text that `problem` accepts can always be rendered.
"""

import re

PLACEHOLDERS = ("name", "index", "key")

_TOKEN = re.compile(r"\{\{|\}\}|\{([a-z]+)\}|[{}]")


def problem(text: str) -> str | None:
    """What is wrong with the placeholders of `text`, or None."""
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in ("{{", "}}") or match.group(1) in PLACEHOLDERS:
            continue
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        if match.group(1):
            return f"unknown placeholder {token}; known are {known}"
        return f"a lone {token!r} at character {match.start()}; write {token * 2} for a literal one, or one of {known}"
    return None


def render(text: str, *, name: str, index: int | str, key: str) -> str:
    """`text` with its placeholders filled in. `problem(text)` must be None."""
    if "{" not in text and "}" not in text:
        return text
    values = {"name": name, "index": str(index), "key": key}
    return _TOKEN.sub(lambda match: values[match.group(1)] if match.group(1) else match.group()[0], text)
