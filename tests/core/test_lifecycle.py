"""The table of phases and observations."""

import itertools

import attrs
import pytest
from core.scene import restart
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core import lifecycle, observation
from reconciler.core.action import Start
from reconciler.core.health import NONE, PLAIN, Answers, Health
from reconciler.core.lifecycle import TABLE, observe
from reconciler.core.observation import (
    OBSERVATIONS,
    Adopted,
    Drained,
    DrainRequested,
    Elapsed,
    Exited,
    KillRequested,
    Lost,
    Notice,
    NotReady,
    ProbeAsked,
    Probed,
    Ready,
    ResetAsked,
    Spawned,
    SpawnFailed,
    StopRequested,
)
from reconciler.core.spec import Policy, Probe, Probes, Restart, StartLimit, WorkerSpec
from reconciler.core.worker import LIVE, End, History, Phase, Worker

SPEC = WorkerSpec("web-0", "d", None)
TIMES = st.floats(0, 1000)
EXITS = st.builds(Exited, st.just("u"), st.integers(0, 255), st.none(), st.integers(0, 3))
DEATHS = st.builds(Exited, st.just("u"), st.none(), st.sampled_from(["KILL", "SEGV"]), st.just(0))
KINDS = st.sampled_from(["startup", "readiness", "liveness"])
SEEN = {
    Spawned: st.builds(Spawned, st.just("u"), st.integers(2, 9)),
    SpawnFailed: st.builds(SpawnFailed, st.just("u"), st.just("exec"), st.sampled_from([2, None]), st.just("no")),
    Ready: st.builds(Ready, st.just("u")),
    NotReady: st.builds(NotReady, st.just("u"), st.just("ProbeFailed")),
    Exited: EXITS | DEATHS,
    Lost: st.builds(Lost, st.just("u")),
    Adopted: st.builds(Adopted, st.just("u"), st.integers(2, 9)),
    StopRequested: st.builds(StopRequested, st.just("u"), st.just("TERM"), TIMES, st.just("Removed")),
    KillRequested: st.builds(KillRequested, st.just("u"), st.sampled_from(sorted(lifecycle.KILLS))),
    ResetAsked: st.builds(ResetAsked, st.just("u")),
    Elapsed: st.builds(Elapsed, st.just("u")),
    Notice: st.builds(
        Notice,
        st.just("u"),
        alive=st.booleans(),
        trigger=st.booleans(),
        stopping=st.booleans(),
        reloading=st.booleans(),
        extend=st.none() | TIMES,
        watchdog=st.none() | TIMES,
        status=st.none() | st.just("busy"),
    ),
    Probed: st.builds(Probed, st.just("u"), KINDS, st.booleans()),
    ProbeAsked: st.builds(ProbeAsked, st.just("u"), KINDS, TIMES),
    Drained: st.builds(Drained, st.just("u")),
    DrainRequested: st.builds(DrainRequested, st.just("u"), TIMES, TIMES, st.just("Removed")),
}
POLICIES = st.builds(
    Policy,
    ready=st.sampled_from(["alive", "notify"]),
    min_ready=st.sampled_from([0.0, 5.0]),
    probes=st.builds(
        Probes,
        startup=st.none() | st.just(Probe(tcp="1")),
        readiness=st.none() | st.just(Probe(tcp="1", failure_threshold=1)),
        liveness=st.none() | st.just(Probe(tcp="1", failure_threshold=1)),
    ),
    watchdog=st.none() | st.just(3.0),
    job=st.booleans(),
    restart=st.builds(
        Restart,
        policy=st.sampled_from(["always", "on_failure", "never"]),
        success_exit_codes=st.sampled_from([(0,), (0, 3), ()]),
        start_limit=st.none() | st.builds(StartLimit, burst=st.integers(1, 3), interval=st.just(10.0)),
    ),
)


HEALTHS = st.builds(
    Health,
    told=st.sampled_from([None, True, False]),
    started=st.booleans(),
    readiness=st.builds(Answers, good=st.sampled_from([None, True, False]), due=st.none() | TIMES),
    asking=st.none() | KINDS,
    watchdog_at=st.none() | TIMES,
    stop_by=st.none() | TIMES,
    ailment=st.sampled_from([None, None, "LivenessFailed"]),
)


