"""Jobs that have their times."""

import attrs
from core.scene import Scene, restart

from reconciler.core.override import RestartAsked, StayDown
from reconciler.core.remembered import Memory
from reconciler.core.spec import SetSpec
from reconciler.testing.serving import Metronome


def job(**settings):
    """A job that is due every ten seconds."""
    return SetSpec(name="backup", command=("run",), kind="job", schedule="every 10", min_ready=0.0, **settings)


def scheduled(spec=None):
    """A scene whose wall clock began at 1000 s, with one scheduled job."""
    scene = Scene()
    scene.engine.calendar = Metronome()
    scene.engine.clock_offset = 1000.0
    scene.want(spec or job())
    return scene


def runs(scene):
    """The runs that are alive."""
    return sorted(str(process.spec.key) for process in scene.driver.processes.values())


def skipped(scene):
    """The runs that were left out, each with the reason."""
    return [(one.extra["scheduled"], one.reason) for one in scene.events if one.event == "schedule.skipped"]


def test_each_time_is_a_run_of_its_own():
    """Nothing runs before the first time; then each run is a worker whose index is its time."""
    scene = scheduled()
    assert (runs(scene), scene.wake_at) == ([], 10.0)
    scene.advance(10.0)
    assert runs(scene) == ["backup-1010"]
    scene.end("backup-1010")
    scene.advance(10.0)
    assert runs(scene) == ["backup-1020"]
    assert scene.reasons("worker.starting") == ["Scheduled", "Scheduled"]


def test_runs_side_by_side():
    """With `allow` a run begins whatever others do."""
    scene = scheduled(job(concurrency="allow"))
    scene.advance(20.0)
    assert runs(scene) == ["backup-1010", "backup-1020"]


def test_one_after_the_other():
    """With `forbid` a run waits for the one before; of several that waited only the last is made up for."""
    scene = scheduled(job(concurrency="forbid"))
    scene.advance(35.0)
    assert runs(scene) == ["backup-1010"]
    assert skipped(scene) == [(1020, "ConcurrencyForbidden")]
    scene.end("backup-1010")
    assert runs(scene) == ["backup-1030"]


def test_a_run_that_came_too_late():
    """A run that could not begin within the starting deadline is left out."""
    scene = scheduled(job(concurrency="forbid", starting_deadline=5.0))
    scene.advance(27.0)
    scene.end("backup-1010")
    assert (runs(scene), skipped(scene)) == ([], [(1020, "StartingDeadlineExceeded")])


def test_the_new_one_in_the_place_of_the_old_one():
    """With `replace` the earlier run is ended first, and then the new one begins."""
    scene = scheduled(job(concurrency="replace"))
    scene.advance(10.0)
    scene.driver.on_signal = lambda process, signal: None
    scene.advance(10.0)
    assert runs(scene) == ["backup-1010"]
    scene.end("backup-1010", signal="TERM")
    assert runs(scene) == ["backup-1020"]


def test_histories_are_short():
    """So many runs that ended well, and so many that failed, are kept."""
    scene = scheduled(job(successful_history=2, failed_history=1, restart=restart("never")))
    for number, code in enumerate([0, 1, 0, 1, 0]):
        scene.advance(10.0)
        scene.end(f"backup-{1010 + 10 * number}", code)
    assert scene.phases() == ["backup-1030 Succeeded", "backup-1040 Failed", "backup-1050 Succeeded"]
    assert scene.status().converged


def test_a_failed_run_is_tried_again_by_its_restart_policy():
    """A job that fails is started again as the same run."""
    scene = scheduled()
    scene.advance(10.0)
    scene.end("backup-1010", 1)
    assert runs(scene) == ["backup-1010"]


def test_while_suspended_nothing_is_missed():
    """A suspended job begins no run, and what it would have done is not made up for."""
    scene = scheduled()
    scene.want(job(suspend=True))
    scene.advance(25.0)
    scene.want(job())
    assert runs(scene) == []
    scene.advance(5.0)
    assert runs(scene) == ["backup-1030"]


def test_what_was_missed_while_nobody_was_there():
    """The last time that a controller missed is made up for once, within the starting deadline."""
    memory = scheduled().engine.memory
    assert memory.schedules == {"backup": 1000.0}
    for deadline, expected in ((None, ["backup-1030"]), (8.0, ["backup-1030"]), (2.0, [])):
        scene = Scene()
        scene.engine.calendar = Metronome()
        scene.engine.clock_offset = 1035.0
        scene.engine.recall(memory)
        scene.want(job(starting_deadline=deadline))
        assert runs(scene) == expected


def test_a_clock_that_goes_back():
    """No time is run twice when the wall clock is set back."""
    scene = scheduled()
    scene.advance(10.0)
    scene.end("backup-1010")
    scene.engine.clock_offset -= 5.0
    scene.advance(5.0)
    assert runs(scene) == []
    scene.advance(10.0)
    assert runs(scene) == ["backup-1020"]


def test_an_edit_changes_later_runs_only():
    """A run that goes on keeps what it was begun with."""
    scene = scheduled()
    scene.advance(10.0)
    scene.want(attrs.evolve(job(), command=("other",)))
    scene.advance(10.0)
    assert scene.alive() == {"backup-1010": "run", "backup-1020": "other"}


def test_a_run_now():
    """A restart of a scheduled job is a run now."""
    scene = scheduled()
    scene.engine.override((RestartAsked("backup", 1),), 0.0)
    scene.turn()
    assert runs(scene) == ["backup-1000"]
    scene.end("backup-1000")
    scene.advance(5.0)
    assert runs(scene) == []


def test_stopped():
    """A stopped job ends its run, and begins none until that is taken back."""
    scene = scheduled()
    scene.advance(10.0)
    scene.engine.override((StayDown("backup"),), 10.0)
    scene.advance(15.0)
    assert runs(scene) == []


def test_a_run_that_is_stopped_is_over():
    """A run that somebody stopped does not keep the next one waiting."""
    scene = scheduled(job(concurrency="forbid"))
    scene.advance(10.0)
    (key,) = scene.engine.desired["backup"].workers
    scene.engine.override((StayDown("backup", key),), 10.0)
    scene.advance(10.0)
    assert runs(scene) == ["backup-1020"]


def test_runs_that_hang_are_not_without_number():
    """A hundred runs side by side are enough."""
    scene = scheduled(job(concurrency="allow"))
    scene.advance(1100.0)
    assert len(runs(scene)) == 100
    assert {reason for _, reason in skipped(scene)} == {"TooManyRuns"}


def test_a_clock_that_was_wrong_by_far():
    """A time that lies far ahead, as a wrong clock left it, keeps no run waiting."""
    scene = Scene()
    scene.engine.calendar = Metronome()
    scene.engine.clock_offset = 1000.0
    scene.engine.recall(Memory({}, {"backup": 1e9}))
    scene.want(job())
    scene.advance(10.0)
    assert runs(scene) == ["backup-1010"]
