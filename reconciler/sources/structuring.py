"""From plain data to a `SetSpec`, strictly.

Rule: nothing is coerced, nothing is ignored, and all problems of a file are told at once. cattrs finds the hook for
each type; the hooks are ours, because its own take `"3"` for 3 and text for a list of characters. What the types
cannot say (bounds) comes from the fields' metadata in `core.spec`. A field without a `doc` there is not in the
file.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import attrs

from reconciler.core.consistency import InconsistentError
from reconciler.core.serving import HttpCheck
from reconciler.core.spec import (
    Budget,
    Dependency,
    Duration,
    FileMode,
    Name,
    Patterns,
    SetSpec,
    SignalName,
    Size,
)
from reconciler.sources import scalars
from reconciler.sources.refusal import MOST_PROBLEMS, InputError, below, item, kind, meant, shown
from reconciler.sources.scalars import Hook, wrong

if TYPE_CHECKING:
    from cattrs import Converter

_BY_TYPE: Mapping[Any, Hook] = {
    bool: scalars.bool_of,
    int: scalars.int_of,
    float: scalars.float_of,
    str: scalars.text_of,
    Budget: scalars.budget_of,
}
_BY_FORM: tuple[tuple[Any, Hook], ...] = (
    (tuple[str, ...], scalars.command_of),
    (Mapping[str, str], scalars.env_of),
    (Duration, scalars.duration_of),
    (Size, scalars.size_of),
    (SignalName, scalars.signal_of),
    (Name, scalars.name_of),
    (FileMode, scalars.mode_of),
    (Patterns, scalars.patterns_of),
)
"""The hooks of types that are no classes: those that come later are asked first."""

_BY_FIELD: Mapping[tuple[type, str], Hook] = {(HttpCheck, "headers"): scalars.headers_of}
"""The hooks of fields whose type does not say all."""


def structure(data: Any) -> SetSpec:
    """The spec in `data`, its `name` empty and its `cwd` as written. Raises `InputError` with all problems."""
    if not isinstance(data, dict):
        raise InputError(f"expected a table of settings at the top of the file; got {kind(data)}")
    settings = {key: value for key, value in data.items() if key != "$schema"}
    spec: SetSpec = _converter().structure(settings, SetSpec)
    if spec.schedule is not None or spec.time_zone != "UTC":
        from reconciler import schedules  # noqa: PLC0415  few files have one

        if problem := schedules.zone_problem(spec.time_zone):
            raise InputError(problems=[("time_zone", problem)])
        if spec.schedule is not None and (problem := schedules.problem(spec.schedule, spec.time_zone)):
            raise InputError(problems=[("schedule", problem)])
    return spec


@functools.cache
def _converter() -> "Converter":
    from cattrs import Converter  # noqa: PLC0415 - costs 15 ms, and a library user has no files

    converter = Converter(detailed_validation=False)
    converter.register_structure_hook_factory(attrs.has, _table_hook)
    converter.register_structure_hook_factory(_is_choice, _choice_hook)
    converter.register_structure_hook_factory(_is_list, _list_hook)
    for type_, hook in _BY_TYPE.items():
        converter.register_structure_hook(type_, hook)
    for form, hook in _BY_FORM:
        converter.register_structure_hook_func(functools.partial(_is, form), hook)
    converter.register_structure_hook(Dependency, _dependency_hook(converter))
    return converter


def _is_choice(type_: Any) -> bool:
    return get_origin(type_) is Literal


def _is_list(type_: Any) -> bool:
    return get_origin(type_) is tuple


def _is(form: Any, type_: Any) -> bool:
    return bool(type_ == form)


def _table_hook(cls: type, converter: "Converter") -> Hook:
    """The hook for a class whose fields are the keys of a table."""
    in_file = {field.name: field for field in attrs.fields(cls) if "doc" in field.metadata}
    hooks = {
        name: _BY_FIELD.get((cls, name)) or converter.get_structure_hook(field.type) for name, field in in_file.items()
    }
    not_in_file: dict[str, Any] = {field.name: "" for field in attrs.fields(cls) if field.name not in in_file}

    def hook(table: Any, _: Any) -> Any:
        if not isinstance(table, dict):
            raise wrong("a table", table)
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
        return _made(cls, not_in_file | values)

    return hook


def _made(cls: type, values: Mapping[str, Any]) -> Any:
    """The value of a table whose settings are each good by itself."""
    try:
        return cls(**values)
    except InconsistentError as error:
        raise InputError(problems=error.problems) from None
    except ValueError as error:
        raise InputError(str(error)) from None


def _out_of_bounds(key: str, value: Any, given: Any, bounds: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The problems of a value, or of the items of a list, that is of the right type."""
    if value is None:
        return
    if "item_minimum" in bounds:
        for at, each in enumerate(value):
            if message := _outside(each, bounds["item_minimum"], bounds["item_maximum"]):
                yield below(key, item(at)), f"{message}; got {shown(given[at])}"
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
            raise wrong(f"a list{_LISTED.get(item_type, ' of tables')}", items)
        problems: list[tuple[str, str]] = []
        values = []
        for at, given in enumerate(items):
            try:
                values.append(item_hook(given, item_type))
            except InputError as error:
                problems += [(item(at, path), message) for path, message in error.problems]
                if len(problems) > MOST_PROBLEMS:
                    break
        if problems:
            raise InputError(problems=problems)
        return tuple(values)

    return hook


_LISTED = {int: ", like [0, 1]", Dependency: ', like ["db"]'}
"""An example for the items of some lists."""


def _dependency_hook(converter: "Converter") -> Hook:
    """The hook for a set that is depended on: its name, or a table."""
    table_hook = _table_hook(Dependency, converter)

    def hook(given: Any, type_: Any) -> Any:
        if isinstance(given, dict):
            return table_hook(given, type_)
        if not isinstance(given, str):
            raise wrong('the name of a set, like "db", or a table, like { set = "db" }', given)
        return Dependency(set=scalars.name_of(given, Name))

    return hook


def _choice_hook(type_: Any) -> Hook:
    """The hook for one of a few words."""
    choices = get_args(type_)

    def hook(value: Any, _: Any) -> Any:
        if isinstance(value, str) and value in choices:
            return value
        hint = meant(value, choices) if isinstance(value, str) else ""
        raise wrong(f"one of {', '.join(choices)}", value, hint)

    return hook
