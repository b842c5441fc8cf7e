"""How an edit reaches the workers: budgets, surge, strategies, rollback and stall."""

import pytest
from core.scene import Scene, restart, rolling, web

from reconciler.core.observation import NotReady
from reconciler.core.observation import Ready as Told
from reconciler.core.spec import Budget, Ready, Rollout

SLOW = {"min_ready": 1.0}


def test_rolling_replaces_one_after_the_other():
    """With the default budget one worker is missing at a time, the last first, each when the one before serves."""
    scene = Scene(web(replicas=3, **SLOW))
    scene.advance(1.0)
    scene.asked()
    scene.edit(command=("v2",))
    seen = [scene.asked()]
    for _ in range(3):
        scene.advance(1.0)
        seen.append(scene.asked())
    assert seen == [
        ["stop web-2", "start web-2"],
        ["stop web-1", "start web-1"],
        ["stop web-0", "start web-0"],
        [],
    ]
    assert scene.status().converged
    assert [one for one in scene.told() if one.startswith("rollout")] == ["rollout.started", "rollout.completed"]


def test_a_successor_waits_for_the_end_of_its_predecessor():
    """Without surge the old process has ended before the new one is started."""
    scene = Scene(web())
    scene.hold()
    scene.asked()
    scene.edit(command=("v2",))
    assert scene.asked() == ["stop web-0"]
    scene.advance(4.0)
    assert scene.asked() == []
    scene.end("web-0")
    assert scene.asked() == ["start web-0"]


@pytest.mark.parametrize(
    ("rollout", "replicas", "at_once"),
    [
        (rolling(max_unavailable=2), 5, 2),
        (rolling(max_unavailable=9), 5, 5),
        (Rollout(max_unavailable=Budget(50, percent=True)), 5, 2),
        (Rollout(max_unavailable=Budget(10, percent=True)), 5, 1),
        (Rollout(max_unavailable=Budget(100, percent=True)), 4, 4),
    ],
)
def test_how_many_may_be_missing(rollout, replicas, at_once):
    """`max_unavailable` is a number or a share, rounded down, but never such that nothing could be replaced."""
    scene = Scene(web(replicas=replicas, rollout=rollout, **SLOW))
    scene.advance(1.0)
    scene.asked()
    scene.edit(command=("v2",))
    assert sum(one.startswith("stop") for one in scene.asked()) == at_once


@pytest.mark.parametrize(
    ("surge", "replicas", "at_once"), [(Budget(1), 3, 1), (Budget(2), 3, 2), (Budget(25, percent=True), 5, 2)]
)
def test_surge_starts_the_new_beside_the_old(surge, replicas, at_once):
    """`max_surge` of the workers, a share rounded up, get a second process, and lose the old one when it serves."""
    scene = Scene(web(replicas=replicas, rollout=Rollout(max_surge=surge, max_unavailable=Budget(0)), **SLOW))
    scene.advance(1.0)
    scene.asked()
    scene.edit(command=("v2",))
    assert sorted(scene.alive().values()) == ["v1"] * (replicas - at_once) + ["v1 v2"] * at_once
    while not scene.status().converged:
        assert scene.status().sets[0].available == replicas
        assert len(scene.driver.processes) <= replicas + at_once
        assert scene.clock.now < 60.0
        scene.advance(1.0)
    assert set(scene.alive().values()) == {"v2"}
    assert set(scene.reasons("worker.stopping")) == {"Replaced"}


def test_surge_and_unavailable_together():
    """Where both budgets are given, both are used."""
    scene = Scene(web(replicas=4, rollout=rolling(max_surge=1, max_unavailable=1), **SLOW))
    scene.advance(1.0)
    scene.edit(command=("v2",))
    assert scene.alive() == {"web-0": "v1", "web-1": "v1", "web-2": "v2", "web-3": "v1 v2"}


def test_recreate_waits_for_all():
    """With `recreate` all old processes have ended before the first new one starts, new workers included."""
    scene = Scene(web(replicas=2, rollout=rolling(strategy="recreate")))
    scene.hold()
    scene.asked()
    scene.edit(command=("v2",), replicas=3)
    assert scene.asked() == ["stop web-1", "stop web-0"]
    scene.end("web-1")
    assert scene.asked() == []
    assert scene.phases() == ["web-0 Stopping", "web-1 Pending", "web-2 Pending"]
    scene.end("web-0")
    assert scene.asked() == ["start web-0", "start web-1", "start web-2"]


