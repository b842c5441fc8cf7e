"""From a `SetSpec` back to the plain data of a spec file.

Rule: what `dump` says, `restore` takes for the very same spec, by the strict reading that every file goes through. Both
go by the fields of the classes in `core.spec`, so that a new setting needs nothing here.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from reconciler.core.spec import Budget, Dependency, SetSpec
from reconciler.sources.loading import check_name
from reconciler.sources.refusal import InputError, below
from reconciler.sources.structuring import structure


def dump(spec: SetSpec) -> dict[str, Any]:
    """The settings of `spec` that are not the defaults, as JSON can say them; durations are seconds.

    The name is left out, as in a file. `cwd` stays as it is in the spec: for one that was loaded, an absolute path.
    """
    return _table(spec)


def restore(name: str, data: Mapping[str, Any]) -> SetSpec:
    """The spec called `name` that `data`, made by `dump`, stands for. Raises `InputError` for anything else."""
    if wrong := check_name(name):
        raise InputError(wrong)
    spec = structure({key: _encodable(value) if key == "cwd" else value for key, value in data.items()})
    return attrs.evolve(spec, name=name, cwd=data.get("cwd", spec.cwd))


def origins(data: Mapping[str, Any]) -> set[str]:
    """The paths of all settings and tables that stand in `data`, a parsed spec file: `restart`, `restart.policy`.

    They are written as in the problems of a file: `env.PATH`, `env['a b']`.
    """
    return set(_paths({key: value for key, value in data.items() if key != "$schema"}))


def _table(value: Any) -> dict[str, Any]:
    in_file = [field for field in attrs.fields(type(value)) if "doc" in field.metadata]
    given = {field.name: (getattr(value, field.name), field.default) for field in in_file}
    return {name: plain(item) for name, (item, default) in given.items() if item != default}


def plain(value: Any) -> Any:
    """A value of a setting as JSON can say it: a table without its defaults, a set that is depended on by its name."""
    if isinstance(value, Budget):
        return str(value) if value.percent else value.amount
    if isinstance(value, Dependency) and value == Dependency(set=value.set):
        return value.set
    if attrs.has(type(value)):
        return _table(value)
    if isinstance(value, Mapping):
        return dict(value)
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def _encodable(cwd: Any) -> Any:
    """`cwd` as a file could say it: the path of the spec directory itself may have bytes that are no UTF-8."""
    return cwd.encode("utf-8", "backslashreplace").decode() if isinstance(cwd, str) else cwd


def _paths(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        yield below(key)
        if isinstance(value, Mapping):
            yield from (below(key, path) for path in _paths(value))
