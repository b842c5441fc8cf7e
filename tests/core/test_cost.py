"""What one change costs among few workers and among many: counted, not timed."""

import sys

import pytest
from core.scene import Scene, restart, web

from reconciler.core.spec import WorkerSet, expand

MOST = 3.0
"""How many times more a change may cost among a hundred times as many workers."""


class Counted(dict):
    """A mapping that counts what is taken from it by going through it."""

    visited = 0

    def _count(self, items):
        for item in items:
            Counted.visited += 1
            yield item

    def __iter__(self):
        return self._count(super().__iter__())

    def keys(self):
        """Counted."""
        return self._count(super().keys())

    def values(self):
        """Counted."""
        return self._count(super().values())

    def items(self):
        """Counted."""
        return self._count(super().items())


def scene_of(count):
    """A stage on which so many workers of one set run, with every mapping of the set counted."""
    scene = Scene()
    one = expand(web(replicas=count, restart=restart()))
    scene.want(WorkerSet(one.name, Counted(one.workers), one.policy, one.template))
    while scene.wake_at <= scene.clock.now:
        scene.turn()
    assert scene.status().converged
    known, actual = scene.engine.actual.sets["web"], scene.engine.actual
    known.by_key, known.facts, actual.workers = Counted(known.by_key), Counted(known.facts), Counted(actual.workers)
    return scene


def cost(act):
    """How many lines of Python and how many visits to mappings this takes."""
    lines = 0

    def trace(frame, what, argument):
        nonlocal lines
        lines += what == "line"
        return trace

    Counted.visited = 0
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(None)
    return lines + Counted.visited


def crash(scene):
    """One worker ends and is started again."""
    scene.driver.exit(scene.driver.of("web-7")[0].uid, 1)
    return cost(scene.turn)


def wait(scene):
    """One worker ends a second time, waits, and is started again when its time has come."""
    scene.end("web-7", 1)
    scene.driver.exit(scene.driver.of("web-7")[0].uid, 1)
    spent = cost(scene.turn)
    assert scene.phases()[7] == "web-7 Backoff"
    scene.clock.move_to(scene.wake_at)
    spent += cost(scene.turn)
    assert scene.phases()[7] == "web-7 Running"
    return spent


def idle(scene):
    """A turn in which nothing happened."""
    return cost(scene.turn)


@pytest.mark.parametrize("change", [crash, wait, idle])
def test_one_change_costs_the_same_among_many(change):
    """An exit, a wait, an idle turn: among 10 000 workers they cost within 3 times of what they cost among 100."""
    few, many = change(scene_of(100)), change(scene_of(10_000))
    assert few > 10
    assert many <= MOST * few


def test_the_cost_is_counted():
    """A look at every worker is seen by the count: a relist among many costs many times that among few."""
    spent = []
    for count in (100, 1000):
        scene = scene_of(count)
        scene.clock.move_to(100.0)
        spent.append(cost(scene.turn))
    assert spent[1] > MOST * spent[0]
