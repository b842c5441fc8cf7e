"""How long to wait before the next start, as a function of the history.

Rule: the delay is never shorter than the policy says and never longer than its `max`; jitter only adds, so that workers
that died together do not come back together. The random part is a function of a text, so that a replay gets the same.
"""

import zlib

from reconciler.core.spec import Backoff, StartLimit
from reconciler.core.worker import History

START_ERROR_FLOOR = 1.0
"""Seconds between two tries of what could not be started at all, even where the policy says that there is no delay: a
missing program is not found any sooner by a busy loop."""


def delay(policy: Backoff, failures: int, seed: str) -> float:
    """Seconds to wait after `failures` ends since the history was clear; after the first there is no wait."""
    if failures <= 1 or not policy.initial:
        return 0.0
    try:
        base = policy.initial * policy.factor ** (failures - 2)
    except OverflowError:
        base = policy.max
    chance = zlib.crc32(f"{seed}:{failures}".encode()) / 2**32
    return min(policy.max, base * (1 + policy.jitter * chance))


def start_error_delay(policy: Backoff, failures: int, seed: str) -> float:
    """Seconds to wait after a start that failed: as `delay`, but without the immediate first try."""
    return max(START_ERROR_FLOOR, delay(policy, failures + 1, seed))


def started(history: History, limit: StartLimit | None, now: float) -> History:
    """The history with one more start at `now`, where a limit counts them."""
    if limit is None:
        return History(history.failures, history.restarts)
    recent = tuple(at for at in history.starts if at > now - limit.interval)[-limit.burst :]
    return History(history.failures, history.restarts, (*recent, now))


def exhausted(history: History, limit: StartLimit | None, now: float) -> bool:
    """Whether the limit forbids a further start at `now`."""
    if limit is None:
        return False
    return sum(at > now - limit.interval for at in history.starts) >= limit.burst
