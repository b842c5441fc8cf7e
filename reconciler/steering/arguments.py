"""The arguments of a verb, checked as strictly as a spec file.

Rule: each verb says which it takes, with a default or without; another name, or a value of another type, is refused.
"""

from collections.abc import Mapping
from typing import Any

from reconciler.control.wire import Refusal

MOST_NAMES = 10_000
"""How many names one request may have."""

REQUIRED = object()
"""In the place of a default: the argument must be given."""

Parameters = Mapping[str, tuple[type, Any]]
"""By the name of an argument its type, and its default or REQUIRED. `list` is a list of texts."""

_EXPECTED: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: f"a list of at most {MOST_NAMES} texts",
    object: "what the verb needs",
}


def taken(args: Mapping[str, Any], parameters: Parameters) -> list[Any]:
    """The values of all parameters, in their order. Raises Refusal."""
    if unknown := sorted(args.keys() - parameters.keys()):
        known = ", ".join(parameters) or "none"
        raise Refusal("BadRequest", f"there is no argument {unknown[0][:80]!r}", f"there are: {known}")
    return [_value(args, name, type_, default) for name, (type_, default) in parameters.items()]


def _value(args: Mapping[str, Any], name: str, type_: type, default: Any) -> Any:
    value = args.get(name)
    if value is None:
        if default is REQUIRED:
            raise Refusal("BadRequest", f"the argument {name!r} is missing", f"give {_EXPECTED[type_]}")
        return default
    right = isinstance(value, type_) or (type_ is float and isinstance(value, int))
    if not right or (isinstance(value, bool) and type_ is not bool):
        raise Refusal("BadRequest", f"the argument {name!r} is wrong", f"give {_EXPECTED[type_]}")
    if type_ is list and (len(value) > MOST_NAMES or not all(isinstance(one, str) for one in value)):
        raise Refusal("BadRequest", f"the argument {name!r} is wrong", f"give {_EXPECTED[list]}")
    return value
