"""The life of one incarnation: a total table over (phase, observation).

Two rules. Every change of a phase is in `TABLE` and nowhere else; a pair that changes nothing says so by `ignore`.
And this file knows no other worker: whether one is wanted at all is decided in `reconcile`.

    asked       process exists     can serve          asked to end         gone
      |               |                |                   |                 |
      +-- Starting ---+--------- Running ------------------+--- Stopping ----+-- Stopped
                      |                                                      |
                      +---- ended by itself: Backoff | Succeeded | Failed ---+-- a new incarnation, or none

An ended incarnation stays in its last phase until a successor takes its key or the key is no longer wanted; one that
failed goes to Backoff when somebody asks that it be tried again. The docs' state diagram is drawn from this table.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import attrs

from reconciler.core import backoff, health
from reconciler.core.action import Start
from reconciler.core.health import Health
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
    Observation,
    ProbeAsked,
    Probed,
    Ready,
    ResetAsked,
    Spawned,
    SpawnFailed,
    StopRequested,
)
from reconciler.core.serving import Probes
from reconciler.core.spec import Command, Policy, WorkerSpec
from reconciler.core.worker import End, History, Phase, Worker, changed

START_ANSWER = 60.0
"""Seconds within which a driver must answer a start; then the incarnation is killed and tried anew."""

SOCKET_RETRY = 5.0
"""The longest wait, in seconds, until a socket that could not be had is tried again, whatever the policy says."""

KILL_ANSWER = 10.0
"""Seconds within which a killed process must be gone; then it is killed again and called Unkillable."""

START_TIMEOUT, STOP_TIMEOUT, UNKILLABLE = "StartTimeout", "StopTimeout", "Unkillable"
KILLS = frozenset({START_TIMEOUT, STOP_TIMEOUT, UNKILLABLE})
"""The reasons of a kill; a stopping incarnation with one of them has been killed already."""

_NO_PROBES = Probes()

Handler = Callable[[Worker, Any, Policy, float], Worker]


class Transition(NamedTuple):
    """One cell of the table: what is done, and the phases it can lead to."""

    handler: Handler
    targets: tuple[Phase, ...]


def begin(  # noqa: PLR0913  six is the house's limit
    start: Start, generation: int, history: History, now: float, *, trial: bool = False, probes: Probes = _NO_PROBES
) -> Worker:
    """The new incarnation that `start` asks for at `now`; `history` already counts this start, and it is on `trial` if
    a rollout goes on.
    """
    return Worker(
        start.uid,
        start.set_name,
        start.spec,
        generation,
        Phase.STARTING,
        now,
        history=history,
        deadline=now + START_ANSWER,
        trial=trial,
        probes=probes,
    )


def recalled(uid: str, set_name: str, spec: WorkerSpec, generation: int, now: float) -> Worker:
    """An incarnation that has done its work before, be it under an earlier controller."""
    return Worker(uid, set_name, spec, generation, Phase.SUCCEEDED, now, reason="Remembered", judged=generation)


def observe(worker: Worker, observation: Observation, policy: Policy, now: float) -> Worker:
    """The worker after `observation`; the same object where nothing changed."""
    return TABLE[worker.phase, type(observation)].handler(worker, observation, own(worker, policy), now)


def own(worker: Worker, policy: Policy) -> Policy:
    """The policy as it is for this incarnation. What it tells of itself, and what it can be asked, depends on the spec
    that it was started from, be that outdated by now.
    """
    ready, watchdog, command = policy.ready, policy.watchdog, worker.spec.payload
    if type(command) is Command:
        ready = "notify" if command.notify or command.ready_fd is not None else "alive"
        watchdog = command.watchdog
    if ready == policy.ready and watchdog == policy.watchdog and worker.probes == policy.probes:
        return policy
    return attrs.evolve(policy, ready=ready, watchdog=watchdog, probes=worker.probes)


def adapted(worker: Worker, policy: Policy, now: float, *, current: bool) -> Worker:
    """The worker when its set's policy has become this one: what is waited for may come sooner, never later. Other
    probes are for those only that run from the wanted spec, as they are `current`.
    """
    if current and worker.probes != policy.probes:
        worker = changed(worker, probes=policy.probes)
    policy = own(worker, policy)
    if worker.phase is Phase.RUNNING and worker.health is not health.NONE:
        worker = _judged(worker, health.adapted(worker.health, policy, worker.uid, now), policy, now)
        if worker.able_since is None or worker.ready:
            return worker
        return changed(worker, deadline=worker.able_since + _wait(worker, policy))
    if worker.phase is Phase.STOPPING and worker.quit_at is not None:
        longest = 0.0 if policy.stop.drain is None else policy.stop.drain.longest
        quit_at = min(worker.quit_at, worker.since + longest)
        by = quit_at + policy.stop.timeout
        return changed(worker, quit_at=quit_at, deadline=min(by, worker.deadline or by))
    due = worker.deadline
    if due is None:
        return worker
    if worker.phase is Phase.STOPPING and worker.reason not in KILLS:
        due = min(due, worker.since + policy.stop.timeout)
    if worker.phase is Phase.BACKOFF:
        longest = policy.restart.backoff.max if policy.restart.backoff.initial else 0.0
        floor = backoff.START_ERROR_FLOOR if worker.reason == "StartError" else 0.0
        due = min(due, worker.since + max(floor, longest))
    return worker if due == worker.deadline else changed(worker, deadline=due)


def ignore(worker: Worker, _observation: Observation, _policy: Policy, _now: float) -> Worker:
    """Late, repeated or meaningless in this phase."""
    return worker


def _spawned(worker: Worker, observation: Spawned | Adopted, policy: Policy, now: float) -> Worker:
    reason = "Adopted" if isinstance(observation, Adopted) else None
    running = changed(
        worker, phase=Phase.RUNNING, since=now, pid=observation.pid, started_at=now, deadline=None, reason=reason
    )
    begun = health.begun(policy, worker.uid, now)
    if worker.health.told:  # it was quicker than the answer of its driver
        begun = health.told(begun, policy, worker.uid, now, now)
    return _judged(running, begun, policy, now)


def _judged(worker: Worker, found: Health, policy: Policy, now: float) -> Worker:
    """A worker that runs, when its health is this; it is ready once it could serve for long enough, a job never."""
    able = found.is_able(policy) and not policy.job
    if able == (worker.able_since is not None):
        return worker if found is worker.health else changed(worker, health=found)
    if not able:
        reason = found.reason or worker.reason
        return changed(worker, health=found, able_since=None, ready=False, deadline=None, reason=reason)
    wait = _wait(worker, policy)
    if wait:
        return changed(worker, health=found, able_since=now, deadline=now + wait)
    reason = worker.reason if worker.since == now and worker.reason == "Adopted" else None
    return changed(worker, health=found, able_since=now, ready=True, served=True, deadline=None, reason=reason)


def _wait(worker: Worker, policy: Policy) -> float:
    """How long it must have been able to serve to count as ready."""
    return max(policy.min_ready, policy.trial) if worker.trial else policy.min_ready


def _spawned_while_stopping(worker: Worker, observation: Spawned | Adopted, _policy: Policy, now: float) -> Worker:
    return worker if worker.pid is not None else changed(worker, pid=observation.pid, started_at=now)


def _ready_early(worker: Worker, _observation: Ready, policy: Policy, _now: float) -> Worker:
    return changed(worker, health=_TOLD) if policy.ready == "notify" else worker


def _ready(worker: Worker, _observation: Ready, policy: Policy, now: float) -> Worker:
    known = worker.health
    if not known.reloading and (known.told or (known.told is None and policy.ready == "alive")):
        return worker
    began = worker.started_at or now
    return _judged(worker, health.told(worker.health, policy, worker.uid, now, began), policy, now)


def _not_ready(worker: Worker, observation: NotReady, policy: Policy, now: float) -> Worker:
    if worker.health.told is False or worker.able_since is None:
        return worker
    return _judged(worker, health.untold(worker.health, observation.reason), policy, now)


def _noticed(worker: Worker, observation: Notice, policy: Policy, now: float) -> Worker:
    return _judged(worker, health.noticed(worker.health, observation, policy, now), policy, now)


def _noticed_while_stopping(worker: Worker, observation: Notice, policy: Policy, now: float) -> Worker:
    """It may ask for more time, but not of somebody in haste."""
    found = worker.health if observation.status is None else attrs.evolve(worker.health, status=observation.status)
    due = worker.deadline
    if observation.extend and policy.stop.timeout and worker.quit_at is None and worker.reason not in KILLS:
        due = max(due or 0.0, now + observation.extend)
    if due == worker.deadline and found is worker.health:
        return worker
    return changed(worker, health=found, deadline=due)


def _asked(worker: Worker, observation: ProbeAsked, _policy: Policy, _now: float) -> Worker:
    return changed(worker, health=health.asked(worker.health, observation.kind, observation.deadline))


def _probed(worker: Worker, observation: Probed, policy: Policy, now: float) -> Worker:
    began = worker.started_at or now
    return _judged(worker, health.probed(worker.health, observation, policy, now, began), policy, now)


def _elapsed_while_running(worker: Worker, _observation: Elapsed, policy: Policy, now: float) -> Worker:
    began = worker.started_at or now
    found = health.elapsed(worker.health, policy, worker.uid, now, began)
    worker = _judged(worker, found, policy, now)
    if worker.deadline is None or now < worker.deadline:
        return worker
    return changed(worker, ready=True, served=True, deadline=None, reason=None)


def _start_failed(worker: Worker, observation: SpawnFailed, policy: Policy, now: float) -> Worker:
    failures = worker.history.failures + 1
    wait = backoff.start_error_delay(policy.restart.backoff, failures, worker.uid)
    if observation.stage == "socket":  # its address may be free soon, and that says nothing of the worker
        return _back_off(worker, "StartError", failures, min(wait, SOCKET_RETRY), now)
    if policy.restart.policy == "never":
        return _ended(worker, Phase.FAILED, "StartError", now)
    if backoff.exhausted(worker.history, policy.restart.start_limit, now):
        return _ended(worker, Phase.FAILED, "StartLimitHit", now)
    return _back_off(worker, "StartError", failures, wait, now)


def _exited(worker: Worker, observation: Exited | Lost, policy: Policy, now: float) -> Worker:
    """It ended by itself: the restart policy decides."""
    restart = policy.restart
    end = _end_of(observation)
    ailment = worker.health.ailment
    success = ailment is None and end.exit_code is not None and end.exit_code in restart.success_exit_codes
    ended = changed(worker, end=end)
    if restart.policy == "never" or (restart.policy == "on_failure" and success):
        return _ended(ended, *((Phase.SUCCEEDED, "Completed") if success else (Phase.FAILED, ailment or "Error")), now)
    if backoff.exhausted(worker.history, restart.start_limit, now):
        return _ended(ended, Phase.FAILED, "StartLimitHit", now)
    uptime = 0.0 if worker.started_at is None else now - worker.started_at
    failures = 1 if uptime >= restart.backoff.reset_after else worker.history.failures + 1
    return _back_off(ended, "CrashLoopBackOff", failures, backoff.delay(restart.backoff, failures, worker.uid), now)


def _stopped(worker: Worker, observation: Exited | Lost | SpawnFailed, policy: Policy, now: float) -> Worker:
    """It ended because it was asked to, which says nothing about its health, unless it was asked to because of that."""
    if worker.health.ailment is not None and not isinstance(observation, SpawnFailed):
        return _exited(worker, observation, policy, now)
    end = None if isinstance(observation, SpawnFailed) else _end_of(observation)
    return _ended(changed(worker, end=end), Phase.STOPPED, worker.reason, now)


def _stop(worker: Worker, observation: StopRequested, _policy: Policy, now: float) -> Worker:
    return changed(
        worker, phase=Phase.STOPPING, since=now, ready=False, deadline=observation.deadline, reason=observation.reason
    )


def _drain(worker: Worker, observation: DrainRequested, policy: Policy, now: float) -> Worker:
    return changed(
        worker,
        phase=Phase.STOPPING,
        since=now,
        ready=False,
        deadline=observation.until + policy.stop.timeout,
        reason=observation.reason,
        quit_at=observation.until,
        drains_until=observation.earliest,
    )


def _drained(worker: Worker, _observation: Drained, _policy: Policy, now: float) -> Worker:
    if worker.quit_at is None or worker.drains_until is None:
        return worker
    return changed(worker, quit_at=min(worker.quit_at, max(worker.drains_until, now)), drains_until=None)


def _stop_sooner(worker: Worker, observation: StopRequested, _policy: Policy, now: float) -> Worker:
    """The end of draining, or a deadline, which may only shrink."""
    if worker.quit_at is not None:
        return changed(worker, since=now, deadline=observation.deadline, quit_at=None, drains_until=None)
    if worker.deadline is not None and worker.deadline <= observation.deadline:
        return worker
    return changed(worker, deadline=observation.deadline)


def _kill(worker: Worker, observation: KillRequested, _policy: Policy, now: float) -> Worker:
    return changed(
        worker,
        phase=Phase.STOPPING,
        since=now,
        ready=False,
        deadline=now + KILL_ANSWER,
        reason=observation.reason,
        quit_at=None,
    )


def _forgiven(worker: Worker, _observation: ResetAsked, _policy: Policy, _now: float) -> Worker:
    return changed(worker, history=attrs.evolve(worker.history, failures=0, starts=()))


def _retry_now(worker: Worker, observation: ResetAsked, policy: Policy, now: float) -> Worker:
    forgiven = _forgiven(worker, observation, policy, now)
    return changed(forgiven, phase=Phase.BACKOFF, deadline=now, reason="ResetAsked")


def _run_anew(worker: Worker, observation: ResetAsked, policy: Policy, now: float) -> Worker:
    return _retry_now(worker, observation, policy, now) if observation.anew else worker


def _end_of(observation: Exited | Lost) -> End:
    return End() if isinstance(observation, Lost) else End(observation.exit_code, observation.signal)


def _ended(worker: Worker, phase: Phase, reason: str | None, now: float) -> Worker:
    return changed(worker, phase=phase, since=now, ready=False, deadline=None, reason=reason)


def _back_off(worker: Worker, reason: str, failures: int, wait: float, now: float) -> Worker:
    history = History(failures, worker.history.restarts, worker.history.starts)
    ended = _ended(worker, Phase.BACKOFF, reason, now)
    return changed(ended, deadline=now + wait, history=history)


_TOLD = Health(told=True)
_NOP = {kind: Transition(ignore, ()) for kind in OBSERVATIONS}
_AFTER_EXIT = (Phase.BACKOFF, Phase.SUCCEEDED, Phase.FAILED)

_STARTING = {
    Spawned: Transition(_spawned, (Phase.RUNNING,)),
    Adopted: Transition(_spawned, (Phase.RUNNING,)),
    SpawnFailed: Transition(_start_failed, (Phase.BACKOFF, Phase.FAILED)),
    Ready: Transition(_ready_early, (Phase.STARTING,)),
    Exited: Transition(_exited, _AFTER_EXIT),
    Lost: Transition(_exited, _AFTER_EXIT),
    StopRequested: Transition(_stop, (Phase.STOPPING,)),
    KillRequested: Transition(_kill, (Phase.STOPPING,)),
}
_RUNNING = {
    Ready: Transition(_ready, (Phase.RUNNING,)),
    NotReady: Transition(_not_ready, (Phase.RUNNING,)),
    Notice: Transition(_noticed, (Phase.RUNNING,)),
    ProbeAsked: Transition(_asked, (Phase.RUNNING,)),
    Probed: Transition(_probed, (Phase.RUNNING,)),
    DrainRequested: Transition(_drain, (Phase.STOPPING,)),
    Elapsed: Transition(_elapsed_while_running, (Phase.RUNNING,)),
    Exited: Transition(_exited, _AFTER_EXIT),
    Lost: Transition(_exited, _AFTER_EXIT),
    StopRequested: Transition(_stop, (Phase.STOPPING,)),
    KillRequested: Transition(_kill, (Phase.STOPPING,)),
    ResetAsked: Transition(_forgiven, (Phase.RUNNING,)),
}
_STOPPING = {
    Spawned: Transition(_spawned_while_stopping, (Phase.STOPPING,)),
    Adopted: Transition(_spawned_while_stopping, (Phase.STOPPING,)),
    SpawnFailed: Transition(_stopped, (Phase.STOPPED,)),
    Exited: Transition(_stopped, (Phase.STOPPED, *_AFTER_EXIT)),
    Lost: Transition(_stopped, (Phase.STOPPED, *_AFTER_EXIT)),
    Notice: Transition(_noticed_while_stopping, (Phase.STOPPING,)),
    Drained: Transition(_drained, (Phase.STOPPING,)),
    StopRequested: Transition(_stop_sooner, (Phase.STOPPING,)),
    KillRequested: Transition(_kill, (Phase.STOPPING,)),
}
_ROWS: dict[Phase, dict[Any, Transition]] = {
    Phase.STARTING: _NOP | _STARTING,
    Phase.RUNNING: _NOP | _RUNNING,
    Phase.STOPPING: _NOP | _STOPPING,
    # The process is gone: nothing that is still told of it matters.
    Phase.BACKOFF: _NOP | {ResetAsked: Transition(_retry_now, (Phase.BACKOFF,))},
    Phase.SUCCEEDED: _NOP | {ResetAsked: Transition(_run_anew, (Phase.BACKOFF,))},
    Phase.STOPPED: _NOP,
    Phase.FAILED: _NOP | {ResetAsked: Transition(_retry_now, (Phase.BACKOFF,))},
}

TABLE: dict[tuple[Phase, type], Transition] = {
    (phase, kind): transition for phase, row in _ROWS.items() for kind, transition in row.items()
}
