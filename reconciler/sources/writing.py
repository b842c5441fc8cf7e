"""Changing spec files: another `replicas` in the text of one, and many files as one transaction.

Rule: nothing is written that the loader would refuse, and nothing is lost that the user wrote. An edit of a text counts
only if both texts, parsed, differ in nothing else. New files are complete on the disk, under names that no look at the
directory takes for spec files, before the first of them takes its place.
"""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import PurePath
from typing import Any, Self

from reconciler.core.spec import SetSpec
from reconciler.sources import listing, loading
from reconciler.sources.parsing import parse
from reconciler.sources.refusal import InputError
from reconciler.sources.verdict import INVALID, NOT_A_FILE, Rejection, conflict, name_of, shown

NOT_FOUND = "NotFound"

Change = tuple[str | None, str]
"""The name under which a new content waits, or None for a removal; and the name of the spec file."""

_VALUE = re.compile(r"""(["']?)replicas\1\s*[=:]\s*([+-]?[0-9][\w.]*)""")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_TOML_TABLE = re.compile(r"\s*\[")
_YAML_KEY = re.compile(r"[^\s#-]")
_MOST_TRIES = 20
"""How many places of a text are tried: the parser may take 100 ms for each."""

_STAGE = re.compile(r"\.stage-[0-9a-f]{16}")


class StagingError(ValueError):
    """Files that are not taken, and why. Nothing was changed."""

    def __init__(self, rejections: Iterable[Rejection]) -> None:
        self.rejections = tuple(rejections)
        super().__init__("; ".join(problem for each in self.rejections for problem in each.problems))


def edited(file: str, data: bytes, replicas: int) -> bytes:
    """`data`, the content of a spec file, with another number of replicas, and else as it was: comments, layout, all.

    Raises ValueError, with a remedy, if it is no table of settings, or if no edit of its text does that and no more.
    """
    try:
        before = parse(file, data)
    except InputError as error:
        raise ValueError(f"{file} must be mended first: {error.problems[0][1]}") from None
    if not isinstance(before, dict):
        raise ValueError(f"{file} must be mended first: it is no table of settings")  # noqa: TRY004  the user's, not ours
    wanted = {**before, "replicas": replicas}
    if _is(before, wanted):
        return data
    text = data.decode()
    attempts = _replaced(text, replicas) if "replicas" in before else _inserted(file, text, replicas)
    for attempt in islice(attempts, _MOST_TRIES):
        with suppress(InputError):
            if _is(parse(file, attempt.encode()), wanted):
                return attempt.encode()
    raise ValueError(f"found no safe way to set `replicas` in {file}; set it to {replicas} by hand")


def _is(data: Any, wanted: dict[str, Any]) -> bool:
    return bool(data == wanted) and type(data["replicas"]) is int  # true and 1.0 are equal to 1 as well


def _replaced(text: str, replicas: int) -> Iterator[str]:
    """The text with another number in each place that may be the right one; some are comments, or in other tables."""
    for match in _VALUE.finditer(text):
        start, end = match.span(2)
        yield f"{text[:start]}{replicas}{text[end:]}"


def _inserted(file: str, text: str, replicas: int) -> Iterator[str]:
    """The text with the setting added in each place that may do, the best first."""
    suffix = PurePath(file).suffix
    if suffix == ".toml":
        yield from _with_line(text, f"replicas = {replicas}", _TOML_TABLE)
        return
    if suffix != ".json":
        yield from _with_line(text, f"replicas: {replicas}", _YAML_KEY)
    if brace := re.search(r"\{(\s*)", text):
        yield f'{text[: brace.end()]}"replicas": {replicas},{brace[1] or " "}{text[brace.end() :]}'


