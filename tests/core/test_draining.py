"""What comes before the stop signal."""

from core.scene import Scene, web

from reconciler.core.observation import Drained
from reconciler.core.spec import Drain, Stop


def draining(command=(), **settings):
    """A scene with one worker that drains before it is asked to end, and never says by itself that it has."""
    scene = Scene(web(stop=Stop(timeout=5.0, drain=Drain(command=command, **settings))))
    scene.driver.on_drain = lambda process: None
    return scene


def signals(scene):
    """The signals that the only process got."""
    return scene.driver.of("web-0")[0].signals if scene.driver.of("web-0") else None


def test_a_delay():
    """The signal comes after the delay, and meanwhile the worker counts as stopping."""
    scene = draining(delay=3.0)
    scene.want()
    scene.advance(2.9)
    assert (signals(scene), scene.phases()) == ([], ["web-0 Stopping"])
    scene.advance(0.2)
    assert signals(scene) is None
    assert scene.told("web-0")[-4:] == ["worker.draining", "worker.stopping", "worker.exited", "worker.stopped"]


def test_a_command_that_ends():
    """The signal comes when the command has ended, but not before the delay is over."""
    scene = draining(("bye",), delay=3.0, timeout=20.0)
    scene.want()
    scene.advance(1.0)
    scene.driver.tell(Drained("1"))
    scene.advance(1.0)
    assert signals(scene) == []
    scene.advance(1.1)
    assert signals(scene) is None


def test_a_command_that_hangs():
    """The signal comes after the drain's timeout, and KILL after the stop's, counted from the signal."""
    scene = draining(("bye",), timeout=20.0)
    scene.driver.on_signal = lambda process, signal: signal == "KILL" and scene.driver.exit(process.uid, signal="KILL")
    scene.want()
    scene.advance(19.0)
    assert signals(scene) == []
    scene.advance(2.0)
    assert signals(scene) == ["TERM"]
    scene.advance(5.0)
    assert signals(scene) is None
    assert scene.reasons("worker.killing") == ["StopTimeout"]


def test_haste():
    """A second stop does not wait for anything."""
    scene = draining(delay=30.0)
    scene.engine.stop(0.0)
    scene.turn()
    assert signals(scene) == []
    scene.engine.stop(0.0)
    scene.turn()
    assert signals(scene) is None


def test_a_drain_that_is_edited_away():
    """Who drains is asked to end as soon as the spec no longer says that it drains."""
    scene = draining(delay=30.0)
    scene.edit(command=("v2",))
    scene.advance(1.0)
    assert scene.alive() == {"web-0": "v1"}
    scene.edit(stop=Stop(timeout=5.0))
    scene.advance(1.0)
    assert scene.alive() == {"web-0": "v2"}
