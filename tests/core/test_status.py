"""What is shown of the state."""

from core.scene import Scene, restart, rolling, web

from reconciler.core.spec import SetSpec

SURGING = rolling(max_surge=1, max_unavailable=0)


def test_a_row_for_each_incarnation_in_key_order():
    """Workers are shown in the order in which they start, a surging one with both of its incarnations, oldest first."""
    scene = Scene(
        web(replicas=2, rollout=SURGING, min_ready=1.0),
        SetSpec(name="db", command=("v1",), order=-1),
    )
    scene.advance(1.0)
    scene.want(scene.engine.desired["db"].template, web("v2", replicas=2, rollout=SURGING, min_ready=1.0))
    rows = [(row.key, row.up_to_date, row.ready, row.generation) for row in scene.status().workers]
    assert rows == [
        ("db-0", True, True, 1),
        ("web-0", False, True, 1),
        ("web-1", False, True, 1),
        ("web-1", True, False, 2),
    ]


def test_pending_is_what_is_wanted_and_has_no_process():
    """A wanted worker without an incarnation, or with a stopped one only, is Pending and has no uid."""
    scene = Scene(web(replicas=2, rollout=rolling(strategy="recreate")))
    scene.hold()
    scene.edit(command=("v2",), replicas=3)
    scene.end("web-1")
    pending = [row for row in scene.status().workers if row.phase == "Pending"]
    assert [(row.key, row.uid, row.pid, row.generation) for row in pending] == [
        ("web-1", None, None, None),
        ("web-2", None, None, None),
    ]


def test_what_waits_says_for_how_long():
    """A worker in Backoff has no pid, and says since when and until when it waits."""
    scene = Scene(web(restart=restart(initial=4.0)))
    scene.end("web-0", 1)
    scene.end("web-0", 1)
    (row,) = scene.status().workers
    assert (row.phase, row.reason, row.pid, row.retry_at, row.since) == ("Backoff", "CrashLoopBackOff", None, 4.0, 0.0)
    scene.clock.move_to(4.0)
    scene.turn()
    assert scene.status().workers[0].retry_at is None


def test_restarts_are_those_since_the_spec_was_changed():
    """Each start anew after an end counts once, as soon as it happens; an edit of the command begins at 0."""
    scene = Scene(web(restart=restart(initial=1.0)))
    counts = []
    for _ in range(3):
        scene.end("web-0", 1)
        counts.append(scene.status().workers[0].restarts)
        scene.advance(10.0)
    assert (counts, scene.status().workers[0].restarts) == ([1, 1, 2], 3)
    scene.edit(command=("v2",))
    assert scene.status().workers[0].restarts == 0


def test_a_set_says_how_far_it_is():
    """A set shows how many are wanted, serve, are up to date and have failed, and whether it has converged."""
    scene = Scene(web(replicas=3, restart=restart("never")))
    scene.end("web-1", 1)
    (row,) = scene.status().sets
    assert (row.replicas, row.available, row.updated, row.failed, row.converged) == (3, 2, 2, 1, False)
    assert not scene.status().converged
    scene.edit(restart=restart("always"))
    (row,) = scene.status().sets
    assert (row.generation, row.observed_generation, row.failed, row.converged) == (2, 2, 0, True)
    assert scene.status().converged


def test_a_snapshot_stays_as_it_is():
    """What was taken once does not change with the world."""
    scene = Scene(web())
    before = scene.status()
    scene.edit(replicas=3)
    assert len(before.workers) == 1
    assert (before.stopping, scene.status().stopping) == (False, False)
    scene.engine.stop(0.0)
    assert scene.status().stopping
