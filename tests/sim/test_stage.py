"""The tools for tests: a stage on which all is in the hand of the test, and the judges of the simulated world."""

import doctest
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from reconciler import testing
from reconciler.core import actual, actual_set, backoff, narrate, reconcile
from reconciler.core.observation import Exited, Lost, Ready, Spawned, SpawnFailed
from reconciler.core.spec import SetSpec, WorkerSpec
from reconciler.testing import (
    BrokenError,
    FakeDriver,
    ManualClock,
    MemorySource,
    Stage,
    World,
    recorded,
    replay,
)
from reconciler.testing.__main__ import main

SPEC = WorkerSpec("web-0", "d", None)
WEB = SetSpec(name="web", command=("serve",), replicas=2)


def test_the_example_in_the_docs_of_the_package():
    """The example says what happens."""
    assert doctest.testmod(testing, optionflags=doctest.ELLIPSIS) == (0, 8)


def test_a_driver_that_does_as_it_is_told():
    """By itself a fake process starts at once, dies of any signal, and each thing is told once, in order."""
    driver = FakeDriver()
    driver.start("a", "web", SPEC)
    driver.start("b", "web", SPEC)
    assert (driver.poll(), driver.live()) == ([Spawned("a", 1000), Spawned("b", 1001)], {"a", "b"})
    driver.stop("a", "TERM")
    driver.kill("b")
    assert driver.poll() == [Exited("a", None, "TERM"), Exited("b", None, "KILL")]
    assert (driver.poll(), driver.live(), driver.of("web-0")) == ([], frozenset(), [])


def test_a_driver_that_is_asked_for_what_it_does_not_know():
    """The answer to an unknown uid is that it is lost."""
    driver = FakeDriver()
    driver.stop("x", "TERM")
    driver.kill("y")
    assert driver.poll() == [Lost("x"), Lost("y")]


def test_a_start_that_takes_its_time():
    """A start that is under way counts as alive, and a signal applies once it runs."""
    driver = FakeDriver()
    driver.on_start = lambda process: None
    driver.start("a", "web", SPEC)
    driver.start("b", "web", SPEC)
    driver.stop("a", "TERM")
    assert (driver.poll(), driver.live()) == ([], {"a", "b"})
    driver.spawn("a")
    driver.fail("b", "cwd", 2, "no such directory")
    assert driver.poll() == [
        Spawned("a", 1000),
        Exited("a", None, "TERM"),
        SpawnFailed("b", "cwd", 2, "no such directory"),
    ]
    assert driver.live() == frozenset()


def test_what_comes_late_twice_or_never():
    """The wire decides what arrives; the truth is not touched by it."""
    driver = FakeDriver()
    driver.wire = lambda seen: {Spawned: (), Ready: (seen, seen)}.get(type(seen), (seen,))
    driver.start("a", "web", SPEC)
    driver.tell(Ready("a"))
    assert (driver.poll(), driver.live()) == ([Ready("a"), Ready("a")], {"a"})
    driver.deliver(Spawned("a", 1000))
    assert driver.poll() == [Spawned("a", 1000)]


def test_a_clock_that_is_moved():
    """What was arranged happens on the way, in order, at its time, also what is arranged meanwhile."""
    clock, seen = ManualClock(10.0), []
    clock.later(2.0, lambda: seen.append(("b", clock.now)))
    clock.later(1.0, lambda: (seen.append(("a", clock.now)), clock.later(3.0, lambda: seen.append(("c", clock.now)))))
    assert clock.next_at == 11.0
    clock.move_to(13.0)
    assert (seen, clock.now, clock.next_at) == ([("a", 11.0), ("b", 12.0)], 13.0, 14.0)
    clock.move_to(20.0)
    assert (seen[2:], clock.next_at) == ([("c", 14.0)], float("inf"))


def test_a_source_in_memory():
    """The first reading gives all sets, later ones what changed, with its events."""
    source = MemorySource(WEB)
    first = source.read(0.0)
    assert (list(first.sets), [one.event for one in first.events]) == (["web"], ["spec.added"])
    source.want(WEB)
    assert source.read(1.0).sets is None
    source.want()
    last = source.read(2.0)
    assert (last.sets, [one.event for one in last.events]) == ({}, ["spec.removed"])


def test_an_empty_source_wants_nothing_rather_than_saying_nothing():
    """The first reading of an empty source is an answer."""
    assert MemorySource().read(0.0).sets == {}


