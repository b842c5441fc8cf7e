"""`describe`: all that is known of one set, worker or file.

Rule: nothing is asked of anybody for it; it is what the controller knows anyway. What may be a secret is hidden.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from reconciler.control.wire import LONGEST_FRAME, Refusal, encode
from reconciler.core import conditions, event
from reconciler.core.dependencies import condition
from reconciler.core.explain import explain
from reconciler.core.spec import WorkerSet
from reconciler.core.status import View, places, statuses
from reconciler.sources.dumping import dump
from reconciler.steering import serving
from reconciler.steering.arguments import REQUIRED, taken
from reconciler.steering.desk import Desk
from reconciler.steering.revisions import revision_in_force
from reconciler.steering.rows import set_rows

LATEST = 20
"""How many events `describe` shows, if they are not too long for it."""

MOST_NEEDERS = 100
"""How many of the sets that depend on one are named."""

HIDDEN = "***"
"""What is shown in the place of a value that may be a secret."""


def describe(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """All that is known of one set, worker or file."""
    (name,) = taken(args, {"name": (str, REQUIRED)})
    view = desk.engine.view()
    rejected = desk.rejections()
    if name in rejected and name not in view.actual.sets:
        file, problems = rejected[name]
        return {"kind": "file", "file": file, "rejected": problems}
    found = desk.chosen([name])
    if len(found) != 1:
        raise Refusal("BadRequest", f"{name!r} names {len(found)} sets and workers", "describe one at a time")
    set_name, key = found[0]
    if set_name not in view.actual.sets:
        raise Refusal("NotFound", f"the set {set_name!r} is not there, but it would be kept down", "`start` ends that")
    return _set(desk, view, set_name) if key is None else _worker(desk, view, set_name, key)


def explained(view: View, name: str, key: Any, now: float) -> Iterator[dict[str, Any]]:
    """What would be done now with one worker, and why; what it waits for is named."""
    for one in explain(view, name, key, now):
        yield {**attrs.asdict(one), "meaning": _meaning(view, name, one.rule, one.meaning)}


def _meaning(view: View, name: str, rule: str, meaning: str) -> str:
    if rule == "WaitsForDependency":
        return f"It starts when what its set depends on is there: {conditions.awaited(view, name)}."
    if rule == "WaitsForNeeders":
        needing = (one for one in view.actual.needers.get(name, ()) if one in view.actual.sets)
        listed = ", ".join(sorted(needing)[:MOST_NEEDERS])
        return f"It stops when the workers of those sets that depend on it are gone: {listed}."
    return meaning


def _set(desk: Desk, view: View, name: str) -> dict[str, Any]:
    _, problems = desk.rejections().get(name, ("", []))
    return {
        "kind": "set",
        "status": next(set_rows(desk, [name])),
        "spec": _shown(desk.engine.desired.get(name)),
        "file_spec": _shown(desk.engine.sourced.get(name)),
        "sockets": list(serving.of_set(desk, view, name)),
        "depends_on": list(_needs(view, name)),
        "needed_by": sorted(view.actual.needers.get(name, ()))[:MOST_NEEDERS],
        "conditions": [
            *map(attrs.asdict, conditions.of_set(view, name, problems, serving.unbound(desk, view, name))),
            *_output(desk, view, name),
        ],
        "events": _latest(desk, name, None),
        "deadline": view.actual.sets[name].due,
        "revision": revision_in_force(desk, name),
    }


def _needs(view: View, name: str) -> Iterator[dict[str, Any]]:
    """What a set depends on, each with how far it must have come, and whether it has."""
    sets = view.actual.sets
    for need in sets[name].wanted.policy.needed:
        other = sets.get(need.set)
        awaited = condition(need, None if other is None else other.wanted.policy)
        met = other is not None and awaited in other.conditions()
        yield {"set": need.set, "condition": awaited, "met": met, "restart_with": need.restart_with}


def _worker(desk: Desk, view: View, set_name: str, key: Any) -> dict[str, Any]:
    place = next(place for place in places(view, set_name) if place.key == key)
    explanations = list(explained(view, set_name, key, desk.now))
    return {
        "kind": "worker",
        "key": str(key),
        "set": set_name,
        "workers": [attrs.asdict(row) for row in statuses(place)],
        "health": [serving.health_of(desk, view, worker) for worker in place.workers if worker.live],
        "sockets": list(serving.of_worker(desk, view, set_name, key)),
        "spec": _shown(desk.engine.desired.get(set_name)),
        "conditions": [
            *map(attrs.asdict, conditions.of_worker(view, set_name, key)),
            *_output(desk, view, set_name, key),
        ],
        "exits": _latest(desk, set_name, str(key), event.WORKER_EXITED, event.WORKER_START_FAILED),
        "events": _latest(desk, set_name, str(key)),
        "explanations": explanations,
        "deadline": min((one["deadline"] for one in explanations if one["deadline"] is not None), default=None),
    }


def _output(desk: Desk, view: View, set_name: str, key: Any = None) -> Iterator[dict[str, Any]]:
    """The condition that output is lost, where it is."""
    for place in places(view, set_name):
        reason = desk.degraded().get(str(place.key)) if key in (None, place.key) else None
        if reason is not None:
            yield attrs.asdict(conditions.Condition("OutputDegraded", True, reason, str(place.key)))  # noqa: FBT003


def _latest(desk: Desk, set_name: str, key: str | None, *kinds: str) -> list[Any]:
    """The last events of a set or worker, oldest first, as many as a frame has room for."""
    found: list[Any] = []
    room = LONGEST_FRAME // 4
    for told in desk.recent.backwards():
        one = told.event
        if one.name == set_name and key in (None, one.key) and (not kinds or one.event in kinds):
            text = encode(told.fields())
            room -= len(text.encode("utf-8", "backslashreplace"))
            if room < 0 or len(found) == LATEST:
                break
            found.append(json.loads(text))
    return found[::-1]


def _shown(wanted: WorkerSet | None) -> dict[str, Any] | None:
    """The spec of a set as it may be shown to anybody: without the values of its environment, and of its probes'
    headers.
    """
    if wanted is None or wanted.template is None:
        return None
    spec = dump(wanted.template)
    for probe in spec.get("probes", {}).values():
        if "headers" in probe.get("http", {}):
            probe["http"]["headers"] = dict.fromkeys(probe["http"]["headers"], HIDDEN)
    return {**spec, "env": dict.fromkeys(spec["env"], HIDDEN)} if "env" in spec else spec