def _with_line(text: str, line: str, opening: re.Pattern[str]) -> Iterator[str]:
    """The text with `line` after each setting that a line like `opening`, or nothing, follows. Comments and empty lines
    between the two stay with what follows.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    gap, gaps = 0, []
    for match in _LINE.finditer(text):
        if opening.match(match.group()):
            gaps.append(gap)
        words = match.group().strip()
        if words and not words.startswith("#"):
            gap = match.end()
    for at in filter(None, [*gaps, gap]):
        whole = f"{line}{newline}" if text[at - 1] == "\n" else f"{newline}{line}"
        yield f"{text[:at]}{whole}{text[at:]}"


class Staged:
    """Spec files that wait to take their places. Leaving it as a context manager drops what still waits.

    `changes` are plain texts in the order in which they are made: another process may call the function `commit` with
    them, as long as this one keeps the stage.
    """

    def __init__(self, directory: str, changes: tuple[Change, ...], name: str, lock: int) -> None:
        self.directory = directory
        self.changes = changes
        self._name = name
        self._lock = lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def commit(self) -> None:
        """Make the changes; see the function `commit`."""
        commit(self.directory, self.changes)

    def discard(self) -> None:
        """Drop what was not committed. What cannot be dropped now goes with the next stage."""
        if self._lock < 0:
            return
        with suppress(OSError):
            at = listing.open_directory(self.directory)
            try:
                _drop(at, self._name)
            finally:
                os.close(at)
        os.close(self._lock)
        self._lock = -1


def stage(directory: str, files: Mapping[str, bytes | None]) -> Staged:
    """Write new contents of spec files, by file name, to where they can take their places at once; None removes a file.

    Raises `StagingError` if any of them is not taken, and OSError where nothing can be written, as on a full disk. Then
    nothing is left behind. What a writer that was killed left behind goes now.
    """
    directory = os.path.abspath(directory)  # noqa: PTH100  Path.absolute keeps "..", resolve follows links
    at = listing.open_directory(directory)
    try:
        if rejections := list(_rejections(at, directory, files)):
            raise StagingError(rejections)
        _sweep(at)
        name, lock = _new_stage(at)
        removed_last = sorted(files, key=lambda file: (files[file] is None, file))  # no set is ever gone in between
        changes = tuple((None if files[file] is None else f"{name}-{file}", file) for file in removed_last)
        staged = Staged(directory, changes, name, lock)
        try:
            for file, data in files.items():
                if data is not None:
                    _write(at, f"{name}-{file}", file, data)
        except BaseException:
            staged.discard()
            raise
        return staged
    finally:
        os.close(at)


def commit(directory: str, changes: Iterable[Change]) -> None:
    """Make the changes that were staged in `directory`, all or none, and see to it that they are on the disk.

    Raises ValueError for a name that `stage` does not give, and OSError where one is not there or the disk refuses; the
    spec files are then what they were.
    """
    changes = tuple(changes)
    at = listing.open_directory(directory)
    try:
        for waiting, file in changes:
            if "/" in file or file.startswith(".") or not file.endswith(listing.SUFFIXES):
                raise ValueError(f"{shown('', file)} is not the name of a spec file")
            if waiting is not None and not _STAGE.fullmatch(waiting.removesuffix(f"-{file}")):
                raise ValueError(f"{shown('', waiting)} was not staged for {shown('', file)}")
            os.stat(waiting or file, dir_fd=at, follow_symlinks=False)
            if (old := _status(at, file)) is not None and stat.S_ISDIR(old.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), file)
        aside, lock = _new_stage(at)
        try:
            _make(at, changes, aside)
        finally:
            with suppress(OSError):  # it goes with the next stage
                _drop(at, aside)
            os.close(lock)
    finally:
        os.close(at)


def _make(at: int, changes: Iterable[Change], aside: str) -> None:
    """Make the changes, and take them back if one fails; the old files stay under names that begin with `aside`."""
    taking_back: list[tuple[str, str]] = []
    try:
        for waiting, file in changes:
            old = f"{aside}-{file}"
            if waiting is None:
                os.rename(file, old, src_dir_fd=at, dst_dir_fd=at)
                taking_back.append((old, file))
                continue
            is_new = not _keep(at, file, old)
            if not is_new:
                taking_back.append((old, file))
            os.rename(waiting, file, src_dir_fd=at, dst_dir_fd=at)
            if is_new:
                taking_back.append((file, waiting))
        os.fsync(at)
    except BaseException:
        for there, back in reversed(taking_back):
            with suppress(OSError):  # the others all the same
                os.rename(there, back, src_dir_fd=at, dst_dir_fd=at)
        raise


def _keep(at: int, file: str, old: str) -> bool:
    """Give a file a second name; False if there is no such file."""
    try:
        os.link(file, old, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except FileExistsError:
        raise
    except OSError:  # some file systems have no links, and the kernel forbids them to files of others
        os.rename(file, old, src_dir_fd=at, dst_dir_fd=at)
    return True


def _rejections(at: int, directory: str, files: Mapping[str, bytes | None]) -> Iterator[Rejection]:
    """Why these files cannot be written or removed."""
    there = listing.scan(at).keys()
    for file, data in files.items():
        path = shown(directory, file)
        if data is None:
            if file not in there:
                yield Rejection(path, NOT_FOUND, (f"there is no spec file {path}; see which there are with `ls`",))
            continue
        loaded = loading.load(name_of(file), file, data, directory)
        if not isinstance(loaded, SetSpec):
            yield Rejection(path, INVALID, tuple(map(str, loaded)))
        elif (old := _status(at, file)) is not None and not stat.S_ISREG(old.st_mode):
            yield Rejection(path, NOT_A_FILE, (f"{path} is a link or no file at all; delete it, or edit its target",))
    kept = sorted(file for file in there | files.keys() if files.get(file, b"") is not None)
    for name in sorted({name_of(file) for file, data in files.items() if data is not None}):
        alike = [file for file in kept if name_of(file) == name]
        if len(alike) > 1:
            yield conflict(directory, alike)


def _status(at: int, file: str) -> os.stat_result | None:
    try:
        return os.stat(file, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _new_stage(at: int) -> tuple[str, int]:
    """The name of a new stage, and its lock: a file of that name, locked for as long as this process has it open."""
    while True:
        name = f".stage-{os.urandom(8).hex()}"
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=at)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_nlink:
                return name, lock
        except OSError:
            os.unlink(name, dir_fd=at)
            os.close(lock)
            raise
        os.close(lock)  # another writer swept it in the moment before it was locked


def _sweep(at: int) -> None:
    """Drop each stage that nobody keeps any more."""
    for name in filter(_STAGE.fullmatch, os.listdir(at)):
        with suppress(OSError):  # it is kept, or it is somebody else's
            lock = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _drop(at, name)
            finally:
                os.close(lock)


def _drop(at: int, stage_name: str) -> None:
    """Remove the files of a stage, its lock last."""
    waiting = [file for file in os.listdir(at) if file.startswith(f"{stage_name}-")]
    for file in (*waiting, stage_name):
        os.unlink(file, dir_fd=at)


def _write(at: int, waiting: str, file: str, data: bytes) -> None:
    """Write `data` to the disk as `waiting`, with the mode of the `file` that it replaces, and its owner if allowed."""
    old = _status(at, file)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(waiting, flags, 0o644 if old is None else 0o600, dir_fd=at), "wb") as new:  # noqa: PTH123
        if old is not None:
            with suppress(PermissionError):
                os.fchown(new.fileno(), old.st_uid, old.st_gid)
            os.fchmod(new.fileno(), stat.S_IMODE(old.st_mode))
        new.write(data)
        new.flush()
        os.fsync(new.fileno())
