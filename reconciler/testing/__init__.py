"""Tools for tests: of your own `update`, of your own `Driver` or `Source`, and of the reconciler itself.

A `Stage` is the real engine with all its decisions, around it a driver without processes and a clock that the test
moves. Nothing waits and nothing is started; a simulated hour takes milliseconds.

    >>> from reconciler import SetSpec
    >>> from reconciler.testing import MemorySource, Stage
    >>> stage = Stage(MemorySource(SetSpec(name="web", command=("serve",), replicas=2)))
    >>> stage.turn(read=True)
    >>> [(row.key, row.phase) for row in stage.status().workers]
    [('web-0', 'Running'), ('web-1', 'Running')]
    >>> stage.driver.exit("1", exit_code=1)  # the first that was started
    >>> stage.advance(1.0)
    >>> stage.told("web-0")
    ['worker.starting', 'worker.started', 'worker.ready', 'worker.exited', 'worker.starting', 'worker.started', ...]

For your `update`, stand a `reconciler.sources.callback.CallbackSource(update)` in the place of the `MemorySource`.

`World(seed).run()` is a random history on such a stage, with every invariant checked after every turn; try many by
`python -m reconciler.testing --seeds 2000`. `replay` rebuilds a status from events.

Rule: these names are public; the other modules of this room serve `World`.
"""

from reconciler.testing.clock import ManualClock
from reconciler.testing.driver import FakeDriver, Process
from reconciler.testing.invariants import BrokenError
from reconciler.testing.replay import Replay, recorded, replay
from reconciler.testing.stage import MemorySource, Stage
from reconciler.testing.world import World

__all__ = [
    "BrokenError",
    "FakeDriver",
    "ManualClock",
    "MemorySource",
    "Process",
    "Replay",
    "Stage",
    "World",
    "recorded",
    "replay",
]
