"""The verbs that only ask.

Rule: an answer is made piece by piece, as fast as its reader takes it. What goes on (`watch`, `follow`) says what is
new at each nudge, and ends when its client leaves.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from reconciler.control.connection import Answer
from reconciler.control.wire import LONGEST_FRAME, Refusal, encode
from reconciler.core import conditions, event
from reconciler.core.explain import explain
from reconciler.core.override import RolledBack
from reconciler.core.spec import WorkerSet
from reconciler.core.status import View, places, set_status, statuses
from reconciler.sources.dumping import dump
from reconciler.state.store import as_data
from reconciler.steering import naming
from reconciler.steering.arguments import REQUIRED, taken
from reconciler.steering.desk import Desk

LATEST = 20
"""How many events `describe` shows, if they are not too long for it."""

AT_ONCE = 200
"""How many events are looked at before others have their turn."""

ROOM = 256
"""Bytes that a frame needs beside its item."""

HIDDEN = "***"
"""What is shown in the place of a value that may be a secret."""


def get(desk: Desk, args: Mapping[str, Any]) -> Answer:
    """All workers, or those that are named; with `watch` also each change."""
    names, watch = taken(args, {"names": (list, []), "watch": (bool, False)})
    roster = desk.look()
    wanted = roster.names()
    if names:
        chosen = naming.workers(desk.engine.view(), desk.chosen(names))
        asked = set(chosen)
        wanted = [name for name in wanted if name in asked]
    version = roster.version
    yield from roster.items(wanted)
    if not watch:
        return {}
    yield {"synced": True}
    is_meant = naming.Meant(names)
    while True:
        desk.look()
        changed, version = roster.since(version), roster.version
        yield from roster.items(name for name in changed if is_meant(str(name[1]), name[0]))
        yield None


def sets(desk: Desk, args: Mapping[str, Any]) -> Answer:
    """All sets, or those that are named; with `watch` also each change."""
    names, watch = taken(args, {"names": (list, []), "watch": (bool, False)})
    desk.chosen([name for name in names if name not in desk.rejections()])
    is_meant = naming.Meant(names)
    told: dict[str, Mapping[str, Any]] = {}
    first = True
    while True:
        rows = {row["name"]: row for row in _set_rows(desk) if is_meant(None, row["name"])}
        for name in [name for name in told if name not in rows]:
            del told[name]
            yield {"name": name, "gone": True}
        for name, row in rows.items():
            if told.get(name) != row:
                told[name] = row
                yield row
        if not watch:
            return {}
        if first:
            first = False
            yield {"synced": True}
        yield None


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


def explain_(desk: Desk, args: Mapping[str, Any]) -> Answer:
    """What the plan would do now with each of these workers, and why."""
    (names,) = taken(args, {"names": (list, REQUIRED)})
    view = desk.engine.view()
    for name, key in list(naming.workers(view, desk.chosen(names))):
        if name in view.actual.sets:
            yield from _explained(view, name, key, desk.now)
    return {}


def specs(desk: Desk, args: Mapping[str, Any]) -> Answer:
    """The specs of sets as plain data: of their files, or `effective` with what was laid over them. One that is too
    long for a frame is null. At the end the number of the reading, by which `commit` can be held to it.
    """
    names, effective = taken(args, {"names": (list, []), "effective": (bool, False)})
    serial = desk.engine.readings
    sourced = desk.engine.desired if effective else desk.engine.sourced
    chosen = {name for name, _ in desk.chosen(names)} if names else sourced.keys()
    files = desk.files()
    for name in sorted(chosen):
        known = sourced.get(name)
        if known is not None and known.template is not None:
            item = {"name": name, "file": files.get(name), "spec": dump(known.template)}
            text = encode(item).encode("utf-8", "backslashreplace")
            yield text if len(text) < LONGEST_FRAME - ROOM else {**item, "spec": None}
    return {"serial": serial}


def overrides(desk: Desk, args: Mapping[str, Any]) -> Answer:
    """What was laid over the files, as plain data."""
    taken(args, {})
    for one in desk.engine.overrides:
        yield as_data(one)
    return {}


def history(desk: Desk, args: Mapping[str, Any]) -> Answer:
    """The revisions of a set, oldest first."""
    (name,) = taken(args, {"set": (str, REQUIRED)})
    desk.known_set(name)
    current = revision_in_force(desk, name)
    for one in desk.store.revisions(name):
        data = {"revision": one.number, "recorded": one.recorded, "spec": one.spec, "current": one.number == current}
        yield encode(data).encode("utf-8", "backslashreplace")
    return {}


def events(desk: Desk, args: Mapping[str, Any]) -> Answer:
    """The events that are remembered, since a time if given (seconds, Unix time); with `follow` also each new one.
    Names need not exist any more.
    """
    names, follow, since = taken(args, {"names": (list, []), "follow": (bool, False), "since": (float, None)})
    is_meant, recent = naming.Meant(names), desk.recent
    serial = 0 if since is None else recent.since(since)
    while True:
        if serial and (missed := recent.missed(serial)):
            yield {"missed": missed}
            serial += missed
        for told in recent.some(serial, AT_ONCE):
            serial = told.serial
            if is_meant(told.event.key, told.event.name):
                yield encode(told.fields()).encode("utf-8", "backslashreplace")
                if recent.missed(serial):
                    break  # it was overtaken while its reader did not read
        if serial < recent.serial:
            yield b""
        elif follow:
            yield None
        else:
            return {}


def status(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """The controller's own health."""
    taken(args, {})
    view = desk.engine.view()
    tallies = [known.tally for known in view.actual.sets.values()]
    counts = {
        "sets": len(tallies),
        "workers": len(view.actual.workers),
        "wanted": sum(tally.replicas for tally in tallies),
        "ready": sum(tally.available + tally.completed for tally in tallies),
        "rejected": len(desk.rejections()),
    }
    return {**desk.about(), **counts, "converged": view.converged, "stopping": view.stopping}


