"""Spec files that are given to a verb: their contents, and what they ask for.

Rule: all of them are good, or none is taken; then every problem of each is told.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from reconciler.sources import listing
from reconciler.sources.verdict import INVALID, Rejection, conflict, name_of
from reconciler.verbs.base import Failure
from reconciler.verbs.printing import shown

if TYPE_CHECKING:
    from reconciler.core.spec import SetSpec

STDIN = "-"

_AT_MOST = 1 << 20  # bytes of one file, which is more than the loader takes


def gathered(paths: Sequence[str], name: str | None = None) -> dict[str, bytes]:
    """The contents of spec files and of all those in directories, by file name; "-" is stdin, which needs a `name`."""
    files: dict[str, bytes] = {}
    for path in paths:
        found = _stdin(name) if path == STDIN else _directory(path) if os.path.isdir(path) else _file(path)  # noqa: PTH112
        if twice := sorted(found.keys() & files.keys()):
            raise Failure(f"{twice[0]} is given twice", "leave one of them out")
        files |= found
    return files


def loaded(files: dict[str, bytes], home: str) -> dict[str, "SetSpec"]:
    """What the files ask for, by set, when they are in the directory `home`. Raises Failure if any is bad."""
    from reconciler.core.spec import SetSpec  # noqa: PLC0415  not before a file is read
    from reconciler.sources.loading import load  # noqa: PLC0415  likewise

    specs, bad, by_name = {}, [], dict[str, list[str]]()
    for file, data in files.items():
        name = name_of(file)
        by_name.setdefault(name, []).append(file)
        found = load(name, file, data, home)
        if isinstance(found, SetSpec):
            specs[name] = found
        else:
            bad.append(Rejection(file, INVALID, tuple(map(str, found))))
    bad += [conflict("", alike) for alike in by_name.values() if len(alike) > 1]
    if bad:
        raise refused(bad)
    return specs


def require_needs(files: Iterable[str], specs: "Mapping[str, SetSpec]", others: "Mapping[str, SetSpec]") -> None:
    """Raises Failure if a spec of these files depends on what is neither among them nor among the `others`, or on
    itself by way of others.
    """
    if not any(spec.depends_on for spec in specs.values()):
        return
    from reconciler.sources.needing import unmet_files  # noqa: PLC0415  few files depend on any

    found = unmet_files(
        {**others, **specs}, {**dict.fromkeys(others, ""), **{name_of(file): file for file in files}}, others
    )
    if bad := [rejection for name, rejection in found if name in specs]:
        raise refused(bad)


def refused(rejections: Iterable[Rejection]) -> Failure:
    """Tell what is wrong with these files; the failure to be raised."""
    files = set()
    for each in rejections:
        files.add(each.file)
        for problem in each.problems:
            click.echo(f"{shown(each.file)}: {shown(problem)}", err=True)
    count = "a file is" if len(files) == 1 else f"{len(files)} files are"
    return Failure(f"{count} bad; nothing was changed", "mend what is told above, then try again")


def _stdin(name: str | None) -> dict[str, bytes]:
    if name is None:
        raise Failure("what comes from stdin has no name", "give one with --name, like --name web or --name web.json")
    file = name if name.endswith(listing.SUFFIXES) else f"{name}.toml"
    return {file: sys.stdin.buffer.read(_AT_MOST)}


def _file(path: str) -> dict[str, bytes]:
    directory, file = os.path.split(path)
    if not file.endswith(listing.SUFFIXES) and os.path.exists(path):  # noqa: PTH110
        raise Failure(f"{path} is no spec file", f"its name must end with one of {', '.join(listing.SUFFIXES)}")
    return _read(directory or ".", [file])


def _directory(path: str) -> dict[str, bytes]:
    return _read(path, None)


def _read(path: str, only: list[str] | None) -> dict[str, bytes]:
    directory = listing.open_directory(path)
    try:
        stamps = listing.scan(directory)
        files = {}
        for file in sorted(stamps) if only is None else only:
            if file not in stamps:
                raise Failure(f"there is no spec file {file} in {path}", "name a spec directory or a spec file")
            data = listing.read(directory, file, stamps[file], _AT_MOST)
            if data is None:
                raise Failure(f"{file} is being written at this moment", "try again")
            files[file] = data
        return files
    finally:
        os.close(directory)
