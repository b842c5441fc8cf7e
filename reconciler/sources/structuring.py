"""From plain data to a `SetSpec`, strictly.

Rule: nothing is coerced, nothing is ignored, and all problems of a file are told at once. cattrs finds the hook for
each type; the hooks are ours, because its own take `"3"` for 3 and text for a list of characters. What the types
cannot say (bounds) comes from the fields' metadata in `core.spec`. A field without a `doc` there is not in the
file.
"""

import functools
import math
import re
import shlex
import signal
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import attrs

from reconciler.core import template
from reconciler.core.spec import Budget, Duration, SetSpec, SignalName, Size
from reconciler.sources.refusal import MOST_PROBLEMS, InputError, below, kind, meant, shown

if TYPE_CHECKING:
    from cattrs import Converter

Hook = Callable[[Any, Any], Any]

LONGEST = 100 * 365 * 86400
"""The longest duration, in seconds: a hundred years. More is a slip, and would not fit the clocks' arithmetic."""

LARGEST = 1 << 50
"""The largest size, in bytes."""

LARGEST_BUDGET = 10_000
"""The largest budget in workers: as many as there may be replicas."""

DURATION_PATTERN = r"([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+"
SIZE_PATTERN = r"[0-9]+(KiB|MiB|GiB)"
PERCENT_PATTERN = r"(100|[1-9]?[0-9])%"

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(DURATION_PATTERN)
_DURATION_PART = re.compile(r"([0-9.]+)([a-z]+)")
_PERCENT = re.compile(PERCENT_PATTERN)
_SIZE = re.compile(SIZE_PATTERN)
_SIZE_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_LONGEST_TEXT = 16384  # characters of a command; shlex takes time that grows with the square of a word's length
_LONGEST_WORD = 100  # characters; no duration or percentage is longer


def structure(data: Any) -> SetSpec:
    """The spec in `data`, its `name` empty and its `cwd` as written. Raises `InputError` with all problems."""
    if not isinstance(data, dict):
        raise InputError(f"expected a table of settings at the top of the file; got {kind(data)}")
    settings = {key: value for key, value in data.items() if key != "$schema"}
    spec: SetSpec = _converter().structure(settings, SetSpec)
    return spec


@functools.cache
def _converter() -> "Converter":
    from cattrs import Converter  # noqa: PLC0415 - costs 15 ms, and a library user has no files

    converter = Converter(detailed_validation=False)
    hooks: dict[Any, Hook] = {
        bool: _bool,
        int: _int,
        float: _float,
        str: _text,
        Budget: _budget,
    }
    converter.register_structure_hook_factory(attrs.has, _table_hook)
    converter.register_structure_hook_factory(_is_choice, _choice_hook)
    converter.register_structure_hook_factory(_is_list, _list_hook)
    converter.register_structure_hook_func(lambda type_: type_ == tuple[str, ...], _command)
    converter.register_structure_hook_func(lambda type_: type_ == Mapping[str, str], _env)
    for type_, hook in hooks.items():
        converter.register_structure_hook(type_, hook)
    converter.register_structure_hook_func(lambda type_: type_ is Duration, _duration)
    converter.register_structure_hook_func(lambda type_: type_ is Size, _size)
    converter.register_structure_hook_func(lambda type_: type_ is SignalName, _signal)
    return converter


def _is_choice(type_: Any) -> bool:
    return get_origin(type_) is Literal


def _is_list(type_: Any) -> bool:
    return get_origin(type_) is tuple


def _wrong(expected: str, value: Any, hint: str = "") -> InputError:
    return InputError(f"expected {expected}; got {shown(value)}{hint}")


