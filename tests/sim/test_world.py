"""Random histories of a simulated world, each of which must keep every invariant.

A seed that fails is named; `python -m reconciler.testing --seed N` tells its history, step by step.
"""

import pytest

from reconciler.testing import BrokenError, World

pytestmark = pytest.mark.sim

SEEDS = 2000
CHUNK = 100

PINNED = ()


def failures(seeds):
    """What is wrong with the histories of these seeds, and how to see them again."""
    found = []
    for seed in seeds:
        try:
            World(seed).run()
        except BrokenError as error:
            found.append(f"python -m reconciler.testing --seed {seed}  # {error}")
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_history_keeps_the_invariants(first):
    """Whatever the world does, no invariant is broken; and when it behaves, what is wanted comes about."""
    assert failures(range(first, first + CHUNK)) == []
