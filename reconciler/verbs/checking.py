"""The verbs that need no controller: whether files are good, and what they may hold.

Rule: a file is judged by the very functions that read the watched directory.
"""

import sys
from typing import TYPE_CHECKING

import click

from reconciler.verbs.base import Failure, fail
from reconciler.verbs.printing import shown

if TYPE_CHECKING:
    from reconciler.sources.survey import Survey


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="DIR|FILE...")
def check(paths: tuple[str, ...]) -> None:
    """Validate spec files; exit 1 if any is bad, with every problem listed."""
    bad = files = 0
    for path in paths:
        found = _surveyed(path)
        files += found.files
        for rejection in found.rejections:
            bad += 1
            for problem in rejection.problems:
                click.echo(f"{shown(rejection.file)}: {shown(problem)}")
    click.echo(f"{files} files, {bad} bad", err=True)
    sys.exit(1 if bad else 0)


@click.command()
def schema() -> None:
    """Print the JSON Schema of spec files, for editors."""
    from importlib import resources  # noqa: PLC0415  this verb alone needs it

    click.echo((resources.files("reconciler") / "spec.schema.json").read_text("utf-8"), nl=False)


def _surveyed(path: str) -> "Survey":
    from reconciler.sources.survey import survey  # noqa: PLC0415  as late as can be

    try:
        return survey(path)
    except OSError as error:
        fail(Failure(f"cannot read {path!r}: {error.strerror}; name a spec directory or a spec file", code=2))