def _table_hook(cls: type, converter: "Converter") -> Hook:
    """The hook for a class whose fields are the keys of a table."""
    in_file = {field.name: field for field in attrs.fields(cls) if "doc" in field.metadata}
    hooks = {name: converter.get_structure_hook(field.type) for name, field in in_file.items()}
    not_in_file = {field.name: "" for field in attrs.fields(cls) if field.name not in in_file}

    def hook(table: Any, _: Any) -> Any:
        if not isinstance(table, dict):
            raise _wrong("a table", table)
        problems: list[tuple[str, str]] = []
        values: dict[str, Any] = {}
        for key, given in table.items():
            if len(problems) > MOST_PROBLEMS:
                break
            if key not in in_file:
                problems.append(("", f"unknown key {shown(key)}{meant(key, in_file)}"))
                continue
            try:
                values[key] = hooks[key](given, in_file[key].type)
            except InputError as error:
                problems += [(below(key, path), message) for path, message in error.problems]
            else:
                problems += _out_of_bounds(key, values[key], given, in_file[key].metadata)
        problems += [
            (name, f"missing: {field.metadata['doc']}")
            for name, field in in_file.items()
            if field.default is attrs.NOTHING and name not in table
        ]
        if problems:
            raise InputError(problems=problems)
        try:
            return cls(**not_in_file, **values)
        except ValueError as error:  # fields that are good each by itself, but not together
            raise InputError(str(error)) from None

    return hook


