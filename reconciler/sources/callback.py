"""The smallest source: an `update` callable that returns the workers which should exist.

Rule: the callable is the user's, so nothing it does can harm what runs. If it raises, returns what cannot be used, or
gives two workers of one key, that is one event, and what was desired stays desired.
"""

from collections.abc import Callable, Iterable, Mapping
from signal import Signals
from typing import Any

from reconciler.core import event
from reconciler.core.diff import diff, fields, ordered
from reconciler.core.event import Event
from reconciler.core.needs import unmet_names
from reconciler.core.spec import Policy, SetSpec, WorkerSet, WorkerSpec, expand
from reconciler.sources import Reading

SET_NAME = "workers"
"""The name of the one set that the workers of an `update` callable form."""

_REMEMBERED = 4

Update = Callable[[], Iterable[Any] | Mapping[Any, Any] | None]


def key_of(worker: Any) -> Any:
    """A worker's key where the user names no other: its attribute `key`, else the worker itself."""
    return getattr(worker, "key", worker)


def _check(name: str) -> None:
    if f"SIG{name}" not in Signals.__members__:
        raise ValueError(f"there is no signal {name!r} to stop workers with; write it like 'TERM'")


def _check_spec(spec: SetSpec) -> None:
    """What the loader would refuse in a file. Raises ValueError."""
    _check(spec.stop.signal)
    if spec.watch.paths:
        raise ValueError(f"{spec.name} has watch.paths, which are looked at for spec files only; leave them out")
    if spec.schedule is not None:
        from reconciler import schedules  # noqa: PLC0415  few sets have one

        if problem := schedules.problem(spec.schedule, spec.time_zone):
            raise ValueError(f"{spec.name}: {problem}")


class CallbackSource:
    """Calls `update` at each reading. It returns workers, or a mapping of keys to workers, or None for "no change".

    Workers may be of any type; those of one key are compared by equality. Where they are all `SetSpec`s, each is a
    worker set of its own, as if it were a spec file. `interval` (seconds) asks for a reading that often.

    Raises ValueError if the policy's stop signal does not exist, or if the interval is no positive number.
    """

    def __init__(
        self,
        update: Update,
        key: Callable[[Any], Any] | None = None,
        policy: Policy | None = None,
        interval: float | None = None,
    ) -> None:
        if interval is not None and not interval > 0:
            raise ValueError(f"the interval must be a positive number of seconds, not {interval!r}")
        self._update = update
        _check((policy or Policy()).stop.signal)
        self._key = key or key_of
        self._policy = policy or Policy()
        self._interval = interval
        self._sets: dict[str, WorkerSet] | None = None
        self._values: dict[Any, Any] = {}
        self._versions: dict[Any, list[WorkerSpec]] = {}
        self._version = 0
        self._failed = False

    def read(self, now: float, *, urgent: bool = False) -> Reading:  # noqa: ARG002  a callable is always urgent
        """Call `update` and compare."""
        wake_at = None if self._interval is None else now + self._interval
        try:
            result = self._update()
            if result is None:
                return Reading(None, self._released(), wake_at, answered=False)
            values = self._keyed(result)
            sets, events = self._compared(values)
        except (Exception, SystemExit) as error:  # noqa: BLE001  the user's code may raise whatever it likes
            self._failed = True
            from traceback import format_exception_only  # noqa: PLC0415  only for faults; it shows what str() cannot

            message = format_exception_only(error)[-1].rstrip()
            told = Event(event.SOURCE_FAILED, reason="UpdateFailed", extra={"message": message})
            return Reading(None, (told,), wake_at, answered=False)
        if not events and self._sets is not None:
            return Reading(None, self._released(), wake_at)
        self._sets, self._values = sets, values
        self._versions = {key: self._versions[key] for key in values if key in self._versions}
        return Reading(sets, (*self._released(), *events), wake_at)

    def fileno(self) -> int | None:
        """There is no bell."""
        return None

    def close(self) -> None:
        """Nothing is held."""

    def _keyed(self, result: Iterable[Any] | Mapping[Any, Any]) -> dict[Any, Any]:
        """The workers by key, in key order. Raises TypeError or ValueError for what cannot be used."""
        if isinstance(result, str | bytes) or not isinstance(result, Iterable):
            raise TypeError(f"update must return workers or None, not {type(result).__name__}")
        if isinstance(result, Mapping):
            return ordered(result)
        values: dict[Any, Any] = {}
        for worker in result:
            key = worker.name if isinstance(worker, SetSpec) else self._key(worker)
            if key in values:
                raise ValueError(f"two workers have the key {key!r}")
            values[key] = worker
        return ordered(values)

    def _compared(self, values: dict[Any, Any]) -> tuple[dict[str, WorkerSet], list[Event]]:
        """The sets that these workers form, and what differs from the last reading."""
        changes = diff(self._values, values)
        specs = [worker for worker in values.values() if isinstance(worker, SetSpec)]
        for spec in specs:
            _check_spec(spec)
        for problem in unmet_names({spec.name: spec.depends_on for spec in specs}).values():
            raise ValueError(problem)
        if specs and len(specs) != len(values):
            raise TypeError("update must return either SetSpecs only or none")
        if specs:
            before = self._sets or {}
            same = {name for name, known in before.items() if known.template is values.get(name)}
            sets = {spec.name: before[spec.name] if spec.name in same else expand(spec) for spec in specs}
            if len(sets) < len(specs):
                raise ValueError("two worker sets have the same name")
        else:
            sets = {SET_NAME: WorkerSet(SET_NAME, {key: self._spec(key, v) for key, v in values.items()}, self._policy)}
        return sets, [self._event(change.kind, change.key, values) for change in changes]

    def _spec(self, key: Any, value: Any) -> WorkerSpec:
        """The spec of a worker.

        Its digest is the number of its version, so that going back to an earlier value finds the workers that still
        run from it.
        """
        versions = self._versions.setdefault(key, [])
        for spec in versions:
            if spec.payload is value or spec.payload == value:
                return spec
        self._version += 1
        versions.append(WorkerSpec(key, self._version, value))
        del versions[:-_REMEMBERED]
        return versions[-1]

    def _event(self, kind: str, key: Any, values: dict[Any, Any]) -> Event:
        name = {"added": event.SPEC_ADDED, "changed": event.SPEC_CHANGED, "removed": event.SPEC_REMOVED}[kind]
        before, after = self._values.get(key), values.get(key)
        extra: dict[str, Any] = {}
        if kind == "changed" and type(before) is type(after) and hasattr(type(after), "__attrs_attrs__"):
            extra["fields"] = tuple(fields(before, after))
        shown = before if after is None else after
        if isinstance(shown, SetSpec):
            return Event(name, name=shown.name, extra=extra)
        return Event(name, key=str(key), name=SET_NAME, extra=extra)

    def _released(self) -> tuple[Event, ...]:
        if not self._failed:
            return ()
        self._failed = False
        return (Event(event.SOURCE_RELEASED, reason="UpdateSucceeded"),)
