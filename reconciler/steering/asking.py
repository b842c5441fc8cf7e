"""The verbs that only ask.

Rule: an answer is made piece by piece, as fast as its reader takes it. What goes on (`watch`, `follow`) says what is
new at each nudge, and ends when its client leaves.
"""

from collections.abc import Mapping
from typing import Any

from reconciler.control.connection import Answer
from reconciler.control.wire import LONGEST_FRAME, encode
from reconciler.sources.dumping import dump
from reconciler.state.store import as_data
from reconciler.steering import naming
from reconciler.steering.arguments import REQUIRED, taken
from reconciler.steering.describing import explained
from reconciler.steering.desk import Desk
from reconciler.steering.revisions import revision_in_force
from reconciler.steering.rows import set_rows

AT_ONCE = 200
"""How many events are looked at before others have their turn."""

ROOM = 256
"""Bytes that a frame needs beside its item."""


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
        rows = {row["name"]: row for row in set_rows(desk) if is_meant(None, row["name"])}
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


def explain_(desk: Desk, args: Mapping[str, Any]) -> Answer:
    """What the plan would do now with each of these workers, and why."""
    (names,) = taken(args, {"names": (list, REQUIRED)})
    view = desk.engine.view()
    for name, key in list(naming.workers(view, desk.chosen(names))):
        if name in view.actual.sets:
            yield from explained(view, name, key, desk.now)
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
    """The controller's own health. The runs of schedules come and go, and do not count."""
    taken(args, {})
    view = desk.engine.view()
    scheduled = {name for name, known in view.actual.sets.items() if known.wanted.runs}
    tallies = [known.tally for name, known in view.actual.sets.items() if name not in scheduled]
    wanting = view.actual.unconverged - scheduled or view.actual.strays
    counts = {
        "sets": len(view.actual.sets),
        "workers": len(view.actual.workers),
        "wanted": sum(tally.replicas for tally in tallies),
        "ready": sum(tally.available + tally.completed for tally in tallies),
        "rejected": len(desk.rejections()),
    }
    converged = view.sourced is not None and not wanting
    return {**desk.about(), **counts, "converged": converged, "stopping": view.stopping}