def _out_of_bounds(key: str, value: Any, given: Any, bounds: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The problems of a value, or of the items of a list, that is of the right type."""
    if "item_minimum" in bounds:
        for at, item in enumerate(value):
            if message := _outside(item, bounds["item_minimum"], bounds["item_maximum"]):
                yield below(key, f"[{at}]"), f"{message}; got {shown(given[at])}"
    elif message := _outside(value, bounds.get("minimum"), bounds.get("maximum")):
        yield key, f"{message}; got {shown(given)}"


def _outside(value: Any, low: float | None, high: float | None) -> str | None:
    if low is not None and value < low:
        return f"must be at least {low}"
    if high is not None and value > high:
        return f"must be at most {high}"
    return None


def _list_hook(type_: Any, converter: "Converter") -> Hook:
    """The hook for a list of any length, its items of one type."""
    item_type = get_args(type_)[0]
    item_hook = converter.get_structure_hook(item_type)

    def hook(items: Any, _: Any) -> tuple[Any, ...]:
        if not isinstance(items, list):
            raise _wrong("a list, like [0, 1]", items)
        problems: list[tuple[str, str]] = []
        values = []
        for at, item in enumerate(items):
            try:
                values.append(item_hook(item, item_type))
            except InputError as error:
                problems += [(f"[{at}]{path}", message) for path, message in error.problems]
                if len(problems) > MOST_PROBLEMS:
                    break
        if problems:
            raise InputError(problems=problems)
        return tuple(values)

    return hook


def _choice_hook(type_: Any) -> Hook:
    """The hook for one of a few words."""
    choices = get_args(type_)

    def hook(value: Any, _: Any) -> Any:
        if isinstance(value, str) and value in choices:
            return value
        hint = meant(value, choices) if isinstance(value, str) else ""
        raise _wrong(f"one of {', '.join(choices)}", value, hint)

    return hook


def _bool(value: Any, _: Any) -> bool:
    if isinstance(value, bool):
        return value
    unquoted = isinstance(value, str) and value.lower() in {"true", "false"}
    raise _wrong("true or false", value, f" (did you mean {value.lower()}, without quotes?)" if unquoted else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _int(value: Any, _: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong("a whole number", value)


def _float(value: Any, _: Any) -> float:
    if not _is_number(value):
        raise _wrong("a number", value)
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise _wrong("a finite number", value)
    return number


def _duration(value: Any, type_: Any) -> float:
    if isinstance(value, str):
        seconds = _seconds(value)
        if seconds is None:
            tight = "".join(value[:_LONGEST_WORD].lower().split())
            near = next((word for word in (tight, tight + "s") if _seconds(word) is not None), None)
            raise _wrong(_DURATION_EXPECTED, value, f" (did you mean {near!r}?)" if near else "")
    elif _is_number(value):
        seconds = _float(value, type_)
    else:
        raise _wrong(_DURATION_EXPECTED, value)
    if seconds > LONGEST:
        raise _wrong("at most 100 years", value)
    return seconds


_DURATION_EXPECTED = 'a duration like 30, "30s", "500ms" or "1h30m"'


def _seconds(text: str) -> float | None:
    if len(text) > _LONGEST_WORD or not _DURATION.fullmatch(text):
        return None
    return sum(float(count) * _UNITS[unit] for count, unit in _DURATION_PART.findall(text))


def _size(value: Any, _: Any) -> int:
    size = value
    if isinstance(value, str) and len(value) <= _LONGEST_WORD and _SIZE.fullmatch(value):
        size = int(value[:-3]) * _SIZE_UNITS[value[-3:]]
    if not isinstance(size, int) or isinstance(size, bool):
        raise _wrong('a size in bytes, like 65536, or like "64KiB", "10MiB" or "1GiB"', value)
    if size > LARGEST:
        raise _wrong("at most 1048576 GiB", value)
    return size


def _signal(value: Any, _: Any) -> str:
    names = [name.removeprefix("SIG") for name in signal.Signals.__members__]
    if value in ("STOP", "SIGSTOP"):
        raise _wrong("a signal that can end a process, like TERM", value)
    if isinstance(value, str) and value.removeprefix("SIG") in names:
        return value.removeprefix("SIG")
    hint = meant(value[:20].upper().removeprefix("SIG"), names) if isinstance(value, str) else ""
    raise _wrong('the name of a signal, like "TERM"', value, hint)


def _budget(value: Any, _: Any) -> Budget:
    if isinstance(value, str) and len(value) <= _LONGEST_WORD and _PERCENT.fullmatch(value):
        return Budget(int(value[:-1]), percent=True)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_BUDGET:
        return Budget(value)
    raise _wrong(f'a number from 0 to {LARGEST_BUDGET}, or a percentage from "0%" to "100%"', value)


def _unusable(text: str) -> str | None:
    """Why no process could be given this text, or None."""
    match = _UNUSABLE.search(text)
    if match is None:
        return None
    return "holds a NUL character" if match.group() == "\0" else "holds a lone surrogate, which is no character"


def _text(value: Any, _: Any) -> str:
    """Text for a process, with placeholders; every plain text of a spec is one."""
    if not isinstance(value, str):
        raise _wrong("text", value)
    if problem := _unusable(value) or template.problem(value):
        raise InputError(f"{problem}; got {shown(value)}")
    return value


def _command(value: Any, type_: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT:
            raise InputError(f"longer than {_LONGEST_TEXT} characters; write it as a list")
        try:
            words, where = shlex.split(value), ""
        except ValueError as error:
            raise InputError(f"cannot be split as a shell would: {str(error).lower()}; got {shown(value)}") from None
    elif isinstance(value, list):
        words, where = value, "[{}]"
    else:
        raise _wrong('a list of texts, like ["sleep", "60"], or one text', value)
    if not words or words[0] == "":
        raise _wrong("a program, which comes first", value)
    problems = []
    for at, word in enumerate(words):
        try:
            _text(word, type_)
        except InputError as error:
            problems += [(where.format(at), message) for _, message in error.problems]
            if len(problems) > MOST_PROBLEMS:
                break
    if problems:
        raise InputError(problems=problems)
    return tuple(words)


def _env(value: Any, _: Any) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise InputError(f'expected a table of texts, like {{ NAME = "value" }}; got {kind(value)}')
    problems = []
    for name, text in value.items():
        if not name or "=" in name or _unusable(name):
            problems.append(("", f"{shown(name)} cannot be the name of an environment variable"))
        elif name in _OURS:
            problems.append((below(name), "the controller sets this itself; leave it out, or choose another name"))
        elif not isinstance(text, str):
            problems.append((below(name), f"expected text; got {kind(text)} (put it in quotes)"))
        elif problem := _unusable(text):
            problems.append((below(name), problem))
        elif template.problem(text):
            problems.append((below(name), _BAD_TEMPLATE))
        if len(problems) > MOST_PROBLEMS:
            break
    if problems:
        raise InputError(problems=problems)
    return MappingProxyType(value)


_OURS = frozenset({"RECONCILER_NAME", "RECONCILER_INDEX", "RECONCILER_KEY", "RECONCILER_UID"})
"""The variables by which a worker knows which one it is."""

_KNOWN = ", ".join(f"{{{name}}}" for name in template.PLACEHOLDERS)
_BAD_TEMPLATE = f"holds an unknown placeholder or a lone brace; known are {_KNOWN}; double a brace to mean itself"
