"""Rollouts that stop half-way: by a partition, or because they stalled."""

import attrs
import pytest
from core.scene import Scene, rolling, web
from core.test_dependencies import named

from reconciler.core.event import Event
from reconciler.core.explain import explain
from reconciler.core.observation import Probed
from reconciler.core.override import Paused, RestartAsked, StayDown
from reconciler.core.serving import Probe, Probes
from reconciler.core.spec import Budget, Key
from reconciler.core.spec import Ready as Readiness
from reconciler.sources import Reading
from reconciler.testing import MemorySource, Stage


def rolling_with(partition):
    """The rollout of these tests with this partition."""
    return attrs.evolve(rolling(), partition=Budget(partition))


def test_a_partition_keeps_the_first_workers():
    """The workers from the partition on are replaced, the others keep what they have, and all has converged."""
    scene = Scene(web(replicas=4, rollout=rolling_with(3)))
    scene.edit(command=("v2",))
    scene.advance(5.0)
    assert scene.alive() == {"web-0": "v1", "web-1": "v1", "web-2": "v1", "web-3": "v2"}
    assert scene.status().converged
    assert [row.rule for row in explain(scene.engine.view(), "web", "web-0", scene.clock.now)] == ["Partition"]


def test_who_is_kept_comes_back_as_it_was():
    """A worker below the partition that crashes runs again from the spec that it had."""
    scene = Scene(web(replicas=2, rollout=rolling_with(1)))
    scene.edit(command=("v2",))
    scene.end("web-0", 1)
    assert scene.alive() == {"web-0": "v1", "web-1": "v2"}


def test_a_partition_that_is_lowered():
    """The rollout goes on, as far as the new partition says."""
    scene = Scene(web(replicas=4, rollout=rolling_with(3)))
    scene.edit(command=("v2",))
    scene.edit(rollout=rolling_with(0))
    scene.advance(5.0)
    assert set(scene.alive().values()) == {"v2"}


def test_a_stalled_rollout_is_undone():
    """With `auto_rollback` what last ran everywhere runs again, once, and an edit of the file ends that."""
    rollout = attrs.evolve(rolling(max_surge=1, max_unavailable=0, progress_deadline=30.0), auto_rollback=True)
    scene = Scene(web(replicas=2, rollout=rollout))
    scene.edit(command=("bad",), ready=Readiness(notify=True, timeout=0.0))
    scene.advance(29.0)
    assert scene.alive() == {"web-0": "v1", "web-1": "v1 bad"}
    scene.advance(5.0)
    assert scene.alive() == {"web-0": "v1", "web-1": "v1"}
    assert scene.status().sets[0].drift == ("rolled back to what last ran everywhere",)
    assert scene.reasons("rollout.undone") == ["ProgressDeadlineExceeded"]
    scene.advance(100.0)
    assert scene.told().count("rollout.undone") == 1
    scene.want(web("v3", replicas=2, rollout=rollout))
    scene.advance(5.0)
    assert scene.alive() == {"web-0": "v3", "web-1": "v3"}
    assert scene.status().sets[0].drift == ()


def test_nothing_to_go_back_to():
    """Where nothing ran before, a stalled rollout stays where it is."""
    rollout = attrs.evolve(rolling(progress_deadline=30.0), auto_rollback=True)
    scene = Scene(web(ready=Readiness(notify=True, timeout=0.0), rollout=rollout))
    scene.advance(60.0)
    assert "rollout.undone" not in scene.told()
    assert "rollout.stalled" in scene.told()


def test_a_canary_is_nothing_to_go_back_to():
    """What ran on some workers only is no place for an automatic way back; what last ran everywhere is."""
    rollout = attrs.evolve(rolling(max_surge=1, max_unavailable=0, progress_deadline=30.0), auto_rollback=True)
    scene = Scene(web(replicas=3, rollout=rollout))
    scene.edit(command=("v2",), rollout=attrs.evolve(rollout, partition=Budget(2)))
    assert scene.status().converged
    scene.edit(command=("bad",), rollout=rollout, ready=Readiness(notify=True, timeout=0.0))
    scene.advance(40.0)
    assert set(scene.alive().values()) == {"v1"}


def test_a_restart_of_one_that_is_kept():
    """A worker below the partition is restarted where that is asked, from the spec that it has."""
    scene = Scene(web(replicas=2, rollout=rolling_with(1)))
    scene.edit(command=("v2",))
    first = scene.driver.of("web-0")[0].uid
    scene.engine.override((RestartAsked("web", 1),), 0.0)
    scene.advance(1.0)
    assert scene.alive() == {"web-0": "v1", "web-1": "v2"}
    assert scene.driver.of("web-0")[0].uid != first
    assert scene.status().converged


