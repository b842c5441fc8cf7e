"""`status`, `explain` and `events`: how the controller does, what it would do, and what it did.

Rule: what is printed is what the controller said; nothing is concluded here but an exit code.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from reconciler.client import Client, NoController
from reconciler.verbs.base import START_ONE, Failure, Place, Verb
from reconciler.verbs.completion import Name
from reconciler.verbs.durations import Duration, ago
from reconciler.verbs.printing import (
    Screen,
    as_yaml,
    duration,
    form_option,
    painted,
    screen,
    show_lines,
    shown,
    wrapped,
)

NOT_READY, NO_CONTROLLER = 3, 4
"""Exit codes of `status`, as the LSB has them for scripts of services."""

NO_WORKERS = ("there are no workers now; `reconciler describe` shows when there will be",)

_LEVELS = {"error": "red", "warning": "yellow", "debug": "grey"}
_SAID = frozenset({"serial", "timestamp", "level", "event", "key", "name", "index", "uid", "generation", "reason"})
_MONTH, _SECOND = 5, 19  # where they stand in an ISO timestamp


@click.command(cls=Verb)
@form_option
@click.pass_obj
def status(place: Place, form: str) -> None:
    """Show how the controller does; exit 0 if all is up to date and ready, 3 if not, 4 without a controller."""
    try:
        with place.client() as client:
            told = client.call("status")
    except NoController as error:
        raise Failure(str(error), START_ONE, NO_CONTROLLER) from error
    well = told["converged"] and not told["stopping"]
    show_lines(form, lambda here: _health(told, here, well=well), told, [str(told["state_dir"])])
    sys.exit(0 if well else NOT_READY)


@click.command(cls=Verb)
@click.argument("names", nargs=-1, required=True, type=Name(), metavar="KEY-OR-SET...")
@form_option
@click.pass_obj
def explain(place: Place, names: Sequence[str], form: str) -> None:
    """Say what would be done now with these workers, and by which rule."""
    with place.client() as client:
        told = list(client.stream("explain", names=names))
    lines = NO_WORKERS if not told else None
    show_lines(form, lambda here: lines or explained(told, here, time.monotonic()), told, [one["key"] for one in told])


def explained(told: Sequence[Mapping[str, Any]], here: Screen, now: float) -> Iterator[str]:
    """Two lines for each explanation: what would be done, and what that means."""
    for one in told:
        does = painted(one["does"], "grey" if one["does"] == "nothing" else "yellow", here.colours)
        yield f"{painted(shown(one['key']), 'bold', here.colours)}  {one['phase']}: {does}, by the rule {one['rule']}"
        wait = one["deadline"]
        until = f" That is in {duration(wait - now + 0.5)}." if wait is not None else ""
        yield from wrapped(" ", f"{shown(one['meaning'])}{until}", here.width, 2)


@click.command(cls=Verb)
@click.argument("names", nargs=-1, type=Name(), metavar="[KEY-OR-SET]...")
@click.option("--key", "keys", multiple=True, type=Name(), metavar="KEY", help="Only of this worker or set.")
@click.option("-f", "--follow", is_flag=True, help="Go on with each new event, until ^C.")
@click.option("--since", type=Duration(), help="Only those of the last 10m, say.")
@form_option
@click.pass_obj
def events(  # noqa: PLR0913  one parameter for each option
    place: Place, names: Sequence[str], keys: Sequence[str], since: float | None, form: str, *, follow: bool
) -> None:
    """Show what happened, as far as the controller remembers: a line for each event, the oldest first."""
    here = screen() if form == "table" else screen()._replace(width=None)
    with place.client(timeout=None if follow else 10.0) as client:
        for told in _events(client, [*names, *keys], ago(since), follow=follow):
            if form == "json":
                click.echo(json.dumps(told))
            elif form == "yaml":
                click.echo(f"---\n{as_yaml(told)}", nl=False)
            elif form == "name":
                click.echo(told.get("event", "missed"))
            elif "missed" in told:
                click.echo(f"({told['missed']} events are forgotten here)")
            else:
                for line in event_lines(told, here):
                    click.echo(line, color=here.colours)


def _events(client: Client, names: Sequence[str], since: float | None, *, follow: bool) -> Iterator[Mapping[str, Any]]:
    """Their fields. A name of which nothing is remembered, and that means nothing now, is refused in the end."""
    nothing = True
    for told in client.stream("events", names=names, since=since, follow=follow):
        nothing = False
        yield told
    if names and nothing:
        list(client.stream("get", names=names))


def event_lines(told: Mapping[str, Any], here: Screen) -> Iterator[str]:
    """An event for eyes: when (local time), what, of whom, why, and what else there is to it."""
    when = local_time(told["timestamp"])
    whom = shown(str(told.get("key") or told.get("name") or ""))
    facts = [f"reason={told['reason']}"] if told.get("reason") else []
    facts += [f"{name}={_fact(value)}" for name, value in told.items() if name not in _SAID and value is not None]
    what = painted(f"{told['event']:<20}", _LEVELS.get(told["level"], ""), here.colours)
    head = f"{painted(when, 'grey', here.colours)} {what} {whom:<12}"
    return wrapped(head, " ".join(facts), here.width, len(when) + 1)


def local_time(timestamp: str) -> str:
    """Month, day and time of day, here, of an ISO timestamp in UTC."""
    from datetime import datetime  # noqa: PLC0415  only what shows times needs it

    return str(datetime.fromisoformat(timestamp).astimezone())[_MONTH:_SECOND]


def _fact(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return shown(text) if text and " " not in text else json.dumps(text) if isinstance(value, str) else text


def _health(told: Mapping[str, Any], here: Screen, *, well: bool) -> Iterator[str]:
    state = "stopping" if told["stopping"] else "all is up to date and ready" if well else "not all is ready"
    facts = {
        "state": painted(state, "green" if well else "yellow", here.colours),
        "workers": f"{told['ready']} of {told['wanted']} ready, in {told['sets']} sets",
        "running": f"for {duration(told['uptime_s'])}, pid {told['pid']}",
        "version": f"{told['version']} (protocol {told['protocol']})",
        "specs": shown(str(told["specs"])),
        "state dir": shown(str(told["state_dir"])),
        "output dir": shown(str(told["output_dir"])),
    }
    if told["rejected"]:
        facts["rejected"] = painted(
            f"{told['rejected']} of the spec files; `get --sets` names them", "red", here.colours
        )
    yield from (f"{name + ':':<12}{text}" for name, text in facts.items())
    yield from (f"{'problem:':<12}{painted(shown(text), 'red', here.colours)}" for text in told["problems"])
