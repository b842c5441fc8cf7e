"""What every driver owes the controller, whatever it drives."""

import pytest
from contract.adapters import ADAPTERS
from processes import descriptors, zombies

from reconciler.core.observation import Drained, Exited, Lost, Probed, Spawned, SpawnFailed
from reconciler.core.serving import Probe
from reconciler.core.spec import Drain

pytestmark = pytest.mark.os


@pytest.fixture(params=ADAPTERS)
def adapter(request):
    adapter = ADAPTERS[request.param]()
    yield adapter
    for uid in tuple(adapter.driver.live()):
        adapter.driver.kill(uid)
    while adapter.driver.live():
        adapter.driver.poll() or adapter.wait()
    adapter.driver.close()


def test_start_is_answered(adapter):
    """A start is answered by Spawned, with the uid and a pid, and by nothing else while the worker lives."""
    adapter.driver.start("u1", "web", adapter.lives())

    (spawned,) = adapter.driver.poll()

    assert spawned == Spawned("u1", spawned.pid)
    assert spawned.pid > 1
    assert list(adapter.driver.poll()) == []


@pytest.mark.parametrize("code", [0, 3, 255])
def test_exit_code_is_reported_once(adapter, code):
    """An exit is reported with its code, after Spawned, and never again."""
    adapter.driver.start("u1", "web", adapter.exits(code))

    seen = _until_ended(adapter, 1)

    assert [Spawned("u1", seen[0].pid), Exited("u1", exit_code=code)] == seen
    assert list(adapter.driver.poll()) == []


@pytest.mark.parametrize("name", ["KILL", "USR1", "RTMIN"])
def test_signal_is_reported_once(adapter, name):
    """A death by signal is reported with the signal's name, and never again."""
    adapter.driver.start("u1", "web", adapter.dies(name))

    seen = _until_ended(adapter, 1)

    assert [Spawned("u1", seen[0].pid), Exited("u1", signal=name)] == seen
    assert list(adapter.driver.poll()) == []


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_stop_reaches_the_worker(adapter, name):
    """A stop sends the signal that it names."""
    adapter.driver.start("u1", "web", adapter.lives())
    adapter.driver.stop("u1", name)

    assert Exited("u1", signal=name) == _until_ended(adapter, 1)[-1]


def test_kill_ends_the_worker(adapter):
    """A kill ends the worker."""
    adapter.driver.start("u1", "web", adapter.lives())
    adapter.driver.kill("u1")

    assert Exited("u1", signal="KILL") == _until_ended(adapter, 1)[-1]


def test_only_the_named_worker_is_meant(adapter):
    """A stop or kill of one worker leaves the others alone."""
    for uid in ("u1", "u2", "u3"):
        adapter.driver.start(uid, "web", adapter.lives())
    adapter.driver.stop("u1", "TERM")
    adapter.driver.kill("u2")

    _until_ended(adapter, 2)

    assert {"u3"} == set(adapter.driver.live())


def test_unknown_uids_are_lost(adapter):
    """A stop or kill of an incarnation that the driver does not know is answered by Lost."""
    adapter.driver.stop("nobody", "TERM")
    adapter.driver.kill("no one")

    assert [Lost("nobody"), Lost("no one")] == list(adapter.driver.poll())


def test_ended_uids_are_lost(adapter):
    """An incarnation whose end was reported is forgotten."""
    adapter.driver.start("u1", "web", adapter.exits(0))
    _until_ended(adapter, 1)

    adapter.driver.kill("u1")

    assert [Lost("u1")] == list(adapter.driver.poll())


def test_failed_start_is_answered_and_leaks_nothing(adapter):
    """A start that cannot work is answered by SpawnFailed, and leaves no descriptor, process or uid."""
    before = descriptors()
    for number in range(20):
        adapter.driver.start(f"u{number}", "web", adapter.cannot_start())

    seen = adapter.driver.poll()

    assert [f"u{number}" for number in range(20)] == [failed.uid for failed in seen]
    assert {SpawnFailed} == {type(failed) for failed in seen}
    assert all(failed.stage and failed.message and failed.errno for failed in seen)
    assert list(adapter.driver.live()) == []
    assert list(adapter.driver.poll()) == []
    assert before == descriptors()
    assert zombies() == []


