"""Waiting until workers and sets are as one wants them.

Rule: nobody polls. The controller tells each change, and what is waited for is looked at again after each; time itself
only ends the wait.
"""

import math
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, Self, TypeVar

import click

from reconciler.client import Client, Refused
from reconciler.verbs.base import Failure, Place, Verb
from reconciler.verbs.completion import Name
from reconciler.verbs.durations import Duration
from reconciler.verbs.live import PAUSE, Progress

Rows = Mapping[str, Mapping[str, Any]]
"""What the controller says of sets or workers, by name or key."""


STEADY = 1.0
"""Seconds for which nothing must have happened to workers that are as wanted: one that starts and crashes is ready for
a moment, too.
"""

_OFTEN = 0.2  # seconds; how often it is looked whether they are steady by now


class Patience(NamedTuple):
    """How many seconds one waits in all, None for ever, and until when (monotonic)."""

    seconds: float | None
    end: float

    @classmethod
    def of(cls, seconds: float | None) -> Self:
        """So long from now on."""
        return cls(seconds, math.inf if seconds is None else time.monotonic() + seconds)


Function = TypeVar("Function", bound=Callable[..., Any])

timeout_option = click.option("--timeout", type=Duration(), metavar="TIME", help="How long to wait at most, like 30s.")


def wait_options(function: Function) -> Function:
    """The options `--wait` and `--timeout`, for orders."""
    wait = click.option("--wait", is_flag=True, help="Wait until it is done; exit 1 if it cannot be.")
    return wait(timeout_option(function))


@click.command(cls=Verb)
@click.argument("names", nargs=-1, required=True, type=Name(), metavar="KEY-OR-SET...")
@click.option(
    "--for",
    "wish",
    type=click.Choice(["condition=Ready", "stopped", "deleted"], case_sensitive=False),
    default="condition=Ready",
    show_default=True,
    help="What to wait for: all of them serve, none has a process, or none is left.",
)
@timeout_option
@click.pass_obj
def wait(place: Place, names: tuple[str, ...], wish: str, timeout: float | None) -> None:
    """Wait until workers are ready, stopped or deleted; exit 0 when they are, 1 if the time is over before."""
    patience = Patience.of(timeout)
    with place.client() as client:
        if wish == "deleted":
            for name in names:
                _until_deleted(client, name, patience)
            return
        is_so = _is_ready if wish == "condition=Ready" else _is_stopped
        with Progress(wish.removeprefix("condition=").lower()) as progress:
            for rows in following(client, "get", names, patience):
                done = sum(map(is_so, rows.values()))
                progress.update(done, len(rows))
                if done == len(rows) and (is_so is _is_stopped or _are_ready(client, names)):
                    return


def settle(client: Client, names: Collection[str], timeout: float | None, *, lines: bool = False) -> bool:
    """Wait until these sets come no further by themselves: True if all is as wanted, and False where workers are left
    to be replaced when they end. Raises Failure where that is not well. `lines` also tells in a pipe how far they are,
    on stdout.
    """
    if not names:
        return True
    with Progress(names_of(names), lines=lines, stream=sys.stdout if lines else None) as progress:
        for rows in following(client, "sets", names, Patience.of(timeout), _OFTEN):
            total = sum(row["replicas"] for row in rows.values())
            progress.update(sum(row["updated"] for row in rows.values()), total, _note(rows.values()))
            for row in rows.values():
                if problem := _problem(row):
                    raise Failure(f"{row['name']} {problem}", f"`reconciler describe {row['name']}` shows why")
            if all(_is_settled(row) and _is_steady(row) for row in rows.values()):
                return all(row["converged"] for row in rows.values())
    return False  # never, as it follows until it returns or fails


def until_gone(client: Client, names: Collection[str], timeout: float | None) -> None:
    """Wait until these sets and all their workers are gone."""
    left, patience = set(names), Patience.of(timeout)
    with Progress(f"deleting {names_of(names)}") as progress:
        for name in names:
            try:
                for rows in following(client, "sets", [name], patience):
                    left = left if rows else left - {name}
                    progress.update(len(names) - len(left), len(names))
                    if not rows:
                        break
            except Refused as error:
                if error.code != "NotFound":
                    raise


def following(
    client: Client, verb: str, names: Collection[str], patience: Patience, pause: float = PAUSE
) -> Iterator[Rows]:
    """What there is by these names, again after each change and now and then. Raises Failure when the time is over, or
    the controller goes.
    """
    rows: dict[str, Mapping[str, Any]] = {}
    synced = False
    for item in client.follow(verb, min(pause, patience.seconds or pause), names=list(names), watch=True):
        if item is None or "synced" in item:
            synced = synced or item is not None
        elif item.get("gone") or item.get("workers") == []:
            rows.pop(item["key" if "key" in item else "name"], None)
        else:
            rows[item["key" if "key" in item else "name"]] = item
        if synced:
            yield rows
        if (synced or item is None) and time.monotonic() >= patience.end:
            raise Failure(f"gave up on {names_of(names)} after {patience.seconds:g} s", "wait longer with --timeout")
    raise Failure("the controller ended meanwhile", "ask `reconciler status` whether it runs again")


def names_of(names: Collection[str]) -> str:
    """Names in a few words."""
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} sets or workers"  # noqa: PLR2004  more are not read


def _until_deleted(client: Client, name: str, patience: Patience) -> None:
    """Wait until neither a set nor a worker of this name is left."""
    try:
        verb = "sets" if next(client.stream("sets", names=[name]), None) else "get"
        for rows in following(client, verb, [name], patience):
            if not rows:
                return
    except Refused as error:
        if error.code != "NotFound":
            raise


def _are_ready(client: Client, names: Collection[str]) -> bool:
    """Whether all these are ready, by one list and not by changes, which come one by one. What is not there any more is
    refused; of a set without workers all are.
    """
    return all(map(_is_ready, client.stream("get", names=list(names))))


def _is_ready(row: Mapping[str, Any]) -> bool:
    return any(worker["ready"] and worker["phase"] == "Running" for worker in row["workers"])


def _is_stopped(row: Mapping[str, Any]) -> bool:
    return all(worker["pid"] is None and worker["phase"] != "Starting" for worker in row["workers"])


def _is_settled(row: Mapping[str, Any]) -> bool:
    return bool(row["converged"] or row["settled"]) and row["observed_generation"] == row["generation"]


def _is_steady(row: Mapping[str, Any]) -> bool:
    return row["since"] is None or time.monotonic() - row["since"] >= STEADY


def _problem(row: Mapping[str, Any]) -> str:
    """Why a set cannot become as wanted, or nothing."""
    if row["converged"]:
        return ""
    if row["rejected"]:
        return f"was refused: {row['rejected'][0]}"
    if row["stalled"]:
        return "stalled: it came no further within its progress deadline"
    if row["paused"] and _is_settled(row):
        return "is paused before all of its workers are up to date; `rollout resume` ends that"
    return f"cannot go on: {row['failed']} of its workers failed for good" if row["failed"] else ""


def _note(rows: Collection[Mapping[str, Any]]) -> str:
    paused = " (paused)" if any(row["paused"] for row in rows) else ""
    return f"updated, {sum(row['available'] for row in rows)} available{paused}"