def test_no_way_back_into_a_circle():
    """What last ran everywhere is not gone back to where it would need what needs it."""
    rollout = attrs.evolve(rolling(progress_deadline=30.0), auto_rollback=True)
    scene = Scene(named("a", "b", rollout=rollout), named("b"))
    scene.want(named("a", rollout=rollout), named("b"))
    scene.want(named("a", rollout=rollout, ready=Readiness(notify=True, timeout=0.0)), named("b", "a"))
    scene.engine.actual.sets["a"].good = named("a", "b", rollout=rollout)
    scene.advance(60.0)
    assert "rollout.stalled" in scene.told()
    assert "rollout.undone" not in scene.told()


def test_the_way_back_is_known_to_the_next_controller():
    """A version that is bad when a controller starts is gone back from, too, to what ran everywhere before."""
    rollout = attrs.evolve(rolling(progress_deadline=30.0), auto_rollback=True)
    memory = Scene(web(rollout=rollout)).engine.memory
    scene = Scene(web("bad", rollout=rollout, ready=Readiness(notify=True, timeout=0.0)), memory=memory)
    scene.advance(40.0)
    assert scene.alive() == {"web-0": "v1"}


def test_a_partition_outlives_the_controller():
    """Under the next controller, too, the first workers run from what last ran everywhere, until the partition goes."""
    first = Scene(web(replicas=3, rollout=rolling()))
    first.edit(command=("v2",), rollout=rolling_with(2))
    second = Scene(web("v2", replicas=3, rollout=rolling_with(2)), memory=first.engine.memory)
    assert second.alive() == {"web-0": "v1", "web-1": "v1", "web-2": "v2"}
    assert second.status().converged
    assert second.status().sets[0].kept == 2
    second.end("web-0", 1)
    assert second.alive()["web-0"] == "v1"
    second.edit(rollout=rolling())
    second.advance(5.0)
    assert set(second.alive().values()) == {"v2"}
    assert second.engine.memory.good == {}


def test_a_pause_outlives_the_controller():
    """Under the next controller, too, no worker of a paused set runs from what came meanwhile, until it is resumed."""
    first = Scene(web(replicas=2, rollout=rolling()))
    first.engine.override((Paused("web"),), 0.0)
    first.edit(command=("v2",))
    again = web("v2", replicas=2, rollout=rolling())
    second = Scene(again, memory=first.engine.memory, overrides=(Paused("web"),))
    assert second.alive() == {"web-0": "v1", "web-1": "v1"}
    assert [row.rule for row in explain(second.engine.view(), "web", "web-0", 0.0)] == ["Paused"]
    second.engine.override((), 0.0)
    second.advance(5.0)
    assert set(second.alive().values()) == {"v2"}
    assert second.engine.memory.good == {}


def test_a_partition_that_was_always_there():
    """What ran everywhere is known although the spec had a partition from the first, and while nothing runs."""
    first = Scene(web(replicas=2, rollout=rolling_with(1)))
    first.edit(command=("v2",))
    first.edit(suspend=True)
    second = Scene(web("v3", replicas=2, rollout=rolling_with(1), suspend=True), memory=first.engine.memory)
    second.edit(suspend=False)
    assert second.alive() == {"web-0": "v1", "web-1": "v3"}
    second.engine.stop(second.clock.now)
    assert second.engine.memory == first.engine.memory


def test_who_is_new_below_the_partition():
    """A worker that a greater size brings below the partition runs from what the others have, once."""
    scene = Scene(web(replicas=2, rollout=rolling_with(9)))
    scene.edit(command=("v2",))
    scene.engine.override((RestartAsked("web", 1),), 0.0)
    scene.edit(replicas=3)
    scene.advance(5.0)
    assert set(scene.alive().values()) == {"v1"}
    assert len([one for one in scene.events if one.event == "worker.started" and str(one.key) == "web-2"]) == 1


def test_a_version_that_nobody_ran_is_no_good_one():
    """A version that came while the set was suspended is not gone back to: none of its workers ever ran."""
    rollout = attrs.evolve(rolling(max_surge=1, max_unavailable=0, progress_deadline=30.0), auto_rollback=True)
    scene = Scene(web(rollout=rollout))
    scene.edit(suspend=True)
    scene.edit(command=("bad",), ready=Readiness(notify=True, timeout=0.0))
    scene.edit(suspend=False)
    scene.advance(40.0)
    assert scene.alive() == {"web-0": "v1"}


