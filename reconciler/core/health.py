"""How an incarnation is: what it told of itself, how its probes were answered, and what follows from that.

Rule: values and pure steps. A worker can serve when it has started, said so if it is to say so, and its readiness probe
is good; it is ailing when it must be ended for what it does or does not do. Startup is kept apart from liveness: until
a worker has started nobody asks whether it is sane, so that a slow start is not a death. Thresholds and periods are
those of Kubernetes; the watchdog, and the time that a worker may ask for, those of systemd.
"""

import math
import zlib
from collections.abc import Iterator
from typing import Any

import attrs

from reconciler.core.observation import Notice, Probed
from reconciler.core.serving import Probe, ProbeKind, Probes
from reconciler.core.spec import Policy

GRACE = 10.0
"""Seconds after its timeout in which a driver must have answered a probe; then it counts as failed."""

JITTER = 0.1
"""The share of its period by which a probe is asked later, at random, so that many workers are not asked together."""

FIRST_JITTER = 0.1
"""Seconds by which a probe is asked later at most for the first time."""

KINDS: tuple[ProbeKind, ...] = ("startup", "readiness", "liveness")

NOT_READY_IN_TIME, WATCHDOG, STARTUP_FAILED, LIVENESS_FAILED, READINESS_FAILED, STOPS_ITSELF, HANGS_STOPPING = (
    "NotReadyInTime",
    "WatchdogTimeout",
    "StartupFailed",
    "LivenessFailed",
    "ReadinessFailed",
    "StopsItself",
    "StopsForTooLong",
)


@attrs.frozen
class Answers:
    """How one probe was answered: what it is taken to be (None: not known yet), how often in a row the last answers
    said otherwise, and when it is to be asked again (seconds, monotonic).
    """

    good: bool | None = None
    streak: int = 0
    due: float | None = None
    message: str = ""


@attrs.frozen
class Health:
    """One incarnation's health. `told` is what it last said of being able to serve, None as long as it said nothing.

    `asking` is the probe that waits for its answer, until `answer_by`. It must have told until `ready_by`, be heard of
    until `watchdog_at`, and have ended, if it said that it stops, until `stop_by`: times in seconds, monotonic.
    `ailment` is why it must be ended. It is `stopping` if it said so.
    """

    told: bool | None = None
    started: bool = False
    startup: Answers = Answers()
    readiness: Answers = Answers()
    liveness: Answers = Answers()
    asking: ProbeKind | None = None
    answer_by: float | None = None
    ready_by: float | None = None
    watchdog: float | None = None
    watchdog_at: float | None = None
    stop_by: float | None = None
    stopping: bool = False
    reloading: bool = False
    status: str | None = None
    reason: str | None = None
    ailment: str | None = None
    message: str = ""

    def of(self, kind: ProbeKind) -> Answers:
        """The answers to one probe."""
        answers: Answers = getattr(self, kind)
        return answers

    def having(self, kind: ProbeKind, answers: Answers) -> "Health":
        """The same with these answers to one probe."""
        changed: dict[str, Any] = {kind: answers}
        return attrs.evolve(self, **changed)

    def is_able(self, policy: Policy) -> bool:
        """Whether it can serve."""
        if not self.started or self.told is False or self.stopping:
            return False
        return policy.probes.readiness is None or self.readiness.good is True


NONE = Health()
"""That of an incarnation of which nothing is known yet."""

PLAIN = Health(started=True)
"""That of one that is asked nothing, tells nothing, and can serve as it runs."""


def begun(policy: Policy, uid: str, now: float) -> Health:
    """The health of a process that came into being at `now`."""
    if _is_plain(policy):
        return PLAIN
    awaited = policy.ready == "notify" and policy.ready_timeout > 0
    health = Health(ready_by=now + policy.ready_timeout if awaited else None)
    if policy.probes.startup is not None:
        health = _asked_first(health, "startup", policy.probes.startup, uid, now)
    return _advanced(health, policy, uid, now, now)


def _is_plain(policy: Policy) -> bool:
    return policy.ready != "notify" and policy.watchdog is None and policy.probes == _NO_PROBES


_NO_PROBES, _UNASKED = Probes(), Answers()


