"""How an edit reaches the workers, through the real program."""

import os
import signal
from datetime import datetime

import pytest
from fleet import SLEEP, Fleet, drop, sh
from processes import alive

pytestmark = pytest.mark.os

KEYS = ("web-0", "web-1", "web-2")
CHANGED = ("sleep", "2000")


def availability(fleet):
    """How many workers were ready after each event since all were for the first time."""
    ready, counts = set(), []
    for told in fleet.events:
        if told["event"] == "worker.ready":
            ready.add(told["uid"])
        elif told["event"] in ("worker.stopping", "worker.exited"):
            ready.discard(told["uid"])
        counts.append(len(ready))
    return counts[counts.index(len(KEYS)) :]


def live(fleet):
    """The most processes that were alive at one time."""
    number = most = 0
    for told in fleet.events:
        number += (told["event"] == "worker.started") - (told["event"] == "worker.exited")
        most = max(most, number)
    return most


def test_scaling_touches_the_surplus_only(specs):
    """Scaling from 2 to 5 to 3 starts and stops the workers at the end of the row, and leaves the others alone."""
    drop(specs, "web", *SLEEP, replicas=2)
    with Fleet(specs) as fleet:
        pids = fleet.ready("web-0", "web-1")
        fleet.drop("web", *SLEEP, replicas=5)
        fleet.wait("controller.converged", workers=5)
        fleet.drop("web", *SLEEP, replicas=3)
        fleet.wait("controller.converged", workers=3)

        assert [told["key"] for told in fleet.all("worker.stopping")] == ["web-4", "web-3"]
        assert {told["reason"] for told in fleet.all("worker.stopped")} == {"ScaledDown"}
        assert all(map(alive, pids))
        assert {"rollout.started", "rollout.completed"}.isdisjoint(fleet.story())


def test_rolling_update(specs):
    """An edit replaces one worker after the other, the last key first, and never has more than one missing."""
    drop(specs, "web", *SLEEP, replicas=3)
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=3)
        fleet.drop("web", *CHANGED, replicas=3)
        started = fleet.wait("rollout.started", name="web")
        assert (started["outdated"], started["replicas"], started["generation"]) == (3, 3, 2)
        assert fleet.wait("rollout.completed", name="web")["replicas"] == 3
        fleet.wait("controller.converged", workers=3)

        stops = fleet.all("worker.stopping")
        assert [(told["key"], told["reason"]) for told in stops] == [(key, "Outdated") for key in reversed(KEYS)]
        assert {told["reason"] for told in fleet.all("worker.starting")[3:]} == {"Updated"}
        assert min(availability(fleet)) == 2
        assert live(fleet) == 3


def test_surge(specs):
    """With a surge the new worker serves before the old one goes, so that none is ever missing."""
    rollout = {"max_surge": 1, "max_unavailable": 0}
    drop(specs, "web", *SLEEP, replicas=3, rollout=rollout)
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=3)
        fleet.drop("web", *CHANGED, replicas=3, rollout=rollout)
        fleet.wait("rollout.completed")

        assert min(availability(fleet)) == 3
        assert live(fleet) == 4
        assert {told["reason"] for told in fleet.all("worker.stopping")} == {"Replaced"}


def test_half_at_a_time(specs):
    """A budget may be a share of the replicas."""
    rollout = {"max_unavailable": "67%"}
    drop(specs, "web", *SLEEP, replicas=3, rollout=rollout)
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=3)
        fleet.drop("web", *CHANGED, replicas=3, rollout=rollout)
        fleet.wait("rollout.completed")

        assert min(availability(fleet)) == 1


def test_recreate(specs):
    """With `recreate` all old workers are gone before the first new one starts."""
    rollout = {"strategy": "recreate"}
    drop(specs, "web", *SLEEP, replicas=3, rollout=rollout)
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=3)
        fleet.drop("web", *CHANGED, replicas=3, rollout=rollout)
        fleet.wait("rollout.completed")

        acts = [name for name in fleet.story(name="web") if name in ("worker.starting", "worker.exited")]
        assert acts == ["worker.starting"] * 3 + ["worker.exited"] * 3 + ["worker.starting"] * 3


