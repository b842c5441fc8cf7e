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

from reconciler.core import backoff
from reconciler.core.action import Start
from reconciler.core.observation import (
    OBSERVATIONS,
    Adopted,
    Elapsed,
    Exited,
    KillRequested,
    Lost,
    NotReady,
    Observation,
    Ready,
    ResetAsked,
    Spawned,
    SpawnFailed,
    StopRequested,
)
from reconciler.core.spec import Policy
from reconciler.core.worker import End, History, Phase, Worker

START_ANSWER = 60.0
"""Seconds within which a driver must answer a start; then the incarnation is killed and tried anew."""

KILL_ANSWER = 10.0
"""Seconds within which a killed process must be gone; then it is killed again and called Unkillable."""

START_TIMEOUT, STOP_TIMEOUT, UNKILLABLE = "StartTimeout", "StopTimeout", "Unkillable"
KILLS = frozenset({START_TIMEOUT, STOP_TIMEOUT, UNKILLABLE})
"""The reasons of a kill; a stopping incarnation with one of them has been killed already."""

Handler = Callable[[Worker, Any, Policy, float], Worker]


class Transition(NamedTuple):
    """One cell of the table: what is done, and the phases it can lead to."""

    handler: Handler
    targets: tuple[Phase, ...]


def begin(start: Start, generation: int, history: History, now: float) -> Worker:
    """The new incarnation that `start` asks for at `now`; `history` already counts this start."""
    due = now + START_ANSWER
    return Worker(start.uid, start.set_name, start.spec, generation, Phase.STARTING, now, history=history, deadline=due)


def observe(worker: Worker, observation: Observation, policy: Policy, now: float) -> Worker:
    """The worker after `observation`; the same object where nothing changed."""
    return TABLE[worker.phase, type(observation)].handler(worker, observation, policy, now)


def deadline_under(worker: Worker, policy: Policy) -> float | None:
    """The worker's deadline when its policy has become this one: what is waited for may come sooner, never later."""
    due = worker.deadline
    if due is None:
        return None
    if worker.phase is Phase.RUNNING and worker.able_since is not None:
        return worker.able_since + policy.min_ready
    if worker.phase is Phase.STOPPING and worker.reason not in KILLS:
        return min(due, worker.since + policy.stop.timeout)
    if worker.phase is Phase.BACKOFF:
        longest = policy.restart.backoff.max if policy.restart.backoff.initial else 0.0
        floor = backoff.START_ERROR_FLOOR if worker.reason == "StartError" else 0.0
        return min(due, worker.since + max(floor, longest))
    return due


def ignore(worker: Worker, _observation: Observation, _policy: Policy, _now: float) -> Worker:
    """Late, repeated or meaningless in this phase."""
    return worker


def _spawned(worker: Worker, observation: Spawned | Adopted, policy: Policy, now: float) -> Worker:
    reason = "Adopted" if isinstance(observation, Adopted) else None
    running = attrs.evolve(
        worker, phase=Phase.RUNNING, since=now, pid=observation.pid, started_at=now, deadline=None, reason=reason
    )
    return running if policy.ready == "notify" else _able(running, policy, now)


def _able(worker: Worker, policy: Policy, now: float) -> Worker:
    """It can serve, and is ready once it could for long enough."""
    wait = policy.min_ready
    return attrs.evolve(worker, able_since=now, ready=not wait, deadline=now + wait if wait else None)


def _spawned_while_stopping(worker: Worker, observation: Spawned | Adopted, _policy: Policy, now: float) -> Worker:
    return worker if worker.pid is not None else attrs.evolve(worker, pid=observation.pid, started_at=now)


def _ready(worker: Worker, _observation: Ready, policy: Policy, now: float) -> Worker:
    if worker.able_since is not None:
        return worker
    able = _able(worker, policy, now)
    return attrs.evolve(able, reason=None) if able.ready else able


def _not_ready(worker: Worker, observation: NotReady, _policy: Policy, _now: float) -> Worker:
    if worker.able_since is None:
        return worker
    return attrs.evolve(worker, able_since=None, ready=False, deadline=None, reason=observation.reason)


def _elapsed_while_running(worker: Worker, _observation: Elapsed, _policy: Policy, now: float) -> Worker:
    if worker.deadline is None or now < worker.deadline:
        return worker
    return attrs.evolve(worker, ready=True, deadline=None, reason=None)


def _start_failed(worker: Worker, _observation: SpawnFailed, policy: Policy, now: float) -> Worker:
    if policy.restart.policy == "never":
        return _ended(worker, Phase.FAILED, "StartError", now)
    if backoff.exhausted(worker.history, policy.restart.start_limit, now):
        return _ended(worker, Phase.FAILED, "StartLimitHit", now)
    failures = worker.history.failures + 1
    wait = backoff.start_error_delay(policy.restart.backoff, failures, worker.uid)
    return _back_off(worker, "StartError", failures, wait, now)