def test_the_events_of_a_run_rebuild_its_status():
    """What the events tell is what the status shows, at every moment of a busy run."""
    stage = Stage(MemorySource(WEB))
    moments = [
        lambda: stage.turn(read=True),
        lambda: stage.driver.exit("1", 1),
        lambda: stage.driver.exit("3", 1),
        lambda: stage.source.want(SetSpec(name="web", command=("other",), replicas=1, min_ready=2.0)),
        lambda: stage.turn(read=True),
        lambda: stage.advance(5.0),
        stage.source.want,
        lambda: stage.turn(read=True),
    ]
    for moment in moments:
        moment()
        stage.turn()
        assert replay(stage.events) == recorded(stage.status().workers)
    assert replay(stage.events) == {}
    assert len(stage.events) > 15


def test_a_seed_is_a_history(tmp_path):
    """The same seed gives the same history in every process, whatever order its sets are in."""
    told = {
        subprocess.run(
            [sys.executable, "-m", "reconciler.testing", "--seed", "11"],
            env={**os.environ, "PYTHONHASHSEED": number},
            capture_output=True,
            check=True,
        ).stdout
        for number in ("1", "2")
    }
    assert len(told) == 1
    assert len(told.pop().splitlines()) > 100


def spend_all(self):
    """Replace every healthy outdated worker at once, in the place of `rolling`."""
    for key in self.known.queue:
        for worker in self.known.by_key.get(key, ()):
            if worker.ready and self.known.outdated(key):
                yield self.stop(worker, "Outdated")


def start_twins(self, key, workers):
    """Start another one wherever none of the wanted spec runs, in the place of `wanted_key`."""
    if not any(worker.phase in ("Starting", "Running") for worker in workers):
        yield self.start(self.wanted.workers[key], "Created")


def tell_twice(before, after, seen, now):
    """Tell of a change twice, in the place of `between`."""
    return [*TELL(before, after, seen, now), *TELL(before, after, seen, now)]


def run_seeds(count):
    """Histories of the simulated world, until one breaks an invariant."""
    for seed in range(count):
        World(seed).run()


TELL = narrate.between
SABOTAGE = [
    (backoff, "delay", lambda policy, failures, seed: 0.0),
    (backoff, "start_error_delay", lambda policy, failures, seed: 0.5),
    (backoff, "exhausted", lambda history, limit, now: False),
    (narrate, "between", tell_twice),
    (narrate, "forgotten", lambda worker, reason: None),
    (reconcile._SetAtWork, "overdue", lambda self, workers: []),
    (reconcile._SetAtWork, "rolling", spend_all),
    (reconcile._SetAtWork, "wanted_key", start_twins),
    (reconcile._SetAtWork, "unwanted_key", lambda self, workers: []),
    (reconcile._SetAtWork, "is_worth_a_retry", lambda self, worker: True),
    (actual.Actual, "relist", lambda self, live, now: []),
    (actual.Actual, "elapse", lambda self, now: []),
    (actual.Actual, "wake_at", lambda self: None),
    (actual.Actual, "hasten", lambda self, now: []),
    (actual_set.ActualSet, "count", lambda self, key: None),
]


@pytest.mark.sim
@pytest.mark.parametrize(("owner", "name", "instead"), SABOTAGE, ids=lambda value: getattr(value, "__name__", value))
def test_the_judges_see_what_is_wrong(monkeypatch, owner, name, instead):
    """An engine in which one thing is wrong breaks an invariant within few seeds."""
    monkeypatch.setattr(owner, name, instead)
    with pytest.raises(BrokenError):
        run_seeds(100)


def test_a_failing_seed_is_printed_with_its_command(monkeypatch):
    """Of many seeds those that fail are named, each with the one command that shows it again; the exit code is 1."""
    monkeypatch.setattr(actual.Actual, "elapse", lambda self, now: [])
    result = CliRunner().invoke(main, ["--seeds", "3", "--from", "7"])
    assert result.exit_code == 1
    assert "python -m reconciler.testing --seed 9\n" in result.output
    assert result.output.endswith("3 of 3 seeds failed\n")


def test_seeds_that_hold():
    """When none fails the exit code is 0."""
    result = CliRunner().invoke(main, ["--seeds", "2"])
    assert (result.exit_code, result.output) == (0, "0 of 2 seeds failed\n")


@pytest.mark.parametrize("arguments", [[], ["--seed", "1", "--seeds", "2"]])
def test_one_seed_or_many(arguments):
    """Neither and both are wrong usage."""
    assert CliRunner().invoke(main, arguments).exit_code == 2
