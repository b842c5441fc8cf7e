"""Changes to the spec files: what they would come to, and making them.

Rule: a plan is made of nothing but the specs in force, the overrides laid over them, and the files given.
Its token stands for all of them, so that `apply --if-plan` does what was seen or nothing.
"""

import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase

import click

from reconciler.client import Client
from reconciler.verbs import planning
from reconciler.verbs.base import Failure, Place, Verb
from reconciler.verbs.completion import Name
from reconciler.verbs.printing import form_option, shown
from reconciler.verbs.waiting import settle, timeout_option, until_gone, wait_options

paths_argument = click.argument("paths", nargs=-1, metavar="[DIR|FILE...]")


@click.command(cls=Verb, error_code=2)
@paths_argument
@form_option
@click.pass_obj
def plan(place: Place, paths: tuple[str, ...], form: str) -> None:
    """Show what the controller would do if its directory looked so.

    Exits 0 for no change, 1 for changes, 2 for an error.

    It is compared with the directory DIR, by default the watched one as it is now; or with these files added to what
    there is. Where no controller runs, it is shown what one would start.
    """
    found = planning.planned(place, paths)
    if found.token is None:
        rows = planning.from_nothing(found)
        planning.show_starts(form, rows)
        sys.exit(1 if rows else 0)
    planning.show_plan(form, found)
    sys.exit(1 if found.changes else 0)


@click.command(cls=Verb, error_code=2)
@paths_argument
@form_option
@click.pass_obj
def diff(place: Place, paths: tuple[str, ...], form: str) -> None:
    """Show what `plan` would change, with the values before and after; values of `env` are hidden. Exits as `plan`."""
    found = planning.planned(place, paths)
    planning.show_values(form, found)
    sys.exit(1 if found.changes else 0)


@click.command(cls=Verb)
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR|-...")
@click.option("--name", metavar="NAME", help="The set, or the file with its suffix, that comes from stdin (-).")
@click.option("--if-plan", "token", metavar="TOKEN", help="Only if `plan` would print this token still.")
@wait_options
@click.pass_obj
def apply(  # noqa: PLR0913  one parameter for each option
    place: Place, paths: tuple[str, ...], name: str | None, token: str | None, timeout: float | None, *, wait: bool
) -> None:
    """Put spec files into the watched directory: all of them at once, or none if one is bad. Other files stay.

    Where no controller runs, they are there for the next one.
    """
    from reconciler.sources import comparing  # noqa: PLC0415  this reads specs
    from reconciler.verbs.committing import commit, watched  # noqa: PLC0415  likewise
    from reconciler.verbs.gathering import gathered, loaded, require_needs  # noqa: PLC0415  likewise

    files = gathered(paths, name)
    with place.client() as client:
        where = watched(client, place)
        given = loaded(files, where.directory)
        if not where.running:
            if wait or token is not None:
                raise Failure("no controller runs, so that there is no plan and nothing to wait for", "start one first")
            commit(client, where, files)
            for set_name in given:
                click.echo(f"{shown(set_name)} written; no controller runs")
            return
        serial = None if token is None else client.call("specs")["serial"]  # what comes after it is refused
        live = planning.in_force(client)
        require_needs(files, given, live.specs)
        if token is not None and comparing.token(live.specs, given, live.overrides) != token:
            raise Failure("this is not what was planned any more; nothing was changed", "look at `plan` again")
        commit(client, where, files, serial)
        for set_name, spec in given.items():
            before = live.specs.get(set_name)
            done = "created" if before is None else "unchanged" if before == spec else "changed"
            click.echo(f"{shown(set_name)} {done}")
        if wait:
            settle(client, list(given), timeout, strict=True)  # what did not change may have failed before


@click.command(cls=Verb)
@click.argument("names", nargs=-1, required=True, type=Name("set"), metavar="SET...")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until their workers are gone.")
@timeout_option
@click.pass_obj
def delete(place: Place, names: tuple[str, ...], timeout: float | None, *, wait: bool) -> None:
    """Remove the spec files of sets; their workers are stopped."""
    from reconciler.verbs.committing import commit, watched  # noqa: PLC0415  this reads specs

    with place.client() as client:
        where = watched(client, place)
        by_name = where.files()
        chosen = {name for pattern in names for name in _matching(client, pattern, by_name, running=where.running)}
        commit(client, where, {file: None for name in chosen for file in by_name[name]})
        for name in sorted(chosen):
            click.echo(f"{shown(name)} deleted")
        if wait and where.running:
            until_gone(client, sorted(chosen), timeout)


def _matching(client: Client, pattern: str, by_name: Mapping[str, list[str]], *, running: bool) -> list[str]:
    """The names of sets with files that a name or pattern means. Raises Failure or Refused where there are none."""
    found = [pattern] if pattern in by_name else [name for name in by_name if fnmatchcase(name, pattern)]
    if not found and running:
        client.call("sets", names=[pattern])  # says so, and which is the nearest
    if not found:
        raise Failure(f"there is no spec file for {pattern!r}", "`get --sets -o wide` shows which there are")
    return found
