"""What an operator asked for, laid over what is desired."""

import itertools

from core.scene import Scene, web

from reconciler.core.override import RestartAsked, Scale, StayDown, added, apply, replaced, step_of, stopped_by
from reconciler.core.spec import WorkerSet, WorkerSpec, expand

WEB = expand(web(replicas=3))
LIBRARY = WorkerSet("workers", {key: WorkerSpec(key, "d", None) for key in (1, 2)})


def keys(wanted, name="web"):
    """The keys of a set."""
    return [str(key) for key in wanted[name].workers]


def test_nothing_asked_changes_nothing():
    """Without overrides the sets are the very same objects."""
    assert apply({"web": WEB}, ())["web"] is WEB


def test_scale():
    """A set from a spec file runs as many as asked for; what is not scaled keeps its digest."""
    more = apply({"web": WEB}, [Scale("web", 5)])
    assert keys(more) == ["web-0", "web-1", "web-2", "web-3", "web-4"]
    assert more["web"].workers["web-0"] == WEB.workers["web-0"]
    assert keys(apply({"web": WEB}, [Scale("web", 0)])) == []


def test_a_suspended_set_is_not_woken_by_scale():
    """`suspend` in the file is stronger than a number."""
    assert keys(apply({"web": expand(web(suspend=True))}, [Scale("web", 5)])) == []


def test_a_set_without_a_file_cannot_be_scaled():
    """What `update` returned is what there is."""
    assert apply({"workers": LIBRARY}, [Scale("workers", 5)])["workers"] is LIBRARY


def test_stay_down():
    """One worker, or all of a set, are not wanted until the override is taken back."""
    assert keys(apply({"web": WEB}, [StayDown("web", "web-1")])) == ["web-0", "web-2"]
    assert keys(apply({"web": WEB}, [StayDown("web")])) == []
    assert keys(apply({"workers": LIBRARY}, [StayDown("workers", 2)]), "workers") == ["1"]


def test_restart_asked():
    """One worker, or all of a set, get another digest, and a different one each time that it is asked."""
    once, twice = (apply({"web": WEB}, [RestartAsked("web", serial, "web-1")])["web"].workers for serial in (1, 2))
    assert once["web-0"] == WEB.workers["web-0"]
    digests = [WEB.workers["web-1"].digest, once["web-1"].digest, twice["web-1"].digest]
    assert all(one != other for one, other in itertools.combinations(digests, 2))
    everyone = apply({"web": WEB}, [RestartAsked("web", 1)])["web"].workers
    assert all(everyone[key].digest != spec.digest for key, spec in WEB.workers.items())


def test_overrides_are_laid_on_in_their_order():
    """In whatever order they were asked for, a worker that a scale makes can be kept down."""
    expected = ["web-0", "web-1", "web-2", "web-3"]
    assert keys(apply({"web": WEB}, [Scale("web", 5), StayDown("web", "web-4")])) == expected
    assert keys(apply({"web": WEB}, [StayDown("web", "web-4"), Scale("web", 5)])) == expected


def test_an_unknown_set_is_no_error():
    """What was asked of a set that is not there waits until it is."""
    assert apply({"web": WEB}, [Scale("db", 2), StayDown("db"), RestartAsked("db", 1)]) == {"web": WEB}


def test_verbs_act_through_the_plan():
    """Scaling, holding down and restarting reach the workers as any other change does, and can be taken back."""
    scene = Scene(web(replicas=2))
    scene.asked()
    for overrides, asked in [
        ([Scale("web", 3)], ["start web-2"]),
        ([Scale("web", 3), StayDown("web", "web-0")], ["stop web-0"]),
        ([Scale("web", 3), RestartAsked("web", 1, "web-2")], ["start web-0", "stop web-2", "start web-2"]),
        ([Scale("web", 3), RestartAsked("web", 1, "web-2")], []),
        ([], ["stop web-2"]),
    ]:
        scene.engine.override(overrides, scene.clock.now)
        scene.turn()
        assert scene.asked() == asked
    assert scene.status().converged


def test_everything_replaced_at_once():
    """To replace everything asks for all sets anew, each time once, and starts all new ones before old ones stop."""
    first = replaced((Scale("web", 2),), {"web": WEB}, 1)
    again = replaced(first, {"web": WEB}, 2)
    assert again == (Scale("web", 2), RestartAsked("web", 2, at_once=True))
    wanted = apply({"web": WEB}, again)["web"]
    assert all(spec.digest != WEB.workers[key].digest for key, spec in wanted.workers.items())
    assert wanted.at_once
    assert wanted.policy == WEB.policy


def test_a_scale_replaces_nothing_that_was_replaced():
    """A scale takes the place of an earlier one, and leaves the digests of what was asked to restart."""
    before = (Scale("web", 2), RestartAsked("web", 7))
    after = added(before, Scale("web", 3))
    assert after == (RestartAsked("web", 7), Scale("web", 3))
    one, other = (apply({"web": WEB}, overrides)["web"].workers for overrides in (before, after))
    assert one["web-0"] == other["web-0"]


def test_a_step_needs_one_set_with_a_file():
    """One more or fewer is meant where there is just one set that has a number, and never less than none."""
    assert step_of({"web": WEB}, 1) == Scale("web", 4)
    assert step_of({"web": WEB}, -5) == Scale("web", 0)
    assert step_of({"web": WEB, "workers": LIBRARY}, 1) is None
    assert step_of({"workers": LIBRARY}, 1) is None


def test_another_stop_signal():
    """A set can be stopped by another signal than its policy's, and by nothing else of it changed."""
    quiet = stopped_by(WEB, "INT")
    assert quiet.policy.stop.signal == "INT"
    assert (quiet.workers, quiet.policy.rollout) == (WEB.workers, WEB.policy.rollout)


def test_replacing_all_is_a_rollout_of_the_whole_set():
    """A controller that replaces all starts the new ones first, at each urgent reading that has an answer."""
    scene = Scene(web(replicas=2))
    scene.engine.replace_all = True
    before = set(scene.driver.processes)
    scene.asked()
    scene.engine.turn(scene.clock.now, urgent=True)
    scene.advance(1.0)
    assert len(scene.driver.processes) == 2
    assert before.isdisjoint(scene.driver.processes)
    assert [what.split()[0] for what in scene.asked()] == ["start", "start", "stop", "stop"]