def _exited(worker: Worker, observation: Exited | Lost, policy: Policy, now: float) -> Worker:
    """It ended by itself: the restart policy decides."""
    restart = policy.restart
    end = _end_of(observation)
    success = end.exit_code is not None and end.exit_code in restart.success_exit_codes
    ended = attrs.evolve(worker, end=end)
    if restart.policy == "never" or (restart.policy == "on_failure" and success):
        return _ended(ended, *((Phase.SUCCEEDED, "Completed") if success else (Phase.FAILED, "Error")), now)
    if backoff.exhausted(worker.history, restart.start_limit, now):
        return _ended(ended, Phase.FAILED, "StartLimitHit", now)
    uptime = 0.0 if worker.started_at is None else now - worker.started_at
    failures = 1 if uptime >= restart.backoff.reset_after else worker.history.failures + 1
    return _back_off(ended, "CrashLoopBackOff", failures, backoff.delay(restart.backoff, failures, worker.uid), now)


def _stopped(worker: Worker, observation: Exited | Lost | SpawnFailed, _policy: Policy, now: float) -> Worker:
    """It ended because it was asked to, which says nothing about its health."""
    end = None if isinstance(observation, SpawnFailed) else _end_of(observation)
    return _ended(attrs.evolve(worker, end=end), Phase.STOPPED, worker.reason, now)


def _stop(worker: Worker, observation: StopRequested, _policy: Policy, now: float) -> Worker:
    return attrs.evolve(
        worker, phase=Phase.STOPPING, since=now, ready=False, deadline=observation.deadline, reason=observation.reason
    )


def _stop_sooner(worker: Worker, observation: StopRequested, _policy: Policy, _now: float) -> Worker:
    """A deadline may only shrink."""
    if worker.deadline is not None and worker.deadline <= observation.deadline:
        return worker
    return attrs.evolve(worker, deadline=observation.deadline)


def _kill(worker: Worker, observation: KillRequested, _policy: Policy, now: float) -> Worker:
    return attrs.evolve(
        worker, phase=Phase.STOPPING, since=now, ready=False, deadline=now + KILL_ANSWER, reason=observation.reason
    )


def _forgiven(worker: Worker, _observation: ResetAsked, _policy: Policy, _now: float) -> Worker:
    return attrs.evolve(worker, history=attrs.evolve(worker.history, failures=0, starts=()))


def _retry_now(worker: Worker, observation: ResetAsked, policy: Policy, now: float) -> Worker:
    forgiven = _forgiven(worker, observation, policy, now)
    return attrs.evolve(forgiven, phase=Phase.BACKOFF, deadline=now, reason="ResetAsked")


def _run_anew(worker: Worker, observation: ResetAsked, policy: Policy, now: float) -> Worker:
    return _retry_now(worker, observation, policy, now) if observation.anew else worker


def _end_of(observation: Exited | Lost) -> End:
    return End() if isinstance(observation, Lost) else End(observation.exit_code, observation.signal)


def _ended(worker: Worker, phase: Phase, reason: str | None, now: float) -> Worker:
    return attrs.evolve(worker, phase=phase, since=now, ready=False, deadline=None, reason=reason)


def _back_off(worker: Worker, reason: str, failures: int, wait: float, now: float) -> Worker:
    history = attrs.evolve(worker.history, failures=failures)
    ended = _ended(worker, Phase.BACKOFF, reason, now)
    return attrs.evolve(ended, deadline=now + wait, history=history)


_NOP = {kind: Transition(ignore, ()) for kind in OBSERVATIONS}
_AFTER_EXIT = (Phase.BACKOFF, Phase.SUCCEEDED, Phase.FAILED)

_STARTING = {
    Spawned: Transition(_spawned, (Phase.RUNNING,)),
    Adopted: Transition(_spawned, (Phase.RUNNING,)),
    SpawnFailed: Transition(_start_failed, (Phase.BACKOFF, Phase.FAILED)),
    Exited: Transition(_exited, _AFTER_EXIT),
    Lost: Transition(_exited, _AFTER_EXIT),
    StopRequested: Transition(_stop, (Phase.STOPPING,)),
    KillRequested: Transition(_kill, (Phase.STOPPING,)),
}
_RUNNING = {
    Ready: Transition(_ready, (Phase.RUNNING,)),
    NotReady: Transition(_not_ready, (Phase.RUNNING,)),
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
    Exited: Transition(_stopped, (Phase.STOPPED,)),
    Lost: Transition(_stopped, (Phase.STOPPED,)),
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
