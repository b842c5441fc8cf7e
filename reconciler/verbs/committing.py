"""How verbs change spec files: as one transaction, which the controller makes where one runs.

Rule: what the controller would refuse is not written, and whatever goes wrong, all files are as before.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

from reconciler.client import Client, NoController
from reconciler.sources import listing, writing
from reconciler.sources.verdict import name_of
from reconciler.verbs.base import Failure, Place
from reconciler.verbs.gathering import refused


class Watched(NamedTuple):
    """A spec directory, by its absolute path, and whether a controller watches it."""

    directory: str
    running: bool

    def files(self) -> dict[str, list[str]]:
        """The spec files that are there, by the set that they are for. Raises OSError."""
        directory = listing.open_directory(self.directory)
        try:
            by_name: dict[str, list[str]] = {}
            for file in sorted(listing.scan(directory)):
                by_name.setdefault(name_of(file), []).append(file)
            return by_name
        finally:
            os.close(directory)


def watched(client: Client, place: Place) -> Watched:
    """The directory of the controller; where none runs, the one that was named. Raises NoController if none was."""
    try:
        directory = client.call("status")["specs"]
    except NoController:
        if place.specs is None:
            raise
        return Watched(os.path.abspath(place.specs), running=False)  # noqa: PTH100  as the controller would
    if directory is None:
        raise Failure("this controller watches no directory", "change what its `update` returns")
    return Watched(directory, running=True)


def commit(client: Client, where: Watched, files: Mapping[str, bytes | None], serial: int | None = None) -> None:
    """Write these contents of spec files, and remove those that are None; all or nothing. A controller has read them
    then. With a `serial` it refuses if its specs are others since. Raises Failure.
    """
    try:
        with writing.stage(where.directory, files) as staged:
            if not where.running:
                staged.commit()
                return
            try:
                client.call("commit", changes=staged.changes, **({} if serial is None else {"serial": serial}))
            except ValueError:
                raise Failure(f"{len(files)} files are too many for one transaction", "take fewer at a time") from None
    except writing.StagingError as error:
        raise refused(error.rejections) from None
