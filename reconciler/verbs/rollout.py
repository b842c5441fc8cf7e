"""Rollouts: how far one is, holding it, and going back to an earlier revision.

Rule: what is held or rolled back stays so until it is taken back, and is shown as drift all the while.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from reconciler.verbs.base import Place, Verb
from reconciler.verbs.completion import Name
from reconciler.verbs.orders import warn
from reconciler.verbs.printing import Cell, Column, form_option, show, shown
from reconciler.verbs.waiting import settle, timeout_option, wait_options

if TYPE_CHECKING:
    from reconciler.core.spec import WorkerSet

_REVISIONS = (
    Column("REVISION", lambda row: str(row["revision"])),
    Column("RECORDED", lambda row: row["recorded"]),
    Column("CURRENT", lambda row: Cell("yes", "green") if row["current"] else ""),
    Column("CHANGED", lambda row: ", ".join(row["changed"])),
)

set_argument = click.argument("name", type=Name("set"), metavar="SET")


@click.group()
def rollout() -> None:
    """Follow, hold, resume or undo the rollout of a set."""


@rollout.command(cls=Verb)
@set_argument
@timeout_option
@click.pass_obj
def status(place: Place, name: str, timeout: float | None) -> None:
    """Wait until all workers run what is wanted, and show how far it is; exit 1 where the rollout stalled or failed."""
    with place.client() as client:
        for row in settle(client, [name], timeout, lines=True, strict=True):
            click.echo(f"{shown(row['name'])} {_outcome(row)}")


def _outcome(row: Mapping[str, Any]) -> str:
    """How a rollout ended well."""
    if row["schedule"] is not None:
        return "is rolled out; its next run is from the new spec"
    if row["job"]:
        return "has completed"
    if not row["converged"]:
        return "is rolled out as its workers end"
    kept = row["kept"]
    return f"is rolled out but for {kept} that its partition keeps as they were" if kept else "is rolled out"


@rollout.command(cls=Verb)
@set_argument
@click.pass_obj
def pause(place: Place, name: str) -> None:
    """Replace no more workers until `rollout resume`."""
    with place.client() as client:
        warn(client.call("pause", set=name))
    click.echo(f"{shown(name)} paused")


@rollout.command(cls=Verb)
@set_argument
@wait_options
@click.pass_obj
def resume(place: Place, name: str, timeout: float | None, *, wait: bool) -> None:
    """Take back `rollout pause`."""
    with place.client() as client:
        warn(client.call("resume", set=name))
        click.echo(f"{shown(name)} resumed")
        if wait:
            settle(client, [name], timeout)


@rollout.command(cls=Verb)
@set_argument
@click.option("--to-revision", "revision", type=int, metavar="N", help="Which one.  [default: the one before]")
@wait_options
@click.pass_obj
def undo(place: Place, name: str, revision: int | None, timeout: float | None, *, wait: bool) -> None:
    """Run an earlier revision of a set, until its file is edited."""
    with place.client() as client:
        done = client.call("undo", set=name, revision=revision)
        warn(done)
        click.echo(f"{shown(name)} rolled back to revision {done['revision']}")
        if wait:
            settle(client, [name], timeout)


@rollout.command(cls=Verb)
@set_argument
@form_option
@click.pass_obj
def history(place: Place, name: str, form: str) -> None:
    """Show the revisions of a set that can be gone back to, and what each changed."""
    with place.client() as client:
        revisions = list(client.stream("history", set=name))
    show(form, list(_compared(name, revisions)), _REVISIONS, "revision")


def _compared(name: str, revisions: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The revisions, each with the settings in which it differs from the one before."""
    from reconciler.core.spec import expand  # noqa: PLC0415  this reads specs
    from reconciler.sources.comparing import compare  # noqa: PLC0415  likewise
    from reconciler.sources.dumping import restore  # noqa: PLC0415  likewise

    before: dict[str, WorkerSet] = {}
    for row in revisions:
        spec = {} if row["spec"] is None else {name: expand(restore(name, row["spec"]))}  # it may be too long for us
        changes = compare(before, spec) if before and spec else ()
        before = spec
        yield {**row, "changed": [field.path for change in changes for field in change.fields]}
