"""Waiting until workers and sets are as one wants them.

Rule: nobody polls. The controller tells each change, and what is waited for is looked at again after each; time itself
only ends the wait.
"""

import math
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
    type=click.Choice(["condition=Ready", "condition=Completed", "stopped", "deleted"], case_sensitive=False),
    default="condition=Ready",
    show_default=True,
    help="What to wait for: all of them serve or have ended well, all have ended well, none has a process, or none is "
    "left.",
)
@timeout_option
@click.pass_obj
def wait(place: Place, names: tuple[str, ...], wish: str, timeout: float | None) -> None:
    """Wait until workers are ready, have completed, are stopped or deleted; exit 0 when they are, 1 if the time is over
    before, or what is waited for will not come by itself.
    """
    patience = Patience.of(timeout)
    with place.client() as client:
        if wish == "deleted":
            for name in names:
                _until_deleted(client, name, patience)
            return
        is_so = _WISHES[wish]
        history = _history(client, names)
        with Progress(wish.removeprefix("condition=").lower()) as progress:
            for rows in following(client, "get", names, patience):
                left = {key: row for key, row in rows.items() if key not in history}
                done = sum(map(is_so, left.values()))
                progress.update(done, len(left))
                if done == len(left) and (is_so is _is_stopped or _are(is_so, client, names, history)):
                    return
                for row in left.values() if is_so is not _is_stopped else ():
                    _require_hope(row)


def settle(
    client: Client, names: Collection[str], timeout: float | None, *, lines: bool = False, strict: bool = False
) -> Sequence[Mapping[str, Any]]:
    """Wait until these sets come no further by themselves; what they are then. Where all is well they are as wanted, or
    workers are left to be replaced when they end. Raises Failure where it is not, or where a set went back by itself
    meanwhile; if `strict`, also before. `lines` also tells in a pipe how far they are, on stdout.
    """
    if not names:
        return ()
    back: set[str] | None = set() if strict else None
    with Progress(names_of(names), lines=lines, stream=sys.stdout if lines else None) as progress:
        for rows in following(client, "sets", names, Patience.of(timeout), _OFTEN):
            if back is None:
                back = {name for name, row in rows.items() if row["undone"]}
            progress.update(*_progress(rows.values()))
            for row in rows.values():
                if problem := _problem(row):
                    raise Failure(f"{row['name']} {problem}", f"`reconciler describe {row['name']}` shows why")
            if all(_is_settled(row) and _is_steady(row) for row in rows.values()):
                for name, row in rows.items():
                    if row["undone"] and name not in back:
                        raise Failure(f"{name} {_UNDONE}", f"`reconciler logs {name}` may say why; edit its file")
                return tuple(rows.values())
    return ()  # never, as it follows until it returns or fails


def until_over(client: Client, key: str, patience: Patience, since: float | None) -> None:
    """Wait until a run of a schedule that began after `since` (Unix time) is over; it may be forgotten at once. Raises
    Failure if it did not end well.
    """
    pause = min(PAUSE, patience.seconds or PAUSE)
    with Progress(key) as progress:
        progress.update(0, 1, "running")
        for item in client.follow("events", pause, names=[key], since=since, follow=True):
            told = "" if item is None else item.get("event", "")
            if told == "worker.succeeded":
                return
            if told in _ENDS:
                raise Failure(f"{key} did not end well", f"`reconciler events {key}` shows how")
            if time.monotonic() >= patience.end:
                raise Failure(f"gave up on {key} after {patience.seconds:g} s", "wait longer with --timeout")
    raise Failure("the controller ended meanwhile", "ask `reconciler status` whether it runs again")


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


def _are(
    is_so: Callable[[Mapping[str, Any]], bool], client: Client, names: Collection[str], history: Collection[str]
) -> bool:
    """Whether it is so of all these, by one list and not by changes, which come one by one. What is not there any more
    is refused; of a set without workers all are.
    """
    return all(is_so(row) for row in client.stream("get", names=list(names)) if row["key"] not in history)


