"""Sets that need others."""

import attrs
import pytest
from core.scene import Scene, restart

from reconciler.core.conditions import of_set
from reconciler.core.explain import explain
from reconciler.core.jobs import fingerprint
from reconciler.core.observation import Ready
from reconciler.core.remembered import Memory
from reconciler.core.spec import Dependency, SetSpec
from reconciler.core.spec import Ready as Readiness

TOLD = Readiness(notify=True, timeout=0.0)


def named(name, *needs, **settings):
    """A set with this name that needs others: names, or dependencies."""
    needed = tuple(Dependency(set=one) if isinstance(one, str) else one for one in needs)
    return SetSpec(name=name, command=("v1",), depends_on=needed, min_ready=0.0, **settings)


def ready(scene, key):
    """The worker says that it can serve."""
    scene.driver.tell(Ready(scene.driver.of(key)[-1].uid))
    scene.turn()


def test_a_service_waits_for_another_to_be_ready():
    """It starts when all workers of what it needs are ready, and says meanwhile what it waits for."""
    scene = Scene(named("db", replicas=2, ready=TOLD), named("web", "db"))
    ready(scene, "db-0")
    assert sorted(scene.alive()) == ["db-0", "db-1"]
    assert [row.rule for row in explain(scene.engine.view(), "web", "web-0", 0.0)] == ["WaitsForDependency"]
    found = {one.type: one for one in of_set(scene.engine.view(), "web")}["DependenciesMet"]
    assert (found.status, found.message) == (False, "db must be ready")
    ready(scene, "db-1")
    assert sorted(scene.alive()) == ["db-0", "db-1", "web-0"]


def test_started_is_enough_where_that_is_asked():
    """`started` waits for the processes, and not for what they say."""
    scene = Scene(named("db", ready=TOLD), named("web", Dependency(set="db", condition="started")))
    assert sorted(scene.alive()) == ["db-0", "web-0"]


def test_a_job_comes_first():
    """What needs a job waits until it has ended well, anew after each edit of it."""
    job, web = named("migrate", kind="job"), named("web", "migrate")
    scene = Scene(job, web)
    assert sorted(scene.alive()) == ["migrate-0"]
    scene.end("migrate-0", 0)
    assert sorted(scene.alive()) == ["web-0"]
    scene.want(attrs.evolve(job, command=("v2",)), attrs.evolve(web, command=("v2",)))
    scene.advance(20.0)
    assert scene.alive() == {"migrate-0": "v2", "web-0": "v1"}
    scene.end("migrate-0", 0)
    scene.advance(5.0)
    assert scene.alive() == {"web-0": "v2"}


def test_a_job_that_fails_keeps_others_waiting():
    """A job that fails is tried again with a growing wait; what needs it waits as long."""
    scene = Scene(named("migrate", kind="job", restart=restart(initial=1.0)), named("web", "migrate"))
    for _ in range(3):
        scene.end("migrate-0", 1)
        scene.advance(10.0)
    assert sorted(scene.alive()) == ["migrate-0"]
    scene.end("migrate-0", 0)
    assert sorted(scene.alive()) == ["web-0"]


def test_what_goes_down_later_takes_nobody_with_it():
    """Whoever runs goes on; only new starts wait."""
    scene = Scene(named("db", restart=restart(initial=50.0)), named("web", "db", restart=restart(initial=0.0)))
    scene.end("db-0", 1)
    scene.end("db-0", 1)
    assert sorted(scene.alive()) == ["web-0"]
    scene.end("web-0", 1)
    assert sorted(scene.alive()) == []
    scene.advance(60.0)
    assert sorted(scene.alive()) == ["db-0", "web-0"]


def test_restart_with():
    """Where that is asked, the return of what is needed restarts those who need it, and its first coming does not."""
    scene = Scene(named("db"), named("web", Dependency(set="db", restart_with=True)))
    first = scene.driver.of("web-0")[0].uid
    scene.end("db-0", 1)
    scene.advance(1.0)
    assert scene.driver.of("web-0")[0].uid != first
    assert [one.extra["needs"] for one in scene.events if one.event == "dependency.restarted"] == ["db"]


