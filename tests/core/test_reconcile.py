"""Which workers are started and stopped, in which order, and what is left alone."""

import attrs
from core.scene import Scene, restart, rolling, web

from reconciler import engine
from reconciler.core.actual import Actual
from reconciler.core.observation import Lost, Spawned
from reconciler.core.reconcile import Plan, reconcile
from reconciler.core.spec import SetSpec, Stop, WorkerSet, WorkerSpec, expand


def named(name, order=0, **settings):
    """A set of this name."""
    return SetSpec(name=name, command=("v1",), order=order, **settings)


def test_started_in_order_stopped_in_reverse():
    """Workers start by order, name and number, and stop the other way round."""
    scene = Scene(named("b"), named("a", order=1, replicas=2), named("c", order=-1, replicas=11))
    cs = [f"c-{number}" for number in range(11)]
    assert scene.asked() == [f"start {key}" for key in [*cs, "b-0", "a-0", "a-1"]]

    scene.want()
    assert scene.asked() == [f"stop {key}" for key in ["a-1", "a-0", "b-0", *reversed(cs)]]
    assert scene.status().workers == ()


def test_scaling_touches_only_the_surplus():
    """From 2 to 5 to 3 workers, those that stay are not touched."""
    scene = Scene(web(replicas=2))
    first = scene.alive(), [p.uid for p in scene.driver.processes.values()]
    scene.asked()
    scene.edit(replicas=5)
    assert scene.asked() == ["start web-2", "start web-3", "start web-4"]
    scene.edit(replicas=3)
    assert scene.asked() == ["stop web-4", "stop web-3"]
    assert [p.uid for p in scene.driver.processes.values()] == [*first[1], "3"]
    assert scene.reasons("worker.stopped") == ["ScaledDown", "ScaledDown"]


def test_the_same_again_is_nothing():
    """A spec that is written anew with the same content does nothing and is no new generation."""
    scene = Scene(web(replicas=2))
    scene.asked()
    scene.edit()
    scene.want(web(replicas=2))
    assert scene.asked() == []
    assert scene.status().sets[0].generation == 1


def test_a_plan_is_a_value():
    """Reconciling changes nothing: asked twice, the answer is the same, and nothing has happened."""
    desired = {"web": expand(web(replicas=2))}
    actual = Actual("run-")
    actual.want(desired, 0.0)
    first, second = reconcile(desired, actual, 0.0), reconcile(desired, actual, 0.0)
    assert first == second
    assert [(one.uid, one.key, one.reason) for one in first.actions] == [
        ("run-1", "web-0", "Created"),
        ("run-2", "web-1", "Created"),
    ]
    assert actual.workers == {}


def test_nothing_wanted_nothing_planned():
    """Without worker sets there is nothing to do and nobody to wake."""
    assert reconcile({}, Actual(), 0.0) == Plan((), None)


def test_a_policy_needs_no_new_process():
    """Everything but command, cwd and env reaches the workers without a restart."""
    scene = Scene(web(replicas=2))
    scene.asked()
    scene.edit(stop=Stop(timeout=1.0), restart=restart("never"), rollout=rolling(max_unavailable=2), min_ready=1.0)
    assert scene.asked() == []
    assert scene.status().sets[0].generation == 2
    scene.edit(env={"A": "b"})
    assert scene.asked()


def test_an_order_is_a_place_in_the_row():
    """An edit of the order restarts nothing, and from then on the workers stop and are shown in their new place."""
    scene = Scene(named("a"), named("b", replicas=2))
    scene.asked()
    scene.want(named("a", order=5), named("b", replicas=2))
    assert scene.asked() == []
    assert [row.key for row in scene.status().workers] == ["b-0", "b-1", "a-0"]
    scene.engine.stop(0.0)
    scene.turn()
    assert scene.asked() == ["stop a-0", "stop b-1", "stop b-0"]


def test_an_order_edited_in_mid_rollout():
    """Workers from before and after the edit of an order are replaced in one row, from the last to the first."""
    scene = Scene(web(replicas=1, order=7))
    scene.edit(replicas=3, order=-7)
    scene.asked()
    scene.edit(command=("v2",))
    assert [one for one in scene.asked() if one.startswith("stop")] == ["stop web-2", "stop web-1", "stop web-0"]


