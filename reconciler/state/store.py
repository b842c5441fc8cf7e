"""What a controller remembers over its own restarts: what operators asked for, and the revisions of each set.

Rule: a file is replaced by a rename, and a journal may end in the middle of a line; so a crash at any moment leaves
what was there before, or what was to be there. Files carry a version. One that cannot be read is put aside under
another name, and told; nothing that runs is lost for it.
"""

import json
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from reconciler.core.override import Override, Paused, RolledBack, Scale, StayDown
from reconciler.core.spec import SetSpec
from reconciler.sources.dumping import dump, restore
from reconciler.sources.refusal import InputError

VERSION = 1
MOST_REVISIONS = 10
"""How many are kept of each set."""

_KINDS: Mapping[str, type] = {kind.__name__: kind for kind in (RolledBack, Scale, Paused, StayDown)}


@attrs.frozen
class Revision:
    """A version of a set's spec that was in force: the plain data of its file, and when it was read (ISO, UTC)."""

    number: int
    recorded: str
    spec: Mapping[str, Any]


class Store:
    """The files of one state directory. Only what is asked for is read, and nothing is kept open."""

    def __init__(self, directory: str) -> None:
        self._overrides = Path(directory, "overrides.json")
        self._journal = Path(directory, "revisions.jsonl")
        self._revisions: dict[str, deque[Revision]] | None = None
        self._lines = 0

    # ------------------------------------------------------------------------------------------------- overrides

    def load(self) -> tuple[tuple[Override, ...], str | None]:
        """The overrides that were saved, and what was wrong with their file, if anything. Never raises."""
        try:
            data = json.loads(self._overrides.read_bytes())
            if data["version"] != VERSION:
                raise ValueError(f"it has version {data['version']!r}, and this program writes {VERSION}")  # noqa: TRY301
            return tuple(map(_override, data["overrides"])), None
        except FileNotFoundError:
            return (), None
        except (OSError, ValueError, KeyError, TypeError, InputError) as error:
            return (), f"{self._overrides} cannot be used, and is put aside: {error}{_aside(self._overrides)}"

    def save(self, overrides: Iterable[Override]) -> None:
        """Write the overrides that outlive a controller: not restarts, which its end makes good, and none for keys that
        JSON would not give back. Raises OSError; then the old ones are still there.
        """
        kept = [_data(override) for override in overrides if _outlives(override)]
        if kept or self._overrides.exists():
            _replace(self._overrides, json.dumps({"version": VERSION, "overrides": kept}).encode())

    # ------------------------------------------------------------------------------------------------- revisions

    def record(self, specs: Iterable[SetSpec]) -> None:
        """Remember these as the newest revisions of their sets, those that differ from the one before. May raise
        OSError.
        """
        known = self._known()
        lines = []
        for spec in specs:
            data = dump(spec)
            revisions = known.setdefault(spec.name, deque(maxlen=MOST_REVISIONS))
            if not revisions or revisions[-1].spec != data:
                number = revisions[-1].number + 1 if revisions else 1
                revisions.append(Revision(number, _now(), data))
                lines.append(_line(spec.name, revisions[-1]))
        if not lines:
            return
        self._lines += len(lines)
        if self._lines > 100 + 2 * sum(map(len, known.values())):
            every = [_line(name, one) for name, revisions in known.items() for one in revisions]
            _replace(self._journal, b"".join(every))
            self._lines = len(every)
            return
        fd = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, b"".join(lines))
        finally:
            os.close(fd)

    def revisions(self, name: str) -> Sequence[Revision]:
        """The revisions of a set, oldest first."""
        return tuple(self._known().get(name, ()))

    def revision(self, name: str, number: int | None) -> tuple[int, SetSpec] | None:
        """One revision of a set as a spec, by default the one before the newest; None if there is no such one."""
        known = self.revisions(name)
        chosen = known[:-1][-1:] if number is None else [one for one in known if one.number == number]
        return (chosen[0].number, restore(name, chosen[0].spec)) if chosen else None

    def _known(self) -> dict[str, deque[Revision]]:
        """The journal, read once; a line that is torn or foreign is passed over, and a torn end is cut off."""
        if self._revisions is not None:
            return self._revisions
        self._revisions = {}
        try:
            data = self._journal.read_bytes()
        except OSError:
            return self._revisions
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with suppress(OSError):
                os.truncate(self._journal, whole)
        for line in data[:whole].splitlines():
            self._lines += 1
            with suppress(ValueError, KeyError, TypeError):
                one = json.loads(line)
                revision = Revision(int(one["revision"]), str(one["recorded"]), dict(one["spec"]))
                self._revisions.setdefault(one["set"], deque(maxlen=MOST_REVISIONS)).append(revision)
        return self._revisions


def _outlives(override: Override) -> bool:
    return type(override).__name__ in _KINDS and isinstance(getattr(override, "key", None), str | int | None)


def _line(name: str, revision: Revision) -> bytes:
    data = {"set": name, "revision": revision.number, "recorded": revision.recorded, "spec": revision.spec}
    return json.dumps(data).encode() + b"\n"


def _data(override: Override) -> dict[str, Any]:
    """An override as plain data: its kind, and its fields; a spec as its file would say it."""
    data: dict[str, Any] = {"kind": type(override).__name__}
    for field in attrs.fields(type(override)):
        value = getattr(override, field.name)
        data[field.name] = dump(value) if isinstance(value, SetSpec) else value
    return data


def _override(data: dict[str, Any]) -> Override:
    """The override that `_data` made this of. Raises KeyError, TypeError, ValueError or InputError for others."""
    kind = _KINDS[data.pop("kind")]
    for name in ("template", "over"):
        if isinstance(data.get(name), dict):
            data[name] = restore(data["set_name"], data[name])
    override: Override = kind(**data)
    return override


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "wb") as file:  # noqa: PTH123
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.replace(draft, path)  # noqa: PTH105
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def _aside(path: Path) -> str:
    """Put a file out of the way; what went wrong with that, if anything."""
    try:
        os.replace(path, path.with_name(f"{path.name}.bad"))  # noqa: PTH105
    except OSError as error:
        return f" (which failed: {error})"
    return ""


def _now() -> str:
    from datetime import UTC, datetime  # noqa: PLC0415  only where there is a new revision

    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
