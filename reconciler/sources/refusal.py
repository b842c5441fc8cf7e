"""How bad input is refused and quoted back to its author.

Rule: a refusal says what was expected, what was found, and the nearest right word where one is near. What it quotes is
short and printable whatever the input was. Values of `env` are never quoted, as they may be secrets.
"""

import re
from collections.abc import Iterable
from typing import Any

MOST_PROBLEMS = 50
"""How many problems of one file are told; nobody reads more, and a hostile file could have thousands."""

MAX_DEPTH = 16
"""How deep lists and tables may be nested in a file of any format. A spec needs three levels."""

TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"

_SHOWN = 60
_BARE = re.compile(r"[A-Za-z0-9_-]{1,64}")


class InputError(Exception):
    """Input that is refused: its problems, as pairs of the path inside the file and the message."""

    def __init__(self, message: str = "", problems: Iterable[tuple[str, str]] = ()) -> None:
        self.problems = tuple(problems) or (("", message),)
        super().__init__(*self.problems)


def shown(value: Any) -> str:
    """`value` as it may stand in a message: on one line, printable, at most 60 characters."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    if isinstance(value, str):
        value = value[: _SHOWN + 1]
    try:
        text = repr(value) if isinstance(value, str | int | float | list | dict) else str(value)
    except ValueError:  # Python does not print whole numbers of thousands of digits
        return "a huge number"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def kind(value: Any) -> str:
    """What sort of value it is, for messages that must not quote it."""
    if isinstance(value, bool) or value is None:
        return shown(value)
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "a date or a time")


def meant(word: str, choices: Iterable[str]) -> str:
    """` (did you mean 'x'?)` if `word` is near one of `choices`, else nothing."""
    from difflib import get_close_matches  # noqa: PLC0415 - only bad input needs it

    by_folded = {choice.lower(): choice for choice in choices}
    near = get_close_matches(word[:_SHOWN].lower().replace("-", "_"), by_folded, n=1)
    return f" (did you mean {by_folded[near[0]]!r}?)" if near else ""


def below(key: str, path: str = "") -> str:
    """The path inside a file to what lies at `path` below `key`: `restart.backoff`, `command[2]`, `env['a b']`."""
    head = key if _BARE.fullmatch(key) else f"[{shown(key)}]"
    return f"{head}.{path}" if path and not path.startswith("[") else head + path


def item(at: int, path: str = "") -> str:
    """The path to what lies at `path` in item `at` of a list: `[0].name`, `[0]`."""
    return f"[{at}].{path}" if path and not path.startswith("[") else f"[{at}]{path}"
