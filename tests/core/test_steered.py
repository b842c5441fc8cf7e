"""What an operator asks for: pauses, resets, stops, restarts and earlier revisions, and what is said of them."""

import attrs
import pytest
from core.scene import Scene, restart, rolling, web

from reconciler.core import conditions
from reconciler.core.explain import RULES, explain
from reconciler.core.override import (
    Paused,
    RestartAsked,
    RolledBack,
    Scale,
    StayDown,
    added,
    apply,
    drift,
    still_meant,
    without,
)
from reconciler.core.spec import Rollout, expand


def lay(scene, *overrides):
    """These overrides, and no others, from now on."""
    scene.engine.override(overrides, scene.clock.now)
    scene.turn()


def why(scene, key="web-0"):
    """What is said of each incarnation of a worker: what would be done, and by which rule."""
    view = scene.engine.view()
    name = key.rpartition("-")[0]
    return [(one.does, one.rule) for one in explain(view, name, key, scene.clock.now)]


def facts(scene):
    """The conditions of the set called web, by type: true or the reason why not."""
    return {one.type: one.status or one.reason for one in conditions.of_set(scene.engine.view(), "web")}


# ------------------------------------------------------------------------------------------------------------ pause


def test_a_paused_rollout_replaces_nobody():
    """While a set is paused its healthy workers stay, and go on where they are; resumed, the rollout ends."""
    scene = Scene(web("v1", replicas=2))
    lay(scene, Paused("web"))
    scene.want(web("v2", replicas=2))
    assert scene.alive() == {"web-0": "v1", "web-1": "v1"}
    assert why(scene) == [("nothing", "Paused")]
    assert facts(scene)["Progressing"] == "Paused"
    lay(scene)
    assert scene.alive() == {"web-0": "v2", "web-1": "v2"}


def test_what_ends_while_paused_runs_again_as_it_was():
    """A worker that crashes while its set is paused is not replaced by the version that was to be held back."""
    scene = Scene(web("v1", replicas=2))
    lay(scene, Paused("web"))
    scene.want(web("v2", replicas=2))
    scene.end("web-1", 1)
    assert scene.alive() == {"web-0": "v1", "web-1": "v1"}


def test_a_paused_rollout_never_stalls():
    """The progress deadline does not run while a set is paused, and runs anew after that."""
    scene = Scene(web("v1", rollout=Rollout(progress_deadline=5.0)))
    lay(scene, Paused("web"))
    scene.want(web("v2", rollout=Rollout(progress_deadline=5.0)))
    scene.advance(100.0)
    assert not scene.status().sets[0].stalled
    assert scene.status().sets[0].paused


def test_a_scale_goes_on_while_paused():
    """A paused set can be made larger, by workers of the new version, and smaller."""
    scene = Scene(web("v1", replicas=2))
    scene.want(web("v2", replicas=2, rollout=rolling(strategy="on_delete")))
    lay(scene, Paused("web"), Scale("web", 3))
    assert scene.alive() == {"web-0": "v1", "web-1": "v1", "web-2": "v2"}
    lay(scene, Paused("web"), Scale("web", 1))
    assert scene.alive() == {"web-0": "v1"}


# ------------------------------------------------------------------------------------------------------------ reset


def test_reset_ends_a_wait():
    """A worker that waits in backoff is started at once, with a clear history."""
    scene = Scene(web(restart=restart(initial=60.0)))
    scene.end("web-0", 1)
    scene.end("web-0", 1)
    assert scene.phases() == ["web-0 Backoff"]
    assert why(scene) == [("nothing", "CrashLoopBackOff")]
    scene.engine.reset("web", ["web-0"], scene.clock.now)
    scene.turn()
    assert scene.phases() == ["web-0 Running"]
    scene.end("web-0", 1)
    assert scene.phases() == ["web-0 Running"]  # the first restart of a clear history is immediate


def test_reset_gives_a_failed_worker_another_chance():
    """A worker that had failed for good runs again, and its start limit counts anew."""
    scene = Scene(web(restart=restart(limit=(1, 1000.0))))
    scene.end("web-0", 1)
    assert scene.phases() == ["web-0 Failed"]
    assert why(scene) == [("nothing", "StartLimitHit")]
    scene.engine.reset("web", ["web-0"], scene.clock.now)
    scene.turn()
    assert scene.phases() == ["web-0 Running"]