def adapted(health: Health, policy: Policy, uid: str, now: float) -> Health:
    """The health under another policy: what is asked anew is taken to be as it was, until an answer says otherwise."""
    if health is PLAIN and _is_plain(policy):
        return health
    for kind in KINDS:
        probe, answers = policy.probes.of(kind), health.of(kind)
        if probe is None:
            health = health.having(kind, Answers())
        elif answers == _UNASKED and (kind == "startup") != health.started:
            good = True if health.started else None
            health = health.having(kind, Answers(good, due=now + _late(probe, uid, 0)))
        elif answers.due is not None:
            health = health.having(kind, attrs.evolve(answers, due=min(answers.due, now + probe.period)))
    if health.asking is not None and policy.probes.of(health.asking) is None:
        health = attrs.evolve(health, asking=None, answer_by=None)
    if policy.watchdog is None:
        health = attrs.evolve(health, watchdog=None, watchdog_at=None)
    elif health.started and health.watchdog_at is None:
        health = attrs.evolve(health, watchdog_at=now + policy.watchdog)
    if policy.ready != "notify":
        health = attrs.evolve(health, ready_by=None)
    return _advanced(health, policy, uid, now, now)


def told(health: Health, policy: Policy, uid: str, now: float, began: float) -> Health:
    """It said that it can serve. `began` is when its process came into being."""
    health = attrs.evolve(health, told=True, ready_by=None, reloading=False, reason=None)
    return _advanced(health, policy, uid, now, began)


def untold(health: Health, reason: str) -> Health:
    """It said that it cannot serve."""
    return attrs.evolve(health, told=False, reason=reason)


def noticed(health: Health, notice: Notice, policy: Policy, now: float) -> Health:
    """What it told of itself beside that."""
    if notice.status is not None:
        health = attrs.evolve(health, status=notice.status)
    if notice.reloading:
        health = attrs.evolve(health, reloading=True)
    if notice.extend is not None and health.ready_by is not None:
        health = attrs.evolve(health, ready_by=max(health.ready_by, now + notice.extend))
    if notice.extend is not None and health.stop_by is not None:
        health = attrs.evolve(health, stop_by=max(health.stop_by, now + notice.extend))
    if policy.watchdog is not None and notice.watchdog is not None:
        health = attrs.evolve(health, watchdog=notice.watchdog or math.inf)  # as systemd has it, 0 is off
    if health.watchdog_at is not None and (notice.alive or notice.watchdog is not None):
        health = attrs.evolve(health, watchdog_at=now + (health.watchdog or policy.watchdog or 0.0))
    if notice.stopping and not health.stopping:
        # Where a stop has no time, it is not for us to hurry one that was not asked for.
        stop_by = now + policy.stop.timeout if policy.stop.timeout else None
        health = attrs.evolve(health, stopping=True, stop_by=stop_by, watchdog_at=None, reason=STOPS_ITSELF)
    if notice.trigger and policy.watchdog is not None:
        health = _ailing(health, WATCHDOG, "it asked for it")
    return health


def asked(health: Health, kind: ProbeKind, deadline: float) -> Health:
    """A probe was asked."""
    return attrs.evolve(health, asking=kind, answer_by=deadline)


def probed(health: Health, answer: Probed, policy: Policy, now: float, began: float) -> Health:
    """A probe was answered; an answer that nobody waits for means nothing."""
    probe = policy.probes.of(answer.kind)
    if answer.kind != health.asking or probe is None:
        return health
    before = health.of(answer.kind)
    after = _counted(before, probe, answer)
    asked_at = now if health.answer_by is None else health.answer_by - probe.timeout - GRACE
    after = attrs.evolve(after, due=max(now, asked_at + probe.period) + _late(probe, answer.uid, now))
    if answer.kind == "startup" and after.good:
        after = attrs.evolve(after, due=None)
    health = attrs.evolve(health.having(answer.kind, after), asking=None, answer_by=None)
    if answer.kind == "readiness":
        return attrs.evolve(health, reason=None if after.good else READINESS_FAILED)
    if after.good is False:
        return _ailing(health, STARTUP_FAILED if answer.kind == "startup" else LIVENESS_FAILED, answer.message)
    return _advanced(health, policy, answer.uid, now, began) if answer.kind == "startup" else health