def test_on_delete(specs):
    """With `on_delete` a worker is replaced only when it ends by itself."""
    rollout = {"strategy": "on_delete"}
    drop(specs, "web", *SLEEP, replicas=2, rollout=rollout)
    with Fleet(specs) as fleet:
        first, second = fleet.ready("web-0", "web-1")
        fleet.drop("web", *sh("echo {key} changed >&2; exec sleep 1000"), replicas=2, rollout=rollout)
        fleet.wait("spec.changed")
        os.kill(second, signal.SIGKILL)
        assert fleet.wait("worker.starting", key="web-1")["reason"] == "Updated"
        fleet.wait_line("web-1 changed")

        assert alive(first)
        assert fleet.all("worker.stopping") == []


def test_bad_version_and_back(specs):
    """A version that crashes takes down no more than its budget, is given up after `progress_deadline`, and a rollback
    brings all back without touching those that serve.
    """
    rollout = {"progress_deadline": "200ms"}
    restart = {"backoff": {"initial": "20ms"}}
    drop(specs, "web", *SLEEP, replicas=3, rollout=rollout, restart=restart)
    with Fleet(specs) as fleet:
        pids = fleet.ready(*KEYS)
        fleet.drop("web", "false", replicas=3, rollout=rollout, restart=restart, min_ready="10s")
        stalled = fleet.wait("rollout.stalled", name="web")
        assert (stalled["reason"], stalled["replicas"]) == ("ProgressDeadlineExceeded", 3)
        assert [told["key"] for told in fleet.all("worker.stopping")] == ["web-2"]
        fleet.drop("web", *SLEEP, replicas=3, rollout=rollout, restart=restart)
        fleet.wait("controller.converged", workers=3)

        assert [alive(pid) for pid in pids] == [True, True, False]


def test_broken_outdated_workers_go_first(specs):
    """Workers that do not serve are replaced at once and cost no budget."""
    restart = {"backoff": {"initial": "1h", "max": "1h"}}
    drop(specs, "web", "false", replicas=3, restart=restart)
    with Fleet(specs) as fleet:
        fleet.wait_for(3, "worker.backoff")
        fleet.drop("web", *SLEEP, replicas=3, restart=restart)
        fleet.wait("controller.converged", workers=3)

        assert fleet.all("worker.stopping") == []


def test_min_ready(specs):
    """A worker is ready when it has lived for `min_ready`, and not sooner."""
    drop(specs, "web", *SLEEP, min_ready="300ms")
    with Fleet(specs) as fleet:
        started = fleet.wait("worker.started")
        ready = fleet.wait("worker.ready")
        fleet.wait("controller.converged")

        # The first events of all are written together, some time after they came about.
        assert ready["uid"] == started["uid"]
        fleet.drop("api", *SLEEP, min_ready="900ms")
        times = [fleet.wait(name, key="api-0")["timestamp"] for name in ("worker.started", "worker.ready")]
        first, second = map(datetime.fromisoformat, times)
        assert (second - first).total_seconds() > 0.8


def test_order(specs):
    """Workers start by order, name and index, and are stopped in reverse."""
    for name, order in (("a", 1), ("b", 0), ("c", -1)):
        drop(specs, name, *SLEEP, order=order)
    drop(specs, "bb", *SLEEP, replicas=11)
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=14)
        fleet.end()

        row = ["c-0", "b-0", *(f"bb-{index}" for index in range(11)), "a-0"]
        assert [told["key"] for told in fleet.all("worker.starting")] == row
        assert [told["key"] for told in fleet.all("worker.stopping")] == row[::-1]


def test_suspend(specs):
    """A suspended spec keeps its file and runs nothing, until it is suspended no more."""
    drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=1)
        fleet.drop("web", *SLEEP, suspend=True)
        fleet.wait("worker.stopped", reason="Suspended")
        fleet.wait("controller.converged", workers=0)
        fleet.drop("web", *SLEEP)
        fleet.wait("controller.converged", workers=1)


def test_rollback_in_the_middle(specs):
    """A rollout that is rolled back halfway leaves alone who was not reached yet."""
    drop(specs, "web", *SLEEP, replicas=3)
    with Fleet(specs) as fleet:
        pids = fleet.ready(*KEYS)
        fleet.wait("controller.converged", workers=3)
        fleet.drop("web", *CHANGED, replicas=3, min_ready="1h")
        fleet.wait("worker.started", key="web-2")
        fleet.drop("web", *SLEEP, replicas=3)
        fleet.wait("rollout.completed")
        fleet.wait("controller.converged", workers=3)

        assert [alive(pid) for pid in pids] == [True, True, False]