def test_reset_leaves_done_work_alone():
    """A worker that has completed does not run again by a reset."""
    scene = Scene(web(restart=restart("on_failure")))
    scene.end("web-0", 0)
    scene.engine.reset("web", ["web-0"], scene.clock.now)
    scene.turn()
    assert scene.phases() == ["web-0 Succeeded"]


def test_reset_lets_a_stalled_rollout_go_on():
    """A rollout that stalled has its progress deadline again."""
    scene = Scene(web("v1", replicas=2, rollout=Rollout(progress_deadline=5.0)))
    scene.hold()
    scene.want(web("v2", replicas=2, rollout=Rollout(progress_deadline=5.0)))
    scene.advance(200.0)
    assert scene.status().sets[0].stalled
    scene.engine.reset("web", [], scene.clock.now)
    scene.turn()
    assert not scene.status().sets[0].stalled


# ------------------------------------------------------------------------------------------------- stop and restart


def test_what_stays_down_is_shown():
    """A worker that somebody stopped is shown as stopped, with the reason, and its set says so as drift."""
    scene = Scene(web(replicas=2))
    lay(scene, StayDown("web", "web-0"))
    assert scene.phases() == ["web-0 Stopped", "web-1 Running"]
    assert scene.status().workers[0].reason == "StopAsked"
    assert scene.status().sets[0].drift == ("web-0 stopped",)
    assert scene.status().converged
    assert why(scene) == [("nothing", "StopAsked")]
    assert [one.reason for one in scene.events if one.event == "worker.stopping"] == ["StopAsked"]
    lay(scene)
    assert scene.phases() == ["web-0 Running", "web-1 Running"]


def test_a_restart_says_that_it_was_asked_for():
    """The reason of a restart by a verb is another than that of an edit, and it keeps the rollout's budget."""
    scene = Scene(web(replicas=2))
    scene.asked()
    lay(scene, RestartAsked("web", 1))
    assert scene.asked() == ["stop web-1", "start web-1", "stop web-0", "start web-0"]
    reasons = {one.reason for one in scene.events if one.event in ("worker.stopping", "worker.starting")}
    assert reasons == {"Created", "RestartAsked"}


def test_a_restart_now_is_over_when_it_is_done():
    """All new workers are started beside the old ones, whatever the budget; a later edit keeps to the budget again."""
    scene = Scene(web("v1", replicas=3))
    scene.driver.on_start = lambda process: None
    lay(scene, RestartAsked("web", 1, at_once=True))
    assert scene.alive() == {"web-0": "v1 v1", "web-1": "v1 v1", "web-2": "v1 v1"}
    for key in ("web-0", "web-1", "web-2"):
        scene.answer(key)
    assert scene.alive() == {"web-0": "v1", "web-1": "v1", "web-2": "v1"}
    scene.edit(command=("v2",))
    assert scene.alive() == {"web-0": "v1", "web-1": "v1", "web-2": "v2"}


def test_a_restart_that_was_asked_for_is_no_edit():
    """With `on_delete` an edit waits until workers end by themselves; a restart that somebody asks for does not."""
    scene = Scene(web("v1", replicas=2, rollout=rolling(strategy="on_delete")))
    scene.asked()
    lay(scene, RestartAsked("web", 1, "web-0"))
    assert scene.asked() == ["stop web-0", "start web-0"]
    scene.edit(command=("v2",))
    assert scene.asked() == []


def test_thousands_of_orders_are_laid_in_one_go():
    """What it takes to lay orders for each of many workers grows with their number, and not with its square."""
    wanted = {"web": expand(web(replicas=5000))}
    orders = added((), *(StayDown("web", key) for key in wanted["web"].workers))
    orders = added(orders, *(RestartAsked("web", 1, key) for key in wanted["web"].workers))
    result = apply(wanted, orders)["web"]
    assert (len(result.workers), len(result.down)) == (0, 5000)
    assert len(drift("web", orders, wanted)) == 6


# --------------------------------------------------------------------------------------------------------- roll back


