"""What workers tell, and how they answer: readiness, probes, the watchdog."""

import pytest
from core.scene import Scene, restart, rolling, web

from reconciler.core.observation import Notice, Probed, Ready
from reconciler.core.spec import Probe, Probes, Stop
from reconciler.core.spec import Ready as Readiness

TOLD = Readiness(notify=True, timeout=10.0)


def probe(**settings):
    """A probe that is asked once a second, at first at once."""
    return Probe(tcp="127.0.0.1:1", **{"period": 1.0, **settings})


def probed(**kinds):
    """A scene with one worker and these probes, none of which is answered by itself, and what is asked."""
    asked = []
    scene = Scene()
    scene.driver.on_probe = lambda process, kind: asked.append(kind)
    scene.want(web(probes=Probes(**kinds)))
    scene.advance(0.2)  # the first question may come late by a tenth of the period
    return scene, asked


def answer(scene, kind, *successes):
    """The probe is answered so, each time it is asked."""
    for success in successes:
        scene.driver.tell(Probed(scene.driver.of("web-0")[-1].uid, kind, success, "" if success else "refused"))
        scene.advance(1.2)


def ready(scene):
    """Whether the worker is ready, and why not."""
    row = scene.status().workers[0]
    return row.ready or row.reason


def test_ready_when_it_says_so():
    """A worker that is to tell is ready when it has told, whatever it is as a process."""
    scene = Scene(web(ready=TOLD))
    assert ready(scene) is None
    scene.driver.tell(Ready("1"))
    scene.turn()
    assert ready(scene) is True


def test_it_never_says_so():
    """One that does not tell in time is stopped, counts as failed, and comes back with a growing wait."""
    scene = Scene(web(ready=TOLD, restart=restart(initial=2.0)))
    scene.advance(10.0)
    scene.advance(10.0)
    assert scene.reasons("worker.unhealthy") == ["NotReadyInTime", "NotReadyInTime"]
    assert scene.reasons("worker.backoff") == ["CrashLoopBackOff"]


def test_it_asks_for_more_time():
    """EXTEND_TIMEOUT_USEC moves the moment at which it must have told, and only that of one who asks."""
    scene = Scene(web(ready=TOLD))
    scene.advance(9.0)
    scene.driver.tell(Notice("1", extend=20.0))
    scene.advance(19.0)
    assert scene.reasons("worker.unhealthy") == []
    scene.advance(2.0)
    assert scene.reasons("worker.unhealthy") == ["NotReadyInTime"]


def test_a_readiness_probe_decides_and_kills_nobody():
    """It is ready after a success, not ready after so many failures in a row, ready again, and never restarted."""
    scene, asked = probed(readiness=probe(failure_threshold=2))
    assert (ready(scene), asked) == (None, ["readiness"])
    answer(scene, "readiness", True)
    assert ready(scene) is True
    answer(scene, "readiness", False)
    assert ready(scene) is True
    answer(scene, "readiness", False)
    assert ready(scene) == "ReadinessFailed"
    answer(scene, "readiness", True)
    assert ready(scene) is True
    assert len(scene.driver.processes) == 1
    assert scene.asked() == ["start web-0"]


def test_successes_that_are_needed_in_a_row():
    """A success threshold counts successes in a row."""
    scene, _ = probed(readiness=probe(success_threshold=2))
    answer(scene, "readiness", True, False, True)
    assert ready(scene) is not True
    answer(scene, "readiness", True)
    assert ready(scene) is True


def test_a_liveness_probe_ends_what_is_not_sane():
    """After so many failures in a row it is stopped, which counts as a failure, and started anew at once."""
    scene, _ = probed(liveness=probe(failure_threshold=2))
    assert ready(scene) is True
    answer(scene, "liveness", False, True, False)
    assert scene.reasons("worker.unhealthy") == []
    answer(scene, "liveness", False)
    assert scene.reasons("worker.unhealthy") == ["LivenessFailed"]
    assert scene.asked() == ["start web-0", "stop web-0", "start web-0"]
    assert scene.status().workers[0].restarts == 1


