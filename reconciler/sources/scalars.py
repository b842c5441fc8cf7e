"""The values of a spec file that are no tables: numbers, texts, durations, budgets and the like, strictly.

Rule: nothing is coerced. A value that was given is taken as it is, or refused with what was expected.
"""

import math
import re
import shlex
import signal
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from reconciler.core import template
from reconciler.core.spec import NAME_PATTERN, Budget
from reconciler.sources.refusal import MOST_PROBLEMS, InputError, below, kind, meant, shown

Hook = Callable[[Any, Any], Any]
"""Takes what was given and the type that is expected; the value, or an `InputError`."""

LONGEST = 100 * 365 * 86400
"""The longest duration, in seconds: a hundred years. More is a slip, and would not fit the clocks' arithmetic."""

LARGEST = 1 << 50
"""The largest size, in bytes."""

LARGEST_BUDGET = 10_000
"""The largest budget in workers: as many as there may be replicas."""

DURATION_PATTERN = r"([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+"
SIZE_PATTERN = r"[0-9]+(KiB|MiB|GiB)"
PERCENT_PATTERN = r"(100|[1-9]?[0-9])%"
MODE_PATTERN = r"0?[0-7]{3}"

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(DURATION_PATTERN)
_DURATION_PART = re.compile(r"([0-9.]+)([a-z]+)")
_PERCENT = re.compile(PERCENT_PATTERN)
_SIZE = re.compile(SIZE_PATTERN)
_SIZE_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_NAME = re.compile(NAME_PATTERN)
_MODE = re.compile(MODE_PATTERN)
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_LONGEST_TEXT = 16384  # characters of a command; shlex takes time that grows with the square of a word's length
_LONGEST_WORD = 100  # characters; no duration or percentage is longer


def wrong(expected: str, value: Any, hint: str = "") -> InputError:
    """A refusal that says what was expected and what was found."""
    return InputError(f"expected {expected}; got {shown(value)}{hint}")