@st.composite
def workers(draw, phase):
    """Any worker that can be in this phase."""
    ran = phase is Phase.RUNNING or draw(st.booleans())
    ready = phase is Phase.RUNNING and draw(st.booleans())
    return Worker(
        "u",
        "web",
        SPEC,
        draw(st.integers(1, 3)),
        phase,
        draw(TIMES),
        draw(st.builds(History, st.integers(0, 9), st.integers(0, 9), st.lists(TIMES, max_size=3).map(tuple))),
        pid=7 if ran and phase is not Phase.STARTING else None,
        started_at=draw(TIMES) if ran and phase is not Phase.STARTING else None,
        able_since=draw(TIMES if ready else st.none() | TIMES) if phase is Phase.RUNNING else None,
        ready=ready,
        reason=draw(st.sampled_from([None, "Outdated", "StopTimeout"])),
        deadline=draw(TIMES if phase in (Phase.STARTING, Phase.STOPPING) else st.none() | TIMES),
        health=NONE if phase is Phase.STARTING else draw(st.just(PLAIN) | HEALTHS),
        quit_at=draw(st.none() | TIMES) if phase is Phase.STOPPING else None,
        drains_until=draw(TIMES) if phase is Phase.STOPPING else None,
    )


def test_the_table_is_total():
    """There is an answer to every observation in every phase."""
    assert TABLE.keys() == set(itertools.product(Phase, OBSERVATIONS))


def test_every_observation_is_listed():
    """No observation of the module is missing from the list that the table is checked against."""
    declared = {one for one in vars(observation).values() if attrs.has(one)}
    assert declared == set(OBSERVATIONS)
    assert SEEN.keys() == declared


@pytest.mark.parametrize(("phase", "kind"), TABLE, ids=lambda value: getattr(value, "__name__", str(value)))
@settings(max_examples=12)
@given(data=st.data())
def test_each_cell_leads_where_it_says(phase, kind, data):
    """What comes of any worker in the phase is in a phase that the table declares, or is the same worker."""
    before = data.draw(workers(phase))
    now = data.draw(TIMES)
    after = observe(before, data.draw(SEEN[kind]), data.draw(POLICIES), now)
    targets = TABLE[phase, kind].targets
    if after is before:
        return
    assert after.phase in targets
    assert (after.uid, after.spec, after.set_name) == (before.uid, before.spec, before.set_name)
    assert after.ready <= (after.phase is Phase.RUNNING)
    assert after.phase in LIVE or after.pid == before.pid
    if after.phase in (Phase.STOPPING, Phase.BACKOFF):
        assert after.deadline is not None
    if after.phase in (Phase.SUCCEEDED, Phase.STOPPED, Phase.FAILED):
        assert after.deadline is None


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in LIVE])
def test_an_end_is_an_end(phase):
    """An incarnation that has ended never changes again, whatever comes late, but for one that somebody resets."""
    targets = {TABLE[phase, kind].targets for kind in OBSERVATIONS if kind is not ResetAsked}
    assert targets == {()}


def test_each_phase_but_stopped_can_be_reached_and_left_by_the_table():
    """Each phase is the target of some cell, and every live phase leads to an end."""
    reached = {target for (phase, _), cell in TABLE.items() for target in cell.targets if target is not phase}
    assert reached == set(Phase) - {Phase.STARTING}
    for phase in LIVE:
        ends = {target for kind in OBSERVATIONS for target in TABLE[phase, kind].targets if target not in LIVE}
        assert ends


def running(**state):
    """A worker that runs since time 0."""
    return Worker("u", "web", SPEC, 1, Phase.RUNNING, 0.0, pid=7, started_at=0.0, able_since=0.0, ready=True, **state)