def _history(client: Client, names: Collection[str]) -> set[str]:
    """The workers that nobody means who names a set with a schedule: the runs that are over."""
    scheduled = {row["name"] for row in client.stream("sets") if row["schedule"] is not None}
    over = (row for row in client.stream("get", names=list(names)) if row["set"] in scheduled) if scheduled else ()
    return {row["key"] for row in over if row["key"] not in names and _is_over(row)}


def _is_over(row: Mapping[str, Any]) -> bool:
    return bool(row["workers"]) and all(worker["phase"] in ("Succeeded", "Failed") for worker in row["workers"])


def _require_hope(row: Mapping[str, Any]) -> None:
    """Raises Failure where a worker will not become as is wished for by itself."""
    for worker in row["workers"]:
        hint = f"`reconciler describe {row['key']}` shows why"
        if worker["in_vain"]:
            raise Failure(f"{row['key']} waits for {', '.join(worker['waits_for'])} in vain", hint)
        if worker["phase"] == "Failed" and worker["up_to_date"] and len(row["workers"]) == 1:
            raise Failure(f"{row['key']} failed for good", hint)


def _is_ready(row: Mapping[str, Any]) -> bool:
    serves = any(worker["ready"] and worker["phase"] == "Running" for worker in row["workers"])
    return serves or _is_completed(row)


def _is_completed(row: Mapping[str, Any]) -> bool:
    return any(worker["phase"] == "Succeeded" and worker["up_to_date"] for worker in row["workers"])


def _is_stopped(row: Mapping[str, Any]) -> bool:
    return all(worker["pid"] is None and worker["phase"] != "Starting" for worker in row["workers"])


_WISHES = {"condition=Ready": _is_ready, "condition=Completed": _is_completed, "stopped": _is_stopped}

_ENDS = ("worker.failed", "worker.stopped", "worker.forgotten")
"""The events after which a run will not have ended well."""

_UNDONE = "went back by itself to what last ran everywhere: its rollout came no further within its progress deadline"


def _is_settled(row: Mapping[str, Any]) -> bool:
    if row["observed_generation"] != row["generation"]:
        return False
    goes_on = row["schedule"] is not None and row["schedule"]["next"] is not None  # whatever its runs do now
    return bool(row["converged"] or row["settled"] or goes_on)


def _is_steady(row: Mapping[str, Any]) -> bool:
    return row["since"] is None or row["job"] or time.monotonic() - row["since"] >= STEADY


def _problem(row: Mapping[str, Any]) -> str:
    """Why a set cannot become as wanted, or nothing."""
    if row["converged"] or row["schedule"] is not None:
        return ""
    if row["rejected"]:
        return f"was refused: {row['rejected'][0]}"
    if row["stalled"]:
        return "stalled: it came no further within its progress deadline"
    if row["paused"] and _is_settled(row):
        return "is paused before all of its workers are up to date; `rollout resume` ends that"
    if row["failed"]:
        return f"cannot go on: {row['failed']} of its workers failed for good"
    return f"waits for {', '.join(row['waits_for'])} in vain" if row["in_vain"] else ""


def _progress(rows: Collection[Mapping[str, Any]]) -> tuple[int, int, str]:
    """How many workers are as wanted, of how many, and what else is to be said of them."""
    total = sum(row["replicas"] - row["kept"] for row in rows)
    waits = sorted({name for row in rows for name in row["waits_for"]})
    note = f", waits for {names_of(waits)}" if waits else ""
    note += " (paused)" if any(row["paused"] for row in rows) else ""
    if all(row["job"] for row in rows):
        return sum(row["completed"] for row in rows), total, f"completed{note}"
    available = sum(row["available"] for row in rows)
    return sum(row["updated"] for row in rows), total, f"updated, {available} available{note}"
