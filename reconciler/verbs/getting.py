"""`get`: what runs, a line for each worker or set, once or as it changes.

Rule: what follows is told by the controller as it happens; only ages and what processes use are looked at each second,
and only on a terminal. A pipe gets the first table, and then a line for each change.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from reconciler.verbs.base import Place, Verb
from reconciler.verbs.completion import Name
from reconciler.verbs.live import PAUSE, Live
from reconciler.verbs.printing import (
    Cell,
    Column,
    Sheet,
    as_yaml,
    duration,
    form_option,
    screen,
    show,
    size,
)
from reconciler.verbs.usage import Meter

Row = Mapping[str, Any]

_COLOURS = {"Failed": "red", "Backoff": "red", "Stopped": "grey", "Succeeded": "grey", "Gone": "grey"}


def phase_of(row: Row, now: float) -> Cell:
    """The phase of a worker with its reason, and how long it waits (`now`: seconds, monotonic)."""
    phase, reason, retry_at = row["phase"], row["reason"], row["retry_at"]
    if row["waits_for"]:
        hopeless = " in vain" if row["in_vain"] else ""
        return Cell(f"{phase} (waits for {', '.join(row['waits_for'])}{hopeless})", "red" if hopeless else "yellow")
    if retry_at is not None:
        text = f"{reason or phase} (next try in {duration(retry_at - now + 0.5)})"
    else:
        text = f"{phase} ({reason})" if reason else phase
    serves = phase == "Running" and (row["ready"] or row["job"])
    return Cell(text, "green" if serves else _COLOURS.get(phase, "yellow"))


def state_of(row: Row, wall: float | None = None) -> Cell:
    """How a set does, in words: what is wrong with it, what it waits for, and in what it is run otherwise than its file
    says. `wall` is the time (Unix time, by default now).
    """
    schedule, drift = row["schedule"], list(row["drift"])
    waits = f"waits for {', '.join(row['waits_for'])}" if row["waits_for"] else ""
    wrong = [f"rejected: {row['rejected'][0]}"] if row["rejected"] else []
    wrong += ["stalled"] if row["stalled"] else []
    wrong += [f"{row['failed']} failed"] if row["failed"] and schedule is None else []
    wrong += [problem.partition(";")[0] for problem in row["unbound"]]
    wrong += [f"{waits} in vain"] if row["in_vain"] and not row["converged"] else []
    if wrong:
        return Cell("; ".join([*wrong, *drift]), "red")
    if row["suspended"]:
        return Cell("; ".join(["suspended", *drift]), "grey")
    if schedule is not None:
        return _of_schedule(row, schedule, time.time() if wall is None else wall)
    if waits or drift:
        return Cell("; ".join([*filter(None, [waits]), *drift]), "red" if row["undone"] else "yellow")
    if row["job"]:
        return _of_job(row)
    kept = f" ({row['kept']} kept by the partition)" if row["kept"] else ""
    return Cell(f"ok{kept}", "green") if row["converged"] else Cell(f"progressing{kept}", "yellow")


def _of_job(row: Row) -> Cell:
    """How far the workers of a job are."""
    if row["converged"]:
        return Cell("completed" if row["replicas"] else "ok", "green")
    count = f"{row['completed']} of {row['replicas']} completed"
    return Cell(f"running, {count}", "green") if row["active"] else Cell(count, "yellow")


def _of_schedule(row: Row, schedule: Row, wall: float) -> Cell:
    """When a scheduled job runs, and how it did the last time."""
    failed = schedule["last_phase"] == "Failed"
    told = [f"{row['active']} running"] if row["active"] else ["last run failed"] if failed else []
    told += [f"waits for {', '.join(row['waits_for'])}"] if row["waits_for"] and not row["converged"] else []
    told += ["a run is due"] if schedule["due"] is not None else []
    told += [f"next run in {duration(schedule['next'] - wall + 0.5)}"] if schedule["next"] is not None else []
    colour = "red" if failed and not row["active"] else "yellow" if row["drift"] else "green"
    return Cell("; ".join([*told, *row["drift"]]), colour)


def _ran(row: Row, which: str, sign: int) -> str:
    """How long ago the last run of a schedule began, or how long it takes until the next one."""
    when = None if row["schedule"] is None else row["schedule"][which]
    return _known(when, lambda at: duration(sign * (at - time.time()) + 0.5))


WORKERS = (
    Column("KEY", lambda row: row["key"]),
    Column("READY", lambda row: "yes" if row["ready"] else "-" if row["job"] else "no"),
    Column("PHASE", lambda row: phase_of(row, time.monotonic())),
    Column("RESTARTS", lambda row: str(row["restarts"])),
    Column("AGE", lambda row: _known(row["age_s"], duration)),
    Column("PID", lambda row: _known(row["pid"])),
    Column("CPU", lambda row: _known(row["cpu_percent"], lambda share: f"{share:.0f}%")),
    Column("MEM", lambda row: _known(row["memory"], size)),
    Column("SET", lambda row: _known(row["name"]), wide=True),
    Column("GENERATION", lambda row: _known(row["generation"]), wide=True),
    Column("UP-TO-DATE", lambda row: "yes" if row["up_to_date"] else "no", wide=True),
    Column("UID", lambda row: _known(row["uid"]), wide=True),
)

SETS = (
    Column("NAME", lambda row: row["name"]),
    Column("DESIRED", lambda row: "-" if row["schedule"] is not None else str(row["replicas"])),
    Column("READY", lambda row: "-" if row["job"] else str(row["available"])),
    Column("UPDATED", lambda row: "-" if row["schedule"] is not None else str(row["updated"])),
    Column("AVAILABLE", lambda row: "-" if row["job"] else str(row["available"])),
    Column("STATE", state_of),
    Column("COMPLETED", lambda row: str(row["completed"]) if row["job"] else "-", wide=True),
    Column("SCHEDULE", lambda row: _known(row["schedule"], _rule), wide=True),
    Column("LAST", lambda row: _ran(row, "last", -1), wide=True),
    Column("NEXT", lambda row: _ran(row, "next", 1), wide=True),
    Column("GENERATION", lambda row: str(row["generation"]), wide=True),
    Column("OBSERVED", lambda row: str(row["observed_generation"]), wide=True),
    Column("FILE", lambda row: _known(row["file"]), wide=True),
)


@click.command(cls=Verb)
@click.argument("names", nargs=-1, type=Name(), metavar="[KEY-OR-SET]...")
@click.option("-w", "--watch", is_flag=True, help="Go on with each change, until ^C.")
@click.option("--sets", is_flag=True, help="A line for each set instead of each worker.")
@form_option
@click.pass_obj
def get(place: Place, names: Sequence[str], form: str, *, watch: bool, sets: bool) -> None:
    """Show the workers, all or those that are named: by key, by set, or by a pattern such as 'web-*'."""
    view = SetList() if sets else WorkerList()
    with place.client() as client:
        if not watch:
            for item in client.stream(view.verb, names=names):
                view.take(item)
            show(form, view.rows(), view.columns, view.identity)
            return
        changes = client.follow(view.verb, PAUSE, names=names, watch=True)
        if form in ("table", "wide") and screen().terminal:
            _follow_on_terminal(view, form, changes)
        else:
            _follow_in_lines(view, form, changes)


class WorkerList:
    """The workers as far as they were told. What a process uses is added to what the controller says of it."""

    verb, identity, columns = "get", "key", WORKERS

    def __init__(self) -> None:
        self._known: dict[str, Sequence[Row]] = {}
        self._meter = Meter()

    def take(self, item: Row) -> str:
        """Take note of an item; the identity of what changed."""
        key: str = item["key"]
        if item["workers"]:
            self._known[key] = item["workers"]
        else:
            self._known.pop(key, None)
        return key

    def rows(self, identity: str | None = None) -> list[Row]:
        """A row for each incarnation, or only for those of one key; that it is gone is a row too."""
        now = time.monotonic()
        if identity is not None and identity not in self._known:
            return [self._full(_GONE | {"key": identity, "phase": "Gone"}, now)]
        chosen = self._known if identity is None else [identity]
        return [self._full(row, now) for key in chosen for row in self._known[key]]

    def _full(self, row: Row, now: float) -> Row:
        pid, started = row["pid"], row["started_at"]
        usage = None if pid is None else self._meter.read(pid, now)
        return {
            **row,
            "age_s": None if pid is None or started is None else round(now - started, 1),
            "cpu_percent": None if usage is None else round(usage.cpu, 1),
            "memory": None if usage is None else usage.memory,
        }


class SetList:
    """The sets as far as they were told."""

    verb, identity, columns = "sets", "name", SETS

    def __init__(self) -> None:
        self._known: dict[str, Row] = {}

    def take(self, item: Row) -> str:
        """Take note of an item; the identity of what changed."""
        name: str = item["name"]
        if item.get("gone"):
            self._known.pop(name, None)
        else:
            self._known[name] = item
        return name

    def rows(self, identity: str | None = None) -> list[Row]:
        """A row for each set, or only for one; that it is gone is a row too."""
        if identity is None:
            return [self._known[name] for name in sorted(self._known)]
        return [self._known.get(identity, _GONE_SET | {"name": identity})]


_GONE: dict[str, Any] = dict.fromkeys(("name", "uid", "pid", "reason", "generation", "since", "started_at", "retry_at"))
_GONE |= {"ready": False, "up_to_date": False, "restarts": 0, "job": False, "waits_for": [], "in_vain": False}
_GONE_SET: dict[str, Any] = dict.fromkeys(("replicas", "available", "updated", "failed", "generation"), 0)
_GONE_SET |= {"observed_generation": 0, "stalled": False, "converged": False, "paused": False, "file": None}
_GONE_SET |= {"drift": ["gone"], "rejected": [], "unbound": [], "waits_for": [], "schedule": None, "completed": 0}
_GONE_SET |= {"active": 0, "kept": 0, "job": False, "suspended": False, "in_vain": False, "undone": False}


def _follow_on_terminal(view: WorkerList | SetList, form: str, changes: Iterator[Row | None]) -> None:
    sheet = Sheet(form, view.columns)
    live, synced = Live(), False
    for item in changes:
        if item is not None and "synced" not in item:
            view.take(item)
        synced = synced or item is None or "synced" in item
        if synced:
            live.show(sheet.lines(view.rows(), screen()))


def _follow_in_lines(view: WorkerList | SetList, form: str, changes: Iterator[Row | None]) -> None:
    sheet = Sheet(form, view.columns)
    synced = False
    for item in changes:
        if item is None:
            continue
        if "synced" in item:
            synced = True
            _print(form, sheet, view, view.rows(), head=True)
        else:
            changed = view.take(item)
            if synced:
                _print(form, sheet, view, view.rows(changed))


def _print(form: str, sheet: Sheet, view: WorkerList | SetList, rows: Sequence[Row], *, head: bool = False) -> None:
    """Rows as lines that stand on their own: with JSON an object in each, with YAML a document for each."""
    if form in ("table", "wide"):
        for line in sheet.lines(rows, screen(), head=head):
            click.echo(line)
    else:
        for row in rows:
            if form == "name":
                click.echo(row[view.identity])
            else:
                click.echo(f"---\n{as_yaml(dict(row))}" if form == "yaml" else json.dumps(row), nl=form == "json")


def _rule(schedule: Row) -> str:
    return f"{schedule['expression']} ({schedule['time_zone']})"


def _known(value: Any, as_text: Callable[[Any], str] = str) -> str:
    return "-" if value is None else as_text(value)
