"""The catalogue of events: one record for one transition.

Rule: an event's name is a constant of this file, its text never varies, and facts go into fields. The docs' reference
is checked against `CATALOGUE`; an event that is not in it cannot be made.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import attrs

WORKER_STARTING = "worker.starting"
WORKER_STARTED = "worker.started"
WORKER_READY = "worker.ready"
WORKER_NOT_READY = "worker.not_ready"
WORKER_ADOPTED = "worker.adopted"
WORKER_START_FAILED = "worker.start_failed"
WORKER_EXITED = "worker.exited"
WORKER_BACKOFF = "worker.backoff"
WORKER_UNHEALTHY = "worker.unhealthy"
WORKER_DRAINING = "worker.draining"
WORKER_DRAINED = "worker.drained"
WORKER_STOPPING = "worker.stopping"
WORKER_KILLING = "worker.killing"
WORKER_STOPPED = "worker.stopped"
WORKER_SUCCEEDED = "worker.succeeded"
WORKER_FAILED = "worker.failed"
WORKER_FORGOTTEN = "worker.forgotten"
WORKER_RESET = "worker.reset"
WORKER_SIGNALLED = "worker.signalled"
SPEC_ADDED = "spec.added"
SPEC_CHANGED = "spec.changed"
SPEC_REMOVED = "spec.removed"
SPEC_REJECTED = "spec.rejected"
SPEC_RECOVERED = "spec.recovered"
ROLLOUT_STARTED = "rollout.started"
ROLLOUT_COMPLETED = "rollout.completed"
ROLLOUT_STALLED = "rollout.stalled"
ROLLOUT_RESUMED = "rollout.resumed"
ROLLOUT_UNDONE = "rollout.undone"
SCHEDULE_SKIPPED = "schedule.skipped"
DEPENDENCY_RESTARTED = "dependency.restarted"
SOURCE_HELD = "source.held"
SOURCE_RELEASED = "source.released"
SOURCE_POLLING = "source.polling"
SOURCE_WATCHING = "source.watching"
SOURCE_MISSED = "source.missed"
SOURCE_FAILED = "source.failed"
STATE_DEGRADED = "state.degraded"
STATE_RECOVERED = "state.recovered"
CONTROLLER_STARTED = "controller.started"
CONTROLLER_CONVERGED = "controller.converged"
CONTROLLER_SCALED = "controller.scaled"
CONTROLLER_OVERRIDDEN = "controller.overridden"
CONTROLLER_SIGNALLED = "controller.signalled"
CONTROLLER_ERROR = "controller.error"
CONTROLLER_STOPPING = "controller.stopping"
CONTROLLER_STOPPED = "controller.stopped"
EVENTS_DROPPED = "events.dropped"
OUTPUT_DROPPED = "output.dropped"
OUTPUT_DEGRADED = "output.degraded"
OUTPUT_RECOVERED = "output.recovered"


TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
"""How the time of an event is written, in UTC: as ISO has it, with a fraction of the second even where that is 0."""


@attrs.frozen
class Kind:
    """One entry of the catalogue: the level it is logged at, what it means, and what it adds to the common fields."""

    name: str
    level: str
    doc: str
    fields: tuple[str, ...] = ()


_KINDS = (
    Kind(WORKER_STARTING, "info", "A new incarnation was asked of the driver; the reason says why.", ("restarts",)),
    Kind(WORKER_STARTED, "info", "Its process exists."),
    Kind(WORKER_READY, "info", "It can serve."),
    Kind(WORKER_NOT_READY, "warning", "It runs but can no longer serve."),
    Kind(WORKER_ADOPTED, "info", "A process of an earlier controller was taken over."),
    Kind(
        WORKER_START_FAILED,
        "error",
        "It could not be started at all: at which stage, and why.",
        ("stage", "errno", "message"),
    ),
    Kind(
        WORKER_EXITED,
        "info",
        "Its process ended; once for each incarnation that had one.",
        ("exit_code", "signal", "expected", "uptime_s", "leftovers"),
    ),
    Kind(WORKER_BACKOFF, "warning", "The next start waits.", ("delay_s", "restarts")),
    Kind(
        WORKER_UNHEALTHY,
        "error",
        "It runs and is not sane, or never came to serve: it will be stopped, and that counts as a failure.",
        ("message",),
    ),
    Kind(WORKER_DRAINING, "info", "It will be asked to end, and drains before that.", ("until_s",)),
    Kind(WORKER_DRAINED, "info", "The command of its drain has ended; why, if that was no success.", ("message",)),
    Kind(WORKER_STOPPING, "info", "It was asked to end.", ("signal", "timeout_s")),
    Kind(WORKER_KILLING, "warning", "It is being killed, with its process group."),
    Kind(WORKER_STOPPED, "info", "It ended because it was asked to; it will not be restarted."),
    Kind(WORKER_SUCCEEDED, "info", "It ended well, and its restart policy asks for nothing more."),
    Kind(WORKER_FAILED, "error", "It ended badly, and it will not be restarted until its spec changes."),
    Kind(WORKER_FORGOTTEN, "info", "One that had succeeded or failed is no longer wanted, and no longer shown."),
    Kind(WORKER_RESET, "info", "Somebody asked that its failures be forgotten, and that it be tried again now."),
    Kind(WORKER_SIGNALLED, "info", "Somebody had a signal sent to it.", ("signal",)),
    Kind(SPEC_ADDED, "info", "A worker set is wanted that was not before.", ("file", "replicas")),
    Kind(SPEC_CHANGED, "info", "A worker set is wanted otherwise; `fields` names what changed.", ("file", "fields")),
    Kind(SPEC_REMOVED, "info", "A worker set is no longer wanted.", ("file",)),
    Kind(SPEC_REJECTED, "error", "A spec is bad; its last good version stays in force.", ("file", "problems")),
    Kind(SPEC_RECOVERED, "info", "A spec that was rejected is good again.", ("file",)),
    Kind(ROLLOUT_STARTED, "info", "Workers of an outdated spec are being replaced.", ("outdated", "replicas")),
    Kind(ROLLOUT_COMPLETED, "info", "Every worker of the set runs the wanted spec and is ready.", ("replicas",)),
    Kind(
        ROLLOUT_STALLED,
        "error",
        "No progress for `progress_deadline`; what still serves is left alone.",
        ("updated", "replicas"),
    ),
    Kind(ROLLOUT_RESUMED, "info", "A stalled rollout made progress after all, and goes on.", ("updated", "replicas")),
    Kind(
        ROLLOUT_UNDONE,
        "warning",
        "A stalled rollout is undone, as `auto_rollback` says: the set runs again what last ran everywhere.",
        ("replicas",),
    ),
    Kind(
        SCHEDULE_SKIPPED,
        "warning",
        "A run that was due is left out; `scheduled` is its time, in seconds since the epoch.",
        ("scheduled",),
    ),
    Kind(
        DEPENDENCY_RESTARTED,
        "info",
        "What the set depends on fell short and is there again; the set is restarted, as `restart_with` says.",
        ("needs",),
    ),
    Kind(SOURCE_HELD, "warning", "What is missing or unreadable is not taken as a wish to stop it.", ("file", "held")),
    Kind(SOURCE_RELEASED, "info", "What was held is held no longer.", ("file",)),
    Kind(SOURCE_POLLING, "warning", "Changes are looked for at intervals, as they cannot be watched.", ("file",)),
    Kind(SOURCE_WATCHING, "info", "Changes are watched for again.", ("file",)),
    Kind(SOURCE_MISSED, "warning", "A relist found a change that no notification told of.", ("file", "missed")),
    Kind(
        SOURCE_FAILED,
        "error",
        "The `update` callable failed or gave what cannot be used; nothing changes.",
        ("message",),
    ),
    Kind(
        STATE_DEGRADED,
        "error",
        "What is to outlive the controller could not be read or saved; it goes on from memory.",
        ("message",),
    ),
    Kind(STATE_RECOVERED, "info", "What is to outlive the controller is saved again."),
    Kind(CONTROLLER_STARTED, "info", "The controller runs.", ("pid", "version", "source")),
    Kind(
        CONTROLLER_CONVERGED, "info", "Everything wanted is up to date and ready, and nothing else runs.", ("workers",)
    ),
    Kind(CONTROLLER_SCALED, "info", "A signal asked for one worker more or fewer.", ("replicas",)),
    Kind(
        CONTROLLER_OVERRIDDEN,
        "info",
        "An operator asked for something else than the file says, or took that back; the reason is the verb.",
        ("names", "drift"),
    ),
    Kind(CONTROLLER_SIGNALLED, "info", "The controller received a signal that it acts on.", ("signal",)),
    Kind(CONTROLLER_ERROR, "error", "A fault of the controller itself; it goes on.", ("message", "traceback")),
    Kind(CONTROLLER_STOPPING, "info", "Every worker is being stopped.", ("workers",)),
    Kind(CONTROLLER_STOPPED, "info", "Nothing runs any more.", ("uptime_s",)),
    Kind(EVENTS_DROPPED, "warning", "Events could not be written for want of a reader, and are lost.", ("count",)),
    Kind(
        OUTPUT_DROPPED,
        "warning",
        "So many lines that workers wrote found no reader in time, and are lost.",
        ("count", "stream"),
    ),
    Kind(
        OUTPUT_DEGRADED,
        "warning",
        "A worker's output cannot be written to its file, and is dropped until it can; the worker goes on.",
        ("message",),
    ),
    Kind(
        OUTPUT_RECOVERED,
        "info",
        "A worker's output is written to its file again; `count` lines were lost meanwhile.",
        ("count",),
    ),
)

CATALOGUE: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _KINDS})

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@attrs.frozen
class Event:
    """One transition. `name` and `index` are those of the worker or set; `reason` is a CamelCase word or None.

    `extra` holds what this kind of event adds, as its `Kind` lists it.
    """

    event: str
    key: str | None = None
    name: str | None = None
    index: int | None = None
    uid: str | None = None
    pid: int | None = None
    generation: int | None = None
    reason: str | None = None
    extra: Mapping[str, Any] = _NOTHING

    def fields(self) -> dict[str, Any]:
        """All but the event's name, without what is absent; `reason` is always there."""
        fields: dict[str, Any] = {}
        if self.key is not None:
            fields["key"] = self.key
        if self.name is not None:
            fields["name"] = self.name
        if self.index is not None:
            fields["index"] = self.index
        if self.uid is not None:
            fields["uid"] = self.uid
        if self.pid is not None:
            fields["pid"] = self.pid
        if self.generation is not None:
            fields["generation"] = self.generation
        fields["reason"] = self.reason
        fields.update(self.extra)
        return fields


def spec_event(event: str, name: str | None, file: str, reason: str | None = None, **extra: Any) -> Event:
    """An event about a spec file or the source itself."""
    return Event(event, name=name, reason=reason, extra={"file": file, **extra})


def problems_of(messages: Iterable[str]) -> tuple[str, ...]:
    """The problems of a rejected spec as its event carries them: bounded in number and length."""
    listed = [message[:300] for message in messages]
    more = len(listed) - MOST_PROBLEMS
    return (*listed[:MOST_PROBLEMS], f"and {more} more") if more > 0 else tuple(listed)


MOST_PROBLEMS = 10
