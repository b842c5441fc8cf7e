"""How far a set has come, and since when it has come no further."""

import pytest
from core.scene import rolling

from reconciler.core.rollout import Progress, Tally, advance, events, is_reached

RULES = rolling(progress_deadline=10.0)


def tally(replicas=3, **counts):
    """So many workers; what is not said is 0."""
    names = (
        "available",
        "updated",
        "outdated",
        "surging",
        "surplus",
        "settled",
        "failed",
        "completed",
        "started",
        "breathless",
    )
    return Tally(replicas, **{**dict.fromkeys(names, 0), **counts})


def walk(*steps, rules=RULES, generation=2):
    """The progress after each (time, tally), from nothing."""
    progress, seen, told = Progress(generation, 0.0), [], []
    for now, counted in steps:
        after = advance(progress, counted, rules, now)
        told += [one.event for one in events("web", progress, after, counted)]
        progress = after
        seen.append(progress)
    return seen, told


@pytest.mark.parametrize(
    ("counted", "converged"),
    [
        (tally(settled=3), True),
        (tally(settled=2), False),
        (tally(settled=3, surplus=1), False),
        (tally(replicas=0), True),
    ],
)
def test_converged(counted, converged):
    """A set has converged when each wanted worker is settled and nothing else is left."""
    assert counted.converged is converged


@pytest.mark.parametrize(
    ("strategy", "counted", "reached"),
    [
        ("rolling", tally(available=3, outdated=3), False),
        ("on_delete", tally(available=3, outdated=3), True),
        ("on_delete", tally(available=2, outdated=2, completed=1), True),
        ("on_delete", tally(available=2, outdated=3), False),
        ("on_delete", tally(available=3, outdated=3, surplus=1), False),
    ],
)
def test_on_delete_is_reached_when_all_serve(strategy, counted, reached):
    """With `on_delete` nothing is left to be done once all serve, from whatever spec."""
    assert is_reached(counted, rolling(strategy=strategy)) is reached


def test_a_rollout_from_start_to_end():
    """A rollout is announced once and completed once."""
    _, told = walk(
        (0.0, tally(outdated=3)),
        (1.0, tally(outdated=2)),
        (2.0, tally(outdated=2, updated=1)),
        (9.0, tally(outdated=0, updated=2)),
        (9.5, tally(updated=3, settled=3)),
        (99.0, tally(updated=2, settled=2)),
    )
    assert told == ["rollout.started", "rollout.completed"]


def test_the_first_generation_is_no_rollout():
    """What starts from nothing replaces nothing: it is not announced, but may stall."""
    _, told = walk((0.0, tally()), (1.0, tally(updated=1)), (1.5, tally(updated=3, settled=3)), generation=1)
    assert told == []
    _, told = walk((0.0, tally()), (10.0, tally()), generation=1)
    assert told == ["rollout.stalled"]


def test_the_deadline_runs_from_the_last_progress():
    """Each progress gives another `progress_deadline`."""
    seen, told = walk((0.0, tally(outdated=3)), (9.0, tally(outdated=2)), (18.0, tally(outdated=2)))
    assert [one.deadline(RULES) for one in seen] == [10.0, 19.0, 19.0]
    assert told == ["rollout.started"]
    seen, told = walk((0.0, tally(outdated=3)), (9.0, tally(outdated=2)), (19.0, tally(outdated=2)))
    assert (seen[-1].stalled, seen[-1].deadline(RULES)) == (True, None)
    assert told == ["rollout.started", "rollout.stalled"]


def test_reached_again_is_no_progress():
    """A worker that crashes whenever it has become ready does not put off the deadline."""
    steps = [(float(now), tally(outdated=2, updated=now % 2)) for now in range(11)]
    seen, _ = walk(*steps)
    assert seen[9].since == 1.0
    assert walk(*steps, (11.0, tally(outdated=2)))[0][-1].stalled


def test_a_stalled_rollout_goes_on_when_it_comes_further_than_ever():
    """Progress after the deadline ends the stall, and what is only won back does not."""
    _, told = walk(
        (0.0, tally(outdated=3)),
        (1.0, tally(outdated=1, updated=1)),
        (2.0, tally(outdated=1)),
        (11.0, tally(outdated=1)),
        (12.0, tally(outdated=1, updated=1)),
        (13.0, tally(outdated=1)),
        (99.0, tally(outdated=1, updated=2)),
        (100.0, tally(updated=3, settled=3)),
    )
    assert told == ["rollout.started", "rollout.stalled", "rollout.resumed", "rollout.completed"]


def test_a_stalled_rollout_that_completes_says_so_once():
    """It need not be resumed first."""
    _, told = walk((0.0, tally(outdated=1)), (10.0, tally(outdated=1)), (11.0, tally(updated=3, settled=3)))
    assert told == ["rollout.started", "rollout.stalled", "rollout.completed"]


def test_a_deadline_of_nothing():
    """`progress_deadline = 0` stalls at the first moment without progress, and does not spin."""
    rules = rolling(progress_deadline=0.0)
    _, told = walk(*[(0.0, tally(outdated=3))] * 5, rules=rules)
    assert told == ["rollout.started", "rollout.stalled"]
