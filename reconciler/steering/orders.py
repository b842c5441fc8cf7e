"""The verbs that give orders.

Rule: an order edits the overrides, saves them, and lets the engine act; then it is done. What comes of it is for those
who ask afterwards.
"""

import signal as signals
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.control.connection import Answer
from reconciler.control.wire import Refusal
from reconciler.core.consequence import unmet
from reconciler.core.override import Override, Paused, RestartAsked, RolledBack, Scale, StayDown, added, without
from reconciler.core.spec import MOST_REPLICAS, SetSpec
from reconciler.sources import writing
from reconciler.steering import naming
from reconciler.steering.arguments import REQUIRED, taken
from reconciler.steering.desk import Desk
from reconciler.steering.revisions import revision_in_force

_NAMES = {"names": (list, REQUIRED)}
_SET = {"set": (str, REQUIRED)}


def scale(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run so many workers of a set, until its file says another number itself."""
    name, replicas = taken(args, {**_SET, "replicas": (int, REQUIRED)})
    if not 0 <= replicas <= MOST_REPLICAS:
        raise Refusal("BadRequest", f"{replicas} is no number of workers", f"give 0 to {MOST_REPLICAS}")
    template = _template(desk, name)
    if template.schedule is not None:
        raise Refusal("Conflict", f"{name!r} has a schedule, and each run is one worker", "`restart` runs it now")
    if template.suspend:
        raise Refusal("Conflict", f"the file of {name!r} says `suspend`", "take that out of the file")
    overrides = without(desk.engine.overrides, Scale, [(name, None)])
    if replicas != template.replicas:
        overrides = added(overrides, Scale(name, replicas, template.replicas))
    return _done(desk.lay(overrides, "Scale", [name]), set=name)


def stop(desk: Desk, args: Mapping[str, Any]) -> Answer:
    """Keep workers down until `start`."""
    (names,) = taken(args, _NAMES)
    found = desk.chosen(names)
    keys, schedules = _keys(desk, found, live=True), _schedules(desk, found)
    overrides = added(desk.engine.overrides, *(StayDown(name, key) for name, key in found))
    return (yield from _reached(keys, desk.lay(overrides, "Stop", _names(found)), schedules))


def start(desk: Desk, args: Mapping[str, Any]) -> Answer:
    """Take back `stop`, and try what failed, or run what has done its work, now. A schedule goes on; its earlier runs
    are history.
    """
    (names,) = taken(args, _NAMES)
    found = desk.chosen(names)
    _require_unsuspended(desk, found)
    schedules = _schedules(desk, found)
    others = [(name, key) for name, key in found if key is not None or name not in schedules]
    keys = _keys(desk, others)
    warning = desk.lay(_up(desk, found), "Start", _names(found))
    _reset(desk, others, anew=True)
    return (yield from _reached(keys, warning, schedules))


def restart(desk: Desk, args: Mapping[str, Any]) -> Answer:
    """Replace workers by new ones, by the rollout budget, or `now` all at once; start those that were stopped. What has
    a schedule is run once more, now.
    """
    names, now = taken(args, {**_NAMES, "now": (bool, False)})
    found = desk.chosen(names)
    desk.require_running()
    _require_unsuspended(desk, found)
    named = {name for name, _ in found}
    for one in desk.engine.overrides:
        if isinstance(one, Paused) and one.set_name in named:
            raise Refusal("Conflict", f"the rollout of {one.set_name!r} is paused", "`rollout resume` it first")
    serial = desk.engine.next_serial()
    asked = (RestartAsked(name, serial, key, now) for name, key in found)
    scheduled = [name for name in _names(found) if _is_scheduled(desk, name)]
    keys = _keys(desk, [(name, key) for name, key in found if name not in scheduled])
    earlier = {name: frozenset(desk.engine.desired[name].workers) for name in scheduled}
    warning = desk.lay(added(_up(desk, found), *asked), "Restart", _names(found))
    for name in scheduled:  # there is one run in each second, and it may be over and forgotten by now
        timing = desk.engine.timing(name)
        run = f"{name}-{int(timing.last or 0) if timing is not None else 0}"
        yield {"key": run, "run_of": name, "begun": run not in earlier[name]}
    return (yield from _reached(keys, warning))


def reset(desk: Desk, args: Mapping[str, Any]) -> Answer:
    """Forget the failures of workers, and try them now; give a stalled rollout its time anew."""
    (names,) = taken(args, _NAMES)
    found = desk.chosen(names)
    _reset(desk, found)
    return (yield from _reached(_keys(desk, found), None))


def signal(desk: Desk, args: Mapping[str, Any]) -> Answer:
    """Send a signal to the processes of workers."""
    names, given = taken(args, {**_NAMES, "signal": (str, REQUIRED)})
    name = _signal(given)
    view = desk.engine.view()
    reached = []
    for set_name, key in naming.workers(view, desk.chosen(names)):
        known = view.actual.sets.get(set_name)
        for worker in () if known is None else known.by_key.get(key, ()):
            if worker.live and worker.pid is not None:
                desk.engine.signal(worker.uid, name)
                reached.append(str(key))
    if not reached:
        raise Refusal("Conflict", "none of them runs", "`get` shows what does")
    return (yield from _reached(reached, None))


def pause(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace no worker of a set until `resume`."""
    (name,) = taken(args, _SET)
    desk.known_set(name)
    return _done(desk.lay(added(desk.engine.overrides, Paused(name)), "Pause", [name]), set=name)


def resume(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take back `pause`."""
    (name,) = taken(args, _SET)
    desk.known_set(name)
    return _done(desk.lay(without(desk.engine.overrides, Paused, [(name, None)]), "Resume", [name]), set=name)


def undo(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run an earlier revision of a set, by default the one before; until its file is edited."""
    name, number = taken(args, {**_SET, "revision": (int, None)})
    template = _template(desk, name)
    overrides = without(desk.engine.overrides, RolledBack, [(name, None)])
    known = [one.number for one in desk.store.revisions(name)]
    current = revision_in_force(desk, name)
    if number is None:
        number = max((one for one in known if current is not None and one < current), default=None)
    found = None if number is None else desk.store.revision(name, number)
    if found is None or number is None:
        raise Refusal("NotFound", f"{name!r} has no such earlier revision", "`rollout history` shows those there are")
    if number != known[-1]:
        overrides = added(overrides, RolledBack(name, number, found[1], template))
        if lacks := unmet(name, desk.engine.sourced, overrides):
            raise Refusal("Conflict", f"revision {number} of {name!r} cannot run: {lacks}", "choose another revision")
    return {**_done(desk.lay(overrides, "Undo", [name]), set=name), "revision": number}


def commit(desk: Desk, args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Let staged files take their places in the watched directory, all at once, and read it; only if it is still what
    it was at the reading of this number, if one is given.
    """
    changes, serial = taken(args, {"changes": (object, REQUIRED), "serial": (int, None)})
    desk.require_running()
    if serial not in (None, desk.engine.readings):
        raise Refusal("Conflict", "the specs changed since they were compared", "plan again")
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
    wanted = desk.engine.sourced.get(desk.known_set(name))
    if wanted is None:
        raise Refusal("Conflict", f"the set {name!r} is being removed", "wait until it is gone")
    template: SetSpec | None = wanted.template
    if template is None:
        raise Refusal("Unsupported", f"{name!r} has no spec file", "change what the program's `update` returns")
    return template


def _signal(given: str) -> str:
    """The name of a signal that is given by its name, with or without SIG, or by its number. Raises Refusal."""
    name = given.upper().removeprefix("SIG")
    if name.isdecimal() and int(name) in {one.value for one in signals.Signals}:
        name = signals.Signals(int(name)).name.removeprefix("SIG")
    if f"SIG{name}" not in signals.Signals.__members__:
        raise Refusal("BadRequest", f"there is no signal {given[:40]!r}", "name one such as HUP or USR1")
    return name


def _require_unsuspended(desk: Desk, found: list[naming.Chosen]) -> None:
    for name in _names(found):
        wanted = desk.engine.sourced.get(name)
        if wanted is not None and wanted.template is not None and wanted.template.suspend:
            raise Refusal("Conflict", f"the file of {name!r} says `suspend`", "take that out of the file")


def _up(desk: Desk, found: list[naming.Chosen]) -> tuple[Override, ...]:
    """The overrides without what keeps these down. Of a set that was stopped as a whole, all others stay down."""
    overrides = desk.engine.overrides
    whole = {one.set_name for one in overrides if isinstance(one, StayDown) and one.key is None}
    alone: dict[str, set[Any]] = {}
    for name, key in found:
        if name in whole and key is not None:
            alone.setdefault(name, set()).add(key)
    left = without(overrides, StayDown, [*found, *((name, None) for name in alone)])
    down = {name: desk.engine.desired[name].down for name in alone if name in desk.engine.desired}
    return added(left, *(StayDown(name, key) for name, keys in down.items() for key in sorted(keys - alone[name])))


def _reset(desk: Desk, found: list[naming.Chosen], *, anew: bool = False) -> None:
    desk.require_running()
    view = desk.engine.view()
    by_set: dict[str, list[Any]] = {}
    for name, key in naming.workers(view, found):
        by_set.setdefault(name, []).append(key)
    for name, keys in by_set.items():
        if name in view.actual.sets:
            desk.engine.reset(name, keys, desk.now, anew=anew)
    desk.shell.turn()


def _reached(keys: Iterable[str], warning: str | None, schedules: Iterable[str] = ()) -> Answer:
    """The end of an order: whom it is about, one by one, as there may be thousands."""
    for key in keys:
        yield {"key": key}
    for name in schedules:
        yield {"schedule": name}
    if warning is not None:
        yield {"warning": warning}
    return {}


def _keys(desk: Desk, found: list[naming.Chosen], *, live: bool = False) -> list[str]:
    """The workers that are meant; with `live`, of the runs of schedules those only that go on."""
    view = desk.engine.view()
    past = set()
    for name in _schedules(desk, found) if live else ():
        if name in view.actual.sets:
            runs = view.actual.sets[name].by_key
            past |= {(name, key) for key, workers in runs.items() if not any(one.live for one in workers)}
    return [str(one[1]) for one in naming.workers(view, found) if one not in past or one in found]


def _schedules(desk: Desk, found: list[naming.Chosen]) -> list[str]:
    """The sets with a schedule that are meant as a whole."""
    return [name for name, key in found if key is None and _is_scheduled(desk, name)]


def _is_scheduled(desk: Desk, name: str) -> bool:
    wanted = desk.engine.sourced.get(name)
    return wanted is not None and wanted.runs


def _names(found: list[naming.Chosen]) -> list[str]:
    return list(dict.fromkeys(name for name, _ in found))


def _done(warning: str | None, **facts: Any) -> dict[str, Any]:
    return facts if warning is None else {**facts, "warning": warning}