def test_failed_start_does_not_stop_the_next(adapter):
    """The start after one that failed works."""
    adapter.driver.start("bad", "web", adapter.cannot_start())
    adapter.driver.start("good", "web", adapter.lives())

    failed, spawned = adapter.driver.poll()

    assert (failed.uid, spawned.uid) == ("bad", "good")
    assert {"good"} == set(adapter.driver.live())


@pytest.mark.parametrize("kind", ["startup", "readiness", "liveness"])
def test_probe_is_answered_once(adapter, kind):
    """A probe is answered by Probed, with the uid and the kind, once."""
    spec = adapter.lives()
    adapter.driver.start("u1", "web", spec)
    adapter.driver.poll()

    adapter.driver.probe("u1", "web", spec, kind, Probe(file="/"))

    assert [Probed("u1", kind, success=True)] == _next(adapter)
    assert list(adapter.driver.poll()) == []


def test_drain_is_answered_once(adapter):
    """A drain is answered by Drained, once, and the worker lives on."""
    spec = adapter.lives()
    adapter.driver.start("u1", "web", spec)
    adapter.driver.poll()

    adapter.driver.drain("u1", "web", spec, Drain(command=("true",)))

    assert [Drained("u1")] == _next(adapter)
    assert list(adapter.driver.poll()) == []
    assert {"u1"} == set(adapter.driver.live())


def test_nothing_is_due_unless_something_was_asked(adapter):
    """A driver whose workers were asked nothing need not be polled at any time."""
    adapter.driver.start("u1", "web", adapter.lives())
    adapter.driver.poll()

    assert adapter.driver.wake_at() is None


def test_live_tells_the_truth(adapter):
    """A uid is live from its start until its end, and never after its end was told."""
    live = lambda: set(adapter.driver.live())  # noqa: E731
    assert set() == live()
    adapter.driver.start("u1", "web", adapter.lives())
    adapter.driver.start("u2", "web", adapter.lives())
    assert {"u1", "u2"} == live()
    adapter.driver.poll()
    assert {"u1", "u2"} == live()
    adapter.driver.kill("u1")
    assert "u2" in live()
    _until_ended(adapter, 1)
    assert {"u2"} == live()


def test_close_touches_no_worker(adapter):
    """Closing the driver leaves its workers running."""
    adapter.driver.start("u1", "web", adapter.lives())
    (spawned,) = adapter.driver.poll()

    adapter.driver.close()

    assert adapter.runs(spawned.pid)
    adapter.end(spawned.pid)


def test_many_short_lives(adapter):
    """200 short-lived workers are reported once each, and leave no zombie and no descriptor behind."""
    before = descriptors()
    uids = [f"u{number}" for number in range(200)]
    for number, uid in enumerate(uids):
        adapter.driver.start(uid, "web", adapter.exits(number % 5))

    seen = _until_ended(adapter, 200)

    assert uids == [one.uid for one in seen if isinstance(one, Spawned)]
    ends = [one for one in seen if isinstance(one, Exited)]
    assert {uid: number % 5 for number, uid in enumerate(uids)} == {one.uid: one.exit_code for one in ends}
    assert len(seen) == 400
    assert zombies() == []
    assert before == descriptors()
    assert list(adapter.driver.live()) == []


def _next(adapter):
    """What is observed next."""
    while not (seen := list(adapter.driver.poll())):
        adapter.wait()
    return seen


def _until_ended(adapter, count):
    """All observations until that many ends were told."""
    seen = []
    while sum(isinstance(one, Exited | Lost) for one in seen) < count:
        new = adapter.driver.poll()
        seen += new
        if not new:
            adapter.wait()
    return seen