def test_a_slow_start_is_not_a_death():
    """Until the startup probe succeeds no other is asked, and the worker is not ready."""
    scene, asked = probed(startup=probe(failure_threshold=30), liveness=probe(failure_threshold=1))
    answer(scene, "startup", *[False] * 10)
    assert set(asked) == {"startup"}
    assert ready(scene) is None
    answer(scene, "startup", True)
    assert ready(scene) is True
    assert asked[-1] == "liveness"


def test_a_start_that_never_ends_is_one():
    """A startup probe that fails too often ends the worker."""
    scene, _ = probed(startup=probe(failure_threshold=2))
    answer(scene, "startup", False, False)
    assert scene.reasons("worker.unhealthy") == ["StartupFailed"]


def test_one_question_at_a_time():
    """While an answer is awaited nothing else is asked of that worker; a lost answer is a failure in the end."""
    scene, asked = probed(readiness=probe(), liveness=probe())
    scene.advance(5.0)
    assert len(asked) == 1
    scene.advance(10.0)
    assert len(asked) > 1


def test_an_idle_worker_with_probes_wakes_nobody_before_its_period():
    """Between two questions there is nothing to do."""
    scene, asked = probed(readiness=probe(period=60.0))
    scene.advance(7.0)
    answer(scene, "readiness", True)
    count = len(asked)
    scene.advance(50.0)
    assert len(asked) == count


def test_asking_is_no_news():
    """Convergence is told once, however often probes are asked and answered well."""
    scene, _ = probed(readiness=probe())
    answer(scene, "readiness", True)
    told = len(scene.told())
    answer(scene, "readiness", *[True] * 5)
    assert scene.told()[told:] == []


def test_a_watchdog():
    """A worker that is not heard of in time gets ABRT, which counts as a failure; one that is, lives on."""
    scene = Scene(web(watchdog=3.0, stop=Stop(timeout=5.0)))
    for _ in range(5):
        scene.advance(2.0)
        scene.driver.tell(Notice("1", alive=True))
        scene.turn()
    assert scene.asked() == ["start web-0"]
    process = scene.driver.of("web-0")[0]
    scene.advance(3.0)
    assert (scene.reasons("worker.unhealthy"), process.signals) == (["WatchdogTimeout"], ["ABRT"])


def test_a_watchdog_is_another_one():
    """A worker may ask for another interval, and 0 means for none."""
    scene = Scene(web(watchdog=3.0))
    scene.driver.tell(Notice("1", watchdog=30.0))
    scene.advance(29.0)
    assert scene.reasons("worker.unhealthy") == []
    scene.driver.tell(Notice("1", watchdog=0.0))
    scene.advance(1000.0)
    assert scene.reasons("worker.unhealthy") == []


def test_it_says_that_it_stops():
    """A worker that says it stops does not serve any more; if it hangs, it is ended after its stop timeout."""
    scene = Scene(web(stop=Stop(timeout=5.0)))
    scene.driver.tell(Notice("1", stopping=True))
    scene.turn()
    assert ready(scene) == "StopsItself"
    scene.advance(5.0)
    assert scene.reasons("worker.unhealthy") == ["StopsForTooLong"]


def test_a_probe_is_edited_and_nothing_is_restarted():
    """A new probe takes a worker for good until it says otherwise; one that is taken out no longer counts."""
    scene, asked = probed(readiness=probe(failure_threshold=1))
    answer(scene, "readiness", True, False)
    assert ready(scene) == "ReadinessFailed"
    scene.edit(probes=Probes())
    assert ready(scene) is True
    scene.edit(probes=Probes(readiness=probe(failure_threshold=1), liveness=probe(failure_threshold=1)))
    assert ready(scene) is True
    scene.advance(0.2)
    assert asked[-1] in ("readiness", "liveness")
    assert scene.asked() == ["start web-0"]