def bool_of(value: Any, _: Any) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    unquoted = isinstance(value, str) and value.lower() in {"true", "false"}
    raise wrong("true or false", value, f" (did you mean {value.lower()}, without quotes?)" if unquoted else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def int_of(value: Any, _: Any) -> int:
    """A whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise wrong("a whole number", value)


def float_of(value: Any, _: Any) -> float:
    """A finite number."""
    if not _is_number(value):
        raise wrong("a number", value)
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise wrong("a finite number", value)
    return number


def duration_of(value: Any, type_: Any) -> float:
    """A length of time, in seconds."""
    if isinstance(value, str):
        seconds = _seconds(value)
        if seconds is None:
            tight = "".join(value[:_LONGEST_WORD].lower().split())
            near = next((word for word in (tight, tight + "s") if _seconds(word) is not None), None)
            raise wrong(_DURATION_EXPECTED, value, f" (did you mean {near!r}?)" if near else "")
    elif _is_number(value):
        seconds = float_of(value, type_)
    else:
        raise wrong(_DURATION_EXPECTED, value)
    if seconds < 0:
        raise InputError(f"must be at least 0; got {shown(value)}")
    if seconds > LONGEST:
        raise wrong("at most 100 years", value)
    return seconds


_DURATION_EXPECTED = 'a duration like 30, "30s", "500ms" or "1h30m"'


def _seconds(text: str) -> float | None:
    if len(text) > _LONGEST_WORD or not _DURATION.fullmatch(text):
        return None
    return sum(float(count) * _UNITS[unit] for count, unit in _DURATION_PART.findall(text))


def size_of(value: Any, _: Any) -> int:
    """An amount of data, in bytes."""
    size = value
    if isinstance(value, str) and len(value) <= _LONGEST_WORD and _SIZE.fullmatch(value):
        size = int(value[:-3]) * _SIZE_UNITS[value[-3:]]
    if not isinstance(size, int) or isinstance(size, bool):
        raise wrong('a size in bytes, like 65536, or like "64KiB", "10MiB" or "1GiB"', value)
    if size > LARGEST:
        raise wrong("at most 1048576 GiB", value)
    return size


def signal_of(value: Any, _: Any) -> str:
    """A signal's name, without SIG."""
    names = [name.removeprefix("SIG") for name in signal.Signals.__members__]
    if value in ("STOP", "SIGSTOP"):
        raise wrong("a signal that can end a process, like TERM", value)
    if isinstance(value, str) and value.removeprefix("SIG") in names:
        return value.removeprefix("SIG")
    hint = meant(value[:20].upper().removeprefix("SIG"), names) if isinstance(value, str) else ""
    raise wrong('the name of a signal, like "TERM"', value, hint)


def name_of(value: Any, _: Any) -> str:
    """What a set or a socket may be called."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise wrong('a name of a-z, 0-9, ".", "_" and "-", like "web"', value)


def mode_of(value: Any, _: Any) -> str:
    """A file's permissions, in octal."""
    if isinstance(value, str) and _MODE.fullmatch(value):
        return value
    raise wrong('the permissions of a file in octal, as text, like "0660"', value)


def patterns_of(value: Any, _: Any) -> tuple[str, ...]:
    """Patterns of paths."""
    if not isinstance(value, list):
        raise wrong('a list of patterns, like ["app/**/*.py"]', value)
    found = [(f"[{at}]", _pattern_problem(pattern), pattern) for at, pattern in enumerate(value)]
    problems = [(path, f"{problem}; got {shown(pattern)}") for path, problem, pattern in found if problem]
    if problems:
        raise InputError(problems=problems[:MOST_PROBLEMS])
    return tuple(value)


def _pattern_problem(pattern: Any) -> str | None:
    if not isinstance(pattern, str) or not pattern:
        return "expected a pattern, like 'app/**/*.py'"
    if problem := _unusable(pattern):
        return problem
    if "{" in pattern or "}" in pattern:
        return "braces mean nothing in a pattern; write one pattern for each, and no placeholder"
    if pattern.endswith("/"):
        return "patterns are for files; add ** for all that are below"
    if any("**" in part and part != "**" for part in pattern.split("/")):
        return "** stands for whole directories; write it between slashes, like 'app/**/*.py'"
    return None


def budget_of(value: Any, _: Any) -> Budget:
    """A number of workers, or a share."""
    if isinstance(value, str) and len(value) <= _LONGEST_WORD and _PERCENT.fullmatch(value):
        return Budget(int(value[:-1]), percent=True)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_BUDGET:
        return Budget(value)
    raise wrong(f'a number from 0 to {LARGEST_BUDGET}, or a percentage from "0%" to "100%"', value)


def _unusable(text: str) -> str | None:
    """Why no process could be given this text, or None."""
    match = _UNUSABLE.search(text)
    if match is None:
        return None
    return "holds a NUL character" if match.group() == "\0" else "holds a lone surrogate, which is no character"


def text_of(value: Any, _: Any) -> str:
    """Text for a process, with placeholders; every plain text of a spec is one."""
    if not isinstance(value, str):
        raise wrong("text", value)
    if problem := _unusable(value) or template.problem(value):
        raise InputError(f"{problem}; got {shown(value)}")
    return value


def command_of(value: Any, type_: Any) -> tuple[str, ...]:
    """A program and its arguments."""
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
        raise wrong('a list of texts, like ["sleep", "60"], or one text', value)
    if not words or words[0] == "":
        raise wrong("a program, which comes first", value)
    problems = []
    for at, word in enumerate(words):
        try:
            text_of(word, type_)
        except InputError as error:
            problems += [(where.format(at), message) for _, message in error.problems]
            if len(problems) > MOST_PROBLEMS:
                break
    if problems:
        raise InputError(problems=problems)
    return tuple(words)


def env_of(value: Any, _: Any) -> Mapping[str, str]:
    """Variables of an environment; their values are never quoted, as they may be secrets."""
    if not isinstance(value, dict):
        raise InputError(f'expected a table of texts, like {{ NAME = "value" }}; got {kind(value)}')
    problems = []
    for name, text in value.items():
        if not name or "=" in name or _unusable(name):
            problems.append(("", f"{shown(name)} cannot be the name of an environment variable"))
        elif name in OURS:
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


OURS = frozenset(
    {
        "RECONCILER_NAME",
        "RECONCILER_INDEX",
        "RECONCILER_KEY",
        "RECONCILER_UID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
    }
)
"""The variables by which a worker knows which one it is, what it was given, and whom to tell."""

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")


def headers_of(value: Any, _: Any) -> Mapping[str, str]:
    """Headers of a request; their values are never quoted, as they may be secrets."""
    if not isinstance(value, dict):
        raise InputError(f'expected a table of texts, like {{ Accept = "text/plain" }}; got {kind(value)}')
    problems = []
    for name, text in value.items():
        if not _HEADER.fullmatch(name):
            problems.append(("", f"{shown(name)} cannot be the name of a header"))
        elif not isinstance(text, str):
            problems.append((below(name), f"expected text; got {kind(text)} (put it in quotes)"))
        elif not _HEADER_VALUE.fullmatch(text):
            problems.append((below(name), "expected ASCII text of one line"))
        elif template.problem(text):
            problems.append((below(name), _BAD_TEMPLATE))
    if problems:
        raise InputError(problems=problems[:MOST_PROBLEMS])
    return MappingProxyType(value)


_BAD_TEMPLATE = (
    f"holds an unknown placeholder or a lone brace; known are {template.KNOWN}; double a brace to mean itself"
)
