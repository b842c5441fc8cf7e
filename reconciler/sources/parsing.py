"""From the bytes of a spec file to plain data: text, numbers, lists and tables.

Rule: no input raises anything but `InputError`, and none of up to `MAX_BYTES` costs more than 100 ms. What could cost
more in a parser (nesting, dotted keys, the tokens of YAML) is bounded before the parser sees it.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from reconciler.sources.refusal import MAX_DEPTH, TOO_DEEP, InputError, shown

MAX_BYTES = 65536
"""The size of the largest spec file, in bytes."""

_MAX_PARTS = 4
"""How many parts a dotted key of TOML may have: the parser's time grows with their square. A spec needs three."""

_MAX_TOKENS = 10_000
"""How many brackets, strings, comments and separators a file may have."""

# An unterminated string reaches to the end, so that each character is looked at once. In single quotes: no escapes.
_TOML_TOKEN = re.compile(
    r'"""(?:[^\\"]|\\.|"(?!""))*(?:"{3,5})?'
    r"|'''(?:[^']|'(?!''))*(?:'{3,5})?"
    r'|"(?:[^\\"\n]|\\.)*"?'
    r"|'[^'\n]*'?"
    r"|#[^\n]*"
    r"|[][{}.=,\n]",
    re.DOTALL,
)
_JSON_TOKEN = re.compile(r'"(?:[^\\"]|\\.)*"?|[][{}]', re.DOTALL)
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}


def parse(file: str, data: bytes) -> Any:
    """The plain data in `data`; the suffix of the file's name says in which format."""
    parser = _PARSERS.get(PurePath(file).suffix)
    if parser is None:
        raise InputError("expected a file name that ends in .toml, .yaml, .yml or .json")
    if len(data) > MAX_BYTES:
        raise InputError(f"too large: {len(data)} bytes; at most {MAX_BYTES} are read")
    return parser(_decode(data))


def _decode(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"not UTF-8: byte 0x{data[error.start]:02x} at line {line}") from None
    if "\0" in text:
        raise InputError(f"a NUL character at {_position(text, text.index(chr(0)))}")
    return text


def _position(text: str, offset: int) -> str:
    line = text.count("\n", 0, offset) + 1
    return f"line {line}, column {offset - text.rfind(chr(10), 0, offset)}"


def _check(text: str, token: re.Pattern[str]) -> None:
    """Refuse what would be slow, or too deep a recursion, in the parser."""
    depth = parts = 0
    for count, match in enumerate(token.finditer(text)):
        found = match.group()
        depth += _STEP.get(found, 0)
        if found == ".":
            parts += 1
        elif found in "=,\n[{":
            parts = 0
        if depth > MAX_DEPTH:
            raise InputError(f"{TOO_DEEP} at {_position(text, match.start())}")
        if parts >= _MAX_PARTS:
            raise InputError(f"a key of more than {_MAX_PARTS} parts at {_position(text, match.start())}")
        if count >= _MAX_TOKENS:
            raise InputError(f"too long: more than {_MAX_TOKENS} brackets, strings and separators")


def _toml(text: str) -> Any:
    _check(text, _TOML_TOKEN)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not valid TOML: {_brief(str(error))}") from None
    except ValueError:  # from int(), which limits the digits
        raise InputError("not valid TOML: a number of too many digits") from None


def _json(text: str) -> Any:
    import json  # noqa: PLC0415 - only for JSON files

    _check(text, _JSON_TOKEN)
    try:
        return json.loads(text, object_pairs_hook=_table, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"not valid JSON: {_brief(error.msg)} at {where}") from None
    except ValueError:
        raise InputError("not valid JSON: a number of too many digits") from None


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InputError(f"the key {shown(key)} stands twice in one table")
            seen.add(key)
    return table


def _no_constant(name: str) -> Any:
    raise InputError(f"{name} is not a finite number")


def _yaml(text: str) -> Any:
    from reconciler.sources.yaml import parse_yaml  # noqa: PLC0415 - costs 30 ms, and only for YAML files

    return parse_yaml(text)


def _brief(message: str) -> str:
    return message if len(message) <= 200 else message[:150] + "..." + message[-40:]  # noqa: PLR2004


_PARSERS: Mapping[str, Callable[[str], Any]] = {".toml": _toml, ".json": _json, ".yaml": _yaml, ".yml": _yaml}