def revision_in_force(desk: Desk, name: str) -> int | None:
    """The number of the revision that a set runs."""
    for one in desk.engine.overrides:
        if isinstance(one, RolledBack) and one.set_name == name:
            return one.revision
    known = desk.store.revisions(name)
    return known[-1].number if known else None


def _set_rows(desk: Desk, names: Sequence[str] = ()) -> Iterator[Mapping[str, Any]]:
    view, files, rejected = desk.engine.view(), desk.files(), desk.rejections()
    for name in names or sorted({*view.actual.sets, *rejected}):
        file, problems = rejected.get(name, (files.get(name), []))
        if name in view.actual.sets:
            yield {**attrs.asdict(set_status(view, name)), "file": file, "rejected": problems}
        else:
            nothing = dict.fromkeys(
                ("generation", "observed_generation", "replicas", "available", "updated", "failed"), 0
            )
            flags = {"stalled": False, "converged": False, "settled": True, "paused": False, "drift": []}
            yield {"name": name, **nothing, **flags, "file": file, "rejected": problems}


def _set(desk: Desk, view: View, name: str) -> dict[str, Any]:
    _, problems = desk.rejections().get(name, ("", []))
    return {
        "kind": "set",
        "status": next(row for row in _set_rows(desk, [name])),
        "spec": _shown(desk.engine.desired.get(name)),
        "file_spec": _shown(desk.engine.sourced.get(name)),
        "conditions": [
            *map(attrs.asdict, conditions.of_set(view, name, problems, desk.unbound())),
            *_output(desk, view, name),
        ],
        "events": _latest(desk, name, None),
        "deadline": view.actual.sets[name].due,
        "revision": revision_in_force(desk, name),
    }


def _worker(desk: Desk, view: View, set_name: str, key: Any) -> dict[str, Any]:
    place = next(place for place in places(view, set_name) if place.key == key)
    explanations = list(_explained(view, set_name, key, desk.now))
    return {
        "kind": "worker",
        "key": str(key),
        "set": set_name,
        "workers": [attrs.asdict(row) for row in statuses(place)],
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


def _explained(view: View, name: str, key: Any, now: float) -> Iterator[dict[str, Any]]:
    for one in explain(view, name, key, now):
        yield {**attrs.asdict(one), "meaning": one.meaning}


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
