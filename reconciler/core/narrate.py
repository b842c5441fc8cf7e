"""Events of workers, derived from the change of state itself.

Rule: nobody announces a transition by hand. `between` compares an incarnation before and after one observation, so that
no transition is silent and none is told twice.
"""

from typing import Any

from reconciler.core import event
from reconciler.core.action import Kill
from reconciler.core.event import Event
from reconciler.core.observation import (
    Adopted,
    Drained,
    DrainRequested,
    Exited,
    KillRequested,
    Lost,
    Observation,
    ResetAsked,
    SpawnFailed,
    StopRequested,
)
from reconciler.core.spec import Key
from reconciler.core.worker import Phase, Worker

_END = {
    Phase.SUCCEEDED: event.WORKER_SUCCEEDED,
    Phase.FAILED: event.WORKER_FAILED,
    Phase.STOPPED: event.WORKER_STOPPED,
}


def starting(worker: Worker, reason: str) -> Event:
    """The event of a new incarnation."""
    return _about(worker, event.WORKER_STARTING, reason, {"restarts": worker.history.restarts})


def recalled(worker: Worker) -> Event:
    """The event of a job that was done before this controller began."""
    return _about(worker, event.WORKER_SUCCEEDED, worker.reason)


def forgotten(worker: Worker, reason: str) -> Event | None:
    """The event of an ended incarnation that is dropped; None where its end was told already."""
    if worker.phase is Phase.STOPPED:
        return None
    return _about(worker, event.WORKER_STOPPED if worker.phase is Phase.BACKOFF else event.WORKER_FORGOTTEN, reason)


def signalled(worker: Worker, signal: str) -> Event:
    """The event of a signal that somebody had sent."""
    return _about(worker, event.WORKER_SIGNALLED, None, {"signal": signal})


def stray(kill: Kill) -> Event:
    """The event of a process that is killed because nobody knows it, or because it was believed to have ended."""
    return Event(event.WORKER_KILLING, uid=kill.uid, reason=kill.reason)


def between(before: Worker, after: Worker, observation: Observation, now: float) -> list[Event]:
    """The events of the step from `before` to `after` by `observation`; empty where nothing changed."""
    if before is after:
        return []
    kind = type(observation)
    if kind is Exited or kind is Lost:
        return [_exited(before, after, observation, now), *_ending(after, now)]
    if isinstance(observation, SpawnFailed):
        cause = {"stage": observation.stage, "errno": observation.errno, "message": observation.message}
        return [_about(after, event.WORKER_START_FAILED, "StartError", cause), *_ending(after, now)]
    if isinstance(observation, StopRequested):
        if before.phase is Phase.STOPPING and before.quit_at is None:
            return []
        extra = {"signal": observation.signal, "timeout_s": round(observation.deadline - now, 3)}
        return [_about(after, event.WORKER_STOPPING, after.reason, extra)]
    if isinstance(observation, KillRequested):
        return [_about(after, event.WORKER_KILLING, after.reason)]
    if isinstance(observation, ResetAsked):
        return [_about(after, event.WORKER_RESET, "ResetAsked")]
    if isinstance(observation, DrainRequested):
        extra = {"until_s": round(observation.until - now, 3)}
        return [_about(after, event.WORKER_DRAINING, after.reason, extra)]
    if isinstance(observation, Drained):
        extra = {"message": observation.message} if observation.message else {}
        return [_about(after, event.WORKER_DRAINED, after.reason, extra)]
    return _serving(before, after, observation)


def _serving(before: Worker, after: Worker, observation: Observation) -> list[Event]:
    """Its process came into being, or whether it can serve changed, or both at once."""
    events = []
    if before.pid is None and after.pid is not None:
        name = event.WORKER_ADOPTED if isinstance(observation, Adopted) else event.WORKER_STARTED
        events.append(_about(after, name, after.reason))
    if after.phase is not Phase.RUNNING:
        return events
    if before.able_since is not None and after.able_since is None:
        events.append(_about(after, event.WORKER_NOT_READY, after.reason))
    if after.health.ailment is not None and before.health.ailment is None:
        extra = {"message": after.health.message} if after.health.message else {}
        events.append(_about(after, event.WORKER_UNHEALTHY, after.health.ailment, extra))
    if after.ready and not before.ready:
        events.append(_about(after, event.WORKER_READY, None))
    return events


def _exited(before: Worker, after: Worker, observation: Any, now: float) -> Event:
    expected = before.phase is Phase.STOPPING and before.health.ailment is None
    lost = isinstance(observation, Lost)
    extra: dict[str, Any] = {"expected": expected}
    if after.end is not None and after.end.exit_code is not None:
        extra["exit_code"] = after.end.exit_code
    if after.end is not None and after.end.signal is not None:
        extra["signal"] = after.end.signal
    if before.started_at is not None:
        extra["uptime_s"] = round(now - before.started_at, 3)
    if not lost and observation.leftovers:
        extra["leftovers"] = observation.leftovers
    reason = "Lost" if lost else before.reason if expected else _cause(after)
    return _about(after, event.WORKER_EXITED, reason, extra)


def _cause(after: Worker) -> str:
    if after.health.ailment is not None:
        return after.health.ailment
    if after.end is not None and after.end.signal is not None:
        return "Signalled"
    return "Completed" if after.end is not None and after.end.exit_code == 0 else "Error"


def _ending(after: Worker, now: float) -> list[Event]:
    """What follows an end: the wait for the next start, or the end for good."""
    if after.phase is not Phase.BACKOFF:
        return [_about(after, _END[after.phase], after.reason)]
    wait = 0.0 if after.deadline is None else after.deadline - now
    if wait <= 0:
        return []
    extra = {"delay_s": round(wait, 3), "restarts": after.history.restarts}
    return [_about(after, event.WORKER_BACKOFF, after.reason, extra)]


def _about(worker: Worker, name: str, reason: str | None, extra: dict[str, Any] | None = None) -> Event:
    key = worker.key
    return Event(
        name,
        str(key),
        worker.set_name,
        key.number if type(key) is Key else None,
        worker.uid,
        worker.pid,
        worker.generation,
        reason,
        extra or {},
    )
