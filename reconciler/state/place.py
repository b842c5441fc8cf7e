"""Where the state directory of a spec directory is.

Rule: the controller and its verbs come to the same answer, from the real path of the spec directory alone.
"""

import os
import stat
import tempfile
from hashlib import sha256

VARIABLE = "RECONCILER_STATE_DIR"
"""The environment variable that names the state directory where no option does."""


class UnsafeError(Exception):
    """A state directory that others could write to. The message says what to do."""


def state_directory(specs: str) -> str:
    """The state directory for these specs: in the user's runtime directory, or for root under /run."""
    real = os.path.realpath(specs)
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in os.path.basename(real))  # noqa: PTH119
    mark = sha256(os.fsencode(real)).hexdigest()[:8]
    return os.path.join(_base(), "reconciler", f"{name[:40] or 'root'}-{mark}")  # noqa: PTH118


def prepare(directory: str) -> None:
    """Make the state directory, for its owner alone. Raises UnsafeError, or OSError where it cannot be made."""
    os.makedirs(os.path.dirname(os.path.abspath(directory)), mode=0o700, exist_ok=True)  # noqa: PTH100, PTH103, PTH120
    try:
        os.mkdir(directory, 0o700)  # noqa: PTH102
    except FileExistsError:
        found = os.stat(directory)  # noqa: PTH116
        if not stat.S_ISDIR(found.st_mode):
            raise UnsafeError(f"{directory} is not a directory; name another with --state-dir") from None
        if found.st_uid != os.geteuid():
            raise UnsafeError(f"{directory} belongs to another user; name another with --state-dir") from None
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.chmod(directory, 0o700)  # noqa: PTH101


def _base() -> str:
    """The directory for what lives as long as the user's session, or the machine's uptime."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(given) and _is_ours(given):  # noqa: PTH117
        return given
    if os.geteuid() == 0:
        return "/run"
    return os.path.join(tempfile.gettempdir(), f"run-{os.geteuid()}")  # noqa: PTH118


def _is_ours(path: str) -> bool:
    try:
        return os.stat(path).st_uid == os.geteuid()  # noqa: PTH116
    except OSError:
        return False