def test_on_delete_waits_for_the_worker():
    """With `on_delete` a worker is replaced when it ends by itself, at once, and not before."""
    scene = Scene(web(replicas=2, rollout=rolling(strategy="on_delete")))
    scene.asked()
    scene.edit(command=("v2",))
    scene.advance(1000.0)
    assert scene.asked() == []
    scene.end("web-0")
    assert scene.alive() == {"web-0": "v2", "web-1": "v1"}
    assert scene.told().count("rollout.stalled") == 0


def test_broken_outdated_workers_cost_no_budget():
    """What ended, or never served, is replaced at once, all of it, whatever the budget; what serves stays."""
    scene = Scene(web(replicas=4, ready=Ready(notify=True, timeout=0.0), restart=restart(initial=50.0)))
    for key in ("web-2", "web-3"):
        scene.driver.tell(Told(scene.driver.of(key)[0].uid))
    scene.turn()
    for _ in range(2):
        scene.end("web-2", 1)
    scene.asked()
    scene.edit(command=("v2",))
    assert scene.asked() == ["stop web-1", "stop web-0", "start web-2", "start web-0", "start web-1"]
    assert scene.alive()["web-3"] == "v1"


def test_who_is_out_of_breath_is_not_broken():
    """A version that never becomes ready replaces no more than may be unavailable, though all others lose their
    readiness for a while; when it serves after all, they go first.
    """
    scene = Scene(web(replicas=4))
    scene.edit(command=("v2",), ready=Ready(notify=True, timeout=0.0), rollout=rolling(progress_deadline=30.0))
    assert scene.alive() == {"web-0": "v1", "web-1": "v1", "web-2": "v1", "web-3": "v2"}
    breathless = [scene.driver.of(f"web-{index}")[0].uid for index in range(3)]
    for uid in breathless:
        scene.driver.tell(NotReady(uid, "ProbeFailed"))
    scene.advance(100.0)
    assert scene.alive() == {"web-0": "v1", "web-1": "v1", "web-2": "v1", "web-3": "v2"}
    for uid in breathless[:2]:
        scene.driver.tell(Told(uid))
    scene.advance(1.0)
    scene.driver.tell(Told(scene.driver.of("web-3")[0].uid))
    scene.turn()
    assert scene.alive() == {"web-0": "v1", "web-1": "v1", "web-2": "v2", "web-3": "v2"}


@pytest.mark.parametrize("surge", [0, 1])
def test_who_ends_while_a_rollout_stands_still_comes_back_as_it_was(surge):
    """Workers of the old version that crash after a stall are not replaced by the version that stalled."""
    budget = rolling(max_surge=surge, max_unavailable=1 - surge, progress_deadline=30.0)
    scene = Scene(web(replicas=3, rollout=budget, restart=restart(initial=0.0)))
    scene.edit(command=("bad",), ready=Ready(notify=True, timeout=0.0))
    scene.advance(40.0)
    for key in ("web-0", "web-1", "web-0"):
        scene.driver.exit(scene.driver.of(key)[0].uid, 1)
        scene.advance(1.0)
    assert scene.alive()["web-0"] == scene.alive()["web-1"] == "v1"
    assert scene.status().sets[0].available == 2 + surge
    scene.edit(command=("v3",), ready=Ready())
    scene.advance(1.0)
    assert set(scene.alive().values()) == {"v3"}


def test_a_bad_version_can_always_be_left():
    """When a rollout to a broken version hangs with its budget spent, the next one replaces what is broken first."""
    scene = Scene(web(replicas=3))
    scene.driver.on_start = lambda process: (
        (process.spec.payload.command[0] == "bad" and scene.driver.fail(process.uid))
        or (process.uid in scene.driver.processes and scene.driver.spawn(process.uid))
    )
    scene.edit(command=("bad",))
    scene.advance(30.0)
    assert scene.alive() == {"web-0": "v1", "web-1": "v1"}
    scene.asked()
    scene.edit(command=("v3",))
    assert scene.asked()[0] == "start web-2"
    assert set(scene.alive().values()) == {"v3"}


def test_a_rollback_in_mid_rollout():
    """Going back touches only what had already been replaced."""
    scene = Scene(web(replicas=3, **SLOW))
    scene.advance(1.0)
    scene.edit(command=("v2",))
    scene.advance(1.0)
    assert scene.alive() == {"web-0": "v1", "web-1": "v2", "web-2": "v2"}
    scene.asked()
    scene.edit(command=("v1",))
    scene.advance(10.0)
    assert scene.asked() == ["stop web-1", "start web-1", "stop web-2", "start web-2"]
    assert (set(scene.alive().values()), scene.status().converged) == ({"v1"}, True)


