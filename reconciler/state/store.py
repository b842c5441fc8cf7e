"""What a controller remembers over its own restarts: what operators asked for, the revisions of each set, and which
jobs are done.

Rule: a file is replaced by a rename, and a journal may end in the middle of a line; so a crash at any moment leaves
what was there before, or what was to be there. Files carry a version. What cannot be read is kept under another name,
and told; all else holds, and nothing that runs is lost for it.
"""

import errno
import json
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_type_hints

import attrs

from reconciler.core.override import Override, Paused, RestartAsked, RolledBack, Scale, StayDown
from reconciler.core.remembered import Memory
from reconciler.core.spec import SetSpec
from reconciler.sources.dumping import dump, restore
from reconciler.sources.refusal import InputError, shown

VERSION = 1
MOST_REVISIONS = 10
"""How many are kept of each set."""

MOST_SETS = 10_000
"""Of how many sets: some may have gone while there was no controller that could forget them."""

_KINDS: Mapping[str, type] = {kind.__name__: kind for kind in (RolledBack, Scale, RestartAsked, Paused, StayDown)}
_MOST_TOLD = 5
_FARTHEST = 4e10  # seconds since the epoch: the year 3237
_NO_REVISION = frozenset({"replicas", "order", "suspend"})
"""The settings that going back to a revision leaves as they are: a change of them alone makes no new one."""


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
        self._memory = Path(directory, "memory.json")
        self._revisions: dict[str, deque[Revision]] | None = None
        self._lines = 0

    # ------------------------------------------------------------------------------------------------- overrides

    def load(self) -> tuple[tuple[Override, ...], str | None]:
        """The overrides that were saved, and what was wrong with their file, if anything. Never raises.

        Each is judged by itself: those that are good hold, and stay in the file, whatever else stood there.
        """
        try:
            data = self._overrides.read_bytes()
        except FileNotFoundError:
            return (), None
        except OSError as error:
            return (), f"{self._overrides} cannot be read, and is put aside: {error}{_aside(self._overrides)}"
        good, problems = _judged(data)
        if not problems:
            return good, None
        bad = self._overrides.with_name(f"{self._overrides.name}.bad")
        message = f"{self._overrides} cannot be used as it is, and is kept as {bad.name}: {'; '.join(problems)}"
        try:
            _replace(bad, data)
            self.save(good)
        except OSError as error:
            message += f" (which failed: {error})"
        return good, message

    def save(self, overrides: Iterable[Override]) -> None:
        """Write the overrides that outlive a controller: not restarts, which its end makes good, and none for keys that
        JSON would not give back. Raises OSError; then the old ones are still there.
        """
        kept = [as_data(override) for override in overrides if _outlives(override)]
        if kept or self._overrides.exists():
            _replace(self._overrides, json.dumps({"version": VERSION, "overrides": kept}).encode())

    # ------------------------------------------------------------------------------------------------- jobs

    def load_memory(self) -> tuple[Memory, str | None]:
        """What was known of jobs and good versions, and what was wrong with its file, if anything. Never raises."""
        try:
            return _memory_of(self._memory.read_bytes()), None
        except FileNotFoundError:
            return Memory(), None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            message = f"{self._memory} cannot be used, and is put aside; jobs run anew, and nothing is kept: {error}"
            return Memory(), f"{message}{_aside(self._memory)}"

    def save_memory(self, memory: Memory) -> None:
        """Write what the next controller should know. Raises OSError; then the old one is still there."""
        if memory == Memory() and not self._memory.exists():
            return
        good = {name: dump(spec) for name, spec in memory.good.items()}
        data = {"version": VERSION, "done": memory.done, "schedules": dict(memory.schedules), "good": good}
        _replace(self._memory, json.dumps(data).encode())

    # ------------------------------------------------------------------------------------------------- revisions

    def record(self, specs: Iterable[SetSpec]) -> None:
        """Remember these as the newest revisions of their sets, those that differ from the one before in more than
        size, order and `suspend`. May raise OSError.
        """
        known = self._known()
        lines = []
        for spec in specs:
            data = dump(spec)
            revisions = known.pop(spec.name, deque(maxlen=MOST_REVISIONS))
            known[spec.name] = revisions  # the last one now
            if not revisions or essence(revisions[-1].spec) != essence(data):
                number = revisions[-1].number + 1 if revisions else 1
                revisions.append(Revision(number, _now(), data))
                lines.append(_line(spec.name, revisions[-1]))
        for name in list(known)[: max(0, len(known) - MOST_SETS)]:
            del known[name]
        self._append(lines)

    def forget(self, name: str) -> None:
        """Remember no revision of a set any more: it is gone. Never raises; where the disk refuses, the next controller
        may remember it.
        """
        if self._known().pop(name, None) is None:
            return
        with suppress(OSError):
            self._append([json.dumps({"set": name, "gone": True}).encode() + b"\n"])

    def revisions(self, name: str) -> Sequence[Revision]:
        """The revisions of a set, oldest first."""
        return tuple(self._known().get(name, ()))

    def revision(self, name: str, number: int | None) -> tuple[int, SetSpec] | None:
        """One revision of a set as a spec, by default the one before the newest; None if there is no such one."""
        known = self.revisions(name)
        chosen = known[:-1][-1:] if number is None else [one for one in known if one.number == number]
        with suppress(InputError):  # another version of this program may have written it
            return (chosen[0].number, restore(name, chosen[0].spec)) if chosen else None
        return None

    def _append(self, lines: Sequence[bytes]) -> None:
        """Add lines to the journal, or write it anew if most of it tells of what is kept no more."""
        if not lines:
            return
        known = self._known()
        self._lines += len(lines)
        if self._lines > 100 + 2 * sum(map(len, known.values())):
            every = [_line(name, one) for name, revisions in known.items() for one in revisions]
            _replace(self._journal, b"".join(every))
            self._lines = len(every)
            return
        fd = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            size, data = os.lseek(fd, 0, os.SEEK_END), b"".join(lines)
            if os.write(fd, data) < len(data):  # else the next line would go on in the middle of one
                os.ftruncate(fd, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)

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
            with suppress(ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
                one = json.loads(line)
                if one.get("gone"):
                    self._revisions.pop(one["set"], None)
                    continue
                revision = Revision(int(one["revision"]), str(one["recorded"]), dict(one["spec"]))
                self._revisions.setdefault(one["set"], deque(maxlen=MOST_REVISIONS)).append(revision)
        return self._revisions


def as_data(override: Override) -> dict[str, Any]:
    """An override as plain data: its kind, and its fields; a spec as its file would say it."""
    data: dict[str, Any] = {"kind": type(override).__name__}
    for field in attrs.fields(type(override)):
        value = getattr(override, field.name)
        data[field.name] = dump(value) if isinstance(value, SetSpec) else value
    return data


def as_override(data: Any) -> Override:
    """The override that `as_data` made this of. Raises ValueError for anything else."""
    fields = dict(data) if isinstance(data, dict) else {}
    named = fields.pop("kind", None)
    kind = _KINDS.get(named) if isinstance(named, str) else None
    if kind is None:
        raise ValueError(f"there is no kind of override called {shown(named)}")
    hints = get_type_hints(kind)
    for name, hint in hints.items():
        if name not in fields:
            continue
        if hint is SetSpec:
            fields[name] = _restored(fields.get("set_name"), fields[name])
        elif name == "key":
            hint = str | int | None  # noqa: PLW2901  what JSON gives back as it was
        if not isinstance(fields[name], hint) or (isinstance(fields[name], bool) and hint is not bool):
            raise ValueError(f"{kind.__name__}: {name} cannot be {shown(fields[name])}")
    try:
        override: Override = kind(**fields)
    except TypeError:
        wrong = ", ".join(sorted(map(shown, fields.keys() ^ hints.keys())))
        raise ValueError(f"{kind.__name__}: it needs {', '.join(hints)}; missing or too many: {wrong}") from None
    return override


def _restored(name: Any, data: Any) -> SetSpec:
    if not isinstance(name, str) or not isinstance(data, dict):
        raise ValueError(f"{shown(data)} is no spec of {shown(name)}")  # noqa: TRY004  of data, not of arguments
    try:
        return restore(name, data)
    except InputError as error:
        raise ValueError("; ".join(": ".join(filter(None, problem)) for problem in error.problems[:3])) from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _judged(data: bytes) -> tuple[tuple[Override, ...], list[str]]:
    """The good overrides in the content of a file, and what is wrong with all else."""
    try:
        content = json.loads(data)
        if content["version"] != VERSION:
            return (), [f"it has version {shown(content['version'])}, and this program writes {VERSION}"]
        entries = list(content["overrides"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return (), [f"it is no file of overrides: {error}"]
    good, problems = [], []
    for number, entry in enumerate(entries):
        try:
            good.append(as_override(entry))
        except ValueError as error:
            problems.append(f"overrides[{number}]: {error}")
    more = [f"and {len(problems) - _MOST_TOLD} more"] if len(problems) > _MOST_TOLD else []
    return tuple(good), problems[:_MOST_TOLD] + more


def _memory_of(data: bytes) -> Memory:
    """What a file knows of jobs. Raises an error for one that is none."""
    content = json.loads(data)
    if content["version"] != VERSION:
        raise ValueError(f"it has version {shown(content['version'])}, and this program writes {VERSION}")
    done = {str(name): {str(key): str(one) for key, one in keys.items()} for name, keys in content["done"].items()}
    schedules = {str(name): float(when) for name, when in content["schedules"].items()}
    wrong = next((when for when in schedules.values() if not 0 <= when <= _FARTHEST), None)
    if wrong is not None:
        raise ValueError(f"{wrong} is no time")
    good = {}
    for name, spec in content.get("good", {}).items():
        with suppress(InputError):  # another version of this program may have written it
            good[name] = restore(name, spec)
    return Memory(done, schedules, good)


def _outlives(override: Override) -> bool:
    return not isinstance(override, RestartAsked) and isinstance(getattr(override, "key", None), str | int | None)


def essence(data: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a spec, as plain data, that make a revision of it."""
    return {name: value for name, value in data.items() if name not in _NO_REVISION}


def _line(name: str, revision: Revision) -> bytes:
    data = {"set": name, "revision": revision.number, "recorded": revision.recorded, "spec": revision.spec}
    return json.dumps(data).encode() + b"\n"


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
