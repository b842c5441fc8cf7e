"""What changed files would come to, and how that is shown.

Rule: what is planned is what would be run, so that an operator's overrides are laid over both sides. A relative `cwd`
is judged as if the files were in the watched directory already, wherever they are now.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from reconciler.client import Client, NoController
from reconciler.verbs.base import Place
from reconciler.verbs.printing import Cell, Column, painted, screen, show, show_data, shown

if TYPE_CHECKING:
    from reconciler.core.spec import SetSpec, WorkerSet
    from reconciler.sources.comparing import FieldChange, SetChange

Row = Mapping[str, Any]

_COLOURS = {"added": "green", "removed": "red", "changed": "yellow"}

_PLANNED = (
    Column("SET", lambda row: row["set"]),
    Column("CHANGE", lambda row: Cell(row["change"], _COLOURS[row["change"]])),
    Column("FIELD", lambda row: row["field"]),
    Column("EFFECT", lambda row: row["effect"]),
)
_STARTS = (
    Column("KEY", lambda row: row["key"]),
    Column("ACTION", lambda row: row["action"]),
    Column("REASON", lambda row: row["reason"]),
)


class Planned(NamedTuple):
    """What would be, and how it differs from what is; without a controller there is no token, and nothing is."""

    specs: "Mapping[str, SetSpec]"
    changes: "Sequence[SetChange]"
    token: str | None = None
    stays: Sequence[str] = ()


class Live(NamedTuple):
    """The specs in force by set, as their files say them, and the overrides that are laid over them, as plain data."""

    specs: "Mapping[str, SetSpec]"
    overrides: Sequence[Row]


def planned(place: Place, paths: Sequence[str]) -> Planned:
    """What comes of these files, or of a whole directory. Raises Failure for bad files, and as the client does."""
    from reconciler.core.spec import expand  # noqa: PLC0415  as late as can be
    from reconciler.sources.comparing import compare, token  # noqa: PLC0415  this reads specs
    from reconciler.verbs.gathering import gathered, loaded, require_needs  # noqa: PLC0415  likewise

    place, directory = _asked(place, paths)
    whole = not paths or (len(paths) == 1 and os.path.isdir(paths[0]))  # noqa: PTH112
    if directory is None:
        home = paths[0] if paths and whole else place.specs or "."
        files = gathered(paths or [home])
        specs = loaded(files, os.path.abspath(home))  # noqa: PTH100
        if whole:  # of some files alone it is not known what else there will be
            require_needs(files, specs, {})
        return Planned(specs, compare({}, {name: expand(spec) for name, spec in specs.items()}))
    files = gathered(paths or [directory])
    specs = loaded(files, directory)
    with place.client() as client:
        live = in_force(client)
    require_needs(files, specs, {} if whole else live.specs)
    changes = compare(*_overridden(live, specs if whole else {**live.specs, **specs}))
    stays = [change.name for change in changes if change.after is None] if paths else []
    return Planned(specs, changes, token(live.specs, specs, live.overrides), stays)


def in_force(client: Client) -> Live:
    """What a controller runs by at this moment."""
    from reconciler.sources.dumping import restore  # noqa: PLC0415  this reads specs

    specs = {}
    for item in client.stream("specs"):
        name, data = item["name"], item["spec"]
        spec = _of_file(name, item["file"]) if data is None else restore(name, data)
        if spec is not None:
            specs[name] = spec
    return Live(specs, list(client.stream("overrides")))


def from_nothing(found: Planned) -> list[Row]:
    """What a controller that starts now would do, by the very plan it would make."""
    from reconciler.core.action import Start  # noqa: PLC0415  only where no controller runs
    from reconciler.core.actual import Actual  # noqa: PLC0415  likewise
    from reconciler.core.reconcile import reconcile  # noqa: PLC0415  likewise
    from reconciler.core.spec import expand  # noqa: PLC0415  likewise

    desired = {name: expand(spec) for name, spec in found.specs.items()}
    actual = Actual()
    actual.want(desired, 0.0)
    starts = [action for action in reconcile(desired, actual, 0.0).actions if isinstance(action, Start)]
    rows = [_row(action.key, "start", action.reason) for action in starts]
    started = {action.key for action in starts}
    for name, spec in found.specs.items():
        if spec.schedule is not None and not spec.suspend:
            rows.append(_row(name, "wait", "comes at its times"))
        reason = f"depends on {', '.join(one.set for one in spec.depends_on)}"
        rows += [_row(key, "wait", reason) for key in desired[name].workers if key not in started]
    return rows


def _row(key: Any, action: str, reason: str) -> Row:
    return {"key": str(key), "action": action, "reason": reason, "fields": []}


def show_starts(form: str, rows: Sequence[Row]) -> None:
    """Print what would be started from nothing."""
    if form in ("json", "yaml"):
        show_data(form, {"changes": rows})
    elif rows or form == "name":
        show(form, rows, _STARTS)
    else:
        click.echo("no changes")


def show_plan(form: str, found: Planned) -> None:
    """Print what would change, with the token."""
    if form in ("json", "yaml"):
        show_data(form, {"changes": [_data(change) for change in found.changes], "token": found.token})
    elif form == "name":
        show(form, [{"set": change.name} for change in found.changes], _PLANNED, "set")
    else:
        if found.changes:
            show(form, [row for change in found.changes for row in _rows(change)], _PLANNED, "set")
        click.echo(_summary(found.changes))
        if found.stays:
            click.echo(f"`apply` removes nothing; for that: reconciler delete {' '.join(map(shown, found.stays))}")
        click.echo(f"token: {found.token}")


def show_values(form: str, found: Planned) -> None:
    """Print what would change, with the values before and after."""
    if form in ("json", "yaml"):
        changes = [_data(change, values=True) for change in found.changes]
        show_data(form, {"changes": changes} if found.token is None else {"changes": changes, "token": found.token})
        return
    if form == "name":
        show(form, [{"set": change.name} for change in found.changes], _PLANNED, "set")
        return
    colours = screen().colours
    for change in found.changes:
        effects = ", ".join(_effects(change)) or "no restart"
        click.echo(painted(f"{shown(change.name)} {change.kind}: {effects}", "bold", colours), color=colours)
        for field in change.fields:
            for sign, value, colour in (("-", field.before, "red"), ("+", field.after, "green")):
                if value is not None:
                    line = f"  {sign} {field.path} = {json.dumps(value, ensure_ascii=False)}"
                    click.echo(painted(shown(line), colour, colours), color=colours)
    click.echo(_summary(found.changes))


def _overridden(live: Live, planned: "Mapping[str, SetSpec]") -> "Sequence[Mapping[str, WorkerSet]]":
    """What is wanted by the one and would be by the other, with the overrides that hold then."""
    from reconciler.core.override import apply, still_meant  # noqa: PLC0415  this reads specs
    from reconciler.core.spec import expand  # noqa: PLC0415  likewise
    from reconciler.state.store import as_override  # noqa: PLC0415  likewise

    overrides = tuple(map(as_override, live.overrides))
    before, after = ({name: expand(spec) for name, spec in side.items()} for side in (live.specs, planned))
    return apply(before, overrides), apply(after, still_meant(overrides, before, after))


def _of_file(name: str, path: str) -> "SetSpec | None":
    """A spec that is too long for a frame, from its file; None if that is bad by now."""
    from reconciler.core.spec import SetSpec  # noqa: PLC0415  this reads specs
    from reconciler.sources.loading import load  # noqa: PLC0415  likewise
    from reconciler.verbs.gathering import gathered  # noqa: PLC0415  likewise

    ((file, data),) = gathered([path]).items()
    found = load(name, file, data, os.path.dirname(path))  # noqa: PTH120
    return found if isinstance(found, SetSpec) else None


def _asked(place: Place, paths: Sequence[str]) -> tuple[Place, str | None]:
    """Which controller is meant, and the directory it watches, None where none runs. One that watches the very
    directory which is planned is asked first, unless another was named.
    """
    from reconciler.verbs.committing import watched  # noqa: PLC0415  this reads specs

    source = click.get_current_context().get_parameter_source("specs")
    candidates = [place]
    if place.specs is not None and source is ParameterSource.DEFAULT and len(paths) == 1 and os.path.isdir(paths[0]):  # noqa: PTH112
        from reconciler.state.place import state_directory  # noqa: PLC0415  only where nothing says it

        candidates.insert(0, Place(paths[0], state_directory(paths[0])))
    for candidate in candidates:
        try:
            with candidate.client() as client:
                where = watched(client, candidate)
        except NoController:
            if not paths:
                raise
        else:
            if where.running:
                return candidate, where.directory
    return place, None


def _effects(change: "SetChange") -> Iterator[str]:
    for word, count in (("starts", change.starts), ("stops", change.stops), ("replaces", change.replaces)):
        if count:
            yield f"{word} {count}"


def _effect_of(change: "SetChange", field: "FieldChange") -> str:
    if field.path in ("replicas", "suspend"):
        return ", ".join(effect for effect in _effects(change) if not effect.startswith("replaces")) or "no restart"
    return f"replaces {change.replaces}" if field.restarts and change.replaces else "no restart"


def _rows(change: "SetChange") -> Iterator[Row]:
    common = {"set": change.name, "change": change.kind}
    if change.kind != "changed":
        yield {**common, "field": "", "effect": ", ".join(_effects(change)) or "no workers"}
        return
    for field in change.fields:
        yield {**common, "field": field.path, "effect": _effect_of(change, field)}


def _data(change: "SetChange", *, values: bool = False) -> dict[str, Any]:
    fields = []
    for field in change.fields:
        fields.append({"field": field.path, "restart": field.restarts})
        if values:
            fields[-1] |= {"before": field.before, "after": field.after}
    counts = {"starts": change.starts, "stops": change.stops, "replaces": change.replaces}
    return {"set": change.name, "change": change.kind, **counts, "restart": change.replaces > 0, "fields": fields}


def _summary(changes: "Sequence[SetChange]") -> str:
    if not changes:
        return "no changes"
    counts = [sum(each) for each in zip(*((one.starts, one.stops, one.replaces) for one in changes), strict=True)]
    sets = "1 set" if len(changes) == 1 else f"{len(changes)} sets"
    return f"{sets} would change: {counts[0]} workers started, {counts[1]} stopped, {counts[2]} replaced"
