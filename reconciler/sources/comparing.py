"""How two sets of specs differ, and what that means for the workers.

Rule: pure. What is compared is what is wanted in the end, whatever an operator laid over it. Settings are those of the
classes in `core.spec`, so that a new one needs nothing here; a field needs a new process just where `Command` has it,
and a worker just where its digest is another. Values of `env` and of headers never leave this file: a change of one
shows that there is another, and not which.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import attrs

from reconciler.core.actual_set import held_keys
from reconciler.core.spec import Budget, Command, SetSpec, WorkerSet, WorkerSpec
from reconciler.sources.dumping import dump, plain
from reconciler.sources.refusal import below

HIDDEN = "(hidden)"
"""What is shown in the place of a value of `env` or of a header."""

_OF_PROCESS = frozenset(field.name for field in attrs.fields(Command))
_TOLD_TO_PROCESS = frozenset({("ready", "notify"), ("ready", "fd"), ("watch", "paths")})
"""The settings that a `Command` has under other names; what files are watched shows in its `content`."""

_TOKEN_LENGTH = 12


@attrs.frozen
class FieldChange:
    """One setting, by its path as in a file's problems, with its plain values; None where it is absent.

    `restarts` says that workers which run need a new process for it.
    """

    path: str
    before: Any
    after: Any
    restarts: bool


@attrs.frozen
class SetChange:
    """What becomes of one worker set: it is new, it goes (then there is no `after`), or some of its fields change.

    The fields of a set that is new or goes are those that are not the defaults.
    """

    name: str
    before: WorkerSet | None
    after: WorkerSet | None
    fields: tuple[FieldChange, ...]

    @property
    def kind(self) -> str:
        """One of "added", "removed" and "changed"."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    @property
    def starts(self) -> int:
        """How many workers there will be more."""
        return len(_workers(self.after).keys() - _workers(self.before).keys())

    @property
    def stops(self) -> int:
        """How many workers there will be fewer."""
        return len(_workers(self.before).keys() - _workers(self.after).keys())

    @property
    def replaces(self) -> int:
        """How many workers that stay get a new process at most; none while the rollout is paused or waits for them to
        end, and none of those that the partition keeps as they are.
        """
        if self.before is None or self.after is None or self.after.paused:
            return 0
        if self.after.policy.rollout.strategy == "on_delete":
            return 0
        old, kept, was_kept = self.before.workers, held_keys(self.after), held_keys(self.before)
        rewatched = _watched(self.before) != _watched(self.after)  # no content is known here
        return sum(
            key in old and key not in kept and (rewatched or key in was_kept or old[key].digest != spec.digest)
            for key, spec in self.after.workers.items()
        )


def compare(before: Mapping[str, WorkerSet], after: Mapping[str, WorkerSet]) -> tuple[SetChange, ...]:
    """The sets of spec files that are not alike in both, in the order in which their workers start."""
    found = []
    for name in before.keys() | after.keys():
        one, other = before.get(name), after.get(name)
        if _template(one) != _template(other):
            fields = tuple(_fields(_template(one), _template(other)))
            found.append(SetChange(name, one, other, fields))
    return tuple(sorted(found, key=_in_order))


def token(
    live: Mapping[str, SetSpec], planned: Mapping[str, SetSpec], overrides: Sequence[Mapping[str, Any]] = ()
) -> str:
    """A short text that stands for this very plan: another one as soon as either side is another, or what is laid over
    both (as plain data).
    """
    sides = [{name: dump(spec) for name, spec in side.items()} for side in (live, planned)]
    return sha256(json.dumps([sides, overrides], sort_keys=True).encode()).hexdigest()[:_TOKEN_LENGTH]


_NOTHING = SetSpec(name="", command=())


def _workers(wanted: WorkerSet | None) -> Mapping[Any, WorkerSpec]:
    return {} if wanted is None else wanted.workers


def _watched(wanted: WorkerSet | None) -> tuple[str, ...]:
    return (_template(wanted) or _NOTHING).watch.paths


def _template(wanted: WorkerSet | None) -> SetSpec | None:
    return None if wanted is None else wanted.template


def _in_order(change: SetChange) -> tuple[int, str]:
    return (_template(change.after) or _template(change.before) or _NOTHING).order, change.name


def _fields(before: SetSpec | None, after: SetSpec | None) -> Iterator[FieldChange]:
    old, new = _settings(before), _settings(after)
    whole = before is not None and after is not None
    if not whole:
        usual = _settings(_NOTHING)
        old, new = ({path: value for path, value in each.items() if usual.get(path) != value} for each in (old, new))
    for path in {**old, **new}:
        one, other = old.get(path), new.get(path)
        if one != other:
            hidden = _is_secret(path)
            yield FieldChange(
                path=_joined(path),
                before=HIDDEN if hidden and one is not None else one,
                after=HIDDEN if hidden and other is not None else other,
                restarts=whole and _restarts(path),
            )


def _settings(spec: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The plain values of all settings, defaults as well, by their paths."""
    if isinstance(spec, Mapping):
        inner = dict(spec)
    elif isinstance(spec, Budget) or not attrs.has(type(spec)):
        return {path: plain(spec)} if path else {}
    else:
        inner = {field.name: getattr(spec, field.name) for field in attrs.fields(type(spec)) if "doc" in field.metadata}
    found: dict[tuple[str, ...], Any] = {}
    for name, value in inner.items():
        found |= _settings(value, (*path, name))
    return found


def _restarts(path: tuple[str, ...]) -> bool:
    """Whether a process is started from this setting."""
    return path[0] in _OF_PROCESS or path in _TOLD_TO_PROCESS


def _is_secret(path: tuple[str, ...]) -> bool:
    return path[0] == "env" or "headers" in path


def _joined(path: tuple[str, ...]) -> str:
    text = ""
    for name in reversed(path):
        text = below(name, text)
    return text
