"""The JSON Schema of a spec file, made from the classes of `core.spec`.

Rule: whatever the loader accepts, the schema accepts. It is for editors, so that it keeps to the simple keywords of
draft 7; what it cannot say (fields that are good each by itself, but not together) only the loader refuses.
`reconciler/spec.schema.json` is its output and is shipped; a test compares the two.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import attrs

from reconciler.core.spec import (
    NAME_PATTERN,
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
from reconciler.sources.scalars import (
    DURATION_PATTERN,
    LARGEST,
    LARGEST_BUDGET,
    LONGEST,
    MODE_PATTERN,
    PERCENT_PATTERN,
    SIZE_PATTERN,
)

_TEXT = {"type": "string", "pattern": r"^([^{}]|\{\{|\}\}|\{(name|index|key|(fd|port):[a-z0-9._-]+)\})*$"}

_LEAVES: Mapping[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: _TEXT,
    Duration: {
        "description": 'Seconds, or a text like "30s", "500ms" or "1h30m".',
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": LONGEST},
            {"type": "string", "pattern": f"^{DURATION_PATTERN}$"},
        ],
    },
    Size: {
        "description": 'Bytes, or a text like "64KiB", "10MiB" or "1GiB".',
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": LARGEST},
            {"type": "string", "pattern": f"^{SIZE_PATTERN}$"},
        ],
    },
    SignalName: {
        "description": "The name of a signal, with or without SIG.",
        "anyOf": [
            {"enum": ["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "KILL"]},
            {"type": "string", "pattern": "^(SIG)?[A-Z][A-Z0-9+-]*$"},
        ],
    },
    Budget: {
        "description": 'A number of workers, or a share of the replicas like "25%".',
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": LARGEST_BUDGET},
            {"type": "string", "pattern": f"^{PERCENT_PATTERN}$"},
        ],
    },
    Name: {"type": "string", "pattern": f"^{NAME_PATTERN}$"},
    FileMode: {"type": "string", "pattern": f"^{MODE_PATTERN}$"},
    Patterns: {"type": "array", "items": {"type": "string", "pattern": "^[^{}]*[^{}/]$"}},
    tuple[int, ...]: {"type": "array"},
    tuple[str, ...]: {
        "anyOf": [{"type": "array", "items": _TEXT, "minItems": 1}, {"type": "string", "minLength": 1}],
    },
    Mapping[str, str]: {"type": "object", "propertyNames": {"pattern": "^[^=]+$"}, "additionalProperties": _TEXT},
}
_DEFINED: Mapping[Any, str] = {Duration: "duration", Size: "size", SignalName: "signal", Budget: "budget"}


def schema() -> dict[str, Any]:
    """The schema of a spec file, as plain data."""
    definitions: dict[str, Any] = {name: _LEAVES[type_] for type_, name in _DEFINED.items()}
    table = _table(SetSpec, definitions)
    table["properties"] = {
        "$schema": {"description": "Where this schema is, for editors; not read."},
        **table["properties"],
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A worker set of reconciler",
        **table,
        "definitions": dict(sorted(definitions.items())),
    }


def render() -> str:
    """The schema as the text that is shipped and printed."""
    return json.dumps(schema(), indent=2) + "\n"


def _table(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    fields = [field for field in attrs.fields(cls) if "doc" in field.metadata]
    table: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {field.name: _property(field, definitions) for field in fields},
    }
    if required := [field.name for field in fields if field.default is attrs.NOTHING]:
        table["required"] = required
    return table


def _property(field: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    described = {"description": field.metadata["doc"]} | _of(field.type, definitions)
    bounds = {side: field.metadata.get(side) for side in ("minimum", "maximum")}
    if "$ref" not in described:  # a duration has its bounds in its definition
        described |= {side: bound for side, bound in bounds.items() if bound is not None}
    if "item_minimum" in field.metadata:
        described["items"] = {
            "type": "integer",
            "minimum": field.metadata["item_minimum"],
            "maximum": field.metadata["item_maximum"],
        }
    if isinstance(field.default, Budget):
        described["default"] = field.default.amount
    elif isinstance(field.default, Mapping):
        described["default"] = dict(field.default)
    elif isinstance(field.default, tuple):
        if field.type != tuple[str, ...]:  # a command may be left out, but not be empty
            described["default"] = list(field.default)
    elif field.default is not attrs.NOTHING and not attrs.has(type(field.default)):
        described["default"] = field.default
    return described


def _of(type_: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """What a value of this type looks like in a file."""
    if type_ in _DEFINED:
        return {"$ref": f"#/definitions/{_DEFINED[type_]}"}
    if type_ in _LEAVES:
        return dict(_LEAVES[type_])
    if get_origin(type_) is Literal:
        return {"enum": list(get_args(type_))}
    if type(None) in get_args(type_):
        inner = next(arg for arg in get_args(type_) if arg is not type(None))
        return {"anyOf": [_of(inner, definitions), {"type": "null"}]}
    if get_origin(type_) is tuple:
        return {"type": "array", "items": _of(get_args(type_)[0], definitions)}
    name = type_.__name__.lower()
    definitions[name] = _table(type_, definitions)
    described: dict[str, Any] = {"$ref": f"#/definitions/{name}"}
    if type_ is Dependency:  # its name alone will do
        return {"anyOf": [dict(_LEAVES[Name]), described]}
    return described
