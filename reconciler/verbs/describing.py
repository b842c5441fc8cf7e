"""`describe`: all that is known of one set or worker, or why a file was refused.

Rule: each value of a spec is shown with where it is from: the file, a default, or an override.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from reconciler.verbs import particulars
from reconciler.verbs.base import Place, Verb
from reconciler.verbs.completion import Name
from reconciler.verbs.getting import phase_of, state_of
from reconciler.verbs.particulars import section
from reconciler.verbs.printing import Column, Screen, Sheet, duration, form_option, painted, show_lines, shown
from reconciler.verbs.reading import event_lines, explained


@click.command(cls=Verb)
@click.argument("name", type=Name(), metavar="KEY-OR-SET")
@form_option
@click.pass_obj
def describe(place: Place, name: str, form: str) -> None:
    """Show all that is known of a set, a worker, or a file that was refused."""
    with place.client() as client:
        told = client.call("describe", name=name)
    show_lines(form, lambda here: _KINDS[told["kind"]](told, here), told, [_name_of(told)])


def _name_of(told: Mapping[str, Any]) -> str:
    if told["kind"] == "set":
        return str(told["status"]["name"])
    return str(told["key" if told["kind"] == "worker" else "file"])


def _file(told: Mapping[str, Any], here: Screen) -> Iterator[str]:
    yield f"File:        {shown(told['file'])}"
    yield f"State:       {painted('rejected; nothing of it runs', 'red', here.colours)}"
    yield from _rejected(told["rejected"], here)


def _set(told: Mapping[str, Any], here: Screen) -> Iterator[str]:
    status, state = told["status"], state_of(told["status"])
    yield f"Set:         {painted(shown(status['name']), 'bold', here.colours)}"
    yield f"State:       {painted(shown(state.text), state.colour, here.colours)}"
    counts = ("active", "completed", "failed") if status["job"] else ("available", "updated", "failed")
    desired = "desired" if status["schedule"] is None else "runs kept"
    yield f"Workers:     {status['replicas']} {desired}, " + ", ".join(f"{status[name]} {name}" for name in counts)
    revision = "" if told["revision"] is None else f", revision {told['revision']}"
    yield f"Generation:  {status['generation']} (observed {status['observed_generation']}){revision}"
    if status["file"]:
        yield f"File:        {shown(status['file'])}"
    yield from particulars.of_set(told, here)
    yield from _deadline(told["deadline"])
    yield from _rejected(status["rejected"], here)
    yield from particulars.needs(told["depends_on"], here)
    yield from particulars.sockets(told["sockets"], here)
    if told["spec"] is not None:
        yield from _spec(told["spec"], told["file_spec"] or {}, status["file"], here)
    yield from _conditions(told["conditions"], here)
    yield from _events("Events", told["events"], here)


def _worker(told: Mapping[str, Any], here: Screen) -> Iterator[str]:
    now = time.monotonic()
    yield f"Worker:      {painted(shown(told['key']), 'bold', here.colours)}, of the set {shown(told['set'])}"
    told_of = {health["uid"]: health for health in told["health"]}
    for row in told["workers"]:
        phase = phase_of(row, now)
        life = f", uid {row['uid']}" if row["uid"] else ""
        life += f", pid {row['pid']}" if row["pid"] else ""
        life += f", for {duration(now - row['started_at'])}" if row["pid"] and row["started_at"] is not None else ""
        yield f"Phase:       {painted(shown(phase.text), phase.colour, here.colours)}{life}"
        yield f"Restarts:    {row['restarts']}"
        if row.get("says"):
            yield f"Says:        {shown(row['says'])}"
        health = told_of.get(row["uid"])
        if health is not None:
            yield from particulars.of_health(health, now)
    yield from _deadline(told["deadline"])
    for health in told["health"]:
        yield from particulars.probes(health["probes"], here, now)
    yield from particulars.sockets(told["sockets"], here)
    yield from section("Now", explained(told["explanations"], _narrower(here), now), here)
    yield from _conditions(told["conditions"], here)
    yield from _events("Last exits", told["exits"], here)
    yield from _events("Events", told["events"], here)


_KINDS = {"file": _file, "set": _set, "worker": _worker}


def _narrower(here: Screen) -> Screen:
    """What is left of a screen in a section."""
    return here._replace(width=None if here.width is None else here.width - 2)


def _deadline(deadline: float | None) -> Iterator[str]:
    if deadline is not None:
        yield f"Deadline:    in {duration(deadline - time.monotonic() + 0.5)}"


def _rejected(problems: Sequence[str], here: Screen) -> Iterator[str]:
    red = [painted(shown(problem), "red", here.colours) for problem in problems]
    return section("Problems of the file", red, here)


def _events(title: str, told: Sequence[Mapping[str, Any]], here: Screen) -> Iterator[str]:
    return section(title, [line for one in told for line in event_lines(one, _narrower(here))], here)


_CONDITIONS = (
    Column("TYPE", lambda row: row["type"]),
    Column("STATUS", lambda row: "yes" if row["status"] else "no"),
    Column("REASON", lambda row: row["reason"]),
    Column("FOR", lambda row: "-" if row["since"] is None else duration(time.monotonic() - row["since"])),
    Column("MESSAGE", lambda row: row["message"]),
)


def _conditions(told: Sequence[Mapping[str, Any]], here: Screen) -> Iterator[str]:
    return section("Conditions", Sheet("wide", _CONDITIONS).lines(told, here) if told else [], here)


_SPEC = (
    Column("SETTING", lambda row: row["setting"]),
    Column("FROM", lambda row: row["from"]),
    Column("VALUE", lambda row: row["value"]),
)


def _spec(spec: Mapping[str, Any], file_spec: Mapping[str, Any], file: str | None, here: Screen) -> Iterator[str]:
    """The settings in force, each with its origin."""
    defaults, values, own = _defaults(), _flat(spec), _flat(file_spec)
    said = _said(file)
    settings = {*defaults, *values, *own}
    rows = []
    for setting in sorted(settings):
        if any(other.startswith(f"{setting}.") for other in settings):
            continue  # the default of a table that has something in it
        value, meant = (each.get(setting, defaults.get(setting, "")) for each in (values, own))
        if value != meant:
            origin = f"override of {_text(meant)}" if meant != "" and not _is_secret(setting) else "override"
        else:
            in_file = setting in own if said is None else setting in said or _is_secret(setting)
            origin = "file" if in_file else "default"
        rows.append({"setting": setting, "value": "(hidden)" if _is_secret(setting) else _text(value), "from": origin})
    return section("Spec", Sheet("wide", _SPEC).lines(rows, here), here)


def _is_secret(setting: str) -> bool:
    return setting.startswith("env.")


def _said(file: str | None) -> set[str] | None:
    """The settings that stand in the file, be they the defaults; None where that cannot be said."""
    from reconciler.sources.dumping import origins  # noqa: PLC0415  only `describe` looks into the file itself
    from reconciler.sources.parsing import parse  # noqa: PLC0415
    from reconciler.sources.refusal import InputError  # noqa: PLC0415

    try:
        with open(file or "", "rb") as opened:  # noqa: PTH123
            return origins(parse(file or "", opened.read()))
    except (OSError, InputError, AttributeError):
        return None  # it was changed meanwhile, and is no table even


def _defaults() -> dict[str, Any]:
    """The defaults of all settings, by their dotted paths."""
    from reconciler.core.spec import SetSpec  # noqa: PLC0415  only here

    return dict(_default_settings(SetSpec))


def _default_settings(type_: type, path: str = "") -> Iterator[tuple[str, Any]]:
    import attrs  # noqa: PLC0415  only here

    from reconciler.core.spec import Budget  # noqa: PLC0415

    for field in attrs.fields(type_):
        if "doc" in field.metadata and field.default is not attrs.NOTHING:
            if attrs.has(type(field.default)) and not isinstance(field.default, Budget):
                yield from _default_settings(type(field.default), f"{path}{field.name}.")
            else:
                default = field.default
                yield f"{path}{field.name}", str(default) if isinstance(default, Budget) else default


def _flat(table: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The settings of a spec as data, by their dotted paths."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        deeper = isinstance(value, Mapping) and value
        flat |= _flat(value, f"{path}{name}.") if deeper else {f"{path}{name}": value}
    return flat


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, default=dict)