def elapsed(health: Health, policy: Policy, uid: str, now: float, began: float) -> Health:
    """What comes of what was waited for until now and did not come."""
    if health.asking is not None and health.answer_by is not None and health.answer_by <= now:
        lost = Probed(uid, health.asking, success=False, message="its answer was lost")
        health = probed(health, lost, policy, now, began)
    if health.ailment is not None:
        return health
    if health.ready_by is not None and health.ready_by <= now:
        return _ailing(health, NOT_READY_IN_TIME, "it did not say in time that it can serve")
    if health.watchdog_at is not None and health.watchdog_at <= now:
        return _ailing(health, WATCHDOG, "it was not heard of in time")
    if health.stop_by is not None and health.stop_by <= now:
        return _ailing(health, HANGS_STOPPING, "it said that it stops, and did not")
    return health


def due(health: Health) -> float | None:
    """When to look at it again though nothing happens."""
    if health is PLAIN or health is NONE or health.ailment is not None:
        return None
    return min((when for when in _times(health) if when is not None), default=None)


def to_ask(health: Health, probes: Probes, now: float) -> tuple[ProbeKind, Probe] | None:
    """The probe to ask now, if any: one at a time, the one that has waited for the longest."""
    if health is PLAIN or health.asking is not None or health.ailment is not None or health.stopping:
        return None
    waiting = [(answers.due, kind) for kind in KINDS if (answers := health.of(kind)).due is not None]
    overdue = [(when, kind) for when, kind in waiting if when is not None and when <= now]
    if not overdue:
        return None
    kind = min(overdue, key=lambda one: one[0])[1]
    probe = probes.of(kind)
    return None if probe is None else (kind, probe)


def _times(health: Health) -> Iterator[float | None]:
    yield from (health.ready_by, health.watchdog_at, health.stop_by)
    if health.asking is not None:
        yield health.answer_by
    elif not health.stopping:
        yield from (health.of(kind).due for kind in KINDS)


def _advanced(health: Health, policy: Policy, uid: str, now: float, began: float) -> Health:
    """From the moment that it has started it is asked how it is, and must be heard of."""
    if health.started or (policy.ready == "notify" and not health.told):
        return health
    if policy.probes.startup is not None and not health.startup.good:
        return health
    health = attrs.evolve(health, started=True)
    for kind in KINDS[1:]:
        probe = policy.probes.of(kind)
        if probe is not None:
            health = _asked_first(health, kind, probe, uid, began)
    if policy.watchdog is not None:
        health = attrs.evolve(health, watchdog_at=now + (health.watchdog or policy.watchdog))
    return health


def _asked_first(health: Health, kind: ProbeKind, probe: Probe, uid: str, began: float) -> Health:
    late = min(FIRST_JITTER, _late(probe, uid, began))  # a rollout waits for the first answer
    return health.having(kind, Answers(due=began + probe.initial_delay + late))


def _late(probe: Probe, uid: str, salt: float) -> float:
    """Some time to add, so that workers that began together are not asked together."""
    return probe.period * JITTER * (zlib.crc32(f"{uid}:{salt}".encode()) / 2**32)


def _counted(answers: Answers, probe: Probe, answer: Probed) -> Answers:
    """The answers with one more."""
    if answer.success is answers.good:
        return attrs.evolve(answers, streak=0, message=answer.message)
    # Before anything is known successes and failures count by themselves: below zero are the failures.
    streak = answers.streak
    if answers.good is None:
        streak = max(streak, 0) + 1 if answer.success else min(streak, 0) - 1
    else:
        streak += 1
    needed = probe.success_threshold if answer.success else probe.failure_threshold
    if abs(streak) >= needed:
        return attrs.evolve(answers, good=answer.success, streak=0, message=answer.message)
    return attrs.evolve(answers, streak=streak, message=answer.message)


def _ailing(health: Health, ailment: str, message: str) -> Health:
    return attrs.evolve(health, ailment=ailment, message=message, asking=None, answer_by=None)
