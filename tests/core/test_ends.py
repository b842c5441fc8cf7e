"""What follows an end, asked for or not, and a start or stop that is not answered."""

import pytest
from core.scene import Scene, restart, rolling, web

from reconciler.core.lifecycle import KILL_ANSWER, START_ANSWER
from reconciler.core.spec import Stop


def test_the_first_restart_is_immediate():
    """A worker whose history is clear is started again in the same turn; from then on it waits."""
    scene = Scene(web(restart=restart()))
    scene.asked()
    scene.end("web-0", 1)
    assert (scene.asked(), scene.phases()) == (["start web-0"], ["web-0 Running"])
    scene.end("web-0", 0)
    assert (scene.asked(), scene.phases()) == ([], ["web-0 Backoff"])
    assert scene.wake_at == 1.0
    scene.advance(1.0)
    assert scene.asked() == ["start web-0"]


def test_the_waits_grow_and_a_long_run_clears_them():
    """Each further end doubles the wait up to the maximum, and a run of `reset_after` begins anew."""
    scene = Scene(web(restart=restart(max=5.0, reset_after=20.0)))
    waits = []
    for _ in range(5):
        scene.end("web-0")
        ended = scene.clock.now
        while not scene.driver.of("web-0"):
            scene.clock.move_to(scene.wake_at)
            scene.turn()
        waits.append(scene.clock.now - ended)
    assert waits == [0.0, 1.0, 2.0, 4.0, 5.0]
    scene.advance(20.0)
    scene.asked()
    scene.end("web-0")
    assert scene.asked() == ["start web-0"]
    assert scene.status().workers[0].restarts == 6


def test_start_error_and_crash_loop():
    """What could not be started and what crashed are told apart; both wait and are tried again."""
    scene = Scene(web(restart=restart()))
    scene.driver.on_start = lambda process: scene.driver.fail(process.uid, "exec", 13, "not executable")
    scene.end("web-0", 1)
    assert [(row.phase, row.reason) for row in scene.status().workers] == [("Backoff", "StartError")]
    (told,) = [one for one in scene.events if one.event == "worker.start_failed"]
    assert dict(told.extra) == {"stage": "exec", "errno": 13, "message": "not executable"}
    scene.driver.on_start = lambda process: (scene.driver.spawn(process.uid), scene.driver.exit(process.uid, 1))
    scene.advance(2.0)
    assert [(row.phase, row.reason) for row in scene.status().workers] == [("Backoff", "CrashLoopBackOff")]


def test_the_start_limit():
    """After `burst` starts within the interval the next end is final, until the set is edited."""
    scene = Scene(web(restart=restart(initial=0.0, limit=(3, 10.0))))
    for _ in range(3):
        assert scene.phases() == ["web-0 Running"]
        scene.end("web-0", 1)
    assert [(row.phase, row.reason) for row in scene.status().workers] == [("Failed", "StartLimitHit")]
    scene.asked()
    scene.advance(1000.0)
    assert scene.asked() == []
    scene.edit(min_ready=1.0)
    assert (scene.asked(), scene.reasons("worker.starting")[-1]) == (["start web-0"], "Retried")


def test_a_slow_crash_does_not_meet_the_start_limit():
    """Starts that are further apart than the interval are not counted together."""
    scene = Scene(web(restart=restart(initial=0.0, limit=(2, 10.0))))
    for _ in range(5):
        scene.advance(6.0)
        scene.end("web-0", 1)
        assert scene.phases() == ["web-0 Running"]


@pytest.mark.parametrize(
    ("policy", "exit_code", "phase", "told"),
    [
        ("never", 0, "Succeeded", "worker.succeeded"),
        ("never", 1, "Failed", "worker.failed"),
        ("on_failure", 3, "Succeeded", "worker.succeeded"),
        ("on_failure", 1, "Running", "worker.ready"),
        ("always", 0, "Running", "worker.ready"),
    ],
)
def test_the_policies(policy, exit_code, phase, told):
    """`never`, `on_failure` and `always`, with 0 and 3 as the exit codes of success."""
    scene = Scene(web(restart=restart(policy, codes=(0, 3))))
    scene.end("web-0", exit_code)
    scene.advance(100.0)
    assert (scene.phases(), scene.told("web-0")[-1]) == ([f"web-0 {phase}"], told)


def test_an_unrelated_edit_runs_no_job_again():
    """A job that ends after its set was edited in some other way has still ended for good."""
    scene = Scene(web(replicas=1, restart=restart("never")))
    scene.edit(replicas=2)
    scene.end("web-0", 1)
    scene.end("web-1", 0)
    scene.asked()
    scene.advance(100.0)
    assert (scene.asked(), scene.phases()) == ([], ["web-0 Failed", "web-1 Succeeded"])


def test_what_an_edit_gives_another_chance():
    """A new generation tries again what failed; what succeeded only if it is now to run always."""
    scene = Scene(web(replicas=2, restart=restart("never")))
    scene.end("web-0", 1)
    scene.end("web-1", 0)
    scene.asked()
    scene.edit(min_ready=1.0)
    assert scene.asked() == ["start web-0"]
    scene.edit(restart=restart("always"))
    assert scene.asked() == ["start web-1"]


def test_an_edit_of_the_command_runs_everything_again():
    """What has ended for good from an older command runs from the new one, and its old record goes."""
    scene = Scene(web(replicas=2, restart=restart("never")))
    scene.end("web-0", 1)
    scene.end("web-1", 0)
    scene.edit(command=("v2",))
    assert scene.alive() == {"web-0": "v2", "web-1": "v2"}
    assert len(scene.status().workers) == 2


