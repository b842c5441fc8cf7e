"""The events of a change of state."""

import pytest
from core.scene import Scene, restart, web
from core.test_lifecycle import POLICIES, SEEN, TIMES, workers
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core import narrate
from reconciler.core.event import CATALOGUE
from reconciler.core.lifecycle import TABLE, observe
from reconciler.core.observation import NotReady, Ready

SHOWN = ("phase", "pid", "ready")


@pytest.mark.parametrize(("phase", "kind"), TABLE, ids=lambda value: getattr(value, "__name__", str(value)))
@settings(max_examples=12)
@given(data=st.data())
def test_no_transition_is_silent_and_none_is_told_twice(phase, kind, data):
    """What is shown of a worker changes if and only if there is an event of it, and each event once."""
    before, seen, now = data.draw(workers(phase)), data.draw(SEEN[kind]), data.draw(TIMES)
    after = observe(before, seen, data.draw(POLICIES), now)
    told = narrate.between(before, after, seen, now)
    names = [one.event for one in told]
    assert len(set(names)) == len(names)
    if after is before:
        assert told == []
    if any(getattr(before, name) != getattr(after, name) for name in SHOWN):
        assert told
    assert names.count("worker.exited") == (before.live and not after.live and kind.__name__ in ("Exited", "Lost"))
    for one in told:
        assert (one.uid, one.key, one.name) == ("u", "web-0", "web")
        assert set(one.extra) <= set(CATALOGUE[one.event].fields)
        assert one.extra.get("exit_code", 0) >= 0
        assert "exit_code" not in one.extra or "signal" not in one.extra


def fields(scene, kind):
    """The fields of the last event of this kind."""
    return [one for one in scene.events if one.event == kind][-1].fields()


def test_the_life_of_a_worker():
    """From the first start over a crash to the end that was asked for, each step is one event."""
    scene = Scene(web(restart=restart(initial=2.0), min_ready=1.0))
    scene.advance(1.5)
    scene.end("web-0", 3)
    scene.end("web-0", signal="SEGV")
    scene.advance(2.0)
    scene.want()
    assert scene.told("web-0") == [
        *["worker.starting", "worker.started", "worker.ready", "worker.exited"],
        *["worker.starting", "worker.started", "worker.exited", "worker.backoff"],
        *["worker.starting", "worker.started", "worker.stopping", "worker.exited", "worker.stopped"],
    ]
    third = {"key": "web-0", "name": "web", "index": 0, "uid": "3", "pid": 1002, "generation": 1, "reason": "Removed"}
    asked = {name: value for name, value in third.items() if name != "pid"}
    assert fields(scene, "worker.starting") == asked | {"reason": "Restarted", "restarts": 2}
    assert fields(scene, "worker.started") == third | {"reason": None}
    assert fields(scene, "worker.stopping") == third | {"signal": "TERM", "timeout_s": 5.0}
    assert fields(scene, "worker.exited") == third | {"signal": "TERM", "expected": True, "uptime_s": 0.0}
    assert fields(scene, "worker.stopped") == third
    second = third | {"uid": "2", "pid": 1001}
    assert fields(scene, "worker.backoff") == second | {"reason": "CrashLoopBackOff", "delay_s": 2.0, "restarts": 1}


def test_why_a_worker_exited():
    """An exit that nobody asked for is Completed, Error or Signalled."""
    scene = Scene(web(restart=restart(initial=0.0)))
    scene.end("web-0", 0)
    scene.end("web-0", 7)
    scene.end("web-0", signal="KILL")
    assert scene.reasons("worker.exited") == ["Completed", "Error", "Signalled"]
    exits = [one.fields() for one in scene.events if one.event == "worker.exited"]
    assert [(one.get("exit_code"), one.get("signal"), one["expected"]) for one in exits] == [
        (0, None, False),
        (7, None, False),
        (None, "KILL", False),
    ]


def test_no_wait_is_no_backoff():
    """A restart without a delay is not announced as a wait."""
    scene = Scene(web(restart=restart(initial=0.0)))
    for _ in range(5):
        scene.end("web-0", 1)
    assert "worker.backoff" not in scene.told()


def test_a_worker_that_cannot_serve():
    """Not ready and ready again are told with the reason."""
    scene = Scene(web())
    scene.driver.tell(NotReady("1", "ProbeFailed"))
    scene.turn()
    scene.driver.tell(Ready("1"))
    scene.turn()
    assert scene.told("web-0")[-2:] == ["worker.not_ready", "worker.ready"]
    assert scene.reasons("worker.not_ready") == ["ProbeFailed"]
