"""What one spec file comes to: a spec, a rejection, or nothing yet.

Rule: the world's failures are values. Whatever is at that name, the answer is one of the three, and each problem says
what to do about it.
"""

import errno
import os
import stat
from pathlib import PurePath

import attrs

from reconciler.core.spec import SetSpec
from reconciler.sources import listing, loading
from reconciler.sources.listing import Stamp

BAD_NAME = "BadName"
CONFLICT = "Conflict"
INVALID = "InvalidSpec"
NOT_A_FILE = "NotAFile"
TOO_LARGE = "TooLarge"
UNREADABLE = "Unreadable"

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@attrs.frozen
class Rejection:
    """Why a file is not taken: a CamelCase word, and one text with a remedy for each problem."""

    file: str
    reason: str
    problems: tuple[str, ...]


def name_of(file: str) -> str:
    """The worker set that a spec file is for: its stem."""
    return file.rpartition(".")[0]


def shown(path: str, file: str = "") -> str:
    """A path, or that of a file in it, as text that can be encoded, whatever bytes it has."""
    return os.fsencode(PurePath(path, file)).decode("utf-8", "backslashreplace")


def conflict(path: str, files: list[str]) -> Rejection:
    """The verdict on several files of one stem in the directory `path`."""
    listed = " and ".join(shown("", file) for file in files)
    problem = f"{listed} are for the same worker set; delete or rename all but one of them"
    return Rejection(shown(path, files[0]), CONFLICT, (problem,))


def judge(directory: int, path: str, file: str, stamp: Stamp) -> SetSpec | Rejection | None:
    """What a file comes to that was found in the state of `stamp`; None if it is in that state no more.

    `directory` is a descriptor of the directory `path`.
    """
    name = name_of(file)

    def rejected(reason: str, *messages: str) -> Rejection:
        problems = tuple(str(loading.Problem(file, "", message)) for message in messages)
        return Rejection(shown(path, file), reason, problems)

    if (problem := loading.check_name(name)) is not None:
        return rejected(BAD_NAME, problem)
    if stamp.error == errno.ELOOP:
        return rejected(NOT_A_FILE, "a link that leads to itself; mend it or delete it")
    if stamp.error:
        return rejected(UNREADABLE, _remedy(stamp.error))
    if not stamp.regular:
        kind = _KINDS.get(stamp.kind, "something else")
        return rejected(NOT_A_FILE, f"a link to {kind}; let it lead to a regular file, or delete it")
    try:
        data = listing.read(directory, file, stamp, loading.MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        return rejected(UNREADABLE, _remedy(error.errno))
    if data is None:
        return None
    loaded = loading.load(name, file, data, path)
    if isinstance(loaded, SetSpec):
        return loaded
    reason = TOO_LARGE if len(data) > loading.MAX_BYTES else INVALID
    return Rejection(shown(path, file), reason, tuple(map(str, loaded)))


def _remedy(number: int | None) -> str:
    if number == errno.ENOENT:
        return "a link that leads nowhere; mend it or delete it"
    if number in (errno.EACCES, errno.EPERM):
        return "it cannot be read; give the controller's user the right to"
    why = os.strerror(number) if number else "unknown error"
    return f"it cannot be read ({why}); it is tried again at each look"