def test_suspend():
    """A suspended set keeps its place and runs nothing; resumed, it starts again."""
    scene = Scene(web(replicas=2))
    scene.asked()
    scene.edit(suspend=True)
    assert scene.asked() == ["stop web-1", "stop web-0"]
    assert scene.reasons("worker.stopped") == ["Suspended", "Suspended"]
    assert [one.name for one in scene.status().sets] == ["web"]
    assert scene.status().converged
    scene.edit(suspend=False)
    assert scene.asked() == ["start web-0", "start web-1"]


def test_removed_while_it_waits():
    """A worker that waits for its next start is forgotten when its set is removed, and told to be stopped."""
    scene = Scene(web(restart=restart(initial=5.0)))
    scene.end("web-0")
    scene.end("web-0")
    assert scene.phases() == ["web-0 Backoff"]
    scene.want()
    assert scene.phases() == []
    assert scene.told("web-0")[-1] == "worker.stopped"
    scene.asked()
    scene.advance(100.0)
    assert scene.asked() == []


def test_wanted_again_while_it_stops():
    """A worker that is wanted again while it still stops is started when it has ended, and not before."""
    scene = Scene(web())
    scene.hold()
    scene.want()
    assert scene.phases() == ["web-0 Stopping"]
    scene.want(web())
    scene.asked()
    assert scene.phases() == ["web-0 Stopping"]
    scene.end("web-0")
    assert scene.asked() == ["start web-0"]
    assert scene.reasons("worker.starting") == ["Created", "Resumed"]


def test_a_removed_set_is_gone_and_comes_back_as_new():
    """When all of a removed set has ended nothing is remembered of it."""
    scene = Scene(web())
    scene.edit(command=("v2",))
    scene.want()
    assert scene.status().sets == ()
    scene.want(web())
    assert [(one.generation, one.converged) for one in scene.status().sets] == [(1, True)]


def test_an_empty_set_that_is_removed_and_wanted_again():
    """A set without workers can go and come back, as what it was, even while a worker of it still stops."""
    empty = WorkerSet("workers", {})
    one = WorkerSet("workers", {1: WorkerSpec(1, "d", None)})
    scene = Scene(one)
    scene.hold()
    scene.want()
    scene.want(empty)
    scene.end("1")
    assert [known.name for known in scene.status().sets] == ["workers"]


def test_keys_of_any_type():
    """Keys are the user's own: here numbers, which are ordered as numbers."""
    specs = {key: WorkerSpec(key, "d", None) for key in (2, 10, 1)}
    scene = Scene(WorkerSet("workers", specs))
    assert scene.asked() == ["start 1", "start 2", "start 10"]


def test_more_starts_than_a_turn_takes():
    """Many starts are spread over several turns, in order, so that exits and signals get their turn in between."""
    scene = Scene(web(replicas=600))
    batches = [scene.asked()]
    while scene.wake_at <= scene.clock.now:
        scene.turn()
        batches.append(scene.asked())
    assert [len(batch) for batch in batches] == [256, 256, 88]
    assert [one for batch in batches for one in batch] == [f"start web-{number}" for number in range(600)]
    assert engine.STARTS_PER_TURN == 256


def test_a_start_limit_of_a_turn_is_not_exceeded_by_workers_that_end_at_once():
    """Workers that end as soon as they start and are restarted without delay do not keep the turn for themselves."""
    scene = Scene()
    scene.driver.on_start = lambda process: (scene.driver.spawn(process.uid), scene.driver.exit(process.uid))
    scene.want(web(restart=restart(initial=0.0)))
    assert len(scene.asked()) == 256
    assert scene.wake_at == scene.clock.now


def test_a_process_that_nobody_knows_is_killed():
    """A process of an unknown uid is killed when it shows up, once, and told as a stray."""
    scene = Scene(web())
    spec = expand(web()).workers["web-0"]
    scene.driver.start("ghost", "web", spec)
    scene.turn()
    assert "ghost" not in scene.driver.processes
    (told,) = [one for one in scene.events if one.event == "worker.killing"]
    assert (told.uid, told.reason, told.key) == ("ghost", "Stray", None)


