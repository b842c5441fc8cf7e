"""One look at a spec directory: which spec files are there, in which state, and what one of them holds.

Rule: nothing is opened but what `stat` has just called a regular file, no open can block, and a content counts only if
the file was in the same state before and after it was read. Names come from the directory itself, so they hold no "/",
and everything is reached through one descriptor: the directory may be swapped in the middle of a look.
"""

import os
import stat
from typing import NamedTuple

SUFFIXES = (".toml", ".yaml", ".yml", ".json")
"""How a spec file's name ends. What editors and copies leave behind (`web.toml~`, `web.toml.bak`, `.web.toml.swp`,
`4913`, `#web.toml#`, `web.toml.tmp`) ends otherwise or begins with a dot, so that this list needs no list beside it.
"""

OPEN_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
"""How a file is opened that may have become anything since it was looked at."""

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Stamp(NamedTuple):
    """What tells one state of a file from another. `error` is the errno where no more could be found out, else 0."""

    kind: int
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    error: int = 0

    @property
    def regular(self) -> bool:
        """Whether it is a regular file, itself or where its links lead."""
        return stat.S_ISREG(self.kind)


def open_directory(path: str) -> int:
    """A descriptor of the directory, in which its names can be reached. Raises OSError."""
    directory = os.open(path, _OPEN_DIRECTORY)
    try:
        os.stat(".", dir_fd=directory)  # without search permission each file would seem to be at fault by itself
    except OSError:
        os.close(directory)
        raise
    return directory


def leads_to(path: str, directory: int) -> bool:
    """Whether the path leads to this very directory, given by a descriptor."""
    try:
        there = os.stat(path)  # noqa: PTH116
    except OSError:
        return False
    return os.path.samestat(there, os.fstat(directory))


def scan(directory: int) -> dict[str, Stamp]:
    """The spec files of a directory by name. Raises OSError if the directory cannot be listed.

    Sub-directories, FIFOs, devices and sockets are left out; links to such things are not: who linked a spec file to
    one should be told.
    """
    found = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or not name.endswith(SUFFIXES):
                continue
            try:
                stamp = stamp_of(entry.stat())
            except FileNotFoundError as error:
                if not entry.is_symlink():
                    continue  # deleted since it was listed
                stamp = _fault(error)
            except OSError as error:
                stamp = _fault(error)
            if stamp.regular or stamp.error or entry.is_symlink():
                found[name] = stamp
    return found


def read(directory: int, name: str, stamp: Stamp, limit: int) -> bytes | None:
    """The content of a file, at most `limit` bytes of it; None if the file is not, or not any more, in the state of
    `stamp`. Raises OSError if it cannot be read.
    """
    file = os.open(name, OPEN_FILE, dir_fd=directory)
    try:
        if stamp_of(os.fstat(file)) != stamp:
            return None
        data = bytearray()
        while len(data) < limit and (more := os.read(file, limit - len(data))):
            data += more
        return bytes(data) if stamp_of(os.fstat(file)) == stamp else None
    finally:
        os.close(file)


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp of what was looked at."""
    return Stamp(
        stat.S_IFMT(status.st_mode),
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _fault(error: OSError) -> Stamp:
    return Stamp(0, 0, 0, 0, 0, 0, error.errno or 0)
