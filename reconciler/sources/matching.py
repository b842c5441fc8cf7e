"""Which files a spec's patterns match, found within bounds.

Rule: a pattern goes down one directory for each of its parts, and ** through all that are below. Hidden names are
matched only by a part that begins with a dot, `.pyc` and what is in `__pycache__` never, and ** follows no links. Each
directory is listened to before it is looked into, so that nothing slips through in between.
"""

import errno
import os
import re
import stat
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache
from typing import Protocol

from reconciler.sources.listing import Stamp, stamp_of
from reconciler.sources.refusal import shown

MOST_FILES = 10_000
MOST_BYTES = 64 << 20
MOST_ENTRIES = 100_000
"""How many names are looked at, in all directories together, to find the files."""

_NO_MORE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ENOMEM})
_WILD = re.compile(r"[*?\[]")
_COMPILED = "__pycache__"

Parts = tuple[str, ...]


class Bell(Protocol):
    """What is hung on each directory that counts."""

    def listen(self, path: str) -> None:
        """Ring for what happens inside."""

    def listen_beside(self, path: str) -> None:
        """Ring when a name comes or goes."""


class UnusableError(Exception):
    """Files that cannot be watched: why, and what to do."""


class Finder:
    """One search. `entries` counts the names that were looked at."""

    def __init__(self, bell: Bell | None = None) -> None:
        self.entries = 0
        self._bell = bell
        self._found: dict[str, Stamp] = {}
        self._bytes = 0
        self._base = ""
        self._listed: dict[str, tuple[os.DirEntry[str], ...]] = {}
        self._been: set[tuple[str, Parts]] = set()

    def find(self, base: str, patterns: Iterable[str]) -> dict[str, Stamp]:
        """The files by their names relative to `base`, an absolute path; those of absolute patterns by their paths.

        Raises `UnusableError` if they are too many, too large or cannot be looked at, and OSError if the bell cannot be
        hung on so many directories.
        """
        self._base = base
        for pattern in patterns:
            absolute = pattern.startswith("/")
            start = "/" if absolute else base
            self._listen_above(start)
            self._walk(start, "/" if absolute else "", tuple(part for part in pattern.split("/") if part))
        return self._found

    def _walk(self, directory: str, name: str, parts: Parts) -> None:
        """Follow the parts of a pattern down from a directory; `name` is how its files' names begin."""
        if (directory, parts) in self._been:
            return
        self._been.add((directory, parts))
        part, rest = parts[0], parts[1:]
        if part == "**":
            self._walk(directory, name, rest or ("*",))
            for entry in self._entries_of(directory, name):
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    self._walk(entry.path, f"{name}{entry.name}/", parts)
        elif _WILD.search(part):
            expression = _expression(part)
            for entry in self._entries_of(directory, name):
                if expression.match(entry.name) and (part.startswith(".") or not entry.name.startswith(".")):
                    self._step(entry.path, f"{name}{entry.name}", rest)
        else:
            self._listen(directory)
            self._step(os.path.join(directory, part), f"{name}{part}", rest)  # noqa: PTH118

    def _step(self, path: str, name: str, rest: Parts) -> None:
        """Go on with what a part of a pattern led to."""
        if not rest:
            self._take(path, name)
        elif os.path.isdir(path):  # noqa: PTH112
            self._walk(path, f"{name}/", rest)

    def _take(self, path: str, name: str) -> None:
        """Count a file, if it is one."""
        if name in self._found or name.endswith(".pyc"):
            return
        try:
            status = os.stat(path)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise UnusableError(unreadable(name, error)) from None
        if not stat.S_ISREG(status.st_mode):
            return
        self._found[name] = stamp_of(status)
        self._bytes += status.st_size
        if len(self._found) > MOST_FILES:
            raise UnusableError(f"more than {MOST_FILES} files match; narrow the patterns")
        if self._bytes > MOST_BYTES:
            raise UnusableError(f"the files that match have more than {MOST_BYTES >> 20} MiB; narrow the patterns")

    def _entries_of(self, directory: str, name: str) -> tuple[os.DirEntry[str], ...]:
        if directory not in self._listed:
            self._listen(directory)
            try:
                with os.scandir(directory) as entries:
                    self._listed[directory] = tuple(self._counted(entries))
            except (FileNotFoundError, NotADirectoryError):
                self._listed[directory] = ()
            except OSError as error:
                raise UnusableError(unreadable(name or directory, error)) from None
        return self._listed[directory]

    def _counted(self, entries: Iterable[os.DirEntry[str]]) -> Iterable[os.DirEntry[str]]:
        for entry in entries:
            self.entries += 1
            if self.entries > MOST_ENTRIES:
                raise UnusableError(f"there are more than {MOST_ENTRIES} names to look at; narrow the patterns")
            if entry.name != _COMPILED:
                yield entry

    def _listen_above(self, start: str) -> None:
        """Listen for what decides where `start` leads: links on the way, and the first directory that is missing."""
        if self._bell is None:
            return
        path = "/"
        for part in start.split("/"):
            above, path = path, os.path.join(path, part)  # noqa: PTH118
            if os.path.islink(path) or not os.path.isdir(path):  # noqa: PTH112, PTH114
                self._listen(above, beside=True)

    def _listen(self, directory: str, *, beside: bool = False) -> None:
        if self._bell is None:
            return
        try:
            (self._bell.listen_beside if beside else self._bell.listen)(directory)
        except OSError as error:
            if error.errno in _NO_MORE:
                raise


def unreadable(name: str, error: OSError) -> str:
    """A file or a directory cannot be read, and what to do about it."""
    return f"{shown(name)} cannot be read ({error.strerror}); give the controller's user the right to, or leave it out"


@lru_cache(256)
def _expression(part: str) -> re.Pattern[str]:
    return re.compile(translate(part))
