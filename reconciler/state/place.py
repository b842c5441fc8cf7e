"""Where the state directory of a spec directory is.

Rule: the controller and its verbs come to the same answer, from the real path of the spec directory alone. What is in
the state directory is its owner's alone: nobody else may write to it, or put another in its place.
"""

import os
import stat
from hashlib import sha256
from itertools import pairwise
from pathlib import Path


class UnsafeError(Exception):
    """A state directory that others could write to. The message says what to do."""


def state_directory(specs: str) -> str:
    """The state directory for these specs: in the user's runtime directory, or for root under /run."""
    real = os.path.realpath(specs)
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in os.path.basename(real))  # noqa: PTH119
    mark = sha256(os.fsencode(real)).hexdigest()[:8]
    return os.path.join(_base(), "reconciler", f"{name[:40] or 'root'}-{mark}")  # noqa: PTH118


def prepare(directory: str) -> None:
    """Make the state directory, for its owner alone; an empty one is closed to others.

    Raises UnsafeError where others could write to it or replace it, or OSError where it cannot be made.
    """
    path = Path(os.path.abspath(directory))  # noqa: PTH100  Path.absolute keeps "..", resolve follows links
    chosen_by_us = _of_session() is None and path.is_relative_to(_in_temporary())
    for way in (path, path.resolve()):
        for above, below in pairwise((*reversed(way.parents), way)):
            if not below.exists():
                below.mkdir(0o700, exist_ok=True)
            _require_kept(above, below, sticky=chosen_by_us)
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeError(f"{directory} is not a directory; name another with --state-dir")
    if found.st_uid != os.geteuid():
        raise UnsafeError(f"{directory} belongs to another user; name another with --state-dir")
    if stat.S_IMODE(found.st_mode) & 0o077 and not any(path.iterdir()):
        path.chmod(0o700)
    elif stat.S_IMODE(found.st_mode) & 0o022:
        raise UnsafeError(f"others may write to {directory}; `chmod go-w` it, or name another with --state-dir")


def _require_kept(above: Path, below: Path, *, sticky: bool) -> None:
    """Raises UnsafeError if others may have made `below`, an entry of `above`, or could replace it: that is for its
    user to judge where the user named it, as directories of containers are often open to all and not `sticky`.
    """
    mode = above.stat().st_mode
    if not mode & stat.S_IWOTH:
        return
    if sticky and not mode & stat.S_ISVTX:
        raise UnsafeError(f"everybody may replace what is in {above}; `chmod +t` it, or name another with --state-dir")
    if below.lstat().st_uid not in (0, os.geteuid()):
        raise UnsafeError(f"{below} belongs to another user; name another with --state-dir")


def _base() -> str:
    """The directory for what lives as long as the user's session, or the machine's uptime."""
    return _of_session() or _in_temporary()


def _of_session() -> str | None:
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(given) and _is_ours(given):  # noqa: PTH117
        return given
    return "/run" if os.geteuid() == 0 else None


def _in_temporary() -> str:
    import tempfile  # noqa: PLC0415  only where there is no better place

    return os.path.join(tempfile.gettempdir(), f"run-{os.geteuid()}")  # noqa: PTH118


def _is_ours(path: str) -> bool:
    try:
        return os.stat(path).st_uid == os.geteuid()  # noqa: PTH116
    except OSError:
        return False