def test_a_kept_worker_that_is_stopped_and_started():
    """A stop of the one that is kept makes the canary no good version, and keeps nobody else instead."""
    scene = Scene(web(replicas=3, rollout=rolling_with(1)))
    scene.edit(command=("v2",))
    scene.advance(5.0)
    down = (StayDown("web", Key(0, "web", 0)),)
    scene.engine.override(down, scene.clock.now)
    scene.advance(1.0)
    assert scene.alive() == {"web-1": "v2", "web-2": "v2"}
    spec = scene.engine.desired["web"].template
    assert Scene(spec, memory=scene.engine.memory, overrides=down).alive() == {"web-1": "v2", "web-2": "v2"}
    scene.engine.override((), scene.clock.now)
    scene.advance(1.0)
    assert scene.alive() == {"web-0": "v1", "web-1": "v2", "web-2": "v2"}


def test_a_share_that_is_kept():
    """A share of the workers is one of all, whether some of them are down or not."""
    scene = Scene(web(replicas=4, rollout=attrs.evolve(rolling(), partition=Budget(50, percent=True))))
    scene.edit(command=("v2",))
    scene.advance(5.0)
    scene.engine.override([StayDown("web", Key(0, "web", index)) for index in (2, 3)], scene.clock.now)
    scene.advance(5.0)
    assert scene.alive() == {"web-0": "v1", "web-1": "v1"}


def test_the_way_back_holds_nobody():
    """What is gone back to goes to all workers, though it had a partition itself."""
    rollout = attrs.evolve(rolling_with(1), progress_deadline=30.0, auto_rollback=True)
    rollout = attrs.evolve(rollout, max_surge=Budget(2), max_unavailable=Budget(0))
    scene = Scene(web(replicas=2, rollout=rollout))
    bad = {"command": ("bad",), "ready": Readiness(notify=True, timeout=0.0)}
    scene.edit(**bad, rollout=attrs.evolve(rollout, partition=Budget(0)))
    scene.advance(60.0)
    assert scene.alive() == {"web-0": "v1", "web-1": "v1"}
    assert scene.told().count("rollout.undone") == 1
    assert scene.status().converged


@pytest.mark.parametrize("restarted", [False, True])
def test_who_is_kept_is_asked_as_before(restarted):
    """A worker below the partition is asked what its version is asked, also if it starts anew."""
    first = Scene(web(replicas=2, rollout=rolling_with(1)))
    probes = Probes(liveness=Probe(tcp="127.0.0.1:80", period=1.0, failure_threshold=1))
    first.driver.on_probe = lambda process, kind: first.driver.tell(
        Probed(process.uid, kind, success=process.spec.payload.command == ("v2",))
    )
    first.edit(command=("v2",), probes=probes)
    first.advance(5.0)
    second = first
    if restarted:
        second = Scene(first.engine.desired["web"].template, memory=first.engine.memory)
    else:
        first.engine.override((RestartAsked("web", 1),), first.clock.now)
    second.driver.on_probe = lambda process, kind: second.driver.tell(
        Probed(process.uid, kind, success=process.spec.payload.command == ("v2",))
    )
    second.advance(30.0)
    assert second.alive() == {"web-0": "v1", "web-1": "v2"}
    assert "worker.unhealthy" not in second.told()


def test_a_job_that_is_kept_is_done():
    """The work of a job below the partition, which the version had done that it keeps, is not done again."""
    first = Scene(web(replicas=2, kind="job", rollout=rolling_with(1)))
    for key in ("web-0", "web-1"):
        first.end(key)
    first.edit(command=("v2",))
    first.end("web-1")
    assert Scene(first.engine.desired["web"].template, memory=first.engine.memory).alive() == {}
    first.edit(suspend=True)
    first.edit(suspend=False)
    assert first.alive() == {}


def test_what_is_gone_is_forgotten():
    """What a controller remembers of a set is forgotten when the next one does not find it, but for a bad file."""
    first = Scene(web(replicas=2, rollout=rolling_with(1)))
    memory = first.engine.memory
    assert set(Scene(web("v2", rollout=rolling_with(1)), memory=memory).engine.memory.good) == {"web"}
    assert Scene(named("other"), memory=memory).engine.memory.good == {}
    second = Stage(MemorySource())
    second.engine.recall(memory)
    second.source.read = lambda now, urgent: Reading({}, (Event("spec.rejected", name="web"),))
    second.turn(read=True)
    assert set(second.engine.memory.good) == {"web"}
