"""The names of the files in the directory of workers' output, for those who write them and those who read them.

    KEY.log      what a worker wrote last, its earlier incarnations included; KEY.log.1, KEY.log.2 and so on are older
    KEY.idx      which incarnation wrote it and when; KEY.idx.1 belongs to KEY.log.1
    .KEY@UID.fifo   where a worker that lives writes to

Rule: an index names the inode of the log that it belongs to, so that one in the wrong place is never believed, and it
is moved or removed before its log is, so that no later log can have that inode meanwhile.
"""

import os
import re
from contextlib import suppress

_FILE = re.compile(r"(?P<key>.+-[0-9]+)\.(log|idx)(\.[0-9]+)?")
_FIFO = re.compile(r"\.(?P<key>.+)@(?P<uid>[^@]+)\.fifo")


def log_of(key: str, number: int = 0) -> str:
    """The name of a worker's log; 0 is the current one, and the oldest has the highest number."""
    return f"{key}.log.{number}" if number else f"{key}.log"


def index_of(key: str, number: int = 0) -> str:
    """The name of a log's index."""
    return f"{key}.idx.{number}" if number else f"{key}.idx"


def fifo_of(key: str, uid: str) -> str:
    """The name of an incarnation's FIFO."""
    return f".{key}@{uid}.fifo"


def fifos_in(directory: str) -> dict[str, tuple[str, str]]:
    """The FIFOs that are there: (key, uid) by name."""
    found = {name: _FIFO.fullmatch(name) for name in _all(directory)}
    return {name: (match["key"], match["uid"]) for name, match in found.items() if match}


def keys_in(directory: str) -> list[str]:
    """The keys of the workers that ever wrote something there."""
    return sorted(name.removesuffix(".log") for name in _all(directory) if name.endswith(".log"))


def files_by_key(directory: str) -> dict[str, list[str]]:
    """The names of all logs and indices that are there, each index before its log."""
    files: dict[str, list[str]] = {}
    for name in _all(directory):
        if match := _FILE.fullmatch(name):
            files.setdefault(match["key"], []).append(name)
    return files


def numbers_of(directory: str, key: str) -> list[int]:
    """The numbers of a worker's logs that are there, the newest first."""
    head = log_of(key)
    rests = [name.removeprefix(head) for name in _all(directory) if name.startswith(head)]
    return sorted(int(rest[1:] or 0) for rest in rests if not rest or (rest[0] == "." and rest[1:].isdecimal()))


def put_aside(directory: str, key: str, keep: int) -> None:
    """Make room for a new current log: each one gets the next number, and those beyond `keep` files are gone.

    A death in between leaves at worst a number out, which the next time fills. Raises OSError.
    """
    free = next(number for number in range(1, keep + 1) if number == keep or not _exists(directory, key, number))
    if free == keep:
        _remove(directory, key, keep - 1)
    for number in range(min(free, keep - 1), 0, -1):
        for name_of in (index_of, log_of):
            with suppress(FileNotFoundError):
                os.rename(f"{directory}/{name_of(key, number - 1)}", f"{directory}/{name_of(key, number)}")  # noqa: PTH104
    beyond = keep
    while _exists(directory, key, beyond):
        _remove(directory, key, beyond)
        beyond += 1


def _all(directory: str) -> list[str]:
    return sorted(os.listdir(directory))  # noqa: PTH208


def _exists(directory: str, key: str, number: int) -> bool:
    return os.path.lexists(f"{directory}/{log_of(key, number)}")


def _remove(directory: str, key: str, number: int) -> None:
    for name_of in (index_of, log_of):
        with suppress(FileNotFoundError):
            os.unlink(f"{directory}/{name_of(key, number)}")  # noqa: PTH108