@pytest.mark.parametrize(
    ("policy", "codes", "exited", "phase", "reason"),
    [
        ("always", (0,), Exited("u", 0), Phase.BACKOFF, "CrashLoopBackOff"),
        ("always", (0,), Exited("u", 1), Phase.BACKOFF, "CrashLoopBackOff"),
        ("on_failure", (0,), Exited("u", 0), Phase.SUCCEEDED, "Completed"),
        ("on_failure", (0,), Exited("u", 3), Phase.BACKOFF, "CrashLoopBackOff"),
        ("on_failure", (0, 3), Exited("u", 3), Phase.SUCCEEDED, "Completed"),
        ("on_failure", (3,), Exited("u", 0), Phase.BACKOFF, "CrashLoopBackOff"),
        ("on_failure", (0,), Exited("u", None, "KILL"), Phase.BACKOFF, "CrashLoopBackOff"),
        ("on_failure", (0,), Lost("u"), Phase.BACKOFF, "CrashLoopBackOff"),
        ("never", (0,), Exited("u", 0), Phase.SUCCEEDED, "Completed"),
        ("never", (0,), Exited("u", 1), Phase.FAILED, "Error"),
        ("never", (0, 1), Exited("u", 1), Phase.SUCCEEDED, "Completed"),
        ("never", (0,), Exited("u", None, "SEGV"), Phase.FAILED, "Error"),
        ("never", (0,), Lost("u"), Phase.FAILED, "Error"),
    ],
)
def test_the_restart_policy_decides_on_an_end(policy, codes, exited, phase, reason):
    """An end leads to another try, to success or to failure, by the policy and the exit codes that count as success."""
    after = observe(running(), exited, Policy(restart=restart(policy, codes)), 5.0)
    assert (after.phase, after.reason, after.ready) == (phase, reason, False)


@pytest.mark.parametrize(
    ("uptime", "failures", "delay"), [(1.0, 4, 4.0), (59.9, 4, 4.0), (60.0, 1, 0.0), (1000.0, 1, 0.0)]
)
def test_a_long_run_clears_the_history(uptime, failures, delay):
    """After a run of `reset_after` the next restart is immediate again; after a shorter one the delay grows."""
    worker = running(history=History(failures=3))
    after = observe(worker, Exited("u", 1), Policy(restart=restart()), uptime)
    assert (after.history.failures, after.deadline) == (failures, uptime + delay)


def test_an_end_before_the_process_was_seen_is_no_long_run():
    """A process whose existence was never told has not run long, however long ago it was asked for."""
    starting = Worker("u", "web", SPEC, 1, Phase.STARTING, 0.0, history=History(failures=2))
    after = observe(starting, Exited("u", 1), Policy(restart=restart()), 500.0)
    assert (after.history.failures, after.deadline) == (3, 502.0)


@pytest.mark.parametrize(
    ("policy", "limit", "phase", "reason"),
    [
        ("always", None, Phase.BACKOFF, "StartError"),
        ("on_failure", None, Phase.BACKOFF, "StartError"),
        ("never", None, Phase.FAILED, "StartError"),
        ("always", (1, 10.0), Phase.FAILED, "StartLimitHit"),
        ("always", (2, 10.0), Phase.BACKOFF, "StartError"),
    ],
)
def test_a_start_that_fails(policy, limit, phase, reason):
    """What could not be started is told apart from what crashed, and waits even the first time."""
    starting = Worker("u", "web", SPEC, 1, Phase.STARTING, 0.0, history=History(starts=(0.0,)))
    after = observe(starting, SpawnFailed("u", "exec", 2, "no"), Policy(restart=restart(policy, limit=limit)), 0.5)
    assert (after.phase, after.reason) == (phase, reason)
    assert after.deadline == (1.5 if phase is Phase.BACKOFF else None)


def test_stopped_says_nothing_of_health():
    """What ends because it was asked to is stopped: neither a success nor a failure, and its history stays."""
    history = History(failures=3, restarts=2)
    asked = observe(running(history=history), StopRequested("u", "TERM", 30.0, "Outdated"), Policy(), 1.0)
    for end in (Exited("u", 0), Exited("u", 1), Exited("u", None, "TERM"), Lost("u")):
        after = observe(asked, end, Policy(restart=restart("never")), 2.0)
        assert (after.phase, after.reason, after.history) == (Phase.STOPPED, "Outdated", history)
    assert observe(asked, Exited("u", None, "TERM"), Policy(), 2.0).end == End(None, "TERM")


def test_a_deadline_only_shrinks():
    """Asked to stop again, a worker is killed at the earlier of the two deadlines."""
    asked = observe(running(), StopRequested("u", "TERM", 30.0, "Outdated"), Policy(), 1.0)
    assert observe(asked, StopRequested("u", "TERM", 40.0, "Removed"), Policy(), 2.0) is asked
    sooner = observe(asked, StopRequested("u", "TERM", 10.0, "Removed"), Policy(), 2.0)
    assert (sooner.deadline, sooner.since, sooner.reason) == (10.0, 1.0, "Outdated")


