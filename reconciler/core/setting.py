"""How one setting of a spec file is declared: its type, its default, its meaning and its bounds.

Rule: a field says all of this once. The loader, the JSON Schema, the reference and the class itself take it from there;
a field without a `doc` is not in the file.
"""

from typing import Annotated, Any

import attrs

Duration = Annotated[float, "seconds"]
"""A length of time in seconds."""

Size = Annotated[int, "bytes"]
"""An amount of data in bytes."""

SignalName = Annotated[str, "signal"]
"""A signal's name without its SIG prefix, such as "TERM"."""

Name = Annotated[str, "name"]
"""What a worker set or a socket may be called: all of it must match `NAME_PATTERN`."""

Patterns = Annotated[tuple[str, ...], "patterns"]
"""Patterns of paths, as in a shell; ** stands for any number of directories."""

FileMode = Annotated[str, "mode"]
"""The permissions of a file, as octal digits."""

NAME_PATTERN = r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?"
"""What a worker set may be called: a regular expression that must match the whole name."""


def setting(default: Any, doc: str, *, minimum: float | None = None, maximum: float | None = None) -> Any:
    """A field of a spec file: its default, its meaning, and its bounds, if any."""
    validators = []
    if minimum is not None:
        validators.append(attrs.validators.ge(minimum))
    if maximum is not None:
        validators.append(attrs.validators.le(maximum))
    metadata = {"doc": doc, "minimum": minimum, "maximum": maximum}
    return attrs.field(
        default=default, metadata=metadata, validator=attrs.validators.optional(validators) if validators else None
    )
