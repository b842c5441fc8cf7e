"""The `update` callable as a source: what it may return, what it may not, and what each answer changes."""

from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from reconciler.core.event import CATALOGUE, Event
from reconciler.core.spec import Dependency, Policy, Restart, SetSpec, Stop, Watch, WorkerSet
from reconciler.sources.callback import SET_NAME, CallbackSource


@attrs.frozen
class Worker:
    """A worker as users write them."""

    key: Any
    port: int = 80
    restart: Restart = Restart()


class Desk:
    """A source whose callable gives what `answer` holds, or raises it; a reading and its outcome."""

    def __init__(self, **options: Any) -> None:
        self.answer: Any = []
        self.sets: dict[str, WorkerSet] | None = None
        self.source = CallbackSource(self.update, **options)

    def update(self) -> Any:
        """The callable that the source calls."""
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def read(self, answer: Any) -> list[Event]:
        """What one reading tells; `sets` is what it gave, None for no change."""
        self.answer = answer
        reading = self.source.read(100.0)
        self.sets = None if reading.sets is None else dict(reading.sets)
        for told in reading.events:
            assert set(told.extra) <= set(CATALOGUE[told.event].fields)
        return list(reading.events)

    def workers(self) -> dict[Any, Any]:
        """The wanted workers by key, as the user gave them."""
        assert self.sets is not None
        return {key: spec.payload for key, spec in self.sets[SET_NAME].workers.items()}


def told(events: list[Event]) -> list[tuple[str, str | None]]:
    return [(event.event, event.key) for event in events]


def test_workers_of_the_users_own_class() -> None:
    """Workers are wanted in key order, and each is the user's own value."""
    desk = Desk()

    assert told(desk.read([Worker("b"), Worker("a")])) == [("spec.added", "a"), ("spec.added", "b")]
    assert list(desk.workers().items()) == [("a", Worker("a")), ("b", Worker("b"))]


def test_the_same_again() -> None:
    """Equal workers, in any order and from any kind of iterable, are no change."""
    desk = Desk()
    desk.read([Worker("a"), Worker("b")])

    for again in ((Worker("b"), Worker("a")), {Worker("a"), Worker("b")}, (Worker(key) for key in "ab")):
        assert desk.read(again) == []
        assert desk.sets is None


def test_none_is_no_change() -> None:
    """None means that nothing changed, also as the first answer."""
    desk = Desk()

    assert desk.read(None) == []
    assert desk.sets is None
    desk.read([Worker("a")])
    assert desk.read(None) == []
    assert desk.sets is None


def test_nothing_is_wanted() -> None:
    """An empty answer is an answer, also as the first one."""
    desk = Desk()

    assert desk.read([]) == []
    assert desk.workers() == {}
    desk.read([Worker("a")])
    assert told(desk.read([])) == [("spec.removed", "a")]
    assert desk.workers() == {}


def test_what_changed_is_told_by_field() -> None:
    """A change names the attributes that differ, down to the innermost."""
    desk = Desk()
    desk.read([Worker("a"), Worker("b"), Worker("c")])
    events = desk.read([Worker("a", 81, Restart(policy="never")), Worker("b")])

    assert told(events) == [("spec.changed", "a"), ("spec.removed", "c")]
    assert events[0].extra == {"fields": ("port", "restart.policy")}
    assert {event.name for event in events} == {SET_NAME}


def test_changed_worker_has_another_digest() -> None:
    """A worker that changed has another digest than before, and one that did not has the same."""
    desk = Desk()
    desk.read([Worker("a"), Worker("b")])
    assert desk.sets is not None
    before = desk.sets[SET_NAME].workers
    desk.read([Worker("a", 81), Worker("b")])
    after = desk.sets[SET_NAME].workers

    assert before["a"].digest != after["a"].digest
    assert before["b"] == after["b"]


def test_going_back() -> None:
    """Going back to an earlier value gives its digest, by which the workers that still run from it are found."""
    desk = Desk()
    digests = []
    for port in (80, 81, 80):
        desk.read([Worker("a", port)])
        assert desk.sets is not None
        digests.append(desk.sets[SET_NAME].workers["a"].digest)

    assert digests[0] == digests[2] != digests[1]


def test_worker_that_comes_back() -> None:
    """A worker that was gone in between is as new, whatever it was before."""
    desk = Desk()
    desk.read([Worker("a"), Worker("b")])
    desk.read([Worker("b")])

    assert told(desk.read([Worker("a"), Worker("b")])) == [("spec.added", "a")]


def test_values_of_any_type() -> None:
    """Without an attribute `key` a value is its own key; a change of type alone is a change."""
    desk = Desk()

    assert told(desk.read([3, 1])) == [("spec.added", "1"), ("spec.added", "3")]
    assert desk.workers() == {1: 1, 3: 3}
    assert told(desk.read([("a", 1), ("a", 2)]))[:2] == [("source.failed", None)]  # they do not sort with numbers


def test_key_by_callable() -> None:
    """`key` says what a worker's key is."""
    desk = Desk(key=lambda worker: worker["name"])
    desk.read([{"name": "a", "port": 80}])

    assert told(desk.read([{"name": "a", "port": 81}])) == [("spec.changed", "a")]
    assert desk.workers() == {"a": {"name": "a", "port": 81}}


def test_mapping() -> None:
    """A mapping gives the keys itself."""
    desk = Desk()
    desk.read({"b": 1, "a": 1})

    assert told(desk.read({"a": 1, "b": 2})) == [("spec.changed", "b")]
    assert list(desk.workers()) == ["a", "b"]


