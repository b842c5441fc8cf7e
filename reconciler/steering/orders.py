"""The verbs that give orders.

Rule: an order edits the overrides, saves them, and lets the engine act; then it is done. What comes of it is for those
who ask afterwards.
"""

import signal as signals
from collections.abc import Mapping
from typing import Any

from reconciler.control.wire import Refusal
from reconciler.core.override import Paused, RestartAsked, RolledBack, Scale, StayDown, added, without
from reconciler.core.spec import MOST_REPLICAS, SetSpec
from reconciler.core.status import places
from reconciler.sources import writing
from reconciler.steering import naming
from reconciler.steering.arguments import REQUIRED, taken
from reconciler.steering.asking import revision_in_force
from reconciler.steering.desk import Desk

_NAMES = {"names": (list, REQUIRED)}
_SET = {"set": (str, REQUIRED)}


def scale(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run so many workers of a set, until its file says another number itself."""
    name, replicas = taken(args, {**_SET, "replicas": (int, REQUIRED)})
    if not 0 <= replicas <= MOST_REPLICAS:
        raise Refusal("BadRequest", f"{replicas} is no number of workers", f"give 0 to {MOST_REPLICAS}")
    template = _template(desk, name)
    if template.suspend:
        raise Refusal("Conflict", f"the file of {name!r} says `suspend`", "take that out of the file")
    overrides = without(desk.engine.overrides, Scale, name)
    if replicas != template.replicas:
        overrides = added(overrides, Scale(name, replicas, template.replicas))
    return _done(desk.lay(overrides, "Scale", [name]), set=name)


def stop(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep workers down until `start`."""
    (names,) = taken(args, _NAMES)
    overrides = desk.engine.overrides
    found = naming.chosen(desk.engine.view(), names)
    for name, key in found:
        overrides = added(overrides, StayDown(name, key))
    return _done(desk.lay(overrides, "Stop", _names(found)), keys=_keys(desk, found))


def start(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take back `stop`, and try what failed now."""
    (names,) = taken(args, _NAMES)
    found = naming.chosen(desk.engine.view(), names)
    keys = _keys(desk, found)
    warning = desk.lay(_up(desk, found), "Start", _names(found))
    _reset(desk, found)
    return _done(warning, keys=keys)


def restart(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace workers by new ones, by the rollout budget, or `now` all at once; start those that were stopped."""
    names, now = taken(args, {**_NAMES, "now": (bool, False)})
    found = naming.chosen(desk.engine.view(), names)
    desk.require_running()
    for one in desk.engine.overrides:
        if isinstance(one, Paused) and one.set_name in dict(found):
            raise Refusal("Conflict", f"the rollout of {one.set_name!r} is paused", "`rollout resume` it first")
    overrides = _up(desk, found)
    serial = desk.engine.next_serial()
    for name, key in found:
        overrides = added(overrides, RestartAsked(name, serial, key, now))
    return _done(desk.lay(overrides, "Restart", _names(found)), keys=_keys(desk, found))


def reset(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Forget the failures of workers, and try them now; give a stalled rollout its time anew."""
    (names,) = taken(args, _NAMES)
    found = naming.chosen(desk.engine.view(), names)
    _reset(desk, found)
    return {"keys": _keys(desk, found)}


def signal(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Send a signal to the processes of workers."""
    names, given = taken(args, {**_NAMES, "signal": (str, REQUIRED)})
    name = given.upper().removeprefix("SIG")
    if f"SIG{name}" not in signals.Signals.__members__:
        raise Refusal("BadRequest", f"there is no signal {given[:40]!r}", "name one such as HUP or USR1")
    view = desk.engine.view()
    reached = []
    for set_name, key in naming.workers(view, naming.chosen(view, names)):
        known = view.actual.sets.get(set_name)
        for worker in () if known is None else known.by_key.get(key, ()):
            if worker.live and worker.pid is not None:
                desk.engine.signal(worker.uid, name)
                reached.append(str(key))
    if not reached:
        raise Refusal("Conflict", "none of them runs", "`get` shows what does")
    return {"keys": reached}


def pause(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace no worker of a set until `resume`."""
    (name,) = taken(args, _SET)
    naming.known_set(desk.engine.view(), name)
    return _done(desk.lay(added(desk.engine.overrides, Paused(name)), "Pause", [name]), set=name)


def resume(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take back `pause`."""
    (name,) = taken(args, _SET)
    naming.known_set(desk.engine.view(), name)
    return _done(desk.lay(without(desk.engine.overrides, Paused, name), "Resume", [name]), set=name)


def undo(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run an earlier revision of a set, by default the one before; until its file is edited."""
    name, number = taken(args, {**_SET, "revision": (int, None)})
    template = _template(desk, name)
    overrides = without(desk.engine.overrides, RolledBack, name)
    known = [one.number for one in desk.store.revisions(name)]
    current = revision_in_force(desk, name)
    if number is None:
        number = max((one for one in known if current is not None and one < current), default=None)
    found = None if number is None else desk.store.revision(name, number)
    if found is None or number is None:
        raise Refusal("NotFound", f"{name!r} has no such earlier revision", "`rollout history` shows those there are")
    if number != known[-1]:
        overrides = added(overrides, RolledBack(name, number, found[1], template))
    return {**_done(desk.lay(overrides, "Undo", [name]), set=name), "revision": number}


def commit(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Let staged files take their places in the watched directory, all at once, and read it."""
    (changes,) = taken(args, {"changes": (object, REQUIRED)})
    desk.require_running()
    directory = getattr(desk.engine.source, "path", None)
    if not isinstance(directory, str):
        raise Refusal("Unsupported", "this controller watches no directory", "change what its `update` returns")
    try:
        writing.commit(directory, [(waiting, file) for waiting, file in changes])
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Refusal("Conflict", f"the files were not taken: {error}", "stage them again") from None
    desk.shell.reload()
    return {}


def reload(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the source again, now."""
    taken(args, {})
    desk.require_running()
    desk.shell.reload()
    return {}


def shutdown(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Stop all workers, and then the controller; `now` kills them."""
    (now,) = taken(args, {"now": (bool, False)})
    desk.shell.shutdown(now)
    return {}


def _template(desk: Desk, name: str) -> SetSpec:
    """The file's own spec of a set. Raises Refusal where there is none."""
    wanted = desk.sourced.get(naming.known_set(desk.engine.view(), name))
    if wanted is None:
        raise Refusal("Conflict", f"the set {name!r} is being removed", "wait until it is gone")
    template: SetSpec | None = wanted.template
    if template is None:
        raise Refusal("Unsupported", f"{name!r} has no spec file", "change what the program's `update` returns")
    return template


def _up(desk: Desk, found: list[naming.Chosen]) -> tuple[Any, ...]:
    """The overrides without what keeps these down. Of a set that was stopped as a whole, all others stay down."""
    overrides = desk.engine.overrides
    for name, key in found:
        whole = any(one == StayDown(name) for one in overrides)
        overrides = without(overrides, StayDown, name, key)
        if whole and key is not None:
            overrides = tuple(one for one in overrides if one != StayDown(name))
            for place in places(desk.engine.view(), name):
                if place.down and place.key != key:
                    overrides = added(overrides, StayDown(name, place.key))
    return overrides


def _reset(desk: Desk, found: list[naming.Chosen]) -> None:
    desk.require_running()
    view = desk.engine.view()
    by_set: dict[str, list[Any]] = {}
    for name, key in naming.workers(view, found):
        by_set.setdefault(name, []).append(key)
    for name, keys in by_set.items():
        if name in view.actual.sets:
            desk.engine.reset(name, keys, desk.now)
    desk.shell.turn()


def _keys(desk: Desk, found: list[naming.Chosen]) -> list[str]:
    return [str(key) for _, key in naming.workers(desk.engine.view(), found)]


def _names(found: list[naming.Chosen]) -> list[str]:
    return list(dict.fromkeys(name for name, _ in found))


def _done(warning: str | None, **facts: Any) -> dict[str, Any]:
    return facts if warning is None else {**facts, "warning": warning}
