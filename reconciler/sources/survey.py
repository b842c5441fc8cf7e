"""One look at spec files without a controller: what `check` and `plan` see.

Rule: it judges by the very functions that the watched directory uses, so that what passes here runs there.
"""

import os

import attrs

from reconciler.core.spec import SetSpec
from reconciler.sources import listing
from reconciler.sources.needing import unmet_files
from reconciler.sources.verdict import Rejection, conflict, judge, name_of, shown


@attrs.frozen
class Survey:
    """The good specs by name, the rejected files, and how many files were looked at."""

    specs: dict[str, SetSpec]
    rejections: tuple[Rejection, ...]
    files: int


def survey(path: str) -> Survey:
    """Look at a spec directory, or at a single spec file. Raises OSError where there is neither."""
    path = os.path.abspath(path)  # noqa: PTH100  Path.absolute keeps "..", resolve follows links
    only = None
    if not os.path.isdir(path):  # noqa: PTH112
        path, only = os.path.split(path)
    directory = listing.open_directory(path)
    try:
        stamps = listing.scan(directory)
        if only is not None and only not in stamps:
            raise FileNotFoundError(2, "no spec file", os.path.join(path, only))  # noqa: PTH118
        return _judged(directory, path, stamps if only is None else {only: stamps[only]}, whole=only is None)
    finally:
        os.close(directory)


def _judged(directory: int, path: str, stamps: dict[str, listing.Stamp], *, whole: bool) -> Survey:
    by_name: dict[str, list[str]] = {}
    for file in sorted(stamps):
        by_name.setdefault(name_of(file), []).append(file)
    specs, rejections = {}, []
    for name, files in by_name.items():
        verdict = judge(directory, path, files[0], stamps[files[0]]) if len(files) == 1 else conflict(path, files)
        if isinstance(verdict, SetSpec):
            specs[name] = verdict
        else:
            rejections.append(verdict or _changing(files[0]))
    if whole:  # of one file alone it is not known what else there will be
        for name, rejection in unmet_files(specs, {name: shown(path, files[0]) for name, files in by_name.items()}):
            del specs[name]
            rejections.append(rejection)
    return Survey(specs, tuple(rejections), len(stamps))


def _changing(file: str) -> Rejection:
    return Rejection(file, "Changing", (f"it is being written at this moment; look again @ {file}",))
