"""The orders to workers and to the controller: each edits what is wanted, and the plan acts on it.

Rule: what is done is printed, a line for each worker or set that is meant. What comes of it is shown by `get`, or
waited for with `--wait`.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import click

from reconciler.client import Client, NoAnswer, NoController
from reconciler.verbs.base import Failure, Place, Verb
from reconciler.verbs.completion import Name
from reconciler.verbs.durations import ago
from reconciler.verbs.live import PAUSE
from reconciler.verbs.printing import shown
from reconciler.verbs.waiting import Patience, settle, until_over, wait_options

_SAID: Mapping[str, str] = {
    "stop": "will be kept down",
    "start": "will be run",
    "restart": "will be restarted",
    "reset": "will be tried now",
}

_SCHEDULE_SAID: Mapping[str, str] = {
    "stop": "rests; its schedule starts nothing until `start`",
    "start": "goes by its schedule",
}

_AS_IT_IS: Mapping[str, Mapping[str, str]] = {
    "start": {"Running": "runs already"},
    "reset": {
        "Running": "runs; its failures are forgotten",
        "Succeeded": "has succeeded; `start` runs it again",
        "Stopped": "is kept down; `start` ends that",
    },
}
"""What is said instead of a worker that is in such a phase when the order comes."""

names_argument = click.argument("names", nargs=-1, required=True, type=Name(), metavar="KEY-OR-SET...")


@click.command(cls=Verb)
@click.argument("sets", nargs=-1, required=True, type=Name("set"), metavar="SET[=N]...")
@click.option("--replicas", type=click.IntRange(min=0), metavar="N", help="How many workers, for each SET without =N.")
@click.option("--write", is_flag=True, help="Put it into the spec file, where it stays; all else in the file is kept.")
@wait_options
@click.pass_obj
def scale(  # noqa: PLR0913  one parameter for each option
    place: Place, sets: tuple[str, ...], replicas: int | None, timeout: float | None, *, write: bool, wait: bool
) -> None:
    """Run another number of workers than the spec file says, until that number is edited. It is shown as drift."""
    asked = [_size(text, replicas) for text in sets]
    with place.client() as client:
        sizes: dict[str, int] = {}
        for pattern, count in asked:
            rows = list(client.stream("sets", names=[pattern]))
            for row in rows if write else ():
                if row["schedule"] is not None:
                    raise Failure(f"{row['name']} has a schedule, and each run is one worker", "nothing was changed")
            sizes |= dict.fromkeys([row["name"] for row in rows] or [pattern], count)
        written = _written(client, place, sizes) if write else ()
        for name, count in sizes.items():
            if name not in written:
                warn(client.call("scale", set=name, replicas=count))
            click.echo(f"{shown(name)} scaled to {count}{', in its file' if write else ''}")
        if wait:
            settle(client, list(sizes), timeout)


@click.command(cls=Verb)
@names_argument
@wait_options
@click.pass_obj
def stop(place: Place, names: tuple[str, ...], timeout: float | None, *, wait: bool) -> None:
    """Stop workers, and keep them down until `start`, also when the controller is started again."""
    _change(place, "stop", names, timeout, wait=wait)


@click.command(cls=Verb)
@names_argument
@wait_options
@click.pass_obj
def start(place: Place, names: tuple[str, ...], timeout: float | None, *, wait: bool) -> None:
    """Take back `stop`, try workers that failed now, and run those that succeeded again."""
    _change(place, "start", names, timeout, wait=wait)


@click.command(cls=Verb)
@names_argument
@click.option("--now", is_flag=True, help="All at once, whatever the rollout budget says.")
@wait_options
@click.pass_obj
def restart(place: Place, names: tuple[str, ...], timeout: float | None, *, now: bool, wait: bool) -> None:
    """Replace workers by new ones, one after the other as the rollout budget of their set says."""
    _change(place, "restart", names, timeout, wait=wait, now=now)


@click.command(cls=Verb)
@names_argument
@wait_options
@click.pass_obj
def reset(place: Place, names: tuple[str, ...], timeout: float | None, *, wait: bool) -> None:
    """Forget that workers failed, and how often, and try them now."""
    _change(place, "reset", names, timeout, wait=wait)


@click.command(cls=Verb)
@names_argument
@click.argument("signal", metavar="SIGNAL")
@click.pass_obj
def signal(place: Place, names: tuple[str, ...], signal: str) -> None:
    """Send a signal, such as HUP, to the processes of workers."""
    with place.client() as client:
        _order(client, "signal", names, f"was sent {shown(signal.upper())}", signal=signal)


@click.command(cls=Verb)
@click.pass_obj
def reload(place: Place) -> None:
    """Let the controller read the spec files again, now."""
    with place.client() as client:
        client.call("reload")
    click.echo("the spec files are read again")


@click.command(cls=Verb)
@click.option("--now", is_flag=True, help="Kill the workers instead of asking them to end.")
@click.option("--wait", is_flag=True, help="Wait until the controller has ended.")
@click.pass_obj
def shutdown(place: Place, *, now: bool, wait: bool) -> None:
    """Stop all workers, and then the controller."""
    with place.client() as client:
        client.call("shutdown", now=now)
        click.echo("the controller stops")
        if wait:
            _until_ended(client)


def warn(done: Mapping[str, Any]) -> None:
    """Tell of what did not go as well as it should."""
    if "warning" in done:
        click.echo(f"warning: {shown(done['warning'])}", err=True)


def _change(place: Place, verb: str, names: tuple[str, ...], timeout: float | None, *, wait: bool, **args: Any) -> None:
    """Give an order, and wait for its outcome where that is wished for."""
    began = ago(0.0)
    with place.client() as client:
        runs = _order(client, verb, names, _SAID[verb], **args)
        if not wait:
            return
        patience = Patience.of(timeout)
        others = {row["set"] for row in client.stream("get", names=names)} - {run["run_of"] for run in runs.values()}
        settle(client, sorted(others), timeout)
        for key, run in runs.items():
            until_over(client, key, patience, began if run["begun"] else None)


def _order(client: Client, verb: str, names: tuple[str, ...], said: str, **args: Any) -> dict[str, Mapping[str, Any]]:
    """Give an order to workers, and say what is done with each of them; the runs of schedules that were begun."""
    runs: dict[str, Mapping[str, Any]] = {}
    as_it_is, phases = _AS_IT_IS.get(verb, {}), {}
    if as_it_is:
        rows = client.stream("get", names=names)
        phases = {worker["key"]: worker["phase"] for row in rows for worker in row["workers"]}
    for item in client.stream(verb, names=names, **args):
        if "run_of" in item:
            runs[item["key"]] = item
            does = "runs now, whatever the schedule says" if item["begun"] else "was begun in this very second"
            click.echo(f"{shown(item['key'])} {does}")
        elif "key" in item:
            click.echo(f"{shown(item['key'])} {as_it_is.get(phases.get(item['key'], ''), said)}")
        elif "schedule" in item:
            click.echo(f"{shown(item['schedule'])} {_SCHEDULE_SAID[verb]}")
        warn(item)
    return runs


def _size(text: str, replicas: int | None) -> tuple[str, int]:
    """The set and the number that `SET=N`, or `SET` with `--replicas`, asks for."""
    name, equals, count = text.partition("=")
    if not equals and replicas is None:
        raise click.UsageError(f"how many workers of {name!r}? Write {name}=N, or --replicas N")
    if equals and not count.isdecimal():
        raise click.UsageError(f"{count!r} is no number of workers; write {name}=3, say")
    return name, int(count) if equals else replicas or 0


def _written(client: Client, place: Place, sizes: Mapping[str, int]) -> set[str]:
    """Put sizes into the files of these sets, all at once; those whose file is another now."""
    from reconciler.sources.writing import edited  # noqa: PLC0415  this reads specs
    from reconciler.verbs.committing import commit, watched  # noqa: PLC0415  likewise
    from reconciler.verbs.gathering import gathered  # noqa: PLC0415  likewise

    rows = {row["name"]: row for row in client.stream("sets")}
    files: dict[str, bytes | None] = {}
    written = set()
    for name, count in sizes.items():
        path = rows[name]["file"] if name in rows else None
        if path is None:
            raise Failure(f"{name} has no spec file", "leave out --write")
        ((file, data),) = gathered([path]).items()
        try:
            new = edited(file, data, count)
        except ValueError as error:
            raise Failure(str(error), "nothing was changed") from None
        if new != data:
            files[file] = new
            written.add(name)
    if files:
        commit(client, watched(client, place), files)
    return written


def _until_ended(client: Client) -> None:
    with suppress(NoAnswer, NoController):
        for _ in client.follow("sets", PAUSE, watch=True):
            pass
