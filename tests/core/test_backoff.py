"""How long a worker waits before its next start."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core import backoff
from reconciler.core.spec import Backoff, StartLimit
from reconciler.core.worker import History

DELAYS = st.floats(0, 1e6)
POLICIES = st.builds(
    Backoff,
    initial=DELAYS,
    factor=st.floats(1, 1e9),
    max=DELAYS,
    reset_after=DELAYS,
    jitter=st.floats(0, 1),
)
PLAIN = st.builds(Backoff, initial=DELAYS, factor=st.floats(1, 1e9), max=DELAYS, jitter=st.just(0.0))
FAILURES = st.integers(0, 10_000)


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (7, 32), (8, 60), (9, 60), (10_000, 60)],
)
def test_the_default_delays(failures, seconds):
    """The first restart is immediate; then 1 s, doubling up to 60 s, however often it failed."""
    assert backoff.delay(Backoff(jitter=0.0), failures, "") == seconds


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (7, 60)])
def test_the_default_delays_of_starts_that_fail(failures, seconds):
    """A start that failed is not tried again at once, else the delays are the same."""
    assert backoff.start_error_delay(Backoff(jitter=0.0), failures, "") == seconds


def test_no_delay_ever():
    """`initial = 0` means no delay after any number of ends, but what cannot be started waits for a second."""
    policy = Backoff(initial=0.0)
    assert {backoff.delay(policy, failures, "x") for failures in range(100)} == {0.0}
    assert {backoff.start_error_delay(policy, failures, "x") for failures in range(100)} == {1.0}


def test_a_maximum_below_the_first_delay():
    """`max` bounds the first delay too."""
    assert backoff.delay(Backoff(initial=10.0, max=3.0), 2, "") == 3.0


@given(PLAIN, FAILURES)
def test_without_jitter_delays_never_shrink(policy, failures):
    """Without jitter, one more failure never means a shorter delay."""
    assert backoff.delay(policy, failures, "a") <= backoff.delay(policy, failures + 1, "b")


@given(POLICIES, FAILURES, st.text(max_size=5))
def test_jitter_only_adds(policy, failures, seed):
    """A delay is never shorter than without jitter, never longer than by the jitter's share, never over `max`."""
    plain = Backoff(initial=policy.initial, factor=policy.factor, max=policy.max, jitter=0.0)
    base = backoff.delay(plain, failures, seed)
    actual = backoff.delay(policy, failures, seed)
    assert base <= actual <= policy.max
    assert actual <= base * (1 + policy.jitter) * (1 + 1e-9)


@given(POLICIES, FAILURES, st.text(max_size=5))
def test_a_replay_waits_as_long(policy, failures, seed):
    """The random part is a function of the seed."""
    assert backoff.delay(policy, failures, seed) == backoff.delay(policy, failures, seed)


def test_workers_that_died_together_do_not_come_back_together():
    """Different seeds spread over the whole share of the jitter."""
    delays = [backoff.delay(Backoff(initial=10.0, jitter=0.5), 2, f"u{number}") for number in range(200)]
    assert 10.0 <= min(delays) < 10.5
    assert 14.5 < max(delays) <= 15.0


@given(POLICIES, FAILURES, st.text(max_size=5))
def test_what_cannot_be_started_waits_for_a_second(policy, failures, seed):
    """A start that failed is tried again after a second at the earliest, and by the policy else."""
    waits = backoff.start_error_delay(policy, failures, seed)
    assert waits == max(1.0, backoff.delay(policy, failures + 1, seed))


def test_starts_are_counted_only_for_a_limit():
    """Without a start limit the history of starts stays empty, with one it holds those of the interval."""
    assert backoff.started(History(3, 2, (1.0,)), None, 5.0) == History(3, 2)
    limit = StartLimit(burst=3, interval=10.0)
    assert backoff.started(History(3, 2, (1.0, 8.0)), limit, 12.0) == History(3, 2, (8.0, 12.0))


@pytest.mark.parametrize(
    ("starts", "now", "exhausted"),
    [
        ((), 0.0, False),
        ((1.0,), 2.0, False),
        ((1.0, 2.0), 3.0, True),
        ((1.0, 2.0), 11.0, False),
        ((1.0, 2.0), 10.9, True),
    ],
)
def test_the_start_limit(starts, now, exhausted):
    """Two starts within ten seconds exhaust a burst of two; one that is ten seconds old counts no more."""
    assert backoff.exhausted(History(starts=starts), StartLimit(burst=2, interval=10.0), now) is exhausted


@given(st.integers(1, 5), st.floats(0, 100), st.lists(st.floats(0, 50), max_size=60))
def test_the_remembered_starts_are_bounded_and_enough(burst, interval, gaps):
    """However often a worker is started, few starts are remembered, and they answer as all of them would."""
    limit = StartLimit(burst=burst, interval=interval)
    history, everything, now = History(), [], 0.0
    for gap in gaps:
        now += gap
        history = backoff.started(history, limit, now)
        everything.append(now)
        assert len(history.starts) <= burst + 1
        recent = sum(at > now + 1 - interval for at in everything)
        assert backoff.exhausted(history, limit, now + 1) == (recent >= burst)
