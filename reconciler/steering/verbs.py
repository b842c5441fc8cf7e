"""The closed table of verbs.

Rule: a verb is found in this table and nowhere else; no text of a client is ever looked up by anything but it.
"""

from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType
from typing import Any

from reconciler.control.connection import Answer
from reconciler.control.wire import Refusal
from reconciler.steering import asking, describing, orders
from reconciler.steering.desk import Desk

Verb = Callable[[Desk, Mapping[str, Any]], Answer | Mapping[str, Any]]

VERBS: Mapping[str, Verb] = MappingProxyType(
    {
        "get": asking.get,
        "sets": asking.sets,
        "describe": describing.describe,
        "explain": asking.explain_,
        "specs": asking.specs,
        "overrides": asking.overrides,
        "history": asking.history,
        "events": asking.events,
        "status": asking.status,
        "scale": orders.scale,
        "stop": orders.stop,
        "start": orders.start,
        "restart": orders.restart,
        "reset": orders.reset,
        "signal": orders.signal,
        "pause": orders.pause,
        "resume": orders.resume,
        "undo": orders.undo,
        "commit": orders.commit,
        "reload": orders.reload,
        "shutdown": orders.shutdown,
    }
)


def handler(desk: Desk) -> Callable[[str, Mapping[str, Any]], Answer]:
    """What carries out requests at this desk."""

    def handle(verb: str, args: Mapping[str, Any]) -> Answer:
        found = VERBS.get(verb)
        if found is None:
            from difflib import get_close_matches  # noqa: PLC0415  for slips only

            near = get_close_matches(verb[:40], VERBS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(VERBS)}"
            raise Refusal("UnknownVerb", f"there is no verb {verb[:40]!r}", hint)
        answer = found(desk, args)
        return (yield from answer) if isinstance(answer, Generator) else answer

    return handle