def test_stops_go_in_reverse():
    """What is needed by others that go, too, is stopped when they are gone."""
    scene = Scene(named("db"), named("cache", "db"), named("web", "cache", "db"))
    scene.hold()
    scene.engine.stop(0.0)
    scene.turn()
    assert scene.asked()[-1] == "stop web-0"
    for key, after in (("web-0", "stop cache-0"), ("cache-0", "stop db-0")):
        scene.end(key)
        assert scene.asked() == [after]
    scene.end("db-0")
    assert scene.engine.stopped


def test_a_second_stop_goes_all_at_once():
    """In haste nobody waits for anybody."""
    scene = Scene(named("db"), named("web", "db"))
    scene.hold()
    for _ in range(2):
        scene.engine.stop(0.0)
        scene.turn()
    assert scene.engine.stopped


def test_only_the_one_that_is_needed_goes():
    """A set that is removed while others that need it stay is stopped; they run on."""
    scene = Scene(named("db"), named("web", "db"))
    scene.want(named("web", "db"))
    assert sorted(scene.alive()) == ["web-0"]


def test_waiting_is_settled_when_nothing_will_come():
    """What waits for something that failed for good has settled, and is not converged."""
    scene = Scene(named("migrate", kind="job", restart=restart("never")), named("web", "migrate"))
    assert not scene.engine.settled
    scene.end("migrate-0", 1)
    assert scene.engine.settled
    assert not scene.status().converged


def test_a_job_that_was_done_is_remembered():
    """A job whose version was done under an earlier controller is not run again, but an edited one is."""
    job = named("migrate", kind="job")
    first = Scene(job)
    first.end("migrate-0", 0)
    memory = first.engine.memory
    assert memory.done == {"migrate": {"migrate-0": fingerprint(job.process)}}
    second = Scene(job, named("web", "migrate"), memory=memory)
    assert sorted(second.alive()) == ["web-0"]
    assert second.phases() == ["migrate-0 Succeeded", "web-0 Running"]
    third = Scene(attrs.evolve(job, command=("v2",)), memory=memory)
    assert sorted(third.alive()) == ["migrate-0"]


def test_nothing_is_remembered_of_services():
    """What is no job leaves nothing behind."""
    assert Scene(named("web")).engine.memory == Memory()


@pytest.mark.parametrize("meanwhile", [{"suspend": True}, {"replicas": 0}])
def test_a_job_that_rests_is_not_done_again(meanwhile):
    """A job that was done stays so over a suspension and a scale to none."""
    job = named("migrate", kind="job")
    scene = Scene(job)
    scene.end("migrate-0", 0)
    scene.want(attrs.evolve(job, **meanwhile))
    scene.want(job)
    assert (scene.alive(), scene.phases()) == ({}, ["migrate-0 Succeeded"])


def test_a_job_that_is_gone_is_forgotten():
    """A job that was deleted runs again when it comes back; one that is only not read yet does not."""
    job = named("migrate", kind="job")
    first = Scene(job)
    first.end("migrate-0", 0)
    second = Scene()
    second.engine.recall(first.engine.memory)
    second.want(named("web"))  # the file of the job is bad
    assert second.engine.memory == first.engine.memory
    first.want()
    first.want(job)
    assert sorted(first.alive()) == ["migrate-0"]


def test_a_job_gives_up():
    """A job that fails again and again is not tried more than seven times."""
    scene = Scene(named("migrate", kind="job", restart=restart(initial=0.0)))
    for _ in range(7):
        scene.end("migrate-0", 1)
    assert scene.phases() == ["migrate-0 Failed"]


def test_a_job_becomes_a_service():
    """A job that runs is ready when it is said to be a service, and a service that is said to be a job is not."""
    scene = Scene(named("it", kind="job"))
    assert [row.ready for row in scene.status().workers] == [False]
    scene.want(named("it"))
    assert [row.ready for row in scene.status().workers] == [True]
    scene.want(named("it", kind="job"))
    assert [row.ready for row in scene.status().workers] == [False]
    assert scene.asked() == ["start it-0"]


def test_a_circle_of_needs_can_be_looked_at():
    """Sets that need each other, as an override may make them, wait for each other, and that is said."""
    scene = Scene(named("a", "b"), named("b", "a"))
    assert scene.engine.settled
    assert not scene.status().converged
    scene.engine.stop(0.0)
    scene.turn()
    assert scene.engine.stopped
