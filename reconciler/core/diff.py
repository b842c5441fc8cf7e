"""The ordered difference of two keyed collections.

Rule: what differs is found by key and told in key order; equality of the values says what changed, so a spec that is
written anew with the same content is no change.
"""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Literal

import attrs


@attrs.frozen
class Change:
    """One key that differs."""

    key: Any
    kind: Literal["added", "changed", "removed"]


def diff(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> list[Change]:
    """The keys in which `after` differs from `before`, in key order. Keys must be hashable and orderable.

    Raises TypeError where the keys cannot be ordered among themselves.
    """
    changed = [Change(key, "changed") for key, value in after.items() if key in before and before[key] != value]
    added = [Change(key, "added") for key in after if key not in before]
    removed = [Change(key, "removed") for key in before if key not in after]
    return sorted([*changed, *added, *removed], key=lambda change: change.key)


def fields(before: Any, after: Any) -> Iterator[str]:
    """The names of the attributes, down to the innermost attrs value, in which two values of one attrs class differ."""
    for attribute in type(before).__attrs_attrs__:
        one, other = getattr(before, attribute.name), getattr(after, attribute.name)
        if one == other:
            continue
        if type(one) is type(other) and hasattr(type(one), "__attrs_attrs__"):
            yield from (f"{attribute.name}.{name}" for name in fields(one, other))
        else:
            yield attribute.name


def ordered(items: Mapping[Hashable, Any]) -> dict[Any, Any]:
    """The same mapping in key order. Raises TypeError where the keys cannot be ordered among themselves."""
    return dict(sorted(items.items(), key=lambda item: item[0]))  # type: ignore[arg-type,return-value]