def test_forgotten():
    """What has ended for good is shown until it is no longer wanted, and its going is told."""
    scene = Scene(web(replicas=2, restart=restart("never")))
    scene.end("web-1", 0)
    scene.edit(replicas=1)
    assert scene.told("web-1")[-2:] == ["worker.succeeded", "worker.forgotten"]
    assert scene.phases() == ["web-0 Running"]


def test_a_stop_that_is_ignored():
    """After the timeout comes KILL, and then KILL again as long as nothing happens; no twin is started meanwhile."""
    scene = Scene(web())
    scene.driver.on_signal = lambda process, signal: None
    scene.asked()
    scene.edit(command=("v2",))
    assert scene.asked() == ["stop web-0"]
    scene.advance(4.9)
    assert scene.asked() == []
    scene.advance(0.1)
    assert (scene.asked(), scene.driver.of("web-0")[0].signals) == (["kill web-0"], ["TERM", "KILL"])
    scene.advance(3 * KILL_ANSWER)
    assert scene.reasons("worker.killing") == ["StopTimeout", *["Unkillable"] * 3]
    assert [row.reason for row in scene.status().workers] == ["Unkillable"]
    scene.asked()
    scene.end("web-0", signal="KILL")
    assert scene.asked() == ["start web-0"]


def test_no_time_to_stop():
    """`timeout = 0` kills at once after the signal."""
    scene = Scene(web(stop=Stop(timeout=0.0)))
    scene.hold()
    scene.want()
    assert scene.told("web-0")[-4:] == ["worker.stopping", "worker.killing", "worker.exited", "worker.stopped"]


def test_a_start_that_is_never_answered():
    """After `START_ANSWER` it is killed, and tried anew as soon as the driver says that it is gone."""
    scene = Scene()
    scene.driver.on_start = lambda process: None
    scene.want(web())
    scene.advance(START_ANSWER)
    assert scene.asked() == ["start web-0", "kill web-0"]
    assert scene.phases() == ["web-0 Stopping"]
    scene.driver.on_start = lambda process: scene.driver.spawn(process.uid)
    scene.answer("web-0")
    assert scene.asked() == ["start web-0"]
    assert scene.phases() == ["web-0 Running"]


def test_stopped_while_it_starts():
    """A worker that is no longer wanted before its start is answered is stopped once it runs, or fails to."""
    for answer, told in [
        (lambda scene, uid: scene.driver.spawn(uid), ["worker.started", "worker.exited", "worker.stopped"]),
        (lambda scene, uid: scene.driver.fail(uid), ["worker.start_failed", "worker.stopped"]),
    ]:
        scene = Scene()
        scene.driver.on_start = lambda process: None
        scene.want(web())
        scene.want()
        answer(scene, "1")
        scene.turn()
        assert scene.told("web-0") == ["worker.starting", "worker.stopping", *told]
        assert scene.status().workers == ()


def test_an_expected_end_is_no_failure():
    """Workers that are replaced end as they were asked to; that neither waits nor counts as a restart."""
    scene = Scene(web(restart=restart(initial=50.0)))
    for version in ("v2", "v3", "v4"):
        scene.edit(command=(version,))
    assert scene.alive() == {"web-0": "v4"}
    assert [one.extra["expected"] for one in scene.events if one.event == "worker.exited"] == [True] * 3
    assert scene.status().workers[0].restarts == 0


def test_min_ready():
    """A worker counts as ready when it has lived long enough, and one that ends before starts anew."""
    scene = Scene(web(min_ready=5.0))
    assert (scene.wake_at, scene.status().workers[0].ready) == (5.0, False)
    scene.advance(4.0)
    scene.end("web-0", 1)
    scene.advance(4.0)
    assert not scene.status().workers[0].ready
    scene.advance(1.0)
    assert scene.status().workers[0].ready


@pytest.mark.parametrize(("edited", "ready_at"), [(0.0, 1.0), (3.0, 3.0), (10.0, 10.0)])
def test_min_ready_edited_while_it_counts(edited, ready_at):
    """An edit of `min_ready` reaches workers that are not yet ready."""
    scene = Scene(web(min_ready=5.0))
    scene.advance(1.0)
    scene.edit(min_ready=edited)
    while not scene.status().workers[0].ready:
        assert scene.clock.now < ready_at
        scene.advance(0.5)
    assert scene.clock.now == ready_at


def test_leftovers_are_told():
    """Processes of the group that outlived the leader are told with its exit."""
    scene = Scene(web())
    scene.driver.exit("1", 1, leftovers=2)
    scene.turn()
    (told,) = [one for one in scene.events if one.event == "worker.exited"]
    assert (told.extra["leftovers"], told.extra["exit_code"], told.reason) == (2, 1, "Error")


def test_one_bad_worker_never_delays_another():
    """While one worker waits or hangs, the others of its set are dealt with as ever."""
    scene = Scene(web(replicas=3, restart=restart(initial=30.0), rollout=rolling(max_unavailable=3)))
    scene.end("web-1", 1)
    scene.end("web-1", 1)
    scene.asked()
    scene.end("web-0", 1)
    assert scene.asked() == ["start web-0"]
    scene.edit(replicas=4)
    assert scene.asked() == ["start web-3"]


def test_an_address_in_use_is_tried_again():
    """A socket that cannot be had ends no worker for good, and is tried again every five seconds at the latest."""
    scene = Scene(web(restart=restart("never", limit=(1, 100.0), initial=30.0)))
    scene.driver.on_start = lambda process: scene.driver.fail(process.uid, "socket", 98, "in use")
    scene.edit(command=("v2",))
    scene.advance(60.0)
    assert scene.told().count("worker.start_failed") > 10
    assert scene.phases() == ["web-0 Backoff"]
