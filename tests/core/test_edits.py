"""What an edit does to what is already waiting."""

from core.scene import Scene, restart, rolling, web

from reconciler.core.override import Scale, StayDown, still_meant
from reconciler.core.spec import Stop, expand


def test_an_edit_shortens_a_stop():
    """A stop that is under way is over as soon as an edited timeout says, counted from when it was asked for."""
    scene = Scene(web(stop=Stop(timeout=60.0)))
    scene.hold()
    scene.want(web("v2", stop=Stop(timeout=60.0)))
    scene.advance(2.0)
    scene.edit(stop=Stop(timeout=3.0))
    assert "worker.killing" not in scene.told("web-0")
    scene.advance(1.0)
    assert "worker.killing" in scene.told("web-0")


def test_an_edit_does_not_lengthen_a_stop():
    """A timeout may only shrink."""
    scene = Scene(web(stop=Stop(timeout=3.0)))
    scene.hold()
    scene.want(web("v2", stop=Stop(timeout=3.0)))
    scene.edit(stop=Stop(timeout=60.0))
    scene.advance(3.0)
    assert "worker.killing" in scene.told("web-0")


def test_an_edit_ends_a_backoff():
    """A worker that waits for its next start does not wait longer than an edited policy says."""
    scene = Scene(web(restart=restart(initial=30.0)))
    scene.end("web-0", 1)
    scene.end("web-0", 1)
    assert scene.told("web-0")[-1] == "worker.backoff"
    scene.edit(restart=restart(initial=0.0))
    assert scene.told("web-0")[-1] == "worker.ready"


def test_rollouts_that_follow_each_other_have_one_end():
    """A rollout that another edit overtakes is told as started once, and as completed once."""
    scene = Scene(web(replicas=2, rollout=rolling(progress_deadline=5.0)))
    scene.hold()
    scene.want(web("v2", replicas=2, rollout=rolling(progress_deadline=5.0)))
    told = [one.event for one in scene.events if one.event.startswith("rollout")]
    assert told == ["rollout.started"]
    scene.want(web("v1", replicas=2, rollout=rolling(progress_deadline=5.0)))
    told = [one.event for one in scene.events if one.event.startswith("rollout")]
    assert told == ["rollout.started"]


def test_an_edited_number_ends_a_scale():
    """A scale by a signal holds over other edits, and is over when the file's own number changes or the set goes."""
    scale, down = Scale("web", 5), StayDown("web")
    before = {"web": expand(web(replicas=1))}
    assert still_meant([scale, down], before, {"web": expand(web("v2", replicas=1))}) == (scale, down)
    assert still_meant([scale, down], before, {"web": expand(web(replicas=3))}) == (down,)
    assert still_meant([scale, down], before, {}) == (down,)