class Ambiguous:
    """A value that cannot be compared, as an array of numbers."""

    key = "a"

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


class WordlessError(Exception):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def halfway() -> Iterator[Worker]:
    """Workers, and then a fault."""
    yield Worker("a")
    raise OSError(5, "Input/output error")


BAD = {
    "raises": (RuntimeError("no database"), "RuntimeError: no database"),
    "exits": (SystemExit(3), "SystemExit: 3"),
    "raises-wordless": (WordlessError(), "WordlessError"),
    "raises-halfway": (halfway(), "OSError: [Errno 5] Input/output error"),
    "duplicates": ([Worker("b"), Worker("a"), Worker("b")], "ValueError: two workers have the key 'b'"),
    "equal-keys": ([1, True], "ValueError: two workers have the key True"),
    "unorderable": ([Worker("a"), Worker(1)], "TypeError"),
    "unhashable": ([Worker(["a"])], "TypeError"),
    "incomparable": ([Ambiguous()], "ValueError: ambiguous"),
    "text": ("web", "TypeError: update must return workers or None, not str"),
    "number": (3, "TypeError: update must return workers or None, not int"),
    "one-worker": (Worker("a"), "TypeError: update must return workers or None, not Worker"),
    "mixture": ([Worker("a"), SetSpec(name="web", command=("a",))], "TypeError"),
    "two-sets": (
        {"x": SetSpec(name="web", command=("a",)), "y": SetSpec(name="web", command=("b",))},
        "ValueError: two worker sets have the same name",
    ),
    "no-set": (
        [SetSpec(name="web", command=("a",), depends_on=(Dependency(set="db"),))],
        "ValueError: depends_on names db, and there is no such set",
    ),
    "no-schedule": (
        [SetSpec(name="web", command=("a",), kind="job", schedule="x")],
        "ValueError: web: 'x' is no schedule",
    ),
    "no-watch": (
        [SetSpec(name="web", command=("a",), watch=Watch(paths=("*.py",)))],
        "ValueError: web has watch.paths, which are looked at for spec files only",
    ),
    "no-signal": ([SetSpec(name="web", command=("a",), stop=Stop(signal="TREM"))], "ValueError: there is no signal"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_answers(name: str) -> None:
    """What cannot be used is one event, and what was desired stays; once it is good again that is told as well."""
    answer, message = BAD[name]
    desk = Desk()
    desk.read([Worker("a"), Worker("c")])

    (failed,) = desk.read(answer)
    assert (failed.event, failed.reason) == ("source.failed", "UpdateFailed")
    assert message in failed.extra["message"]
    assert desk.sets is None
    assert [event.event for event in desk.read([Worker("a"), Worker("c")])] == ["source.released"]
    assert desk.sets is None
    assert told(desk.read([Worker("a"), Worker("d")])) == [("spec.removed", "c"), ("spec.added", "d")]


def test_bad_from_the_start() -> None:
    """Before the first good answer nothing is known to be wanted, or not wanted."""
    desk = Desk()

    assert [event.event for event in desk.read(RuntimeError())] == ["source.failed"]
    assert desk.sets is None
    assert [event.event for event in desk.read(None)] == ["source.released"]
    assert desk.sets is None
    desk.read([])
    assert desk.workers() == {}


def test_interval() -> None:
    """`interval` asks for the next reading, also after one that failed."""
    desk = Desk(interval=5.0)
    for answer in ([], None, RuntimeError(), [Worker("a")]):
        desk.answer = answer
        assert desk.source.read(100.0).wake_at == 105.0

    assert CallbackSource(list).read(100.0).wake_at is None


@pytest.mark.parametrize("interval", [0, -1.0, float("nan")])
def test_interval_that_would_never_rest(interval: float) -> None:
    """An interval that is no positive time is refused at once."""
    with pytest.raises(ValueError, match="interval"):
        CallbackSource(list, interval=interval)


def test_policy() -> None:
    """The policy is that of all workers; a stop signal that does not exist is refused at once."""
    policy = Policy(stop=Stop(signal="INT"))
    desk = Desk(policy=policy)
    desk.read([Worker("a")])

    assert desk.sets is not None
    assert desk.sets[SET_NAME].policy == policy
    with pytest.raises(ValueError, match="'SIGINT'"):
        CallbackSource(list, policy=Policy(stop=Stop(signal="SIGINT")))


def test_worker_sets() -> None:
    """`SetSpec`s are worker sets of their own, told of by their names."""
    web, api = (SetSpec(name=name, command=("sleep",), replicas=2) for name in ("web", "api"))
    desk = Desk()

    added = desk.read([web, api])
    assert [(event.event, event.name, event.key) for event in added] == [
        ("spec.added", "api", None),
        ("spec.added", "web", None),
    ]
    assert desk.sets is not None
    assert {name: list(one.workers) for name, one in desk.sets.items()} == {
        "api": ["api-0", "api-1"],
        "web": ["web-0", "web-1"],
    }
    before = desk.sets["api"]
    (changed,) = desk.read([attrs.evolve(web, replicas=3), api])
    assert (changed.event, changed.name, changed.extra) == ("spec.changed", "web", {"fields": ("replicas",)})
    assert desk.sets["api"] is before
    (removed,) = desk.read([api])
    assert (removed.event, removed.name, removed.key) == ("spec.removed", "web", None)
    assert list(desk.sets) == ["api"]


def test_there_is_no_bell() -> None:
    """Nobody rings for a callable: it has no descriptor, and nothing to free."""
    source = CallbackSource(list)

    assert source.fileno() is None
    source.close()
