"""The door for spec files: bytes in, a `SetSpec` or all that is wrong with the file out.

Rule: strict, total and bounded. No input makes it raise, nothing is coerced, and a hostile file is refused in under
100 ms.
"""

import re
from pathlib import PurePath

import attrs

from reconciler.core.spec import NAME_PATTERN, SetSpec
from reconciler.sources.parsing import MAX_BYTES, parse
from reconciler.sources.refusal import MOST_PROBLEMS, InputError, shown
from reconciler.sources.structuring import structure

__all__ = ["MAX_BYTES", "Problem", "check_name", "load"]

_NAME = re.compile(NAME_PATTERN)


@attrs.frozen
class Problem:
    """One thing that is wrong with a spec file.

    `path` says where in the file: `restart.backoff.initial`, `command[2]`, or nothing for the file as a whole.
    """

    file: str
    path: str
    message: str

    def __str__(self) -> str:
        file = self.file if self.file.isprintable() else shown(self.file)
        return f"{self.message} @ {file}.{self.path}" if self.path else f"{self.message} @ {file}"


def check_name(name: str) -> str | None:
    """What is wrong with `name` as the name of a worker set, or None."""
    if _NAME.fullmatch(name):
        return None
    near = re.sub("[^a-z0-9._-]+", "-", name[:63].lower()).strip("._-")
    hint = f" (did you mean {near!r}?)" if _NAME.fullmatch(near) else ""
    return (
        f"{shown(name)} cannot be the name of a worker set: expected at most 63 of a-z, 0-9, '.', '_' and '-', "
        f"with a letter or a digit at both ends{hint}"
    )


def load(name: str, file: str, data: bytes, directory: str) -> SetSpec | tuple[Problem, ...]:
    """The worker set `name` that `data`, the content of `file`, asks for; or the file's problems, all at once.

    The suffix of `file` says the format. `directory` is the absolute path of the spec directory, to which a relative
    `cwd` is joined. Never raises for bad input.
    """
    wrong_name = check_name(name)
    problems = [("", wrong_name)] if wrong_name else []
    try:
        spec = structure(parse(file, data))
    except InputError as error:
        problems += error.problems
    else:
        if not problems:
            return attrs.evolve(spec, name=name, cwd=_place(directory, spec.cwd))
    if len(problems) > MOST_PROBLEMS:
        problems[MOST_PROBLEMS:] = [("", "and more problems than are listed here")]
    return tuple(Problem(file, path, message) for path, message in problems)


def _place(directory: str, cwd: str) -> str:
    """`cwd` as an absolute path, still with placeholders. A brace in the directory's own name is a literal one."""
    literal = directory.replace("{", "{{").replace("}", "}}")
    return str(PurePath(literal) / cwd)