def test_a_rollback_while_the_old_one_stops():
    """A process that was already asked to end is never taken for the wanted one again: it ends, and is started anew."""
    scene = Scene(web())
    scene.hold()
    scene.edit(command=("v2",))
    scene.edit(command=("v1",))
    scene.end("web-0", 0)
    assert scene.reasons("worker.starting")[-1] == "Resumed"
    scene.answer("web-0")
    assert (scene.alive(), scene.status().converged) == ({"web-0": "v1"}, True)


def test_a_rollback_while_surging():
    """Going back before the new one serves stops the new one and leaves the old one alone."""
    scene = Scene(web(rollout=rolling(max_surge=1), **SLOW))
    scene.advance(1.0)
    scene.edit(command=("v2",))
    scene.asked()
    scene.edit(command=("v1",))
    assert scene.asked() == ["stop web-0"]
    assert (scene.alive(), scene.status().converged) == ({"web-0": "v1"}, True)


def test_back_and_forth_while_surging():
    """When the wanted version is wanted again while its process still stops, it is started once that has ended."""
    scene = Scene(web(rollout=rolling(max_surge=1), **SLOW))
    scene.advance(1.0)
    scene.hold()
    scene.edit(command=("v2",))
    scene.answer("web-0")
    scene.edit(command=("v1",))
    scene.edit(command=("v2",))
    assert scene.alive() == {"web-0": "v1 v2"}
    scene.end("web-0")
    scene.answer("web-0")
    scene.advance(1.0)
    scene.driver.exit(scene.driver.of("web-0")[0].uid)
    scene.turn()
    assert (scene.alive(), scene.status().converged) == ({"web-0": "v2"}, True)


def test_surging_while_the_old_one_stops():
    """When the old version is wanted again while its process stops, it comes back beside the newer one."""
    scene = Scene(web(rollout=rolling(max_surge=1)))
    scene.driver.on_signal = lambda process, signal: None
    scene.edit(command=("v2",))
    assert scene.phases() == ["web-0 Stopping", "web-0 Running"]
    scene.edit(command=("v1",))
    scene.driver.exit(scene.driver.of("web-0")[0].uid)
    scene.turn()
    assert scene.alive() == {"web-0": "v2 v1"}
    scene.driver.exit(scene.driver.of("web-0")[0].uid)
    scene.turn()
    assert (scene.alive(), scene.status().converged) == ({"web-0": "v1"}, True)


def test_a_third_version_while_surging():
    """Another edit in mid-surge: the half-started second version goes, the first serves on until the third does."""
    scene = Scene(web(rollout=rolling(max_surge=1), **SLOW))
    scene.advance(1.0)
    scene.edit(command=("v2",))
    scene.edit(command=("v3",))
    assert scene.alive() == {"web-0": "v1 v3"}
    scene.advance(1.0)
    assert (scene.alive(), scene.status().converged) == ({"web-0": "v3"}, True)


def test_a_surge_that_is_taken_back():
    """What surges when the budget is taken away comes to its end, and nothing more is started beside another."""
    scene = Scene(web(replicas=2, rollout=rolling(max_surge=1, max_unavailable=0), restart=restart(), **SLOW))
    scene.advance(1.0)
    scene.edit(command=("v2",))
    scene.end("web-1", 1)
    scene.edit(rollout=rolling(max_surge=0, max_unavailable=1))
    assert scene.alive() == {"web-0": "v2", "web-1": "v1 v2"}
    for _ in range(3):
        assert max(len(versions.split()) for key, versions in scene.alive().items() if key != "web-1") == 1
        scene.advance(1.0)
    assert (set(scene.alive().values()), scene.status().converged) == ({"v2"}, True)


def test_a_successor_that_has_done_its_work():
    """Where the new version ends well before it ever served, the old one has been replaced and goes."""
    scene = Scene(web(rollout=rolling(max_surge=1), restart=restart("on_failure"), **SLOW))
    scene.advance(1.0)
    scene.edit(command=("v2",))
    scene.end("web-0", 0)
    assert (scene.phases(), scene.status().converged) == (["web-0 Succeeded"], True)


def test_workers_that_have_done_their_work_are_not_missed():
    """Completed workers count as replaced, and do not use up the budget for the others."""
    scene = Scene(web(replicas=3, restart=restart("on_failure")))
    scene.driver.on_start = lambda process: (scene.driver.spawn(process.uid), scene.driver.exit(process.uid, 0))
    scene.edit(command=("v2",))
    assert scene.phases() == ["web-0 Succeeded", "web-1 Succeeded", "web-2 Succeeded"]
    assert scene.status().converged


