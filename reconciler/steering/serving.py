"""What `describe` tells of serving: where the sockets of a set or worker listen, and how a worker answers its probes.

Rule: what is told is what is, not what the spec says: the port that was taken, the last answer that came.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any

from reconciler.core import health, template
from reconciler.core.lifecycle import own
from reconciler.core.names import names_of
from reconciler.core.serving import Probe, Socket
from reconciler.core.spec import Command
from reconciler.core.status import View
from reconciler.core.worker import Phase, Worker
from reconciler.steering.desk import Desk

MOST_SOCKETS, MOST_SHARING = 50, 20
"""How many sockets are told of a set, and of each how many sets that share it; an answer must fit into a frame."""


def of_set(desk: Desk, view: View, name: str) -> Iterator[dict[str, Any]]:
    """The sockets of a set: one for each worker where it is `per_worker`, else who shares it; the first ones."""
    return islice(_of_set(desk, view, name), MOST_SOCKETS)


def _of_set(desk: Desk, view: View, name: str) -> Iterator[dict[str, Any]]:
    known = view.actual.sets[name]
    keys = sorted({*known.wanted.workers, *known.by_key})
    for one in _sockets(view, name):
        if one.per_worker:
            yield from (_told(desk, one, name, key) for key in keys)
        else:
            yield {**_told(desk, one, name), "shared_with": list(islice(_sharing(view, one, name), MOST_SHARING))}


def of_worker(desk: Desk, view: View, name: str, key: Any) -> Iterator[dict[str, Any]]:
    """The sockets of a worker, in the order in which it is given them: those that it has, or else would have."""
    workers = view.actual.sets[name].by_key.get(key, ())
    payload = workers[-1].spec.payload if workers else None
    for one in payload.sockets if isinstance(payload, Command) else _sockets(view, name):
        yield _told(desk, one, name, key)


def unbound(desk: Desk, view: View, name: str) -> Mapping[Socket, str]:
    """The sockets of a set that are not open, each with the reason."""
    reasons = desk.unbound()
    found = {}
    for one in _sockets(view, name):
        keys = view.actual.sets[name].wanted.workers if one.per_worker else [None]
        if one in reasons:
            found[one] = reasons[one]
        elif not any(desk.listening([one], names_of(name, key)) for key in keys):
            found[one] = f"{one.name} is not made yet"
    return MappingProxyType(found)


def health_of(desk: Desk, view: View, worker: Worker) -> dict[str, Any]:
    """How a worker that lives is: what it told, how its probes were answered, and until when it must be heard of
    (seconds, monotonic).
    """
    policy, now = own(worker, view.actual.sets[worker.set_name].wanted.policy), worker.health
    interval = None if policy.watchdog is None else now.watchdog or policy.watchdog
    runs = worker.phase is Phase.RUNNING
    return {
        "uid": worker.uid,
        "tells": policy.ready == "notify",
        "told": now.told,
        "ready_by": now.ready_by if runs else None,
        "stop_by": now.stop_by if runs else None,
        "reloading": now.reloading,
        "ailment": now.ailment,
        "message": now.message,
        "watchdog": None if interval is None else {"interval": _finite(interval), "due": _finite(now.watchdog_at)},
        "probes": [
            _answers(desk, worker, kind, probe)
            for kind in health.KINDS
            if runs and (probe := policy.probes.of(kind)) is not None
        ],
    }


def _answers(desk: Desk, worker: Worker, kind: Any, probe: Probe) -> dict[str, Any]:
    known = worker.health.of(kind)
    return {
        "kind": kind,
        "asks": _asks(desk, worker, probe),
        "good": known.good,
        "streak": known.streak,
        "success_threshold": probe.success_threshold,
        "failure_threshold": probe.failure_threshold,
        "message": known.message,
        "asking": worker.health.asking == kind,
        "due": known.due,
    }


def _asks(desk: Desk, worker: Worker, probe: Probe) -> str:
    """What a probe asks of a worker, in a few words."""
    if probe.http is not None:
        text = f"http {probe.http.address}{probe.http.path}"
    elif probe.exec is not None:
        text = f"exec {' '.join(probe.exec)}"
    else:
        text = f"tcp {probe.tcp}" if probe.tcp is not None else f"file {probe.file}"
    values = names_of(worker.set_name, worker.key)
    command = worker.spec.payload
    ports = desk.ports(command.sockets, values) if isinstance(command, Command) else {}
    try:
        return template.render(text, {**values, **ports})
    except KeyError:
        return text


def _sockets(view: View, name: str) -> tuple[Socket, ...]:
    wanted = view.actual.sets[name].wanted
    return () if wanted.template is None else wanted.template.sockets


def _told(desk: Desk, one: Socket, set_name: str, key: Any = None) -> dict[str, Any]:
    """One socket: where it listens, None if it is not open, and why if it cannot be."""
    values = names_of(set_name, key)
    found = desk.listening([one], values).get(one.name)
    return {
        "name": one.name,
        "key": str(key) if one.per_worker else None,
        "address": None if found is None else found.address,
        "given": found is not None and found.given,
        "wanted": template.render(one.address, values) if one.per_worker else one.address,
        "problem": desk.unbound().get(one) if found is None else None,
    }


def _sharing(view: View, one: Socket, name: str) -> Iterator[str]:
    """The other sets that have the very same socket."""
    from reconciler.listeners import is_shared  # noqa: PLC0415  for those that have sockets only

    for other in sorted(view.actual.sets):
        if other != name and any(is_shared(one, socket) for socket in _sockets(view, other)):
            yield other


def _finite(when: float | None) -> float | None:
    return None if when is None or math.isinf(when) else when