def test_a_process_that_was_believed_to_have_ended_is_killed():
    """If the driver says that an incarnation lives which was told to have ended, the relist ends it."""
    scene = Scene(web(restart=restart("never")))
    (process,) = scene.driver.of("web-0")
    scene.driver.deliver(Lost(process.uid))
    scene.turn()
    assert scene.phases() == ["web-0 Failed"]
    scene.advance(engine.RELIST)
    assert scene.driver.of("web-0") == []
    assert scene.phases() == ["web-0 Failed"]


def test_late_news_of_the_dead():
    """What is told late or twice of an incarnation that has ended changes nothing and is not told again."""
    scene = Scene(web(restart=restart("never")))
    scene.end("web-0", 1)
    before = scene.phases(), scene.told()
    scene.driver.deliver(Spawned("1", 1000))
    scene.driver.deliver(Lost("1"))
    scene.turn()
    assert (scene.phases(), scene.told()) == before


def test_an_exit_that_was_never_told_is_found():
    """The driver's list of the living is compared at intervals, and what is missing there was lost."""
    scene = Scene(web())
    scene.driver.wire = lambda observation: ()
    scene.end("web-0")
    assert scene.phases() == ["web-0 Running"]
    scene.driver.wire = lambda observation: (observation,)
    scene.advance(engine.RELIST)
    assert scene.reasons("worker.exited") == ["Lost"]
    assert scene.alive() == {"web-0": "v1"}


def test_an_engine_that_stops():
    """Stopping ends all in reverse order and wants nothing new, whatever the source says; then nothing is left."""
    scene = Scene(web(replicas=2), named("a"))
    scene.hold()
    scene.asked()
    scene.engine.stop(scene.clock.now)
    scene.want(web(replicas=9))
    assert scene.asked() == ["stop web-1", "stop web-0", "stop a-0"]
    assert set(scene.reasons("worker.stopping")) == {"ControllerStopping"}
    scene.advance(5.0)
    assert (scene.asked(), scene.engine.stopped) == (["kill web-1", "kill web-0"], False)
    scene.advance(25.0)
    assert (scene.asked(), scene.engine.stopped) == (["kill a-0"], True)


def test_an_engine_that_stops_in_haste():
    """Asked to stop twice, it kills at once, also when the second time comes before anything was stopped."""
    for turns in (0, 1):
        scene = Scene(web(replicas=2))
        scene.hold()
        scene.engine.stop(0.0)
        for _ in range(turns):
            scene.turn()
        scene.engine.stop(0.0)
        scene.turn()
        assert scene.asked()[-2:] == ["kill web-1", "kill web-0"]
        assert scene.engine.stopped


def test_idle_means_no_wakeups_but_the_relist():
    """When everything has converged, the next turn is the relist's, and it does nothing."""
    scene = Scene(web(replicas=3, min_ready=2.0), named("a"))
    scene.advance(10.0)
    assert scene.status().converged
    assert scene.engine.actual.wake_at() is None
    told = len(scene.events)
    for _ in range(5):
        assert scene.clock.now < scene.wake_at <= scene.clock.now + engine.RELIST
        scene.clock.move_to(scene.wake_at)
        scene.turn()
    assert len(scene.events) == told


def test_settled_is_all_that_can_be_had():
    """The engine is settled when each set has converged or given up, and not before."""
    scene = Scene(web(replicas=1, min_ready=2.0))
    assert not scene.engine.settled
    scene.advance(2.0)
    assert scene.engine.settled
    scene.edit(restart=restart("never"), rollout=rolling(strategy="on_delete"))
    scene.edit(command=("v2",))
    assert (scene.engine.settled, scene.status().converged) == (True, False)
    scene.driver.on_start = lambda process: scene.driver.fail(process.uid)
    scene.end("web-0")
    assert (scene.engine.settled, scene.phases()) == (True, ["web-0 Failed"])


def test_what_a_source_holds_back_stays():
    """A reading without sets leaves everything as it is."""
    scene = Scene(web())
    known = dict(scene.engine.desired)
    scene.asked()
    scene.turn(read=True)
    assert (scene.asked(), scene.engine.desired) == ([], known)
    assert attrs.asdict(scene.status(), recurse=False)["converged"]