def test_a_failed_successor_beside_one_that_serves():
    """A new version that gives up leaves the old one serving, and a new generation tries it again."""
    scene = Scene(web(rollout=rolling(max_surge=1, progress_deadline=10.0), restart=restart("never"), **SLOW))
    scene.advance(1.0)
    scene.edit(command=("v2",))
    scene.end("web-0", 1)
    scene.asked()
    scene.advance(100.0)
    assert (scene.asked(), scene.phases()) == ([], ["web-0 Running", "web-0 Failed"])
    scene.edit(restart=restart("always"))
    assert scene.asked() == ["start web-0"]
    scene.advance(1.0)
    assert (scene.alive(), scene.status().converged) == ({"web-0": "v2"}, True)


@pytest.mark.parametrize("strategy", ["on_delete", "recreate"])
def test_another_strategy_while_surging(strategy):
    """A successor that waits for its next start does not stand by under a strategy that knows no surge."""
    scene = Scene(web(rollout=rolling(max_surge=1), restart=restart(), **SLOW))
    scene.advance(1.0)
    scene.edit(command=("v2",))
    scene.end("web-0", 1)
    scene.end("web-0", 1)
    assert scene.phases() == ["web-0 Running", "web-0 Backoff"]
    scene.edit(rollout=rolling(strategy=strategy))
    scene.advance(1.0)
    assert scene.phases() == ["web-0 Running"]
    assert scene.alive() == {"web-0": "v1" if strategy == "on_delete" else "v2"}


def test_a_rollout_that_stalls_keeps_the_rest():
    """Without progress for `progress_deadline` nothing more is taken away; a mended world resumes the rollout."""
    scene = Scene(web(replicas=3, rollout=rolling(progress_deadline=30.0), restart=restart(max=5.0), **SLOW))
    scene.advance(1.0)
    bad = {"v2"}
    scene.driver.on_start = lambda process: (
        scene.driver.fail(process.uid) if process.spec.payload.command[0] in bad else scene.driver.spawn(process.uid)
    )
    scene.edit(command=("v2",))
    scene.advance(300.0)
    assert scene.alive() == {"web-0": "v1", "web-1": "v1"}
    assert scene.reasons("rollout.stalled") == ["ProgressDeadlineExceeded"]
    assert scene.status().sets[0].stalled
    bad.clear()
    scene.advance(30.0)
    assert (set(scene.alive().values()), scene.status().converged) == ({"v2"}, True)
    assert [one for one in scene.told() if one.startswith("rollout")] == [
        "rollout.started",
        "rollout.stalled",
        "rollout.resumed",
        "rollout.completed",
    ]


def test_a_stalled_rollout_survives_an_outage():
    """What was lost in an outage that outlasted the deadline comes back, and the rollout goes on where it was."""
    scene = Scene(web(replicas=3, rollout=rolling(progress_deadline=10.0), restart=restart(max=2.0), **SLOW))
    scene.advance(1.0)
    scene.hold()
    scene.edit(command=("v2",))
    scene.end("web-2")
    scene.answer("web-2")
    scene.advance(1.0)
    scene.driver.on_start = lambda process: scene.driver.fail(process.uid)
    scene.end("web-1")
    scene.end("web-2")
    scene.advance(60.0)
    assert (scene.alive(), scene.status().sets[0].stalled) == ({"web-0": "v1"}, True)
    scene.driver.on_start = lambda process: scene.driver.spawn(process.uid)
    scene.advance(30.0)
    assert (set(scene.alive().values()), scene.status().converged) == ({"v2"}, True)


def test_a_start_that_hangs_while_surging():
    """A new process that is never answered for is killed and tried again, though the rollout has stalled meanwhile."""
    scene = Scene(web(rollout=rolling(max_surge=1, progress_deadline=10.0), **SLOW))
    scene.advance(1.0)
    scene.driver.on_start = lambda process: None
    scene.edit(command=("v2",))
    scene.advance(60.0)
    assert (scene.status().sets[0].stalled, scene.reasons("worker.killing")) == (True, ["StartTimeout"])
    scene.driver.on_start = lambda process: scene.driver.spawn(process.uid)
    scene.answer("web-0")
    scene.advance(1.0)
    assert (scene.alive(), scene.status().converged) == ({"web-0": "v2"}, True)


def test_no_deadline_at_all():
    """`progress_deadline = 0` stalls at once, which is told, and neither spins nor keeps progress from counting."""
    scene = Scene(web(replicas=2, rollout=rolling(progress_deadline=0.0), **SLOW))
    scene.advance(1.0)
    scene.edit(command=("v2",))
    scene.advance(30.0)
    assert (set(scene.alive().values()), scene.status().converged) == ({"v2"}, True)