def test_a_set_is_rolled_back():
    """An earlier revision runs in the place of the file's, but for its size; until the file is edited."""
    first, second = web("v1", replicas=1), web("v2", replicas=2)
    scene = Scene(second)
    back = RolledBack("web", 1, first, second)
    lay(scene, back)
    assert scene.alive() == {"web-0": "v1", "web-1": "v1"}
    assert scene.status().sets[0].drift == ("rolled back to revision 1",)
    scene.want(web("v2", replicas=2), web("other") and attrs.evolve(web("other"), name="other"))
    assert scene.alive()["web-0"] == "v1"
    scene.want(web("v3", replicas=2))
    assert scene.alive() == {"web-0": "v3", "web-1": "v3"}
    assert scene.engine.overrides == ()


# ------------------------------------------------------------------------------------------------------ the overrides


def test_overrides_of_a_set_that_was_never_seen_wait():
    """What was remembered of a set whose file is bad at the start holds when the file is mended."""
    down, scale, paused = StayDown("web"), Scale("web", 3, 1), Paused("web")
    wanted = {"web": expand(web(replicas=1))}
    assert still_meant((down, scale, paused), {}, {}) == (down, scale, paused)
    assert still_meant((down, scale, paused), {}, wanted) == (down, scale, paused)
    assert still_meant((down, scale, paused), wanted, {}) == (down,)
    assert still_meant((scale,), {}, {"web": expand(web(replicas=2))}) == ()


def test_only_what_is_meant_is_taken_back():
    """Taking back one for a worker leaves those of others, and one for a set takes those of its workers along."""
    overrides = (StayDown("web"), StayDown("web", "web-1"), StayDown("db"), Paused("web"))
    assert without(overrides, StayDown, [("web", "web-1")]) == (StayDown("web"), StayDown("db"), Paused("web"))
    assert without(overrides, StayDown, [("web", None)]) == (StayDown("db"), Paused("web"))


def test_drift_is_a_phrase_for_each_override():
    """What is run otherwise than the file says is said in words."""
    sourced = {"web": expand(web(replicas=2))}
    overrides = (Scale("web", 5), Paused("web"), StayDown("web"), StayDown("db"), RestartAsked("web", 1))
    assert drift("web", overrides, sourced) == ("replicas 5 instead of 2", "rollout paused", "stopped")


# ----------------------------------------------------------------------------------------------------------- explain


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, ("nothing", "UpToDate")),
        ({"rollout": Rollout(strategy="on_delete")}, {"command": ("v2",)}, ("nothing", "OnDelete")),
        ({"min_ready": 5.0}, {}, ("nothing", "MinReady")),
    ],
)
def test_a_worker_is_explained(before, after, expected):
    """Why nothing is done with a worker is said by a rule."""
    scene = Scene(web(**before))
    scene.edit(**after)
    assert why(scene) == [expected]


def test_a_budget_is_explained():
    """While one worker is replaced, those that wait for it say so, and the one that stops says until when."""
    scene = Scene(web("v1", replicas=2))
    scene.hold()
    scene.edit(command=("v2",))
    assert why(scene, "web-0") == [("nothing", "BudgetUsed")]
    assert why(scene, "web-1") == [("nothing", "Outdated")]
    view = scene.engine.view()
    assert [one.deadline for one in explain(view, "web", "web-1", 0.0)] == [5.0]


def test_every_reason_has_a_meaning():
    """Each rule that is given is one of those that are explained."""
    scene = Scene(web("v1", replicas=3, rollout=rolling(max_surge=1, max_unavailable=0)))
    for change in ({"command": ("v2",)}, {"replicas": 1}, {"suspend": True}, {"suspend": False}):
        scene.edit(**change)
        for key in ("web-0", "web-1", "web-2"):
            assert {rule for _, rule in why(scene, key)} <= RULES.keys()


def test_conditions_give_reasons():
    """The conditions of a set say by their reasons why they are false."""
    scene = Scene(web("v1", replicas=2, min_ready=5.0))
    assert facts(scene) == {"SpecAccepted": True, "Ready": "TooFew", "UpToDate": "Outdated", "Progressing": True}
    scene.advance(10.0)
    assert set(facts(scene).values()) == {True}
    (first, second) = conditions.of_worker(scene.engine.view(), "web", "web-0")
    assert (first.type, first.status, second.type, second.status) == ("Ready", True, "UpToDate", True)
    rejected = next(conditions.of_set(scene.engine.view(), "web", ["it is bad"]))
    assert (rejected.type, rejected.status, rejected.message) == ("SpecAccepted", False, "it is bad")
