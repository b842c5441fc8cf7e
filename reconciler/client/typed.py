"""From what the control socket says to the values of `core` that it speaks of.

Rule: what a newer controller adds is passed over; nothing else is. `core` is imported when a value is made, since many
programs have use for the plain data only.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from reconciler.core.event import Event
    from reconciler.core.explain import Explanation
    from reconciler.core.status import SetStatus, WorkerStatus

_T = TypeVar("_T")

_COMMON = ("key", "name", "index", "uid", "pid", "generation", "reason")
_STAMPED = ("event", "serial", "timestamp", "level")


def workers(item: Mapping[str, Any]) -> "Iterator[WorkerStatus]":
    """The incarnations in an item of `get`."""
    from reconciler.core.status import WorkerStatus  # noqa: PLC0415  see the top of the file

    return (_made(WorkerStatus, {**row, "waits_for": tuple(row.get("waits_for", ()))}) for row in item["workers"])


def set_(item: Mapping[str, Any]) -> "SetStatus":
    """An item of `sets`."""
    from reconciler.core.status import SetStatus  # noqa: PLC0415  see the top of the file

    lists = {name: tuple(item.get(name, ())) for name in ("drift", "waits_for")}
    return _made(SetStatus, {**item, **lists})


def explanation(item: Mapping[str, Any]) -> "Explanation":
    """An item of `explain`."""
    from reconciler.core.explain import Explanation  # noqa: PLC0415  see the top of the file

    return _made(Explanation, item)


def event(item: Mapping[str, Any]) -> "Event":
    """An item of `events`. Those that were missed are an event too."""
    from reconciler.core.event import EVENTS_DROPPED, Event  # noqa: PLC0415  see the top of the file

    if "missed" in item:
        return Event(EVENTS_DROPPED, extra={"count": item["missed"]})
    extra = {name: value for name, value in item.items() if name not in _COMMON + _STAMPED}
    return Event(item["event"], **{name: item.get(name) for name in _COMMON}, extra=extra)


def _made(cls: type[_T], item: Mapping[str, Any]) -> _T:
    import attrs  # noqa: PLC0415  see the top of the file

    known = {field.name for field in attrs.fields(cls)}  # type: ignore[arg-type]  # each is an attrs class
    return cls(**{name: value for name, value in item.items() if name in known})