def test_who_is_outdated_is_asked_what_it_was_asked_before():
    """A new version with other probes, notices and a watchdog changes nothing for workers of the old one."""
    asked = []
    scene = Scene(web(replicas=2, probes=Probes(readiness=probe())))
    scene.advance(1.0)
    scene.driver.on_probe = lambda process, kind: (
        asked.append((process.spec.payload.command[0], kind)),
        scene.driver.tell(Probed(process.uid, kind, process.spec.payload.command[0] == "v1" and kind == "readiness")),
    )
    scene.edit(command=("v2",), ready=TOLD, watchdog=1.0, probes=Probes(liveness=probe(), readiness=probe()))
    scene.advance(60.0)
    assert ("v1", "liveness") not in asked
    assert scene.alive()["web-0"] == "v1"
    assert scene.status().sets[0].available == 1
    assert "web-0" not in {one.key for one in scene.events if one.event == "worker.unhealthy"}


@pytest.mark.parametrize("policy", ["always", "on_failure"])
def test_what_is_ailing_has_failed_whatever_it_exits_with(policy):
    """Exit code 0 after a failed liveness probe is no success."""
    scene, _ = probed(liveness=probe(failure_threshold=1))
    scene.edit(restart=restart(policy))
    scene.driver.on_signal = lambda process, signal: scene.driver.exit(process.uid, 0)
    answer(scene, "liveness", False)
    assert scene.asked() == ["start web-0", "stop web-0", "start web-0"]


def test_a_version_that_never_becomes_ready_takes_nobody_away():
    """With a readiness that is told, a bad version replaces no more than the budget allows."""
    scene = Scene(web(replicas=4, ready=TOLD, rollout=rolling(max_surge=1, max_unavailable=0)))
    for process in list(scene.driver.processes.values()):
        scene.driver.tell(Ready(process.uid))
    scene.turn()
    scene.edit(command=("v2",))
    scene.advance(300.0)
    assert sorted(scene.alive().values()) in (["v1"] * 4, ["v1", "v1", "v1", "v1 v2"])
    assert scene.status().sets[0].available == 4


def test_a_version_that_crashes_takes_only_the_budget_away():
    """Where nothing tells readiness, a replacement counts after a second: a crashing version stops at the first."""
    scene = Scene(web(replicas=4, min_ready=None))
    assert scene.status().sets[0].available == 4
    scene.driver.on_start = lambda process: (
        scene.driver.spawn(process.uid),
        process.spec.payload.command == ("v2",)
        and scene.clock.later(0.3, lambda: process.uid in scene.driver.processes and scene.driver.exit(process.uid, 1)),
    )
    scene.edit(command=("v2",))
    scene.advance(120.0)
    assert list(scene.alive().values()).count("v1") == 3
    assert scene.status().sets[0].available == 3


def test_heartbeats_leave_nothing_behind():
    """However often a worker is heard of, what must be looked at later does not grow."""
    scene = Scene(web(watchdog=3600.0))
    for _ in range(500):
        scene.driver.tell(Notice("1", alive=True))
        scene.advance(0.1)
    assert len(scene.engine.actual._agenda) < 10


def test_who_is_ailing_does_not_count_as_serving():
    """A worker that is being ended for its ailment and one that a rollout replaces are not taken away together."""
    scene = Scene()
    scene.driver.on_probe = lambda process, kind: None
    scene.want(web(replicas=3, probes=Probes(liveness=probe(failure_threshold=1))))
    scene.advance(0.2)
    scene.driver.on_start = lambda process: None
    scene.driver.tell(Probed(scene.driver.of("web-0")[0].uid, "liveness", success=False))
    scene.edit(command=("v2",))
    assert scene.status().sets[0].available == 2