def test_ready_at_once_or_after_min_ready():
    """A worker is ready as soon as it exists, or when it has lived for `min_ready`, and not before."""
    spec = Start("u", "web", SPEC, "Created")
    starting = lifecycle.begin(spec, 1, History(), 0.0)
    assert observe(starting, Spawned("u", 7), Policy(), 1.0).ready
    waiting = observe(starting, Spawned("u", 7), Policy(min_ready=5.0), 1.0)
    assert (waiting.ready, waiting.deadline) == (False, 6.0)
    assert observe(waiting, Elapsed("u"), Policy(min_ready=5.0), 5.9) is waiting
    after = observe(waiting, Elapsed("u"), Policy(min_ready=5.0), 6.0)
    assert (after.ready, after.deadline) == (True, None)


def test_ready_comes_and_goes():
    """A worker that cannot serve for a while stays the same incarnation and says why."""
    sick = observe(running(), NotReady("u", "ProbeFailed"), Policy(), 1.0)
    assert (sick.phase, sick.ready, sick.reason) == (Phase.RUNNING, False, "ProbeFailed")
    assert observe(sick, NotReady("u", "ProbeFailed"), Policy(), 2.0) is sick
    well = observe(sick, Ready("u"), Policy(), 3.0)
    assert (well.ready, well.reason) == (True, None)
    assert observe(well, Ready("u"), Policy(), 4.0) is well


def test_ready_when_it_says_so():
    """With `notify` a worker is ready when it has said so and `min_ready` has passed since, however long it lived."""
    policy = Policy(ready="notify", min_ready=5.0)
    alive = observe(
        lifecycle.begin(Start("u", "web", SPEC, "Created"), 1, History(), 0.0), Spawned("u", 7), policy, 1.0
    )
    assert (alive.phase, alive.ready, alive.deadline) == (Phase.RUNNING, False, None)
    said = observe(alive, Ready("u"), policy, 9.0)
    assert (said.ready, said.deadline) == (False, 14.0)
    assert observe(said, Ready("u"), policy, 10.0) is said
    assert observe(said, Elapsed("u"), policy, 14.0).ready
    assert observe(alive, Ready("u"), Policy(ready="notify"), 9.0).ready


def test_not_ready_while_it_was_about_to_be():
    """A worker that says it cannot serve before its `min_ready` has passed must say anew that it can."""
    policy = Policy(min_ready=5.0)
    waiting = observe(
        lifecycle.begin(Start("u", "web", SPEC, "Created"), 1, History(), 0.0), Spawned("u", 7), policy, 1.0
    )
    sick = observe(waiting, NotReady("u", "ProbeFailed"), policy, 2.0)
    assert (sick.ready, sick.deadline, sick.reason) == (False, None, "ProbeFailed")
    assert observe(sick, Elapsed("u"), policy, 6.0) is sick
    assert observe(sick, Ready("u"), policy, 7.0).deadline == 12.0


def test_a_process_that_appears_while_it_is_stopped():
    """A start that is answered late, after the stop was asked for, gives a pid and changes nothing else."""
    starting = lifecycle.begin(Start("u", "web", SPEC, "Created"), 1, History(), 0.0)
    asked = observe(starting, StopRequested("u", "TERM", 30.0, "Removed"), Policy(), 1.0)
    late = observe(asked, Spawned("u", 7), Policy(), 2.0)
    assert (late.phase, late.pid, late.deadline, late.ready) == (Phase.STOPPING, 7, 30.0, False)
    assert observe(late, Spawned("u", 8), Policy(), 3.0) is late


def test_taken_over():
    """A process of an earlier controller is as good as one that was just started, and says where it comes from."""
    starting = lifecycle.begin(Start("u", "web", SPEC, "Created"), 1, History(), 0.0)
    taken = observe(starting, Adopted("u", 7), Policy(), 1.0)
    assert (taken.phase, taken.pid, taken.reason, taken.ready) == (Phase.RUNNING, 7, "Adopted", True)


def test_an_answer_is_due():
    """A start, and a kill, must be answered within bounded time."""
    starting = lifecycle.begin(Start("u", "web", SPEC, "Created"), 1, History(), 100.0)
    assert starting.deadline == 100.0 + lifecycle.START_ANSWER
    killed = observe(starting, KillRequested("u", lifecycle.START_TIMEOUT), Policy(), 160.0)
    assert (killed.phase, killed.deadline) == (Phase.STOPPING, 160.0 + lifecycle.KILL_ANSWER)
