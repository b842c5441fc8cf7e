"""`logs`: what workers wrote, from the files in the state directory.

Rule: the files are read by this process, so that a reader costs the controller nothing, and it needs none: what a
worker said last can be read when nobody runs any more. A pipe gets the bytes that the worker wrote.
"""

import os
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase

import click

from reconciler.client import Client, ClientError, Refused
from reconciler.verbs.base import Failure, Place, Verb
from reconciler.verbs.completion import Name
from reconciler.verbs.durations import Duration, ago
from reconciler.verbs.printing import shown


@click.command(cls=Verb)
@click.argument("names", nargs=-1, required=True, type=Name(), metavar="KEY-OR-SET...")
@click.option("-f", "--follow", is_flag=True, help="Go on with each new line, of new workers too, until ^C.")
@click.option("--since", type=Duration(), help="Only what was written in the last 10m, say.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
@click.option("--previous", is_flag=True, help="Only what the incarnation before the last one wrote.")
@click.pass_obj
def logs(  # noqa: PLR0913  one parameter for each option
    place: Place, names: Sequence[str], since: float | None, tail: int | None, *, follow: bool, previous: bool
) -> None:
    """Show what workers wrote into their files; lines of several are merged by time, each after its key."""
    from reconciler.output import rendering  # noqa: PLC0415  as late as can be

    directory, keys = _sought(place, names)
    if not os.path.isdir(directory):  # noqa: PTH112  nobody wrote anything, and nobody will
        return
    terminal, colours = os.isatty(1), rendering.colours_on(1)
    out = sys.stdout.buffer
    if follow and not previous:
        from reconciler.verbs.tailing import followed  # noqa: PLC0415  as late as can be

        lines = followed(directory, keys, lambda key: _is_asked_for(key, names), since=ago(since), tail=tail)
    else:
        from reconciler.output.reading import lines_of  # noqa: PLC0415  likewise

        lines = lines_of(directory, keys, since=ago(since), tail=tail, previous=previous)
    several = set(keys)
    for line in lines:
        several.add(line.key)
        prefix = rendering.prefix_of(line.key, colours=colours) if len(several) > 1 else b""
        out.write(prefix + (rendering.neutral(line.data) if terminal else line.data) + b"\n")
        if follow:
            out.flush()
    out.flush()


def _sought(place: Place, names: Sequence[str]) -> tuple[str, list[str]]:
    """The directory of the output, and the keys that are meant: those that wrote something, and those that run."""
    from reconciler.output.places import keys_in  # noqa: PLC0415  as late as can be

    with place.client() as client:
        try:
            directory: str = client.call("status")["output_dir"] or ""
        except ClientError:
            directory, asked = f"{place.state_dir}/output", None
        else:
            asked = client
        try:
            written = keys_in(directory)
        except FileNotFoundError:
            written = []
        keys = {key for name in names for key in _keys_of(name, written, asked)}
    if not keys.intersection(written):
        click.echo(f"reconciler: {', '.join(map(shown, names))} wrote nothing into files in {directory}", err=True)
    return directory, sorted(keys, key=_in_order)


def _keys_of(name: str, written: Sequence[str], client: Client | None) -> set[str]:
    """The keys that a name means. Raises Refused or Failure where there are none."""
    found = {key for key in written if _is_meant(key, name)}
    if client is not None:
        try:
            found |= {row["key"] for row in client.stream("get", names=[name])}
        except Refused:
            if not found:
                raise
    if not found:
        hint = "no controller runs that could know more" if client is None else "it has no workers at the moment"
        raise Failure(f"nothing by the name {name!r} wrote into a file", hint)
    return found


def _is_asked_for(key: str, names: Sequence[str]) -> bool:
    return any(_is_meant(key, name) for name in names)


def _is_meant(key: str, name: str) -> bool:
    set_name = key.rpartition("-")[0]
    return name in (key, set_name) or fnmatchcase(key, name) or fnmatchcase(set_name, name)


def _in_order(key: str) -> tuple[str, int]:
    name, _, number = key.rpartition("-")
    return name, int(number) if number.isdecimal() else 0
